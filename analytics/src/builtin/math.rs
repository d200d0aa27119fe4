//! Numbers.

use super::{Make, scalar};
use crate::column::Column;
use crate::functions::{Accepts, Function, Parameter, Returns};
use crate::value::DataType;

const FLOAT: Returns = Returns::Type(DataType::Float);
const INT: Returns = Returns::Type(DataType::Int);
const X: &[Parameter] = &[Parameter::new("x", Accepts::Number)];
const XY: &[Parameter] = &[
    Parameter::new("x", Accepts::Number),
    Parameter::new("y", Accepts::Number),
];
const BITS: &[Parameter] = &[
    Parameter::new("x", Accepts::Int),
    Parameter::new("y", Accepts::Int),
];
const ROUND: &[Parameter] = &[
    Parameter::new("x", Accepts::Number),
    Parameter::new("digits", Accepts::Int).optional(),
];
const CLAMP: &[Parameter] = &[
    Parameter::new("x", Accepts::Number),
    Parameter::new("lowest", Accepts::Number),
    Parameter::new("highest", Accepts::Number),
];

/// A function of one double; what is not finite is null.
macro_rules! one {
    ($apply:expr) => {
        (|_| {
            Ok(Box::new(|arguments: &[Column], rows: usize| {
                let apply: fn(f64) -> f64 = $apply;
                let x = &arguments[0];
                Column::from_optional_floats((0..rows).map(|row| x.float(row).map(apply)))
            }))
        }) as Make
    };
}

/// A function of two doubles.
macro_rules! two {
    ($apply:expr) => {
        (|_| {
            Ok(Box::new(|arguments: &[Column], rows: usize| {
                let apply: fn(f64, f64) -> f64 = $apply;
                let (x, y) = (&arguments[0], &arguments[1]);
                Column::from_optional_floats(
                    (0..rows).map(|row| Some(apply(x.float(row)?, y.float(row)?))),
                )
            }))
        }) as Make
    };
}

/// A function of two integers.
macro_rules! bits {
    ($apply:expr) => {
        (|_| {
            Ok(Box::new(|arguments: &[Column], rows: usize| {
                let apply: fn(i64, i64) -> Option<i64> = $apply;
                let (x, y) = (&arguments[0], &arguments[1]);
                Column::from_optional_ints((0..rows).map(|row| apply(x.int(row)?, y.int(row)?)))
            }))
        }) as Make
    };
}

fn round(arguments: &[Column], rows: usize) -> Column {
    Column::from_optional_floats((0..rows).map(|row| {
        let x = arguments[0].float(row)?;
        let digits = match arguments.get(1) {
            None => 0,
            Some(digits) => i32::try_from(digits.int(row)?.clamp(-15, 15)).ok()?,
        };
        let scale = 10_f64.powi(digits);
        Some((x * scale).round() / scale)
    }))
}

fn clamp(arguments: &[Column], rows: usize) -> Column {
    Column::from_optional_floats((0..rows).map(|row| {
        let (lowest, highest) = (arguments[1].float(row)?, arguments[2].float(row)?);
        let x = arguments[0].float(row)?;
        (lowest <= highest).then(|| x.clamp(lowest, highest))
    }))
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// The table.
pub static CATALOGUE: &[Function] = &[
    scalar("abs", X, FLOAT, "the magnitude", one!(f64::abs)),
    scalar("sign", X, FLOAT, "-1, 0 or 1", one!(sign)),
    scalar(
        "ceil",
        X,
        FLOAT,
        "the smallest whole number that is not below",
        one!(f64::ceil),
    )
    .or(&["ceiling"]),
    scalar(
        "floor",
        X,
        FLOAT,
        "the largest whole number that is not above",
        one!(f64::floor),
    ),
    scalar("trunc", X, FLOAT, "without its fraction", one!(f64::trunc)),
    scalar(
        "round",
        ROUND,
        FLOAT,
        "rounded, halves away from zero",
        |_| Ok(Box::new(round)),
    ),
    scalar(
        "sqrt",
        X,
        FLOAT,
        "the square root; null below zero",
        one!(f64::sqrt),
    ),
    scalar("exp", X, FLOAT, "e to this power", one!(f64::exp)),
    scalar(
        "ln",
        X,
        FLOAT,
        "the natural logarithm; null up to zero",
        one!(f64::ln),
    ),
    scalar(
        "log10",
        X,
        FLOAT,
        "the decimal logarithm; null up to zero",
        one!(f64::log10),
    )
    .or(&["log"]),
    scalar(
        "log2",
        X,
        FLOAT,
        "the binary logarithm; null up to zero",
        one!(f64::log2),
    ),
    scalar("power", XY, FLOAT, "x to the power y", two!(f64::powf)).or(&["pow"]),
    scalar(
        "mod",
        XY,
        FLOAT,
        "the rest of a division, with the sign of x",
        two!(|x, y| x % y),
    ),
    scalar("sin", X, FLOAT, "sine of radians", one!(f64::sin)),
    scalar("cos", X, FLOAT, "cosine of radians", one!(f64::cos)),
    scalar("tan", X, FLOAT, "tangent of radians", one!(f64::tan)),
    scalar("asin", X, FLOAT, "arc sine in radians", one!(f64::asin)),
    scalar("acos", X, FLOAT, "arc cosine in radians", one!(f64::acos)),
    scalar("atan", X, FLOAT, "arc tangent in radians", one!(f64::atan)),
    scalar(
        "atan2",
        XY,
        FLOAT,
        "the angle of the point (y, x) in radians",
        two!(f64::atan2),
    ),
    scalar(
        "degrees",
        X,
        FLOAT,
        "radians in degrees",
        one!(f64::to_degrees),
    ),
    scalar(
        "radians",
        X,
        FLOAT,
        "degrees in radians",
        one!(f64::to_radians),
    ),
    scalar(
        "hypot",
        XY,
        FLOAT,
        "the length of the vector (x, y)",
        two!(f64::hypot),
    ),
    scalar(
        "clamp",
        CLAMP,
        FLOAT,
        "x, but not outside of the two limits",
        |_| Ok(Box::new(clamp)),
    ),
    scalar(
        "bit_and",
        BITS,
        INT,
        "the bits that both have",
        bits!(|x, y| Some(x & y)),
    )
    .or(&["bitand"]),
    scalar(
        "bit_or",
        BITS,
        INT,
        "the bits that either has",
        bits!(|x, y| Some(x | y)),
    )
    .or(&["bitor"]),
    scalar(
        "bit_xor",
        BITS,
        INT,
        "the bits that one of the two has",
        bits!(|x, y| Some(x ^ y)),
    )
    .or(&["bitxor"]),
    scalar(
        "bit",
        BITS,
        INT,
        "bit y of x, counted from 0: one flag of a status word",
        bits!(|x, y| (0..64).contains(&y).then(|| x >> y & 1)),
    ),
];
