//! The amplitude spectrum of a block and what is read from it.

use std::f64::consts::{PI, TAU};

use realfft::num_complex::Complex;

use super::plans::Plans;
use super::{is_positive, is_transformable};

/// Peaks that one call returns at most: a table that a person reads.
pub const PEAKS_MAX: usize = 64;

/// How far a shaft speed may be off, as a part of the frequency: the speed
/// channel and the block are not sampled at the same moment.
const SPEED_TOLERANCE: f64 = 0.01;

/// Half the width in bins in which a Hann window shows a sine.
const LOBE_BINS: f64 = 1.5;

/// The one-sided amplitude spectrum of a block less its mean, Hann window.
///
/// With X the transform of w x: `a[k] = 2 |X[k]| / sum(w)`, so that a sine of
/// amplitude A in the middle of a bin stands there as A, in the unit of the
/// samples; the last bin of an even length, which has no mirror image, counts
/// once. Power in bin k is `a[k]^2 / (2 ENBW)` with the window's equivalent
/// noise bandwidth ENBW = N sum(w^2) / sum(w)^2 (1.5 for Hann), so that the sum
/// over all bins is the mean square of the block.
///
/// Harris, "On the use of windows for harmonic analysis with the discrete
/// Fourier transform", Proc. IEEE 66 (1978); Heinzel, Ruediger, Schilling,
/// "Spectrum and spectral density estimation by the DFT" (2002), section 9.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    amplitudes: Vec<f32>,
    bin_hz: f64,
    noise_bandwidth_bins: f64,
    even: bool,
}

/// A local maximum of a spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Interpolated between bins, in hertz.
    pub frequency_hz: f64,
    /// Interpolated, in the unit of the samples; the amplitude of a sine, not
    /// its RMS value.
    pub amplitude: f64,
}

impl Spectrum {
    /// Transforms a block that was sampled at `sample_rate_hz`.
    #[must_use]
    pub fn of(plans: &mut Plans, samples: &[f64], sample_rate_hz: f64) -> Option<Self> {
        if !is_transformable(samples) || !is_positive(sample_rate_hz) {
            return None;
        }
        let mut bins = Vec::new();
        let sums = plans.forward(samples, true, &mut bins);
        let length = samples.len();
        let scale = (2.0 / sums.sum) as f32;
        let mut amplitudes: Vec<f32> = bins.iter().map(|bin| magnitude(*bin) * scale).collect();
        let even = length.is_multiple_of(2);
        amplitudes[0] /= 2.0;
        if even {
            amplitudes[length / 2] /= 2.0;
        }
        Some(Self {
            amplitudes,
            bin_hz: sample_rate_hz / length as f64,
            noise_bandwidth_bins: length as f64 * sums.sum_of_squares / sums.sum.powi(2),
            even,
        })
    }

    /// The amplitude of each bin, from 0 Hz to half the sample rate.
    #[must_use]
    pub fn amplitudes(&self) -> &[f32] {
        &self.amplitudes
    }

    /// The distance of two bins in hertz.
    #[must_use]
    pub fn bin_hz(&self) -> f64 {
        self.bin_hz
    }

    /// The mean square of what lies in `[low, high)` hertz, in the square of
    /// the unit. Neighbouring bands add up. A sine of amplitude A gives A^2/2
    /// when the band holds two bins on each side of it.
    #[must_use]
    pub fn band_energy(&self, low_hz: f64, high_hz: f64) -> Option<f64> {
        let bins = self.bins(low_hz, high_hz)?;
        Some(bins.map(|k| self.power(k)).sum())
    }

    /// The RMS value of the integral over time of what lies in `[low, high)`
    /// hertz: sqrt(sum(P\[k\] / (2 pi f)^2)), in the unit of the samples times
    /// seconds. An acceleration in m/s^2 gives a velocity in m/s. `low_hz` is
    /// the high-pass and must be positive, because the integral of noise near
    /// 0 Hz has no bound.
    #[must_use]
    pub fn integral_rms(&self, low_hz: f64, high_hz: f64) -> Option<f64> {
        if !is_positive(low_hz) {
            return None;
        }
        let bins = self.bins(low_hz, high_hz)?;
        let square: f64 = bins
            .map(|k| self.power(k) / (TAU * self.frequency(k)).powi(2))
            .sum();
        Some(square.sqrt())
    }

    /// The `count` largest local maxima in `[low, high)` hertz, the largest
    /// first, at most [`PEAKS_MAX`].
    ///
    /// Between bins a sine under a Hann window is solved exactly from the two
    /// largest bins: with their ratio r = a\[k±1\]/a\[k\] the offset is
    /// d = (2r - 1)/(r + 1) bins, and the amplitude
    /// a\[k\] pi d (1 - d^2) / sin(pi d). Grandke, "Interpolation algorithms for
    /// discrete Fourier transforms of weighted signals", IEEE Trans. IM-32
    /// (1983).
    #[must_use]
    pub fn peaks(&self, low_hz: f64, high_hz: f64, count: usize) -> Vec<Peak> {
        let Some(bins) = self.bins(low_hz, high_hz) else {
            return Vec::new();
        };
        let last = self.amplitudes.len() - 1;
        let mut tops: Vec<usize> = bins
            .filter(|&k| k >= 1 && k < last)
            .filter(|&k| {
                let a = &self.amplitudes;
                a[k] > a[k - 1] && a[k] >= a[k + 1]
            })
            .collect();
        tops.sort_by(|&a, &b| self.amplitudes[b].total_cmp(&self.amplitudes[a]));
        tops.truncate(count.min(PEAKS_MAX));
        tops.into_iter().map(|k| self.interpolate(k)).collect()
    }

    /// The amplitude at `order` times the shaft speed, interpolated, from the
    /// largest bin within 1 % or 1.5 bins of it. Null when that frequency is
    /// within two bins of 0 Hz or above half the sample rate.
    #[must_use]
    pub fn order_amplitude(&self, rpm: f64, order: f64) -> Option<f64> {
        if !is_positive(rpm) || !is_positive(order) {
            return None;
        }
        self.amplitude_near(rpm / 60.0 * order, SPEED_TOLERANCE)
    }

    /// The largest amplitude within `tolerance` (a part of the frequency, at
    /// least 1.5 bins) of a frequency.
    #[must_use]
    pub fn amplitude_near(&self, frequency_hz: f64, tolerance: f64) -> Option<f64> {
        let centre = frequency_hz / self.bin_hz;
        let reach = (centre * tolerance).max(LOBE_BINS);
        let last = self.amplitudes.len() - 1;
        if !centre.is_finite() || centre < 2.0 || centre + LOBE_BINS > last as f64 {
            return None;
        }
        // Both ends are within the spectrum: the guard above, and the minimum.
        let from = (centre - reach).ceil().max(1.0) as usize;
        let to = ((centre + reach).floor() as usize).min(last - 1);
        let top = (from..=to).max_by(|&a, &b| self.amplitudes[a].total_cmp(&self.amplitudes[b]))?;
        Some(self.interpolate(top).amplitude)
    }

    fn frequency(&self, bin: usize) -> f64 {
        bin as f64 * self.bin_hz
    }

    fn power(&self, bin: usize) -> f64 {
        let square = f64::from(self.amplitudes[bin]).powi(2) / self.noise_bandwidth_bins;
        let has_mirror = bin != 0 && !(self.even && bin == self.amplitudes.len() - 1);
        if has_mirror { square / 2.0 } else { square }
    }

    fn bins(&self, low_hz: f64, high_hz: f64) -> Option<std::ops::Range<usize>> {
        if !(low_hz.is_finite() && high_hz.is_finite() && low_hz >= 0.0 && high_hz > low_hz) {
            return None;
        }
        let first = |hz: f64| ((hz / self.bin_hz).ceil() as usize).min(self.amplitudes.len());
        Some(first(low_hz)..first(high_hz))
    }

    fn interpolate(&self, bin: usize) -> Peak {
        let at = f64::from(self.amplitudes[bin]);
        let left = f64::from(self.amplitudes[bin - 1]);
        let right = f64::from(self.amplitudes[bin + 1]);
        let ratio = if at > 0.0 { left.max(right) / at } else { 0.5 };
        let offset = ((2.0 * ratio - 1.0) / (ratio + 1.0)).clamp(0.0, 0.5);
        let gain = if offset < 1e-6 {
            1.0
        } else {
            PI * offset * (1.0 - offset * offset) / (PI * offset).sin()
        };
        let side = if right >= left { offset } else { -offset };
        Peak {
            frequency_hz: (bin as f64 + side) * self.bin_hz,
            amplitude: at * gain,
        }
    }
}

/// Integrates a block over time: divides its spectrum by j 2 pi f, drops what
/// is below `high_pass_hz`, and transforms back. In the unit of the samples
/// times seconds. The transform takes the block as one period, so the ends
/// ring when it is not; RMS values come better from
/// [`Spectrum::integral_rms`].
#[must_use]
pub fn integrate(
    plans: &mut Plans,
    samples: &[f64],
    sample_rate_hz: f64,
    high_pass_hz: f64,
) -> Option<Vec<f64>> {
    if !is_transformable(samples) || !is_positive(sample_rate_hz) || !is_positive(high_pass_hz) {
        return None;
    }
    let mut bins = Vec::new();
    plans.forward(samples, false, &mut bins);
    let length = samples.len();
    let bin_hz = sample_rate_hz / length as f64;
    for (k, bin) in bins.iter_mut().enumerate() {
        let frequency = k as f64 * bin_hz;
        *bin = if frequency < high_pass_hz {
            Complex::default()
        } else {
            // X / (j w) = -j X / w.
            let factor = (1.0 / (TAU * frequency * length as f64)) as f32;
            Complex::new(bin.im * factor, -bin.re * factor)
        };
    }
    let mut integral = Vec::new();
    plans.inverse_real(&mut bins, &mut integral, length);
    Some(integral.into_iter().map(f64::from).collect())
}

/// |z| by the plain formula: `hypot` guards against overflow at ten times the
/// cost, and a spectrum that overflows f32 came from no sensor.
pub(super) fn magnitude(z: Complex<f32>) -> f32 {
    (z.re * z.re + z.im * z.im).sqrt()
}
