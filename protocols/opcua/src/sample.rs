//! One value of one node at one time.

use std::borrow::Cow;
use std::sync::Arc;

use opcua::types::custom::DataTypeTree;
use opcua::types::{DataValue, StatusCode};

use crate::value::{Value, milliseconds, status_name};

/// The status of the last value while the server is away. Its name says what it
/// is (Part 8, 7.3).
pub const AWAY: &str = "UncertainNoCommunicationLastUsableValue";

/// The status of a node that has no value yet while the server is away.
pub const NEVER: &str = "BadNoCommunication";

/// How far a value can be trusted: the severity of its status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As the server has it.
    Good,
    /// Old or doubtful.
    Uncertain,
    /// No value of the process.
    Bad,
}

/// Which clock stamps values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// The machine's, else the server's, else the gateway's.
    #[default]
    Source,
    /// The server's, else the gateway's.
    Server,
    /// The gateway's, when the value arrives.
    Gather,
}

/// One value of one node at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The node's name, as the settings or the browse made it.
    pub name: Arc<str>,
    /// The value.
    pub value: Value,
    /// In milliseconds since the Unix epoch. `None`: when it was received.
    pub timestamp_ms: Option<i64>,
    /// How far it can be trusted.
    pub quality: Quality,
    /// The name of the status code, unless it is plain Good.
    pub status: Option<Cow<'static, str>>,
}

impl Sample {
    /// Takes a value as a server sent it.
    pub fn of(
        name: Arc<str>,
        value: &DataValue,
        timestamp: Timestamp,
        types: Option<&DataTypeTree>,
    ) -> Self {
        let time = |time: &Option<opcua::types::DateTime>| time.as_ref().and_then(milliseconds);
        let timestamp_ms = match timestamp {
            Timestamp::Source => {
                time(&value.source_timestamp).or_else(|| time(&value.server_timestamp))
            }
            Timestamp::Server => time(&value.server_timestamp),
            Timestamp::Gather => None,
        };
        // No status is Good (Part 6, 5.2.2.17).
        let code = value.status.unwrap_or(StatusCode::Good);
        let mut quality = quality(code);
        let mut status = (code.sub_code() != StatusCode::Good.sub_code())
            .then(|| Cow::Borrowed(status_name(code)));
        let decoded = value.value.as_ref().map(|value| Value::of(value, types));
        let value = match decoded {
            Some(Ok(value)) if quality != Quality::Bad => value,
            Some(Err(_)) if quality != Quality::Bad => {
                quality = Quality::Bad;
                status = Some(Cow::Borrowed("BadDataEncodingUnsupported"));
                Value::Null
            }
            _ => Value::Null,
        };
        Self {
            name,
            value,
            timestamp_ms,
            quality,
            status,
        }
    }

    /// A node that gives no value, and why.
    pub fn bad(name: Arc<str>, status: Cow<'static, str>) -> Self {
        Self {
            name,
            value: Value::Null,
            timestamp_ms: None,
            quality: Quality::Bad,
            status: Some(status),
        }
    }

    /// What is left of this value while the server is away.
    pub fn while_away(&self) -> Self {
        if self.quality == Quality::Bad {
            return Self::bad(Arc::clone(&self.name), Cow::Borrowed(NEVER));
        }
        Self {
            timestamp_ms: None,
            quality: Quality::Uncertain,
            status: Some(Cow::Borrowed(AWAY)),
            ..self.clone()
        }
    }
}

fn quality(status: StatusCode) -> Quality {
    if status.is_bad() {
        Quality::Bad
    } else if status.is_uncertain() {
        Quality::Uncertain
    } else {
        Quality::Good
    }
}

#[cfg(test)]
mod tests {
    use opcua::types::{DateTime, Variant};

    use super::*;

    fn sample(value: &DataValue, timestamp: Timestamp) -> Sample {
        Sample::of("a".into(), value, timestamp, None)
    }

    fn stamped(source: Option<DateTime>, server: Option<DateTime>) -> DataValue {
        DataValue {
            source_timestamp: source,
            server_timestamp: server,
            ..DataValue::value_only(1.5)
        }
    }

    #[test]
    fn the_timestamp_falls_back_from_source_to_server_to_arrival() {
        let source = Some(DateTime::ymd_hms(1970, 1, 1, 0, 0, 1));
        let server = Some(DateTime::ymd_hms(1970, 1, 1, 0, 0, 2));
        let null = Some(DateTime::null());
        let cases = [
            (source, server, Timestamp::Source, Some(1_000)),
            (None, server, Timestamp::Source, Some(2_000)),
            (null, server, Timestamp::Source, Some(2_000)),
            (None, None, Timestamp::Source, None),
            (source, server, Timestamp::Server, Some(2_000)),
            (source, null, Timestamp::Server, None),
            (source, server, Timestamp::Gather, None),
        ];
        for (source, server, timestamp, expected) in cases {
            let found = sample(&stamped(source, server), timestamp);
            assert_eq!(found.timestamp_ms, expected);
        }
    }

    #[test]
    fn status_codes_become_quality_and_name() {
        let cases = [
            (None, Quality::Good, None),
            (Some(StatusCode::Good), Quality::Good, None),
            (
                Some(StatusCode::Good.set_overflow(true)),
                Quality::Good,
                None,
            ),
            (
                Some(StatusCode::GoodClamped),
                Quality::Good,
                Some("GoodClamped"),
            ),
            (
                Some(StatusCode::UncertainSubNormal),
                Quality::Uncertain,
                Some("UncertainSubNormal"),
            ),
            (
                Some(StatusCode::BadSensorFailure),
                Quality::Bad,
                Some("BadSensorFailure"),
            ),
        ];
        for (status, quality, name) in cases {
            let value = DataValue {
                status,
                ..DataValue::value_only(1.5)
            };
            let found = sample(&value, Timestamp::Gather);
            assert_eq!((found.quality, found.status.as_deref()), (quality, name));
            let is_null = found.value == Value::Null;
            assert_eq!(is_null, quality == Quality::Bad);
        }
    }

    #[test]
    fn a_structure_that_nobody_describes_is_bad() {
        let range = opcua::types::Range {
            low: 0.0,
            high: 1.0,
        };
        let object = opcua::types::ExtensionObject::from_message(range);
        let value = DataValue::value_only(Variant::from(object));
        let found = sample(&value, Timestamp::Gather);
        assert_eq!(
            found,
            Sample::bad("a".into(), "BadDataEncodingUnsupported".into())
        );
    }

    #[test]
    fn a_value_is_uncertain_while_the_server_is_away() {
        let good = sample(&DataValue::value_only(1.5), Timestamp::Gather);
        let away = good.while_away();
        assert_eq!(
            (away.value, away.quality),
            (Value::Float(1.5), Quality::Uncertain)
        );
        assert_eq!(away.status.as_deref(), Some(AWAY));
        let bad = Sample::bad("a".into(), "BadSensorFailure".into()).while_away();
        assert_eq!(
            (bad.quality, bad.status.as_deref()),
            (Quality::Bad, Some(NEVER))
        );
    }
}
