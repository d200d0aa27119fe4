//! The time zone of whoever reads the answer.

use std::io::Read;
use std::path::Path;

use forebay_analytics::zone::Zone;

use crate::cli::moment;

/// Where the system keeps its zone.
const LOCAL: &str = "/etc/localtime";
/// Where the system keeps all zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// The longest file of a zone has some four kilobytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The zone of the variable TZ, or of the system, or UTC.
pub fn local() -> Zone {
    let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
    let found = match named {
        Some(name) => {
            let name = name.trim_start_matches(':').to_owned();
            from_file(&Path::new(ZONES).join(&name)).or_else(|| Zone::named(&name).ok())
        }
        None => from_file(Path::new(LOCAL)),
    };
    found.unwrap_or(Zone::UTC)
}

/// The rule for times to come, which is the last line of a TZif file
/// (RFC 9636, section 3.3).
fn from_file(path: &Path) -> Option<Zone> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    if !bytes.starts_with(b"TZif") {
        return None;
    }
    let rule = bytes.strip_suffix(b"\n")?;
    let rule = &rule[rule.iter().rposition(|byte| *byte == b'\n')? + 1..];
    Zone::named(std::str::from_utf8(rule).ok()?).ok()
}

/// Local time in the form of RFC 3339, with milliseconds if there are any.
pub fn show(ms: i64, zone: &Zone) -> String {
    let offset = zone.offset_ms(ms);
    let mut text = moment::show(ms.saturating_add(offset));
    text.pop();
    if let Some(whole) = text.strip_suffix(".000") {
        text.truncate(whole.len());
    }
    let minutes = offset / 60_000;
    match minutes {
        0 => text.push('Z'),
        _ => {
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            text.push_str(&format!("{sign}{hours:02}:{rest:02}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_the_offset_that_holds_then() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(
            show(1_709_209_815_250, &berlin),
            "2024-02-29T13:30:15.250+01:00"
        );
        assert_eq!(
            show(1_719_792_000_000, &berlin),
            "2024-07-01T02:00:00+02:00"
        );
        assert_eq!(show(0, &Zone::UTC), "1970-01-01T00:00:00Z");
        let west = Zone::named("-03:30").unwrap();
        assert_eq!(show(0, &west), "1969-12-31T20:30:00-03:30");
    }

    #[test]
    fn the_rule_of_a_zone_file_is_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zone");
        std::fs::write(&file, b"TZif2\0\n\0\nCET-1CEST,M3.5.0,M10.5.0/3\n").unwrap();
        assert_eq!(from_file(&file), Zone::named("Europe/Berlin").ok());
        std::fs::write(&file, b"CET-1\n").unwrap();
        assert_eq!(from_file(&file), None);
        assert_eq!(from_file(&dir.path().join("none")), None);
    }
}
