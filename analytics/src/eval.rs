//! Expressions over batches.
//!
//! An [`Evaluator`] is the running form of a [`crate::plan::Expr`]: it owns the
//! kernels of scalar functions. Every branch of a CASE is computed for every
//! row, which is safe because nothing fails: what has no result is null.

mod cast;
mod choose;
mod compare;
mod like;
mod number;

#[cfg(test)]
mod tests;

pub use cast::{parse_number, parse_time, print_time};

use std::borrow::Cow;

use crate::batch::Batch;
use crate::column::{Column, Values};
use crate::functions::{Body, Kernel};
use crate::plan::{Expr, Unary};
use crate::syntax::Operator;
use crate::value::{DataType, Value};

/// The running form of an expression.
pub enum Evaluator {
    /// A column.
    Column(usize),
    /// A literal.
    Literal(Value),
    /// One operand.
    Unary(Unary, Box<Evaluator>),
    /// Two operands.
    Binary(Operator, Box<Evaluator>, Box<Evaluator>, DataType),
    /// CASE.
    Case(
        Vec<(Evaluator, Evaluator)>,
        Option<Box<Evaluator>>,
        DataType,
    ),
    /// A conversion.
    Cast(Box<Evaluator>, DataType),
    /// LIKE.
    Like(Box<Evaluator>, like::Pattern),
    /// A function that keeps nothing; the type of its result.
    Call(Box<dyn Kernel>, Vec<Evaluator>, DataType),
}

/// A column, or a value that stands for all rows.
pub enum Operand<'a> {
    /// One value per row.
    Column(Cow<'a, Column>),
    /// One value for all.
    Scalar(Value),
}

impl Operand<'_> {
    fn float(&self, row: usize) -> Option<f64> {
        match self {
            Self::Column(column) => column.float(row),
            Self::Scalar(value) => value.as_f64(),
        }
    }

    fn int(&self, row: usize) -> Option<i64> {
        match self {
            Self::Column(column) => column.int(row),
            Self::Scalar(value) => value.as_i64(),
        }
    }

    fn bool(&self, row: usize) -> Option<bool> {
        match self {
            Self::Column(column) => column.bool(row),
            Self::Scalar(Value::Bool(value)) => Some(*value),
            Self::Scalar(_) => None,
        }
    }

    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Column(column) => column.text(row),
            Self::Scalar(value) => value.as_str(),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Column(column) => !column.is_valid(row),
            Self::Scalar(value) => value.is_null(),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Column(column) => column.data_type(),
            Self::Scalar(value) => value.data_type(),
        }
    }

    /// The same as a column.
    fn into_column(self, rows: usize) -> Column {
        match self {
            Self::Column(column) => column.into_owned(),
            Self::Scalar(value) => Column::repeat(&value, rows),
        }
    }
}

impl Evaluator {
    /// The running form.
    pub fn new(expr: &Expr) -> Self {
        match expr {
            Expr::Column(index, _) => Self::Column(*index),
            Expr::Literal(value) => Self::Literal(value.clone()),
            Expr::Unary(unary, inner) => Self::Unary(*unary, Box::new(Self::new(inner))),
            Expr::Binary(operator, left, right, data_type) => Self::Binary(
                *operator,
                Box::new(Self::new(left)),
                Box::new(Self::new(right)),
                *data_type,
            ),
            Expr::Case(branches, otherwise, data_type) => Self::Case(
                branches
                    .iter()
                    .map(|(condition, result)| (Self::new(condition), Self::new(result)))
                    .collect(),
                otherwise
                    .as_ref()
                    .map(|otherwise| Box::new(Self::new(otherwise))),
                *data_type,
            ),
            Expr::Cast(inner, data_type) => Self::Cast(Box::new(Self::new(inner)), *data_type),
            Expr::Like(inner, pattern, any_case) => Self::Like(
                Box::new(Self::new(inner)),
                like::Pattern::new(pattern, *any_case),
            ),
            Expr::Call {
                function,
                arguments,
                constants,
                data_type,
            } => {
                let types: Vec<DataType> = arguments.iter().map(Expr::data_type).collect();
                let call = crate::functions::Call {
                    types: &types,
                    constants,
                };
                let Body::Scalar(make) = function.body else {
                    unreachable!("the binder calls scalar functions only")
                };
                let kernel = make(&call).expect("the binder made the same call");
                let arguments = arguments.iter().map(Self::new).collect();
                Self::Call(kernel, arguments, *data_type)
            }
        }
    }

    /// One result per row.
    pub fn column(&mut self, batch: &Batch) -> Column {
        self.run(batch).into_column(batch.rows())
    }

    /// The rows for which a condition is true.
    pub fn selected(&mut self, batch: &Batch) -> Vec<u32> {
        let rows = batch.rows();
        match self.run(batch) {
            Operand::Scalar(Value::Bool(true)) => (0..rows as u32).collect(),
            Operand::Scalar(_) => Vec::new(),
            Operand::Column(column) => match column.values() {
                Values::Bool(values) => (0..rows)
                    .filter(|row| values[*row] && column.is_valid(*row))
                    .map(|row| row as u32)
                    .collect(),
                _ => Vec::new(),
            },
        }
    }

    /// The result, without repeating what is the same for all rows.
    pub fn run<'a>(&mut self, batch: &'a Batch) -> Operand<'a> {
        let rows = batch.rows();
        match self {
            Self::Column(index) => Operand::Column(Cow::Borrowed(batch.column(*index))),
            Self::Literal(value) => Operand::Scalar(value.clone()),
            Self::Unary(unary, inner) => {
                let operand = inner.run(batch);
                owned(number::unary(*unary, &operand, rows))
            }
            Self::Binary(operator, left, right, data_type) => {
                let left = left.run(batch);
                let right = right.run(batch);
                owned(match operator {
                    Operator::And | Operator::Or => {
                        compare::logic(*operator == Operator::And, &left, &right, rows)
                    }
                    Operator::Concat => concat(&left, &right, rows),
                    _ if operator.is_comparison() => {
                        compare::compare(*operator, &left, &right, rows)
                    }
                    _ => number::arithmetic(*operator, &left, &right, *data_type, rows),
                })
            }
            Self::Case(branches, otherwise, data_type) => {
                let branches: Vec<(Operand<'_>, Operand<'_>)> = branches
                    .iter_mut()
                    .map(|(condition, result)| (condition.run(batch), result.run(batch)))
                    .collect();
                let otherwise = otherwise.as_mut().map(|otherwise| otherwise.run(batch));
                owned(choose::case(
                    &branches,
                    otherwise.as_ref(),
                    *data_type,
                    rows,
                ))
            }
            Self::Cast(inner, data_type) => {
                let operand = inner.run(batch);
                match operand {
                    Operand::Scalar(value) => {
                        let column = cast::cast(&Column::repeat(&value, 1), *data_type);
                        match column.value(0) {
                            Value::Null => owned(Column::from_values(
                                *data_type,
                                vec![Value::Null; rows].iter(),
                            )),
                            value => Operand::Scalar(value),
                        }
                    }
                    Operand::Column(column) => owned(cast::cast(&column, *data_type)),
                }
            }
            Self::Like(inner, pattern) => {
                let operand = inner.run(batch);
                owned(pattern.matches(&operand, rows))
            }
            Self::Call(kernel, arguments, data_type) => {
                let arguments: Vec<Column> = arguments
                    .iter_mut()
                    .map(|argument| argument.column(batch))
                    .collect();
                owned(kernel.evaluate(&arguments, rows).retyped(*data_type))
            }
        }
    }
}

fn owned<'a>(column: Column) -> Operand<'a> {
    Operand::Column(Cow::Owned(column))
}

fn concat(left: &Operand<'_>, right: &Operand<'_>, rows: usize) -> Column {
    Column::from_optional_texts((0..rows).map(|row| {
        let left = left.text(row)?;
        Some(format!("{left}{}", right.text(row)?))
    }))
}
