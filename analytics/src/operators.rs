//! The steps of the work, columnar.
//!
//! A plan becomes a tree of [`Operator`]s. Rows go in at the scans with
//! [`Operator::feed`], then [`Operator::advance`] tells how far event time has
//! come, and both hand rows to the caller. What comes out does not depend on how
//! the rows were cut into batches: each row carries the watermark that held when
//! it arrived ([`Chunk::marks`]), and that one decides whether it is late.

mod analytic;
mod arena;
mod join;
mod keys;
mod plain;
mod window;

pub use keys::KeyTable;

use crate::batch::Batch;
use crate::functions::Body;
use crate::parse::gcd;
use crate::plan::{AggregateCall, Node, Scan};
use crate::state::{Decoder, Encoder, StateError};

/// Rows on their way through the tree.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The columns.
    pub batch: Batch,
    /// Event times in milliseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// The watermark just before each row; absent if no row lies behind it.
    pub marks: Option<Vec<i64>>,
    /// Which of the records handed in each row is; empty for rows of windows.
    pub records: Vec<u32>,
}

impl Chunk {
    /// The rows at `rows`, in that order.
    pub fn take(&self, rows: &[u32]) -> Self {
        fn pick<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|row| values[*row as usize]).collect()
        }
        Self {
            batch: self.batch.take(rows),
            times: pick(&self.times, rows),
            marks: self.marks.as_ref().map(|marks| pick(marks, rows)),
            records: if self.records.is_empty() {
                Vec::new()
            } else {
                pick(&self.records, rows)
            },
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// The watermark just before a row.
    pub fn mark(&self, row: usize) -> i64 {
        self.marks.as_ref().map_or(i64::MIN, |marks| marks[row])
    }
}

/// Why a row was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Its windows had closed.
    Late,
    /// Its time is further ahead of the record time than the stream allows.
    Ahead,
    /// The memory budget is used up and the row would need a new group.
    Memory,
}

/// A record that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its place among the records handed in; none for a row of a query in FROM.
    pub record: Option<u32>,
    /// Why.
    pub reason: Refusal,
}

/// What operators are given and what they report beside rows.
#[derive(Debug, Default)]
pub struct Context {
    /// The rows of each scan; taken by the scan.
    pub scans: Vec<Option<Chunk>>,
    /// The watermark of each scan after these rows.
    pub marks: Vec<i64>,
    /// Rows that were not taken.
    pub refused: Vec<Refused>,
    /// Whether the memory budget is used up, so that nothing new may be kept.
    pub full: bool,
    /// Windows that ended early and keys that were forgotten to stay in the
    /// budget.
    pub shed: u64,
    /// Answers that are null because there was no memory for a key.
    pub unanswered: u64,
}

impl Context {
    /// Notes a row that was not taken.
    pub fn refuse(&mut self, chunk: &Chunk, row: usize, reason: Refusal) {
        self.refused.push(Refused {
            record: chunk.records.get(row).copied(),
            reason,
        });
    }
}

/// One step.
pub trait Operator: Send {
    /// Takes the rows of the scans below and hands on what comes of them.
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>);

    /// Learns how far event time has come, hands on what that finishes, and
    /// returns the watermark of its output.
    fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64;

    /// Appends the state of this and the steps below.
    fn encode(&self, out: &mut Encoder);

    /// Replaces the state of this and the steps below.
    ///
    /// # Errors
    /// [`StateError`]; the operator is unusable afterwards.
    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Bytes of memory in use by this and the steps below.
    fn memory_bytes(&self) -> usize;

    /// The event time from which rows still feed something open; rows before it
    /// are not needed to rebuild the state. `i64::MIN` means that all rows are,
    /// so that only an encoded state can replace them.
    fn horizon(&self) -> i64;

    /// The watermark at which something that is open will be handed on, or an
    /// earlier one; `i64::MAX` if nothing waits for time.
    fn due(&self) -> i64;

    /// Gives up the oldest part of what is kept, if this is a step whose state
    /// can be given up in parts.
    fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>);
}

/// The operators of a plan.
pub fn build(node: &Node, scans: &[Scan]) -> Box<dyn Operator> {
    match node {
        Node::Scan(index) => Box::new(plain::ScanRows::new(*index)),
        Node::Filter { input, predicate } => {
            Box::new(plain::Filter::new(build(input, scans), predicate))
        }
        Node::Project { input, exprs } => Box::new(plain::Project::new(build(input, scans), exprs)),
        Node::Analytic { input, calls } => {
            Box::new(analytic::Analytic::new(build(input, scans), calls))
        }
        Node::Window { input, .. } => window::build(node, build(input, scans)),
        Node::Join { left, right, join } => join::build(
            build(left, scans),
            build(right, scans),
            join,
            &left.types(scans),
        ),
        Node::Union(nodes) => Box::new(plain::Union::new(
            nodes.iter().map(|node| build(node, scans)).collect(),
        )),
    }
}

/// Bytes that the aggregates of one group in one slice take when it is new.
pub fn slot_bytes(aggregates: &[AggregateCall]) -> usize {
    const GROUPS: usize = 64;
    // A key in the tables: hash place, slot, reference.
    let mut bytes = 24;
    for aggregate in aggregates {
        if let Body::Aggregate(make) = aggregate.function.body
            && let Ok(mut states) = aggregate.with_call(make)
        {
            states.resize(GROUPS);
            bytes += states.memory_bytes().div_ceil(GROUPS);
        }
    }
    bytes
}

/// The length of the slices that windows are made of.
pub fn slice_ms(size: i64, slide: i64) -> i64 {
    gcd(size, slide)
}
