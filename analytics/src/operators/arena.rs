//! States of all aggregates of a window, one slot per group and slice.

use crate::column::Column;
use crate::functions::{Accumulator, Body, Rows};
use crate::plan::AggregateCall;
use crate::state::{Decoder, Encoder, StateError};

/// Slots that are handed out, cleared and handed out again.
pub struct Arena {
    states: Vec<Box<dyn Accumulator>>,
    free: Vec<u32>,
    /// Slots below this were handed out once.
    used: u32,
    capacity: u32,
}

impl Arena {
    /// Slots for these aggregates.
    pub fn new(aggregates: &[AggregateCall]) -> Self {
        let states = aggregates
            .iter()
            .map(|aggregate| {
                let Body::Aggregate(make) = aggregate.function.body else {
                    unreachable!("the binder puts aggregates here only")
                };
                aggregate
                    .with_call(make)
                    .expect("the binder made the same call")
            })
            .collect();
        Self {
            states,
            free: Vec::new(),
            used: 0,
            capacity: 0,
        }
    }

    /// An empty arena for the same aggregates.
    pub fn fresh(&self) -> Self {
        Self {
            states: self.states.iter().map(|state| state.fresh()).collect(),
            free: Vec::new(),
            used: 0,
            capacity: 0,
        }
    }

    /// A slot in the state of no rows.
    #[inline]
    pub fn alloc(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = self.used;
        self.used += 1;
        if self.used > self.capacity {
            self.capacity = (self.capacity * 2).max(16);
            for state in &mut self.states {
                state.resize(self.capacity as usize);
            }
        }
        slot
    }

    /// Takes slots back.
    pub fn release(&mut self, slots: &[u32]) {
        for state in &mut self.states {
            state.clear(slots);
        }
        self.free.extend_from_slice(slots);
    }

    /// Adds rows; `arguments` holds the columns of each aggregate.
    pub fn update(&mut self, slots: &[u32], times: &[i64], arguments: &[Vec<Column>]) {
        for (state, arguments) in self.states.iter_mut().zip(arguments) {
            state.update(Rows {
                groups: slots,
                times,
                arguments,
            });
        }
    }

    /// Adds states of another arena, as later arrivals.
    pub fn merge(&mut self, other: &Self, pairs: &[(u32, u32)]) {
        for (state, other) in self.states.iter_mut().zip(&other.states) {
            state.merge(other.as_ref(), pairs);
        }
    }

    /// The same between slots of this arena.
    pub fn merge_within(&mut self, pairs: &[(u32, u32)]) {
        for state in &mut self.states {
            state.merge_within(pairs);
        }
    }

    /// One column per aggregate, of slots with others merged into them.
    pub fn finish_merged(&self, pairs: &[(u32, Option<u32>)]) -> Vec<Column> {
        self.states
            .iter()
            .map(|state| state.finish_merged(pairs))
            .collect()
    }

    /// One column per aggregate.
    pub fn finish(&self, slots: &[u32]) -> Vec<Column> {
        self.states
            .iter()
            .map(|state| state.finish(slots))
            .collect()
    }

    /// Appends the states of a slot.
    pub fn encode(&self, slot: u32, out: &mut Encoder) {
        for state in &self.states {
            state.encode(slot, out);
        }
    }

    /// Reads the states of a slot that was handed out.
    ///
    /// # Errors
    /// [`StateError`] of the aggregate that refuses its bytes.
    pub fn decode(&mut self, slot: u32, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.states
            .iter_mut()
            .try_for_each(|state| state.decode(slot, input))
    }

    /// Bytes that the slots in use take. Slots that were given back are used
    /// again before the arena grows.
    pub fn memory_bytes(&self) -> usize {
        let states: usize = self.states.iter().map(|state| state.memory_bytes()).sum();
        let live = self.used as usize - self.free.len();
        states / (self.capacity as usize).max(1) * live
    }
}
