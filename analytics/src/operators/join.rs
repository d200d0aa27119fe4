//! Rows of two sides that belong together.
//!
//! Rows are taken in the order of the records they come from, whichever side
//! they are on, so that the result does not depend on how records were cut into
//! batches. A key with a null in it finds nothing.

mod asof;
mod interval;
mod latest;

use super::keys::encode;
use super::{Chunk, Context, Operator, Refusal};
use crate::batch::Batch;
use crate::column::Column;
use crate::eval::Evaluator;
use crate::plan::{JoinKind, JoinPlan};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

/// The running form of a join.
pub fn build(
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    plan: &JoinPlan,
    left_types: &[DataType],
) -> Box<dyn Operator> {
    let mut types = left_types.to_vec();
    types.extend(&plan.right_types);
    let sides = Sides {
        left,
        right,
        left_keys: plan.left_keys.iter().map(Evaluator::new).collect(),
        right_keys: plan.right_keys.iter().map(Evaluator::new).collect(),
        types,
        right_columns: plan.right_types.len(),
    };
    let outer = plan.outer;
    match plan.kind {
        JoinKind::Latest => Box::new(Join {
            sides,
            matcher: latest::Latest::new(outer),
        }),
        JoinKind::AsOf => Box::new(Join {
            sides,
            matcher: asof::AsOf::new(),
        }),
        JoinKind::Interval { lower, upper } => Box::new(Join {
            sides,
            matcher: interval::Interval::new(lower, upper, outer),
        }),
    }
}

/// A row of one side.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The encoded key; none if a part of it is null.
    pub key: Option<Box<[u8]>>,
    pub values: Vec<Value>,
    pub time: i64,
    /// The watermark when it arrived.
    pub mark: i64,
}

impl Row {
    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.key.as_ref().map_or(0, |key| key.len())
            + self
                .values
                .iter()
                .map(|value| size_of::<Value>() + value.heap_bytes())
                .sum::<usize>()
    }

    fn encode(&self, out: &mut Encoder) {
        out.put_bool(self.key.is_some());
        out.put_bytes(self.key.as_deref().unwrap_or_default());
        out.put_i64(self.time);
        out.put_count(self.values.len());
        for value in &self.values {
            value.encode(out);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, StateError> {
        let has_key = input.take_bool()?;
        let key = input.take_bytes()?;
        let time = input.take_i64()?;
        let values = (0..input.take_count(1)?)
            .map(|_| Value::decode(input))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            key: has_key.then(|| key.into()),
            values,
            time,
            mark: i64::MIN,
        })
    }
}

/// Joined rows in the making.
#[derive(Default)]
pub struct Joined {
    rows: Vec<Vec<Value>>,
    times: Vec<i64>,
    right_columns: usize,
}

impl Joined {
    /// A left row with a right row, or with nulls.
    pub fn push(&mut self, left: &[Value], right: Option<&[Value]>, time: i64) {
        let mut row = left.to_vec();
        match right {
            Some(right) => row.extend_from_slice(right),
            None => row.resize(left.len() + self.right_columns, Value::Null),
        }
        self.rows.push(row);
        self.times.push(time);
    }

    fn hand_on(self, types: &[DataType], out: &mut Vec<Chunk>) {
        if self.rows.is_empty() {
            return;
        }
        let columns = types
            .iter()
            .enumerate()
            .map(|(index, data_type)| {
                let values: Vec<&Value> = self.rows.iter().map(|row| &row[index]).collect();
                Column::from_values(*data_type, values.into_iter())
            })
            .collect();
        out.push(Chunk {
            batch: Batch::new(columns, self.rows.len()),
            times: self.times,
            marks: None,
            records: Vec::new(),
        });
    }
}

/// What became of a row.
pub enum Taken {
    Yes,
    Refused(Refusal),
}

/// One way in which rows find each other.
pub trait Matcher: Send {
    fn left(&mut self, row: Row, full: bool, out: &mut Joined) -> Taken;
    fn right(&mut self, row: Row, full: bool, out: &mut Joined) -> Taken;
    /// Learns the watermarks and returns that of the output.
    fn advance(&mut self, left: i64, right: i64, out: &mut Joined) -> i64;
    fn encode(&self, out: &mut Encoder);
    /// # Errors
    /// [`StateError`].
    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError>;
    fn memory_bytes(&self) -> usize;
    /// See [`Operator::due`].
    fn due(&self) -> i64;
}

struct Sides {
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    left_keys: Vec<Evaluator>,
    right_keys: Vec<Evaluator>,
    types: Vec<DataType>,
    right_columns: usize,
}

struct Join<M> {
    sides: Sides,
    matcher: M,
}

impl<M: Matcher> Join<M> {
    fn joined(&self) -> Joined {
        Joined {
            right_columns: self.sides.right_columns,
            ..Joined::default()
        }
    }

    /// Takes rows of both sides in the order of their records.
    fn take(
        &mut self,
        context: &mut Context,
        left: &[Chunk],
        right: &[Chunk],
        out: &mut Vec<Chunk>,
    ) {
        let mut order = Vec::new();
        for (is_left, chunks) in [(false, right), (true, left)] {
            for (index, chunk) in chunks.iter().enumerate() {
                for row in 0..chunk.rows() {
                    // Rows of windows have no record; they came of what was
                    // before these rows.
                    let record = chunk.records.get(row).map_or(0, |record| record + 1);
                    order.push((record, is_left, index, row));
                }
            }
        }
        order.sort_by_key(|(record, is_left, ..)| (*record, *is_left));
        let left_keys: Vec<Vec<Column>> = key_columns(&mut self.sides.left_keys, left);
        let right_keys: Vec<Vec<Column>> = key_columns(&mut self.sides.right_keys, right);
        let mut joined = self.joined();
        for (_, is_left, index, row) in order {
            let (chunk, keys) = if is_left {
                (&left[index], &left_keys[index])
            } else {
                (&right[index], &right_keys[index])
            };
            let made = Row {
                key: key_of(keys, row),
                values: chunk
                    .batch
                    .columns()
                    .iter()
                    .map(|column| column.value(row))
                    .collect(),
                time: chunk.times[row],
                mark: chunk.mark(row),
            };
            let taken = if is_left {
                self.matcher.left(made, context.full, &mut joined)
            } else {
                self.matcher.right(made, context.full, &mut joined)
            };
            if let Taken::Refused(reason) = taken {
                context.refuse(chunk, row, reason);
            }
        }
        joined.hand_on(&self.sides.types, out);
    }
}

fn key_columns(keys: &mut [Evaluator], chunks: &[Chunk]) -> Vec<Vec<Column>> {
    chunks
        .iter()
        .map(|chunk| {
            keys.iter_mut()
                .map(|key| key.column(&chunk.batch))
                .collect()
        })
        .collect()
}

fn key_of(columns: &[Column], row: usize) -> Option<Box<[u8]>> {
    let mut key = Encoder::new();
    for column in columns {
        if !column.is_valid(row) {
            return None;
        }
        encode(column, row, &mut key);
    }
    Some(key.into_bytes().into())
}

impl<M: Matcher> Operator for Join<M> {
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        self.sides.left.feed(context, &mut left);
        self.sides.right.feed(context, &mut right);
        self.take(context, &left, &right, out);
    }

    fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64 {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let left_mark = self.sides.left.advance(context, &mut left);
        let right_mark = self.sides.right.advance(context, &mut right);
        self.take(context, &left, &right, out);
        let mut joined = self.joined();
        let mark = self.matcher.advance(left_mark, right_mark, &mut joined);
        joined.hand_on(&self.sides.types, out);
        mark
    }

    fn encode(&self, out: &mut Encoder) {
        self.sides.left.encode(out);
        self.sides.right.encode(out);
        self.matcher.encode(out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.sides.left.decode(input)?;
        self.sides.right.decode(input)?;
        self.matcher.decode(input)
    }

    fn memory_bytes(&self) -> usize {
        self.sides.left.memory_bytes()
            + self.sides.right.memory_bytes()
            + self.matcher.memory_bytes()
    }

    fn horizon(&self) -> i64 {
        i64::MIN
    }

    fn due(&self) -> i64 {
        let below = self.sides.left.due().min(self.sides.right.due());
        below.min(self.matcher.due())
    }

    fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        self.sides.left.shed(context, &mut left);
        self.sides.right.shed(context, &mut right);
        self.take(context, &left, &right, out);
    }
}
