//! The smallest, the largest and what lies between them.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::{Body, Call, Function, Kind, Returns, Rows};
use super::totals::Sum;
use super::{ANY, X};
use crate::column::{Column, Values};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    Function {
        name: "min",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: ANY,
        variadic: false,
        returns: Returns::SameAs(0),
        summary: "the smallest value; of texts the first by bytes, of booleans false",
        formula: "",
        units: "the unit of x",
        source: "SQL",
        body: Body::Aggregate(|call| Ok(extreme::<false>(call))),
    },
    Function {
        name: "max",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: ANY,
        variadic: false,
        returns: Returns::SameAs(0),
        summary: "the largest value; of texts the last by bytes, of booleans true",
        formula: "",
        units: "the unit of x",
        source: "SQL",
        body: Body::Aggregate(|call| Ok(extreme::<true>(call))),
    },
    Function {
        name: "peak",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the largest magnitude",
        formula: "max(|x|)",
        units: "the unit of x",
        source: "ISO 2041, 3.1",
        body: Body::Aggregate(|_| {
            Ok(Cells::of_floats(Span::EMPTY, |cell| {
                Some(cell.high.max(-cell.low))
            }))
        }),
    },
    Function {
        name: "peak_to_peak",
        aliases: &["range"],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the largest less the smallest value",
        formula: "max(x) - min(x)",
        units: "the unit of x",
        source: "ISO 2041, 3.1",
        body: Body::Aggregate(|_| {
            Ok(Cells::of_floats(Span::EMPTY, |cell| {
                Some(cell.high - cell.low)
            }))
        }),
    },
    Function {
        name: "crest_factor",
        aliases: &["crest"],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the peak over the RMS value; null when all values are 0",
        formula: "max(|x|) / sqrt(sum(x^2) / n)",
        units: "none",
        source: "ISO 2041, 3.1; sqrt(2) for a sine",
        body: Body::Aggregate(|_| Ok(Cells::of_floats(Crest::default(), Crest::result))),
    },
];

fn extreme<const LARGEST: bool>(call: &Call<'_>) -> Box<dyn super::super::Accumulator> {
    match call.data_type(0) {
        DataType::Float => Cells::of_floats(Span::EMPTY, |cell| {
            Some(if LARGEST { cell.high } else { cell.low })
        }),
        data_type @ (DataType::Int | DataType::Timestamp | DataType::Interval) => {
            Cells::boxed(IntExtreme::<LARGEST>(None), move |cells| {
                Column::from_optional_ints(cells.map(|cell| cell.0)).retyped(data_type)
            })
        }
        data_type => Cells::boxed(ValueExtreme::<LARGEST>(Value::Null), move |cells| {
            let values: Vec<Value> = cells.map(|cell| cell.0.clone()).collect();
            Column::from_values(data_type, values.iter())
        }),
    }
}

/// The smallest and the largest double; infinities the wrong way round, which
/// no result shows, stand for no rows.
#[derive(Clone)]
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    const EMPTY: Self = Self {
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
    };

    #[inline]
    fn add(&mut self, x: f64) {
        // -0.0 is not less than 0.0: the first one stays, in any batch.
        if x < self.low {
            self.low = x;
        }
        if x > self.high {
            self.high = x;
        }
    }
}

impl State for Span {
    fn encode(&self, out: &mut Encoder) {
        out.put_f64(self.low);
        out.put_f64(self.high);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.low = input.take_f64()?;
        self.high = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Span {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| cells[group].add(x));
    }

    fn merge(&mut self, other: &Self) {
        // An empty cell has infinities that replace nothing.
        if other.low < self.low {
            self.low = other.low;
        }
        if other.high > self.high {
            self.high = other.high;
        }
    }
}

#[derive(Clone, Default)]
struct Crest {
    peak: f64,
    squares: Sum,
}

impl Crest {
    fn result(&self) -> Option<f64> {
        let rms = (self.squares.total() / self.squares.count as f64).sqrt();
        (rms > 0.0).then(|| self.peak / rms)
    }
}

impl State for Crest {
    fn encode(&self, out: &mut Encoder) {
        out.put_f64(self.peak);
        self.squares.encode(out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.peak = input.take_f64()?;
        self.squares.decode(input)
    }
}

impl Cell for Crest {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| {
            let cell = &mut cells[group];
            cell.peak = cell.peak.max(x.abs());
            cell.squares.add(x * x);
        });
    }

    fn merge(&mut self, other: &Self) {
        self.peak = self.peak.max(other.peak);
        self.squares.merge(&other.squares);
    }
}

/// An extreme of 64-bit integers, which doubles would round.
#[derive(Clone)]
struct IntExtreme<const LARGEST: bool>(Option<i64>);

impl<const LARGEST: bool> IntExtreme<LARGEST> {
    fn add(&mut self, x: i64) {
        self.0 = Some(match self.0 {
            Some(best) if LARGEST => best.max(x),
            Some(best) => best.min(x),
            None => x,
        });
    }
}

impl<const LARGEST: bool> State for IntExtreme<LARGEST> {
    fn encode(&self, out: &mut Encoder) {
        out.put_bool(self.0.is_some());
        out.put_i64(self.0.unwrap_or(0));
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let is_some = input.take_bool()?;
        let number = input.take_i64()?;
        self.0 = is_some.then_some(number);
        Ok(())
    }
}

impl<const LARGEST: bool> Cell for IntExtreme<LARGEST> {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        let Some(Values::Int(numbers) | Values::Timestamp(numbers) | Values::Interval(numbers)) =
            rows.arguments.first().map(Column::values)
        else {
            return;
        };
        for (row, (&group, &x)) in rows.groups.iter().zip(numbers).enumerate() {
            if rows.arguments[0].is_valid(row) {
                cells[group as usize].add(x);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        if let Some(x) = other.0 {
            self.add(x);
        }
    }
}

/// An extreme of texts or booleans. Other types have no order and stay null.
#[derive(Clone)]
struct ValueExtreme<const LARGEST: bool>(Value);

impl<const LARGEST: bool> ValueExtreme<LARGEST> {
    fn is_better(&self, other: &Value) -> bool {
        let order = match (other, &self.0) {
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Text(_) | Value::Bool(_), Value::Null) => return true,
            _ => return false,
        };
        if LARGEST {
            order.is_gt()
        } else {
            order.is_lt()
        }
    }
}

impl<const LARGEST: bool> State for ValueExtreme<LARGEST> {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.0 = Value::decode(input)?;
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl<const LARGEST: bool> Cell for ValueExtreme<LARGEST> {
    fn take(cells: &mut [Self], rows: Rows<'_>, held: &mut usize) {
        let Some(column) = rows.arguments.first() else {
            return;
        };
        for (row, &group) in rows.groups.iter().enumerate() {
            let value = column.value(row);
            let cell = &mut cells[group as usize];
            if cell.is_better(&value) {
                *held = (*held + value.heap_bytes()).saturating_sub(cell.0.heap_bytes());
                cell.0 = value;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.is_better(&other.0) {
            self.0 = other.0.clone();
        }
    }
}
