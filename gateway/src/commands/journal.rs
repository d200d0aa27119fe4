//! What is written down about commands.
//!
//! The log topic [`TOPIC`] has a record before a command is carried out and
//! one about its outcome, keyed by the tag's path; a refused command has one.
//! The identifiers that must not come again are keys of the state, written
//! with the record before the command, so a restart forgets none of them.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::gate::IdKey;
use super::{CommandOutcome, Sender};
use crate::ledger::Change;
use crate::readings::Value;

/// The log topic of commands.
pub const TOPIC: &str = "commands";

/// What the state keys of identifiers begin with: path, a zero byte, id.
pub const PREFIX: &[u8] = b"c/i/";

/// A record of [`TOPIC`].
#[derive(Serialize)]
pub struct Entry<'a> {
    /// `intent`, `outcome` or `refused`.
    pub event: &'static str,
    /// The sender's name for the command.
    pub id: Option<&'a str>,
    /// The tag's path.
    pub path: &'a str,
    /// What is to be written, or was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json<'a>>,
    /// `done`, `refused` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
    /// Who sent it: a client identifier. Absent after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    /// How: `mqtt-3.1.1` or `mqtt-5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// When this was written down. All times are milliseconds since the Unix
    /// epoch.
    pub timestamp: i64,
}

impl<'a> Entry<'a> {
    /// An entry about a command of `sender`, before anything else is said.
    pub fn new(event: &'static str, path: &'a str, id: Option<&'a str>, timestamp: i64) -> Self {
        Self {
            event,
            id,
            path,
            value: None,
            outcome: None,
            reason: None,
            status: None,
            client: None,
            protocol: None,
            expires: None,
            timestamp,
        }
    }

    /// Says who sent it.
    #[must_use]
    pub fn from(mut self, sender: &'a Sender) -> Self {
        self.client = Some(&sender.client);
        self.protocol = Some(sender.protocol);
        self
    }

    /// Says what became of it.
    #[must_use]
    pub fn with(mut self, outcome: &'a CommandOutcome) -> Self {
        self.outcome = Some(outcome.name());
        match outcome {
            CommandOutcome::Done { read_back } => self.value = Some(Json(read_back)),
            CommandOutcome::Refused { reason } => self.reason = Some(reason),
            CommandOutcome::Failed { status } => self.status = Some(status),
        }
        self
    }

    /// The bytes of the record.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, flags and texts have a JSON form")
    }
}

/// What is published at `<path>/set/result`.
#[derive(Serialize)]
pub struct Answer<'a> {
    id: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    timestamp: i64,
}

impl<'a> Answer<'a> {
    /// The answer to the command `id`.
    pub fn new(id: Option<&'a str>, outcome: &'a CommandOutcome, timestamp: i64) -> Self {
        let entry = Entry::new("", "", id, timestamp).with(outcome);
        Self {
            id,
            outcome: outcome.name(),
            value: entry.value,
            reason: entry.reason,
            status: entry.status,
            timestamp,
        }
    }

    /// The payload.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, flags and texts have a JSON form")
    }
}

/// A value in its JSON form; what is not finite is null.
#[derive(Clone, Copy)]
pub struct Json<'a>(pub &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_none(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Signed(number) => serializer.serialize_i64(*number),
            Value::Unsigned(number) => serializer.serialize_u64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Json(item))?;
                }
                list.end()
            }
        }
    }
}

/// How far a remembered command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It may have been carried out; its outcome is not written down.
    Pending,
    /// Its outcome is written down.
    Settled,
}

/// The change that remembers a command.
pub fn remembered(path: &str, id: &str, expires_ms: i64, stage: Stage) -> Change {
    let mut value = expires_ms.to_be_bytes().to_vec();
    value.push(u8::from(stage == Stage::Settled));
    (state_key(path, id), Some(value))
}

/// The change that forgets a command.
pub fn forgotten((path, id): &IdKey) -> Change {
    (state_key(path, id), None)
}

/// Reads what [`remembered`] wrote: path, id, expiry, stage.
pub fn recall(key: &[u8], value: &[u8]) -> Option<(String, String, i64, Stage)> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
    let (path, id) = text.split_once('\0')?;
    let (expires, stage) = value.split_at_checked(8)?;
    let stage = match stage {
        [0] => Stage::Pending,
        [1] => Stage::Settled,
        _ => return None,
    };
    let expires_ms = i64::from_be_bytes(expires.try_into().ok()?);
    Some((path.to_owned(), id.to_owned(), expires_ms, stage))
}

fn state_key(path: &str, id: &str) -> Vec<u8> {
    [PREFIX, path.as_bytes(), b"\0", id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_command_is_recalled() {
        for stage in [Stage::Pending, Stage::Settled] {
            let (key, value) = remembered("press/speed", "a", -7, stage);
            let recalled = recall(&key, &value.unwrap()).unwrap();
            let expected = ("press/speed".to_owned(), "a".to_owned(), -7, stage);
            assert_eq!(recalled, expected);
        }
        assert_eq!(recall(b"c/i/press", &[0; 9]), None);
        assert_eq!(recall(b"c/i/press\0a", &[0; 8]), None);
        assert_eq!(recall(b"c/i/press\0a", &[2; 9]), None);
    }

    #[test]
    fn entries_and_answers_name_what_there_is() {
        let sender = Sender {
            client: "scada-1".to_owned(),
            protocol: "mqtt-5",
            response_topic: None,
            correlation: None,
        };
        let read_back = Value::Float(7.5);
        let done = CommandOutcome::Done { read_back };
        let entry = Entry::new("outcome", "press/speed", Some("a"), 5).from(&sender);
        assert_eq!(
            String::from_utf8(entry.with(&done).to_json()).unwrap(),
            r#"{"event":"outcome","id":"a","path":"press/speed","value":7.5,"outcome":"done","client":"scada-1","protocol":"mqtt-5","timestamp":5}"#
        );
        let status = "timeout".to_owned();
        let failed = CommandOutcome::Failed { status };
        assert_eq!(
            String::from_utf8(Answer::new(None, &failed, 5).to_json()).unwrap(),
            r#"{"id":null,"outcome":"failed","status":"timeout","timestamp":5}"#
        );
    }
}
