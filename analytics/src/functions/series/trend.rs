//! The straight line through a series, and when it reaches a threshold.

/// Fewer points give no interval worth reading: with six degrees of freedom
/// the 95 % quantile of Student's t is 2.45 instead of 1.96.
pub const TREND_POINTS_MIN: u64 = 8;

/// 97.5 % quantile of the normal distribution: a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// Least squares of x over time, in five sums that can be merged.
///
/// Slope b = Stx / Stt, in the unit of x per second. Updated and merged as
/// Chan, Golub and LeVeque, "Algorithms for computing the sample variance",
/// American Statistician 37 (1983). State: 56 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trend {
    /// How many points.
    pub count: u64,
    /// The time of the first point taken, milliseconds since the Unix epoch;
    /// all other times are relative to it, so that they keep their digits.
    pub origin_ms: i64,
    /// Mean time since the origin, in seconds.
    pub mean_t: f64,
    /// Mean of x.
    pub mean_x: f64,
    /// sum((t - mean t)^2).
    pub stt: f64,
    /// sum((t - mean t)(x - mean x)).
    pub stx: f64,
    /// sum((x - mean x)^2).
    pub sxx: f64,
}

/// When a line reaches a threshold, in days after a moment. With
/// `low <= days <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Where the fitted line crosses.
    pub days: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval.
    pub high: f64,
}

impl Trend {
    /// Takes a point. A NaN or an infinity is passed by.
    pub fn update(&mut self, at_ms: i64, x: f64) {
        if !x.is_finite() {
            return;
        }
        if self.count == 0 {
            self.origin_ms = at_ms;
        }
        let t = seconds(self.origin_ms, at_ms);
        self.count += 1;
        let n = self.count as f64;
        let dt = t - self.mean_t;
        let dx = x - self.mean_x;
        self.mean_t += dt / n;
        self.mean_x += dx / n;
        self.stt += dt * (t - self.mean_t);
        self.stx += dt * (x - self.mean_x);
        self.sxx += dx * (x - self.mean_x);
    }

    /// Adds the points of another line.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (na, nb) = (self.count as f64, other.count as f64);
        let n = na + nb;
        let dt = other.mean_t + seconds(self.origin_ms, other.origin_ms) - self.mean_t;
        let dx = other.mean_x - self.mean_x;
        self.stt += other.stt + dt * dt * na * nb / n;
        self.stx += other.stx + dt * dx * na * nb / n;
        self.sxx += other.sxx + dx * dx * na * nb / n;
        self.mean_t += dt * nb / n;
        self.mean_x += dx * nb / n;
        self.count += other.count;
    }

    /// The slope in the unit of x per second; null for fewer than two times.
    #[must_use]
    pub fn slope(&self) -> Option<f64> {
        (self.stt > 0.0).then(|| self.stx / self.stt)
    }

    /// The part of the variance that the line explains, r^2 in \[0, 1\]; null
    /// when x or time does not vary.
    #[must_use]
    pub fn r_squared(&self) -> Option<f64> {
        (self.stt > 0.0 && self.sxx > 0.0)
            .then(|| (self.stx * self.stx / (self.stt * self.sxx)).min(1.0))
    }

    /// When the line crosses `threshold`, in days after `now_ms`.
    ///
    /// The interval holds all times at which the 95 % confidence band of the
    /// line includes the threshold (Fieller, "Some problems in interval
    /// estimation", JRSS B 16, 1954): the roots of
    /// `(a + b t - y)^2 = q^2 s^2 (1/n + (t - mean t)^2 / Stt)` with Student's
    /// quantile q of n - 2 degrees of freedom.
    ///
    /// Null with fewer than [`TREND_POINTS_MIN`] points, and while the slope is
    /// not significantly different from 0, when the interval has no end: no date
    /// is better than a wrong one. A line that has crossed already, or that leads
    /// away from the threshold, gives a negative number of days. Points that hang together (a slow process sampled fast) make the interval too
    /// narrow: aggregate them to independent ones, say daily values, first.
    #[must_use]
    pub fn crossing(&self, threshold: f64, now_ms: i64) -> Option<Crossing> {
        if self.count < TREND_POINTS_MIN || !threshold.is_finite() {
            return None;
        }
        let slope = self.slope()?;
        let n = self.count as f64;
        let freedom = n - 2.0;
        let residual = (self.sxx - slope * self.stx).max(0.0) / freedom;
        let q = student_95(freedom);
        let doubt = q * q * residual;
        // b^2 must exceed q^2 times its variance, or the slope may be 0.
        let certain = slope * slope - doubt / self.stt;
        if certain.is_nan() || certain <= 0.0 {
            return None;
        }
        // With u = t - mean t and d = y - mean x: certain u^2 - 2 b d u + d^2 - doubt/n = 0.
        let distance = threshold - self.mean_x;
        let root = (doubt * (distance * distance / self.stt + certain / n))
            .max(0.0)
            .sqrt();
        let end = |sign: f64| (slope * distance + sign * root) / certain;
        let now = seconds(self.origin_ms, now_ms) - self.mean_t;
        let days = |u: f64| (u - now) / SECONDS_PER_DAY;
        let crossing = Crossing {
            days: days(distance / slope),
            low: days(end(-1.0)),
            high: days(end(1.0)),
        };
        crossing.days.is_finite().then_some(crossing)
    }
}

fn seconds(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1000.0
}

/// The 97.5 % quantile of Student's t, by the expansion of Cornish and Fisher
/// (Abramowitz and Stegun 26.7.5); within 0.1 % from six degrees of freedom on.
fn student_95(freedom: f64) -> f64 {
    let z2 = Z * Z;
    let g1 = Z * (z2 + 1.0) / 4.0;
    let g2 = Z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
    let g3 = Z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
    Z + (g1 + (g2 + g3 / freedom) / freedom) / freedom
}

#[cfg(test)]
pub(super) fn student_for_test(freedom: f64) -> f64 {
    student_95(freedom)
}
