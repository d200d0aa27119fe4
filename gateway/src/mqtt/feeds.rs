//! The partitions of the MQTT namespace and reading messages from them.

use std::collections::HashMap;

use bytes::Bytes;
use forebay_records::records;
use forebay_storage::{Partition, ReadError, Storage};

use super::message::Message;
use crate::ingest::routes::Routes;

/// Largest batch a reader decompresses: batches of Kafka producers are bounded
/// by `max.message.bytes`, and this is far above what they compress to usually.
const DECOMPRESSED_LEN_MAX: usize = 64 << 20;

/// Number of a partition of the namespace within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId(pub u32);

/// A partition's name that survives restarts and tells a recreated topic from
/// its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedKey {
    /// The topic's id.
    pub topic: [u8; 16],
    /// The partition's index.
    pub partition: u32,
}

/// A partition whose records belong to the MQTT namespace.
#[derive(Clone)]
pub struct Feed {
    /// Its lasting name.
    pub key: FeedKey,
    /// The log.
    pub partition: Partition,
}

/// All partitions of the MQTT namespace, numbered as they appear.
#[derive(Default)]
pub struct Feeds {
    feeds: Vec<Feed>,
    by_key: HashMap<FeedKey, FeedId>,
}

impl Feeds {
    /// Adds what the storage has and this does not know yet, and returns it.
    pub fn refresh(&mut self, storage: &Storage, routes: &Routes) -> Vec<FeedId> {
        let mut added = Vec::new();
        for topic in storage.topics() {
            if !routes.covers_topic(topic.name()) {
                continue;
            }
            for index in 0..topic.partition_count() {
                let key = FeedKey {
                    topic: topic.id(),
                    partition: index,
                };
                if self.by_key.contains_key(&key) {
                    continue;
                }
                let Some(partition) = topic.partition(index) else {
                    continue;
                };
                let id = FeedId(self.feeds.len() as u32);
                self.feeds.push(Feed { key, partition });
                self.by_key.insert(key, id);
                added.push(id);
            }
        }
        added
    }

    /// The feed of a number that this handed out.
    pub fn feed(&self, id: FeedId) -> &Feed {
        &self.feeds[id.0 as usize]
    }

    /// The number of a feed by its lasting name.
    pub fn find(&self, key: &FeedKey) -> Option<FeedId> {
        self.by_key.get(key).copied()
    }

    /// All numbers in use.
    pub fn ids(&self) -> impl Iterator<Item = FeedId> + use<> {
        (0..self.feeds.len() as u32).map(FeedId)
    }
}

/// What a reader found.
pub struct Page {
    /// Messages with their offsets, ascending.
    pub messages: Vec<(u64, Message)>,
    /// The offset to read from next.
    pub next_offset: u64,
    /// Offsets that retention had removed before they were read.
    pub lost: u64,
}

/// Reads the messages from `from` on, about `max_bytes` of batches. Blocks on
/// the disk.
///
/// Records outside the namespace and batches that do not decode are passed
/// over; the log reports damage elsewhere.
///
/// # Errors
/// When the topic was deleted or the disk refuses.
pub fn read_page(partition: &Partition, from: u64, max_bytes: usize) -> Result<Page, ReadError> {
    let log_start = partition.offsets().log_start;
    let start = from.max(log_start);
    let chunk = match partition.read(start, max_bytes, true) {
        Ok(chunk) => chunk,
        Err(ReadError::OffsetOutOfRange {
            log_start,
            high_watermark,
            ..
        }) => {
            let next_offset = start.clamp(log_start, high_watermark.max(log_start));
            return Ok(Page {
                messages: Vec::new(),
                next_offset,
                lost: next_offset.saturating_sub(from),
            });
        }
        Err(error) => return Err(error),
    };
    let mut messages = Vec::new();
    let mut next_offset = start;
    for batch in &chunk.batches {
        let Ok(header) = forebay_records::BatchHeader::parse(batch) else {
            continue;
        };
        next_offset = next_offset.max(u64::try_from(header.next_offset()).unwrap_or(0));
        let Ok(found) = records(batch, DECOMPRESSED_LEN_MAX) else {
            continue;
        };
        for record in found.map_while(Result::ok) {
            let offset = u64::try_from(record.offset).unwrap_or(0);
            if offset < start {
                continue;
            }
            if let Some(message) = Message::from_record(&record) {
                messages.push((offset, message));
            }
        }
    }
    if chunk.batches.is_empty() {
        // Only a gap lies between here and the high watermark.
        next_offset = next_offset.max(chunk.high_watermark);
    }
    Ok(Page {
        messages,
        next_offset,
        lost: start.saturating_sub(from),
    })
}

/// Copies a message out of the batch it shares memory with, so that one waiting
/// message does not hold a whole read buffer.
pub fn detach(message: &Message) -> Message {
    message
        .clone()
        .map_bytes(|bytes| Bytes::copy_from_slice(bytes))
}
