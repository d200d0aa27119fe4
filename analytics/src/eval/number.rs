//! Arithmetic. What overflows or is not finite becomes null.

use super::Operand;
use crate::column::{Bitmap, Column, Values};
use crate::plan::Unary;
use crate::syntax::Operator;
use crate::value::DataType;

/// A negation, or a test for null.
pub fn unary(unary: Unary, operand: &Operand<'_>, rows: usize) -> Column {
    match (unary, operand.data_type()) {
        (Unary::IsNull, _) => Column::new(
            Values::Bool((0..rows).map(|row| operand.is_null(row)).collect()),
            None,
        ),
        (Unary::Not, _) => {
            Column::from_optional_bools((0..rows).map(|row| operand.bool(row).map(|value| !value)))
        }
        (Unary::Negate, DataType::Float) => {
            Column::from_optional_floats((0..rows).map(|row| operand.float(row).map(|x| -x)))
        }
        (Unary::Negate, data_type) => Column::from_optional_ints(
            (0..rows).map(|row| operand.int(row).and_then(i64::checked_neg)),
        )
        .retyped(data_type),
    }
}

/// `+ - * / %` on operands that the binder made compatible.
pub fn arithmetic(
    operator: Operator,
    left: &Operand<'_>,
    right: &Operand<'_>,
    data_type: DataType,
    rows: usize,
) -> Column {
    if data_type == DataType::Float {
        if left.data_type() == DataType::Interval {
            return Column::from_optional_floats(
                (0..rows).map(|row| Some(left.int(row)? as f64 / right.int(row)? as f64)),
            );
        }
        return match operator {
            Operator::Add => floats(left, right, rows, |x, y| x + y),
            Operator::Subtract => floats(left, right, rows, |x, y| x - y),
            Operator::Multiply => floats(left, right, rows, |x, y| x * y),
            Operator::Divide => floats(left, right, rows, |x, y| x / y),
            _ => floats(left, right, rows, |x, y| x % y),
        };
    }
    let scaled = data_type == DataType::Interval
        && matches!(operator, Operator::Multiply | Operator::Divide);
    if scaled {
        return Column::from_optional_ints((0..rows).map(|row| {
            let (ms, factor) = (left.int(row)? as f64, right.float(row)?);
            let product = if operator == Operator::Multiply {
                ms * factor
            } else {
                ms / factor
            };
            (product.abs() < i64::MAX as f64).then_some(product.round() as i64)
        }))
        .retyped(data_type);
    }
    let apply = match operator {
        Operator::Add => i64::checked_add,
        Operator::Subtract => i64::checked_sub,
        Operator::Multiply => i64::checked_mul,
        Operator::Divide => i64::checked_div,
        _ => i64::checked_rem,
    };
    Column::from_optional_ints((0..rows).map(|row| apply(left.int(row)?, right.int(row)?)))
        .retyped(data_type)
}

/// Doubles, in loops that vectorise when the operands are plain columns.
fn floats(
    left: &Operand<'_>,
    right: &Operand<'_>,
    rows: usize,
    apply: impl Fn(f64, f64) -> f64,
) -> Column {
    match (plain(left), plain(right)) {
        (Some((x, valid_x)), Some((y, valid_y))) => Column::from_floats(
            x.iter().zip(y).map(|(x, y)| apply(*x, *y)).collect(),
            Bitmap::both(valid_x, valid_y),
        ),
        (Some((x, valid)), None) => match scalar(right) {
            Some(y) => {
                Column::from_floats(x.iter().map(|x| apply(*x, y)).collect(), valid.cloned())
            }
            None => slow(left, right, rows, apply),
        },
        (None, Some((y, valid))) => match scalar(left) {
            Some(x) => {
                Column::from_floats(y.iter().map(|y| apply(x, *y)).collect(), valid.cloned())
            }
            None => slow(left, right, rows, apply),
        },
        (None, None) => slow(left, right, rows, apply),
    }
}

fn slow(
    left: &Operand<'_>,
    right: &Operand<'_>,
    rows: usize,
    apply: impl Fn(f64, f64) -> f64,
) -> Column {
    Column::from_optional_floats(
        (0..rows).map(|row| Some(apply(left.float(row)?, right.float(row)?))),
    )
}

fn plain<'o>(operand: &'o Operand<'_>) -> Option<(&'o [f64], Option<&'o Bitmap>)> {
    match operand {
        Operand::Column(column) => match column.values() {
            Values::Float(values) => Some((values, column.validity())),
            _ => None,
        },
        Operand::Scalar(_) => None,
    }
}

fn scalar(operand: &Operand<'_>) -> Option<f64> {
    match operand {
        Operand::Scalar(value) => value.as_f64(),
        Operand::Column(_) => None,
    }
}
