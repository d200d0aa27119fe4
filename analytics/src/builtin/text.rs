//! Text. Places are counted in characters from 1.

use super::scalar;
use crate::column::Column;
use crate::functions::{Accepts, Function, Parameter, Returns};
use crate::value::DataType;

const TEXT: Returns = Returns::Type(DataType::Text);
const INT: Returns = Returns::Type(DataType::Int);
const BOOL: Returns = Returns::Type(DataType::Bool);
const T: &[Parameter] = &[Parameter::new("text", Accepts::Text)];
const TT: &[Parameter] = &[
    Parameter::new("text", Accepts::Text),
    Parameter::new("part", Accepts::Text),
];
const TI: &[Parameter] = &[
    Parameter::new("text", Accepts::Text),
    Parameter::new("characters", Accepts::Int),
];
const SUBSTR: &[Parameter] = &[
    Parameter::new("text", Accepts::Text),
    Parameter::new("from", Accepts::Int),
    Parameter::new("characters", Accepts::Int).optional(),
];
const REPLACE: &[Parameter] = &[
    Parameter::new("text", Accepts::Text),
    Parameter::new("from", Accepts::Text),
    Parameter::new("to", Accepts::Text),
];
const SPLIT: &[Parameter] = &[
    Parameter::new("text", Accepts::Text),
    Parameter::new("separator", Accepts::Text),
    Parameter::new("part", Accepts::Int),
];

/// Text becomes longer by replacing; a result beyond this is null.
const TEXT_BYTES_MAX: usize = 1 << 20;

fn texts(rows: usize, of: impl Fn(usize) -> Option<String>) -> Column {
    Column::from_optional_texts((0..rows).map(of))
}

fn upper(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| Some(arguments[0].text(row)?.to_uppercase()))
}

fn lower(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| Some(arguments[0].text(row)?.to_lowercase()))
}

fn trim(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| Some(arguments[0].text(row)?.trim().to_owned()))
}

fn length(arguments: &[Column], rows: usize) -> Column {
    Column::from_optional_ints((0..rows).map(|row| {
        arguments[0]
            .text(row)
            .map(|text| text.chars().count() as i64)
    }))
}

fn substr(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| {
        let from = arguments[1].int(row)?;
        let to = match arguments.get(2) {
            None => i64::MAX,
            Some(characters) => from.saturating_add(characters.int(row)?.max(0)),
        };
        let text = arguments[0].text(row)?.chars().zip(1_i64..);
        Some(
            text.filter(|(_, place)| (from..to).contains(place))
                .map(|(letter, _)| letter)
                .collect(),
        )
    })
}

fn left(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| {
        let wanted = usize::try_from(arguments[1].int(row)?).unwrap_or(0);
        Some(arguments[0].text(row)?.chars().take(wanted).collect())
    })
}

fn right(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| {
        let text = arguments[0].text(row)?;
        let wanted = usize::try_from(arguments[1].int(row)?).unwrap_or(0);
        let skip = text.chars().count().saturating_sub(wanted);
        Some(text.chars().skip(skip).collect())
    })
}

fn replace(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| {
        let (from, to) = (arguments[1].text(row)?, arguments[2].text(row)?);
        let text = arguments[0].text(row)?;
        let found = if from.is_empty() {
            0
        } else {
            text.matches(from).count()
        };
        if text.len() + found * to.len() > TEXT_BYTES_MAX {
            return None;
        }
        Some(if found == 0 {
            text.to_owned()
        } else {
            text.replace(from, to)
        })
    })
}

fn split_part(arguments: &[Column], rows: usize) -> Column {
    texts(rows, |row| {
        let part = usize::try_from(arguments[2].int(row)?)
            .ok()?
            .checked_sub(1)?;
        let separator = arguments[1].text(row)?;
        if separator.is_empty() {
            return None;
        }
        let text = arguments[0].text(row)?;
        Some(
            text.split(separator)
                .nth(part)
                .unwrap_or_default()
                .to_owned(),
        )
    })
}

fn strpos(arguments: &[Column], rows: usize) -> Column {
    Column::from_optional_ints((0..rows).map(|row| {
        let text = arguments[0].text(row)?;
        let found = text.find(arguments[1].text(row)?);
        Some(found.map_or(0, |at| text[..at].chars().count() as i64 + 1))
    }))
}

fn tests(arguments: &[Column], rows: usize, holds: fn(&str, &str) -> bool) -> Column {
    Column::from_optional_bools(
        (0..rows).map(|row| Some(holds(arguments[0].text(row)?, arguments[1].text(row)?))),
    )
}

fn starts_with(arguments: &[Column], rows: usize) -> Column {
    tests(arguments, rows, |text, part| text.starts_with(part))
}

fn ends_with(arguments: &[Column], rows: usize) -> Column {
    tests(arguments, rows, |text, part| text.ends_with(part))
}

fn contains(arguments: &[Column], rows: usize) -> Column {
    tests(arguments, rows, |text, part| text.contains(part))
}

/// The table.
pub static CATALOGUE: &[Function] = &[
    scalar("upper", T, TEXT, "in upper case", |_| Ok(Box::new(upper))),
    scalar("lower", T, TEXT, "in lower case", |_| Ok(Box::new(lower))),
    scalar("trim", T, TEXT, "without spaces around it", |_| {
        Ok(Box::new(trim))
    }),
    scalar("length", T, INT, "the number of characters", |_| {
        Ok(Box::new(length))
    })
    .or(&["char_length"]),
    scalar(
        "substr",
        SUBSTR,
        TEXT,
        "a part, from a place counted from 1",
        |_| Ok(Box::new(substr)),
    )
    .or(&["substring"]),
    scalar("left", TI, TEXT, "the first characters", |_| {
        Ok(Box::new(left))
    }),
    scalar("right", TI, TEXT, "the last characters", |_| {
        Ok(Box::new(right))
    }),
    scalar("replace", REPLACE, TEXT, "each occurrence replaced", |_| {
        Ok(Box::new(replace))
    }),
    scalar(
        "split_part",
        SPLIT,
        TEXT,
        "the part between separators, counted from 1",
        |_| Ok(Box::new(split_part)),
    ),
    scalar(
        "strpos",
        TT,
        INT,
        "where a part begins, counted from 1; 0 if it is not there",
        |_| Ok(Box::new(strpos)),
    ),
    scalar(
        "starts_with",
        TT,
        BOOL,
        "whether it begins with a part",
        |_| Ok(Box::new(starts_with)),
    )
    .or(&["startswith"]),
    scalar("ends_with", TT, BOOL, "whether it ends with a part", |_| {
        Ok(Box::new(ends_with))
    })
    .or(&["endswith"]),
    scalar("contains", TT, BOOL, "whether a part is in it", |_| {
        Ok(Box::new(contains))
    }),
];
