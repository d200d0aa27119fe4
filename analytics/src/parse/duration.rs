//! Durations as people write them.

/// A century: longer windows are a mistake in the unit.
const DURATION_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// Milliseconds of `10 s`, `1h 30min`, `500ms`, `7 days`.
///
/// # Errors
/// What is wrong and what is expected, without a place.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let fault =
        || format!("`{text}` is not a duration, expected for example `10 s` or `1 h 30 min`");
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|character: char| !character.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        total += number * unit_ms(&rest[..letters]).ok_or_else(fault)?;
        rest = rest[letters..].trim_start();
    }
    if total > DURATION_MS_MAX as f64 {
        return Err(format!("`{text}` is longer than a century"));
    }
    Ok(total.round() as i64)
}

/// Milliseconds of a unit. The two-letter forms of eKuiper (`ss`, `mi`, `hh`,
/// `dd`) are accepted.
pub fn unit_ms(unit: &str) -> Option<f64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "ss" | "sec" | "secs" | "second" | "seconds" => 1_000.0,
        "m" | "mi" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
        "h" | "hh" | "hour" | "hours" => 3_600_000.0,
        "d" | "dd" | "day" | "days" => 86_400_000.0,
        "w" | "week" | "weeks" => 7.0 * 86_400_000.0,
        _ => return None,
    })
}

/// A duration in the largest unit that divides it.
pub fn print_duration(ms: i64) -> String {
    for (unit, length) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1_000),
    ] {
        if ms != 0 && ms % length == 0 {
            return format!("{} {unit}", ms / length);
        }
    }
    format!("{ms} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("10 s", 10_000),
            ("10s", 10_000),
            ("1 h 30 min", 5_400_000),
            ("1h30m", 5_400_000),
            ("0.5 SECONDS", 500),
            ("250ms", 250),
            ("7 days", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "10", "s", "10 parsec", "-1 s", "1 s 2", "1000000000 d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(print_duration(5_400_000), "90 min");
    }
}
