//! What the demo shows while it runs: one table row a second.

use std::io::{self, Write};

/// How often the header is repeated, in rows: once per small terminal.
const ROWS_PER_HEADER: u64 = 18;

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Seconds since the sensors started.
    pub seconds: u64,
    /// Whether the link to the hub is up.
    pub link_up: bool,
    /// Readings acknowledged per second.
    pub rate: f64,
    /// Readings acknowledged so far.
    pub acknowledged: u64,
    /// Durable readings in the gateway's log.
    pub gateway_durable: u64,
    /// Durable readings at the hub.
    pub hub_durable: u64,
    /// Hours until the gateway's buffer is full, when it can be told.
    pub buffer_hours: Option<f64>,
    /// Vibration of the failing bearing in mm/s.
    pub vibration: f64,
}

/// Prints rows and announcements, or nothing at all.
#[derive(Debug)]
pub struct Screen {
    silent: bool,
    rows: u64,
}

impl Screen {
    /// A screen that prints to standard output unless it is `silent`.
    pub fn new(silent: bool) -> Screen {
        Screen { silent, rows: 0 }
    }

    /// Prints a sentence between the rows.
    pub fn announce(&self, sentence: &str) {
        self.line(sentence);
    }

    /// Prints a row, with the header where it is due.
    pub fn show(&mut self, row: &Row) {
        if self.rows.is_multiple_of(ROWS_PER_HEADER) {
            self.line(
                "time  link  readings/s  acknowledged  durable here  durable at hub     lag  buffer left  press-3 bearing",
            );
        }
        self.rows += 1;
        self.line(&row.to_string());
    }

    /// A closed standard output ends the picture, not the audit.
    fn line(&self, text: &str) {
        if !self.silent {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let link = if self.link_up { "up" } else { "CUT" };
        let buffer = self.buffer_hours.map_or_else(|| "-".to_owned(), hours);
        write!(
            f,
            "{:>3}s  {link:<4}  {:>10.0}  {:>12}  {:>12}  {:>14}  {:>6}  {buffer:>11}  {:>5.1} mm/s {}",
            self.seconds,
            self.rate,
            self.acknowledged,
            self.gateway_durable,
            self.hub_durable,
            self.gateway_durable.saturating_sub(self.hub_durable),
            self.vibration,
            zone(self.vibration),
        )
    }
}

fn hours(hours: f64) -> String {
    if hours >= 48.0 {
        format!("{:.0} days", hours / 24.0)
    } else {
        format!("{hours:.1} h")
    }
}

/// The ISO 20816-3 evaluation zone of a medium machine on a rigid base.
fn zone(vibration: f64) -> &'static str {
    match vibration {
        v if v < 1.4 => "zone A",
        v if v < 2.8 => "zone B",
        v if v < 4.5 => "zone C",
        _ => "zone D, failing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_lag_and_the_state_of_the_link() {
        let row = Row {
            seconds: 12,
            link_up: false,
            rate: 240.0,
            acknowledged: 2880,
            gateway_durable: 2880,
            hub_durable: 2000,
            buffer_hours: Some(100.0),
            vibration: 5.0,
        };
        let text = row.to_string();
        assert!(text.contains("CUT") && text.contains("   880 "), "{text}");
        assert!(text.contains("4 days") && text.contains("zone D"), "{text}");
    }
}
