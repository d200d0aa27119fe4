//! Named figures and how they are printed.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// What a benchmark prints at its end, in the order in which it was added.
#[derive(Debug)]
pub struct Report {
    values: Vec<(String, Value)>,
}

impl Report {
    /// An empty report of `benchmark`.
    pub fn new(benchmark: &str) -> Self {
        Self {
            values: vec![("benchmark".to_owned(), benchmark.into())],
        }
    }

    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.values.push((name.to_owned(), value.into()));
    }

    /// Adds a number, rounded to three places.
    pub fn number(&mut self, name: &str, value: f64) {
        self.fact(name, rounded(value));
    }

    /// Adds the median of several rounds, and the rounds.
    pub fn median(&mut self, name: &str, rounds: &[f64]) {
        let all: Vec<f64> = rounds.iter().copied().map(rounded).collect();
        let value = json!({ "median": rounded(median(rounds)), "rounds": all });
        self.fact(name, value);
    }

    /// Prints everything.
    pub fn print(&self, as_json: bool) {
        if as_json {
            let values: Map<String, Value> = self.values.iter().cloned().collect();
            println!("{}", Value::Object(values));
            return;
        }
        let width = self.values.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        for (name, value) in &self.values {
            println!("{name:width$}  {}", text(value));
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn text(value: &Value) -> String {
    if let (Some(median), Some(rounds)) = (value.get("median"), value.get("rounds")) {
        return format!("{median:<12} {rounds}");
    }
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
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
