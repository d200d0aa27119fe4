//! Counts, sums, averages and RMS values.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::{Accepts, Body, Call, Function, Kind, Parameter, Returns, Rows};
use super::X;
use crate::column::Column;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    Function {
        name: "count",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: &[Parameter::new("x", Accepts::Any).optional()],
        variadic: false,
        returns: Returns::Type(DataType::Int),
        summary: "how many rows there are, or how many in which x is not null",
        formula: "",
        units: "rows",
        source: "SQL",
        body: Body::Aggregate(|_| {
            Ok(Cells::boxed(Count(0), |cells| {
                Column::from_optional_ints(cells.map(|cell| i64::try_from(cell.0).ok()))
            }))
        }),
    },
    Function {
        name: "sum",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::SameAs(0),
        summary: "the sum; of integers exact, null when it does not fit 64 bits",
        formula: "sum(x), with the lost digits carried along",
        units: "the unit of x",
        source: "Neumaier, ZAMM 54 (1974)",
        body: Body::Aggregate(|call: &Call<'_>| {
            Ok(match call.data_type(0) {
                DataType::Int => Cells::boxed(IntSum::default(), |cells| {
                    Column::from_optional_ints(cells.map(IntSum::result))
                }),
                _ => Cells::of_floats(Sum::default(), |cell| {
                    (cell.count > 0).then(|| cell.total())
                }),
            })
        }),
    },
    Function {
        name: "avg",
        aliases: &["mean"],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the arithmetic mean",
        formula: "sum(x) / n",
        units: "the unit of x",
        source: "Neumaier, ZAMM 54 (1974), for the sum",
        body: Body::Aggregate(|_| {
            Ok(Cells::of_floats(Sum::default(), |cell| {
                (cell.count > 0).then(|| cell.total() / cell.count as f64)
            }))
        }),
    },
    Function {
        name: "rms",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the root of the mean square, with the constant part",
        formula: "sqrt(sum(x^2) / n)",
        units: "the unit of x",
        source: "ISO 2041, 3.1",
        body: Body::Aggregate(|_| {
            Ok(Cells::of_floats(Squares(Sum::default()), |cell| {
                (cell.0.count > 0).then(|| (cell.0.total() / cell.0.count as f64).sqrt())
            }))
        }),
    },
];

#[derive(Clone)]
struct Count(u64);

impl State for Count {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.0);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.0 = input.take_u64()?;
        Ok(())
    }
}

impl Cell for Count {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        match rows.arguments.first() {
            None => {
                for &group in rows.groups {
                    cells[group as usize].0 += 1;
                }
            }
            Some(column) => {
                for (row, &group) in rows.groups.iter().enumerate() {
                    cells[group as usize].0 += u64::from(column.is_valid(row));
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// A sum and the digits that did not fit into it.
#[derive(Clone, Default)]
pub(super) struct Sum {
    pub(super) count: u64,
    sum: f64,
    lost: f64,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, x: f64) {
        self.count += 1;
        self.carry(x);
    }

    #[inline]
    fn carry(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() {
            (self.sum - sum) + x
        } else {
            (x - sum) + self.sum
        };
        self.sum = sum;
    }

    pub(super) fn total(&self) -> f64 {
        // An overflow leaves a NaN in the lost digits.
        if self.sum.is_finite() {
            self.sum + self.lost
        } else {
            self.sum
        }
    }
}

impl State for Sum {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        out.put_f64(self.sum);
        out.put_f64(self.lost);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        self.sum = input.take_f64()?;
        self.lost = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Sum {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| cells[group].add(x));
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.carry(other.sum);
        self.lost += other.lost;
    }
}

/// The sum of squares.
#[derive(Clone)]
struct Squares(Sum);

impl State for Squares {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.0.decode(input)
    }
}

impl Cell for Squares {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| cells[group].0.add(x * x));
    }

    fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }
}

/// A sum of 64-bit integers: 2^64 of them fit into 128 bits.
#[derive(Clone, Default)]
struct IntSum {
    count: u64,
    sum: i128,
}

impl IntSum {
    fn result(&self) -> Option<i64> {
        (self.count > 0)
            .then(|| i64::try_from(self.sum).ok())
            .flatten()
    }
}

impl State for IntSum {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        out.put_i64((self.sum >> 64) as i64);
        out.put_u64(self.sum as u64);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        let high = input.take_i64()?;
        self.sum = (i128::from(high) << 64) | i128::from(input.take_u64()?);
        Ok(())
    }
}

impl Cell for IntSum {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        let Some(column) = rows.arguments.first() else {
            return;
        };
        for (row, &group) in rows.groups.iter().enumerate() {
            if let Some(x) = column.int(row) {
                let cell = &mut cells[group as usize];
                cell.count += 1;
                cell.sum = cell.sum.wrapping_add(i128::from(x));
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}
