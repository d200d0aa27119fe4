//! Broadband values of a block, in two passes over the samples.

use super::MAGNITUDE_MAX;
use super::plans::sum;

/// Broadband values of one waveform, in the unit of its samples.
///
/// With mean m = sum(x)/n and central moments `m_k = sum((x - m)^k)/n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The arithmetic mean.
    pub mean: f64,
    /// The root of the mean square, sqrt(sum(x^2)/n), with the constant part.
    pub rms: f64,
    /// The largest magnitude, max |x|.
    pub peak: f64,
    /// The largest less the smallest sample, max x - min x.
    pub peak_to_peak: f64,
    /// Peak divided by RMS; sqrt(2) for a sine. Null for a block of zeros.
    pub crest_factor: Option<f64>,
    /// m3 / m2^1.5 of the whole block (no sample correction). Null when all
    /// samples are equal.
    pub skew: Option<f64>,
    /// m4 / m2^2, Pearson's kurtosis: 3 for normal noise, 1.5 for a sine,
    /// larger when there are impacts. Null when all samples are equal.
    pub kurtosis: Option<f64>,
}

impl Level {
    /// Measures a block; null when it is empty or holds a NaN, an infinity or a
    /// magnitude above [`MAGNITUDE_MAX`].
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let n = samples.len() as f64;
        let mean = sum(samples) / n;
        let (min, max) = extremes(samples);
        // A NaN or an infinity reaches the sum, and infinities of both signs
        // make a NaN of it.
        if !mean.is_finite() || max.max(-min) > MAGNITUDE_MAX {
            return None;
        }
        let [m2, m3, m4] = central_moments(samples, mean).map(|sum| sum / n);
        let rms = (m2 + mean * mean).sqrt();
        let peak = max.max(-min);
        // Rounding leaves some 1e-16 of the square of the mean in m2.
        let varies = max > min && m2 > 0.0;
        Some(Self {
            mean,
            rms,
            peak,
            peak_to_peak: max - min,
            crest_factor: (rms > 0.0).then(|| peak / rms),
            skew: varies.then(|| m3 / (m2 * m2.sqrt())),
            kurtosis: varies.then(|| m4 / (m2 * m2)),
        })
    }
}

fn extremes(samples: &[f64]) -> (f64, f64) {
    let mut low = [f64::INFINITY; 8];
    let mut high = [f64::NEG_INFINITY; 8];
    let chunks = samples.chunks_exact(8);
    for (lane, &x) in chunks.remainder().iter().enumerate() {
        low[lane] = x;
        high[lane] = x;
    }
    for chunk in chunks {
        for lane in 0..8 {
            let x = chunk[lane];
            low[lane] = if x < low[lane] { x } else { low[lane] };
            high[lane] = if x > high[lane] { x } else { high[lane] };
        }
    }
    (
        low.into_iter().fold(f64::INFINITY, f64::min),
        high.into_iter().fold(f64::NEG_INFINITY, f64::max),
    )
}

fn central_moments(samples: &[f64], mean: f64) -> [f64; 3] {
    let mut lanes = [[0.0f64; 8]; 3];
    let chunks = samples.chunks_exact(8);
    let mut rest = [0.0; 3];
    for &x in chunks.remainder() {
        let d = x - mean;
        rest[0] += d * d;
        rest[1] += d * d * d;
        rest[2] += d * d * d * d;
    }
    for chunk in chunks {
        for lane in 0..8 {
            let d = chunk[lane] - mean;
            let square = d * d;
            lanes[0][lane] += square;
            lanes[1][lane] += square * d;
            lanes[2][lane] += square * square;
        }
    }
    std::array::from_fn(|k| rest[k] + lanes[k].iter().sum::<f64>())
}
