//! Suffixes and prefixes of blocks, for windows that overlap.

use std::collections::BTreeMap;

use super::TimeWindows;
use crate::operators::Chunk;
use crate::operators::arena::Arena;
use crate::operators::window::slicer::Slicer;
use crate::operators::window::table::Table;
use crate::operators::window::{Common, Results};
use crate::state::{Decoder, Encoder, StateError};

/// Suffixes of slices with few groups in common are as large as all slices
/// together, each of them. When the suffixes of a block hold so many times the
/// groups of its slices, the slices before them stay as they are, and a window
/// merges those that it contains: that costs time instead of memory. Whether it
/// happens depends on the groups alone, so sums are added in the same order
/// after a restart.
const SUFFIX_FACTOR: usize = 4;

/// What overlapping windows are put together from. All slots are in the arena
/// of the slices.
pub struct Overlap {
    /// The block that the last closed slice is in.
    block: i64,
    /// Closed slices of the block.
    slices: BTreeMap<i64, Table>,
    prefix: Table,
    /// Slices of the block before that no suffix contains, all before
    /// `suffixes_from`.
    plain: BTreeMap<i64, Table>,
    suffixes_from: i64,
    /// Merges from a slice to the end of the block before.
    suffixes: BTreeMap<i64, Table>,
}

impl Overlap {
    pub fn new() -> Self {
        Self {
            block: i64::MIN,
            slices: BTreeMap::new(),
            prefix: Table::default(),
            plain: BTreeMap::new(),
            suffixes_from: i64::MIN,
            suffixes: BTreeMap::new(),
        }
    }

    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.slices
            .values()
            .chain(self.plain.values())
            .chain(self.suffixes.values())
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
                self.emit(&windows.slicer, &mut windows.arena, common, start, out);
            }
            self.forget(windows, start);
            next += 1;
        }
    }

    fn close_slice(&mut self, windows: &mut TimeWindows, slice: i64) {
        let block = slice.div_euclid(windows.slicer.size);
        if block != self.block {
            self.turn(&mut windows.arena, block);
        }
        if let Some(table) = windows.open.remove(&slice) {
            self.prefix.absorb(&table, &mut windows.arena);
            self.slices.insert(slice, table);
        }
    }

    /// Begins another block: the slices of the last one become suffixes.
    fn turn(&mut self, arena: &mut Arena, block: i64) {
        let old = std::mem::take(&mut self.suffixes).into_values();
        for mut table in old.chain(std::mem::take(&mut self.plain).into_values()) {
            table.release(arena);
        }
        self.suffixes_from = i64::MIN;
        let slices = std::mem::take(&mut self.slices);
        let groups: usize = slices.values().map(|slice| slice.entries.len()).sum();
        let mut held = 0;
        let follows = block == self.block.saturating_add(1);
        for (slice, mut table) in slices.into_iter().rev() {
            if !follows {
                table.release(arena);
                continue;
            }
            if held > SUFFIX_FACTOR * groups {
                self.plain.insert(slice, table);
                continue;
            }
            if let Some((_, later)) = self.suffixes.first_key_value() {
                table.absorb(later, arena);
            }
            held += table.entries.len();
            if held > SUFFIX_FACTOR * groups {
                self.suffixes_from = slice;
            }
            self.suffixes.insert(slice, table);
        }
        self.prefix.release(arena);
        self.block = block;
    }

    fn emit(
        &mut self,
        slicer: &Slicer,
        arena: &mut Arena,
        common: &mut Common,
        start: i64,
        out: &mut Vec<Chunk>,
    ) {
        let behind = start < self.block.saturating_mul(slicer.size);
        let suffix = self.suffixes.range(start..).next().filter(|_| behind);
        let suffix = suffix.map(|(_, table)| table);
        let likely = self.prefix.entries.len();
        let (mut keys, mut pairs) = (Vec::with_capacity(likely), Vec::with_capacity(likely));
        let mut window = Table::default();
        if self.plain.range(start..).next().is_some() {
            for slice in self.plain.range(start..).map(|(_, slice)| slice) {
                window.absorb(slice, arena);
            }
            for part in suffix.into_iter().chain([&self.prefix]) {
                window.absorb(part, arena);
            }
            for (key, slot) in &window.entries {
                keys.push(*key);
                pairs.push((*slot, None));
            }
        } else {
            for (key, slot) in suffix.iter().flat_map(|suffix| &suffix.entries) {
                keys.push(*key);
                pairs.push((*slot, self.prefix.find(*key)));
            }
            for (key, slot) in &self.prefix.entries {
                if suffix.is_none_or(|suffix| suffix.find(*key).is_none()) {
                    keys.push(*key);
                    pairs.push((*slot, None));
                }
            }
        }
        if keys.is_empty() {
            return;
        }
        let (from, to) = (slicer.start(start), slicer.start(start + slicer.size));
        let results = Results::same(keys, from, to);
        out.push(common.results(results, arena.finish_merged(&pairs)));
        window.release(arena);
    }

    /// Lets go of what no later window begins with.
    fn forget(&mut self, windows: &mut TimeWindows, start: i64) {
        while let Some(entry) = self
            .plain
            .first_entry()
            .filter(|entry| *entry.key() <= start)
        {
            windows.release(entry.remove());
        }
        while let Some(entry) = self
            .suffixes
            .first_entry()
            .filter(|entry| *entry.key() <= start)
        {
            windows.release(entry.remove());
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
            let slot = self.prefix.slot(key, arena);
            add(arena, slot);
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
            let mut table = Table::default();
            if let Some((_, later)) = self.suffixes.range(slice..).next() {
                table.absorb(later, arena);
            }
            self.suffixes.insert(slice, table);
        }
        for (_, suffix) in self.suffixes.range_mut(..=slice) {
            let slot = suffix.slot(key, arena);
            add(arena, slot);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.tables().map(Table::memory_bytes).sum()
    }

    pub fn encode(&self, common: &Common, arena: &Arena, out: &mut Encoder) {
        out.put_i64(self.block);
        out.put_count(self.slices.len());
        for (slice, table) in &self.slices {
            out.put_i64(*slice);
            table.encode(common, arena, out);
        }
        self.prefix.encode(common, arena, out);
        out.put_i64(self.suffixes_from);
        out.put_count(self.plain.len());
        for (slice, table) in &self.plain {
            out.put_i64(*slice);
            table.encode(common, arena, out);
        }
        out.put_count(self.suffixes.len());
        for (slice, table) in &self.suffixes {
            out.put_i64(*slice);
            table.encode(common, arena, out);
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
        self.prefix = Table::decode(common, arena, input)?;
        self.suffixes_from = input.take_i64()?;
        for _ in 0..input.take_count(12)? {
            let slice = input.take_i64()?;
            self.plain
                .insert(slice, Table::decode(common, arena, input)?);
        }
        for _ in 0..input.take_count(12)? {
            let slice = input.take_i64()?;
            self.suffixes
                .insert(slice, Table::decode(common, arena, input)?);
        }
        Ok(())
    }
}
