//! The groups of one slice or window and their slots.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Common;
use crate::operators::arena::Arena;
use crate::state::{Decoder, Encoder, StateError};

/// Groups in the order in which they came, each with a slot of an arena.
#[derive(Default)]
pub struct Table {
    /// Places by number of the key, for numbers that are small compared with
    /// the number of groups: looking there costs no hash.
    near: Vec<u32>,
    /// Places of the other keys.
    far: HashMap<u32, u32, FixedState>,
    pub entries: Vec<(u32, u32)>,
}

/// No place in [`Table::near`].
const NOWHERE: u32 = u32::MAX;
/// Numbers up to this many times the number of groups, and a few more, are near:
/// an empty place takes 4 bytes, a hashed one about 18.
const NEAR_FACTOR: usize = 4;
const NEAR_MIN: usize = 256;

impl Table {
    /// The slot of a key, handed out if it is new.
    #[inline]
    pub fn slot(&mut self, key: u32, arena: &mut Arena) -> u32 {
        if let Some(slot) = self.near.get(key as usize).filter(|slot| **slot != NOWHERE) {
            return *slot;
        }
        self.far_slot(key, arena)
    }

    /// The slot of a key that is there.
    pub fn find(&self, key: u32) -> Option<u32> {
        let near = self.near.get(key as usize).filter(|slot| **slot != NOWHERE);
        near.or_else(|| self.far.get(&key)).copied()
    }

    fn far_slot(&mut self, key: u32, arena: &mut Arena) -> u32 {
        if let Some(slot) = self.far.get(&key) {
            return *slot;
        }
        let slot = arena.alloc();
        self.entries.push((key, slot));
        let place = key as usize;
        if place < self.near.len() {
            self.near[place] = slot;
        } else if place < NEAR_MIN + NEAR_FACTOR * self.entries.len() {
            // Twice as many at once, within what is near.
            let length = (place + 1).max(self.near.len() * 2);
            self.near.resize(length, NOWHERE);
            self.near[place] = slot;
        } else {
            self.far.insert(key, slot);
        }
        slot
    }

    /// Makes room for about as many groups, with numbers as large, as another
    /// table has.
    fn reserve_like(&mut self, other: &Self) {
        self.entries.reserve(other.entries.len());
        if self.near.len() < other.near.len() {
            self.near.resize(other.near.len(), NOWHERE);
        }
    }

    pub fn slots(&self) -> Vec<u32> {
        self.entries.iter().map(|(_, slot)| *slot).collect()
    }

    /// Adds the groups of another table, as later arrivals.
    pub fn absorb(&mut self, other: &Self, arena: &mut Arena) {
        if self.entries.is_empty() {
            self.reserve_like(other);
        }
        let pairs: Vec<(u32, u32)> = other
            .entries
            .iter()
            .map(|(key, slot)| (*slot, self.slot(*key, arena)))
            .collect();
        arena.merge_within(&pairs);
    }

    /// Gives the slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        arena.release(&self.slots());
        for (key, _) in self.entries.drain(..) {
            if let Some(slot) = self.near.get_mut(key as usize) {
                *slot = NOWHERE;
            }
        }
        self.far.clear();
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * 8 + self.near.len() * 4 + self.far.capacity() * 9
    }

    pub fn encode(&self, common: &Common, arena: &Arena, out: &mut Encoder) {
        out.put_count(self.entries.len());
        for (key, slot) in &self.entries {
            out.put_bytes(common.keys.key(*key));
            arena.encode(*slot, out);
        }
    }

    pub fn decode(
        common: &mut Common,
        arena: &mut Arena,
        input: &mut Decoder<'_>,
    ) -> Result<Self, StateError> {
        let mut table = Self::default();
        for _ in 0..input.take_count(4)? {
            let key = common.keys.decode_key(input)?;
            let slot = table.slot(key, arena);
            arena.decode(slot, input)?;
        }
        Ok(table)
    }
}
