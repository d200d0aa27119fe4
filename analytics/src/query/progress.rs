//! Which records still feed an open window.

use std::collections::{BTreeMap, VecDeque};

use crate::decode::Record;
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// More runs of a partition are joined in pairs: the answer becomes coarser,
/// never wrong.
const RUNS_MAX: usize = 1_024;

/// Some records that follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    first_offset: i64,
    /// No record of the run has a later event time.
    newest: i64,
}

#[derive(Debug, Default)]
struct Partition {
    runs: VecDeque<Run>,
    next_offset: i64,
}

/// Runs of records by partition.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: BTreeMap<(Box<str>, i32), Partition>,
}

impl Progress {
    /// Notes records; `newest` is the largest event time of all rows so far,
    /// which is an upper bound for theirs.
    pub fn note(&mut self, records: &[Record<'_>], newest: i64) {
        let mut last: Option<(&str, i32)> = None;
        for record in records {
            let here = (record.topic, record.partition);
            if last == Some(here) && records.len() > 1 {
                continue;
            }
            last = Some(here);
            let partition = self
                .partitions
                .entry((record.topic.into(), record.partition))
                .or_default();
            let known = partition
                .runs
                .back()
                .is_some_and(|run| run.newest == newest && run.first_offset <= record.offset);
            if !known {
                partition.runs.push_back(Run {
                    first_offset: record.offset,
                    newest,
                });
            }
            if partition.runs.len() > RUNS_MAX {
                partition.join();
            }
        }
        for record in records.iter().rev().take(1).chain(records) {
            if let Some(partition) = self
                .partitions
                .get_mut(&(record.topic.into(), record.partition))
            {
                partition.next_offset = partition.next_offset.max(record.offset + 1);
            }
        }
    }

    /// The lowest offset per partition with rows from `horizon` on.
    pub fn lowest(&mut self, horizon: i64) -> Vec<(String, i32, i64)> {
        self.partitions
            .iter_mut()
            .map(|((topic, number), partition)| {
                while partition
                    .runs
                    .front()
                    .is_some_and(|run| run.newest < horizon)
                {
                    partition.runs.pop_front();
                }
                let offset = partition
                    .runs
                    .front()
                    .map_or(partition.next_offset, |run| run.first_offset);
                (topic.to_string(), *number, offset)
            })
            .collect()
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_count(self.partitions.len());
            for ((topic, number), partition) in &self.partitions {
                out.put_str(topic);
                out.put_u32(*number as u32);
                out.put_i64(partition.next_offset);
                out.put_count(partition.runs.len());
                for run in &partition.runs {
                    out.put_i64(run.first_offset);
                    out.put_i64(run.newest);
                }
            }
        });
    }

    pub fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let partitions = &mut self.partitions;
        input.section("progress", VERSION, |input| {
            for _ in 0..input.take_count(20)? {
                let key = (input.take_str()?.into(), input.take_u32()? as i32);
                let mut partition = Partition {
                    next_offset: input.take_i64()?,
                    ..Partition::default()
                };
                for _ in 0..input.take_count(16)? {
                    partition.runs.push_back(Run {
                        first_offset: input.take_i64()?,
                        newest: input.take_i64()?,
                    });
                }
                partitions.insert(key, partition);
            }
            Ok(())
        })
    }
}

impl Partition {
    fn join(&mut self) {
        let runs: Vec<Run> = self.runs.drain(..).collect();
        self.runs = runs
            .chunks(2)
            .map(|pair| Run {
                first_offset: pair[0].first_offset,
                newest: pair[pair.len() - 1].newest,
            })
            .collect();
    }
}
