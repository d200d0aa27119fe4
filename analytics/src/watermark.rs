//! How far event time has come in a stream.

use std::collections::BTreeMap;

use crate::operators::Refusal;
use crate::state::{Decoder, Encoder, StateError};
use crate::syntax::Watermark;

const VERSION: u8 = 1;

/// Later than any time of a row: what a source that has ended advances to.
pub const END_OF_TIME_MS: i64 = i64::MAX / 4;

/// One partition of a stream.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// The largest event time so far.
    newest: i64,
    /// What an idle advance promised: no row will be older.
    floor: i64,
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
            .or_insert(Partition {
                newest: i64::MIN,
                floor: i64::MIN,
            });
    }

    /// Takes one row and says whether it is accepted.
    pub fn row(
        &mut self,
        topic: &str,
        partition: i32,
        time: i64,
        record_time: i64,
    ) -> Result<(), Refusal> {
        if time > record_time.saturating_add(self.settings.ahead_ms) {
            return Err(Refusal::Ahead);
        }
        self.newest = self.newest.max(time);
        let only = self.partitions.len() == 1;
        let known = match self.partitions.iter_mut().next() {
            Some((key, known)) if only && *key.0 == *topic && key.1 == partition => known,
            _ => self
                .partitions
                .entry((topic.into(), partition))
                .or_insert(Partition {
                    newest: i64::MIN,
                    floor: i64::MIN,
                }),
        };
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

    /// The same for one partition.
    pub fn advance(&mut self, topic: &str, partition: i32, time: i64) {
        self.assign(topic, partition);
        if let Some(known) = self.partitions.get_mut(&(topic.into(), partition)) {
            known.floor = known.floor.max(time);
        }
        self.update();
    }

    fn update(&mut self) {
        let delay = self.settings.delay_ms;
        let per_key = self.settings.per_key;
        let slowest = self
            .partitions
            .values()
            .map(|partition| {
                // With a watermark per key, rows move their own key only.
                let newest = if per_key { i64::MIN } else { partition.newest };
                newest.max(partition.floor).saturating_sub(delay)
            })
            .min();
        if let Some(slowest) = slowest {
            self.mark = self.mark.max(slowest);
        }
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
            for _ in 0..input.take_count(24)? {
                let key = (input.take_str()?.into(), input.take_u32()? as i32);
                let known = Partition {
                    newest: input.take_i64()?,
                    floor: input.take_i64()?,
                };
                self.partitions.insert(key, known);
            }
            Ok(())
        })
    }
}
