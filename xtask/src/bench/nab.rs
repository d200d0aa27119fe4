//! Scoring of the Numenta Anomaly Benchmark, standard profile.
//!
//! Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms - the
//! Numenta Anomaly Benchmark", ICMLA 2015, written from the paper's formulas.
//! A detector gives every row a score; one threshold holds for all series.

/// What a row outside of every window costs at most.
const FALSE_ALARM: f64 = 0.11;

/// The part of a series that is not scored, and how many rows at most.
const PROBATION: f64 = 0.15;
const PROBATION_ROWS_MAX: usize = 750;

/// One series with its labels.
#[derive(Debug, Clone)]
pub struct Series {
    /// The name in `windows.json`.
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub times_ms: Vec<i64>,
    /// One value per time.
    pub values: Vec<f64>,
    /// First and last row of each labelled anomaly, in order.
    pub windows: Vec<(usize, usize)>,
}

/// What the rows at or above one threshold add up to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Detected windows.
    pub found: usize,
    /// Windows.
    pub windows: usize,
    /// Rows outside of all windows.
    pub false_alarms: usize,
    /// The sum of all weights.
    pub raw: f64,
}

impl Tally {
    /// 100 for a detector that alarms at every left edge, 0 for one that says
    /// nothing.
    #[must_use]
    pub fn score(&self) -> f64 {
        let windows = self.windows as f64;
        100.0 * (self.raw + windows) / (2.0 * windows)
    }

    fn add(&mut self, other: &Self) {
        self.found += other.found;
        self.windows += other.windows;
        self.false_alarms += other.false_alarms;
        self.raw += other.raw;
    }
}

/// What a row counts if it alarms.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weight {
    Probation,
    /// The earliest one of the window counts.
    Inside(usize, f64),
    Outside(f64),
}

impl Series {
    /// The number of rows at the beginning that are not scored.
    #[must_use]
    pub fn probation(&self) -> usize {
        ((self.values.len() as f64 * PROBATION) as usize).min(PROBATION_ROWS_MAX)
    }

    /// The tally of the rows whose score is at or above the threshold.
    #[must_use]
    pub fn tally(&self, scores: &[f64], threshold: f64) -> Tally {
        let mut tally = Tally {
            windows: self.windows.len(),
            raw: -(self.windows.len() as f64),
            ..Tally::default()
        };
        let mut found = vec![false; self.windows.len()];
        for (row, &score) in scores.iter().enumerate() {
            if score < threshold {
                continue;
            }
            match self.weight(row) {
                Weight::Probation => {}
                Weight::Inside(window, weight) if !found[window] => {
                    found[window] = true;
                    tally.found += 1;
                    // The window is no longer missed.
                    tally.raw += 1.0 + weight;
                }
                Weight::Inside(..) => {}
                Weight::Outside(weight) => {
                    tally.false_alarms += 1;
                    tally.raw += weight;
                }
            }
        }
        tally
    }

    fn weight(&self, row: usize) -> Weight {
        if row < self.probation() {
            return Weight::Probation;
        }
        let inside = |&(from, to): &(usize, usize)| (from..=to).contains(&row);
        if let Some(index) = self.windows.iter().position(inside) {
            let (from, to) = self.windows[index];
            let position = -((to - row + 1) as f64) / (to - from + 1) as f64;
            return Weight::Inside(index, sigmoid(position) / sigmoid(-1.0));
        }
        let weight = match self.windows.iter().rev().find(|window| window.1 < row) {
            Some(&(from, to)) => sigmoid((row - to) as f64 / ((to - from) as f64).max(1.0)),
            None => -1.0,
        };
        Weight::Outside(FALSE_ALARM * weight)
    }
}

/// The sum over all series at one threshold.
#[must_use]
pub fn total(series: &[&Series], scores: &[&[f64]], threshold: f64) -> Tally {
    let mut sum = Tally::default();
    for (series, scores) in series.iter().zip(scores) {
        sum.add(&series.tally(scores, threshold));
    }
    sum
}

/// The threshold with the best total, among all scores that occur.
#[must_use]
pub fn best_threshold(series: &[&Series], scores: &[&[f64]]) -> f64 {
    let mut rows: Vec<(f64, usize, usize)> = Vec::new();
    for (index, (series, scores)) in series.iter().zip(scores).enumerate() {
        let probation = series.probation();
        rows.extend((probation..scores.len()).map(|row| (scores[row], index, row)));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    // The weight of the earliest row of each window so far; -1 when missed.
    let mut windows: Vec<Vec<f64>> = series
        .iter()
        .map(|it| vec![-1.0; it.windows.len()])
        .collect();
    let (mut raw, mut best, mut best_raw) = (0.0, f64::INFINITY, 0.0);
    for (at, &(score, index, row)) in rows.iter().enumerate() {
        match series[index].weight(row) {
            Weight::Probation => {}
            Weight::Outside(weight) => raw += weight,
            Weight::Inside(window, weight) => {
                let counted = &mut windows[index][window];
                // Earlier rows weigh more.
                if weight > *counted {
                    raw += weight - *counted;
                    *counted = weight;
                }
            }
        }
        let is_last_of_equal = rows.get(at + 1).is_none_or(|next| next.0 < score);
        if is_last_of_equal && raw > best_raw {
            (best, best_raw) = (score, raw);
        }
    }
    best
}

/// From nearly 1 at -1 through 0 at 0 to -1.
fn sigmoid(position: f64) -> f64 {
    if position > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * position).exp()) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rows: usize, windows: &[(usize, usize)]) -> Series {
        Series {
            name: "test".to_owned(),
            times_ms: (0..rows as i64).collect(),
            values: vec![0.0; rows],
            windows: windows.to_vec(),
        }
    }

    fn alarms(rows: usize, at: &[usize]) -> Vec<f64> {
        (0..rows).map(|row| f64::from(at.contains(&row))).collect()
    }

    #[test]
    fn perfect_is_100_and_silence_is_0() {
        let it = series(1000, &[(300, 399), (700, 799)]);
        let perfect = it.tally(&alarms(1000, &[300, 700]), 0.5);
        assert!((perfect.score() - 100.0).abs() < 1e-9, "{perfect:?}");
        let silence = it.tally(&alarms(1000, &[]), 0.5);
        assert_eq!(silence.score(), 0.0);
    }

    #[test]
    fn only_the_earliest_alarm_of_a_window_counts_and_less_when_late() {
        let it = series(1000, &[(300, 399)]);
        let middle = it.tally(&alarms(1000, &[350, 351, 399]), 0.5);
        // y = -0.5: (2/(1+exp(-2.5)) - 1) / (2/(1+exp(-5)) - 1).
        assert!(
            (middle.raw - 0.848_283_6 / 0.986_614_3).abs() < 1e-6,
            "{middle:?}"
        );
        assert_eq!(middle.false_alarms, 0);
        let late = it.tally(&alarms(1000, &[399]), 0.5);
        assert!(late.raw > 0.0 && late.raw < 0.03, "{late:?}");
    }

    #[test]
    fn a_false_alarm_costs_less_shortly_behind_a_window() {
        let it = series(1000, &[(300, 399)]);
        let cost = |row: usize| it.tally(&alarms(1000, &[row]), 0.5).raw + 1.0;
        assert!((cost(200) + 0.11).abs() < 1e-12);
        assert!((cost(900) + 0.11).abs() < 1e-12);
        assert!(cost(401) > -0.01 && cost(401) < 0.0);
        assert!(cost(420) > cost(450));
        // The first 15 % are free.
        assert_eq!(cost(149), 0.0);
        assert!(cost(150) < 0.0);
    }

    #[test]
    fn the_best_threshold_weighs_finds_against_false_alarms() {
        let it = series(1000, &[(300, 399)]);
        let mut scores = alarms(1000, &[]);
        scores[310] = 0.4;
        scores[600] = 0.6;
        scores[700..800].fill(0.2);
        let threshold = best_threshold(&[&it], &[&scores]);
        assert_eq!(threshold, 0.4);
        let tally = total(&[&it], &[&scores], threshold);
        assert_eq!((tally.found, tally.false_alarms), (1, 1));
    }
}
