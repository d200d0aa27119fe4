//! Windows of a number of rows of a key, in the order of arrival.

use std::collections::VecDeque;

use super::{Common, Cutter, Results};
use crate::operators::arena::Arena;
use crate::operators::{Chunk, Context};
use crate::parse::gcd;
use crate::plan::AggregateCall;
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// Some rows that follow each other.
#[derive(Debug, Clone, Copy)]
struct Part {
    slot: u32,
    first: i64,
    last: i64,
    rows: i64,
}

/// Counted windows of all keys. A window is a number of parts of equal length.
pub struct CountWindows {
    /// Rows in a part.
    part: i64,
    /// Parts in a window.
    size: usize,
    /// Parts between windows.
    step: usize,
    arena: Arena,
    window_arena: Arena,
    /// By number of the key; the last part may be in the making.
    parts: Vec<VecDeque<Part>>,
    held: usize,
}

impl CountWindows {
    pub fn new(rows: i64, step: i64, aggregates: &[AggregateCall]) -> Self {
        let part = gcd(rows, step);
        let arena = Arena::new(aggregates);
        Self {
            part,
            size: (rows / part) as usize,
            step: (step / part) as usize,
            window_arena: arena.fresh(),
            arena,
            parts: Vec::new(),
            held: 0,
        }
    }

    fn flush(
        &mut self,
        common: &mut Common,
        chunk: &Chunk,
        rows: &mut Vec<u32>,
        slots: &mut Vec<u32>,
    ) {
        if rows.is_empty() {
            return;
        }
        let part = chunk.take(rows);
        let arguments = common.arguments(&part.batch);
        self.arena.update(slots, &part.times, &arguments);
        rows.clear();
        slots.clear();
    }

    /// Hands on the window that is complete and lets its first parts go.
    fn emit(&mut self, common: &mut Common, key: u32, time: i64, out: &mut Vec<Chunk>) {
        let parts = &mut self.parts[key as usize];
        let first = parts.iter().map(|part| part.first).min().unwrap_or(time);
        let last = parts.iter().map(|part| part.last).max().unwrap_or(time);
        let mut results = Results::default();
        results.push(key, first, last, time);
        let aggregates = if let [only] = parts.make_contiguous() {
            self.arena.finish(&[only.slot])
        } else {
            let slot = self.window_arena.alloc();
            for part in parts.iter() {
                self.window_arena.merge(&self.arena, &[(part.slot, slot)]);
            }
            let aggregates = self.window_arena.finish(&[slot]);
            self.window_arena.release(&[slot]);
            aggregates
        };
        let done: Vec<u32> = parts
            .drain(..self.step.min(parts.len()))
            .map(|part| part.slot)
            .collect();
        self.held -= done.len();
        self.arena.release(&done);
        out.push(common.results(results, aggregates));
    }
}

impl Cutter for CountWindows {
    const BY_TIME: bool = false;

    fn take(
        &mut self,
        common: &mut Common,
        _: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        out: &mut Vec<Chunk>,
    ) {
        let numbers = common.keys.numbers_end().max(self.parts.len());
        self.parts.resize(numbers, VecDeque::new());
        let (mut rows, mut slots) = (Vec::new(), Vec::new());
        for (row, key) in keys.iter().enumerate() {
            let time = chunk.times[row];
            let parts = &mut self.parts[*key as usize];
            if parts.back().is_none_or(|part| part.rows == self.part) {
                parts.push_back(Part {
                    slot: self.arena.alloc(),
                    first: time,
                    last: time,
                    rows: 0,
                });
                self.held += 1;
            }
            let Some(part) = parts.back_mut() else {
                continue;
            };
            part.rows += 1;
            part.first = part.first.min(time);
            part.last = part.last.max(time);
            rows.push(row as u32);
            slots.push(part.slot);
            if part.rows == self.part && parts.len() == self.size {
                self.flush(common, chunk, &mut rows, &mut slots);
                self.emit(common, *key, time, out);
            }
        }
        self.flush(common, chunk, &mut rows, &mut slots);
    }

    fn close(&mut self, _: &mut Common, _: i64, _: &mut Vec<Chunk>) {}

    fn encode(&self, common: &Common, out: &mut Encoder) {
        out.section(VERSION, |out| {
            let used = self
                .parts
                .iter()
                .enumerate()
                .filter(|(_, parts)| !parts.is_empty());
            out.put_count(used.clone().count());
            for (key, parts) in used {
                out.put_bytes(common.keys.key(key as u32));
                out.put_count(parts.len());
                for part in parts {
                    out.put_i64(part.first);
                    out.put_i64(part.last);
                    out.put_i64(part.rows);
                    self.arena.encode(part.slot, out);
                }
            }
        });
    }

    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("counted windows", VERSION, |input| {
            for _ in 0..input.take_count(8)? {
                let key = common.keys.decode_key(input)?;
                let numbers = self.parts.len().max(key as usize + 1);
                self.parts.resize(numbers, VecDeque::new());
                for _ in 0..input.take_count(24)? {
                    let (first, last, rows) =
                        (input.take_i64()?, input.take_i64()?, input.take_i64()?);
                    if !(1..=self.part).contains(&rows) {
                        return Err(StateError::Invalid {
                            what: "number of rows",
                            found: rows as u64,
                        });
                    }
                    let slot = self.arena.alloc();
                    self.arena.decode(slot, input)?;
                    self.held += 1;
                    self.parts[key as usize].push_back(Part {
                        slot,
                        first,
                        last,
                        rows,
                    });
                }
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes()
            + self.parts.len() * size_of::<VecDeque<Part>>()
            + self.held * size_of::<Part>()
    }

    fn horizon(&self) -> i64 {
        i64::MIN
    }

    fn due(&self) -> i64 {
        i64::MAX
    }

    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64 {
        let times = (0..).zip(&self.parts);
        let times = times.filter_map(|(key, parts)| Some((parts.front()?.first, key)));
        let ended = super::oldest(&common.keys, times.collect());
        for key in &ended {
            let last = self.parts[*key as usize].iter().map(|part| part.last).max();
            self.emit(common, *key, last.unwrap_or(i64::MIN), out);
            let rest: Vec<u32> = std::mem::take(&mut self.parts[*key as usize])
                .into_iter()
                .map(|part| part.slot)
                .collect();
            self.held -= rest.len();
            self.arena.release(&rest);
        }
        let parts = &self.parts;
        common
            .keys
            .retain(|key| parts.get(key as usize).is_some_and(|own| !own.is_empty()));
        self.parts.truncate(common.keys.numbers_end());
        ended.len() as u64
    }
}
