//! Windows of fixed length.
//!
//! Time is cut into slices, the greatest common divisor of length and distance
//! of windows, and a row touches one slice. A window is the merge of its slices.
//! Windows that overlap would merge each slice many times, so slices are
//! gathered in blocks as long as a window: when a block is complete, the merges
//! of its last one, last two, last three … slices are kept (suffixes), and the
//! block in the making keeps the merge of its first ones (prefix). Every window
//! is one suffix and one prefix (van Herk's algorithm). Where blocks begin
//! depends on time alone, so sums are added in the same order whatever batches
//! and restarts there were.

mod keyed;
mod overlap;

pub use keyed::KeyedWindows;

use std::collections::BTreeMap;

use super::slicer::Slicer;
use super::table::Table;
use super::{Common, Cutter, Results};
use crate::operators::arena::Arena;
use crate::operators::{Chunk, Context, Refusal};
use crate::plan::AggregateCall;
use crate::state::{Decoder, Encoder, StateError};
use overlap::Overlap;

const VERSION: u8 = 3;

/// Windows that close together for all keys.
pub struct TimeWindows {
    slicer: Slicer,
    arena: Arena,
    /// Slices that may still get rows.
    open: BTreeMap<i64, Table>,
    /// Empty tables with room for the groups of the next slice.
    spare: Vec<Table>,
    /// Slices before this one are closed.
    closed: i64,
    /// The parts of windows that overlap.
    overlap: Option<Overlap>,
    /// Groups that changed since the last report, if changes are wanted.
    touched: Option<BTreeMap<i64, Vec<u32>>>,
}

impl TimeWindows {
    pub fn new(slicer: Slicer, aggregates: &[AggregateCall], changes: bool) -> Self {
        let arena = Arena::new(aggregates);
        let overlap = (slicer.size > 1).then(Overlap::new);
        Self {
            slicer,
            arena,
            open: BTreeMap::new(),
            spare: Vec::new(),
            closed: i64::MIN,
            overlap,
            touched: changes.then(BTreeMap::new),
        }
    }

    /// Rows whose slice is closed: each goes into the windows that are open yet.
    fn behind(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        rows: &[u32],
    ) {
        for row in rows {
            if context.full {
                // It may need groups in many slices.
                context.refuse(chunk, *row as usize, Refusal::Memory);
                continue;
            }
            let slice = self.slicer.index(chunk.times[*row as usize]);
            let last_end = self.slicer.last_window(slice) + self.slicer.size;
            let Some(overlap) = self.overlap.as_mut().filter(|_| last_end > self.closed) else {
                context.refuse(chunk, *row as usize, Refusal::Late);
                continue;
            };
            let one = chunk.take(&[*row]);
            let arguments = common.arguments(&one.batch);
            overlap.add_behind(
                &self.slicer,
                slice,
                keys[*row as usize],
                &mut self.arena,
                |arena, slot| {
                    arena.update(&[slot], &one.times, &arguments);
                },
            );
        }
    }

    fn emit(&mut self, common: &mut Common, start: i64, table: &Table, out: &mut Vec<Chunk>) {
        let (from, to) = (
            self.slicer.start(start),
            self.slicer.start(start + self.slicer.size),
        );
        let keys = table.entries.iter().map(|(key, _)| *key).collect();
        let results = Results::same(keys, from, to);
        out.push(common.results(results, self.arena.finish(&table.slots())));
    }

    /// Frees keys that no table holds.
    fn tidy(&self, common: &mut Common) {
        let tables = || {
            self.open
                .values()
                .chain(self.overlap.iter().flat_map(Overlap::tables))
        };
        let largest = tables().map(|table| table.entries.len()).max().unwrap_or(0);
        if !common.keys.is_crowded(largest) {
            return;
        }
        let mut used = vec![false; common.keys.numbers_end()];
        for (key, _) in tables().flat_map(|table| &table.entries) {
            used[*key as usize] = true;
        }
        common.keys.retain(|key| used[key as usize]);
    }
}

impl Cutter for TimeWindows {
    const BY_TIME: bool = true;

    fn take(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        out: &mut Vec<Chunk>,
    ) {
        let slices: Vec<i64> = chunk
            .times
            .iter()
            .map(|time| self.slicer.index(*time))
            .collect();
        let mut room = 0;
        if context.full && self.overlap.is_none() {
            room = self.make_room(common, context, &slices, out);
        }
        let is_behind = |row: &u32| slices[*row as usize] < self.closed;
        let (behind, mut kept): (Vec<u32>, Vec<u32>) =
            (0..chunk.rows() as u32).partition(is_behind);
        self.behind(common, context, chunk, keys, &behind);
        if context.full {
            kept = self.with_group(context, chunk, keys, &slices, kept, room);
        }
        let taken;
        let chunk = if kept.len() == chunk.rows() {
            chunk
        } else {
            taken = chunk.take(&kept);
            &taken
        };
        let mut slots = Vec::with_capacity(kept.len());
        let mut rest = kept.iter().map(|row| *row as usize).peekable();
        while let Some(first) = rest.peek().copied() {
            let slice = slices[first];
            let table = self
                .open
                .entry(slice)
                .or_insert_with(|| self.spare.pop().unwrap_or_default());
            while let Some(row) = rest.next_if(|row| slices[*row] == slice) {
                slots.push(table.slot(keys[row], &mut self.arena));
            }
        }
        let arguments = common.arguments(&chunk.batch);
        self.arena.update(&slots, &chunk.times, &arguments);
        if let Some(touched) = &mut self.touched {
            for row in &kept {
                touched
                    .entry(slices[*row as usize])
                    .or_default()
                    .push(keys[*row as usize]);
            }
        }
    }

    fn close(&mut self, common: &mut Common, mark: i64, out: &mut Vec<Chunk>) {
        if mark != i64::MIN {
            self.close_to(common, self.slicer.index(mark), out);
        }
    }

    fn changes(&mut self, common: &mut Common, out: &mut Vec<Chunk>) {
        let Some(touched) = &self.touched else {
            return;
        };
        let slices: Vec<i64> = touched.keys().copied().collect();
        for slice in slices {
            if let Some(table) = self.open.remove(&slice) {
                self.report(common, slice, &table, out);
                self.open.insert(slice, table);
            }
        }
    }

    fn encode(&self, common: &Common, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_i64(self.closed);
            out.put_count(self.open.len());
            for (slice, table) in &self.open {
                out.put_i64(*slice);
                table.encode(common, &self.arena, out);
            }
            if let Some(overlap) = &self.overlap {
                overlap.encode(common, &self.arena, out);
            }
        });
    }

    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("windows", VERSION, |input| {
            self.closed = input.take_i64()?;
            for _ in 0..input.take_count(12)? {
                let slice = input.take_i64()?;
                let table = Table::decode(common, &mut self.arena, input)?;
                self.open.insert(slice, table);
            }
            if let Some(overlap) = &mut self.overlap {
                overlap.decode(common, &mut self.arena, input)?;
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes()
            + self.open.values().map(Table::memory_bytes).sum::<usize>()
            + self.spare.iter().map(Table::memory_bytes).sum::<usize>()
            + self.overlap.as_ref().map_or(0, Overlap::memory_bytes)
    }

    fn horizon(&self) -> i64 {
        if self.closed == i64::MIN {
            return i64::MIN;
        }
        // The first window that has not closed ends behind the closed slices.
        self.slicer.start(self.slicer.first_window(self.closed))
    }

    fn due(&self) -> i64 {
        let open = self.open.keys().next();
        let held = self.overlap.as_ref().and_then(Overlap::first);
        let Some(first) = open.copied().into_iter().chain(held).min() else {
            return i64::MAX;
        };
        // The first window with rows that has not closed.
        let floor = self.closed.max(i64::MIN / 4);
        let mut window = self.slicer.first_window(first);
        if window + self.slicer.size <= floor {
            window = self.slicer.first_window(floor);
        }
        self.slicer.start(window + self.slicer.size)
    }

    /// Ends the oldest windows if there are others. Windows that overlap hold
    /// their slices whether they end or not.
    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64 {
        self.spare.clear();
        let mut slices = self.open.keys();
        let Some(first) = slices.next().copied() else {
            return 0;
        };
        if self.overlap.is_some() || slices.next().is_none() {
            return 0;
        }
        self.close_to(common, first + 1, out);
        1
    }
}

impl TimeWindows {
    /// Closes the slices before `closed`.
    fn close_to(&mut self, common: &mut Common, closed: i64, out: &mut Vec<Chunk>) {
        if closed <= self.closed {
            return;
        }
        if let Some(mut overlap) = self.overlap.take() {
            let from = self.closed;
            overlap.advance(self, common, from, closed, out);
            self.overlap = Some(overlap);
        } else {
            while let Some(entry) = self
                .open
                .first_entry()
                .filter(|entry| *entry.key() < closed)
            {
                let (slice, table) = entry.remove_entry();
                if self.touched.is_none() {
                    self.emit(common, slice, &table, out);
                } else {
                    self.report(common, slice, &table, out);
                }
                self.release(table);
            }
        }
        self.closed = closed;
        self.tidy(common);
    }

    /// Lets a table go.
    fn release(&mut self, mut table: Table) {
        /// Tables of a slice that closes and of one that opens.
        const SPARES: usize = 2;
        table.release(&mut self.arena);
        if self.spare.len() < SPARES {
            self.spare.push(table);
        }
    }

    /// Ends the oldest window if rows have come to one that is not open yet, so
    /// that it does not keep the others out. Returns how many groups that frees.
    fn make_room(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        slices: &[i64],
        out: &mut Vec<Chunk>,
    ) -> usize {
        let newest = slices.iter().copied().max().unwrap_or(i64::MIN);
        let Some((first, table)) = self.open.first_key_value() else {
            return 0;
        };
        if *first >= newest || self.open.contains_key(&newest) {
            return 0;
        }
        let (first, groups) = (*first, table.entries.len());
        self.close_to(common, first + 1, out);
        context.shed += 1;
        groups
    }

    /// The rows that need no group in an open slice that is not there yet, but
    /// for as many as there is room for; the others are refused.
    fn with_group(
        &self,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        slices: &[i64],
        rows: Vec<u32>,
        mut room: usize,
    ) -> Vec<u32> {
        let (kept, refused) = rows.into_iter().partition(|row| {
            let table = self.open.get(&slices[*row as usize]);
            let there = table.is_some_and(|table| table.find(keys[*row as usize]).is_some());
            let fits = there || room > 0;
            room -= usize::from(!there && fits);
            fits
        });
        let refused: Vec<u32> = refused;
        for row in refused {
            context.refuse(chunk, row as usize, Refusal::Memory);
        }
        kept
    }

    /// The groups of a slice that changed since they were reported.
    fn report(&mut self, common: &mut Common, slice: i64, table: &Table, out: &mut Vec<Chunk>) {
        let Some(mut keys) = self
            .touched
            .as_mut()
            .and_then(|touched| touched.remove(&slice))
        else {
            return;
        };
        keys.sort_unstable();
        let mut part = Table::default();
        part.entries.extend(
            table
                .entries
                .iter()
                .filter(|(key, _)| keys.binary_search(key).is_ok()),
        );
        self.emit(common, slice, &part, out);
    }
}
