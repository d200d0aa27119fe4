//! Windows of fixed length that close for each key on its own.
//!
//! A device that is slow does not hold up the others, and one that is ahead
//! closes its own windows only. The floor of the stream, which moves when the
//! stream is idle, closes windows of silent keys.

use std::collections::BTreeMap;

use super::super::slicer::Slicer;
use super::super::{Common, Cutter, Results};
use crate::column::Column;
use crate::operators::arena::Arena;
use crate::operators::{Chunk, Context, Refusal};
use crate::plan::AggregateCall;
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// One key.
struct Key {
    /// The largest event time; `None` if the number is not in use.
    newest: Option<i64>,
    /// Slices before this one are closed.
    closed: i64,
    /// Slots of slices that feed open windows.
    slices: BTreeMap<i64, u32>,
}

impl Key {
    fn unused() -> Self {
        Self {
            newest: None,
            closed: i64::MIN,
            slices: BTreeMap::new(),
        }
    }
}

/// Windows that close for each key on its own.
pub struct KeyedWindows {
    slicer: Slicer,
    delay_ms: i64,
    arena: Arena,
    window_arena: Arena,
    keys: Vec<Key>,
    /// Slices of all keys.
    slices: usize,
    /// The floor of the stream.
    mark: i64,
}

impl KeyedWindows {
    pub fn new(slicer: Slicer, aggregates: &[AggregateCall], delay_ms: i64) -> Self {
        let arena = Arena::new(aggregates);
        Self {
            slicer,
            delay_ms,
            window_arena: arena.fresh(),
            arena,
            keys: Vec::new(),
            slices: 0,
            mark: i64::MIN,
        }
    }

    /// Hands on the windows of a key that have ended, oldest first.
    fn close_key(&mut self, common: &mut Common, number: u32, out: &mut Vec<Chunk>) {
        let Some(newest) = self.keys[number as usize].newest else {
            return;
        };
        let mark = newest.saturating_sub(self.delay_ms).max(self.mark);
        self.close_to(common, number, self.slicer.index(mark), out);
    }

    /// Hands on the windows of a key that end before a slice.
    fn close_to(&mut self, common: &mut Common, number: u32, closed: i64, out: &mut Vec<Chunk>) {
        let key = &mut self.keys[number as usize];
        if closed <= key.closed {
            return;
        }
        let mut results = Results::default();
        let mut slots = Vec::new();
        let mut start = self.slicer.first_window(key.closed.max(i64::MIN / 4));
        while let Some((first, _)) = key.slices.first_key_value() {
            // Windows before the first slice with rows are empty.
            start = start.max(self.slicer.first_window(*first));
            let end = start + self.slicer.size;
            if end > closed {
                break;
            }
            let (from, to) = (self.slicer.start(start), self.slicer.start(end));
            let parts: Vec<u32> = key
                .slices
                .range(start..end)
                .map(|(_, slot)| *slot)
                .collect();
            if !parts.is_empty() {
                let slot = self.window_arena.alloc();
                for part in parts {
                    self.window_arena.merge(&self.arena, &[(part, slot)]);
                }
                results.push(number, from, to, to - 1);
                slots.push(slot);
            }
            start += self.slicer.slide;
            let kept = key.slices.split_off(&start);
            let done: Vec<u32> = std::mem::replace(&mut key.slices, kept)
                .into_values()
                .collect();
            self.slices -= done.len();
            self.arena.release(&done);
        }
        key.closed = closed;
        if !slots.is_empty() {
            out.push(common.results(results, self.window_arena.finish(&slots)));
            self.window_arena.release(&slots);
        }
    }
}

impl KeyedWindows {
    /// Frees keys of which nothing is known.
    fn forget(&mut self, common: &mut Common) {
        let keys = &self.keys;
        common.keys.retain(|number| {
            keys.get(number as usize)
                .is_some_and(|key| key.newest.is_some())
        });
        self.keys.truncate(common.keys.numbers_end());
    }
}

impl Cutter for KeyedWindows {
    const BY_TIME: bool = false;

    fn take(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        out: &mut Vec<Chunk>,
    ) {
        let numbers = common.keys.numbers_end().max(self.keys.len());
        self.keys.resize_with(numbers, Key::unused);
        let arguments = common.arguments(&chunk.batch);
        for (row, number) in keys.iter().enumerate() {
            let time = chunk.times[row];
            let slice = self.slicer.index(time);
            let key = &mut self.keys[*number as usize];
            if key.newest.is_none() {
                key.closed = if self.mark == i64::MIN {
                    i64::MIN
                } else {
                    self.slicer.index(self.mark)
                };
            }
            if self.slicer.last_window(slice) + self.slicer.size <= key.closed {
                context.refuse(chunk, row, Refusal::Late);
                continue;
            }
            let (arena, held) = (&mut self.arena, &mut self.slices);
            let slot = *key.slices.entry(slice).or_insert_with(|| {
                *held += 1;
                arena.alloc()
            });
            let one: Vec<Vec<Column>> = arguments
                .iter()
                .map(|columns| {
                    columns
                        .iter()
                        .map(|column| column.take(&[row as u32]))
                        .collect()
                })
                .collect();
            arena.update(&[slot], &[time], &one);
            key.newest = key.newest.max(Some(time));
            self.close_key(common, *number, out);
        }
    }

    fn close(&mut self, common: &mut Common, mark: i64, out: &mut Vec<Chunk>) {
        if mark <= self.mark {
            return;
        }
        self.mark = mark;
        let mut numbers: Vec<u32> = (0..self.keys.len() as u32)
            .filter(|number| self.keys[*number as usize].newest.is_some())
            .collect();
        // Numbers of keys are others after a restart.
        numbers.sort_by(|left, right| common.keys.key(*left).cmp(common.keys.key(*right)));
        for number in numbers {
            self.close_key(common, number, out);
            let key = &mut self.keys[number as usize];
            // A key whose rows all lie behind the stream is as good as new.
            if key.slices.is_empty()
                && key
                    .newest
                    .is_some_and(|newest| newest.saturating_sub(self.delay_ms) < mark)
            {
                *key = Key::unused();
            }
        }
        let used = self.keys.iter().filter(|key| key.newest.is_some()).count();
        if common.keys.is_crowded(used) {
            self.forget(common);
        }
    }

    fn encode(&self, common: &Common, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_i64(self.mark);
            out.put_count(self.keys.iter().filter(|key| key.newest.is_some()).count());
            for (number, key) in self.keys.iter().enumerate() {
                let Some(newest) = key.newest else {
                    continue;
                };
                out.put_bytes(common.keys.key(number as u32));
                out.put_i64(newest);
                out.put_i64(key.closed);
                out.put_count(key.slices.len());
                for (slice, slot) in &key.slices {
                    out.put_i64(*slice);
                    self.arena.encode(*slot, out);
                }
            }
        });
    }

    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("windows per key", VERSION, |input| {
            self.mark = input.take_i64()?;
            for _ in 0..input.take_count(24)? {
                let number = common.keys.decode_key(input)? as usize;
                let numbers = self.keys.len().max(number + 1);
                self.keys.resize_with(numbers, Key::unused);
                let mut key = Key {
                    newest: Some(input.take_i64()?),
                    closed: input.take_i64()?,
                    slices: BTreeMap::new(),
                };
                for _ in 0..input.take_count(8)? {
                    let slice = input.take_i64()?;
                    let slot = self.arena.alloc();
                    self.arena.decode(slot, input)?;
                    key.slices.insert(slice, slot);
                    self.slices += 1;
                }
                self.keys[number] = key;
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes()
            + self.window_arena.memory_bytes()
            + self.keys.len() * size_of::<Key>()
            + self.slices * 24
    }

    fn horizon(&self) -> i64 {
        i64::MIN
    }

    fn due(&self) -> i64 {
        let windows = self.keys.iter().filter_map(|key| {
            let first = self.slicer.first_window(*key.slices.keys().next()?);
            let open = self.slicer.first_window(key.closed.max(i64::MIN / 4));
            Some(first.max(open))
        });
        windows.min().map_or(i64::MAX, |window| {
            self.slicer.start(window + self.slicer.size)
        })
    }

    /// Ends the windows of the keys that are silent for longest.
    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64 {
        let times = (0..).zip(&self.keys);
        let times = times.filter_map(|(number, key)| Some((key.newest?, number)));
        let ended = super::super::oldest(&common.keys, times.collect());
        for number in &ended {
            let key = &self.keys[*number as usize];
            if let Some((last, _)) = key.slices.last_key_value() {
                let end = self.slicer.last_window(*last) + self.slicer.size;
                self.close_to(common, *number, end, out);
            }
            self.keys[*number as usize] = Key::unused();
        }
        self.forget(common);
        ended.len() as u64
    }
}
