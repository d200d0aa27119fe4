//! From samples to records of the log.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use forebay_records::{BatchBuilder, Compression, RecordRef};
use forebay_sparkplug::{Sample, SampleQuality, Value as Plain};
use forebay_storage::{AppendError, AppendOptions, Partition, Transaction};

use crate::ingest::{Ingest, MissingTopic, Target};
use crate::mqtt::message::Message;
use crate::readings::{Quality, Reading, Tag, Value};

/// Tags kept by path, about 30 MB when full; a gateway has some ten thousand.
const TAGS_MAX: usize = 131_072;

/// A batch is closed at this size: well below what consumers fetch at once.
const BATCH_LEN: usize = 512 << 10;

/// A record that is ready to be placed.
pub(super) struct Ready {
    pub path: Arc<str>,
    pub timestamp_ms: i64,
    pub json: Vec<u8>,
}

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
            json,
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

/// Why records could not be placed.
pub(super) enum Unplaced {
    /// A topic has to be created first.
    Missing(MissingTopic),
    /// A record does not fit a batch.
    Malformed(AppendError),
}

/// Collects records by partition, in their order, as batches of a transaction.
#[derive(Default)]
pub(super) struct Batches {
    open: Vec<(Partition, BatchBuilder)>,
}

impl Batches {
    /// Adds a reading where the routes put its path.
    pub fn add(
        &mut self,
        ingest: &Ingest,
        ready: &Ready,
        transaction: &mut Transaction,
    ) -> Result<(), Unplaced> {
        let target = match ingest.target(&ready.path) {
            Ok(target) => target,
            // A route with durability "memory" has no topic: the reading would
            // be in no log, and there is no one but its readers to have it.
            Err(missing) if missing.name.is_empty() => return Ok(()),
            Err(missing) => return Err(Unplaced::Missing(missing)),
        };
        let path = ready.path.as_bytes();
        let routed = [(Message::TOPIC_HEADER, Some(path))];
        let (key, headers) = match &target.key {
            None => (path, &[][..]),
            Some(key) => (key.as_bytes(), &routed[..]),
        };
        let record = RecordRef {
            timestamp: ready.timestamp_ms,
            key: Some(key),
            value: Some(&ready.json),
            headers,
        };
        self.push(&target, &record, transaction)
    }

    /// Closes all batches.
    pub fn finish(self, transaction: &mut Transaction) -> Result<(), Unplaced> {
        for (partition, builder) in self.open {
            append(&partition, builder, transaction)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        target: &Target,
        record: &RecordRef<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), Unplaced> {
        let partition = &target.partition;
        let is_it = |open: &(Partition, BatchBuilder)| {
            open.0.index() == partition.index() && open.0.topic_name() == partition.topic_name()
        };
        let at = match self.open.iter().position(is_it) {
            Some(at) => at,
            None => {
                self.open.push((partition.clone(), BatchBuilder::new()));
                self.open.len() - 1
            }
        };
        let builder = &mut self.open[at].1;
        builder.push(record);
        if builder.bytes() >= BATCH_LEN {
            let full = std::mem::take(builder);
            append(partition, full, transaction)?;
        }
        Ok(())
    }
}

fn append(
    partition: &Partition,
    builder: BatchBuilder,
    transaction: &mut Transaction,
) -> Result<(), Unplaced> {
    if builder.is_empty() {
        return Ok(());
    }
    let batch = builder.finish(Compression::None).map_err(|error| {
        Unplaced::Malformed(AppendError::Malformed {
            reason: error.to_string(),
        })
    })?;
    transaction.append_batch(partition, batch, AppendOptions::default());
    Ok(())
}
