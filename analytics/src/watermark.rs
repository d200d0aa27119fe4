//! How far event time has come in a stream.

use std::collections::BTreeMap;

use crate::operators::Refusal;
use crate::state::{Decoder, Encoder, StateError};
use crate::syntax::Watermark;

const VERSION: u8 = 2;

/// Later than any time of a row: what a source that has ended advances to.
pub const END_OF_TIME_MS: i64 = i64::MAX / 4;

/// One partition of a stream.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// The largest event time so far.
    newest: i64,
    /// What an idle advance promised: no row will be older.
    floor: i64,
    /// The largest record time so far, or when a partition without a record was
    /// first asked about; it decides when silence is silence, and nothing else.
    heard: i64,
}

impl Partition {
    const NEW: Self = Self {
        newest: i64::MIN,
        floor: i64::MIN,
        heard: i64::MIN,
    };
}

/// An advance that a silent partition is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// The log topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The time to advance it to, in milliseconds.
    pub time_ms: i64,
}

/// The watermark of one stream: the smallest of its partitions. A partition's
/// is its newest event time minus the delay. It never goes back.
///
/// Time is bounded from above: a row that claims to be further ahead of its
/// record time than the stream allows is refused and moves nothing, so that a
/// device with a wrong clock cannot close the windows of the others.
pub struct Tracker {
    settings: Watermark,
    partitions: BTreeMap<(Box<str>, i32), Partition>,
    mark: i64,
    /// The largest event time of all partitions.
    newest: i64,
}

impl Tracker {
    /// A watermark that has seen nothing.
    pub fn new(settings: Watermark) -> Self {
        Self {
            settings,
            partitions: BTreeMap::new(),
            mark: i64::MIN,
            newest: i64::MIN,
        }
    }

    /// Makes a partition known: it holds the watermark until it has rows or is
    /// advanced.
    pub fn assign(&mut self, topic: &str, partition: i32) {
        self.partitions
            .entry((topic.into(), partition))
            .or_insert(Partition::NEW);
    }

    /// Takes one row and says whether it is accepted.
    pub fn row(
        &mut self,
        topic: &str,
        partition: i32,
        time: i64,
        record_time: i64,
    ) -> Result<(), Refusal> {
        let ahead = time > record_time.saturating_add(self.settings.ahead_ms);
        let only = self.partitions.len() == 1;
        let known = match self.partitions.iter_mut().next() {
            Some((key, known)) if only && *key.0 == *topic && key.1 == partition => known,
            _ => self
                .partitions
                .entry((topic.into(), partition))
                .or_insert(Partition::NEW),
        };
        known.heard = known.heard.max(record_time);
        if ahead {
            return Err(Refusal::Ahead);
        }
        self.newest = self.newest.max(time);
        if time > known.newest {
            known.newest = time;
            self.update();
        }
        Ok(())
    }

    /// Promises that no partition has rows older than `time` any more: what the
    /// shell logs and says when a stream is silent.
    pub fn advance_all(&mut self, time: i64) {
        for partition in self.partitions.values_mut() {
            partition.floor = partition.floor.max(time);
        }
        if self.partitions.is_empty() {
            self.mark = self.mark.max(time.saturating_sub(self.settings.delay_ms));
        }
        self.update();
    }

    /// The same for one partition; one that is not known holds nothing up.
    pub fn advance(&mut self, topic: &str, partition: i32, time: i64) {
        if let Some(known) = self.partitions.get_mut(&(topic.into(), partition)) {
            known.floor = known.floor.max(time);
        }
        self.update();
    }

    fn update(&mut self) {
        let slowest = self
            .partitions
            .values()
            .map(|partition| self.mark_of(partition))
            .min();
        if let Some(slowest) = slowest {
            self.mark = self.mark.max(slowest);
        }
    }

    fn mark_of(&self, partition: &Partition) -> i64 {
        // With a watermark per key, rows move their own key only.
        let newest = if self.settings.per_key {
            i64::MIN
        } else {
            partition.newest
        };
        newest
            .max(partition.floor)
            .saturating_sub(self.settings.delay_ms)
    }

    /// The advances of partitions that have been silent, and the watermark that
    /// they would lead to. Event time goes on during silence as the clock does,
    /// from the newest row; `now` is the time of the shell, for which every
    /// record that is there was handed in.
    pub fn silent(&mut self, now: i64) -> (Vec<Silence>, i64) {
        let (idle, delay) = (self.settings.idle_ms, self.settings.delay_ms);
        let farthest = self
            .partitions
            .values()
            .filter(|partition| partition.newest > i64::MIN)
            .map(|partition| {
                let silence = now.saturating_sub(partition.heard).max(0);
                partition.newest.saturating_add(silence)
            })
            .max();
        let mut advances = Vec::new();
        let mut mark = i64::MAX;
        let own: Vec<i64> = self
            .partitions
            .values()
            .map(|partition| self.mark_of(partition))
            .collect();
        for (((topic, number), partition), own) in self.partitions.iter_mut().zip(own) {
            if partition.heard == i64::MIN {
                partition.heard = now;
            }
            let silence = now.saturating_sub(partition.heard);
            let reached = if partition.newest > i64::MIN {
                Some(partition.newest.saturating_add(silence))
            } else {
                farthest
            };
            match reached {
                Some(time) if silence >= idle && time.saturating_sub(delay) > own => {
                    mark = mark.min(time.saturating_sub(delay));
                    advances.push(Silence {
                        topic: topic.to_string(),
                        partition: *number,
                        time_ms: time,
                    });
                }
                _ => mark = mark.min(own),
            }
        }
        if self.partitions.is_empty() {
            return (advances, self.mark);
        }
        (advances, mark.max(self.mark))
    }

    /// The watermark in milliseconds; `i64::MIN` before anything is known.
    pub fn mark(&self) -> i64 {
        self.mark
    }

    /// The largest event time so far.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Appends the state.
    pub fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_i64(self.mark);
            out.put_i64(self.newest);
            out.put_count(self.partitions.len());
            for ((topic, partition), known) in &self.partitions {
                out.put_str(topic);
                out.put_u32(*partition as u32);
                out.put_i64(known.newest);
                out.put_i64(known.floor);
                out.put_i64(known.heard);
            }
        });
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("watermark", VERSION, |input| {
            self.mark = input.take_i64()?;
            self.newest = input.take_i64()?;
            self.partitions.clear();
            for _ in 0..input.take_count(32)? {
                let key = (input.take_str()?.into(), input.take_u32()? as i32);
                let known = Partition {
                    newest: input.take_i64()?,
                    floor: input.take_i64()?,
                    heard: input.take_i64()?,
                };
                self.partitions.insert(key, known);
            }
            Ok(())
        })
    }
}
