//! One value and its type.

use std::fmt;
use std::sync::Arc;

use crate::state::{Decoder, Encoder, StateError};

/// The type of a column or an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// The type of a bare NULL; it fits every other type.
    Null,
    /// True or false.
    Bool,
    /// Signed 64-bit integer.
    Int,
    /// IEEE 754 double. A valid value is always finite, see [`crate::column`].
    Float,
    /// UTF-8 text.
    Text,
    /// Milliseconds since the Unix epoch.
    Timestamp,
    /// A span of time in milliseconds.
    Interval,
    /// Samples of one recording: a list of finite doubles.
    Waveform,
}

impl DataType {
    /// The name that error messages and `forebay functions` print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Int => "bigint",
            Self::Float => "double",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
            Self::Interval => "interval",
            Self::Waveform => "waveform",
        }
    }

    /// Whether arithmetic and numeric aggregates accept the type.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Float)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A piece of a shared sample buffer. Cloning copies no samples.
#[derive(Clone)]
pub struct Waveform {
    buffer: Arc<[f64]>,
    start: u32,
    length: u32,
}

impl Waveform {
    /// Takes ownership of samples. The caller has checked that all are finite.
    pub fn new(samples: Vec<f64>) -> Self {
        let length = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        Self {
            buffer: samples.into(),
            start: 0,
            length,
        }
    }

    /// The samples in the order of recording.
    pub fn samples(&self) -> &[f64] {
        &self.buffer[self.start as usize..(self.start + self.length) as usize]
    }

    /// A part of this recording that shares its buffer; ends are clamped.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let to = to.min(self.length as usize);
        let from = from.min(to);
        Self {
            buffer: Arc::clone(&self.buffer),
            start: self.start + from as u32,
            length: (to - from) as u32,
        }
    }
}

impl fmt::Debug for Waveform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waveform({} samples)", self.length)
    }
}

impl PartialEq for Waveform {
    fn eq(&self, other: &Self) -> bool {
        self.samples() == other.samples()
    }
}

/// One value of any type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unknown or absent.
    Null,
    /// A [`DataType::Bool`].
    Bool(bool),
    /// A [`DataType::Int`].
    Int(i64),
    /// A [`DataType::Float`]; finite.
    Float(f64),
    /// A [`DataType::Text`].
    Text(Arc<str>),
    /// A [`DataType::Timestamp`], milliseconds since the Unix epoch.
    Timestamp(i64),
    /// A [`DataType::Interval`], milliseconds.
    Interval(i64),
    /// A [`DataType::Waveform`].
    Waveform(Waveform),
}

impl Value {
    /// A text value.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// The double, or null if it is not finite.
    pub fn float(number: f64) -> Self {
        if number.is_finite() {
            Self::Float(number)
        } else {
            Self::Null
        }
    }

    /// The type of this value.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool(_) => DataType::Bool,
            Self::Int(_) => DataType::Int,
            Self::Float(_) => DataType::Float,
            Self::Text(_) => DataType::Text,
            Self::Timestamp(_) => DataType::Timestamp,
            Self::Interval(_) => DataType::Interval,
            Self::Waveform(_) => DataType::Waveform,
        }
    }

    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The value as a double if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The value as an integer if it is one, a timestamp or an interval.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) | Self::Timestamp(number) | Self::Interval(number) => Some(*number),
            _ => None,
        }
    }

    /// The text if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes that the value occupies beyond its own size.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 16,
            Self::Waveform(waveform) => waveform.samples().len() * 8 + 16,
            _ => 0,
        }
    }

    /// Appends the value to encoded state.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Null => out.put_u8(0),
            Self::Bool(value) => {
                out.put_u8(1);
                out.put_bool(*value);
            }
            Self::Int(number) => {
                out.put_u8(2);
                out.put_i64(*number);
            }
            Self::Float(number) => {
                out.put_u8(3);
                out.put_f64(*number);
            }
            Self::Text(text) => {
                out.put_u8(4);
                out.put_str(text);
            }
            Self::Timestamp(ms) => {
                out.put_u8(5);
                out.put_i64(*ms);
            }
            Self::Interval(ms) => {
                out.put_u8(6);
                out.put_i64(*ms);
            }
            Self::Waveform(waveform) => {
                out.put_u8(7);
                out.put_f64s(waveform.samples());
            }
        }
    }

    /// Reads what [`Value::encode`] wrote.
    ///
    /// # Errors
    /// [`StateError`] if the bytes end early or hold an unknown type.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(match input.take_u8()? {
            0 => Self::Null,
            1 => Self::Bool(input.take_bool()?),
            2 => Self::Int(input.take_i64()?),
            3 => Self::Float(input.take_f64()?),
            4 => Self::Text(input.take_str()?.into()),
            5 => Self::Timestamp(input.take_i64()?),
            6 => Self::Interval(input.take_i64()?),
            7 => Self::Waveform(Waveform::new(input.take_f64s()?)),
            other => {
                return Err(StateError::Invalid {
                    what: "value type",
                    found: u64::from(other),
                });
            }
        })
    }
}
