//! Transforms that are planned once per block length, and their buffers.

use std::collections::BTreeMap;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};

/// How many block lengths are kept planned. A fleet has a handful of sensor
/// types; a sender that varies its length pays for planning, not with memory.
const LENGTHS_MAX: usize = 16;

/// Plans, windows and buffers, reused from block to block.
///
/// Transforms are taken in single precision: 24 bits are more than any
/// converter has, and half the work. One value serves one thread. It holds no results: it may be dropped or
/// shared between queries without a change of any answer.
#[derive(Default)]
pub struct Plans {
    forward: BTreeMap<usize, Forward>,
    inverse: BTreeMap<usize, Arc<dyn Fft<f32>>>,
    inverse_real: BTreeMap<usize, Arc<dyn ComplexToReal<f32>>>,
    real: Vec<f32>,
    scratch: Vec<Complex<f32>>,
}

struct Forward {
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Hann,
}

/// A periodic Hann window, w\[i\] = (1 - cos(2 pi i / N)) / 2, with its sums.
struct Hann {
    weights: Vec<f32>,
    sum: f64,
    sum_of_squares: f64,
}

/// Sums of the window that a transform was taken with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowSums {
    /// The sum of the weights: what a sine's amplitude is divided by.
    pub sum: f64,
    /// The sum of their squares: what power is divided by.
    pub sum_of_squares: f64,
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plans")
            .field("forward", &self.forward.keys())
            .field("inverse", &self.inverse.keys())
            .finish_non_exhaustive()
    }
}

impl Plans {
    /// Makes an empty set of plans.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Transforms `samples` less their mean into N/2+1 complex bins, with a
    /// Hann window when `windowed`, and returns the sums of the window.
    pub(super) fn forward<T: Copy + Into<f64>>(
        &mut self,
        samples: &[T],
        windowed: bool,
        bins: &mut Vec<Complex<f32>>,
    ) -> WindowSums {
        let length = samples.len();
        if !self.forward.contains_key(&length) {
            make_room(&mut self.forward);
            let fft = RealFftPlanner::<f32>::new().plan_fft_forward(length);
            let hann = Hann::new(length);
            self.forward.insert(length, Forward { fft, hann });
        }
        let plan = &self.forward[&length];
        let mean = sum(samples) / length as f64;
        let centred = samples.iter().map(|&x| (x.into() - mean) as f32);
        self.real.clear();
        let sums = if windowed {
            let weights = plan.hann.weights.iter();
            self.real.extend(centred.zip(weights).map(|(x, w)| x * w));
            WindowSums {
                sum: plan.hann.sum,
                sum_of_squares: plan.hann.sum_of_squares,
            }
        } else {
            self.real.extend(centred);
            WindowSums {
                sum: length as f64,
                sum_of_squares: length as f64,
            }
        };
        bins.resize(length / 2 + 1, Complex::default());
        self.scratch
            .resize(plan.fft.get_scratch_len(), Complex::default());
        plan.fft
            .process_with_scratch(&mut self.real, bins, &mut self.scratch)
            .expect("input, output and scratch have the lengths that the plan asks for");
        sums
    }

    /// Transforms complex bins back in place, not divided by their number.
    pub(super) fn inverse(&mut self, bins: &mut [Complex<f32>]) {
        let length = bins.len();
        if !self.inverse.contains_key(&length) {
            make_room(&mut self.inverse);
            let fft = FftPlanner::<f32>::new().plan_fft_inverse(length);
            self.inverse.insert(length, fft);
        }
        let fft = &self.inverse[&length];
        self.scratch
            .resize(fft.get_inplace_scratch_len(), Complex::default());
        fft.process_with_scratch(bins, &mut self.scratch);
    }

    /// Transforms N/2+1 bins back into N samples, not divided by N. The bins
    /// are used up.
    pub(super) fn inverse_real(
        &mut self,
        bins: &mut [Complex<f32>],
        samples: &mut Vec<f32>,
        length: usize,
    ) {
        if !self.inverse_real.contains_key(&length) {
            make_room(&mut self.inverse_real);
            let fft = RealFftPlanner::<f32>::new().plan_fft_inverse(length);
            self.inverse_real.insert(length, fft);
        }
        let fft = &self.inverse_real[&length];
        samples.resize(length, 0.0);
        self.scratch
            .resize(fft.get_scratch_len(), Complex::default());
        // A real signal has real ends.
        bins[0].im = 0.0;
        if length.is_multiple_of(2) {
            bins[length / 2].im = 0.0;
        }
        fft.process_with_scratch(bins, samples, &mut self.scratch)
            .expect("input, output and scratch have the lengths that the plan asks for");
    }
}

impl Hann {
    fn new(length: usize) -> Self {
        let step = std::f64::consts::TAU / length as f64;
        let weights: Vec<f32> = (0..length)
            .map(|i| (0.5 - 0.5 * (step * i as f64).cos()) as f32)
            .collect();
        let sum = weights.iter().map(|&w| f64::from(w)).sum();
        let sum_of_squares = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
        Self {
            weights,
            sum,
            sum_of_squares,
        }
    }
}

/// Drops all plans when there are as many as are kept. They are cheap to make
/// again, and a choice which one to drop would be state.
fn make_room<T>(plans: &mut BTreeMap<usize, T>) {
    if plans.len() >= LENGTHS_MAX {
        plans.clear();
    }
}

/// Sums in eight lanes, which the compiler turns into vector instructions.
pub(super) fn sum<T: Copy + Into<f64>>(samples: &[T]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let chunks = samples.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&x| x.into()).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x.into();
        }
    }
    rest + lanes.iter().sum::<f64>()
}
