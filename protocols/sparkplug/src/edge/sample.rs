//! From the metrics of a payload to samples.

use std::sync::Arc;

use super::Message;
use super::scope::{Definition, Scope};
use crate::payload::{Metric, RawValue};
use crate::value::Value;

/// One value of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of what.
    pub definition: Arc<Definition>,
    /// The value.
    pub value: Value,
    /// The metric's time, else the payload's, else that of arrival.
    pub timestamp_ms: i64,
    /// How far it can be trusted.
    pub quality: SampleQuality,
    /// The sender calls it historical.
    pub is_historical: bool,
}

/// How far a sample can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleQuality {
    /// As the device has it.
    Good,
    /// The sender gives a quality code that the specification does not have.
    Uncertain,
    /// The sender says it is bad (quality code 0).
    Bad,
    /// The edge node or the device is gone, or says so (quality code 500).
    Stale,
    /// The value does not fit its type.
    TypeMismatch,
}

pub(super) fn is_template_definition(metric: &Metric<'_>) -> bool {
    matches!(&metric.value, Some(RawValue::Template(template)) if template.is_definition)
}

/// Appends the value of a metric; of a template, the values of its members.
pub(super) fn emit(
    scope: &mut Scope,
    definition: &Arc<Definition>,
    metric: &Metric<'_>,
    message: Message<'_>,
    samples: &mut Vec<Sample>,
) {
    if let Some(RawValue::Template(template)) = &metric.value
        && !metric.is_null
    {
        for member in &template.metrics {
            if let Some(definition) = scope.member(definition, member) {
                let timed = Metric {
                    timestamp: member.timestamp.or(metric.timestamp),
                    is_historical: member.is_historical || metric.is_historical,
                    ..member.clone()
                };
                emit(scope, &definition, &timed, message, samples);
            }
        }
        return;
    }
    let sent_ms = timestamp(message.payload.timestamp, message.received_ms);
    let datatype = metric.datatype.or(definition.datatype);
    let (value, quality) = match &metric.value {
        _ if metric.is_null => (Value::Null, SampleQuality::Good),
        None => (Value::Null, SampleQuality::Good),
        Some(raw) => match Value::new(raw, datatype) {
            Ok(value) => (value, SampleQuality::Good),
            Err(_) => (Value::Null, SampleQuality::TypeMismatch),
        },
    };
    // Section 6.4.12: three codes, and none means good.
    let (value, quality) = match metric.integer_property("Quality") {
        None | Some(192) => (value, quality),
        Some(0) => (Value::Null, SampleQuality::Bad),
        Some(500) => (Value::Null, SampleQuality::Stale),
        Some(_) if quality == SampleQuality::Good => (value, SampleQuality::Uncertain),
        Some(_) => (value, quality),
    };
    samples.push(Sample {
        definition: Arc::clone(definition),
        value,
        timestamp_ms: timestamp(metric.timestamp, sent_ms),
        quality,
        is_historical: metric.is_historical,
    });
}

pub(super) fn stale(definition: &Arc<Definition>, timestamp_ms: i64) -> Sample {
    Sample {
        definition: Arc::clone(definition),
        value: Value::Null,
        timestamp_ms,
        quality: SampleQuality::Stale,
        is_historical: false,
    }
}

/// A time of the payload; without one, or with an impossible one, `otherwise`.
pub(super) fn timestamp(from: Option<u64>, otherwise: i64) -> i64 {
    from.and_then(|ms| i64::try_from(ms).ok())
        .unwrap_or(otherwise)
}
