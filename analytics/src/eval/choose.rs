//! CASE.

use super::Operand;
use crate::column::{Column, Values};
use crate::value::{DataType, Value};

/// The result of the first branch whose condition is true.
pub fn case(
    branches: &[(Operand<'_>, Operand<'_>)],
    otherwise: Option<&Operand<'_>>,
    data_type: DataType,
    rows: usize,
) -> Column {
    let pick = |row: usize| {
        branches
            .iter()
            .find(|(condition, _)| condition.bool(row) == Some(true))
            .map(|(_, result)| result)
            .or(otherwise)
    };
    match data_type {
        DataType::Null => Column::nulls(rows),
        DataType::Float => Column::from_optional_floats((0..rows).map(|row| pick(row)?.float(row))),
        DataType::Bool => Column::from_optional_bools((0..rows).map(|row| pick(row)?.bool(row))),
        DataType::Text => Column::from_optional_texts((0..rows).map(|row| pick(row)?.text(row))),
        DataType::Int | DataType::Timestamp | DataType::Interval => {
            Column::from_optional_ints((0..rows).map(|row| pick(row)?.int(row))).retyped(data_type)
        }
        DataType::Waveform => Column::from_optional_waveforms((0..rows).map(|row| {
            let value = match pick(row)? {
                Operand::Column(column) if column.is_valid(row) => match column.values() {
                    Values::Waveform(values) => values[row].clone(),
                    _ => return None,
                },
                Operand::Scalar(Value::Waveform(waveform)) => waveform.clone(),
                _ => return None,
            };
            Some(value)
        })),
    }
}
