//! Functions on numbers, text and time, and those that look back at rows.

pub mod math;
pub mod rows;
pub mod text;
pub mod time;

use crate::functions::{ArgumentError, Body, Call, Function, Kernel, Kind, Parameter, Returns};

type Make = fn(&Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError>;

/// A row of a table for a scalar function that everybody knows.
const fn scalar(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: Returns,
    summary: &'static str,
    make: Make,
) -> Function {
    Function {
        name,
        aliases: &[],
        kind: Kind::Scalar,
        parameters,
        variadic: false,
        returns,
        summary,
        formula: "",
        units: "",
        source: "SQL",
        body: Body::Scalar(make),
    }
}

impl Function {
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}
