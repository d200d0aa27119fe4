//! The groups of one slice or window and their slots.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Common;
use crate::operators::arena::Arena;
use crate::state::{Decoder, Encoder, StateError};

/// Groups in the order in which they came, each with a slot of an arena.
#[derive(Default)]
pub struct Table {
    places: HashMap<u32, u32, FixedState>,
    pub entries: Vec<(u32, u32)>,
}

impl Table {
    /// The slot of a key, handed out if it is new.
    #[inline]
    pub fn slot(&mut self, key: u32, arena: &mut Arena) -> u32 {
        *self.places.entry(key).or_insert_with(|| {
            let slot = arena.alloc();
            self.entries.push((key, slot));
            slot
        })
    }

    pub fn slots(&self) -> Vec<u32> {
        self.entries.iter().map(|(_, slot)| *slot).collect()
    }

    /// Adds the groups of a table whose slots are in another arena.
    pub fn merge(&mut self, arena: &mut Arena, other: &Self, other_arena: &Arena) {
        let pairs: Vec<(u32, u32)> = other
            .entries
            .iter()
            .map(|(key, slot)| (*slot, self.slot(*key, arena)))
            .collect();
        arena.merge(other_arena, &pairs);
    }

    /// Gives the slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        arena.release(&self.slots());
        self.entries.clear();
        self.places.clear();
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * 8 + self.places.capacity() * 9
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
