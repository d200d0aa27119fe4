//! What the broker remembers per partition beside the log.
//!
//! A book is a view: the append rules come from the topic's configs, the
//! producer windows and the tail digest from the log. It is filled when the
//! first request needs it. Reading the log happens without the book's lock, so
//! a handler that may not block never waits for a disk.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_kafka::append_condition::lineage;
use forebay_records::{BatchHeader, records};
use forebay_storage::{Partition, ReadError, Storage, Ticket, Transaction};
use parking_lot::{Mutex, RwLock};

use crate::producer_state::{Producers, SequencedBatch};
use crate::topic_config::AppendRules;

/// Bytes appended between two producer snapshots: a start replays at most this
/// much per partition, about 50 ms from an SD card, and a snapshot of some KB
/// adds less than 0.1 % to the writes.
const SNAPSHOT_EVERY_BYTES: usize = 16 * 1024 * 1024;

/// Bytes read per step while producer windows are rebuilt.
const REPLAY_CHUNK_BYTES: usize = 1024 * 1024;

/// Decompressed size accepted when one stored record is looked up; stored
/// batches passed the same limit when they were appended.
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 64 * 1024 * 1024;

type PartitionKey = ([u8; 16], u32);

/// The books of all partitions in use.
#[derive(Default)]
pub(crate) struct Books {
    by_partition: RwLock<HashMap<PartitionKey, Arc<Mutex<Book>>>>,
}

/// The book of one partition.
pub(crate) struct Book {
    key: PartitionKey,
    /// Append rules, resolved from the topic's configs.
    pub(crate) rules: Option<AppendRules>,
    /// Producer windows, absent until they are rebuilt.
    pub(crate) producers: Option<Producers<Ticket>>,
    /// Digest of the last record, absent until a conditional append asks.
    pub(crate) tail: Option<Tail>,
    bytes_since_snapshot: usize,
}

/// The record before the log end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Log end that it belongs to.
    pub(crate) next_offset: u64,
    /// Its digest; absent when the log holds no record there.
    pub(crate) lineage: Option<u32>,
}

impl Books {
    pub(crate) fn open(&self, topic_id: [u8; 16], index: u32) -> Arc<Mutex<Book>> {
        let key = (topic_id, index);
        if let Some(book) = self.by_partition.read().get(&key) {
            return Arc::clone(book);
        }
        let mut books = self.by_partition.write();
        let new = || Book {
            key,
            rules: None,
            producers: None,
            tail: None,
            bytes_since_snapshot: 0,
        };
        Arc::clone(
            books
                .entry(key)
                .or_insert_with(|| Arc::new(Mutex::new(new()))),
        )
    }

    /// Lets the rules be resolved again after a config change.
    pub(crate) fn forget_rules(&self, topic_id: [u8; 16]) {
        for (key, book) in self.by_partition.read().iter() {
            if key.0 == topic_id {
                book.lock().rules = None;
            }
        }
    }

    /// Drops the books of a deleted topic together with their snapshots.
    pub(crate) fn forget_topic(&self, storage: &Storage, topic_id: [u8; 16]) {
        self.by_partition.write().retain(|key, _| key.0 != topic_id);
        let mut transaction = Transaction::new();
        for (key, _) in storage.scan_prefix(&topic_prefix(topic_id)) {
            transaction.delete(&key);
        }
        // A snapshot that stays behind names a topic id that never returns.
        let _ = storage.commit(transaction);
    }

    pub(crate) fn snapshot_all(&self, storage: &Storage) {
        let books: Vec<_> = self.by_partition.read().values().cloned().collect();
        for book in books {
            let mut book = book.lock();
            if book.bytes_since_snapshot > 0 {
                book.snapshot(storage);
            }
        }
    }
}

impl Book {
    /// Notes an append and writes a snapshot when enough was appended.
    pub(crate) fn appended(&mut self, storage: &Storage, bytes: usize) {
        self.bytes_since_snapshot += bytes;
        if self.bytes_since_snapshot >= SNAPSHOT_EVERY_BYTES {
            self.snapshot(storage);
        }
    }

    fn snapshot(&mut self, storage: &Storage) {
        let Some(producers) = self
            .producers
            .as_ref()
            .filter(|producers| !producers.is_empty())
        else {
            return;
        };
        let Some(end) = storage
            .topic_by_id(&self.key.0)
            .and_then(|topic| topic.partition(self.key.1))
            .map(|partition| partition.offsets().log_end)
        else {
            return;
        };
        let mut transaction = Transaction::new();
        transaction.put(&snapshot_key(self.key), &producers.snapshot(end as i64));
        // Without the snapshot the next start replays more; nothing is lost.
        if storage.commit(transaction).is_ok() {
            self.bytes_since_snapshot = 0;
        }
    }
}

/// Rebuilds the producer windows of a partition from its snapshot and the
/// batches behind it. Reads files.
///
/// # Errors
/// [`ReadError`] when the log cannot be read.
pub(crate) fn load_producers(
    storage: &Storage,
    topic_id: [u8; 16],
    partition: &Partition,
    now_ms: i64,
) -> Result<Producers<Ticket>, ReadError> {
    let offsets = partition.offsets();
    let stored = storage.get(&snapshot_key((topic_id, partition.index())));
    let restored = stored.and_then(|bytes| Producers::restore(&bytes).ok());
    let (mut producers, through) = match restored {
        Some((producers, through)) if through as u64 <= offsets.log_end => {
            (producers, through as u64)
        }
        _ => (Producers::default(), 0),
    };
    let mut from = through.max(offsets.log_start);
    while from < offsets.high_watermark {
        let chunk = partition.read(from, REPLAY_CHUNK_BYTES, true)?;
        for batch in &chunk.batches {
            replay(&mut producers, batch, now_ms);
        }
        if chunk.next_offset <= from {
            break;
        }
        from = chunk.next_offset;
    }
    Ok(producers)
}

fn replay(producers: &mut Producers<Ticket>, batch: &[u8], now_ms: i64) {
    let Ok(header) = BatchHeader::parse(batch) else {
        return;
    };
    if let Some(sequenced) = sequenced(&header) {
        let append_time_ms = if header.uses_log_append_time() {
            header.max_timestamp
        } else {
            -1
        };
        producers.replay(&sequenced, header.base_offset, append_time_ms, now_ms);
    }
}

/// The producer's numbering of a batch, absent without a producer id.
pub(crate) fn sequenced(header: &BatchHeader) -> Option<SequencedBatch> {
    (header.producer_id >= 0).then_some(SequencedBatch {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        last_offset_delta: header.last_offset_delta,
        crc: header.crc,
    })
}

/// Digest of the record at `offset`, absent when the log holds none there
/// (removed, or in a gap). Waits until the record is durable and reads files.
///
/// # Errors
/// [`ReadError`] when the log cannot be read.
pub(crate) fn lineage_at(
    storage: &Storage,
    partition: &Partition,
    offset: u64,
) -> Result<Option<u32>, ReadError> {
    if partition.offsets().high_watermark <= offset {
        storage.wait(storage.fence());
    }
    let chunk = match partition.read(offset, 1, true) {
        Ok(chunk) => chunk,
        Err(ReadError::OffsetOutOfRange { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    for batch in &chunk.batches {
        if let Ok(mut found) = records(batch, MAX_DECOMPRESSED_BYTES)
            && let Some(Ok(record)) =
                found.find(|r| r.as_ref().map_or(true, |r| r.offset as u64 == offset))
        {
            return Ok(Some(record_lineage(
                record.offset,
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
            )));
        }
    }
    Ok(None)
}

/// Digest of the last record of a batch that gets `last_offset` in the log.
pub(crate) fn last_lineage(batch: &bytes::Bytes, last_offset: u64) -> Option<u32> {
    let last = records(batch, MAX_DECOMPRESSED_BYTES).ok()?.last()?.ok()?;
    Some(record_lineage(
        last_offset as i64,
        last.timestamp,
        last.key.as_deref(),
        last.value.as_deref(),
    ))
}

fn record_lineage(offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    lineage(crc32c::crc32c_append, offset, timestamp_ms, key, value)
}

fn topic_prefix(topic_id: [u8; 16]) -> Vec<u8> {
    let hex: String = topic_id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("b/p/{hex}/").into_bytes()
}

fn snapshot_key((topic_id, index): PartitionKey) -> Vec<u8> {
    let mut key = topic_prefix(topic_id);
    key.extend_from_slice(index.to_string().as_bytes());
    key
}
