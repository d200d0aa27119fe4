//! Aggregates: one result per group and window.
//!
//! Shared rules: rows whose argument is null are passed by (NaN and infinities
//! are null on the way in). Without any row the result is null, except for
//! `count` and `count_distinct`, which give 0. A result that is not finite is
//! null. All states can be merged, so that a hopping window touches one slice
//! per row; merged results agree with one pass to within rounding, and exactly
//! for counts, extremes, ends and sketches. Results do not depend on how the
//! rows were cut into batches.

pub(super) mod distinct;
pub(super) mod ends;
pub(super) mod extremes;
pub(super) mod line;
pub(super) mod moments;
pub(super) mod sketch;
pub(super) mod totals;

pub use distinct::SMALL_MAX;
pub use sketch::{ACCURACY, BINS_MAX};

use super::{Accepts, Parameter};

/// One number.
const X: &[Parameter] = &[Parameter::new("x", Accepts::Number)];

/// One value of any type.
const ANY: &[Parameter] = &[Parameter::new("x", Accepts::Any)];

#[cfg(test)]
mod tests;
