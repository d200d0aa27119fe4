//! Typed expressions.

use std::fmt;

use crate::functions::Function;
use crate::syntax::Operator;
use crate::value::{DataType, Value};

/// Operators with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// `-x`, same type.
    Negate,
    /// `NOT x`.
    Not,
    /// `x IS NULL`, never null.
    IsNull,
}

/// A typed expression over the columns of a batch.
#[derive(Clone)]
pub enum Expr {
    /// A column by index.
    Column(usize, DataType),
    /// A literal.
    Literal(Value),
    /// One operand.
    Unary(Unary, Box<Expr>),
    /// Two operands that the binder made compatible; the type of the result.
    Binary(Operator, Box<Expr>, Box<Expr>, DataType),
    /// CASE; the type of the result.
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>, DataType),
    /// A conversion; what cannot be converted becomes null.
    Cast(Box<Expr>, DataType),
    /// LIKE with a literal pattern; ILIKE if the flag is set.
    Like(Box<Expr>, String, bool),
    /// A scalar function.
    Call {
        /// Which.
        function: &'static Function,
        /// Of what.
        arguments: Vec<Expr>,
        /// Literal arguments.
        constants: Vec<Option<Value>>,
        /// The type of the result.
        data_type: DataType,
    },
}

impl Expr {
    /// The type of the result.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Column(_, data_type)
            | Self::Binary(_, _, _, data_type)
            | Self::Case(_, _, data_type)
            | Self::Cast(_, data_type)
            | Self::Call { data_type, .. } => *data_type,
            Self::Literal(value) => value.data_type(),
            Self::Unary(Unary::Negate, inner) => inner.data_type(),
            Self::Unary(Unary::Not | Unary::IsNull, _) | Self::Like(..) => DataType::Bool,
        }
    }

    /// The value if this is a literal.
    pub fn literal(&self) -> Option<&Value> {
        match self {
            Self::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Converted to a type, if it does not have it.
    pub fn cast_to(self, data_type: DataType) -> Self {
        if self.data_type() == data_type {
            return self;
        }
        match (&self, data_type) {
            (Self::Literal(Value::Int(number)), DataType::Float) => {
                Self::Literal(Value::Float(*number as f64))
            }
            (Self::Literal(Value::Null), _) => Self::Cast(Box::new(self), data_type),
            _ => Self::Cast(Box::new(self), data_type),
        }
    }
}

impl Expr {
    /// Renumbers the columns.
    pub fn map_columns(&mut self, map: &impl Fn(usize) -> usize) {
        if let Self::Column(index, _) = self {
            *index = map(*index);
        }
        for child in self.children_mut() {
            child.map_columns(map);
        }
    }

    /// Appends the columns that the expression reads.
    pub fn columns(&self, into: &mut Vec<usize>) {
        if let Self::Column(index, _) = self {
            into.push(*index);
        }
        for child in self.children() {
            child.columns(into);
        }
    }

    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Column(..) | Self::Literal(_) => Vec::new(),
            Self::Unary(_, inner) | Self::Cast(inner, _) | Self::Like(inner, _, _) => vec![inner],
            Self::Binary(_, left, right, _) => vec![left, right],
            Self::Case(branches, otherwise, _) => branches
                .iter()
                .flat_map(|(condition, result)| [condition, result])
                .chain(otherwise.as_deref())
                .collect(),
            Self::Call { arguments, .. } => arguments.iter().collect(),
        }
    }

    fn children_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Column(..) | Self::Literal(_) => Vec::new(),
            Self::Unary(_, inner) | Self::Cast(inner, _) | Self::Like(inner, _, _) => vec![inner],
            Self::Binary(_, left, right, _) => vec![left, right],
            Self::Case(branches, otherwise, _) => branches
                .iter_mut()
                .flat_map(|(condition, result)| [condition, result])
                .chain(otherwise.as_deref_mut())
                .collect(),
            Self::Call { arguments, .. } => arguments.iter_mut().collect(),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(index, _) => write!(f, "#{index}"),
            Self::Literal(value) => print_value(value, f),
            Self::Unary(Unary::Negate, inner) => write!(f, "-{inner}"),
            Self::Unary(Unary::Not, inner) => write!(f, "NOT {inner}"),
            Self::Unary(Unary::IsNull, inner) => write!(f, "{inner} IS NULL"),
            Self::Binary(operator, left, right, _) => {
                write!(f, "({left} {} {right})", operator.symbol())
            }
            Self::Case(branches, otherwise, _) => {
                write!(f, "CASE")?;
                for (condition, result) in branches {
                    write!(f, " WHEN {condition} THEN {result}")?;
                }
                if let Some(otherwise) = otherwise {
                    write!(f, " ELSE {otherwise}")?;
                }
                write!(f, " END")
            }
            Self::Cast(inner, data_type) => write!(f, "{inner}::{data_type}"),
            Self::Like(inner, pattern, any_case) => {
                let like = if *any_case { "ILIKE" } else { "LIKE" };
                write!(f, "{inner} {like} '{pattern}'")
            }
            Self::Call {
                function,
                arguments,
                ..
            } => {
                write!(f, "{}(", function.name)?;
                for (index, argument) in arguments.iter().enumerate() {
                    if index > 0 {
                        write!(f, ", ")?;
                    }
                    write!(f, "{argument}")?;
                }
                write!(f, ")")
            }
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Expr {
    /// Equal text is equal meaning: columns are numbers, functions have names.
    fn eq(&self, other: &Self) -> bool {
        self.data_type() == other.data_type() && self.to_string() == other.to_string()
    }
}

fn print_value(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::Null => write!(f, "NULL"),
        Value::Bool(value) => write!(f, "{value}"),
        Value::Int(number) => write!(f, "{number}"),
        Value::Float(number) => write!(f, "{number:?}"),
        Value::Text(text) => write!(f, "'{text}'"),
        Value::Timestamp(ms) => write!(f, "timestamp {ms}"),
        Value::Interval(ms) => write!(f, "'{}'", crate::parse::print_duration(*ms)),
        Value::Waveform(waveform) => write!(f, "{waveform:?}"),
    }
}
