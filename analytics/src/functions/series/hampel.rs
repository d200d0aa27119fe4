//! The Hampel identifier: outliers by the median of the last values.

use std::collections::VecDeque;

/// The longest window. Two sorted copies of it are 16 KiB per key, and more
/// values change a median little.
pub const HAMPEL_WINDOW_MAX: usize = 1024;

/// The shortest window: the median absolute deviation of fewer is chance.
pub const HAMPEL_WINDOW_MIN: usize = 3;

/// Makes the median absolute deviation of normal noise its standard deviation:
/// one over the 75 % quantile of the standard normal distribution.
const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The last values of one key and their order.
///
/// Score `z = (x - median) / (1.4826 MAD)` with the median and the median
/// absolute deviation of the window that ends with x. Without a unit; beyond 3
/// is usually called an outlier. When more than half of the window is equal the
/// deviation is 0 and any other value scores infinite, given as `f64::MAX`.
/// Hampel, "The influence curve and its role in robust estimation", JASA 69
/// (1974); Davies and Gather, "The identification of multiple outliers", JASA
/// 88 (1993). State: 8 bytes per value of the window.
#[derive(Debug, Clone, PartialEq)]
pub struct Hampel {
    window: usize,
    pub(crate) values: VecDeque<f64>,
    sorted: Vec<f64>,
}

/// What the identifier says of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The median of the window, in the unit of x: what replaces an outlier.
    pub median: f64,
    /// How many robust standard deviations x is from it, signed.
    pub score: f64,
}

impl Hampel {
    /// Makes an empty window of the last `window` values; null when it is not
    /// within [`HAMPEL_WINDOW_MIN`] and [`HAMPEL_WINDOW_MAX`].
    #[must_use]
    pub fn new(window: usize) -> Option<Self> {
        let fits = (HAMPEL_WINDOW_MIN..=HAMPEL_WINDOW_MAX).contains(&window);
        fits.then(|| Self {
            window,
            values: VecDeque::new(),
            sorted: Vec::new(),
        })
    }

    /// Takes a value; null for the first two, which say nothing.
    pub fn update(&mut self, x: f64) -> Option<Verdict> {
        if !x.is_finite() {
            return None;
        }
        if self.values.len() == self.window
            && let Some(oldest) = self.values.pop_front()
        {
            let at = self
                .sorted
                .partition_point(|v| v.total_cmp(&oldest).is_lt());
            self.sorted.remove(at);
        }
        self.values.push_back(x);
        let at = self.sorted.partition_point(|v| v.total_cmp(&x).is_lt());
        self.sorted.insert(at, x);
        if self.values.len() < HAMPEL_WINDOW_MIN {
            return None;
        }
        let median = middle(&self.sorted);
        let sigma = MAD_TO_SIGMA * self.median_deviation(median);
        let distance = x - median;
        let score = if distance == 0.0 {
            0.0
        } else if sigma > 0.0 {
            (distance / sigma).clamp(f64::MIN, f64::MAX)
        } else {
            f64::MAX.copysign(distance)
        };
        Some(Verdict { median, score })
    }

    /// The median of |v - median|: the deviations to the left and to the right
    /// are each sorted already, so the middle is found by merging them.
    fn median_deviation(&self, median: f64) -> f64 {
        let split = self.sorted.partition_point(|&v| v < median);
        let (mut left, mut right) = (split, split);
        let count = self.sorted.len();
        let (mut before, mut last) = (0.0, 0.0);
        for _ in 0..=count / 2 {
            let below = left.checked_sub(1).map(|i| median - self.sorted[i]);
            let above = self.sorted.get(right).map(|v| v - median);
            before = last;
            match (below, above) {
                (Some(below), above) if above.is_none_or(|above| below < above) => {
                    left -= 1;
                    last = below;
                }
                (_, Some(above)) => {
                    right += 1;
                    last = above;
                }
                _ => break,
            }
        }
        if count.is_multiple_of(2) {
            (before + last) / 2.0
        } else {
            last
        }
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        sorted[half - 1] / 2.0 + sorted[half] / 2.0
    } else {
        sorted[half]
    }
}
