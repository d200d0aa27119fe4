//! Points in time and spans.

use super::scalar;
use crate::column::Column;
use crate::functions::{Accepts, ArgumentError, Call, Function, Kernel, Parameter, Returns};
use crate::parse::parse_duration;
use crate::value::DataType;
use crate::zone::{Zone, civil, days};

const TIME: Returns = Returns::Type(DataType::Timestamp);
const PART: &[Parameter] = &[
    Parameter::new("part", Accepts::Text).constant(),
    Parameter::new("time", Accepts::Timestamp),
    Parameter::new("timezone", Accepts::Text)
        .optional()
        .constant(),
];
const EPOCH: &[Parameter] = &[Parameter::new("time", Accepts::Timestamp)];
const MS: &[Parameter] = &[Parameter::new("ms", Accepts::Int)];
const SPAN: &[Parameter] = &[Parameter::new("span", Accepts::Interval)];

const DAY_MS: i64 = 86_400_000;
const PARTS: [&str; 10] = [
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "dow",
    "isodow",
    "epoch",
];

fn zone(call: &Call<'_>, index: usize) -> Result<Zone, ArgumentError> {
    let Some(name) = call.text(index) else {
        return Ok(Zone::UTC);
    };
    Zone::named(name).map_err(|_| ArgumentError {
        parameter: "timezone",
        found: format!("`{name}`"),
        expected: "an offset, a name such as Europe/Berlin, or a POSIX rule",
    })
}

fn date_part(call: &Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError> {
    let name = call.text(0).unwrap_or_default().to_lowercase();
    let Some(part) = PARTS.iter().position(|known| *known == name) else {
        return Err(ArgumentError {
            parameter: "part",
            found: format!("`{name}`"),
            expected: "year, month, day, hour, minute, second, millisecond, dow, isodow or epoch",
        });
    };
    let zone = zone(call, 2)?;
    Ok(Box::new(move |arguments: &[Column], rows: usize| {
        Column::from_optional_floats((0..rows).map(|row| {
            let utc = arguments[1].int(row)?;
            let local = utc.checked_add(zone.offset_ms(utc))?;
            let day = local.div_euclid(DAY_MS);
            let time = local.rem_euclid(DAY_MS);
            let (year, month, date) = civil(day);
            let number = match part {
                0 => year,
                1 => month,
                2 => date,
                3 => time / 3_600_000,
                4 => time / 60_000 % 60,
                5 => return Some((time % 60_000) as f64 / 1_000.0),
                6 => time % 1_000,
                7 => (day + 4).rem_euclid(7),
                8 => (day + 3).rem_euclid(7) + 1,
                _ => return Some(utc as f64 / 1_000.0),
            };
            Some(number as f64)
        }))
    }))
}

fn date_trunc(call: &Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError> {
    let name = call.text(0).unwrap_or_default().to_lowercase();
    let fault = || ArgumentError {
        parameter: "part",
        found: format!("`{name}`"),
        expected: "year, month, week, day, hour, minute, second or a number of them such as '15 minutes'",
    };
    let zone = zone(call, 2)?;
    let calendar = matches!(name.as_str(), "year" | "month" | "week");
    let written = if name.starts_with(|letter: char| letter.is_ascii_digit()) {
        name.clone()
    } else {
        format!("1 {name}")
    };
    let length = parse_duration(&written).ok().filter(|ms| *ms > 0);
    if !calendar && length.is_none() {
        return Err(fault());
    }
    let length = length.unwrap_or(1);
    Ok(Box::new(move |arguments: &[Column], rows: usize| {
        Column::from_optional_ints((0..rows).map(|row| {
            let utc = arguments[1].int(row)?;
            let local = utc.checked_add(zone.offset_ms(utc))?;
            let day = local.div_euclid(DAY_MS);
            let (year, month, _) = civil(day);
            let start = match name.as_str() {
                "year" => days(year, 1, 1) * DAY_MS,
                "month" => days(year, month, 1) * DAY_MS,
                "week" => (day - (day + 3).rem_euclid(7)) * DAY_MS,
                _ => local.div_euclid(length) * length,
            };
            Some(zone.utc_ms(start))
        }))
        .retyped(DataType::Timestamp)
    }))
}

fn same(arguments: &[Column], _: usize) -> Column {
    arguments[0].clone().retyped(DataType::Int)
}

fn seconds(arguments: &[Column], rows: usize) -> Column {
    Column::from_optional_floats(
        (0..rows).map(|row| arguments[0].int(row).map(|ms| ms as f64 / 1_000.0)),
    )
}

/// The table.
pub static CATALOGUE: &[Function] = &[
    scalar(
        "date_part",
        PART,
        Returns::Type(DataType::Float),
        "one part of a time, in UTC or a time zone; dow is 0 on Sunday, isodow 1 on Monday",
        date_part,
    )
    .or(&["datepart"]),
    scalar(
        "date_trunc",
        PART,
        TIME,
        "the beginning of the year, month, week, day, hour … of a time",
        date_trunc,
    ),
    scalar(
        "epoch_ms",
        EPOCH,
        Returns::Type(DataType::Int),
        "milliseconds since the Unix epoch",
        |_| Ok(Box::new(same)),
    ),
    scalar(
        "to_timestamp",
        MS,
        TIME,
        "the time of milliseconds since the Unix epoch",
        |_| Ok(Box::new(same)),
    ),
    scalar(
        "seconds",
        SPAN,
        Returns::Type(DataType::Float),
        "the length of an interval in seconds",
        |_| Ok(Box::new(seconds)),
    ),
];
