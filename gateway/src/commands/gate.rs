//! Who may command what, and when: the rules of `[commands]` without I/O.
//!
//! A command is refused unless everything about it is in order. What was
//! accepted once is remembered until it has expired, and an expired command is
//! refused for that, so that no command is carried out twice however often it
//! is sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{WriteKind, WriteRule};
use crate::config;
use crate::readings::Value;

/// Longest payload of a command. A text tag takes some hundred bytes.
pub const PAYLOAD_LEN_MAX: usize = 64 << 10;

/// Longest identifier: a UUID has 36 characters.
pub const ID_LEN_MAX: usize = 128;

/// Identifiers that are remembered. With the default expiry of a minute that
/// is 160 commands per second, far more than people and recipes send; beyond
/// it commands are refused, because forgetting one could repeat it.
pub const IDS_MAX: usize = 10_000;

/// Paths whose last command is remembered for their rate. Beyond it the ones
/// of more than a day ago are forgotten.
const PATHS_MAX: usize = 100_000;

const DAY: Duration = Duration::from_secs(86_400);

/// A command as it came, with what is known about its sender and its tag.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The tag's path.
    pub path: &'a str,
    /// What was published.
    pub payload: &'a [u8],
    /// Who published it.
    pub client: &'a str,
    /// Whether it was to be retained.
    pub is_retained: bool,
    /// The tag's rule.
    pub rule: WriteRule,
}

/// The time at which an attempt is judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Time since some fixed moment.
    pub elapsed: Duration,
    /// Whether the wall clock can be believed.
    pub is_trusted: bool,
}

/// A command that may be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The sender's name for it.
    pub id: String,
    /// What to write; it keeps the tag's rule.
    pub value: Value,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its identifier, when it has one that can be repeated.
    pub id: Option<String>,
    /// The cause, in a form for machines.
    pub reason: &'static str,
}

/// A path and an identifier: a client that writes two tags may use one for both.
pub type IdKey = (Arc<str>, Arc<str>);

#[derive(Deserialize)]
struct Payload {
    value: Option<serde_json::Value>,
    id: Option<serde_json::Value>,
    expires: Option<serde_json::Value>,
}

/// The rules with what they have to remember.
#[derive(Debug)]
pub struct Gate {
    policy: config::Commands,
    known: HashMap<IdKey, i64>,
    by_expiry: BTreeSet<(i64, IdKey)>,
    last: HashMap<Box<str>, Duration>,
}

impl Gate {
    /// A gate that remembers nothing.
    pub fn new(policy: config::Commands) -> Self {
        Self {
            policy,
            known: HashMap::new(),
            by_expiry: BTreeSet::new(),
            last: HashMap::new(),
        }
    }

    /// Goes by other rules from here on.
    pub fn set_policy(&mut self, policy: config::Commands) {
        self.policy = policy;
    }

    /// Remembers a command until it expires.
    pub fn remember(&mut self, path: &str, id: &str, expires_ms: i64) {
        let key: IdKey = (path.into(), id.into());
        self.by_expiry.insert((expires_ms, key.clone()));
        self.known.insert(key, expires_ms);
    }

    /// Forgets the commands that have expired and returns them.
    pub fn forget_expired(&mut self, now_ms: i64) -> Vec<IdKey> {
        let mut gone = Vec::new();
        while let Some((expires_ms, _)) = self.by_expiry.first()
            && *expires_ms <= now_ms
            && let Some((_, key)) = self.by_expiry.pop_first()
        {
            self.known.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// Judges an attempt. What is accepted is remembered.
    ///
    /// # Errors
    /// The first rule that it breaks, in the order of `docs/readings.md`.
    pub fn judge(&mut self, attempt: Attempt<'_>, now: Moment) -> Result<Accepted, Refused> {
        let parsed = match attempt.payload.len() {
            0..=PAYLOAD_LEN_MAX => serde_json::from_slice::<Payload>(attempt.payload).ok(),
            _ => None,
        };
        let id = parsed.as_ref().and_then(|payload| id(payload.id.as_ref()));
        let judged = self.check(attempt, parsed.as_ref(), id.as_deref(), now);
        let (value, expires_ms) = match judged {
            Ok(accepted) => accepted,
            Err(reason) => return Err(Refused { id, reason }),
        };
        let id = id.unwrap_or_default();
        self.remember(attempt.path, &id, expires_ms);
        if self.last.len() >= PATHS_MAX {
            self.last
                .retain(|_, at| now.elapsed.saturating_sub(*at) < DAY);
        }
        self.last.insert(attempt.path.into(), now.elapsed);
        Ok(Accepted {
            id,
            value,
            expires_ms,
        })
    }

    fn check(
        &self,
        attempt: Attempt<'_>,
        payload: Option<&Payload>,
        id: Option<&str>,
        now: Moment,
    ) -> Result<(Value, i64), &'static str> {
        if !self.policy.enabled {
            return Err("commands-disabled");
        }
        if !self.policy.allows(attempt.client) {
            return Err("client-not-allowed");
        }
        if attempt.is_retained {
            return Err("retained");
        }
        let payload = payload.ok_or("malformed")?;
        let id = id.ok_or("no-id")?;
        let expires_ms = payload.expires.as_ref().ok_or("no-expiry")?;
        let expires_ms = expires_ms.as_i64().ok_or("malformed")?;
        if !now.is_trusted {
            return Err("clock-not-synchronised");
        }
        if expires_ms <= now.wall_ms {
            return Err("expired");
        }
        let max_ms = i64::try_from(self.policy.max_expiry.as_millis()).unwrap_or(i64::MAX);
        if expires_ms - now.wall_ms > max_ms {
            return Err("expires-too-far");
        }
        if self.known.contains_key(&(attempt.path.into(), id.into())) {
            return Err("duplicate-id");
        }
        let value = payload.value.as_ref().ok_or("no-value")?;
        let value = typed(value, attempt.rule.kind).ok_or("wrong-type")?;
        if !is_within(&value, &attempt.rule) {
            return Err("out-of-range");
        }
        let last = self.last.get(attempt.path);
        let wait = attempt.rule.min_interval;
        if last.is_some_and(|last| now.elapsed.saturating_sub(*last) < wait) {
            return Err("too-soon");
        }
        if self.known.len() >= IDS_MAX {
            return Err("busy");
        }
        Ok((value, expires_ms))
    }
}

fn id(given: Option<&serde_json::Value>) -> Option<String> {
    let text = given?.as_str()?;
    let is_usable = (1..=ID_LEN_MAX).contains(&text.len()) && !text.contains('\0');
    is_usable.then(|| text.to_owned())
}

fn typed(value: &serde_json::Value, kind: WriteKind) -> Option<Value> {
    match kind {
        WriteKind::Bool => value.as_bool().map(Value::Bool),
        WriteKind::Integer => integer(value),
        WriteKind::Float => value.as_f64().filter(|f| f.is_finite()).map(Value::Float),
        WriteKind::Number => integer(value).or_else(|| typed(value, WriteKind::Float)),
        WriteKind::Text => value.as_str().map(|text| Value::Text(text.into())),
        WriteKind::Any => [WriteKind::Bool, WriteKind::Number, WriteKind::Text]
            .into_iter()
            .find_map(|kind| typed(value, kind)),
    }
}

/// A whole number, also when it is written as 5.0.
fn integer(value: &serde_json::Value) -> Option<Value> {
    /// Doubles hold every whole number up to here.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let signed = value.as_i64().map(Value::Signed);
    let unsigned = || value.as_u64().map(Value::Unsigned);
    signed.or_else(unsigned).or_else(|| {
        let whole = value.as_f64()?;
        (whole.fract() == 0.0 && whole.abs() <= EXACT_MAX).then_some(Value::Signed(whole as i64))
    })
}

fn is_within(value: &Value, rule: &WriteRule) -> bool {
    let number = match value {
        Value::Signed(number) => *number as f64,
        Value::Unsigned(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return true,
    };
    rule.min.is_none_or(|min| number >= min) && rule.max.is_none_or(|max| number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_856_000_000;

    fn gate() -> Gate {
        Gate::new(config::Commands {
            enabled: true,
            allow: vec!["scada-*".to_owned()],
            max_expiry: Duration::from_secs(60),
        })
    }

    fn rule(kind: WriteKind) -> WriteRule {
        WriteRule {
            kind,
            min: Some(-5.0),
            max: Some(100.0),
            min_interval: Duration::ZERO,
        }
    }

    fn moment() -> Moment {
        Moment {
            wall_ms: NOW,
            elapsed: Duration::from_secs(9),
            is_trusted: true,
        }
    }

    fn attempt(payload: &str) -> Attempt<'_> {
        Attempt {
            path: "press/speed",
            payload: payload.as_bytes(),
            client: "scada-1",
            is_retained: false,
            rule: rule(WriteKind::Integer),
        }
    }

    fn good(id: &str) -> String {
        format!(r#"{{"value":7,"id":"{id}","expires":{}}}"#, NOW + 30_000)
    }

    fn reason(gate: &mut Gate, attempt: Attempt<'_>, now: Moment) -> &'static str {
        gate.judge(attempt, now)
            .map_or_else(|refused| refused.reason, |_| "accepted")
    }

    #[test]
    fn a_command_in_order_is_accepted_once() {
        let mut gate = gate();
        let payload = good("a");
        let accepted = gate.judge(attempt(&payload), moment()).unwrap();
        let expected = Accepted {
            id: "a".to_owned(),
            value: Value::Signed(7),
            expires_ms: NOW + 30_000,
        };
        assert_eq!(accepted, expected);
        let again = gate.judge(attempt(&payload), moment());
        let refused = Refused {
            id: Some("a".to_owned()),
            reason: "duplicate-id",
        };
        assert_eq!(again, Err(refused));
        let other = Attempt {
            path: "press/feed",
            ..attempt(&payload)
        };
        assert_eq!(reason(&mut gate, other, moment()), "accepted");
    }

    #[test]
    fn an_id_is_remembered_until_its_command_has_expired() {
        let mut gate = gate();
        gate.judge(attempt(&good("a")), moment()).unwrap();
        assert_eq!(gate.forget_expired(NOW + 29_999), []);
        assert_eq!(
            reason(&mut gate, attempt(&good("a")), moment()),
            "duplicate-id"
        );
        let gone = gate.forget_expired(NOW + 30_000);
        assert_eq!(gone, [("press/speed".into(), "a".into())]);
        let later = Moment {
            wall_ms: NOW + 30_000,
            ..moment()
        };
        assert_eq!(reason(&mut gate, attempt(&good("a")), later), "expired");
    }

    #[test]
    fn every_rule_has_its_reason() {
        let expires = NOW + 1_000;
        for (payload, expected) in [
            ("7".to_owned(), "malformed"),
            (String::new(), "malformed"),
            (
                format!(r#"{{"value":7,"id":"a","id":"b","expires":{expires}}}"#),
                "malformed",
            ),
            (format!(r#"{{"value":7,"expires":{expires}}}"#), "no-id"),
            (
                format!(r#"{{"value":7,"id":"","expires":{expires}}}"#),
                "no-id",
            ),
            (
                format!(r#"{{"value":7,"id":5,"expires":{expires}}}"#),
                "no-id",
            ),
            (r#"{"value":7,"id":"a"}"#.to_owned(), "no-expiry"),
            (
                r#"{"value":7,"id":"a","expires":"soon"}"#.to_owned(),
                "malformed",
            ),
            (
                format!(r#"{{"value":7,"id":"a","expires":{NOW}}}"#),
                "expired",
            ),
            (
                format!(r#"{{"value":7,"id":"a","expires":{}}}"#, NOW + 60_001),
                "expires-too-far",
            ),
            (format!(r#"{{"id":"a","expires":{expires}}}"#), "no-value"),
            (
                format!(r#"{{"value":"7","id":"a","expires":{expires}}}"#),
                "wrong-type",
            ),
            (
                format!(r#"{{"value":7.5,"id":"a","expires":{expires}}}"#),
                "wrong-type",
            ),
            (
                format!(r#"{{"value":101,"id":"a","expires":{expires}}}"#),
                "out-of-range",
            ),
            (
                format!(r#"{{"value":-6,"id":"a","expires":{expires}}}"#),
                "out-of-range",
            ),
            (
                format!(r#"{{"value":7.0,"id":"a","expires":{expires}}}"#),
                "accepted",
            ),
        ] {
            assert_eq!(
                reason(&mut gate(), attempt(&payload), moment()),
                expected,
                "{payload}"
            );
        }
        let payload = good("a");
        let retained = Attempt {
            is_retained: true,
            ..attempt(&payload)
        };
        assert_eq!(reason(&mut gate(), retained, moment()), "retained");
        let stranger = Attempt {
            client: "panel",
            ..attempt(&payload)
        };
        assert_eq!(
            reason(&mut gate(), stranger, moment()),
            "client-not-allowed"
        );
        let unsure = Moment {
            is_trusted: false,
            ..moment()
        };
        assert_eq!(
            reason(&mut gate(), attempt(&payload), unsure),
            "clock-not-synchronised"
        );
        let mut off = gate();
        off.set_policy(config::Commands::default());
        assert_eq!(
            reason(&mut off, attempt(&payload), moment()),
            "commands-disabled"
        );
        let long = format!("{payload}{}", " ".repeat(PAYLOAD_LEN_MAX));
        assert_eq!(reason(&mut gate(), attempt(&long), moment()), "malformed");
    }

    #[test]
    fn a_refused_id_may_be_mended() {
        let mut gate = gate();
        let wrong = good("a").replacen("7", "true", 1);
        assert_eq!(reason(&mut gate, attempt(&wrong), moment()), "wrong-type");
        assert_eq!(reason(&mut gate, attempt(&good("a")), moment()), "accepted");
    }

    #[test]
    fn writes_of_one_tag_keep_their_distance() {
        let mut gate = gate();
        let (a, b) = (good("a"), good("b"));
        let slow = |payload| Attempt {
            rule: WriteRule {
                min_interval: Duration::from_secs(2),
                ..rule(WriteKind::Integer)
            },
            ..attempt(payload)
        };
        let after = |ms| Moment {
            elapsed: moment().elapsed + Duration::from_millis(ms),
            ..moment()
        };
        assert_eq!(reason(&mut gate, slow(&a), after(0)), "accepted");
        assert_eq!(reason(&mut gate, slow(&b), after(1_999)), "too-soon");
        assert_eq!(reason(&mut gate, slow(&b), after(2_000)), "accepted");
    }

    #[test]
    fn a_full_memory_refuses_instead_of_forgetting() {
        let mut gate = gate();
        for number in 0..IDS_MAX {
            gate.remember("press/speed", &number.to_string(), NOW + 30_000);
        }
        assert_eq!(reason(&mut gate, attempt(&good("a")), moment()), "busy");
        gate.forget_expired(NOW + 30_000);
        assert_eq!(reason(&mut gate, attempt(&good("a")), moment()), "accepted");
    }

    #[test]
    fn each_kind_takes_its_own_values() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (kind, text, expected) in [
            (WriteKind::Bool, "true", Some(Value::Bool(true))),
            (WriteKind::Bool, "1", None),
            (WriteKind::Integer, "-3", Some(Value::Signed(-3))),
            (
                WriteKind::Integer,
                "18446744073709551615",
                Some(Value::Unsigned(u64::MAX)),
            ),
            (WriteKind::Integer, "1e300", None),
            (WriteKind::Float, "2", Some(Value::Float(2.0))),
            (WriteKind::Float, "\"2\"", None),
            (WriteKind::Text, "\"on\"", Some(Value::Text("on".into()))),
            (WriteKind::Text, "null", None),
            (WriteKind::Number, "7", Some(Value::Signed(7))),
            (WriteKind::Number, "7.5", Some(Value::Float(7.5))),
            (WriteKind::Number, "true", None),
            (WriteKind::Any, "true", Some(Value::Bool(true))),
            (WriteKind::Any, "\"on\"", Some(Value::Text("on".into()))),
            (WriteKind::Any, "[1]", None),
        ] {
            assert_eq!(typed(&json(text), kind), expected, "{kind:?} {text}");
        }
    }
}
