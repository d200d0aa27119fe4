//! The signal functions as the catalogue knows them.
//!
//! Arguments besides the waveform may be columns, so that the speed can come
//! from a join; only names are literals. Null in, null out. Each place in a
//! query keeps its plans.

mod bearings;
mod levels;
mod spectra;

pub use bearings::BEARINGS;
pub use levels::LEVELS;
pub use spectra::SPECTRA;

use super::super::{
    Accepts, ArgumentError, Body, Call, Function, Kernel, Kind, Parameter, Returns,
};
use crate::column::Column;
use crate::value::DataType;

const W: Parameter = Parameter::new("waveform", Accepts::Waveform);
const RATE: Parameter = Parameter::new("sample_rate_hz", Accepts::Number);
const LOW: Parameter = Parameter::new("low_hz", Accepts::Number);
const HIGH: Parameter = Parameter::new("high_hz", Accepts::Number);

/// What makes a kernel for one place in a query.
type Make = fn(&Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError>;

/// A signal function with a double as its result.
const fn signal(
    name: &'static str,
    parameters: &'static [Parameter],
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    source: &'static str,
    body: Make,
) -> Function {
    Function {
        name,
        aliases: &[],
        kind: Kind::Signal,
        parameters,
        variadic: false,
        returns: Returns::Type(DataType::Float),
        summary,
        formula,
        units,
        source,
        body: Body::Scalar(body),
    }
}

/// The same with another type of result.
const fn returning(data_type: DataType, mut function: Function) -> Function {
    function.returns = Returns::Type(data_type);
    function
}

/// A kernel that answers row by row with a double or null.
fn by_row(
    mut answer: impl FnMut(&Row<'_>) -> Option<f64> + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    Ok(Box::new(move |arguments: &[Column], rows: usize| {
        Column::from_optional_floats((0..rows).map(|at| answer(&Row { arguments, at })))
    }))
}

/// One row of the arguments.
struct Row<'a> {
    arguments: &'a [Column],
    at: usize,
}

impl<'a> Row<'a> {
    /// The argument at `index` as a number.
    fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index)?.float(self.at)
    }

    /// The same with a default where it was left out; null stays null.
    fn number_or(&self, index: usize, default: f64) -> Option<f64> {
        match self.arguments.get(index) {
            Some(column) => column.float(self.at),
            None => Some(default),
        }
    }

    /// The first argument as samples.
    fn samples(&self) -> Option<&'a [f64]> {
        self.arguments.first()?.samples(self.at)
    }

    /// How many arguments there are.
    fn len(&self) -> usize {
        self.arguments.len()
    }
}

#[cfg(test)]
mod tests;
