//! How the largest values of a statistic are distributed, in three numbers.

use crate::state::{Decoder, Encoder, StateError};

/// The part of the values above the threshold of the tail.
const TAIL: f64 = 0.05;

/// Rows that the threshold follows.
const MEMORY: f64 = 1000.0;

/// Values above the threshold that their mean excess remembers: 200 of them
/// are the tail of 4,000 rows.
const EXCESS_MEMORY: f64 = 200.0;

/// The mean excess before any was seen, and how many values that belief
/// weighs. In logarithms of distances, 0.3 is the tail of normal noise.
const PRIOR_EXCESS: f64 = 0.3;
const PRIOR_WEIGHT: f64 = 20.0;

/// An excess counts as at most this much: 150 times the threshold.
const EXCESS_MAX: f64 = 5.0;

/// The 95 % quantile of a statistic and the mean excess above it.
///
/// The quantile follows the values by steps (up 0.95, down 0.05), the excess
/// over it is taken as exponential: P(u > q + e) = 0.05 exp(-e / mean excess).
/// For the logarithm of a distance that is a power law, which fits both noise
/// and spikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tail {
    rows: f64,
    quantile: f64,
    excess: f64,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            rows: 0.0,
            quantile: 0.0,
            excess: PRIOR_EXCESS,
        }
    }
}

impl Tail {
    /// -log10 of the probability of a value as large as `u`; below the quantile
    /// it rises evenly from 0.
    pub(super) fn evidence(&self, u: f64) -> f64 {
        let at_quantile = -TAIL.log10();
        if u <= self.quantile {
            at_quantile * (u / self.quantile.max(1e-9)).clamp(0.0, 1.0)
        } else {
            at_quantile + (u - self.quantile) / self.excess.max(1e-3) * std::f64::consts::LOG10_E
        }
    }

    /// Takes a value that was scored.
    pub(super) fn learn(&mut self, u: f64) {
        self.rows += 1.0;
        if self.rows <= 1.0 {
            self.quantile = u;
            return;
        }
        let step = 2.0 * (1.0 / self.rows).max(1.0 / MEMORY);
        self.quantile += if u > self.quantile {
            step * (1.0 - TAIL)
        } else {
            -step * TAIL
        };
        if u > self.quantile {
            let rate = (1.0 / (self.rows * TAIL + PRIOR_WEIGHT)).max(1.0 / EXCESS_MEMORY);
            self.excess += rate * ((u - self.quantile).min(EXCESS_MAX) - self.excess);
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        for number in [self.rows, self.quantile, self.excess] {
            out.put_f64(number);
        }
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            rows: input.take_f64()?,
            quantile: input.take_f64()?,
            excess: input.take_f64()?,
        })
    }
}
