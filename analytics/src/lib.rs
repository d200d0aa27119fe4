//! Continuous SQL over log records, without I/O, threads or a clock.
//!
//! Text becomes a typed plan, the plan becomes columnar operators. Rows and
//! watermark events go in, result rows come out, and the state of every
//! operator can be written down and read back.
//!
//! - [`value`], [`column`], [`batch`]: the data. A [`column::Column`] is typed,
//!   has a validity bitmap and shares its large buffers.
//! - [`functions`]: the catalogue of functions and the traits behind them.
//! - [`state`]: the encoding of operator state: versioned, bounded, typed errors.
//!
//! What is not here: the log, topics, commits, files, metrics. The gateway reads
//! records, hands them in with the time of its clock where time matters, and
//! commits the rows that come out together with the encoded state.
//!
//! Times are milliseconds since the Unix epoch, durations are milliseconds.
//! The grammar and the semantics are in `docs/queries.md`.

#![forbid(unsafe_code)]

pub mod alerts;
pub mod batch;
pub mod bind;
pub mod builtin;
pub mod column;
pub mod decode;
pub mod eval;
pub mod functions;
pub mod operators;
pub mod parse;
pub mod plan;
pub mod query;
pub mod state;
pub mod syntax;
pub mod value;
pub mod watermark;
pub mod zone;
