//! What a query hands out.

use crate::alerts::AlertEvent;
use crate::decode::DecodeCounts;
use crate::operators::{Chunk, Refused};
use crate::value::Value;

/// What a call produced.
#[derive(Debug, Default)]
pub struct Output {
    /// Result rows. Columns are [`crate::plan::Plan::output`], of which the last
    /// [`crate::plan::Plan::hidden`] are not for people.
    pub rows: Vec<Chunk>,
    /// Alerts that begin or end, in order.
    pub alerts: Vec<AlertEvent>,
    /// Rows that were not taken; those with a record belong into `<query>.late`.
    /// A record may be in here more than once, when several parts of a query read
    /// it.
    pub refused: Vec<Refused>,
    /// Whether the memory budget began or ceased to change results: an alarm of
    /// the gateway.
    pub budget: Option<Budget>,
}

/// A change in how a query stands to its memory budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Windows end early, keys are forgotten or rows refused from here on.
    Reached,
    /// Results are whole again.
    Relieved,
}

/// Counters since the query was made; they are not part of the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What decoding met.
    pub decode: DecodeCounts,
    /// Result rows.
    pub rows_out: u64,
    /// Rows whose windows had closed.
    pub late: u64,
    /// Rows too far ahead of their record time.
    pub ahead: u64,
    /// Rows for which there was no memory.
    pub no_memory: u64,
    /// Windows closed early and keys forgotten to stay in the memory budget.
    pub shed: u64,
    /// Answers of analytic functions that are null for want of memory.
    pub unanswered: u64,
    /// Rows that would have raised an alert of a key for which there was no
    /// memory.
    pub untracked: u64,
}

impl Output {
    /// The rows as values, for tests and tools.
    pub fn values(&self) -> Vec<Vec<Value>> {
        self.rows
            .iter()
            .flat_map(|chunk| {
                (0..chunk.rows()).map(|row| {
                    chunk
                        .batch
                        .columns()
                        .iter()
                        .map(|column| column.value(row))
                        .collect()
                })
            })
            .collect()
    }
}
