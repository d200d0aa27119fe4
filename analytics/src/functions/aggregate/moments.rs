//! Variance, standard deviation, skew and kurtosis.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::{Accumulator, ArgumentError, Body, Call, Function, Kind, Returns, Rows};
use super::X;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

const WELFORD: &str = "Welford, Technometrics 4 (1962); merged as Chan, Golub, LeVeque (1983)";
const PEBAY: &str = "Pebay, Sandia report SAND2008-6212 (2008)";

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    source: &'static str,
    body: fn(&Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError>,
) -> Function {
    Function {
        name,
        aliases,
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

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    row(
        "var",
        &["variance", "var_samp"],
        "the variance of a sample; null for one row",
        "sum((x - mean)^2) / (n - 1)",
        "the square of the unit of x",
        WELFORD,
        |_| Ok(Cells::of_floats(Spread::default(), Spread::sample)),
    ),
    row(
        "var_pop",
        &[],
        "the variance of the whole",
        "sum((x - mean)^2) / n",
        "the square of the unit of x",
        WELFORD,
        |_| Ok(Cells::of_floats(Spread::default(), Spread::population)),
    ),
    row(
        "stddev",
        &["stddev_samp", "std"],
        "the standard deviation of a sample; null for one row",
        "sqrt(sum((x - mean)^2) / (n - 1))",
        "the unit of x",
        WELFORD,
        |_| {
            Ok(Cells::of_floats(Spread::default(), |cell| {
                cell.sample().map(f64::sqrt)
            }))
        },
    ),
    row(
        "stddev_pop",
        &[],
        "the standard deviation of the whole",
        "sqrt(sum((x - mean)^2) / n)",
        "the unit of x",
        WELFORD,
        |_| {
            Ok(Cells::of_floats(Spread::default(), |cell| {
                cell.population().map(f64::sqrt)
            }))
        },
    ),
    row(
        "skew",
        &["skewness"],
        "the skew of the whole, 0 for symmetric values; null when all are equal",
        "m3 / m2^1.5 with m_k = sum((x - mean)^k) / n",
        "none",
        PEBAY,
        |_| Ok(Cells::of_floats(Shape::default(), Shape::skew)),
    ),
    row(
        "kurtosis",
        &[],
        "Pearson's kurtosis of the whole, 3 for normal values (Fisher's is less by 3); null when all are equal",
        "m4 / m2^2 with m_k = sum((x - mean)^k) / n",
        "none",
        PEBAY,
        |_| Ok(Cells::of_floats(Shape::default(), Shape::kurtosis)),
    ),
];

/// Count, mean and the sum of squared deviations.
#[derive(Clone, Default)]
struct Spread {
    count: u64,
    mean: f64,
    m2: f64,
}

impl Spread {
    fn sample(&self) -> Option<f64> {
        (self.count > 1).then(|| self.m2 / (self.count - 1) as f64)
    }

    fn population(&self) -> Option<f64> {
        (self.count > 0).then(|| self.m2 / self.count as f64)
    }
}

impl State for Spread {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        out.put_f64(self.mean);
        out.put_f64(self.m2);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        self.mean = input.take_f64()?;
        self.m2 = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Spread {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| {
            let cell = &mut cells[group];
            cell.count += 1;
            let delta = x - cell.mean;
            cell.mean += delta / cell.count as f64;
            cell.m2 += delta * (x - cell.mean);
        });
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        let (na, nb) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.count = self.count.saturating_add(other.count);
        let n = self.count as f64;
        self.mean += delta * nb / n;
        self.m2 += other.m2 + delta * delta * na * nb / n;
    }
}

/// Count, mean and the sums of the second to fourth powers of deviations.
#[derive(Clone, Default)]
struct Shape {
    count: u64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Shape {
    fn skew(&self) -> Option<f64> {
        let n = self.count as f64;
        (self.m2 > 0.0).then(|| n.sqrt() * self.m3 / (self.m2 * self.m2.sqrt()))
    }

    fn kurtosis(&self) -> Option<f64> {
        (self.m2 > 0.0).then(|| self.count as f64 * self.m4 / (self.m2 * self.m2))
    }

    #[inline]
    fn add(&mut self, x: f64) {
        let before = self.count as f64;
        self.count += 1;
        let n = self.count as f64;
        let delta = x - self.mean;
        let step = delta / n;
        let square = step * step;
        let term = delta * step * before;
        self.mean += step;
        self.m4 +=
            term * square * (n * n - 3.0 * n + 3.0) + 6.0 * square * self.m2 - 4.0 * step * self.m3;
        self.m3 += term * step * (n - 2.0) - 3.0 * step * self.m2;
        self.m2 += term;
    }
}

impl State for Shape {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        for sum in [self.mean, self.m2, self.m3, self.m4] {
            out.put_f64(sum);
        }
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        self.mean = input.take_f64()?;
        self.m2 = input.take_f64()?;
        self.m3 = input.take_f64()?;
        self.m4 = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Shape {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, _, x| cells[group].add(x));
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        let (na, nb) = (self.count as f64, other.count as f64);
        let n = na + nb;
        let d = other.mean - self.mean;
        let (d2, n2) = (d * d, n * n);
        let m4 = self.m4
            + other.m4
            + d2 * d2 * na * nb * (na * na - na * nb + nb * nb) / (n2 * n)
            + 6.0 * d2 * (na * na * other.m2 + nb * nb * self.m2) / n2
            + 4.0 * d * (na * other.m3 - nb * self.m3) / n;
        let m3 = self.m3
            + other.m3
            + d2 * d * na * nb * (na - nb) / n2
            + 3.0 * d * (na * other.m2 - nb * self.m2) / n;
        self.m2 += other.m2 + d2 * na * nb / n;
        self.m3 = m3;
        self.m4 = m4;
        self.mean += d * nb / n;
        self.count = self.count.saturating_add(other.count);
    }
}
