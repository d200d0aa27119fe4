//! The client's side of SASL: names, passwords in files, PLAIN and SCRAM.

use std::path::PathBuf;

use forebay_access::scram::{Client, ClientFinal, Mechanism, NONCE_LEN};
use forebay_uplink::driver::{Begun, Credentials, Exchange};

use crate::access::chance;

/// How a password is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As it is, over TLS.
    Plain,
    /// By proof.
    Scram(Mechanism),
}

impl SaslMechanism {
    /// The mechanism with a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            name => Mechanism::named(name).map(Self::Scram),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(mechanism) => mechanism.name(),
        }
    }
}

/// A name and the file of its password, which is read for each login: a changed
/// password needs no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is shown.
    pub mechanism: SaslMechanism,
    /// The user.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
}

impl Sasl {
    /// Reads the password.
    ///
    /// # Errors
    /// A sentence, without what is in the file.
    pub fn password(&self) -> Result<String, String> {
        let file = self.password_file.display();
        let text = std::fs::read_to_string(&self.password_file);
        let text = text.map_err(|error| format!("{file}: {error}"))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            _ => Err(format!("{file}: expected a password in the first line")),
        }
    }
}

impl Credentials for Sasl {
    fn mechanism(&self) -> &'static str {
        self.mechanism.name()
    }

    fn begin(&self) -> Result<Begun, String> {
        let password = self.password()?;
        match self.mechanism {
            SaslMechanism::Plain => {
                let message = format!("\0{}\0{password}", self.user);
                Ok((Box::new(PlainSent), message.into_bytes()))
            }
            SaslMechanism::Scram(mechanism) => {
                let nonce = chance::<NONCE_LEN>().map_err(|error| error.to_string())?;
                let (client, first) =
                    Client::start(mechanism, &self.user, password.as_bytes(), &nonce);
                Ok((Box::new(ScramBegun(client)), first.into_bytes()))
            }
        }
    }
}

struct PlainSent;

impl Exchange for PlainSent {
    fn answer(self: Box<Self>, _: &[u8]) -> Result<Option<Begun>, String> {
        Ok(None)
    }
}

struct ScramBegun(Client);

impl Exchange for ScramBegun {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Option<Begun>, String> {
        let answered = self.0.answer(message).map_err(|error| error.to_string())?;
        let (client, last) = answered;
        Ok(Some((Box::new(ScramProven(client)), last.into_bytes())))
    }
}

struct ScramProven(ClientFinal);

impl Exchange for ScramProven {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Option<Begun>, String> {
        let checked = self.0.finish(message);
        checked.map(|()| None).map_err(|error| error.to_string())
    }
}
