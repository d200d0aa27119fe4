//! Rows and alerts for people and for programs.

use std::io::{self, Write};

use forebay_analytics::alerts::{AlertEvent, Transition};
use forebay_analytics::parse::print_duration;
use forebay_analytics::plan::{Field, Plan};
use forebay_analytics::query::{Output, write_alert, write_row};
use forebay_analytics::value::{DataType, Value};
use forebay_analytics::zone::Zone;

use super::zone;
use crate::cli::moment;

/// Rows of a table that wait until the widths of its columns are chosen. More
/// would make a person wait, fewer misjudge the widths.
const WIDTH_ROWS: usize = 100;
/// Digits of a number in a table; --json and --csv have all.
const DIGITS: usize = 6;
/// A wider cell moves the cells behind it, or one long text would push all
/// columns off the screen.
const WIDTH_MAX: usize = 48;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Aligned columns, local time.
    Table,
    /// One object per line, times in milliseconds.
    Json,
    /// RFC 4180 with a header, times as RFC 3339 in UTC.
    Csv,
}

/// Writes rows to standard output, and alerts there or to standard error.
pub struct Printer {
    query: String,
    style: Style,
    fields: Vec<Field>,
    zone: Zone,
    /// Rows of the table that are not written yet.
    waiting: Vec<Vec<String>>,
    widths: Vec<usize>,
    has_header: bool,
    /// Windows that end later are not whole, in milliseconds.
    open_after_ms: i64,
    told: Told,
}

/// What was printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Alerts that were raised.
    pub alerts: u64,
    /// Rows of windows that were open at the end.
    pub open_rows: u64,
}

impl Printer {
    /// A printer for the rows of a plan; `query` is the name in alerts.
    pub fn new(plan: &Plan, query: String, style: Style, zone: Zone) -> Self {
        Self {
            query,
            style,
            fields: plan.output[..plan.output.len() - plan.hidden].to_vec(),
            zone,
            waiting: Vec::new(),
            widths: Vec::new(),
            has_header: false,
            open_after_ms: i64::MAX,
            told: Told::default(),
        }
    }

    /// What was printed so far.
    pub fn told(&self) -> Told {
        self.told
    }

    /// From here on windows that end after this time are said to be open.
    pub fn mark_open(&mut self, newest_ms: i64) {
        self.open_after_ms = newest_ms;
    }

    /// Writes what a call of the query brought.
    ///
    /// # Errors
    /// Standard output is gone.
    pub fn take(&mut self, output: &Output) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.rows(output, &mut out)?;
        if self.style == Style::Json {
            for event in &output.alerts {
                let mut line = String::with_capacity(256);
                write_alert(&self.query, event, &mut line);
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
        } else if !output.alerts.is_empty() {
            self.flush(&mut out)?;
            for event in &output.alerts {
                let mut line = told(event, &self.zone);
                if event
                    .window
                    .is_some_and(|(_, end)| end > self.open_after_ms)
                {
                    line.push_str(" [window still open]");
                }
                // Rows matter more than alerts that nobody can read.
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
        let raised = |event: &&AlertEvent| event.transition == Transition::Raised;
        self.told.alerts += output.alerts.iter().filter(raised).count() as u64;
        let times = output.rows.iter().flat_map(|chunk| &chunk.times);
        let open = times.filter(|time| **time > self.open_after_ms);
        self.told.open_rows += open.count() as u64;
        out.flush()
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// Standard output is gone.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.style == Style::Csv {
            self.csv_header(&mut out)?;
        }
        self.flush(&mut out)?;
        out.flush()
    }

    fn rows(&mut self, output: &Output, out: &mut impl Write) -> io::Result<()> {
        for chunk in &output.rows {
            for row in 0..chunk.rows() {
                let mut line = String::new();
                match self.style {
                    Style::Json => write_row(&self.fields, &chunk.batch, row, &mut line),
                    Style::Csv => {
                        self.csv_header(out)?;
                        let cells = self.cells(|field, place| {
                            quoted(&plain(&chunk.batch.column(place).value(row), field))
                        });
                        line = cells.join(",");
                    }
                    Style::Table => {
                        let cells = self.cells(|_, place| {
                            shown(&chunk.batch.column(place).value(row), &self.zone)
                        });
                        self.waiting.push(cells);
                        if self.waiting.len() >= WIDTH_ROWS {
                            self.flush(out)?;
                        }
                        continue;
                    }
                }
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
        }
        Ok(())
    }

    fn cells(&self, cell: impl Fn(&Field, usize) -> String) -> Vec<String> {
        let fields = self.fields.iter().enumerate();
        fields.map(|(place, field)| cell(field, place)).collect()
    }

    fn csv_header(&mut self, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.has_header, true) {
            return Ok(());
        }
        let names = self.cells(|field, _| quoted(&field.name));
        writeln!(out, "{}", names.join(","))
    }

    /// Writes the rows of the table that wait. Columns grow, but never shrink.
    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.has_header, true) {
            rows.insert(0, self.cells(|field, _| field.name.clone()));
        }
        self.widths.resize(self.fields.len(), 0);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().min(WIDTH_MAX).max(*width);
            }
        }
        for row in &rows {
            let mut line = String::new();
            for ((cell, width), field) in row.iter().zip(&self.widths).zip(&self.fields) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match field.data_type.is_number() {
                    true => line.push_str(&format!("{cell:>width$}")),
                    false => line.push_str(&format!("{cell:<width$}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A value for a person.
fn shown(value: &Value, local: &Zone) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Float(number) => short(*number),
        Value::Timestamp(ms) => zone::show(*ms, local),
        Value::Interval(ms) => print_duration(*ms),
        Value::Waveform(waveform) => format!("[{} samples]", waveform.samples().len()),
        Value::Text(text) => match text.contains(char::is_control) {
            true => text.escape_debug().to_string(),
            false => text.to_string(),
        },
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
    }
}

/// A number with the digits that a person reads.
fn short(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e9).contains(&magnitude) {
        return format!("{number:.*e}", DIGITS - 1);
    }
    let before = magnitude.log10().floor().max(0.0) as usize + 1;
    let text = format!("{number:.*}", DIGITS.saturating_sub(before));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A value for a program.
fn plain(value: &Value, field: &Field) -> String {
    match value {
        Value::Null => String::new(),
        Value::Timestamp(ms) => moment::show(*ms),
        Value::Waveform(waveform) => {
            let samples = waveform.samples().iter().map(f64::to_string);
            format!("[{}]", samples.collect::<Vec<_>>().join(","))
        }
        Value::Text(text) => text.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) | Value::Interval(number) => number.to_string(),
        Value::Float(number) => {
            debug_assert_ne!(field.data_type, DataType::Text);
            number.to_string()
        }
    }
}

/// A cell of RFC 4180.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// An alert for a person.
fn told(event: &AlertEvent, local: &Zone) -> String {
    let mut text = format!("! {} ", zone::show(event.time_ms, local));
    text.push_str(&match event.transition {
        Transition::Raised => format!("{} {}", event.severity.to_uppercase(), event.alert),
        Transition::Cleared => format!("cleared {}", event.alert),
    });
    for (name, value) in &event.key {
        text.push_str(&format!(" {name}={}", shown(value, local)));
    }
    if !event.value.is_null() {
        text.push_str(&format!(": {}", shown(&event.value, local)));
        if event.transition == Transition::Raised && !event.threshold.is_null() {
            text.push_str(&format!(", limit {}", shown(&event.threshold, local)));
        }
    }
    match (&event.message, event.transition) {
        (Some(message), Transition::Raised) => text.push_str(&format!(" ({message})")),
        _ => text.push_str(&format!(" (since {})", zone::show(event.since_ms, local))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_analytics::decode::Record;
    use forebay_analytics::query::{Advance, MEMORY_BYTES, Query};

    const SQL: &str = "CREATE STREAM s FROM 'a/{m}/#';
        CREATE QUERY worn AS SELECT m, avg(value) AS level, window_start
        FROM TUMBLE(s, '1 min') GROUP BY m;
        CREATE ALERT bad ON worn WHEN level > 7.1 SEVERITY critical MESSAGE 'look'";

    fn outputs() -> (Query, Vec<Output>) {
        let mut query = Query::new(SQL, MEMORY_BYTES).unwrap();
        let record = |path, payload, timestamp_ms| Record {
            topic: "t",
            partition: 0,
            offset: timestamp_ms,
            timestamp_ms,
            path,
            headers: &[],
            payload,
        };
        let records = [
            record("a/m,1/v", br#"{"value":1}"#.as_slice(), 0),
            record("a/m,1/v", br#"{"value":2}"#.as_slice(), 1),
            record("a/press-2/v", br#"{"value":7.123456789}"#.as_slice(), 2),
        ];
        let first = query.push(&records);
        let last = query.advance(&Advance::End);
        (query, vec![first, last])
    }

    fn written(style: Style) -> String {
        let (query, outputs) = outputs();
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let mut printer = Printer::new(query.plan(), "worn".to_owned(), style, berlin);
        let mut out = Vec::new();
        for output in &outputs {
            printer.rows(output, &mut out).unwrap();
        }
        printer.flush(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_have_the_form_that_was_asked_for() {
        assert_eq!(
            written(Style::Table),
            "m          level  window_start\n\
             m,1          1.5  1970-01-01T01:00:00+01:00\n\
             press-2  7.12346  1970-01-01T01:00:00+01:00\n"
        );
        assert_eq!(
            written(Style::Json),
            "{\"m\":\"m,1\",\"level\":1.5,\"window_start\":0}\n\
             {\"m\":\"press-2\",\"level\":7.123456789,\"window_start\":0}\n"
        );
        assert_eq!(
            written(Style::Csv),
            "m,level,window_start\n\
             \"m,1\",1.5,1970-01-01T00:00:00.000Z\n\
             press-2,7.123456789,1970-01-01T00:00:00.000Z\n"
        );
    }

    #[test]
    fn an_alert_says_where_what_and_why() {
        let (_, outputs) = outputs();
        let events: Vec<&AlertEvent> = outputs.iter().flat_map(|output| &output.alerts).collect();
        assert_eq!(events.len(), 1);
        assert_eq!(
            told(events[0], &Zone::UTC),
            "! 1970-01-01T00:00:59.999Z CRITICAL bad m=press-2: 7.12346, limit 7.1 (look)"
        );
    }

    #[test]
    fn numbers_have_six_digits() {
        for (number, text) in [
            (0.0, "0"),
            (21.5, "21.5"),
            (-0.001_234_567_8, "-0.00123"),
            (1_480.123_456, "1480.12"),
            (123_456_789.4, "123456789"),
            (1.5e12, "1.50000e12"),
            (1e-9, "1.00000e-9"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
