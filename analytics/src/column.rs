//! Typed columns.
//!
//! A column is a vector of one type and a validity bitmap; a row whose bit is
//! clear is null and its place in the vector holds any value. Two invariants
//! keep NaN out of every aggregate: a valid double is finite, and so is each
//! sample of a valid waveform. Whoever produces a column turns what is not
//! finite into null ([`Column::from_floats`] does it).

mod bitmap;
mod dictionary;

pub use bitmap::Bitmap;
pub use dictionary::Dictionary;

use std::sync::Arc;

use crate::value::{DataType, Value, Waveform};

/// The values of a column, one entry per row.
#[derive(Debug, Clone)]
pub enum Values {
    /// Every row is null; the number of rows.
    Null(usize),
    /// [`DataType::Bool`].
    Bool(Vec<bool>),
    /// [`DataType::Int`].
    Int(Vec<i64>),
    /// [`DataType::Float`].
    Float(Vec<f64>),
    /// [`DataType::Text`]: a place in the dictionary per row.
    Text {
        /// Places in `words`.
        ids: Vec<u32>,
        /// The different texts, shared between batches.
        words: Arc<Dictionary>,
    },
    /// [`DataType::Timestamp`], milliseconds since the Unix epoch.
    Timestamp(Vec<i64>),
    /// [`DataType::Interval`], milliseconds.
    Interval(Vec<i64>),
    /// [`DataType::Waveform`].
    Waveform(Vec<Waveform>),
}

/// One column of a batch.
#[derive(Debug, Clone)]
pub struct Column {
    values: Values,
    /// None means that every row is valid.
    validity: Option<Bitmap>,
}

impl Column {
    /// A column of values and their validity; `None` means all valid.
    ///
    /// # Panics
    /// If the bitmap and the values differ in length.
    pub fn new(values: Values, validity: Option<Bitmap>) -> Self {
        let column = Self { values, validity };
        if let Some(validity) = &column.validity {
            assert_eq!(
                validity.len(),
                column.len(),
                "a validity bitmap has one bit per row"
            );
        }
        column
    }

    /// `rows` nulls of the null type.
    pub fn nulls(rows: usize) -> Self {
        Self::new(Values::Null(rows), None)
    }

    /// Doubles; what is not finite becomes null.
    pub fn from_floats(mut numbers: Vec<f64>, validity: Option<Bitmap>) -> Self {
        // Without an early exit the loop vectorises.
        let finite = numbers.iter().fold(true, |all, x| all & x.is_finite());
        if finite {
            return Self::new(Values::Float(numbers), validity);
        }
        let mut validity = validity.unwrap_or_else(|| Bitmap::all(numbers.len()));
        for (row, number) in numbers.iter_mut().enumerate() {
            if !number.is_finite() {
                *number = 0.0;
                validity.clear(row);
            }
        }
        Self::new(Values::Float(numbers), Some(validity))
    }

    /// Doubles that may be absent; what is not finite becomes null.
    pub fn from_optional_floats(numbers: impl Iterator<Item = Option<f64>>) -> Self {
        Self::from_floats(numbers.map(|x| x.unwrap_or(f64::NAN)).collect(), None)
    }

    /// Integers that may be absent.
    pub fn from_optional_ints(numbers: impl Iterator<Item = Option<i64>>) -> Self {
        let mut validity = Bitmap::default();
        let numbers = numbers
            .map(|x| {
                validity.push(x.is_some());
                x.unwrap_or(0)
            })
            .collect();
        Self::new(Values::Int(numbers), validity.into_option())
    }

    /// Booleans that may be absent.
    pub fn from_optional_bools(values: impl Iterator<Item = Option<bool>>) -> Self {
        let mut validity = Bitmap::default();
        let values = values
            .map(|x| {
                validity.push(x.is_some());
                x.unwrap_or(false)
            })
            .collect();
        Self::new(Values::Bool(values), validity.into_option())
    }

    /// Waveforms that may be absent. A waveform with a sample that is not finite
    /// becomes null.
    pub fn from_optional_waveforms(values: impl Iterator<Item = Option<Waveform>>) -> Self {
        let mut validity = Bitmap::default();
        let empty = Waveform::new(Vec::new());
        let values = values
            .map(|x| {
                let x = x.filter(|x| x.samples().iter().all(|x| x.is_finite()));
                validity.push(x.is_some());
                x.unwrap_or_else(|| empty.clone())
            })
            .collect();
        Self::new(Values::Waveform(values), validity.into_option())
    }

    /// Texts that may be absent, with a dictionary of their own.
    pub fn from_optional_texts<T: AsRef<str>>(texts: impl Iterator<Item = Option<T>>) -> Self {
        let mut validity = Bitmap::default();
        let mut words = Dictionary::new();
        let ids = texts
            .map(|text| {
                validity.push(text.is_some());
                text.map_or(0, |text| words.intern(text.as_ref()))
            })
            .collect();
        let words = Arc::new(words);
        Self::new(Values::Text { ids, words }, validity.into_option())
    }

    /// A column of `data_type` from single values; a value of another type
    /// becomes null.
    pub fn from_values<'a>(
        data_type: DataType,
        values: impl ExactSizeIterator<Item = &'a Value>,
    ) -> Self {
        match data_type {
            DataType::Null => Self::nulls(values.len()),
            DataType::Bool => Self::from_optional_bools(values.map(|value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            })),
            DataType::Float => Self::from_optional_floats(values.map(Value::as_f64)),
            DataType::Text => Self::from_optional_texts(values.map(Value::as_str)),
            DataType::Waveform => Self::from_optional_waveforms(values.map(|value| match value {
                Value::Waveform(waveform) => Some(waveform.clone()),
                _ => None,
            })),
            DataType::Int | DataType::Timestamp | DataType::Interval => {
                Self::from_optional_ints(values.map(Value::as_i64)).retyped(data_type)
            }
        }
    }

    /// `rows` times the same value.
    pub fn repeat(value: &Value, rows: usize) -> Self {
        match value {
            Value::Null => Self::nulls(rows),
            Value::Bool(value) => Self::new(Values::Bool(vec![*value; rows]), None),
            Value::Int(number) => Self::new(Values::Int(vec![*number; rows]), None),
            Value::Float(number) => Self::from_floats(vec![*number; rows], None),
            Value::Timestamp(ms) => Self::new(Values::Timestamp(vec![*ms; rows]), None),
            Value::Interval(ms) => Self::new(Values::Interval(vec![*ms; rows]), None),
            Value::Waveform(waveform) => {
                Self::new(Values::Waveform(vec![waveform.clone(); rows]), None)
            }
            Value::Text(text) => {
                let mut words = Dictionary::new();
                let id = words.intern(text);
                let words = Arc::new(words);
                let ids = vec![id; rows];
                Self::new(Values::Text { ids, words }, None)
            }
        }
    }

    /// The same 64-bit numbers under another of the integer-like types. Other
    /// columns and types are returned as they are.
    pub fn retyped(self, data_type: DataType) -> Self {
        let values = match (self.values, data_type) {
            (
                Values::Int(numbers) | Values::Timestamp(numbers) | Values::Interval(numbers),
                DataType::Int | DataType::Timestamp | DataType::Interval,
            ) => match data_type {
                DataType::Timestamp => Values::Timestamp(numbers),
                DataType::Interval => Values::Interval(numbers),
                _ => Values::Int(numbers),
            },
            (values, _) => values,
        };
        Self {
            values,
            validity: self.validity,
        }
    }

    /// The values; a null row holds any value.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Which rows are valid; `None` means all (except in [`Values::Null`]).
    pub fn validity(&self) -> Option<&Bitmap> {
        self.validity.as_ref()
    }

    /// Takes the column apart.
    pub fn into_parts(self) -> (Values, Option<Bitmap>) {
        (self.values, self.validity)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Null(rows) => *rows,
            Values::Bool(values) => values.len(),
            Values::Int(values) | Values::Timestamp(values) | Values::Interval(values) => {
                values.len()
            }
            Values::Float(values) => values.len(),
            Values::Text { ids, .. } => ids.len(),
            Values::Waveform(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the column.
    pub fn data_type(&self) -> DataType {
        match &self.values {
            Values::Null(_) => DataType::Null,
            Values::Bool(_) => DataType::Bool,
            Values::Int(_) => DataType::Int,
            Values::Float(_) => DataType::Float,
            Values::Text { .. } => DataType::Text,
            Values::Timestamp(_) => DataType::Timestamp,
            Values::Interval(_) => DataType::Interval,
            Values::Waveform(_) => DataType::Waveform,
        }
    }

    /// Whether the row is not null.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        match &self.validity {
            Some(validity) => validity.is_set(row),
            None => !matches!(self.values, Values::Null(_)),
        }
    }

    /// The row as a double if it is a valid number.
    #[inline]
    pub fn float(&self, row: usize) -> Option<f64> {
        if !self.is_valid(row) {
            return None;
        }
        match &self.values {
            Values::Float(values) => Some(values[row]),
            Values::Int(values) => Some(values[row] as f64),
            _ => None,
        }
    }

    /// The row as an integer if it is a valid integer, timestamp or interval.
    #[inline]
    pub fn int(&self, row: usize) -> Option<i64> {
        if !self.is_valid(row) {
            return None;
        }
        match &self.values {
            Values::Int(values) | Values::Timestamp(values) | Values::Interval(values) => {
                Some(values[row])
            }
            _ => None,
        }
    }

    /// The row as a boolean if it is a valid one.
    #[inline]
    pub fn bool(&self, row: usize) -> Option<bool> {
        match &self.values {
            Values::Bool(values) if self.is_valid(row) => Some(values[row]),
            _ => None,
        }
    }

    /// The row as text if it is a valid one.
    #[inline]
    pub fn text(&self, row: usize) -> Option<&str> {
        match &self.values {
            Values::Text { ids, words } if self.is_valid(row) => Some(words.word(ids[row])),
            _ => None,
        }
    }

    /// The samples of the row if it is a valid waveform.
    #[inline]
    pub fn samples(&self, row: usize) -> Option<&[f64]> {
        match &self.values {
            Values::Waveform(values) if self.is_valid(row) => Some(values[row].samples()),
            _ => None,
        }
    }

    /// The row as a value of its own.
    pub fn value(&self, row: usize) -> Value {
        if !self.is_valid(row) {
            return Value::Null;
        }
        match &self.values {
            Values::Null(_) => Value::Null,
            Values::Bool(values) => Value::Bool(values[row]),
            Values::Int(values) => Value::Int(values[row]),
            Values::Float(values) => Value::Float(values[row]),
            Values::Text { ids, words } => Value::text(words.word(ids[row])),
            Values::Timestamp(values) => Value::Timestamp(values[row]),
            Values::Interval(values) => Value::Interval(values[row]),
            Values::Waveform(values) => Value::Waveform(values[row].clone()),
        }
    }

    /// The rows at `rows`, in that order.
    pub fn take(&self, rows: &[u32]) -> Self {
        fn pick<T: Clone>(values: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter()
                .map(|row| values[*row as usize].clone())
                .collect()
        }
        let values = match &self.values {
            Values::Null(_) => Values::Null(rows.len()),
            Values::Bool(values) => Values::Bool(pick(values, rows)),
            Values::Int(values) => Values::Int(pick(values, rows)),
            Values::Float(values) => Values::Float(pick(values, rows)),
            Values::Text { ids, words } => Values::Text {
                ids: pick(ids, rows),
                words: Arc::clone(words),
            },
            Values::Timestamp(values) => Values::Timestamp(pick(values, rows)),
            Values::Interval(values) => Values::Interval(pick(values, rows)),
            Values::Waveform(values) => Values::Waveform(pick(values, rows)),
        };
        let validity = self.validity.as_ref().and_then(|validity| {
            let mut taken = Bitmap::default();
            for row in rows {
                taken.push(validity.is_set(*row as usize));
            }
            taken.into_option()
        });
        Self { values, validity }
    }
}
