//! Functions on a waveform: a block of equidistant samples of one sensor.
//!
//! A waveform is a `&[f64]` with its sample rate in hertz. All functions share
//! these rules:
//!
//! - An empty block gives null (`None`).
//! - A block with a NaN, an infinity or a magnitude above [`MAGNITUDE_MAX`]
//!   gives null: one such sample would be in every bin of the spectrum.
//! - A sample rate, frequency or speed that is not finite and positive gives
//!   null.
//! - Spectral functions need at least [`SAMPLES_MIN`] samples and take at most
//!   [`SAMPLES_MAX`]; otherwise null.
//!
//! Start with [`level`] (broadband values), [`spectrum`] (amplitudes, bands,
//! peaks, orders, velocity) and [`envelope`] with [`bearing`] (faults).

pub mod bearing;
mod catalogue;
pub mod envelope;
pub mod level;
pub mod plans;
pub mod severity;
pub mod spectrum;

pub use bearing::{BearingFrequencies, BearingGeometry, Fault};
pub use catalogue::{BEARINGS, LEVELS, SPECTRA};
pub use envelope::{Band, Envelope};
pub use level::Level;
pub use plans::Plans;
pub use spectrum::{Peak, Spectrum};

/// A spectrum of fewer samples has no bin that a window does not smear over.
pub const SAMPLES_MIN: usize = 16;

/// The longest block that is transformed: 41 seconds at 25.6 kHz. The buffers
/// for it take 24 MiB, and it costs some tens of milliseconds.
pub const SAMPLES_MAX: usize = 1 << 20;

/// The largest magnitude of a sample. Spectra square single precision numbers,
/// which end at 3.4e38; no sensor comes near.
pub const MAGNITUDE_MAX: f64 = 1e15;

/// Whether a block can be transformed. Without an early exit the loop
/// vectorises.
fn is_transformable(samples: &[f64]) -> bool {
    (SAMPLES_MIN..=SAMPLES_MAX).contains(&samples.len())
        && samples
            .iter()
            .fold(true, |all, x| all & (x.abs() <= MAGNITUDE_MAX))
}

/// Whether a rate, frequency or speed can be calculated with.
fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

#[cfg(test)]
mod tests;
