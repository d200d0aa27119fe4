//! The catalogue of functions and the traits behind them.
//!
//! A function is a row in one of the static tables of the modules below; the
//! binder looks names up with [`find`], `forebay functions` prints [`all`].
//! There are three kinds, by what they keep:
//!
//! - a *scalar* function keeps nothing: columns in, one column out
//!   ([`Kernel`]). Signal functions on waveforms are scalar functions.
//! - an *aggregate* keeps one state per group and is asked for its result when
//!   a window closes ([`Accumulator`]). States of slices are merged.
//! - an *analytic* function keeps one state per key and answers for each row
//!   ([`Detector`]): `lag`, `ewma`, `cusum`, anomaly scores. It is written
//!   `f(x, …) OVER (PARTITION BY key)`; without OVER there is one key.
//!
//! Where the tables are: each module under `functions/` exports
//! `pub static CATALOGUE: &[Function]` and is listed in [`CATALOGUES`].
//!
//! Rules for implementations. Null in means null out for scalar functions
//! unless the documentation says otherwise; aggregates skip rows in which an
//! argument is null. Valid doubles are finite on the way in and must be on the
//! way out ([`Column::from_floats`] does it). No clock, no randomness that is
//! not seeded by a constant: the same rows give the same result bit by bit,
//! also after a restart through `encode` and `decode`, because output is
//! compared row by row after a crash. Memory per group is bounded by a named
//! constant.

pub mod aggregate;
pub mod anomaly;
mod cells;
pub mod series;
pub mod waveform;

use crate::column::Column;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

/// What a parameter accepts. Integers are converted to doubles for
/// [`Accepts::Number`] before the function sees them, except where the result
/// [`Returns::SameAs`] that argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// Any type.
    Any,
    /// An integer or a double; arrives as [`DataType::Float`].
    Number,
    /// An integer.
    Int,
    /// A boolean.
    Bool,
    /// Text.
    Text,
    /// A timestamp.
    Timestamp,
    /// An interval.
    Interval,
    /// A waveform.
    Waveform,
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The name in the documentation.
    pub name: &'static str,
    /// Which types it takes.
    pub accepts: Accepts,
    /// Whether it may be left out. Only the last ones may.
    pub optional: bool,
    /// Whether it has to be a literal. Its value is in [`Call::constants`].
    pub constant: bool,
}

impl Parameter {
    /// A required parameter.
    pub const fn new(name: &'static str, accepts: Accepts) -> Self {
        Self {
            name,
            accepts,
            optional: false,
            constant: false,
        }
    }

    /// The same, but it may be left out.
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The same, but it has to be a literal.
    pub const fn constant(mut self) -> Self {
        self.constant = true;
        self
    }
}

/// The type of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// Always this type.
    Type(DataType),
    /// The type of the argument with this index.
    SameAs(usize),
}

/// What a call of a function looks like to its constructor.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The types of the arguments, after conversion.
    pub types: &'a [DataType],
    /// For each argument its value if it is a literal.
    pub constants: &'a [Option<Value>],
}

impl Call<'_> {
    /// The literal at `index` as a double.
    pub fn number(&self, index: usize) -> Option<f64> {
        self.constants.get(index)?.as_ref()?.as_f64()
    }

    /// The literal at `index` as text.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.constants.get(index)?.as_ref()?.as_str()
    }

    /// The type of the argument at `index`; null if it was left out.
    pub fn data_type(&self, index: usize) -> DataType {
        self.types.get(index).copied().unwrap_or(DataType::Null)
    }
}

/// A literal argument that a function cannot work with. The binder adds the
/// name of the function, the line and the column.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{parameter} is {found}, expected {expected}")]
pub struct ArgumentError {
    /// The name of the parameter.
    pub parameter: &'static str,
    /// What was written.
    pub found: String,
    /// What can be written.
    pub expected: &'static str,
}

/// How a function comes to life for one place in one query.
#[derive(Clone, Copy)]
pub enum Body {
    /// A scalar function.
    Scalar(fn(&Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError>),
    /// An aggregate.
    Aggregate(fn(&Call<'_>) -> Result<Box<dyn Accumulator>, ArgumentError>),
    /// An analytic function.
    Analytic(fn(&Call<'_>) -> Result<Box<dyn Detector>, ArgumentError>),
}

/// The kind of a function, for printing and grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Columns in, one column out.
    Scalar,
    /// A scalar function of a waveform.
    Signal,
    /// One result per group and window.
    Aggregate,
    /// One result per row from the rows of the key before it.
    Analytic,
}

/// One function.
pub struct Function {
    /// The name in lower case.
    pub name: &'static str,
    /// Other names that mean the same, in lower case.
    pub aliases: &'static [&'static str],
    /// How it is grouped when printed. Agrees with `body`.
    pub kind: Kind,
    /// The parameters in order.
    pub parameters: &'static [Parameter],
    /// Whether the last parameter may be repeated.
    pub variadic: bool,
    /// The type of the result.
    pub returns: Returns,
    /// One line: what it answers.
    pub summary: &'static str,
    /// The formula, empty if the summary is the definition.
    pub formula: &'static str,
    /// Units of the result in terms of those of the arguments.
    pub units: &'static str,
    /// Where the definition comes from.
    pub source: &'static str,
    /// The implementation.
    pub body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({})", self.name)
    }
}

/// A scalar function at one place of one query. It may keep scratch space and
/// plans between calls, but its result depends on the arguments alone.
pub trait Kernel: Send {
    /// One result per row. Each argument has `rows` rows; a literal argument is
    /// repeated.
    fn evaluate(&mut self, arguments: &[Column], rows: usize) -> Column;
}

impl<F: FnMut(&[Column], usize) -> Column + Send> Kernel for F {
    fn evaluate(&mut self, arguments: &[Column], rows: usize) -> Column {
        self(arguments, rows)
    }
}

/// Rows on their way into accumulators or detectors.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The group of each row. Every number is below the `groups` of the last
    /// [`Accumulator::resize`].
    pub groups: &'a [u32],
    /// The event time of each row in milliseconds since the Unix epoch. Rows
    /// are in order of arrival, which need not be the order of time.
    pub times: &'a [i64],
    /// The arguments, one column per parameter given.
    pub arguments: &'a [Column],
}

/// The states of one aggregate, one per group, as arrays.
///
/// A group number is a slot: the operator hands out slots, clears them and uses
/// them again. Where order matters (`first`, `last`, `delta`, `rate`) it is the
/// order of event time; of rows with the same time the later arrival counts as
/// later, and in [`Accumulator::merge`] the rows of `other` count as later
/// arrivals than those of `self`.
pub trait Accumulator: Send {
    /// An empty set of states for the same call, to hold another slice.
    fn fresh(&self) -> Box<dyn Accumulator>;

    /// Makes room for slots `0..groups`; new ones are in the state of no rows.
    /// Never shrinks.
    fn resize(&mut self, groups: usize);

    /// Adds rows to the states of their groups.
    fn update(&mut self, rows: Rows<'_>);

    /// Adds the states of `other` to states here: `pairs` holds slots of `other`
    /// and the slots of `self` that they go to. `other` was made by
    /// [`Accumulator::fresh`] from the same call; use [`Accumulator::as_any`]
    /// to get at it.
    fn merge(&mut self, other: &dyn Accumulator, pairs: &[(u32, u32)]);

    /// The same between slots of `self`; both slots of a pair differ.
    fn merge_within(&mut self, pairs: &[(u32, u32)]);

    /// The results of the slots, in that order. Does not change the states.
    fn finish(&self, groups: &[u32]) -> Column;

    /// The results that the first slot of each pair would have after the second
    /// one was merged into it. Does not change the states.
    fn finish_merged(&self, pairs: &[(u32, Option<u32>)]) -> Column;

    /// Puts slots back to the state of no rows and frees what they hold.
    fn clear(&mut self, groups: &[u32]);

    /// Appends the state of one slot.
    fn encode(&self, group: u32, out: &mut Encoder);

    /// Replaces the state of one slot, for which there is room, by what
    /// [`Accumulator::encode`] wrote.
    ///
    /// # Errors
    /// [`StateError`] for bytes that `encode` cannot have written. Counts and
    /// lengths are checked against the bytes that are there.
    fn decode(&mut self, group: u32, input: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Bytes of memory in use, to within a factor of two and cheap to ask for.
    fn memory_bytes(&self) -> usize;

    /// Itself, for [`Accumulator::merge`].
    fn as_any(&self) -> &dyn std::any::Any;
}

/// The states of one analytic function, one per key, as arrays.
///
/// Slots are as in [`Accumulator`]. Rows arrive in the order of the log and are
/// answered in that order.
pub trait Detector: Send {
    /// Makes room for slots `0..keys`; new ones are in the state of no rows.
    fn resize(&mut self, keys: usize);

    /// Takes rows and returns one result per row. A row whose argument is null
    /// gets a null (unless documented otherwise) and leaves the state alone.
    fn update(&mut self, rows: Rows<'_>) -> Column;

    /// Puts slots back to the state of no rows and frees what they hold.
    fn clear(&mut self, keys: &[u32]);

    /// Appends the state of one slot.
    fn encode(&self, key: u32, out: &mut Encoder);

    /// Replaces the state of one slot, for which there is room.
    ///
    /// # Errors
    /// [`StateError`] for bytes that `encode` cannot have written.
    fn decode(&mut self, key: u32, input: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Bytes of memory in use, to within a factor of two and cheap to ask for.
    fn memory_bytes(&self) -> usize;
}

/// The tables of all modules.
pub static CATALOGUES: &[&[Function]] = &[
    crate::builtin::math::CATALOGUE,
    crate::builtin::text::CATALOGUE,
    crate::builtin::time::CATALOGUE,
    crate::builtin::rows::CATALOGUE,
    aggregate::totals::CATALOGUE,
    aggregate::extremes::CATALOGUE,
    aggregate::moments::CATALOGUE,
    aggregate::sketch::CATALOGUE,
    aggregate::ends::CATALOGUE,
    aggregate::distinct::CATALOGUE,
    aggregate::line::CATALOGUE,
    series::CATALOGUE,
    anomaly::CATALOGUE,
    waveform::LEVELS,
    waveform::SPECTRA,
    waveform::BEARINGS,
];

/// Every function, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Function> {
    CATALOGUES.iter().flat_map(|table| table.iter())
}

/// The function with this name or alias. Case does not matter.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| {
        function.name.eq_ignore_ascii_case(name)
            || function
                .aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(name))
    })
}
