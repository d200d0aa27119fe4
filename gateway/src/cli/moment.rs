//! Points in time on the command line and in listings, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use toml::value::{Datetime, Offset};

use crate::config::quantity::duration;

/// Milliseconds since 1970 by the system clock.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Parses `2026-11-22T08:00:00Z` (RFC 3339; without a zone it is UTC), or a
/// duration such as `10m`, which is that long before `now_ms`.
#[must_use]
pub fn parse(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(ago) = duration(text) {
        return now_ms.checked_sub(i64::try_from(ago.as_millis()).ok()?);
    }
    let moment: Datetime = text.parse().ok()?;
    let date = moment.date?;
    let days = days_from_civil(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let mut ms = days * 86_400_000;
    if let Some(time) = moment.time {
        ms += i64::from(time.hour) * 3_600_000 + i64::from(time.minute) * 60_000;
        ms += i64::from(time.second.unwrap_or(0)) * 1_000;
        ms += i64::from(time.nanosecond.unwrap_or(0)) / 1_000_000;
    }
    if let Some(Offset::Custom { minutes }) = moment.offset {
        ms -= i64::from(minutes) * 60_000;
    }
    Some(ms)
}

/// Writes milliseconds since 1970 as `2026-11-22T08:00:00.000Z`.
#[must_use]
pub fn show(ms: i64) -> String {
    let (year, month, day) = civil_from_days(ms.div_euclid(86_400_000));
    let rest = ms.rem_euclid(86_400_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1_000 % 60,
        rest % 1_000
    )
}

/// Days from 1970-01-01 in the Gregorian calendar. Years begin in March, so
/// that the leap day is the last one, and repeat every 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
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
    use super::{parse, show};

    #[test]
    fn moments_are_read_and_written_in_utc() {
        assert_eq!(parse("1970-01-01T00:00:00Z", 0), Some(0));
        assert_eq!(
            parse("2024-02-29T12:30:15.250Z", 0),
            Some(1_709_209_815_250)
        );
        assert_eq!(
            parse("2024-02-29T13:30:15.25+01:00", 0),
            Some(1_709_209_815_250)
        );
        assert_eq!(parse("2024-02-29", 0), Some(1_709_164_800_000));
        assert_eq!(parse("10m", 1_000_000), Some(400_000));
        assert_eq!(parse("yesterday", 0), None);
        assert_eq!(show(1_709_209_815_250), "2024-02-29T12:30:15.250Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for day in (-200_000..200_000).step_by(97) {
            let ms = day * 86_400_000 + 3_661_007;
            if ms > -62_000_000_000_000 {
                assert_eq!(parse(&show(ms), 0), Some(ms));
            }
        }
    }
}
