//! Follows the log for as long as somebody looks.

use std::sync::Arc;

use forebay_records::Record;
use forebay_storage::{Chunk, Partition, ReadError, Storage};
use parking_lot::Mutex;

use super::paths::{Paths, Seen};
use crate::chunks::each_reading;
use crate::queries::path_of;

/// Bytes of one read at most, and of the end of a partition that is read first.
const READ_LEN: usize = 256 << 10;
/// The same with many partitions, which share a step.
const READ_LEN_MIN: usize = 16 << 10;
/// Bytes read in one step, so that a step takes some tens of milliseconds.
const STEP_LEN: usize = 8 << 20;
/// Bytes of a partition that may be unread. Beyond it the newest are read and
/// the others are not: a page shows what is, not what was.
const BEHIND_LEN_MAX: u64 = 4 << 20;
/// Bytes of the past that are looked through for paths that were silent since.
const PAST_LEN_MAX: u64 = 256 << 20;

struct Feed {
    id: [u8; 16],
    topic: Arc<str>,
    partition: Partition,
    /// The next offset.
    head: u64,
    /// The first offset that was read.
    floor: u64,
}

/// What a step leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Records that came since.
    Newer,
    /// Records of the past.
    Older,
    /// Nothing.
    Nothing,
}

/// Reads all partitions, the newest records first.
pub struct Watcher {
    storage: Storage,
    paths: Arc<Mutex<Paths>>,
    feeds: Vec<Feed>,
    past_len: u64,
}

impl Watcher {
    /// A watcher that has seen nothing.
    pub fn new(storage: Storage, paths: Arc<Mutex<Paths>>) -> Self {
        Self {
            storage,
            paths,
            feeds: Vec::new(),
            past_len: 0,
        }
    }

    /// Reads some of what is new or, when nothing is, of the past. Blocks on
    /// the log.
    pub fn step(&mut self) -> Left {
        self.refresh();
        // Each has its share, so that a busy partition does not hide the others.
        let share = (STEP_LEN / self.feeds.len().max(1)).clamp(READ_LEN_MIN, READ_LEN);
        let mut is_behind = false;
        for feed in &mut self.feeds {
            if feed.is_behind() {
                feed.forward(share, &self.paths);
                is_behind |= feed.is_behind();
            }
        }
        if is_behind {
            return Left::Newer;
        }
        let mut budget = STEP_LEN;
        while budget > 0 && self.past_len < PAST_LEN_MAX {
            let Some(feed) = self.feeds.iter_mut().find(|feed| feed.has_past()) else {
                return Left::Nothing;
            };
            let len = feed.backward(&self.paths);
            self.past_len += len as u64;
            budget = budget.saturating_sub(len);
        }
        match self.past_len < PAST_LEN_MAX {
            true => Left::Older,
            false => Left::Nothing,
        }
    }

    fn refresh(&mut self) {
        let topics = self.storage.topics();
        let partitions: u32 = topics.iter().map(|topic| topic.partition_count()).sum();
        let tail = (STEP_LEN / partitions.max(1) as usize).clamp(READ_LEN_MIN, READ_LEN);
        let paths = &self.paths;
        self.feeds.retain(|feed| {
            let lives = topics.iter().any(|topic| topic.id() == feed.id);
            if !lives {
                paths.lock().forget_topic(&feed.topic);
            }
            lives
        });
        for topic in topics {
            let name: Arc<str> = topic.name().into();
            for index in 0..topic.partition_count() {
                let is_it = |feed: &Feed| feed.id == topic.id() && feed.partition.index() == index;
                if self.feeds.iter().any(is_it) {
                    continue;
                }
                if let Some(partition) = topic.partition(index) {
                    self.feeds
                        .push(Feed::new(topic.id(), Arc::clone(&name), partition, tail));
                }
            }
        }
    }
}

impl Feed {
    fn new(id: [u8; 16], topic: Arc<str>, partition: Partition, tail: usize) -> Self {
        let end = partition.offsets().high_watermark;
        let mut feed = Self {
            id,
            topic,
            partition,
            head: end,
            floor: end,
        };
        feed.head = before(&feed.partition, end, tail as u64);
        feed.floor = feed.head;
        feed
    }

    fn is_behind(&self) -> bool {
        self.head < self.partition.offsets().high_watermark
    }

    fn has_past(&self) -> bool {
        self.floor > self.partition.offsets().log_start
    }

    /// Reads on, about so many bytes.
    fn forward(&mut self, len: usize, paths: &Mutex<Paths>) {
        let end = self.partition.offsets().high_watermark;
        self.head = self.head.max(before(&self.partition, end, BEHIND_LEN_MAX));
        let chunk = match self.partition.read(self.head, len, true) {
            Ok(chunk) => chunk,
            Err(ReadError::OffsetOutOfRange { log_start, .. }) => {
                self.head = self.head.max(log_start).min(end);
                return;
            }
            Err(error) => {
                // Whoever writes to this disk says more about it.
                tracing::debug!(topic = &*self.topic, %error, "not shown");
                self.head = end;
                return;
            }
        };
        self.take(&chunk, self.head, u64::MAX, |seen| {
            paths.lock().observe(seen)
        });
        self.head = self.head.max(chunk.next_offset);
    }

    /// Reads what is before all that was read. Returns about how many bytes.
    fn backward(&mut self, paths: &Mutex<Paths>) -> usize {
        let to = self.floor;
        let mut from = before(&self.partition, to, READ_LEN as u64);
        self.floor = from;
        let mut len = 0;
        while from < to {
            let Ok(chunk) = self.partition.read(from, READ_LEN, true) else {
                break;
            };
            self.take(&chunk, from, to, |seen| paths.lock().observe_old(seen));
            if chunk.next_offset <= from {
                break;
            }
            from = chunk.next_offset;
            len += len_of(&chunk);
        }
        // A stretch without records is work as well.
        len.max(1)
    }

    fn take(&self, chunk: &Chunk, from: u64, to: u64, mut observe: impl FnMut(&Seen<'_>)) {
        each_reading(chunk, from, |record: Record| {
            let (Some(path), Some(payload)) = (path_of(&record), record.value.as_ref()) else {
                return;
            };
            if record.offset.unsigned_abs() < to {
                observe(&Seen {
                    path,
                    topic: &self.topic,
                    partition: self.partition.index(),
                    time_ms: record.timestamp,
                    payload,
                });
            }
        });
    }
}

/// The offset that is about `len` bytes before another one.
pub fn before(partition: &Partition, offset: u64, len: u64) -> u64 {
    let offsets = partition.offsets();
    let count = offsets.log_end.saturating_sub(offsets.log_start).max(1);
    let record_len = (partition.size_bytes() / count).max(1);
    offset
        .saturating_sub((len / record_len).max(1))
        .max(offsets.log_start)
        .min(offset)
}

fn len_of(chunk: &Chunk) -> usize {
    chunk.batches.iter().map(bytes::Bytes::len).sum()
}
