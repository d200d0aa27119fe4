//! Percentiles with a bounded relative error, by DDSketch.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::{
    Accepts, Accumulator, ArgumentError, Body, Call, Function, Kind, Parameter, Returns, Rows,
};
use super::X;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

/// The largest relative error of a percentile.
pub const ACCURACY: f64 = 0.01;

/// Bins per sign. 2,048 bins of 2 % span 17 decades; values that are smaller
/// than the largest by more than that share the lowest bin. 16 KiB per sign.
pub const BINS_MAX: usize = 2048;

const SOURCE: &str = "Masson, Rim, Lee, \"DDSketch\", PVLDB 12 (2019)";

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    Function {
        name: "percentile",
        aliases: &[
            "percentile_cont",
            "approx_percentile",
            "approx_percentile_cont",
            "quantile",
        ],
        kind: Kind::Aggregate,
        parameters: &[
            Parameter::new("x", Accepts::Number),
            Parameter::new("fraction", Accepts::Number).constant(),
        ],
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the value below which a fraction of the values lies, within 1 % of it",
        formula: "the value of rank floor(fraction (n - 1)), to a bin of ratio 1.01/0.99",
        units: "the unit of x",
        source: SOURCE,
        body: Body::Aggregate(percentile),
    },
    Function {
        name: "median",
        aliases: &[],
        kind: Kind::Aggregate,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary: "the value in the middle (the lower of two), within 1 % of it",
        formula: "percentile(x, 0.5)",
        units: "the unit of x",
        source: SOURCE,
        body: Body::Aggregate(|_| {
            Ok(Cells::of_floats(Sketch::default(), |cell| {
                cell.quantile(0.5)
            }))
        }),
    },
];

fn percentile(call: &Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError> {
    let fraction = call.number(1).unwrap_or(f64::NAN);
    if !(0.0..=1.0).contains(&fraction) {
        return Err(ArgumentError {
            parameter: "fraction",
            found: fraction.to_string(),
            expected: "a number from 0 to 1, as 0.95",
        });
    }
    Ok(Cells::of_floats(Sketch::default(), move |cell| {
        cell.quantile(fraction)
    }))
}

/// Counts of values by the logarithm of their magnitude.
///
/// Bin i holds g^(i-1) < |x| <= g^i with g = (1 + a)/(1 - a); its middle
/// 2 g^i / (g + 1) is within a of all of them.
#[derive(Clone, Default, Debug, PartialEq)]
struct Sketch {
    zeros: u64,
    positive: Bins,
    negative: Bins,
    /// The ends are exact. Meaningless without values.
    low: f64,
    high: f64,
}

/// Counts of neighbouring bins.
#[derive(Clone, Default, Debug, PartialEq)]
struct Bins {
    /// The index of the first count.
    first: i32,
    counts: Vec<u64>,
}

/// ln g.
fn log_ratio() -> f64 {
    ((1.0 + ACCURACY) / (1.0 - ACCURACY)).ln()
}

impl Sketch {
    fn count(&self) -> u64 {
        self.zeros + self.positive.total() + self.negative.total()
    }

    fn is_empty(&self) -> bool {
        self.zeros == 0 && self.positive.counts.is_empty() && self.negative.counts.is_empty()
    }

    #[inline]
    fn add(&mut self, x: f64, inverse_log_ratio: f64) {
        if self.is_empty() {
            self.low = x;
            self.high = x;
        }
        self.low = self.low.min(x);
        self.high = self.high.max(x);
        if x.abs() < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        // Doubles have logarithms within 746, so indexes within 37,500.
        let index = (x.abs().ln() * inverse_log_ratio).ceil() as i32;
        if x > 0.0 {
            self.positive.add(index, 1);
        } else {
            self.negative.add(index, 1);
        }
    }

    fn quantile(&self, fraction: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (fraction * (count - 1) as f64).floor() as u64;
        if rank == 0 {
            return Some(self.low);
        }
        if rank >= count - 1 {
            return Some(self.high);
        }
        let mut below = 0;
        let mut value = self.high;
        let negative = self.negative.middles().rev().map(|(m, n)| (-m, n));
        let bins = negative
            .chain(std::iter::once((0.0, self.zeros)))
            .chain(self.positive.middles());
        for (middle, count) in bins {
            below += count;
            if below > rank {
                value = middle;
                break;
            }
        }
        Some(value.clamp(self.low, self.high))
    }
}

impl Bins {
    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn middles(&self) -> impl DoubleEndedIterator<Item = (f64, u64)> + '_ {
        let log = log_ratio();
        let scale = 2.0 / (log.exp() + 1.0);
        (self.first..)
            .zip(&self.counts)
            .map(move |(index, &count)| ((f64::from(index) * log).exp() * scale, count))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[inline]
    fn add(&mut self, index: i32, count: u64) {
        let at = i64::from(index) - i64::from(self.first);
        match usize::try_from(at)
            .ok()
            .and_then(|at| self.counts.get_mut(at))
        {
            Some(place) => *place += count,
            None => self.grow_and_add(index, count),
        }
    }

    #[cold]
    fn grow_and_add(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.first = index;
            self.counts.push(count);
            return;
        }
        let last = self.first + self.counts.len() as i32 - 1;
        let new_last = last.max(index);
        // The lowest bin that is kept; what is below goes into it.
        let new_first = self.first.min(index).max(new_last - (BINS_MAX as i32 - 1));
        if new_first > self.first {
            let cut = ((new_first - self.first) as usize).min(self.counts.len());
            let folded: u64 = self.counts.drain(..cut).sum();
            if self.counts.is_empty() {
                self.counts.push(0);
            }
            self.counts[0] += folded;
        } else {
            let more = (self.first - new_first) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
        }
        self.first = new_first;
        self.counts.resize((new_last - new_first + 1) as usize, 0);
        let at = (index.max(new_first) - new_first) as usize;
        self.counts[at] += count;
    }

    fn merge(&mut self, other: &Self) {
        // The ends first, so that the counts are moved at most twice.
        for ends in [other.counts.len().saturating_sub(1), 0] {
            if !other.counts.is_empty() {
                self.add(other.first + ends as i32, 0);
            }
        }
        for (index, &count) in (other.first..).zip(&other.counts) {
            if count > 0 {
                self.add(index, count);
            }
        }
    }

    fn encode(&self, out: &mut Encoder) {
        out.put_u32(self.first as u32);
        out.put_count(self.counts.len());
        for &count in &self.counts {
            out.put_u64(count);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, StateError> {
        let first = input.take_u32()? as i32;
        let length = input.take_count(8)?;
        if length > BINS_MAX || first.unsigned_abs() > 100_000 {
            return Err(StateError::Invalid {
                what: "range of percentile bins",
                found: length as u64,
            });
        }
        let counts: Result<Vec<u64>, _> = (0..length).map(|_| input.take_u64()).collect();
        let counts = counts?;
        // Sums of counts of real rows stay far below; a forged one must not
        // overflow.
        if counts.iter().any(|&count| count > u64::MAX >> 16) {
            return Err(StateError::Invalid {
                what: "count of a percentile bin",
                found: u64::MAX,
            });
        }
        Ok(Self { first, counts })
    }
}

impl State for Sketch {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.zeros);
        out.put_f64(self.low);
        out.put_f64(self.high);
        self.positive.encode(out);
        self.negative.encode(out);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.zeros = input.take_u64()?;
        self.low = input.take_f64()?;
        self.high = input.take_f64()?;
        self.positive = Bins::decode(input)?;
        self.negative = Bins::decode(input)?;
        if self.zeros > u64::MAX >> 16 {
            return Err(StateError::Invalid {
                what: "count of zeros",
                found: self.zeros,
            });
        }
        // Quantiles are clamped between the ends.
        if self.low.is_nan() || self.high.is_nan() || self.low > self.high {
            return Err(StateError::Invalid {
                what: "smallest value",
                found: self.low.to_bits(),
            });
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        8 * (self.positive.counts.capacity() + self.negative.counts.capacity())
    }
}

impl Cell for Sketch {
    fn take(cells: &mut [Self], rows: Rows<'_>, held: &mut usize) {
        let inverse = 1.0 / log_ratio();
        each_float(rows, |group, _, x| {
            let cell = &mut cells[group];
            let before = cell.heap_bytes();
            cell.add(x, inverse);
            *held = (*held + cell.heap_bytes()).saturating_sub(before);
        });
    }

    fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other.clone();
            return;
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.zeros += other.zeros;
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
    }
}
