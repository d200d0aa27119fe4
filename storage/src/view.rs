//! The view of the state: disposable, rebuilt from the journal on any doubt.

mod sled;

pub(crate) use sled::SledView;

use crate::state::Op;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Where applied changes live.
pub(crate) trait View: Send {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Returns the entries whose keys begin with `prefix`, by key.
    fn scan_prefix(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)>;
    /// Applies changes together.
    fn apply(&mut self, ops: &[Op]) -> Result<(), String>;
    /// Makes everything durable as the state at `journal_end`.
    fn close(self: Box<Self>, journal_end: u64) -> Result<(), String>;
}

/// A view in memory, for simulated disks and for when the other one fails.
#[derive(Default)]
pub(crate) struct MemoryView {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.entries.get(key).cloned()
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.entries
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            match &op.value {
                Some(value) => self.entries.insert(op.key.clone(), value.clone()),
                None => self.entries.remove(&op.key),
            };
        }
        Ok(())
    }

    fn close(self: Box<Self>, _journal_end: u64) -> Result<(), String> {
        Ok(())
    }
}
