//! What tags of every protocol have in common: a path, numbers, the limits of
//! what may be written.

use std::time::Duration;

use toml::de::DeValue;

use super::defaults;
use super::node::duration_within;
use super::section::Section;

/// Limits of what commands may write to a tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteLimits {
    /// The least value.
    pub min: Option<f64>,
    /// The greatest value.
    pub max: Option<f64>,
    /// The shortest time between two writes.
    pub min_interval: Duration,
}

/// Checks one or several levels of a path.
pub(super) fn path(text: &str) -> Result<String, String> {
    let is_level = |level: &str| !level.is_empty() && !level.contains(['+', '#', '\0']);
    if text.starts_with('$') {
        return Err("expected a path that does not begin with '$'".to_owned());
    }
    if !text.split('/').all(is_level) {
        return Err("expected levels without '+' and '#', with one '/' between them".to_owned());
    }
    Ok(text.to_owned())
}

/// A whole number or one with a fraction.
pub(super) fn float(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        #[expect(
            clippy::cast_precision_loss,
            reason = "scales, offsets and limits are floats; beyond 2^53 the nearest one is meant"
        )]
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .map(|number| number as f64),
        _ => None,
    }
}

/// Reads a finite number.
pub(super) fn number(section: &Section<'_>, key: &'static str) -> Option<f64> {
    section.read(key, |value| {
        float(value)
            .filter(|number| number.is_finite())
            .ok_or_else(|| "expected a finite number".to_owned())
    })
}

/// Reads the limits in a table `write`.
pub(super) fn write_limits(table: &Section<'_>) -> WriteLimits {
    let limits = WriteLimits {
        min: number(table, "min"),
        max: number(table, "max"),
        min_interval: duration_within(
            table,
            "min_interval",
            Duration::ZERO,
            defaults::WRITE_INTERVAL_MAX,
            "expected a duration such as \"1s\"",
        )
        .unwrap_or(defaults::WRITE_INTERVAL),
    };
    if let (Some(min), Some(max)) = (limits.min, limits.max)
        && min > max
    {
        table.mistake("min", format!("expected at most max = {max}"));
    }
    limits
}
