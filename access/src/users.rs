//! The file of users.
//!
//! One line per user or token, in the order of their names; `#` begins a comment:
//!
//! ```text
//! forebay-users 1
//! user mia $argon2id$… SCRAM-SHA-256:… SCRAM-SHA-512:…
//! user old $argon2id$… SCRAM-SHA-256:… SCRAM-SHA-512:… disabled
//! token mia grafana 5f3c…
//! ```
//!
//! A token is 256 bits of chance; its SHA-256 is kept.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::password::{PasswordError, PasswordHash, SALT_LEN};
use crate::scram::{self, Keys, Mechanism};

/// Most users of a node: people and machines of a plant.
pub const USERS_MAX: usize = 10_000;
/// Most tokens of a node.
pub const TOKENS_MAX: usize = 1_000;
/// Longest name.
pub const NAME_LEN_MAX: usize = 64;
/// Largest file that is read.
pub const FILE_LEN_MAX: usize = 16 << 20;
/// Bytes of chance in a token.
pub const TOKEN_LEN: usize = 32;

const HEAD: &str = "forebay-users 1";
/// The name that rules have for whoever has not logged in; Kafka writes it in
/// capitals.
const ANONYMOUS: &str = "anonymous";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    password: PasswordHash,
    scram: [Keys; 2],
    /// Whether logins are refused, by certificate as well.
    pub is_disabled: bool,
}

/// A token of a user.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    user: String,
    digest: [u8; 32],
}

/// All users.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users {
    users: BTreeMap<String, User>,
    tokens: BTreeMap<(String, String), Token>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.users.keys()).finish()
    }
}

/// Why a file of users cannot be read, or a user not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The first line.
    #[error("line 1: expected \"{HEAD}\"")]
    Head,
    /// Another line. It is not shown, because it has secrets.
    #[error("line {line}: expected {expected}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A name that cannot be used.
    #[error(
        "{name:?}: expected a name of 1 to {NAME_LEN_MAX} letters, digits or . _ @ -, and not \"{ANONYMOUS}\""
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is such a user.
    #[error("there is a user {name} already; `forebay user passwd {name}` changes the password")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no such user or token.
    #[error("there is no {what} {name}")]
    Unknown {
        /// User or token.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Too many.
    #[error("expected at most {limit} {what}")]
    TooMany {
        /// Users or tokens.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// Checks the name of a user or a token.
///
/// # Errors
/// [`UsersError::Name`].
pub fn check_name(name: &str) -> Result<(), UsersError> {
    let is_legal = |letter: char| letter.is_alphanumeric() || "._@-".contains(letter);
    let is_fine = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name.chars().all(is_legal)
        && !name.eq_ignore_ascii_case(ANONYMOUS);
    is_fine.then_some(()).ok_or_else(|| UsersError::Name {
        name: name.to_owned(),
    })
}

impl User {
    /// What is kept of a password. `salts` is chance. Takes some hundred
    /// milliseconds.
    ///
    /// # Errors
    /// The password is empty or too long.
    pub fn new(password: &[u8], salts: [[u8; SALT_LEN]; 3]) -> Result<Self, PasswordError> {
        let [argon2, sha256, sha512] = salts;
        let keys = |mechanism, salt: &[u8]| Keys::new(mechanism, password, salt, scram::ITERATIONS);
        Ok(Self {
            password: PasswordHash::new(password, argon2)?,
            scram: [
                keys(Mechanism::Sha256, &sha256),
                keys(Mechanism::Sha512, &sha512),
            ],
            is_disabled: false,
        })
    }

    /// Recognises the password. Takes some hundred milliseconds.
    #[must_use]
    pub fn password(&self) -> &PasswordHash {
        &self.password
    }

    /// The keys of a SCRAM mechanism.
    #[must_use]
    pub fn scram(&self, mechanism: Mechanism) -> &Keys {
        match mechanism {
            Mechanism::Sha256 => &self.scram[0],
            Mechanism::Sha512 => &self.scram[1],
        }
    }
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that is not right.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = Self::default();
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line.trim()) != Some(HEAD) {
            return Err(UsersError::Head);
        }
        for (index, line) in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let bad = |expected| UsersError::Line {
                line: index + 1,
                expected,
            };
            match words[..] {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["user", name, password, sha256, sha512, ref flags @ ..] => {
                    check_name(name)?;
                    let is_disabled = match flags {
                        [] => false,
                        ["disabled"] => true,
                        _ => return Err(bad("nothing or \"disabled\" at the end")),
                    };
                    let keys = |text, mechanism: Mechanism| {
                        Keys::parse(text)
                            .filter(|_| text.starts_with(mechanism.name()))
                            .ok_or_else(|| bad("keys of SCRAM-SHA-256 and SCRAM-SHA-512"))
                    };
                    let user = User {
                        password: PasswordHash::parse(password)
                            .map_err(|_| bad("a hash of Argon2id as `forebay user` writes it"))?,
                        scram: [
                            keys(sha256, Mechanism::Sha256)?,
                            keys(sha512, Mechanism::Sha512)?,
                        ],
                        is_disabled,
                    };
                    if users.users.insert(name.to_owned(), user).is_some() {
                        return Err(bad("each user once"));
                    }
                }
                ["token", user, name, digest] => {
                    let digest = unhex(digest).ok_or_else(|| bad("64 hexadecimal digits"))?;
                    let key = (user.to_owned(), name.to_owned());
                    let user = user.to_owned();
                    users.tokens.insert(key, Token { user, digest });
                }
                _ => return Err(bad("a user or a token")),
            }
        }
        users.check_counts()?;
        Ok(users)
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{HEAD}\n# Written by `forebay user`. It has no passwords, but belongs to nobody else.\n"
        );
        for (name, user) in &self.users {
            let flag = if user.is_disabled { " disabled" } else { "" };
            let [sha256, sha512] = &user.scram;
            text.push_str(&format!(
                "user {name} {} {} {}{flag}\n",
                user.password.to_text(),
                sha256.to_text(),
                sha512.to_text()
            ));
        }
        for ((user, name), token) in &self.tokens {
            let digits: String = token
                .digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            text.push_str(&format!("token {user} {name} {digits}\n"));
        }
        text
    }

    /// Whether there are no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user with a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Names of users in order, each with whether logins are refused.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let users = self.users.iter();
        users.map(|(name, user)| (name.as_str(), user.is_disabled))
    }

    /// Names of tokens with their users.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tokens
            .keys()
            .map(|(user, name)| (user.as_str(), name.as_str()))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// The name cannot be used, or is.
    pub fn add(&mut self, name: &str, user: User) -> Result<(), UsersError> {
        check_name(name)?;
        if self.users.contains_key(name) {
            return Err(UsersError::Exists {
                name: name.to_owned(),
            });
        }
        self.users.insert(name.to_owned(), user);
        self.check_counts()
    }

    /// Gives a user another password; tokens stay.
    ///
    /// # Errors
    /// There is no such user.
    pub fn change(&mut self, name: &str, user: User) -> Result<(), UsersError> {
        let known = self.known(name)?;
        *known = User {
            is_disabled: known.is_disabled,
            ..user
        };
        Ok(())
    }

    /// Refuses logins of a user, or allows them again.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_disabled(&mut self, name: &str, is_disabled: bool) -> Result<(), UsersError> {
        self.known(name)?.is_disabled = is_disabled;
        Ok(())
    }

    /// Removes a user with all tokens.
    ///
    /// # Errors
    /// There is no such user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        self.known(name)?;
        self.users.remove(name);
        self.tokens.retain(|_, token| token.user != name);
        Ok(())
    }

    /// Keeps a token of a user under a name, in place of one that was there.
    ///
    /// # Errors
    /// There is no such user, or the name cannot be used.
    pub fn add_token(&mut self, user: &str, name: &str, token: &str) -> Result<(), UsersError> {
        check_name(name)?;
        self.known(user)?;
        let kept = Token {
            user: user.to_owned(),
            digest: Sha256::digest(token.as_bytes()).into(),
        };
        self.tokens.insert((user.to_owned(), name.to_owned()), kept);
        self.check_counts()
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// There is no such token.
    pub fn remove_token(&mut self, user: &str, name: &str) -> Result<(), UsersError> {
        let key = (user.to_owned(), name.to_owned());
        let removed = self.tokens.remove(&key);
        removed.map(drop).ok_or_else(|| UsersError::Unknown {
            what: "token",
            name: format!("{user} {name}"),
        })
    }

    /// The user whose token this is, unless logins are refused.
    #[must_use]
    pub fn of_token(&self, token: &str) -> Option<&str> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let found = self
            .tokens
            .values()
            .find(|kept| bool::from(kept.digest.ct_eq(&digest)));
        let user = found?.user.as_str();
        self.get(user).filter(|user| !user.is_disabled)?;
        Some(user)
    }

    fn known(&mut self, name: &str) -> Result<&mut User, UsersError> {
        let unknown = || UsersError::Unknown {
            what: "user",
            name: name.to_owned(),
        };
        self.users.get_mut(name).ok_or_else(unknown)
    }

    fn check_counts(&self) -> Result<(), UsersError> {
        for (what, count, limit) in [
            ("users", self.users.len(), USERS_MAX),
            ("tokens", self.tokens.len(), TOKENS_MAX),
        ] {
            if count > limit {
                return Err(UsersError::TooMany { what, limit });
            }
        }
        Ok(())
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(password: &str) -> User {
        User::new(password.as_bytes(), [[1; 16], [2; 16], [3; 16]]).unwrap()
    }

    #[test]
    fn users_survive_their_file() {
        let mut users = Users::default();
        users.add("mia", user("one")).unwrap();
        users.add("press-1", user("two")).unwrap();
        users.set_disabled("press-1", true).unwrap();
        users.add_token("mia", "grafana", "chance").unwrap();
        let text = users.to_text();
        assert!(!text.contains("one") && !text.contains("chance"), "{text}");
        let read = Users::parse(&text).unwrap();
        assert_eq!(read, users);
        assert!(read.get("mia").unwrap().password().verify(b"one"));
        let names: Vec<_> = read.names().collect();
        assert_eq!(names, [("mia", false), ("press-1", true)]);
        assert_eq!(format!("{read:?}"), "{\"mia\", \"press-1\"}");
    }

    #[test]
    fn tokens_belong_to_users_that_may_log_in() {
        let mut users = Users::default();
        users.add("mia", user("one")).unwrap();
        users.add_token("mia", "grafana", "chance").unwrap();
        assert_eq!(users.of_token("chance"), Some("mia"));
        assert_eq!(users.of_token("chancy"), None);
        users.set_disabled("mia", true).unwrap();
        assert_eq!(users.of_token("chance"), None);
        users.set_disabled("mia", false).unwrap();
        users.change("mia", user("three")).unwrap();
        assert_eq!(users.of_token("chance"), Some("mia"));
        users.remove_token("mia", "grafana").unwrap();
        assert_eq!(users.of_token("chance"), None);
        users.add_token("mia", "again", "chance").unwrap();
        users.remove("mia").unwrap();
        assert_eq!(users.of_token("chance"), None);
        assert!(users.remove("mia").is_err());
        assert!(users.add_token("mia", "x", "y").is_err());
        assert!(users.remove_token("mia", "x").is_err());
    }

    #[test]
    fn names_have_no_character_with_a_meaning() {
        for name in ["mia", "press-1", "a.b@c_d", "Jürgen"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "x".repeat(NAME_LEN_MAX + 1);
        for name in [
            "",
            "a b",
            "a/b",
            "a#",
            "+",
            "*",
            "%u",
            "a:b",
            "anonymous",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_without_its_content() {
        let mut users = Users::default();
        users.add("mia", user("one")).unwrap();
        let text = users.to_text();
        assert_eq!(Users::parse(""), Err(UsersError::Head));
        let line = text.lines().last().unwrap();
        for (bad, expected) in [
            (
                line.replace("argon2id", "md5"),
                "a hash of Argon2id as `forebay user` writes it",
            ),
            (
                line.replace("SCRAM-SHA-512", "SCRAM-SHA-256"),
                "keys of SCRAM-SHA-256 and SCRAM-SHA-512",
            ),
            (
                format!("{line} admin"),
                "nothing or \"disabled\" at the end",
            ),
            (format!("{line}\n{line}"), "each user once"),
            ("token mia x 12".to_owned(), "64 hexadecimal digits"),
            ("password".to_owned(), "a user or a token"),
        ] {
            let error = Users::parse(&format!("{HEAD}\n{bad}\n")).unwrap_err();
            assert!(
                matches!(error, UsersError::Line { expected: found, .. } if found == expected),
                "{error}"
            );
        }
    }
}
