//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), both sides, as Kafka
//! uses them: without channel binding.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Iterations of new keys: the least that Kafka accepts, and what its tools use.
pub const ITERATIONS: u32 = 4_096;
/// Most iterations that a server may ask of our client.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest message of either side.
pub const MESSAGE_LEN_MAX: usize = 4_096;
/// Bytes of chance in a nonce.
pub const NONCE_LEN: usize = 24;

/// The hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Mechanism {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name in SASL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism with a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn mac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn run<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            let mut mac = <M as Mac>::new_from_slice(key)
                .expect("HMAC takes keys of any length (RFC 2104, section 2)");
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => run::<Hmac<Sha256>>(key, parts),
            Self::Sha512 => run::<Hmac<Sha512>>(key, parts),
        }
    }

    /// `Hi` of RFC 5802, section 2.2.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut block = self.mac(password, &[salt, &1_u32.to_be_bytes()]);
        let mut sum = block.clone();
        for _ in 1..iterations {
            block = self.mac(password, &[&block]);
            sum.iter_mut()
                .zip(&block)
                .for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }
}

/// What a server keeps of a password (RFC 5802, section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    mechanism: Mechanism,
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, hidden)", self.mechanism.name())
    }
}

/// Why an exchange ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is none.
    #[error("{message}: expected {expected}")]
    Malformed {
        /// Which message.
        message: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// The other side does not know the password.
    #[error("the password is not right")]
    Proof,
    /// The server says so.
    #[error("the server refused: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
}

fn malformed(message: &'static str, expected: &'static str) -> ScramError {
    ScramError::Malformed { message, expected }
}

impl Keys {
    /// Computes what is kept of a password.
    #[must_use]
    pub fn new(mechanism: Mechanism, password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = mechanism.salted(password, salt, iterations);
        let client_key = mechanism.mac(&salted, &[b"Client Key"]);
        Self {
            mechanism,
            iterations,
            salt: salt.to_vec(),
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.mac(&salted, &[b"Server Key"]),
        }
    }

    /// Keys of a user who does not exist: an exchange with them looks like any
    /// other until it fails. `secret` belongs to the node, so that the salt of a
    /// name is always the same.
    #[must_use]
    pub fn of_nobody(mechanism: Mechanism, name: &str, secret: &[u8]) -> Self {
        let salt = mechanism.mac(secret, &[name.as_bytes()]);
        Self {
            mechanism,
            iterations: ITERATIONS,
            stored_key: mechanism.mac(secret, &[b"stored", name.as_bytes()]),
            server_key: mechanism.mac(secret, &[b"server", name.as_bytes()]),
            salt: salt[..16].to_vec(),
        }
    }

    /// The keys as text: iterations, salt, stored key, server key.
    #[must_use]
    pub fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt, &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        format!(
            "{}:{}:{salt}:{stored}:{server}",
            self.mechanism.name(),
            self.iterations
        )
    }

    /// Reads what [`Self::to_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mechanism = Mechanism::named(parts.next()?)?;
        let iterations = parts.next()?.parse().ok()?;
        let mut bytes = || BASE64.decode(parts.next()?).ok();
        let (salt, stored_key, server_key) = (bytes()?, bytes()?, bytes()?);
        let len = mechanism.hash(b"").len();
        let is_fine = (ITERATIONS..=ITERATIONS_MAX).contains(&iterations)
            && (1..=64).contains(&salt.len())
            && stored_key.len() == len
            && server_key.len() == len
            && parts.next().is_none();
        is_fine.then_some(Self {
            mechanism,
            iterations,
            salt,
            stored_key,
            server_key,
        })
    }
}

/// The client's first message, which says who wants to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// The user.
    pub user: String,
    nonce: String,
    header: String,
    bare: String,
}

impl ClientFirst {
    /// Reads it (RFC 5802, section 7).
    ///
    /// # Errors
    /// It is malformed, wants channel binding, or to act as somebody else.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        const NAME: &str = "client-first-message";
        let text = text_of(NAME, message)?;
        let bad = |expected| malformed(NAME, expected);
        let rest = text
            .strip_prefix("n,")
            .or_else(|| text.strip_prefix("y,"))
            .ok_or_else(|| bad("no channel binding"))?;
        let (identity, bare) = rest.split_once(',').ok_or_else(|| bad("a user"))?;
        let mut fields = bare.split(',');
        let name = fields.next().and_then(|field| field.strip_prefix("n="));
        let user = name
            .and_then(unescaped)
            .ok_or_else(|| bad("n= and a user"))?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| !nonce.is_empty());
        let nonce = nonce.ok_or_else(|| bad("r= and a nonce"))?.to_owned();
        let acts_as = identity.strip_prefix("a=").and_then(unescaped);
        if !(identity.is_empty() || acts_as.as_ref() == Some(&user)) {
            return Err(bad("no other authorization identity"));
        }
        Ok(Self {
            user,
            nonce,
            header: text[..text.len() - bare.len()].to_owned(),
            bare: bare.to_owned(),
        })
    }
}

/// A server that has answered the first message.
#[derive(Debug)]
pub struct Server {
    keys: Keys,
    header: String,
    nonce: String,
    /// `client-first-message-bare,server-first-message`.
    begun: String,
}

impl Server {
    /// Answers the first message; `nonce` is chance, of [`NONCE_LEN`] bytes.
    #[must_use]
    pub fn start(first: ClientFirst, keys: Keys, nonce: &[u8]) -> (Self, String) {
        let nonce = format!("{}{}", first.nonce, BASE64.encode(nonce));
        let salt = BASE64.encode(&keys.salt);
        let answer = format!("r={nonce},s={salt},i={}", keys.iterations);
        let server = Self {
            begun: format!("{},{answer}", first.bare),
            keys,
            header: first.header,
            nonce,
        };
        (server, answer)
    }

    /// Checks the final message. Returns the answer, with which the client is
    /// logged in.
    ///
    /// # Errors
    /// It is malformed, or the password is not right.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        const NAME: &str = "client-final-message";
        let text = text_of(NAME, message)?;
        let bad = |expected| malformed(NAME, expected);
        let (without_proof, proof) = text
            .rsplit_once(",p=")
            .ok_or_else(|| bad("p= and a proof"))?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        if binding != Some(BASE64.encode(&self.header).as_str()) {
            return Err(bad("c= and the header of the first message"));
        }
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        // It ends with it: librdkafka before 2.6.1 repeats its own part in front, and
        // Kafka takes that. What the server chose is whole either way.
        if !nonce.is_some_and(|nonce| nonce.ends_with(self.nonce.as_str())) {
            return Err(bad("r= and the nonce of the server"));
        }
        let proof = BASE64.decode(proof).map_err(|_| bad("a proof in base64"))?;
        let mechanism = self.keys.mechanism;
        let said = format!("{},{without_proof}", self.begun);
        let signature = mechanism.mac(&self.keys.stored_key, &[said.as_bytes()]);
        if proof.len() != signature.len() {
            return Err(ScramError::Proof);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let is_right: bool = mechanism
            .hash(&client_key)
            .ct_eq(&self.keys.stored_key)
            .into();
        if !is_right {
            return Err(ScramError::Proof);
        }
        let signature = mechanism.mac(&self.keys.server_key, &[said.as_bytes()]);
        Ok(format!("v={}", BASE64.encode(signature)))
    }
}

/// A client that has sent its first message.
pub struct Client {
    mechanism: Mechanism,
    password: Vec<u8>,
    nonce: String,
    bare: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, hidden)", self.mechanism.name())
    }
}

/// A client that waits for the server's proof.
#[derive(Debug)]
pub struct ClientFinal {
    signature: String,
}

impl Client {
    /// Begins; `nonce` is chance, of [`NONCE_LEN`] bytes.
    #[must_use]
    pub fn start(
        mechanism: Mechanism,
        user: &str,
        password: &[u8],
        nonce: &[u8],
    ) -> (Self, String) {
        let nonce = BASE64.encode(nonce).replace(',', "");
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let first = format!("n,,{bare}");
        let client = Self {
            mechanism,
            password: password.to_vec(),
            nonce,
            bare,
        };
        (client, first)
    }

    /// Answers the server's first message.
    ///
    /// # Errors
    /// It is malformed or asks for too many iterations.
    pub fn answer(self, message: &[u8]) -> Result<(ClientFinal, String), ScramError> {
        const NAME: &str = "server-first-message";
        let text = text_of(NAME, message)?;
        let bad = |expected| malformed(NAME, expected);
        let mut fields = text.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (nonce, salt, iterations) = (field("r="), field("s="), field("i="));
        let nonce =
            nonce.filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len());
        let nonce = nonce.ok_or_else(|| bad("r= and the nonce of both"))?;
        let salt = salt.and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or_else(|| bad("s= and a salt in base64"))?;
        let iterations = iterations.and_then(|count| count.parse().ok());
        let iterations = iterations.filter(|count| (1..=ITERATIONS_MAX).contains(count));
        let iterations = iterations.ok_or_else(|| bad("i= and at most a million"))?;
        let salted = self.mechanism.salted(&self.password, &salt, iterations);
        let client_key = self.mechanism.mac(&salted, &[b"Client Key"]);
        let stored_key = self.mechanism.hash(&client_key);
        let without_proof = format!("c={},r={nonce}", BASE64.encode("n,,"));
        let said = format!("{},{text},{without_proof}", self.bare);
        let signature = self.mechanism.mac(&stored_key, &[said.as_bytes()]);
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = self.mechanism.mac(&salted, &[b"Server Key"]);
        let signature = BASE64.encode(self.mechanism.mac(&server_key, &[said.as_bytes()]));
        let last = format!("{without_proof},p={}", BASE64.encode(proof));
        Ok((ClientFinal { signature }, last))
    }
}

impl ClientFinal {
    /// Checks that the server knows the password as well.
    ///
    /// # Errors
    /// It refuses, or does not know it.
    pub fn finish(self, message: &[u8]) -> Result<(), ScramError> {
        const NAME: &str = "server-final-message";
        let text = text_of(NAME, message)?;
        if let Some(reason) = text.strip_prefix("e=") {
            return Err(ScramError::Refused {
                reason: reason.to_owned(),
            });
        }
        let signature = text
            .split(',')
            .next()
            .and_then(|field| field.strip_prefix("v="));
        let signature = signature.ok_or_else(|| malformed(NAME, "v= and a signature"))?;
        let is_right: bool = signature.as_bytes().ct_eq(self.signature.as_bytes()).into();
        is_right.then_some(()).ok_or(ScramError::Proof)
    }
}

fn text_of<'a>(name: &'static str, message: &'a [u8]) -> Result<&'a str, ScramError> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(malformed(name, "at most 4096 bytes"));
    }
    std::str::from_utf8(message).map_err(|_| malformed(name, "UTF-8"))
}

/// A name with `=2C` for a comma and `=3D` for an equals sign.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut found = parts.next()?.to_owned();
    for part in parts {
        let (letter, rest) = match part.get(..2)? {
            "2C" => (',', &part[2..]),
            "3D" => ('=', &part[2..]),
            _ => return None,
        };
        found.push(letter);
        found.push_str(rest);
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3, for the user "user" with the
    /// password "pencil".
    #[test]
    fn the_exchange_of_the_specification() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::new(Mechanism::Sha256, b"pencil", &salt, 4_096);
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        // The nonce of the specification is text, not base64 of chance.
        let server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let nonce = format!("rOprNGfwEbeRWgbNEkqO{server_nonce}");
        let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let server = Server {
            keys: keys.clone(),
            header: "n,,".to_owned(),
            nonce: nonce.clone(),
            begun: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{server_first}"),
        };
        let client_final =
            format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let proof = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(server.finish(client_final.as_bytes()).unwrap(), proof);
        let client = Client {
            mechanism: Mechanism::Sha256,
            password: b"pencil".to_vec(),
            nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
            bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
        };
        let (last, sent) = client.answer(server_first.as_bytes()).unwrap();
        assert_eq!(sent, client_final);
        assert_eq!(last.finish(proof.as_bytes()), Ok(()));
        assert_eq!(Keys::parse(&keys.to_text()), Some(keys));
    }

    fn exchange(
        mechanism: Mechanism,
        kept: Keys,
        user: &str,
        password: &[u8],
    ) -> Result<(), ScramError> {
        let (client, first) = Client::start(mechanism, user, password, &[1; NONCE_LEN]);
        let first = ClientFirst::parse(first.as_bytes())?;
        assert_eq!(first.user, user);
        let (server, answer) = Server::start(first, kept, &[2; NONCE_LEN]);
        let (client, last) = client.answer(answer.as_bytes())?;
        let proof = server.finish(last.as_bytes())?;
        client.finish(proof.as_bytes())
    }

    #[test]
    fn both_sides_agree_or_do_not() {
        for mechanism in Mechanism::ALL {
            let keys = Keys::new(mechanism, b"secret", b"0123456789abcdef", ITERATIONS);
            for user in ["mia", "a=b,c", "ü"] {
                assert_eq!(exchange(mechanism, keys.clone(), user, b"secret"), Ok(()));
            }
            let wrong = exchange(mechanism, keys.clone(), "mia", b"Secret");
            assert_eq!(wrong, Err(ScramError::Proof));
            let nobody = Keys::of_nobody(mechanism, "mia", b"of the node");
            assert_eq!(nobody, Keys::of_nobody(mechanism, "mia", b"of the node"));
            let refused = exchange(mechanism, nobody, "mia", b"secret");
            assert_eq!(refused, Err(ScramError::Proof));
            let shown = format!("{keys:?}");
            assert_eq!(shown, format!("Keys({}, hidden)", mechanism.name()));
        }
    }

    /// librdkafka before 2.6.1 puts its nonce in front of the nonce of both.
    #[test]
    fn a_client_that_repeats_its_nonce_is_let_in() {
        let mechanism = Mechanism::Sha256;
        let keys = Keys::new(mechanism, b"secret", b"salt", ITERATIONS);
        let finish = |repeated: &str, cut: usize| {
            let first = ClientFirst::parse(b"n,,n=mia,r=abc").unwrap();
            let (server, answer) = Server::start(first, keys.clone(), &[2; NONCE_LEN]);
            let both = answer.strip_prefix("r=").unwrap().split(',').next();
            let both = &both.unwrap()[cut..];
            let without_proof = format!("c=biws,r={repeated}{both}");
            let said = format!("n=mia,r=abc,{answer},{without_proof}");
            let salted = mechanism.salted(b"secret", b"salt", ITERATIONS);
            let client_key = mechanism.mac(&salted, &[b"Client Key"]);
            let stored_key = mechanism.hash(&client_key);
            let signature = mechanism.mac(&stored_key, &[said.as_bytes()]);
            let proof = client_key.iter().zip(&signature).map(|(a, b)| a ^ b);
            let proof = BASE64.encode(proof.collect::<Vec<u8>>());
            server.finish(format!("{without_proof},p={proof}").as_bytes())
        };
        assert!(finish("", 0).is_ok());
        assert!(finish("abc", 0).is_ok());
        assert!(finish("", 1).is_err(), "less than the nonce of both");
    }

    #[test]
    fn malformed_messages_are_refused() {
        for message in [
            &b""[..],
            b"n,,n=user",
            b"n,,r=nonce",
            b"p=tls-unique,,n=user,r=x",
            b"n,a=root,n=user,r=x",
            b"n,,n=us=er,r=x",
            b"n,,n=,r=x",
            b"n,,n=user,r=",
            b"\xff",
            &[b'n'; MESSAGE_LEN_MAX + 1],
        ] {
            assert!(ClientFirst::parse(message).is_err(), "{message:?}");
        }
        assert!(ClientFirst::parse(b"n,a=user,n=user,r=x").is_ok());
        let keys = Keys::new(Mechanism::Sha256, b"p", b"salt", ITERATIONS);
        for last in [
            "",
            "c=biws",
            "c=biws,r=other,p=AA==",
            "c=x,r=x,p=AA==",
            "p=",
        ] {
            let first = ClientFirst::parse(b"n,,n=user,r=x").unwrap();
            let (server, _) = Server::start(first, keys.clone(), &[2; NONCE_LEN]);
            assert!(server.finish(last.as_bytes()).is_err(), "{last}");
        }
        for first in [
            "",
            "r=x",
            "r=AQEB,s=,i=0",
            "r=zz,s=AA==,i=4096",
            "m=ext,r=x",
        ] {
            let (client, _) = Client::start(Mechanism::Sha256, "u", b"p", &[1; 3]);
            assert!(client.answer(first.as_bytes()).is_err(), "{first}");
        }
        for text in [
            "",
            "SCRAM-SHA-256:1:AA==:AA==:AA==",
            "SCRAM-SHA-1:4096:a:b:c",
        ] {
            assert_eq!(Keys::parse(text), None, "{text}");
        }
    }
}
