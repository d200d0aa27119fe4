//! The time series functions as the catalogue knows them, and their encoding.

use super::super::cells::{Keys, State};
use super::super::{
    Accepts, ArgumentError, Body, Call, Detector, Function, Kind, Parameter, Returns,
};
use super::control::{Cusum, Ewma, PageHinkley};
use super::hampel::{HAMPEL_WINDOW_MAX, Hampel};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

const fn row(
    name: &'static str,
    parameters: &'static [Parameter],
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    source: &'static str,
    body: fn(&Call<'_>) -> Result<Box<dyn Detector>, ArgumentError>,
) -> Function {
    Function {
        name,
        aliases: &[],
        kind: Kind::Analytic,
        parameters,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary,
        formula,
        units,
        source,
        body: Body::Analytic(body),
    }
}

const X: Parameter = Parameter::new("x", Accepts::Number);
const WINDOW: Parameter = Parameter::new("window", Accepts::Int).constant();

const HAMPEL: &str = "Hampel, JASA 69 (1974); Davies and Gather, JASA 88 (1993)";
const ROBERTS: &str = "Roberts, Technometrics 1 (1959)";

/// The functions of this module.
pub static CATALOGUE: &[Function] = &[
    row(
        "ewma",
        &[X, Parameter::new("weight", Accepts::Number).constant()],
        "the exponentially weighted moving average by rows",
        "s = s + weight (x - s); the first x starts it; 0 < weight <= 1",
        "the unit of x",
        ROBERTS,
        ewma,
    ),
    row(
        "ewma_by_time",
        &[
            X,
            Parameter::new("time_constant", Accepts::Interval).constant(),
        ],
        "the exponentially weighted moving average by event time; a row behind the newest \
         counts as if it had its time",
        "s = s + (1 - exp(-dt / time_constant)) (x - s); the first x starts it",
        "the unit of x",
        ROBERTS,
        ewma_by_time,
    ),
    row(
        "cusum",
        &[
            X,
            Parameter::new("target", Accepts::Number).constant(),
            Parameter::new("slack", Accepts::Number).constant(),
        ],
        "what has piled up above or (negative) below a target by more than the slack",
        "up = max(0, up + x - target - slack), down = max(0, down + target - x - slack); \
         the larger, down with a minus",
        "the unit of x",
        "Page, Biometrika 41 (1954)",
        cusum,
    ),
    row(
        "page_hinkley",
        &[X, Parameter::new("slack", Accepts::Number).constant()],
        "what has piled up above or (negative) below the mean of all rows so far",
        "up = max(0, up + x - mean - slack), down = max(0, down + mean - x - slack); \
         the larger, down with a minus",
        "the unit of x",
        "Page, Biometrika 41 (1954); Hinkley, Biometrika 58 (1971)",
        page_hinkley,
    ),
    row(
        "hampel",
        &[
            X,
            WINDOW,
            Parameter::new("limit", Accepts::Number)
                .optional()
                .constant(),
        ],
        "x, or the median of the last rows where x is further from it than limit robust \
         standard deviations (3 if left out)",
        "|x - median| > limit 1.4826 median(|x - median|) over the last window rows",
        "the unit of x",
        HAMPEL,
        hampel,
    ),
    row(
        "hampel_score",
        &[X, WINDOW],
        "how many robust standard deviations x is from the median of the last rows",
        "(x - median) / (1.4826 median(|x - median|)) over the last window rows",
        "none",
        HAMPEL,
        hampel_score,
    ),
];

/// The literal at `index`, if `fits` accepts it.
fn literal(
    call: &Call<'_>,
    index: usize,
    parameter: &'static str,
    expected: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<f64, ArgumentError> {
    match call.number(index) {
        Some(number) if number.is_finite() && fits(number) => Ok(number),
        found => Err(ArgumentError {
            parameter,
            found: found.map_or_else(|| "not a number".to_owned(), |number| number.to_string()),
            expected,
        }),
    }
}

fn ewma(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let weight = literal(call, 1, "weight", "a number above 0 and up to 1", |it| {
        it > 0.0 && it <= 1.0
    })?;
    Ok(Keys::boxed(Ewma::default(), move |state, _, x, row| {
        state.update(x[0].float(row)?, weight)
    }))
}

fn ewma_by_time(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let constant = call.constants.get(1).and_then(Option::as_ref);
    let Some(tau_ms) = constant.and_then(Value::as_i64).filter(|&ms| ms > 0) else {
        return Err(ArgumentError {
            parameter: "time_constant",
            found: "not a positive interval".to_owned(),
            expected: "an interval, as INTERVAL '5 minutes'",
        });
    };
    Ok(Keys::boxed(Ewma::default(), move |state, time, x, row| {
        state.update_at(x[0].float(row)?, time, tau_ms as f64)
    }))
}

fn cusum(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let target = literal(call, 1, "target", "a number in the unit of x", |_| true)?;
    let slack = literal(
        call,
        2,
        "slack",
        "a number from 0 on in the unit of x",
        |it| it >= 0.0,
    )?;
    Ok(Keys::boxed(Cusum::default(), move |state, _, x, row| {
        state.update(x[0].float(row)?, target, slack)
    }))
}

fn page_hinkley(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let slack = literal(
        call,
        1,
        "slack",
        "a number from 0 on in the unit of x",
        |it| it >= 0.0,
    )?;
    Ok(Keys::boxed(
        PageHinkley::default(),
        move |state, _, x, row| state.update(x[0].float(row)?, slack),
    ))
}

fn window(call: &Call<'_>) -> Result<Hampel, ArgumentError> {
    let expected = "a number of rows from 3 to 1024";
    let rows = literal(call, 1, "window", expected, |it| it >= 0.0)?;
    Hampel::new(rows as usize).ok_or(ArgumentError {
        parameter: "window",
        found: rows.to_string(),
        expected,
    })
}

fn hampel(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let limit = match call.types.len() {
        0..=2 => 3.0,
        _ => literal(call, 2, "limit", "a number above 0", |it| it > 0.0)?,
    };
    Ok(Keys::boxed(window(call)?, move |state, _, x, row| {
        let x = x[0].float(row)?;
        Some(match state.update(x) {
            Some(verdict) if verdict.score.abs() > limit => verdict.median,
            _ => x,
        })
    }))
}

fn hampel_score(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    Ok(Keys::boxed(window(call)?, |state, _, x, row| {
        state.update(x[0].float(row)?).map(|verdict| verdict.score)
    }))
}

impl State for Ewma {
    fn encode(&self, out: &mut Encoder) {
        out.put_bool(self.average.is_some());
        out.put_f64(self.average.unwrap_or(0.0));
        out.put_i64(self.last_ms);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let is_some = input.take_bool()?;
        let average = input.take_f64()?;
        self.average = is_some.then_some(average);
        self.last_ms = input.take_i64()?;
        Ok(())
    }
}

impl State for Cusum {
    fn encode(&self, out: &mut Encoder) {
        out.put_f64(self.up);
        out.put_f64(self.down);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.up = input.take_f64()?;
        self.down = input.take_f64()?;
        Ok(())
    }
}

impl State for PageHinkley {
    fn encode(&self, out: &mut Encoder) {
        out.put_u64(self.count);
        out.put_f64(self.mean);
        out.put_f64(self.up);
        out.put_f64(self.down);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.count = input.take_u64()?;
        self.mean = input.take_f64()?;
        self.up = input.take_f64()?;
        self.down = input.take_f64()?;
        Ok(())
    }
}

impl State for Hampel {
    fn encode(&self, out: &mut Encoder) {
        out.put_count(self.values.len());
        for &value in &self.values {
            out.put_f64(value);
        }
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let count = input.take_count(8)?;
        if count > HAMPEL_WINDOW_MAX {
            return Err(StateError::Invalid {
                what: "length of a window",
                found: count as u64,
            });
        }
        for _ in 0..count {
            self.update(input.take_f64()?);
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        16 * self.values.capacity()
    }
}

#[cfg(test)]
mod tests;
