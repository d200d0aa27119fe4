//! Durations, sizes and rates as people write them: `10s`, `128MiB`, `10MiB/s`.

use std::time::Duration;

/// Unit names with their nanoseconds.
const DURATION_UNITS: [(&str, u128); 7] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("min", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// Unit names with their bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Parses a whole number with a unit: `us`, `ms`, `s`, `m` or `min`, `h`, `d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, nanos) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    let total = u128::from(number).checked_mul(*nanos)?;
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let rest = u32::try_from(total % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// Parses a whole number with a unit: `B`, `kB`, `KiB`, ... `TiB`, as bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// Parses a size with `/s` behind it, as bytes per second.
#[must_use]
pub fn rate(text: &str) -> Option<u64> {
    size(text.strip_suffix("/s")?)
}

/// Writes bytes with one decimal in the largest fitting binary unit.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const STEPS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (unit, step) in STEPS {
        if bytes >= step {
            if bytes.is_multiple_of(step) {
                return format!("{}{unit}", bytes / step);
            }
            let tenths = bytes / (step / 10).max(1);
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}

/// Writes a duration in its two largest units: `3d4h`, `5m`, `20ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    const STEPS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.subsec_millis());
    }
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, step) in STEPS {
        if rest >= step {
            let had_one = !text.is_empty();
            text.push_str(&format!("{}{unit}", rest / step));
            rest %= step;
            if had_one {
                break;
            }
        } else if !text.is_empty() {
            break;
        }
    }
    text
}

/// Splits `10MiB` into its number and its unit; blanks between are allowed.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::{duration, rate, show_duration, show_size, size};
    use std::time::Duration;

    #[test]
    fn a_number_needs_a_known_unit() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(duration("0ms"), Some(Duration::ZERO));
        assert_eq!(duration("5 min"), Some(Duration::from_secs(300)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 sec",
            "10S",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_tell_decimal_from_binary_units() {
        assert_eq!(size("128MiB"), Some(134_217_728));
        assert_eq!(size("128MB"), Some(128_000_000));
        assert_eq!(rate("10MiB/s"), Some(10_485_760));
        for bad in ["", "128", "128mib", "1.5GiB", "MiB", "99999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(rate("10MiB"), None);
    }

    #[test]
    fn what_is_shown_is_what_people_write() {
        assert_eq!(show_size(16 << 20), "16MiB");
        assert_eq!(show_size(1_610_612_736), "1.5GiB");
        assert_eq!(show_size(12), "12B");
        assert_eq!(show_duration(Duration::from_secs(604_800)), "7d");
        assert_eq!(show_duration(Duration::from_secs(3_720)), "1h2m");
        assert_eq!(show_duration(Duration::from_millis(20)), "20ms");
    }
}
