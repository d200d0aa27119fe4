//! The STATE message of a host application (sections 4.1.6 and 5.13).
//!
//! A host says with a retained message on `spBv1.0/STATE/<host id>` whether it
//! is there. Edge nodes may wait for it. [`HostState`] decides what the host
//! publishes; the last online message and the death that belongs to it carry
//! the same timestamp.

use serde::{Deserialize, Serialize};

use crate::topic::NAMESPACE;

/// The content of a STATE message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMessage {
    /// Whether the host is there.
    pub online: bool,
    /// When its session began, in milliseconds since the Unix epoch.
    pub timestamp: i64,
}

impl StateMessage {
    /// Reads the JSON form; keys beyond the two are passed over.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// The JSON form.
    pub fn to_json(self) -> String {
        format!(
            r#"{{"online":{},"timestamp":{}}}"#,
            self.online, self.timestamp
        )
    }
}

/// The topic of a host's STATE messages.
pub fn state_topic(host: &str) -> String {
    format!("{NAMESPACE}/STATE/{host}")
}

/// What a host says about itself. Every message is published retained with
/// QoS 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostState {
    timestamp: i64,
    online: bool,
}

impl HostState {
    /// A session that begins at `now_ms`, and its birth. `last` is what stands
    /// retained; the new timestamp is above it even when the clock went back,
    /// because edge nodes pass over older messages.
    pub fn start(now_ms: i64, last: Option<StateMessage>) -> (Self, StateMessage) {
        let floor = last.map_or(i64::MIN, |last| last.timestamp.saturating_add(1));
        let state = Self {
            timestamp: now_ms.max(floor),
            online: true,
        };
        (state, state.message(true))
    }

    /// What to answer to a message on the host's own topic: another one that
    /// says it is offline is contradicted with the session's own timestamp.
    pub fn handle(&self, seen: StateMessage) -> Option<StateMessage> {
        (self.online && !seen.online).then(|| self.message(true))
    }

    /// The death, to be published when the host leaves and registered as its
    /// will before.
    pub fn stop(&mut self) -> StateMessage {
        self.online = false;
        self.message(false)
    }

    fn message(&self, online: bool) -> StateMessage {
        StateMessage {
            online,
            timestamp: self.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birth_and_death_of_a_session_have_one_timestamp() {
        let (mut state, birth) = HostState::start(1_000, None);
        assert_eq!(birth.to_json(), r#"{"online":true,"timestamp":1000}"#);
        let death = state.stop();
        assert_eq!(death.to_json(), r#"{"online":false,"timestamp":1000}"#);
        assert_eq!(StateMessage::parse(death.to_json().as_bytes()), Some(death));
    }

    #[test]
    fn a_foreign_offline_is_contradicted_with_the_same_timestamp() {
        let (mut state, birth) = HostState::start(1_000, None);
        let offline = StateMessage {
            online: false,
            timestamp: 5_000,
        };
        assert_eq!(state.handle(offline), Some(birth));
        assert_eq!(state.handle(birth), None);
        state.stop();
        assert_eq!(state.handle(offline), None);
    }

    #[test]
    fn a_clock_that_went_back_does_not_make_an_older_session() {
        let last = StateMessage {
            online: true,
            timestamp: 9_000,
        };
        let (_, birth) = HostState::start(1_000, Some(last));
        assert_eq!(birth.timestamp, 9_001);
    }

    #[test]
    fn state_payloads_with_more_or_less_keys() {
        let more = br#"{"timestamp": 7, "extra": [1], "online": false}"#;
        let parsed = StateMessage {
            online: false,
            timestamp: 7,
        };
        assert_eq!(StateMessage::parse(more), Some(parsed));
        assert_eq!(StateMessage::parse(b"ONLINE"), None);
        assert_eq!(StateMessage::parse(br#"{"online":1,"timestamp":7}"#), None);
    }
}
