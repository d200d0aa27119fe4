//! Types of operators and conversions.

use super::ExprBinder;
use crate::plan::Expr;
use crate::syntax::{self, Operator, Position, SqlError};
use crate::value::DataType;

impl ExprBinder<'_, '_> {
    pub(super) fn binary(
        &mut self,
        operator: Operator,
        left: &syntax::Expr,
        right: &syntax::Expr,
        at: Position,
    ) -> Result<Expr, SqlError> {
        if matches!(operator, Operator::And | Operator::Or) {
            let left = self.condition(left)?;
            let right = self.condition(right)?;
            return Ok(Expr::Binary(
                operator,
                Box::new(left),
                Box::new(right),
                DataType::Bool,
            ));
        }
        let left = self.bind(left)?;
        let right = self.bind(right)?;
        let (left, right, data_type) = unify(operator, left, right, at)?;
        Ok(Expr::Binary(
            operator,
            Box::new(left),
            Box::new(right),
            data_type,
        ))
    }
}

/// Converts the operands to what the operator works on, and names the result.
fn unify(
    operator: Operator,
    left: Expr,
    right: Expr,
    at: Position,
) -> Result<(Expr, Expr, DataType), SqlError> {
    use DataType::{Bool, Float, Int, Interval, Null, Text, Timestamp};
    let types = (left.data_type(), right.data_type());
    let fault = || {
        let advice = if types.0 == Text || types.1 == Text {
            "; use CAST if the text holds a number"
        } else {
            ""
        };
        SqlError::new(
            at,
            format!(
                "`{}` cannot be used with {} and {}{advice}",
                operator.symbol(),
                types.0,
                types.1
            ),
        )
    };
    let both = |to: DataType, result: DataType| {
        Ok((left.clone().cast_to(to), right.clone().cast_to(to), result))
    };
    if operator.is_comparison() {
        return match types {
            (Null, Null) => both(Bool, Bool),
            (Null, other) | (other, Null) => both(other, Bool),
            (left, right) if left == right && left != DataType::Waveform => both(left, Bool),
            (Int | Float, Int | Float) => both(Float, Bool),
            // `event_time > '2026-01-01'`.
            (Timestamp, Text | Int) | (Text | Int, Timestamp) => both(Timestamp, Bool),
            _ => Err(fault()),
        };
    }
    match (operator, types) {
        (Operator::Concat, (left, right)) if can_cast(left, Text) && can_cast(right, Text) => {
            both(Text, Text)
        }
        (Operator::Concat, _) => Err(fault()),
        (Operator::Divide, (Interval, Interval)) => both(Interval, Float),
        (Operator::Divide | Operator::Multiply, (Interval, Int | Float)) => {
            Ok((left, right.cast_to(Float), Interval))
        }
        (Operator::Multiply, (Int | Float, Interval)) => Ok((right, left.cast_to(Float), Interval)),
        (Operator::Divide, (Int | Float | Null, Int | Float | Null)) => both(Float, Float),
        (Operator::Subtract, (Timestamp, Timestamp)) => both(Timestamp, Interval),
        (Operator::Add | Operator::Subtract, (Timestamp, Interval)) => Ok((left, right, Timestamp)),
        (Operator::Add, (Interval, Timestamp)) => Ok((right, left, Timestamp)),
        (Operator::Add | Operator::Subtract | Operator::Modulo, (Interval, Interval)) => {
            both(Interval, Interval)
        }
        (_, (Int, Int)) => both(Int, Int),
        (_, (Int | Float | Null, Int | Float | Null)) => both(Float, Float),
        _ => Err(fault()),
    }
}

/// Converts results of CASE and the like to one type.
pub fn alike(results: Vec<(Expr, Position)>) -> Result<(Vec<Expr>, DataType), SqlError> {
    let mut common = DataType::Null;
    for (result, at) in &results {
        let found = result.data_type();
        common = match (common, found) {
            (DataType::Null, found) => found,
            (common, DataType::Null) => common,
            (common, found) if common == found => common,
            (common, found) if common.is_number() && found.is_number() => DataType::Float,
            (common, found) => {
                return Err(SqlError::new(
                    *at,
                    format!("expected {common} as in the results before, found {found}"),
                ));
            }
        };
    }
    let results = results
        .into_iter()
        .map(|(result, _)| result.cast_to(common))
        .collect();
    Ok((results, common))
}

/// Which conversions exist.
pub fn can_cast(from: DataType, to: DataType) -> bool {
    use DataType::{Bool, Float, Int, Interval, Null, Text, Timestamp, Waveform};
    if from == to || from == Null {
        return true;
    }
    match to {
        Null | Waveform => false,
        Text => from != Waveform,
        Int => matches!(from, Float | Text | Bool | Timestamp | Interval),
        Float => matches!(from, Int | Text | Bool | Timestamp | Interval),
        Bool => matches!(from, Int | Float | Text),
        Timestamp => matches!(from, Int | Float | Text),
        Interval => matches!(from, Int | Text),
    }
}
