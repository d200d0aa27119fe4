//! Comparisons and the logic of three values.

use std::cmp::Ordering;

use super::Operand;
use crate::column::{Column, Values};
use crate::syntax::Operator;
use crate::value::{DataType, Value};

/// AND and OR: null unless the other operand decides.
pub fn logic(and: bool, left: &Operand<'_>, right: &Operand<'_>, rows: usize) -> Column {
    // The value that decides alone.
    let decides = !and;
    Column::from_optional_bools(
        (0..rows).map(|row| match (left.bool(row), right.bool(row)) {
            (Some(value), _) | (_, Some(value)) if value == decides => Some(decides),
            (Some(_), Some(_)) => Some(!decides),
            _ => None,
        }),
    )
}

/// Comparisons of operands of one type; null if one of them is, except for
/// IS DISTINCT FROM.
pub fn compare(operator: Operator, left: &Operand<'_>, right: &Operand<'_>, rows: usize) -> Column {
    if operator == Operator::DistinctFrom {
        return Column::new(
            Values::Bool((0..rows).map(|row| distinct(left, right, row)).collect()),
            None,
        );
    }
    if let (Operand::Column(column), Operand::Scalar(Value::Float(limit))) = (left, right)
        && let Values::Float(values) = column.values()
    {
        let results = values
            .iter()
            .map(|value| holds(operator, value.partial_cmp(limit)))
            .collect();
        return Column::new(Values::Bool(results), column.validity().cloned());
    }
    let data_type = match left.data_type() {
        DataType::Null => right.data_type(),
        other => other,
    };
    Column::from_optional_bools((0..rows).map(|row| {
        if left.is_null(row) || right.is_null(row) {
            return None;
        }
        Some(holds(operator, order(data_type, left, right, row)))
    }))
}

#[inline]
fn holds(operator: Operator, order: Option<Ordering>) -> bool {
    let Some(order) = order else {
        return false;
    };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn order(
    data_type: DataType,
    left: &Operand<'_>,
    right: &Operand<'_>,
    row: usize,
) -> Option<Ordering> {
    match data_type {
        DataType::Float => left.float(row)?.partial_cmp(&right.float(row)?),
        DataType::Text => Some(left.text(row)?.cmp(right.text(row)?)),
        DataType::Bool => Some(left.bool(row)?.cmp(&right.bool(row)?)),
        _ => Some(left.int(row)?.cmp(&right.int(row)?)),
    }
}

fn distinct(left: &Operand<'_>, right: &Operand<'_>, row: usize) -> bool {
    match (left.is_null(row), right.is_null(row)) {
        (true, true) => false,
        (false, false) => order(left.data_type(), left, right, row) != Some(Ordering::Equal),
        _ => true,
    }
}
