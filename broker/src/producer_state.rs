//! Idempotent producers of one partition.
//!
//! A producer numbers its records per partition. The partition remembers, per
//! producer id, the epoch and its last five batches, because clients keep at
//! most five requests in flight: a retry of any of them is answered with the
//! offset it already has, and a batch that does not continue the sequence is
//! refused. The rules are those of Kafka's `ProducerStateManager` and
//! `ProducerAppendInfo`.
//!
//! The state is a view of the log. It is rebuilt from a snapshot and the batch
//! headers behind it ([`Producers::replay`]); losing it costs duplicate
//! detection for old retries, never a record.

use std::collections::{HashMap, VecDeque};

mod snapshot;

pub use snapshot::SnapshotError;

/// Batches remembered per producer: clients allow five requests in flight
/// (`max.in.flight.requests.per.connection` of idempotent producers).
pub const WINDOW_BATCHES: usize = 5;

/// Producers remembered per partition. One entry is about 300 bytes, so a full
/// partition costs 300 KB; the producer that was silent longest gives way,
/// which Kafka treats like an expired producer.
pub const MAX_PRODUCERS: usize = 1_000;

/// Silence after which a producer is forgotten: Kafka's default of
/// `producer.id.expiration.ms`, one day.
pub const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// One batch as the producer numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencedBatch {
    /// Producer id, at least 0.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub first_sequence: i32,
    /// Number of records minus one.
    pub last_offset_delta: i32,
    /// The batch's own CRC, which tells a retry from other content.
    pub crc: u32,
}

/// What the window knows of a batch that was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBatch<T> {
    /// Sequence number of the first record.
    pub first_sequence: i32,
    /// Sequence number of the last record.
    pub last_sequence: i32,
    /// Offset that the first record got.
    pub base_offset: i64,
    /// CRC of the batch.
    pub crc: u32,
    /// Timestamp the broker gave it, -1 when it kept the producer's.
    pub append_time_ms: i64,
    /// When the batch is durable; absent for batches read back from the log.
    pub ticket: Option<T>,
}

/// Verdict on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The batch continues its producer's sequence: append it, then
    /// [`Producers::record`] it.
    Append,
    /// The batch is in the log: answer with what the log gave it.
    Duplicate(KnownBatch<T>),
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The epoch is older than one already seen: another instance took over.
    #[error("producer {producer_id} has epoch {epoch}, the partition has seen {current}")]
    StaleEpoch {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// Newest epoch seen.
        current: i16,
    },
    /// The batch does not follow the last one.
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrder {
        /// Producer id.
        producer_id: i64,
        /// First sequence number of the batch.
        found: i32,
        /// Sequence number that continues the log.
        expected: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer<T> {
    epoch: i16,
    last_seen_ms: i64,
    window: VecDeque<KnownBatch<T>>,
}

/// The idempotent producers of one partition. `T` is the ticket type of the
/// log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producers<T> {
    by_id: HashMap<i64, Producer<T>>,
}

impl<T> Default for Producers<T> {
    fn default() -> Self {
        Self {
            by_id: HashMap::new(),
        }
    }
}

impl<T: Copy> Producers<T> {
    /// Takes over a batch that the log holds, in offset order, while the state
    /// is rebuilt. The log is the truth, so nothing is checked.
    pub fn replay(
        &mut self,
        batch: &SequencedBatch,
        base_offset: i64,
        append_time_ms: i64,
        seen_ms: i64,
    ) {
        self.record(batch, base_offset, append_time_ms, seen_ms, None);
    }

    /// Remembers an appended batch.
    pub fn record(
        &mut self,
        batch: &SequencedBatch,
        base_offset: i64,
        append_time_ms: i64,
        now_ms: i64,
        ticket: Option<T>,
    ) {
        if !self.by_id.contains_key(&batch.producer_id) {
            self.make_room(now_ms);
        }
        let producer = self
            .by_id
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.epoch,
                last_seen_ms: now_ms,
                window: VecDeque::with_capacity(WINDOW_BATCHES),
            });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.window.clear();
        }
        if producer.window.len() == WINDOW_BATCHES {
            producer.window.pop_front();
        }
        producer.last_seen_ms = now_ms;
        producer.window.push_back(KnownBatch {
            first_sequence: batch.first_sequence,
            last_sequence: last_sequence(batch.first_sequence, batch.last_offset_delta),
            base_offset,
            crc: batch.crc,
            append_time_ms,
            ticket,
        });
    }

    /// Judges a batch before it is appended.
    ///
    /// A producer that the partition does not know may start anywhere: its
    /// records may have left with retention, or it may have been forgotten.
    ///
    /// # Errors
    /// [`SequenceError`] when the epoch is stale or the sequence has a hole.
    pub fn check(&self, batch: &SequencedBatch, now_ms: i64) -> Result<Verdict<T>, SequenceError> {
        let producer_id = batch.producer_id;
        let Some(producer) = self.by_id.get(&producer_id).filter(|p| !expired(p, now_ms)) else {
            return Ok(Verdict::Append);
        };
        let found = batch.first_sequence;
        if batch.epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch {
                producer_id,
                epoch: batch.epoch,
                current: producer.epoch,
            });
        }
        if batch.epoch > producer.epoch {
            return if found == 0 {
                Ok(Verdict::Append)
            } else {
                Err(SequenceError::OutOfOrder {
                    producer_id,
                    found,
                    expected: 0,
                })
            };
        }
        let last = last_sequence(found, batch.last_offset_delta);
        let known = producer
            .window
            .iter()
            .find(|b| b.first_sequence == found && b.last_sequence == last);
        if let Some(known) = known {
            return Ok(Verdict::Duplicate(*known));
        }
        match producer.window.back() {
            Some(newest) if next_sequence(newest.last_sequence) != found => {
                let expected = next_sequence(newest.last_sequence);
                Err(SequenceError::OutOfOrder {
                    producer_id,
                    found,
                    expected,
                })
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Number of producers remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Says whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn make_room(&mut self, now_ms: i64) {
        if self.by_id.len() < MAX_PRODUCERS {
            return;
        }
        self.by_id.retain(|_, producer| !expired(producer, now_ms));
        if self.by_id.len() < MAX_PRODUCERS {
            return;
        }
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(id, p)| (p.last_seen_ms, **id))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }
}

fn expired<T>(producer: &Producer<T>, now_ms: i64) -> bool {
    now_ms.saturating_sub(producer.last_seen_ms) > PRODUCER_EXPIRY_MS
}

/// Sequence number of a batch's last record; numbers wrap from `i32::MAX` to 0.
fn last_sequence(first: i32, last_offset_delta: i32) -> i32 {
    ((i64::from(first) + i64::from(last_offset_delta)) & i64::from(i32::MAX)) as i32
}

fn next_sequence(last: i32) -> i32 {
    last_sequence(last, 1)
}

#[cfg(test)]
mod tests;
