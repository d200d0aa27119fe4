//! Rows to windows to rows.

mod count;
mod session;
mod slicer;
mod state;
mod table;
mod time;

use super::keys::{KeyTable, NO_KEY};
use super::{Chunk, Context, Operator, Refusal};
use crate::batch::Batch;
use crate::column::{Column, Values};
use crate::eval::Evaluator;
use crate::plan::{AggregateCall, Cut, Expr, Node};
use crate::state::{Decoder, Encoder, StateError};

/// The running form of a [`Node::Window`].
pub fn build(node: &Node, input: Box<dyn Operator>) -> Box<dyn Operator> {
    let Node::Window {
        cut,
        keys,
        aggregates,
        changes,
        per_key,
        ..
    } = node
    else {
        unreachable!("called for windows only")
    };
    let common = Common::new(keys, aggregates);
    let changes = *changes;
    match cut {
        Cut::Time {
            size,
            slide,
            offset,
            zone,
        } => {
            let slicer = slicer::Slicer::new(*size, *slide, *offset, zone.as_deref());
            match per_key {
                None => boxed(
                    input,
                    common,
                    time::TimeWindows::new(slicer, aggregates, changes),
                ),
                Some(watermark) => boxed(
                    input,
                    common,
                    time::KeyedWindows::new(slicer, aggregates, watermark.delay_ms),
                ),
            }
        }
        Cut::Session { gap, max } => boxed(
            input,
            common,
            session::Sessions::new(*gap, *max, aggregates, changes),
        ),
        Cut::Count { rows, step } => boxed(
            input,
            common,
            count::CountWindows::new(*rows, *step, aggregates),
        ),
        Cut::State { open, close } => boxed(
            input,
            common,
            state::StateWindows::new(open, close.as_ref(), aggregates),
        ),
    }
}

fn boxed<C: Cutter + 'static>(
    input: Box<dyn Operator>,
    common: Common,
    cutter: C,
) -> Box<dyn Operator> {
    Box::new(Windows {
        input,
        common,
        cutter,
    })
}

/// What all kinds of windows need.
pub struct Common {
    pub keys: KeyTable,
    arguments: Vec<Vec<Evaluator>>,
}

impl Common {
    fn new(keys: &[Expr], aggregates: &[AggregateCall]) -> Self {
        Self {
            keys: KeyTable::new(keys),
            arguments: aggregates
                .iter()
                .map(|aggregate| aggregate.arguments.iter().map(Evaluator::new).collect())
                .collect(),
        }
    }

    /// The arguments of each aggregate.
    pub fn arguments(&mut self, batch: &Batch) -> Vec<Vec<Column>> {
        self.arguments
            .iter_mut()
            .map(|arguments| arguments.iter_mut().map(|one| one.column(batch)).collect())
            .collect()
    }

    /// Result rows: keys, beginning, end, aggregates.
    pub fn results(&mut self, windows: Results, aggregates: Vec<Column>) -> Chunk {
        let rows = windows.keys.len();
        let mut columns = self.keys.columns(&windows.keys);
        columns.push(Column::new(Values::Timestamp(windows.starts), None));
        columns.push(Column::new(Values::Timestamp(windows.ends), None));
        columns.extend(aggregates);
        Chunk {
            batch: Batch::new(columns, rows),
            times: windows.times,
            marks: None,
            records: Vec::new(),
        }
    }
}

/// The windows that become result rows.
#[derive(Default)]
pub struct Results {
    pub keys: Vec<u32>,
    pub starts: Vec<i64>,
    pub ends: Vec<i64>,
    pub times: Vec<i64>,
}

impl Results {
    /// Windows of many keys with the same bounds.
    pub fn same(keys: Vec<u32>, start: i64, end: i64) -> Self {
        let rows = keys.len();
        Self {
            keys,
            starts: vec![start; rows],
            ends: vec![end; rows],
            times: vec![end - 1; rows],
        }
    }

    pub fn push(&mut self, key: u32, start: i64, end: i64, time: i64) {
        self.keys.push(key);
        self.starts.push(start);
        self.ends.push(end);
        self.times.push(time);
    }
}

/// Which share of the windows ends early at once when memory is short: often
/// enough to bring relief, seldom enough to lose little.
const SHED_SHARE: usize = 16;

/// The keys whose times are the oldest share, oldest first; `times` are those of
/// keys that hold something.
pub fn oldest(keys: &KeyTable, mut times: Vec<(i64, u32)>) -> Vec<u32> {
    times.sort_unstable_by(|(left, left_key), (right, right_key)| {
        // Numbers of keys are others after a restart.
        left.cmp(right)
            .then_with(|| keys.key(*left_key).cmp(keys.key(*right_key)))
    });
    times.truncate(times.len().div_ceil(SHED_SHARE));
    times.into_iter().map(|(_, key)| key).collect()
}

/// One way to cut rows into windows.
pub trait Cutter: Send {
    /// Whether the watermark closes these windows.
    const BY_TIME: bool;

    /// Takes rows; `keys` holds the number of each row's key.
    fn take(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        out: &mut Vec<Chunk>,
    );

    /// Hands on the windows that end at or before the watermark.
    fn close(&mut self, common: &mut Common, mark: i64, out: &mut Vec<Chunk>);

    /// Hands on what changed since the last time, if that is wanted.
    fn changes(&mut self, _: &mut Common, _: &mut Vec<Chunk>) {}

    /// Appends the state; keys go through `common`.
    fn encode(&self, common: &Common, out: &mut Encoder);

    /// Replaces the state.
    ///
    /// # Errors
    /// [`StateError`].
    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Bytes of memory in use.
    fn memory_bytes(&self) -> usize;

    /// See [`Operator::horizon`].
    fn horizon(&self) -> i64;

    /// See [`Operator::due`].
    fn due(&self) -> i64;

    /// Ends the oldest windows early. Returns how many that were.
    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64;
}

/// Windows of one kind.
struct Windows<C> {
    input: Box<dyn Operator>,
    common: Common,
    cutter: C,
}

impl<C: Cutter> Windows<C> {
    /// A row behind the watermark of its arrival finds the windows closed that
    /// had closed by then, wherever a batch ends.
    fn pass(&mut self, context: &mut Context, chunk: Chunk, out: &mut Vec<Chunk>) {
        let Some(marks) = chunk.marks.as_ref().filter(|_| C::BY_TIME) else {
            return self.take(context, chunk, out);
        };
        let rows = chunk.rows();
        let mut start = 0;
        for (row, mark) in marks.iter().enumerate() {
            if chunk.times[row] >= *mark {
                continue;
            }
            self.part(context, &chunk, start..row, out);
            self.cutter.close(&mut self.common, *mark, out);
            self.part(context, &chunk, row..row + 1, out);
            start = row + 1;
        }
        self.part(context, &chunk, start..rows, out);
    }

    fn part(
        &mut self,
        context: &mut Context,
        chunk: &Chunk,
        rows: std::ops::Range<usize>,
        out: &mut Vec<Chunk>,
    ) {
        if !rows.is_empty() {
            let rows: Vec<u32> = rows.map(|row| row as u32).collect();
            self.take(context, chunk.take(&rows), out);
        }
    }

    fn take(&mut self, context: &mut Context, mut chunk: Chunk, out: &mut Vec<Chunk>) {
        let mut keys = self.common.keys.numbers(&chunk.batch, context.full);
        if context.full && keys.contains(&NO_KEY) {
            let mut kept = Vec::new();
            for (row, key) in keys.iter().enumerate() {
                if *key == NO_KEY {
                    context.refuse(&chunk, row, Refusal::Memory);
                } else {
                    kept.push(row as u32);
                }
            }
            keys.retain(|key| *key != NO_KEY);
            chunk = chunk.take(&kept);
        }
        if chunk.rows() > 0 {
            self.cutter
                .take(&mut self.common, context, &chunk, &keys, out);
        }
    }
}

impl<C: Cutter> Operator for Windows<C> {
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let mut chunks = Vec::new();
        self.input.feed(context, &mut chunks);
        for chunk in chunks {
            self.pass(context, chunk, out);
        }
    }

    fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64 {
        let mut chunks = Vec::new();
        let mark = self.input.advance(context, &mut chunks);
        for chunk in chunks {
            self.pass(context, chunk, out);
        }
        self.cutter.close(&mut self.common, mark, out);
        self.cutter.changes(&mut self.common, out);
        mark
    }

    fn encode(&self, out: &mut Encoder) {
        self.input.encode(out);
        self.cutter.encode(&self.common, out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.input.decode(input)?;
        self.cutter.decode(&mut self.common, input)
    }

    fn memory_bytes(&self) -> usize {
        self.input.memory_bytes() + self.common.keys.memory_bytes() + self.cutter.memory_bytes()
    }

    fn horizon(&self) -> i64 {
        self.input.horizon().min(self.cutter.horizon())
    }

    fn due(&self) -> i64 {
        self.input.due().min(self.cutter.due())
    }

    fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let mut chunks = Vec::new();
        self.input.shed(context, &mut chunks);
        for chunk in chunks {
            self.pass(context, chunk, out);
        }
        context.shed += self.cutter.shed(&mut self.common, out);
    }
}
