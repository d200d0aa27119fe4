//! The retained messages: the newest retained publish of each path.
//!
//! A retained publish is committed together with a copy of itself in the state
//! (a record batch of one, key `m/r/<path>`), so it outlives the segment it was
//! published in. The paths are also held in memory, in order, to find what a
//! filter matches without reading values.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use forebay_mqtt::{Text, TopicFilter, TopicName};
use forebay_records::{BatchBuilder, Compression, records};
use forebay_storage::{Storage, Transaction};
use parking_lot::Mutex;
use thiserror::Error;

use super::message::{Message, topic_name};

/// Most retained messages of a node. Each path costs memory for its name, and a
/// factory has some ten thousand things worth retaining.
pub const RETAINED_MAX: usize = 100_000;

/// Most bytes of all retained messages, copies in the state included in every
/// snapshot of the journal.
pub const RETAINED_BYTES_MAX: usize = 64 << 20;

const PREFIX: &[u8] = b"m/r/";

/// Why a message is not retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RetainError {
    /// The node retains as many messages or bytes as it may.
    #[error(
        "the node retains {count} messages with {bytes} bytes, expected at most {RETAINED_MAX} and {RETAINED_BYTES_MAX}"
    )]
    Quota {
        /// Retained messages.
        count: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The message does not fit a record.
    #[error("message does not fit a record")]
    Encode,
}

#[derive(Default)]
struct Index {
    sizes: BTreeMap<Text, usize>,
    bytes: usize,
}

/// The paths that have a retained message.
pub struct Retained {
    storage: Storage,
    index: Mutex<Index>,
}

impl Retained {
    /// Reads the paths from the state. Blocks on it.
    pub fn load(storage: Storage) -> Self {
        let mut index = Index::default();
        for (key, value) in storage.scan_prefix(PREFIX) {
            let path = Bytes::copy_from_slice(&key[PREFIX.len()..]);
            if let Some(path) = topic_name(&path) {
                index.bytes += value.len();
                index.sizes.insert(path.text().clone(), value.len());
            }
        }
        Self {
            storage,
            index: Mutex::new(index),
        }
    }

    /// Adds the change that a retained publish makes to its transaction: an
    /// empty payload removes, any other replaces.
    ///
    /// # Errors
    /// When the node retains too much; the publish is then refused.
    pub fn stage(
        &self,
        message: &Message,
        transaction: &mut Transaction,
    ) -> Result<Staged, RetainError> {
        let key = key(&message.path);
        if message.payload.is_empty() {
            transaction.delete(&key);
            return Ok(Staged { size: 0 });
        }
        let value = encode(message)?;
        let index = self.index.lock();
        let known = index.sizes.get(message.path.text()).copied();
        let count = index.sizes.len() + usize::from(known.is_none());
        let bytes = index.bytes - known.unwrap_or(0) + value.len();
        if count > RETAINED_MAX || bytes > RETAINED_BYTES_MAX {
            return Err(RetainError::Quota { count, bytes });
        }
        transaction.put(&key, &value);
        Ok(Staged { size: value.len() })
    }

    /// Takes note of a change whose transaction was committed.
    pub fn apply(&self, path: &TopicName, staged: Staged) {
        let mut index = self.index.lock();
        let before = if staged.size == 0 {
            index.sizes.remove(path.text())
        } else {
            // The name is copied, because it shares memory with its packet.
            let bytes = Bytes::copy_from_slice(path.text().as_bytes());
            let path = Text::from_bytes(bytes).expect("a copy of a text is a text");
            index.sizes.insert(path, staged.size)
        };
        index.bytes = index.bytes + staged.size - before.unwrap_or(0);
    }

    /// The paths with a retained message that match, in order.
    pub fn matching(&self, filter: &TopicFilter) -> Vec<TopicName> {
        let literal = literal_prefix(filter.as_str());
        let index = self.index.lock();
        let from: Bound<&[u8]> = Bound::Included(literal.as_bytes());
        index
            .sizes
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(path, _)| path.as_str().starts_with(literal))
            .filter_map(|(path, _)| TopicName::new(path.clone()).ok())
            .filter(|path| filter.matches(path))
            .collect()
    }

    /// The retained message of a path. Blocks on the state.
    pub fn read(&self, path: &TopicName) -> Option<Message> {
        let batch = Bytes::from(self.storage.get(&key(path))?);
        let len = batch.len();
        let record = records(&batch, len).ok()?.next()?.ok()?;
        Message::from_record(&record)
    }

    /// Number of retained messages.
    pub fn count(&self) -> usize {
        self.index.lock().sizes.len()
    }
}

/// A change of the retained messages inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    size: usize,
}

fn key(path: &TopicName) -> Vec<u8> {
    [PREFIX, path.text().as_bytes()].concat()
}

fn encode(message: &Message) -> Result<Bytes, RetainError> {
    let mut builder = BatchBuilder::new();
    message.with_record(None, |record| builder.push(record));
    let batch = builder.finish(Compression::None);
    batch.map_err(|_| RetainError::Encode)
}

/// The part of a filter in front of its first wildcard. Without a wildcard, it
/// is the filter; in front of `/#` the slash is left out, since `a/#` matches
/// `a`.
fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let literal = &filter[..end];
    if filter[end..].starts_with('#') {
        literal.strip_suffix('/').unwrap_or(literal)
    } else {
        literal
    }
}
