//! Functions on a time series: one value after the other of one key, with
//! state between them.
//!
//! Shared rules:
//!
//! - A null, a NaN and an infinity change no state and give null.
//! - Each state has a bound, stated with the type, and no clock: what time a
//!   row has is an argument.
//! - A parameter outside of its range is refused when the state is made.

mod catalogue;
pub mod control;
pub mod hampel;
pub mod trend;

pub use catalogue::CATALOGUE;

#[cfg(test)]
mod tests;
