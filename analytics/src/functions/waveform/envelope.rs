//! The envelope of a band and its spectrum.
//!
//! A damaged bearing rings a resonance of its housing at each strike. The
//! strikes are too weak to be seen in the spectrum, but the loudness of the
//! resonance swells with them: band-pass around it, take the envelope, and the
//! strike frequency stands in the spectrum of that.
//!
//! The analytic signal needs no filter: the bins of the band are moved to 0 Hz
//! and transformed back with as many samples as the band needs. Moving does
//! not change the magnitude, which is the envelope.

use realfft::num_complex::Complex;

use super::plans::Plans;
use super::spectrum::magnitude;
use super::{is_positive, is_transformable};

/// Bands that hold fewer bins show chance.
const BAND_BINS_MIN: usize = 16;

/// Into how many equal bands the search divides the spectrum, one split after
/// the other (a coarse kurtogram). A sixth is 800 Hz of 12 kHz: a narrower band
/// holds no three harmonics of a fault, and its kurtosis is chance.
const SPLITS: [usize; 4] = [2, 3, 4, 6];

/// Below this part of half the sample rate the search does not look: shaft
/// orders and mains live there, and they modulate nothing.
const SEARCH_FLOOR: f64 = 1.0 / 16.0;

/// Above this part of half the sample rate the search does not look either: the
/// anti-aliasing filter of the instrument falls off there, by convention from
/// the sample rate over 2.56, and what little is left is all transients.
const SEARCH_CEILING: f64 = 2.0 / 2.56;

/// Where to look for the resonance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Band {
    /// From `low` to `high` hertz; `high` is cut off at half the sample rate.
    Between {
        /// The lower edge in hertz.
        low: f64,
        /// The upper edge in hertz.
        high: f64,
    },
    /// The band with the largest spectral kurtosis
    /// `mean(|z|^4) / mean(|z|^2)^2 - 2` among the halves, thirds, quarters and
    /// sixths of the spectrum between 1/32 and 1/2.56 of the sample rate. Antoni, "Fast computation of the kurtogram for
    /// the detection of transient faults", MSSP 21 (2007).
    Loudest,
}

/// The envelope spectrum of one block.
///
/// `amplitudes[k]` is the amplitude of the envelope's sine at `k * bin_hz`, in
/// the unit of the samples (Hann window, mean removed): a carrier c(t) of
/// constant loudness times (1 + m cos(2 pi f t)) shows m times its amplitude at
/// f. Randall and Antoni, "Rolling element bearing diagnostics: a tutorial",
/// MSSP 25 (2011).
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    amplitudes: Vec<f32>,
    bin_hz: f64,
    band_hz: (f64, f64),
}

impl Envelope {
    /// Transforms a block that was sampled at `sample_rate_hz`.
    ///
    /// Null as for all waveform functions, and when the band has fewer than 16
    /// bins below half the sample rate.
    #[must_use]
    pub fn of(plans: &mut Plans, samples: &[f64], sample_rate_hz: f64, band: Band) -> Option<Self> {
        if !is_transformable(samples) || !is_positive(sample_rate_hz) {
            return None;
        }
        let mut bins = Vec::new();
        plans.forward(samples, false, &mut bins);
        let bin_hz = sample_rate_hz / samples.len() as f64;
        let mut analytic = Vec::new();
        let (first, end) = match band {
            Band::Between { low, high } => edges(low, high, bin_hz, bins.len())?,
            Band::Loudest => loudest(plans, &bins, &mut analytic)?,
        };
        // Twice the width: the square of the envelope does not fold over.
        let length = (2 * (end - first)).next_power_of_two();
        demodulate(plans, &bins[first..end], length, &mut analytic);
        let scale = 2.0 / samples.len() as f32;
        let envelope: Vec<f32> = analytic.iter().map(|&z| magnitude(z) * scale).collect();
        let sums = plans.forward(&envelope, true, &mut bins);
        let scale = (2.0 / sums.sum) as f32;
        Some(Self {
            amplitudes: bins.iter().map(|&bin| magnitude(bin) * scale).collect(),
            bin_hz,
            band_hz: (first as f64 * bin_hz, end as f64 * bin_hz),
        })
    }

    /// The amplitude of each bin, from 0 Hz on.
    #[must_use]
    pub fn amplitudes(&self) -> &[f32] {
        &self.amplitudes
    }

    /// The distance of two bins in hertz: one over the length of the block.
    #[must_use]
    pub fn bin_hz(&self) -> f64 {
        self.bin_hz
    }

    /// The band that was demodulated, in hertz.
    #[must_use]
    pub fn band_hz(&self) -> (f64, f64) {
        self.band_hz
    }
}

fn edges(low: f64, high: f64, bin_hz: f64, bins: usize) -> Option<(usize, usize)> {
    if !(low.is_finite() && high.is_finite() && low >= 0.0 && high > low) {
        return None;
    }
    // The constant part was removed, and the bin at half the rate has no
    // mirror image: neither belongs to an analytic signal.
    let first = ((low / bin_hz).ceil() as usize).max(1);
    let end = ((high / bin_hz).floor() as usize + 1).min(bins - 1);
    (end >= first + BAND_BINS_MIN).then_some((first, end))
}

fn loudest(
    plans: &mut Plans,
    bins: &[Complex<f32>],
    analytic: &mut Vec<Complex<f32>>,
) -> Option<(usize, usize)> {
    let all = (bins.len() - 1) as f64;
    let floor = ((all * SEARCH_FLOOR) as usize).max(1);
    let ceiling = (all * SEARCH_CEILING) as usize;
    let mut best: Option<(f64, (usize, usize))> = None;
    for split in SPLITS {
        let width = (ceiling - floor) / split;
        if width < BAND_BINS_MIN {
            break;
        }
        for part in 0..split {
            let first = floor + part * width;
            let end = first + width;
            demodulate(
                plans,
                &bins[first..end],
                width.next_power_of_two(),
                analytic,
            );
            let kurtosis = spectral_kurtosis(analytic);
            if best.is_none_or(|(most, _)| kurtosis > most) {
                best = Some((kurtosis, (first, end)));
            }
        }
    }
    best.map(|(_, edges)| edges)
}

fn demodulate(
    plans: &mut Plans,
    band: &[Complex<f32>],
    length: usize,
    analytic: &mut Vec<Complex<f32>>,
) {
    analytic.clear();
    analytic.extend_from_slice(band);
    analytic.resize(length, Complex::default());
    plans.inverse(analytic);
}

fn spectral_kurtosis(analytic: &[Complex<f32>]) -> f64 {
    let mut square = [0.0f32; 8];
    let mut fourth = [0.0f32; 8];
    for chunk in analytic.chunks_exact(8) {
        for lane in 0..8 {
            let power = chunk[lane].re * chunk[lane].re + chunk[lane].im * chunk[lane].im;
            square[lane] += power;
            fourth[lane] += power * power;
        }
    }
    let sum = |lanes: [f32; 8]| lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
    let (square, fourth) = (sum(square), sum(fourth));
    if square > 0.0 {
        fourth * analytic.len() as f64 / (square * square) - 2.0
    } else {
        -2.0
    }
}
