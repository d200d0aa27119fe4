//! Values: what registers and bits mean, in both directions.
//!
//! A register is 16 bits and nothing else (*App* section 4.3). Which type it
//! holds, how many registers a number takes and in which order, is an agreement
//! with the maker of the device, written down here as an [`Encoding`].

mod half;
mod number;

use std::fmt;

/// The type of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A coil or a discrete input.
    Bool,
    /// One bit of a register, 0 the lowest. The byte order does not move it.
    Bit(u8),
    /// The high byte of a register, signed. The byte order does not move it.
    Int8High,
    /// The low byte of a register, signed.
    Int8Low,
    /// The high byte of a register.
    Uint8High,
    /// The low byte of a register.
    Uint8Low,
    /// One register, signed.
    Int16,
    /// One register.
    Uint16,
    /// Two registers, signed.
    Int32,
    /// Two registers.
    Uint32,
    /// Four registers, signed.
    Int64,
    /// Four registers.
    Uint64,
    /// One register, IEEE 754 binary16.
    Float16,
    /// Two registers, IEEE 754 binary32.
    Float32,
    /// Four registers, IEEE 754 binary64.
    Float64,
    /// Text in so many registers, two characters in each, up to the first NUL.
    Text(u16),
}

/// The order of bytes and registers, named by where the bytes of the number
/// `ABCD`, A the highest, lie one behind the other on the wire.
///
/// | | 16 bits | 32 bits | 64 bits | text |
/// |---|---|---|---|---|
/// | `ABCD` | AB | AB CD | AB CD EF GH | first character high |
/// | `CDAB` | AB | CD AB | GH EF CD AB | first character high |
/// | `BADC` | BA | BA DC | BA DC FE HG | first character low |
/// | `DCBA` | BA | DC BA | HG FE DC BA | first character low |
///
/// `CDAB` and `DCBA` put the lowest register first, `BADC` and `DCBA` swap the
/// bytes within each register. The registers of a text stay in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// Big-endian, as the specification stores a register.
    #[default]
    Abcd,
    /// Little-endian throughout.
    Dcba,
    /// Big-endian registers with swapped bytes.
    Badc,
    /// Lowest register first.
    Cdab,
}

/// A value of a tag.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A bit.
    Bool(bool),
    /// A signed whole number.
    Signed(i64),
    /// A whole number.
    Unsigned(u64),
    /// A number with a fraction, or one that was scaled. May be infinite or
    /// not a number when the device says so.
    Float(f64),
    /// A text.
    Text(Box<str>),
}

/// How a tag lies in its registers. The value is `raw * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encoding {
    /// The type.
    pub kind: DataType,
    /// The order of bytes and registers.
    pub order: ByteOrder,
    /// What the raw number is multiplied with; finite and not 0.
    pub scale: f64,
    /// What is added then; finite.
    pub offset: f64,
}

/// What a write puts into the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A coil.
    Coil(bool),
    /// Whole registers.
    Registers(Vec<u16>),
    /// Some bits of one register: those that stay, and what the others become.
    Bits {
        /// Bits that stay.
        and: u16,
        /// The others.
        or: u16,
    },
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value has another kind than the tag.
    #[error("{value} for a tag of type {kind}, expected {expected}")]
    Kind {
        /// The value.
        value: String,
        /// The type of the tag.
        kind: DataType,
        /// The kind that fits.
        expected: &'static str,
    },
    /// The number does not fit into the registers.
    #[error("{value} does not fit into {kind}")]
    Range {
        /// The value before it was scaled.
        value: String,
        /// The type of the tag.
        kind: DataType,
    },
    /// The text is longer than its registers.
    #[error("a text of {size} bytes for {kind}, expected at most {max}")]
    TextSize {
        /// Bytes of the text.
        size: usize,
        /// The type of the tag.
        kind: DataType,
        /// Bytes of the registers.
        max: usize,
    },
}

impl DataType {
    /// The types that are named by a word alone.
    const NAMED: [(&'static str, Self); 15] = [
        ("BOOL", Self::Bool),
        ("INT8H", Self::Int8High),
        ("INT8L", Self::Int8Low),
        ("UINT8H", Self::Uint8High),
        ("UINT8L", Self::Uint8Low),
        ("INT16", Self::Int16),
        ("UINT16", Self::Uint16),
        ("INT32", Self::Int32),
        ("UINT32", Self::Uint32),
        ("INT64", Self::Int64),
        ("UINT64", Self::Uint64),
        ("FLOAT16", Self::Float16),
        ("FLOAT32", Self::Float32),
        ("FLOAT64", Self::Float64),
        ("BIT", Self::Bit(0)),
    ];

    /// The numeric types of the configuration, for a reader who looks for the
    /// right one.
    pub const NUMBERS: [Self; 13] = [
        Self::Int8High,
        Self::Int8Low,
        Self::Uint8High,
        Self::Uint8Low,
        Self::Int16,
        Self::Uint16,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::Float16,
        Self::Float32,
        Self::Float64,
    ];

    /// The type of a word of the configuration. `BIT` is bit 0; `STRING` needs
    /// a length and is none of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(word, _)| *word == name);
        named.map(|(_, kind)| *kind)
    }

    /// Registers that the type takes; 1 for a bit of a bit table.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::Int32 | Self::Uint32 | Self::Float32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 => 4,
            Self::Text(registers) => registers,
            _ => 1,
        }
    }

    /// Whether a scale makes sense.
    #[must_use]
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Bit(_) | Self::Text(_))
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(registers) => write!(f, "STRING({registers})"),
            Self::Bit(bit) => write!(f, "BIT({bit})"),
            other => {
                let named = Self::NAMED.iter().find(|(_, kind)| kind == other);
                f.write_str(named.map_or("?", |(word, _)| word))
            }
        }
    }
}

impl ByteOrder {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Abcd, Self::Dcba, Self::Badc, Self::Cdab];

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Dcba => "DCBA",
            Self::Badc => "BADC",
            Self::Cdab => "CDAB",
        }
    }

    /// The order of a word of the configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }

    /// Whether the bytes within a register are swapped.
    const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    /// Whether the lowest register comes first.
    const fn swaps_registers(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }
}

impl Encoding {
    /// A type in the order of the specification, as it is.
    #[must_use]
    pub const fn plain(kind: DataType) -> Self {
        Self {
            kind,
            order: ByteOrder::Abcd,
            scale: 1.0,
            offset: 0.0,
        }
    }

    /// Reads the value from its registers, two bytes each as on the wire.
    /// `None` when there are not as many as the type takes.
    #[must_use]
    pub fn decode(&self, data: &[u8]) -> Option<Value> {
        let size = usize::from(self.kind.registers()) * 2;
        let data = data.get(..size)?;
        Some(match self.kind {
            DataType::Bool => Value::Bool(data.iter().any(|byte| *byte != 0)),
            DataType::Bit(bit) => {
                let word = u16::from_be_bytes([data[0], data[1]]);
                Value::Bool(word >> (bit & 15) & 1 == 1)
            }
            DataType::Text(_) => Value::Text(self.text(data)),
            _ => self.scaled(self.raw(data)),
        })
    }

    /// What a write of `value` stores.
    ///
    /// # Errors
    /// The value has the wrong kind or does not fit.
    pub fn encode(&self, value: &Value) -> Result<Stored, EncodeError> {
        match self.kind {
            DataType::Bool => Ok(Stored::Coil(self.flag(value)?)),
            DataType::Bit(bit) => {
                let mask = 1 << (bit & 15);
                let or = if self.flag(value)? { mask } else { 0 };
                Ok(Stored::Bits { and: !mask, or })
            }
            DataType::Text(registers) => self.text_registers(value, registers),
            DataType::Int8High | DataType::Uint8High => {
                let [.., byte] = self.stored(value)?;
                Ok(Stored::Bits {
                    and: 0x00FF,
                    or: u16::from(byte) << 8,
                })
            }
            DataType::Int8Low | DataType::Uint8Low => {
                let [.., byte] = self.stored(value)?;
                Ok(Stored::Bits {
                    and: 0xFF00,
                    or: u16::from(byte),
                })
            }
            _ => {
                let bytes = self.stored(value)?;
                let start = 8 - usize::from(self.kind.registers()) * 2;
                let mut words: Vec<u16> = bytes[start..]
                    .chunks_exact(2)
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .collect();
                self.arrange(&mut words);
                Ok(Stored::Registers(words))
            }
        }
    }

    /// Brings registers from the order of the specification into this one, or
    /// back: both swaps undo themselves.
    fn arrange(&self, words: &mut [u16]) {
        if self.order.swaps_registers() {
            words.reverse();
        }
        if self.order.swaps_bytes() {
            for word in words {
                *word = word.swap_bytes();
            }
        }
    }

    fn text(&self, data: &[u8]) -> Box<str> {
        let mut bytes = data.to_vec();
        if self.order.swaps_bytes() {
            for pair in bytes.chunks_exact_mut(2) {
                pair.swap(0, 1);
            }
        }
        let end = bytes.iter().position(|byte| *byte == 0);
        bytes.truncate(end.unwrap_or(bytes.len()));
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // Devices that do not write UTF-8 write Latin-1, whose bytes are
            // the first 256 code points.
            Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
        };
        text.trim_end_matches(' ').into()
    }

    fn text_registers(&self, value: &Value, registers: u16) -> Result<Stored, EncodeError> {
        let Value::Text(text) = value else {
            return Err(self.wrong_kind(value, "a text"));
        };
        let max = usize::from(registers) * 2;
        if text.len() > max {
            return Err(EncodeError::TextSize {
                size: text.len(),
                kind: self.kind,
                max,
            });
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(max, 0);
        let words = bytes.chunks_exact(2).map(|pair| {
            let word = u16::from_be_bytes([pair[0], pair[1]]);
            if self.order.swaps_bytes() {
                word.swap_bytes()
            } else {
                word
            }
        });
        Ok(Stored::Registers(words.collect()))
    }

    fn flag(&self, value: &Value) -> Result<bool, EncodeError> {
        match value {
            Value::Bool(on) => Ok(*on),
            _ => Err(self.wrong_kind(value, "true or false")),
        }
    }

    fn wrong_kind(&self, value: &Value, expected: &'static str) -> EncodeError {
        EncodeError::Kind {
            value: value.to_string(),
            kind: self.kind,
            expected,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(on) => on.fmt(f),
            Self::Signed(number) => number.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
