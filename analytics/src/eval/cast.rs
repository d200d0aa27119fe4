//! Conversions. What cannot be converted becomes null.

use crate::column::{Column, Values};
use crate::value::DataType;
use crate::zone::{civil, days};

/// The column as another type.
pub fn cast(column: &Column, to: DataType) -> Column {
    let rows = column.len();
    let from = column.data_type();
    if from == to {
        return column.clone();
    }
    match to {
        DataType::Float => {
            if let Values::Int(values) = column.values() {
                return Column::from_floats(
                    values.iter().map(|x| *x as f64).collect(),
                    column.validity().cloned(),
                );
            }
            Column::from_optional_floats((0..rows).map(|row| match from {
                DataType::Text => parse_number(column.text(row)?),
                DataType::Bool => Some(f64::from(u8::from(column.bool(row)?))),
                _ => column.int(row).map(|x| x as f64),
            }))
        }
        DataType::Int | DataType::Timestamp | DataType::Interval => {
            Column::from_optional_ints((0..rows).map(|row| int(column, row, from, to))).retyped(to)
        }
        DataType::Bool => Column::from_optional_bools((0..rows).map(|row| match from {
            DataType::Text => match column.text(row)? {
                "true" | "TRUE" | "True" | "t" | "1" | "on" | "yes" => Some(true),
                "false" | "FALSE" | "False" | "f" | "0" | "off" | "no" => Some(false),
                _ => None,
            },
            _ => column.float(row).map(|x| x != 0.0),
        })),
        DataType::Text => Column::from_optional_texts((0..rows).map(|row| text(column, row, from))),
        DataType::Null | DataType::Waveform => {
            Column::from_optional_waveforms((0..rows).map(|_| None))
        }
    }
}

fn int(column: &Column, row: usize, from: DataType, to: DataType) -> Option<i64> {
    match (from, to) {
        (DataType::Text, DataType::Timestamp) => parse_time(column.text(row)?),
        (DataType::Text, DataType::Interval) => {
            crate::parse::parse_duration(column.text(row)?).ok()
        }
        (DataType::Text, _) => {
            let text = column.text(row)?.trim();
            text.parse().ok().or_else(|| rounded(parse_number(text)?))
        }
        (DataType::Bool, _) => column.bool(row).map(i64::from),
        (DataType::Float, _) => rounded(column.float(row)?),
        _ => column.int(row),
    }
}

fn rounded(number: f64) -> Option<i64> {
    let whole = number.round();
    // 2^63 is the first double that does not fit.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&whole)
        .then_some(whole as i64)
}

fn text(column: &Column, row: usize, from: DataType) -> Option<String> {
    match from {
        DataType::Bool => column.bool(row).map(|value| value.to_string()),
        DataType::Float => column.float(row).map(|number| number.to_string()),
        DataType::Timestamp => column.int(row).map(print_time),
        DataType::Interval => column.int(row).map(crate::parse::print_duration),
        _ => column.int(row).map(|number| number.to_string()),
    }
}

/// A finite decimal number; spaces around it are allowed.
pub fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    // The standard parser also takes `inf`, `nan` and the like.
    let plain = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse()
        .ok()
        .filter(|number: &f64| plain && number.is_finite())
}

/// Milliseconds of an ISO 8601 date and time (`2026-01-31`,
/// `2026-01-31T12:00:00.5+01:00`), UTC without a zone; or of a number, which is
/// milliseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let start = days(year, month, day);
    if civil(start) != (year, month, day) {
        return None;
    }
    let mut ms = start * 86_400_000;
    if rest.is_empty() {
        return Some(ms);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let split = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(split);
    let mut units = [3_600_000.0, 60_000.0, 1_000.0].into_iter();
    for part in time.split(':') {
        let number = parse_number(part).filter(|number| (0.0..=60.0).contains(number))?;
        ms += (number * units.next()?).round() as i64;
    }
    match zone {
        "" | "Z" | "z" => Some(ms),
        offset => Some(ms - crate::zone::Zone::named(offset).ok()?.standard_ms()),
    }
}

/// ISO 8601 in UTC with milliseconds.
pub fn print_time(ms: i64) -> String {
    let (day, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, date) = civil(day);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1_000 % 60,
        rest % 1_000
    )
}
