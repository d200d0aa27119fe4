//! From samples to readings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use forebay_sparkplug::{Sample, SampleQuality, Value as Plain};

use crate::ingest::batches::Ready;
use crate::readings::{Quality, Reading, Tag, Value};

/// Tags kept by path, about 30 MB when full; a gateway has some ten thousand.
const TAGS_MAX: usize = 131_072;

/// Turns samples into the JSON of readings.
#[derive(Default)]
pub(super) struct Renderer {
    tags: HashMap<String, Arc<Tag>>,
}

impl Renderer {
    /// The record of a sample below `prefix`; `None` when its path is longer
    /// than a topic name can be.
    pub fn render(&mut self, prefix: &str, sample: Sample) -> Option<Ready> {
        let definition = &sample.definition;
        let known = self.tags.get(definition.path.as_str());
        let tag = match known.filter(|tag| tag.unit() == definition.unit.as_deref()) {
            Some(tag) => Arc::clone(tag),
            None => {
                let path = format!("{prefix}/{}", definition.path);
                let tag = Tag::new(&path, definition.unit.as_deref()).ok()?;
                if self.tags.len() >= TAGS_MAX {
                    self.tags.clear();
                }
                let key = definition.path.clone();
                self.tags.insert(key, Arc::clone(&tag));
                tag
            }
        };
        let (quality, status) = match sample.quality {
            SampleQuality::Good if sample.is_historical => (Quality::Good, Some("historical")),
            SampleQuality::Good => (Quality::Good, None),
            SampleQuality::Uncertain => (Quality::Uncertain, Some("unknown-quality")),
            SampleQuality::Bad => (Quality::Bad, Some("bad")),
            SampleQuality::Stale => (Quality::Bad, Some("stale")),
            SampleQuality::TypeMismatch => (Quality::Bad, Some("type-mismatch")),
        };
        let reading = Reading {
            tag,
            value: value(sample.value),
            timestamp_ms: sample.timestamp_ms,
            quality,
            status: status.map(Cow::Borrowed),
        };
        let mut json = Vec::with_capacity(96);
        reading.write_json(&mut json);
        Some(Ready {
            path: reading.tag.path().into(),
            timestamp_ms: reading.timestamp_ms,
            value: json,
        })
    }
}

/// Bytes become hexadecimal text; a table becomes a list of rows, the first of
/// which has the names of the columns.
fn value(plain: Plain) -> Value {
    match plain {
        Plain::Null => Value::Null,
        Plain::Boolean(boolean) => Value::Bool(boolean),
        Plain::Signed(number) => Value::Signed(number),
        Plain::Unsigned(number) => Value::Unsigned(number),
        Plain::Float(float) => Value::from(float),
        Plain::Double(double) => Value::Float(double),
        Plain::Text(text) => Value::Text(text.into()),
        Plain::Bytes(bytes) => Value::Text(hexadecimal(&bytes).into()),
        Plain::List(elements) => Value::List(elements.into_iter().map(value).collect()),
        Plain::Table { columns, rows } => {
            let names = columns.into_iter().map(|name| Value::Text(name.into()));
            let names = Value::List(names.collect());
            let rows = rows.into_iter().map(|row| value(Plain::List(row)));
            Value::List(std::iter::once(names).chain(rows).collect())
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
