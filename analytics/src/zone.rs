//! Time zones without a database.
//!
//! A zone is a fixed offset (`+02:00`), a POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`)
//! or one of the names in [`NAMED`], which stand for POSIX rules. The rules that
//! are in force are applied to all years: windows are cut on the recent past,
//! and a database of history would have to be read from a disk.

/// Names of zones and their rules as of the tz database 2025b.
const NAMED: [(&str, &str); 24] = [
    ("UTC", "UTC0"),
    ("Europe/London", "GMT0BST,M3.5.0/1,M10.5.0"),
    ("Europe/Dublin", "GMT0IST,M3.5.0/1,M10.5.0"),
    ("Europe/Lisbon", "WET0WEST,M3.5.0/1,M10.5.0"),
    ("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Paris", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Madrid", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Rome", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Vienna", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Zurich", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Amsterdam", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Brussels", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Prague", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Warsaw", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Stockholm", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ("Europe/Helsinki", "EET-2EEST,M3.5.0/3,M10.5.0/4"),
    ("America/New_York", "EST5EDT,M3.2.0,M11.1.0"),
    ("America/Chicago", "CST6CDT,M3.2.0,M11.1.0"),
    ("America/Denver", "MST7MDT,M3.2.0,M11.1.0"),
    ("America/Los_Angeles", "PST8PDT,M3.2.0,M11.1.0"),
    ("America/Sao_Paulo", "BRT3"),
    ("Asia/Shanghai", "CST-8"),
    ("Asia/Tokyo", "JST-9"),
    ("Asia/Kolkata", "IST-5:30"),
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// A text that is no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown time zone `{0}`, expected an offset such as '+02:00', a name such as 'Europe/Berlin' or a POSIX rule such as 'CET-1CEST,M3.5.0,M10.5.0/3'"
)]
pub struct ZoneError(String);

/// Offsets from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    standard_ms: i64,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Summer {
    offset_ms: i64,
    begin: Day,
    end: Day,
}

/// `Mm.w.d/time`: a weekday of a month at a local time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Day {
    month: i64,
    week: i64,
    weekday: i64,
    time_ms: i64,
}

impl Zone {
    /// Universal time.
    pub const UTC: Self = Self {
        standard_ms: 0,
        summer: None,
    };

    /// A zone by offset, name or POSIX rule.
    ///
    /// # Errors
    /// [`ZoneError`] if the text is none of these.
    pub fn named(text: &str) -> Result<Self, ZoneError> {
        let fault = || ZoneError(text.to_owned());
        if text.starts_with(['+', '-']) {
            let standard_ms = clock(&text[1..]).ok_or_else(fault)?;
            let sign = if text.starts_with('-') { -1 } else { 1 };
            return Ok(Self {
                standard_ms: sign * standard_ms,
                summer: None,
            });
        }
        let rule = NAMED
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or(text, |(_, rule)| rule);
        posix(rule).ok_or_else(fault)
    }

    /// What to add to UTC for local time, in milliseconds.
    pub fn offset_ms(&self, utc_ms: i64) -> i64 {
        let Some(summer) = &self.summer else {
            return self.standard_ms;
        };
        let (year, _, _) = civil(utc_ms.saturating_add(self.standard_ms).div_euclid(DAY_MS));
        let begin = summer.begin.instant(year) - self.standard_ms;
        let end = summer.end.instant(year) - summer.offset_ms;
        let inside = if begin < end {
            (begin..end).contains(&utc_ms)
        } else {
            !(end..begin).contains(&utc_ms)
        };
        if inside {
            summer.offset_ms
        } else {
            self.standard_ms
        }
    }

    /// The instant of a local time. Of two the earlier one, and the first instant
    /// after a gap for a local time that does not exist.
    pub fn utc_ms(&self, local_ms: i64) -> i64 {
        let Some(summer) = &self.summer else {
            return local_ms - self.standard_ms;
        };
        let (early, late) = (
            local_ms - self.standard_ms.max(summer.offset_ms),
            local_ms - self.standard_ms.min(summer.offset_ms),
        );
        if early + self.offset_ms(early) == local_ms {
            early
        } else {
            late
        }
    }

    /// The offset outside of summer time.
    pub fn standard_ms(&self) -> i64 {
        self.standard_ms
    }
}

impl Day {
    /// Milliseconds of local time since the epoch.
    fn instant(&self, year: i64) -> i64 {
        let first = days(year, self.month, 1);
        // 1970-01-01 was a Thursday, weekday 4.
        let skip = (self.weekday - (first + 4)).rem_euclid(7);
        let mut day = first + skip + (self.week - 1) * 7;
        let (next_year, next_month) = if self.month == 12 {
            (year + 1, 1)
        } else {
            (year, self.month + 1)
        };
        while day >= days(next_year, next_month, 1) {
            day -= 7;
        }
        day * DAY_MS + self.time_ms
    }
}

fn posix(text: &str) -> Option<Zone> {
    let rest = name(text)?;
    let (west_ms, rest) = offset(rest)?;
    let standard_ms = -west_ms;
    if rest.is_empty() {
        return Some(Zone {
            standard_ms,
            summer: None,
        });
    }
    let rest = name(rest)?;
    let (offset_ms, rest) = if rest.starts_with(',') {
        (standard_ms + HOUR_MS, rest)
    } else {
        let (west_ms, rest) = offset(rest)?;
        (-west_ms, rest)
    };
    let (begin, end) = rest.strip_prefix(',')?.split_once(',')?;
    Some(Zone {
        standard_ms,
        summer: Some(Summer {
            offset_ms,
            begin: day(begin)?,
            end: day(end)?,
        }),
    })
}

/// Skips the name of a zone: at least three letters, or anything in `<…>`.
fn name(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split_once('>').map(|(_, rest)| rest);
    }
    let length = text
        .find(|letter: char| !letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    (length >= 3).then(|| &text[length..])
}

fn offset(text: &str) -> Option<(i64, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let length = digits
        .find(|letter: char| !letter.is_ascii_digit() && letter != ':')
        .unwrap_or(digits.len());
    Some((sign * clock(&digits[..length])?, &digits[length..]))
}

/// `h`, `hh`, `hhmm`, `hh:mm` or `hh:mm:ss` in milliseconds.
fn clock(text: &str) -> Option<i64> {
    let mut parts: Vec<&str> = text.split(':').collect();
    if parts.len() == 1 && text.len() == 4 && text.is_ascii() {
        parts = vec![&text[..2], &text[2..]];
    }
    if parts.len() > 3 {
        return None;
    }
    let mut ms = 0;
    for (part, unit) in parts.iter().zip([HOUR_MS, 60_000, 1_000]) {
        let number: i64 = part.parse().ok()?;
        if !(0..=167).contains(&number) {
            return None;
        }
        ms += number * unit;
    }
    Some(ms)
}

fn day(text: &str) -> Option<Day> {
    let (date, time) = text.split_once('/').unwrap_or((text, "2"));
    let numbers: Vec<i64> = date
        .strip_prefix('M')?
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let &[month, week, weekday] = numbers.as_slice() else {
        return None;
    };
    let sane = (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday);
    sane.then_some(Day {
        month,
        week,
        weekday,
        time_ms: clock(time)?,
    })
}

/// Days since the epoch of a date (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", days_from_civil).
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of days since the epoch (civil_from_days).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64, hour: i64) -> i64 {
        days(year, month, day) * DAY_MS + hour * HOUR_MS
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for day in (-800_000..800_000).step_by(37) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(civil(days(2024, 2, 29)), (2024, 2, 29));
    }

    #[test]
    fn summer_time_begins_and_ends_at_the_rule() {
        let berlin = Zone::named("Europe/Berlin").expect("a zone");
        // 2025-03-30 01:00 UTC and 2025-10-26 01:00 UTC.
        for (utc, hours) in [
            (at(2025, 3, 30, 1) - 1, 1),
            (at(2025, 3, 30, 1), 2),
            (at(2025, 10, 26, 1) - 1, 2),
            (at(2025, 10, 26, 1), 1),
        ] {
            assert_eq!(berlin.offset_ms(utc), hours * HOUR_MS, "{utc}");
        }
        let new_york = Zone::named("America/New_York").expect("a zone");
        assert_eq!(new_york.offset_ms(at(2025, 3, 9, 7) - 1), -5 * HOUR_MS);
        assert_eq!(new_york.offset_ms(at(2025, 3, 9, 7)), -4 * HOUR_MS);
        // South of the equator summer spans the new year.
        let sydney = Zone::named("AEST-10AEDT,M10.1.0,M4.1.0/3").expect("a zone");
        assert_eq!(sydney.offset_ms(at(2025, 1, 1, 0)), 11 * HOUR_MS);
        assert_eq!(sydney.offset_ms(at(2025, 7, 1, 0)), 10 * HOUR_MS);
    }

    #[test]
    fn local_midnight_is_an_instant() {
        let berlin = Zone::named("Europe/Berlin").expect("a zone");
        assert_eq!(berlin.utc_ms(at(2025, 7, 1, 0)), at(2025, 6, 30, 22));
        assert_eq!(berlin.utc_ms(at(2025, 1, 1, 0)), at(2024, 12, 31, 23));
        // 02:30 exists twice on the last day of summer time.
        assert_eq!(berlin.utc_ms(at(2025, 10, 26, 2)), at(2025, 10, 26, 0));
    }

    #[test]
    fn offsets_and_nonsense() {
        assert_eq!(
            Zone::named("+05:30").map(|zone| zone.standard_ms()),
            Ok(19_800_000)
        );
        assert_eq!(
            Zone::named("-0300").map(|zone| zone.standard_ms()),
            Ok(-3 * HOUR_MS)
        );
        for text in [
            "",
            "Mars/Olympus",
            "CET",
            "+99:99:99:99",
            "CET-1CEST,M13.1.0,M1.1.0",
        ] {
            assert!(Zone::named(text).is_err(), "{text}");
        }
    }
}
