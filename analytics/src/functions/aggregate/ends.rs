//! What depends on the order of time: first, last, delta, increase, rate.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::{Accumulator, ArgumentError, Body, Call, Function, Kind, Returns, Rows};
use super::{ANY, X};
use crate::column::Column;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

const RESETS: &str = "counter resets as in Prometheus' increase(), without extrapolation";

const fn row(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    source: &'static str,
    body: fn(&Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError>,
) -> Function {
    Function {
        name,
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary,
        formula,
        units,
        source,
        body: Body::Aggregate(body),
    }
}

const fn end(
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    body: fn(&Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError>,
) -> Function {
    Function {
        name,
        aliases,
        kind: Kind::Aggregate,
        parameters: ANY,
        variadic: false,
        returns: Returns::SameAs(0),
        summary,
        formula: "",
        units: "the unit of x",
        source: "SQL",
        body: Body::Aggregate(body),
    }
}

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    end(
        "first",
        &["first_value"],
        "the value with the smallest event time; of equal times the first to arrive",
        |call| Ok(ends::<false>(call)),
    ),
    end(
        "last",
        &["last_value"],
        "the value with the largest event time; of equal times the last to arrive",
        |call| Ok(ends::<true>(call)),
    ),
    row(
        "delta",
        "the last less the first value by event time; null for one row",
        "last(x) - first(x)",
        "the unit of x",
        "definition",
        |_| Ok(Cells::of_floats(Counter::default(), Counter::delta)),
    ),
    row(
        "increase",
        "by how much a counter rose; after a reset it counts from 0. Null for one row. \
         A row behind the newest is passed by, so a reset that only it shows is not seen",
        "sum over rows in time of (x - previous), or of x where it fell",
        "the unit of x",
        RESETS,
        |_| Ok(Cells::of_floats(Counter::default(), Counter::risen)),
    ),
    row(
        "rate",
        "how fast a counter rose, with resets; null when all rows have one time",
        "increase(x) / (last time - first time)",
        "the unit of x per second",
        RESETS,
        |_| Ok(Cells::of_floats(Counter::default(), Counter::rate)),
    ),
];

fn ends<const LAST: bool>(call: &Call<'_>) -> Box<dyn Accumulator> {
    let data_type = call.data_type(0);
    Cells::boxed(End::<LAST>(None), move |cells| {
        let values: Vec<Value> = cells
            .map(|cell| {
                cell.0
                    .as_ref()
                    .map_or(Value::Null, |(_, value)| value.clone())
            })
            .collect();
        Column::from_values(data_type, values.iter())
    })
}

/// The first or last value and its time.
#[derive(Clone)]
struct End<const LAST: bool>(Option<(i64, Value)>);

impl<const LAST: bool> End<LAST> {
    #[inline]
    fn is_better(&self, time: i64) -> bool {
        match &self.0 {
            Some((best, _)) if LAST => time >= *best,
            Some((best, _)) => time < *best,
            None => true,
        }
    }
}

impl<const LAST: bool> State for End<LAST> {
    fn encode(&self, out: &mut Encoder) {
        out.put_bool(self.0.is_some());
        if let Some((time, value)) = &self.0 {
            out.put_i64(*time);
            value.encode(out);
        }
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.0 = if input.take_bool()? {
            Some((input.take_i64()?, Value::decode(input)?))
        } else {
            None
        };
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, value)| value.heap_bytes())
    }
}

impl<const LAST: bool> Cell for End<LAST> {
    fn take(cells: &mut [Self], rows: Rows<'_>, held: &mut usize) {
        let Some(column) = rows.arguments.first() else {
            return;
        };
        for (row, (&group, &time)) in rows.groups.iter().zip(rows.times).enumerate() {
            let cell = &mut cells[group as usize];
            if column.is_valid(row) && cell.is_better(time) {
                let value = column.value(row);
                *held = (*held + value.heap_bytes()).saturating_sub(cell.heap_bytes());
                cell.0 = Some((time, value));
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        if let Some((time, value)) = &other.0
            && self.is_better(*time)
        {
            self.0 = Some((*time, value.clone()));
        }
    }
}

/// Both ends of a counter and by how much it rose between them.
#[derive(Clone, Default)]
struct Counter {
    count: u64,
    first: (i64, f64),
    last: (i64, f64),
    increase: f64,
}

/// How much a counter rose from one reading to the next.
fn step(from: f64, to: f64) -> f64 {
    if to >= from { to - from } else { to }
}

impl Counter {
    fn delta(&self) -> Option<f64> {
        (self.count > 1).then_some(self.last.1 - self.first.1)
    }

    fn risen(&self) -> Option<f64> {
        (self.count > 1).then_some(self.increase)
    }

    fn rate(&self) -> Option<f64> {
        let seconds = self.last.0.saturating_sub(self.first.0) as f64 / 1000.0;
        (seconds > 0.0).then(|| self.increase / seconds)
    }

    /// Appends the readings of a later counter, or of one reading.
    fn append(&mut self, later: &Self) {
        self.increase += step(self.last.1, later.first.1) + later.increase;
        self.last = later.last;
    }

    fn add(&mut self, other: &Self) {
        let count = self.count.saturating_add(other.count);
        if self.count == 0 {
            self.clone_from(other);
        } else if other.count > 0 && other.first.0 >= self.last.0 {
            self.append(other);
        } else if other.count > 0 && other.last.0 < self.first.0 {
            let later = std::mem::replace(self, other.clone());
            self.append(&later);
        } else if other.count > 0 {
            self.overlap(other);
        }
        self.count = count;
    }

    /// Counters that overlap in time: the readings between the ends are gone.
    /// The one that began first is kept, and what the other has beyond its end
    /// is appended; in between they are the same counter.
    fn overlap(&mut self, other: &Self) {
        let (mut early, late) = if other.first.0 < self.first.0 {
            (other.clone(), self.clone())
        } else {
            (self.clone(), other.clone())
        };
        if late.last.0 >= early.last.0 {
            early.increase += step(early.last.1, late.last.1);
            early.last = late.last;
        }
        self.first = early.first;
        self.last = early.last;
        self.increase = early.increase;
    }
}

impl State for Counter {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        for (time, x) in [self.first, self.last] {
            out.put_i64(time);
            out.put_f64(x);
        }
        out.put_f64(self.increase);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        self.first = (input.take_i64()?, input.take_f64()?);
        self.last = (input.take_i64()?, input.take_f64()?);
        self.increase = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Counter {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, time, x| {
            cells[group].add(&Self {
                count: 1,
                first: (time, x),
                last: (time, x),
                increase: 0.0,
            });
        });
    }

    fn merge(&mut self, other: &Self) {
        self.add(other);
    }
}
