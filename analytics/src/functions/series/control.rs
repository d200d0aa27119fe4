//! Control charts: EWMA, CUSUM and the test of Page and Hinkley.

/// An exponentially weighted moving average.
///
/// `s = s + a (x - s)`, the first value starts it; in the unit of x. By rows
/// with a fixed weight a in (0, 1], or by time with a = 1 - exp(-dt / tau), so
/// that gaps and uneven sampling weigh as long as they last. Roberts, "Control
/// chart tests based on geometric moving averages", Technometrics 1 (1959).
/// State: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ewma {
    pub(crate) average: Option<f64>,
    pub(crate) last_ms: i64,
}

impl Ewma {
    /// Takes a value with the weight `alpha` and returns the average.
    pub fn update(&mut self, x: f64, alpha: f64) -> Option<f64> {
        if !(x.is_finite() && alpha > 0.0 && alpha <= 1.0) {
            return None;
        }
        let average = match self.average {
            Some(average) => average + alpha * (x - average),
            None => x,
        };
        self.average = Some(average);
        self.average
    }

    /// Takes a value of the time `at_ms` with the time constant `tau_ms`, both
    /// in milliseconds. A row behind the newest counts as if it had its time.
    pub fn update_at(&mut self, x: f64, at_ms: i64, tau_ms: f64) -> Option<f64> {
        if !(x.is_finite() && tau_ms.is_finite() && tau_ms > 0.0) {
            return None;
        }
        let average = match self.average {
            Some(average) => {
                let elapsed_ms = at_ms.saturating_sub(self.last_ms).max(0) as f64;
                self.last_ms = self.last_ms.max(at_ms);
                average + (1.0 - (-elapsed_ms / tau_ms).exp()) * (x - average)
            }
            None => {
                self.last_ms = at_ms;
                x
            }
        };
        self.average = Some(average);
        self.average
    }
}

/// A two-sided tabular CUSUM around a known target.
///
/// `up = max(0, up + x - target - slack)`,
/// `down = max(0, down + target - x - slack)`, in the unit of x. The result is
/// the larger, negative when it is `down`. Compare its magnitude with a
/// decision interval h: slack of half and h of four to five standard
/// deviations find a shift of one in about ten rows. Page, "Continuous
/// inspection schemes", Biometrika 41 (1954); Montgomery, "Introduction to
/// statistical quality control", chapter 9. State: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cusum {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

impl Cusum {
    /// Takes a value and returns the larger sum, signed.
    pub fn update(&mut self, x: f64, target: f64, slack: f64) -> Option<f64> {
        if !(x.is_finite() && target.is_finite() && slack.is_finite() && slack >= 0.0) {
            return None;
        }
        self.up = (self.up + x - target - slack).max(0.0);
        self.down = (self.down + target - x - slack).max(0.0);
        Some(if self.up >= self.down {
            self.up
        } else {
            -self.down
        })
    }
}

/// The test of Page and Hinkley for a change of the mean, two-sided, without a
/// known target.
///
/// With the running mean m of all values so far, `U += x - m - delta` and the
/// statistic is U - min(U); downwards `L += x - m + delta` and max(L) - L. The
/// result is the larger, negative when downwards, in the unit of x; compare
/// its magnitude with a threshold lambda. Page (1954); Hinkley, "Inference
/// about the change-point from cumulative sum tests", Biometrika 58 (1971);
/// Gama et al., "A survey on concept drift adaptation", ACM CSUR 46 (2014).
/// State: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PageHinkley {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    /// U - min(U), which is all that the statistic needs of both.
    pub(crate) up: f64,
    pub(crate) down: f64,
}

impl PageHinkley {
    /// Takes a value; `delta` is the change that does not matter.
    pub fn update(&mut self, x: f64, delta: f64) -> Option<f64> {
        if !(x.is_finite() && delta.is_finite() && delta >= 0.0) {
            return None;
        }
        self.count += 1;
        self.mean += (x - self.mean) / self.count as f64;
        self.up = (self.up + x - self.mean - delta).max(0.0);
        self.down = (self.down + self.mean - x - delta).max(0.0);
        Some(if self.up >= self.down {
            self.up
        } else {
            -self.down
        })
    }
}
