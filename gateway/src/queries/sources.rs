//! The partitions that a query reads, merged by the time of their records.
//!
//! While a query catches up, its partitions are read side by side, so that one
//! is never far ahead of another and few rows are late that were not late when
//! they came. What was handed in is described by [`Span`]s; reading the same
//! spans again gives the same records in the same order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use forebay_analytics::plan::Plan;
use forebay_records::Record;
use forebay_storage::{Partition, ReadError, Storage, Topic};
use serde::{Deserialize, Serialize};

use crate::chunks::each_reading;
use crate::config::Beginning;
use crate::ingest::routes::Routes;

/// Bytes read ahead for all partitions of a query together.
const READ_LEN: usize = 1 << 20;
/// Read ahead per partition at least: fewer would read a batch many times.
const READ_LEN_MIN: usize = 32 << 10;
/// Records handed in at once at most. What they lead to is one commit.
const PORTION_RECORDS: usize = 16_384;
/// Partitions of one query at most. More are not read and said to be too many.
const FEEDS_MAX: usize = 1_024;

/// Offsets of one partition that were handed in together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The log topic.
    pub topic: String,
    /// The topic's id: one that was deleted and made anew is another one.
    pub id: [u8; 16],
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: u64,
    /// The offset behind the last one.
    pub to: u64,
}

/// What is handed in at once.
#[derive(Default)]
pub struct Portion {
    /// Records in order, each with the place of its feed.
    pub records: Vec<(usize, Record)>,
    /// What they cover. Records that cannot be read are covered as well.
    pub spans: Vec<Span>,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Offsets that retention removed unread.
    pub lost: u64,
}

/// Why spans cannot be read again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Retention removed them.
    #[error("{topic}/{partition}: offsets {from}..{to} are not in the log any more")]
    Lost {
        /// The log topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// First offset.
        from: u64,
        /// Offset behind the last.
        to: u64,
    },
    /// The disk refused.
    #[error(transparent)]
    Read(#[from] ReadError),
}

struct Feed {
    id: [u8; 16],
    partition: Partition,
    /// The offset behind what was handed in.
    cursor: u64,
    /// The offset behind what was read.
    ahead: u64,
    buffer: VecDeque<Record>,
}

/// All partitions of a query, ordered by topic and number.
pub struct Sources {
    storage: Storage,
    /// Which topics are read: those that the query names, or all that may hold
    /// its paths.
    named: Vec<String>,
    filters: Vec<String>,
    feeds: Vec<Feed>,
    /// Of the topics that the node had at the last look.
    seen: u64,
}

impl Sources {
    /// The sources of a plan; no partition is known yet.
    pub fn new(storage: Storage, plan: &Plan) -> Self {
        let named = plan.scans.iter().flat_map(|scan| scan.topics.clone());
        let unnamed = plan.scans.iter().filter(|scan| scan.topics.is_empty());
        let filters = unnamed.flat_map(|scan| match scan.filters.is_empty() {
            true => vec!["#".to_owned()],
            false => scan.filters.clone(),
        });
        Self {
            storage,
            named: named.collect(),
            filters: filters.collect(),
            feeds: Vec::new(),
            seen: 0,
        }
    }

    /// The log topic of a feed.
    pub fn topic(&self, feed: usize) -> &str {
        self.feeds[feed].partition.topic_name()
    }

    /// The number of a feed's partition.
    pub fn partition(&self, feed: usize) -> u32 {
        self.feeds[feed].partition.index()
    }

    /// How far each partition was handed in, as spans without content.
    pub fn cursors(&self) -> Vec<Span> {
        let feeds = self.feeds.iter();
        feeds.map(|feed| feed.span(feed.cursor)).collect()
    }

    /// Goes on from these places.
    pub fn set_cursors(&mut self, cursors: &[Span]) {
        for feed in &mut self.feeds {
            let is_it = |span: &&Span| {
                span.id == feed.id
                    && span.partition == feed.partition.index()
                    && span.topic == feed.partition.topic_name()
            };
            if let Some(span) = cursors.iter().find(is_it) {
                feed.go_to(span.to);
            }
        }
    }

    /// Finds partitions that are new. They begin at their start, but for
    /// `beginning`, which says where those begin that a new query finds.
    pub fn refresh(&mut self, routes: &Routes, beginning: Beginning) {
        self.feeds.retain(
            |feed| match self.storage.topic(feed.partition.topic_name()) {
                Some(topic) => topic.id() == feed.id,
                None => false,
            },
        );
        let topics = self.storage.topics();
        self.seen = fingerprint(&topics);
        for topic in topics {
            if !self.reads(topic.name(), routes) {
                continue;
            }
            for index in 0..topic.partition_count() {
                let is_it = |feed: &Feed| feed.id == topic.id() && feed.partition.index() == index;
                if self.feeds.iter().any(is_it) || self.feeds.len() >= FEEDS_MAX {
                    continue;
                }
                let Some(partition) = topic.partition(index) else {
                    continue;
                };
                let offsets = partition.offsets();
                let start = match beginning {
                    Beginning::Latest => offsets.high_watermark,
                    Beginning::Earliest => offsets.log_start,
                };
                self.feeds.push(Feed {
                    id: topic.id(),
                    partition,
                    cursor: start,
                    ahead: start,
                    buffer: VecDeque::new(),
                });
            }
        }
        self.feeds.sort_by(|a, b| a.place().cmp(&b.place()));
    }

    /// Whether the node has other topics or partitions than at the last look.
    pub fn has_changed(&self) -> bool {
        fingerprint(&self.storage.topics()) != self.seen
    }

    /// Whether there is anything to hand in.
    pub fn is_behind(&self) -> bool {
        self.feeds.iter().any(Feed::is_behind)
    }

    /// Records that were not handed in yet.
    pub fn lag(&self) -> u64 {
        let lag = |feed: &Feed| {
            let end = feed.partition.offsets().high_watermark;
            end.saturating_sub(feed.cursor)
        };
        self.feeds.iter().map(lag).sum()
    }

    /// Keeps what follows these places from being removed.
    pub fn hold(&self, name: &str, places: &[Span]) {
        for feed in &self.feeds {
            let is_it =
                |span: &&Span| span.id == feed.id && span.partition == feed.partition.index();
            let from = places
                .iter()
                .find(is_it)
                .map_or(feed.cursor, |span| span.to);
            feed.partition.hold(name, Some(from));
        }
    }

    /// Lets go of everything.
    pub fn release(&self, name: &str) {
        for feed in &self.feeds {
            feed.partition.hold(name, None);
        }
    }

    /// Takes what comes next; empty at the end of the log. Blocks on it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn take(&mut self) -> Result<Portion, ReadError> {
        let mut portion = Portion::default();
        let read_len = (READ_LEN / self.feeds.len().max(1)).max(READ_LEN_MIN);
        for feed in &mut self.feeds {
            if feed.buffer.is_empty() && feed.is_behind() {
                portion.lost += feed.fill(read_len)?;
            }
        }
        let before: Vec<u64> = self.feeds.iter().map(|feed| feed.cursor).collect();
        let mut heads = self.heads();
        while portion.records.len() < PORTION_RECORDS && portion.bytes < READ_LEN {
            let Some(Reverse((_, place))) = heads.pop() else {
                break;
            };
            let feed = &mut self.feeds[place];
            let Some(record) = feed.buffer.pop_front() else {
                continue;
            };
            feed.cursor = match feed.buffer.front() {
                Some(next) => {
                    heads.push(Reverse((next.timestamp, place)));
                    next.offset.unsigned_abs()
                }
                None => feed.ahead,
            };
            portion.bytes += record.key.as_ref().map_or(0, bytes::Bytes::len)
                + record.value.as_ref().map_or(0, bytes::Bytes::len);
            portion.records.push((place, record));
            if feed.buffer.is_empty() && feed.is_behind() {
                // What it has next may be older than what the others have.
                break;
            }
        }
        for (feed, before) in self.feeds.iter().zip(before) {
            if feed.cursor != before {
                portion.spans.push(Span {
                    from: before,
                    ..feed.span(feed.cursor)
                });
            }
        }
        Ok(portion)
    }

    /// Reads spans once more, in the order of the first time.
    ///
    /// # Errors
    /// They are not in the log any more, or the disk refuses.
    pub fn take_again(&mut self, spans: &[Span]) -> Result<Portion, ReplayError> {
        let mut portion = Portion::default();
        for feed in &mut self.feeds {
            feed.buffer.clear();
        }
        for span in spans {
            let lost = || ReplayError::Lost {
                topic: span.topic.clone(),
                partition: span.partition,
                from: span.from,
                to: span.to,
            };
            let is_it =
                |feed: &&mut Feed| feed.id == span.id && feed.partition.index() == span.partition;
            let feed = self.feeds.iter_mut().find(is_it).ok_or_else(lost)?;
            feed.go_to(span.from);
            while feed.ahead < span.to {
                let before = feed.ahead;
                if feed.fill(READ_LEN)? > 0 || feed.ahead == before {
                    return Err(lost());
                }
            }
            while feed
                .buffer
                .back()
                .is_some_and(|last| last.offset.unsigned_abs() >= span.to)
            {
                feed.buffer.pop_back();
            }
            feed.ahead = span.to;
            feed.cursor = span.to;
        }
        let mut heads = self.heads();
        while let Some(Reverse((_, place))) = heads.pop() {
            let feed = &mut self.feeds[place];
            if let Some(record) = feed.buffer.pop_front() {
                portion.records.push((place, record));
            }
            if let Some(next) = feed.buffer.front() {
                heads.push(Reverse((next.timestamp, place)));
            }
        }
        portion.spans = spans.to_vec();
        Ok(portion)
    }

    fn heads(&self) -> BinaryHeap<Reverse<(i64, usize)>> {
        let feeds = self.feeds.iter().enumerate();
        let heads = feeds.filter_map(|(place, feed)| {
            let head = feed.buffer.front()?;
            Some(Reverse((head.timestamp, place)))
        });
        heads.collect()
    }

    fn reads(&self, topic: &str, routes: &Routes) -> bool {
        if self.named.iter().any(|named| named == topic) {
            return true;
        }
        // What queries write has to be named to be read, or they would read what
        // they wrote.
        !routes.has_results(topic)
            && self
                .filters
                .iter()
                .any(|filter| routes.topic_may_match(topic, filter))
    }
}

/// Tells one set of topics and partitions from another.
fn fingerprint(topics: &[Arc<Topic>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for topic in topics {
        (topic.id(), topic.partition_count()).hash(&mut hasher);
    }
    hasher.finish()
}

impl Feed {
    fn place(&self) -> (&str, u32) {
        (self.partition.topic_name(), self.partition.index())
    }

    fn span(&self, to: u64) -> Span {
        Span {
            topic: self.partition.topic_name().to_owned(),
            id: self.id,
            partition: self.partition.index(),
            from: to,
            to,
        }
    }

    fn go_to(&mut self, offset: u64) {
        self.buffer.clear();
        self.cursor = offset;
        self.ahead = offset;
    }

    fn is_behind(&self) -> bool {
        !self.buffer.is_empty() || self.ahead < self.partition.offsets().high_watermark
    }

    /// Reads on behind what was read. Returns how many offsets were removed
    /// before.
    fn fill(&mut self, max_bytes: usize) -> Result<u64, ReadError> {
        let offsets = self.partition.offsets();
        let lost = offsets.log_start.saturating_sub(self.ahead);
        if lost > 0 {
            self.ahead = offsets.log_start;
            self.cursor = offsets.log_start;
        }
        let chunk = match self.partition.read(self.ahead, max_bytes, true) {
            Ok(chunk) => chunk,
            // It was removed just now, or the log ends before: look again.
            Err(ReadError::OffsetOutOfRange { log_start, .. }) => {
                let lost = lost + log_start.saturating_sub(self.ahead);
                self.ahead = self.ahead.max(log_start);
                self.settle();
                return Ok(lost);
            }
            Err(error) => return Err(error),
        };
        let start = self.ahead;
        each_reading(&chunk, start, |record| self.buffer.push_back(record));
        self.ahead = self.ahead.max(chunk.next_offset);
        self.settle();
        Ok(lost)
    }

    /// When nothing that can be read is left, everything was handed in.
    fn settle(&mut self) {
        if self.buffer.is_empty() {
            self.cursor = self.ahead;
        }
    }
}
