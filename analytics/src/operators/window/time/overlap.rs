//! Suffixes and prefixes of blocks, for windows that overlap.

use std::collections::BTreeMap;

use super::TimeWindows;
use crate::operators::Chunk;
use crate::operators::arena::Arena;
use crate::operators::window::slicer::Slicer;
use crate::operators::window::table::Table;
use crate::operators::window::{Common, Results};
use crate::state::{Decoder, Encoder, StateError};

/// A merge of the slices from one to the end of its block.
struct Suffix {
    table: Table,
    /// Which of the two arenas holds it: neighbours are in different ones, so
    /// that one can be merged into the other.
    odd: bool,
}

/// Suffixes of slices with few groups in common are as large as all slices
/// together, each of them. When the suffixes of a block hold so many times the
/// groups of its slices, the slices before them stay as they are, and a window
/// merges those that it contains: that costs time instead of memory. Whether it
/// happens depends on the groups alone, so sums are added in the same order
/// after a restart.
const SUFFIX_FACTOR: usize = 4;

/// What overlapping windows are put together from.
pub struct Overlap {
    /// The block that the last closed slice is in.
    block: i64,
    /// Closed slices of the block; their slots are in the arena of the slices.
    slices: BTreeMap<i64, Table>,
    prefix: Table,
    prefix_arena: Arena,
    /// Slices of the block before that no suffix contains, all before
    /// `suffixes_from`; their slots are in the arena of the slices.
    plain: BTreeMap<i64, Table>,
    suffixes_from: i64,
    /// Merges from a slice to the end of the block before.
    suffixes: BTreeMap<i64, Suffix>,
    suffix_arenas: [Arena; 2],
    /// Where a window is put together.
    window_arena: Arena,
}

/// The arena of a suffix and the one of its neighbours.
fn own_and_other(arenas: &mut [Arena; 2], odd: bool) -> (&mut Arena, &Arena) {
    let [even_arena, odd_arena] = arenas;
    if odd {
        (odd_arena, even_arena)
    } else {
        (even_arena, odd_arena)
    }
}

impl Overlap {
    pub fn new(arena: &Arena) -> Self {
        Self {
            block: i64::MIN,
            slices: BTreeMap::new(),
            prefix: Table::default(),
            prefix_arena: arena.fresh(),
            plain: BTreeMap::new(),
            suffixes_from: i64::MIN,
            suffixes: BTreeMap::new(),
            suffix_arenas: [arena.fresh(), arena.fresh()],
            window_arena: arena.fresh(),
        }
    }

    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.slices
            .values()
            .chain(self.plain.values())
            .chain(self.suffixes.values().map(|suffix| &suffix.table))
            .chain([&self.prefix])
    }

    fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.suffixes.is_empty() && self.plain.is_empty()
    }

    /// The first slice with rows.
    pub fn first(&self) -> Option<i64> {
        let plain = self.plain.keys().next();
        let suffix = self.suffixes.keys().next();
        let slice = self.slices.keys().next();
        plain.or(suffix).or(slice).copied()
    }

    /// Closes slices up to `to` one after the other and hands on the windows
    /// that end with each.
    pub fn advance(
        &mut self,
        windows: &mut TimeWindows,
        common: &mut Common,
        from: i64,
        to: i64,
        out: &mut Vec<Chunk>,
    ) {
        let mut next = from;
        loop {
            if self.is_empty() {
                // Nothing is in any window until the next slice with rows.
                match windows.open.keys().next() {
                    Some(first) if *first < to => next = next.max(*first),
                    _ => return,
                }
            }
            if next >= to {
                return;
            }
            self.close_slice(windows, next);
            let start = next + 1 - windows.slicer.size;
            if windows.slicer.is_window(start) {
                self.emit(&windows.slicer, &windows.arena, common, start, out);
            }
            self.forget(&mut windows.arena, start);
            next += 1;
        }
    }

    fn close_slice(&mut self, windows: &mut TimeWindows, slice: i64) {
        let block = slice.div_euclid(windows.slicer.size);
        if block != self.block {
            self.turn(&mut windows.arena, block);
        }
        if let Some(table) = windows.open.remove(&slice) {
            self.prefix
                .merge(&mut self.prefix_arena, &table, &windows.arena);
            self.slices.insert(slice, table);
        }
    }

    /// Begins another block: the slices of the last one become suffixes.
    fn turn(&mut self, arena: &mut Arena, block: i64) {
        for suffix in self.suffixes.values_mut() {
            suffix
                .table
                .release(&mut self.suffix_arenas[usize::from(suffix.odd)]);
        }
        self.suffixes.clear();
        for mut table in std::mem::take(&mut self.plain).into_values() {
            table.release(arena);
        }
        self.suffixes_from = i64::MIN;
        let groups: usize = self.slices.values().map(|slice| slice.entries.len()).sum();
        let mut held = 0;
        let follows = block == self.block.saturating_add(1);
        let mut before: Option<(i64, bool)> = None;
        for (slice, mut table) in std::mem::take(&mut self.slices).into_iter().rev() {
            if follows && held > SUFFIX_FACTOR * groups {
                self.plain.insert(slice, table);
                continue;
            }
            if follows {
                let odd = before.is_some_and(|(_, odd)| !odd);
                let (own, other) = own_and_other(&mut self.suffix_arenas, odd);
                let mut merged = Table::default();
                merged.merge(own, &table, arena);
                if let Some((later, _)) = before
                    && let Some(suffix) = self.suffixes.get(&later)
                {
                    merged.merge(own, &suffix.table, other);
                }
                held += merged.entries.len();
                if held > SUFFIX_FACTOR * groups {
                    self.suffixes_from = slice;
                }
                self.suffixes.insert(slice, Suffix { table: merged, odd });
                before = Some((slice, odd));
            }
            table.release(arena);
        }
        self.prefix.release(&mut self.prefix_arena);
        self.block = block;
    }

    fn emit(
        &mut self,
        slicer: &Slicer,
        slice_arena: &Arena,
        common: &mut Common,
        start: i64,
        out: &mut Vec<Chunk>,
    ) {
        let mut window = Table::default();
        for (_, slice) in self.plain.range(start..) {
            window.merge(&mut self.window_arena, slice, slice_arena);
        }
        if start < self.block.saturating_mul(slicer.size)
            && let Some((_, suffix)) = self.suffixes.range(start..).next()
        {
            let arena = &self.suffix_arenas[usize::from(suffix.odd)];
            window.merge(&mut self.window_arena, &suffix.table, arena);
        }
        window.merge(&mut self.window_arena, &self.prefix, &self.prefix_arena);
        if window.entries.is_empty() {
            return;
        }
        let mut results = Results::default();
        let (from, to) = (slicer.start(start), slicer.start(start + slicer.size));
        for (key, _) in &window.entries {
            results.push(*key, from, to, to - 1);
        }
        out.push(common.results(&results, self.window_arena.finish(&window.slots())));
        window.release(&mut self.window_arena);
    }

    /// Lets go of what no later window begins with.
    fn forget(&mut self, arena: &mut Arena, start: i64) {
        while let Some(entry) = self
            .plain
            .first_entry()
            .filter(|entry| *entry.key() <= start)
        {
            entry.remove().release(arena);
        }
        while let Some(entry) = self
            .suffixes
            .first_entry()
            .filter(|entry| *entry.key() <= start)
        {
            let mut suffix = entry.remove();
            suffix
                .table
                .release(&mut self.suffix_arenas[usize::from(suffix.odd)]);
        }
    }

    /// Adds a row to a slice that is closed, for the windows that are not.
    pub fn add_behind(
        &mut self,
        slicer: &Slicer,
        slice: i64,
        key: u32,
        arena: &mut Arena,
        add: impl Fn(&mut Arena, u32),
    ) {
        let block = slice.div_euclid(slicer.size);
        if self.block == i64::MIN || block > self.block {
            // No slice of this block had rows when it was closed.
            self.turn(arena, block);
        }
        if block == self.block {
            let slot = self.slices.entry(slice).or_default().slot(key, arena);
            add(arena, slot);
            let slot = self.prefix.slot(key, &mut self.prefix_arena);
            add(&mut self.prefix_arena, slot);
            return;
        }
        if block + 1 != self.block {
            return;
        }
        if slice < self.suffixes_from {
            let slot = self.plain.entry(slice).or_default().slot(key, arena);
            add(arena, slot);
            return;
        }
        if !self.suffixes.contains_key(&slice) {
            let later = self.suffixes.range(slice..).next();
            let odd = later.is_some_and(|(_, suffix)| !suffix.odd);
            let mut table = Table::default();
            if let Some((_, suffix)) = later {
                let (own, other) = own_and_other(&mut self.suffix_arenas, odd);
                table.merge(own, &suffix.table, other);
            }
            self.suffixes.insert(slice, Suffix { table, odd });
        }
        for suffix in self.suffixes.range_mut(..=slice).map(|(_, suffix)| suffix) {
            let arena = &mut self.suffix_arenas[usize::from(suffix.odd)];
            let slot = suffix.table.slot(key, arena);
            add(arena, slot);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.tables().map(Table::memory_bytes).sum::<usize>()
            + self.prefix_arena.memory_bytes()
            + self.window_arena.memory_bytes()
            + self
                .suffix_arenas
                .iter()
                .map(Arena::memory_bytes)
                .sum::<usize>()
    }

    pub fn encode(&self, common: &Common, arena: &Arena, out: &mut Encoder) {
        out.put_i64(self.block);
        out.put_count(self.slices.len());
        for (slice, table) in &self.slices {
            out.put_i64(*slice);
            table.encode(common, arena, out);
        }
        self.prefix.encode(common, &self.prefix_arena, out);
        out.put_i64(self.suffixes_from);
        out.put_count(self.plain.len());
        for (slice, table) in &self.plain {
            out.put_i64(*slice);
            table.encode(common, arena, out);
        }
        out.put_count(self.suffixes.len());
        for (slice, suffix) in &self.suffixes {
            out.put_i64(*slice);
            out.put_bool(suffix.odd);
            suffix
                .table
                .encode(common, &self.suffix_arenas[usize::from(suffix.odd)], out);
        }
    }

    pub fn decode(
        &mut self,
        common: &mut Common,
        arena: &mut Arena,
        input: &mut Decoder<'_>,
    ) -> Result<(), StateError> {
        self.block = input.take_i64()?;
        for _ in 0..input.take_count(12)? {
            let slice = input.take_i64()?;
            self.slices
                .insert(slice, Table::decode(common, arena, input)?);
        }
        self.prefix = Table::decode(common, &mut self.prefix_arena, input)?;
        self.suffixes_from = input.take_i64()?;
        for _ in 0..input.take_count(12)? {
            let slice = input.take_i64()?;
            self.plain
                .insert(slice, Table::decode(common, arena, input)?);
        }
        for _ in 0..input.take_count(13)? {
            let slice = input.take_i64()?;
            let odd = input.take_bool()?;
            let arena = &mut self.suffix_arenas[usize::from(odd)];
            let table = Table::decode(common, arena, input)?;
            self.suffixes.insert(slice, Suffix { table, odd });
        }
        Ok(())
    }
}
