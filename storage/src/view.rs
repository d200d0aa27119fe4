//! The view of the state: disposable, rebuilt from the journal on any doubt.

mod sled;

pub(crate) use sled::SledView;

use crate::state::Op;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Why a view does not answer. It says nothing about the keys: the caller asks
/// the journal.
#[derive(Debug, thiserror::Error)]
#[error("state view: {0}")]
pub(crate) struct ViewError(pub String);

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// Where applied changes live.
pub(crate) trait View: Send {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
    /// Returns the entries whose keys begin with `prefix`, by key.
    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<Entry>, ViewError>;
    /// Applies changes together.
    fn apply(&mut self, ops: &[Op]) -> Result<(), ViewError>;
    /// Makes everything durable as the state at `journal_end`.
    fn close(self: Box<Self>, journal_end: u64) -> Result<(), ViewError>;
}

/// A view that was closed. Who still asks gets the answer from the journal.
pub(crate) struct ClosedView;

fn closed<T>() -> Result<T, ViewError> {
    Err(ViewError("it is closed".into()))
}

impl View for ClosedView {
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        closed()
    }

    fn scan_prefix(&self, _prefix: &[u8]) -> Result<Vec<Entry>, ViewError> {
        closed()
    }

    fn apply(&mut self, _ops: &[Op]) -> Result<(), ViewError> {
        closed()
    }

    fn close(self: Box<Self>, _journal_end: u64) -> Result<(), ViewError> {
        Ok(())
    }
}

/// A view in memory, for simulated disks and for when the other one fails.
#[derive(Default)]
pub(crate) struct MemoryView {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<Entry>, ViewError> {
        Ok(self
            .entries
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), ViewError> {
        for op in ops {
            match &op.value {
                Some(value) => self.entries.insert(op.key.clone(), value.clone()),
                None => self.entries.remove(&op.key),
            };
        }
        Ok(())
    }

    fn close(self: Box<Self>, _journal_end: u64) -> Result<(), ViewError> {
        Ok(())
    }
}
