//! The straight line through a group over event time.

use super::super::cells::{Cell, Cells, State, each_float};
use super::super::series::trend::{Crossing, Trend};
use super::super::{
    Accepts, Accumulator, ArgumentError, Body, Call, Function, Kind, Parameter, Returns, Rows,
};
use super::X;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

const SQUARES: &str = "least squares, sums merged as Chan, Golub, LeVeque (1983)";
const FIELLER: &str = "Fieller, JRSS B 16 (1954)";

const X_AND_THRESHOLD: &[Parameter] = &[
    Parameter::new("x", Accepts::Number),
    Parameter::new("threshold", Accepts::Number).constant(),
];

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    parameters: &'static [Parameter],
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    body: fn(&Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError>,
) -> Function {
    Function {
        name,
        aliases,
        kind: Kind::Aggregate,
        parameters,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary,
        formula,
        units,
        source: if parameters.len() == 1 {
            SQUARES
        } else {
            FIELLER
        },
        body: Body::Aggregate(body),
    }
}

pub(in crate::functions) static CATALOGUE: &[Function] = &[
    row(
        "slope",
        &["linear_slope"],
        X,
        "how fast x rises, by a straight line over event time; null for one time",
        "sum((t - mean t)(x - mean x)) / sum((t - mean t)^2)",
        "the unit of x per second",
        |_| Ok(Cells::of_floats(Line::default(), |cell| cell.trend.slope())),
    ),
    row(
        "r_squared",
        &[],
        X,
        "which part of the variance a straight line over event time explains",
        "Stx^2 / (Stt Sxx)",
        "none, 0 to 1",
        |_| {
            Ok(Cells::of_floats(Line::default(), |cell| {
                cell.trend.r_squared()
            }))
        },
    ),
    row(
        "days_to",
        &["days_to_threshold"],
        X_AND_THRESHOLD,
        "in how many days after the newest row the line reaches the threshold; negative when \
         it has passed it; null for fewer than 8 rows and while the slope is not significant",
        "(threshold - a) / b - newest time, with x = a + b t",
        "days",
        |call| crossing(call, |it| it.days),
    ),
    row(
        "days_to_low",
        &[],
        X_AND_THRESHOLD,
        "the lower end of the 95 % confidence interval of days_to",
        "roots of (a + b t - threshold)^2 = q^2 s^2 (1/n + (t - mean t)^2 / Stt)",
        "days",
        |call| crossing(call, |it| it.low),
    ),
    row(
        "days_to_high",
        &[],
        X_AND_THRESHOLD,
        "the upper end of the 95 % confidence interval of days_to",
        "roots of (a + b t - threshold)^2 = q^2 s^2 (1/n + (t - mean t)^2 / Stt)",
        "days",
        |call| crossing(call, |it| it.high),
    ),
];

fn crossing(
    call: &Call<'_>,
    part: fn(Crossing) -> f64,
) -> Result<Box<dyn Accumulator>, ArgumentError> {
    let Some(threshold) = call.number(1).filter(|it| it.is_finite()) else {
        return Err(ArgumentError {
            parameter: "threshold",
            found: "null".to_owned(),
            expected: "a number in the unit of x",
        });
    };
    Ok(Cells::of_floats(Line::default(), move |cell| {
        cell.trend.crossing(threshold, cell.newest_ms).map(part)
    }))
}

#[derive(Clone, Default)]
struct Line {
    trend: Trend,
    newest_ms: i64,
}

impl Line {
    fn note_time(&mut self, at_ms: i64, was_empty: bool) {
        self.newest_ms = if was_empty {
            at_ms
        } else {
            self.newest_ms.max(at_ms)
        };
    }
}

impl State for Line {
    fn encode(&self, out: &mut Encoder) {
        let it = &self.trend;
        out.put_u64(it.count);
        out.put_i64(it.origin_ms);
        out.put_i64(self.newest_ms);
        for sum in [it.mean_t, it.mean_x, it.stt, it.stx, it.sxx] {
            out.put_f64(sum);
        }
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.trend.count = input.take_u64()?;
        self.trend.origin_ms = input.take_i64()?;
        self.newest_ms = input.take_i64()?;
        self.trend.mean_t = input.take_f64()?;
        self.trend.mean_x = input.take_f64()?;
        self.trend.stt = input.take_f64()?;
        self.trend.stx = input.take_f64()?;
        self.trend.sxx = input.take_f64()?;
        Ok(())
    }
}

impl Cell for Line {
    fn take(cells: &mut [Self], rows: Rows<'_>, _: &mut usize) {
        each_float(rows, |group, time, x| {
            let cell = &mut cells[group];
            cell.note_time(time, cell.trend.count == 0);
            cell.trend.update(time, x);
        });
    }

    fn merge(&mut self, other: &Self) {
        if other.trend.count > 0 {
            self.note_time(other.newest_ms, self.trend.count == 0);
            self.trend.merge(&other.trend);
        }
    }
}
