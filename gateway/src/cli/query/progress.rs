//! How far a query has come, for a person at a terminal, and what it met.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use forebay_analytics::query::Query;

use super::printing::Told;
use super::reading::Reading;
use crate::cli::moment;
use crate::config::quantity::show_size;

/// How often the line is written anew: often enough to be seen moving.
const EVERY: Duration = Duration::from_millis(200);

/// The progress line.
pub struct Progress {
    began: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
    is_there: bool,
}

impl Progress {
    /// Begins to count time.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            shown: None,
            is_terminal: std::io::stderr().is_terminal(),
            is_there: false,
        }
    }

    /// Writes the line, if there is a terminal and it is time.
    pub fn show(&mut self, reading: &Reading) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let (records, bytes) = reading.amount();
        let position = reading.times_ms().map(|(_, newest)| moment::show(newest));
        let line = format!(
            "{:3.0} %  {} records  {}  {} records/s  {}",
            reading.share() * 100.0,
            grouped(records),
            show_size(bytes),
            grouped(self.rate(records)),
            position.unwrap_or_default(),
        );
        self.clear();
        // A terminal that is gone does not stop the query.
        let _ = write!(std::io::stderr(), "{line}");
        self.is_there = true;
    }

    /// Takes the line away, so that something else can be written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_there) {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    /// Says what the whole run met.
    pub fn summary(&mut self, reading: &Reading, query: &Query, told: Told) {
        self.clear();
        let text = self.told(reading, query, told);
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn told(&self, reading: &Reading, query: &Query, told: Told) -> String {
        let (records, bytes) = reading.amount();
        let counts = query.counts();
        let mut text = format!("{} records ({})", grouped(records), show_size(bytes));
        if let Some((first, newest)) = reading.times_ms() {
            let (first, newest) = (moment::show(first), moment::show(newest));
            text.push_str(&format!(" from {first} to {newest}"));
        }
        text.push_str(&format!(
            " in {:.1} s, {} records/s\n{} read as rows, {} result rows, {}, {} late, {} malformed\n",
            self.began.elapsed().as_secs_f64(),
            grouped(self.rate(records)),
            grouped(counts.decode.rows),
            grouped(counts.rows_out),
            match told.alerts {
                1 => "1 alert raised".to_owned(),
                several => format!("{} alerts raised", grouped(several)),
            },
            grouped(counts.late),
            grouped(counts.decode.malformed),
        ));
        let rare = [
            (
                "result rows of windows that were open at the end and lack what would still come",
                told.open_rows,
            ),
            (
                "values of another type than their column, which became null",
                counts.decode.mismatched,
            ),
            (
                "rows without a time in the payload, which took the record time",
                counts.decode.untimed,
            ),
            (
                "rows too far ahead of their record time, which were left out",
                counts.ahead,
            ),
            (
                "rows without memory for them: raise --memory or group by less",
                counts.no_memory,
            ),
            (
                "windows ended early and keys forgotten for want of memory",
                counts.shed,
            ),
            (
                "answers that are null for want of memory",
                counts.unanswered,
            ),
            (
                "rows that could not raise an alert for want of memory",
                counts.untracked,
            ),
        ];
        for (what, count) in rare {
            if count > 0 {
                text.push_str(&format!("{what}: {}\n", grouped(count)));
            }
        }
        if records > 0 && counts.decode.rows == 0 {
            text.push_str("no record was on a path that the query reads\n");
        }
        text
    }

    fn rate(&self, records: u64) -> u64 {
        (records as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
