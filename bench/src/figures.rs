//! Named figures and how they are printed.

use std::time::Duration;

use serde_json::{Map, Value};

/// What a benchmark prints at its end.
#[derive(Debug)]
pub struct Report {
    values: Map<String, Value>,
}

impl Report {
    /// An empty report of `benchmark`.
    pub fn new(benchmark: &str) -> Self {
        let mut values = Map::new();
        values.insert("benchmark".to_owned(), benchmark.into());
        Self { values }
    }

    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// Adds a number, rounded to three places.
    pub fn number(&mut self, name: &str, value: f64) {
        let rounded = (value * 1e3).round() / 1e3;
        self.fact(name, rounded);
    }

    /// Adds the median of several rounds.
    pub fn median(&mut self, name: &str, rounds: &[f64]) {
        self.number(name, median(rounds));
    }

    /// Prints everything.
    pub fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", Value::Object(self.values.clone()));
            return;
        }
        let width = self.values.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in &self.values {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            println!("{name:width$}  {text}");
        }
    }
}

/// The middle value; 0 of none.
pub fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The value below which `share` of the samples lie, in milliseconds.
pub fn percentile_ms(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into the samples, of which there are far below 2^52"
    )]
    let index = ((samples.len() as f64) * share) as usize;
    let sample = samples.get(index.min(last)).copied();
    sample.unwrap_or_default().as_secs_f64() * 1e3
}

/// A ratio that is 0 when there is nothing to divide by.
pub fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{median, percentile_ms};

    #[test]
    fn the_median_is_the_middle_value() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }

    #[test]
    fn the_percentile_is_a_sample() {
        let mut samples: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert!((percentile_ms(&mut samples, 0.99) - 100.0).abs() < 1e-9);
        assert!((percentile_ms(&mut samples, 0.5) - 51.0).abs() < 1e-9);
        assert!(percentile_ms(&mut [], 0.5).abs() < f64::EPSILON);
    }
}
