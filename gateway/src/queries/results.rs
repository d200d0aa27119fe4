//! What a query puts into the log: rows, alerts, and records it did not take.

use std::sync::Arc;

use bytes::Bytes;
use forebay_analytics::alerts::{AlertEvent, Transition};
use forebay_analytics::operators::{Chunk, Refusal};
use forebay_analytics::plan::Plan;
use forebay_analytics::query::{Output, write_alert, write_row};
use forebay_analytics::value::Value;
use forebay_mqtt::{Text, TopicName};

use super::sources::{Portion, Sources};
use super::{ALERTS_PREFIX, RESULTS_PREFIX};
use crate::ingest::batches::Ready;
use crate::mqtt::message::Message;

/// The name of the query that wrote a record.
pub const QUERY_HEADER: &[u8] = b"query";
/// Why a record was not taken: `late`, `ahead`, `memory`.
pub const REASON_HEADER: &[u8] = b"reason";
/// Where the record lies that was not taken: `topic/partition/offset`.
pub const SOURCE_HEADER: &[u8] = b"source";

/// A record that was not taken.
pub struct Late {
    /// A copy of it, below the results' path.
    pub copy: Ready,
    /// Why.
    pub reason: &'static str,
    /// Where the original is.
    pub source: String,
}

/// An alert that begins or ends.
pub struct Change {
    /// What identifies it from raising to clearing.
    pub id: String,
    /// Whether it begins.
    pub is_raised: bool,
    /// What subscribers get.
    pub message: Message,
}

/// Results of one or more calls that wait for their commit.
#[derive(Default)]
pub struct Results {
    /// Result rows.
    pub rows: Vec<Ready>,
    /// Alerts.
    pub alerts: Vec<Change>,
    /// Records that were not taken.
    pub late: Vec<Late>,
}

impl Results {
    /// Whether there is nothing to put into the log.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.alerts.is_empty() && self.late.is_empty()
    }
}

/// Turns what a query says into records.
pub struct Writer {
    query: String,
    /// The path of results: prefix and topic.
    path: String,
}

impl Writer {
    /// A writer for the query of a name with this topic for results.
    pub fn new(query: &str, topic: &str) -> Self {
        Self {
            query: query.to_owned(),
            path: format!("{RESULTS_PREFIX}{topic}"),
        }
    }

    /// Adds an output. `portion` is what was handed in for it.
    pub fn write(
        &self,
        plan: &Plan,
        output: &Output,
        portion: &Portion,
        sources: &Sources,
        results: &mut Results,
    ) {
        let shown = &plan.output[..plan.output.len() - plan.hidden];
        for chunk in &output.rows {
            for row in 0..chunk.rows() {
                let mut json = String::with_capacity(128);
                write_row(shown, &chunk.batch, row, &mut json);
                results.rows.push(Ready {
                    path: self.row_path(plan, chunk, row),
                    timestamp_ms: chunk.times[row].max(0),
                    value: json.into_bytes(),
                });
            }
        }
        let changes = output.alerts.iter().filter_map(|event| self.change(event));
        results.alerts.extend(changes);
        for refused in &output.refused {
            let place = refused.record.map(|record| record as usize);
            let Some((feed, record)) = place.and_then(|place| portion.records.get(place)) else {
                continue;
            };
            let path = super::path_of(record).unwrap_or_default();
            results.late.push(Late {
                copy: Ready {
                    path: fitting(format!("{}/late/{path}", self.path), &self.path),
                    timestamp_ms: record.timestamp.max(0),
                    value: record.value.as_deref().unwrap_or_default().to_vec(),
                },
                reason: match refused.reason {
                    Refusal::Late => "late",
                    Refusal::Ahead => "ahead",
                    Refusal::Memory => "memory",
                },
                source: format!(
                    "{}/{}/{}",
                    sources.topic(*feed),
                    sources.partition(*feed),
                    record.offset
                ),
            });
        }
    }

    /// Below the path of the results, the values of the key.
    fn row_path(&self, plan: &Plan, chunk: &Chunk, row: usize) -> Arc<str> {
        let mut path = self.path.clone();
        for column in &plan.key {
            push_level(&chunk.batch.column(*column).value(row), &mut path);
        }
        fitting(path, &self.path)
    }

    fn change(&self, event: &AlertEvent) -> Option<Change> {
        let mut json = String::with_capacity(256);
        write_alert(&self.query, event, &mut json);
        let parsed: serde_json::Value = serde_json::from_str(&json).ok()?;
        let start = format!("{ALERTS_PREFIX}{}/{}", self.query, event.alert);
        let mut path = start.clone();
        for (_, value) in &event.key {
            push_level(value, &mut path);
        }
        let is_raised = event.transition == Transition::Raised;
        Some(Change {
            id: parsed["id"].as_str()?.to_owned(),
            is_raised,
            message: Message {
                path: topic_name(&path).or_else(|| topic_name(&start))?,
                payload: Bytes::from(json),
                qos: 1,
                retain: is_raised,
                timestamp_ms: event.time_ms.max(0),
                properties: None,
            },
        })
    }
}

/// A message's path from a text.
pub fn topic_name(path: &str) -> Option<TopicName> {
    let text = Text::from_bytes(Bytes::copy_from_slice(path.as_bytes())).ok()?;
    TopicName::new(text).ok()
}

/// The path, or the shorter one if it is longer than a topic name can be.
fn fitting(path: String, shorter: &str) -> Arc<str> {
    match topic_name(&path) {
        Some(_) => path.into(),
        None => shorter.into(),
    }
}

/// Appends a value as a level of a path. A text with slashes is several.
fn push_level(value: &Value, path: &mut String) {
    use std::fmt::Write;
    path.push('/');
    // Writing to a string does not fail.
    let _ = match value {
        Value::Text(text) if text.is_empty() => path.write_char('_'),
        Value::Text(text) => {
            let plain = |letter| match letter {
                '+' | '#' | '\0' => '_',
                other => other,
            };
            path.extend(text.chars().map(plain));
            Ok(())
        }
        Value::Bool(flag) => write!(path, "{flag}"),
        Value::Int(number) | Value::Timestamp(number) | Value::Interval(number) => {
            write!(path, "{number}")
        }
        Value::Float(number) => write!(path, "{number}"),
        Value::Null | Value::Waveform(_) => path.write_char('_'),
    };
}
