//! The data types of metrics (section 6.4.16) and their values.

use thiserror::Error;

use crate::payload::{DataSet, RawValue};

/// Most elements of an array, as many as metrics of a payload. Packed booleans
/// would otherwise make a megabyte into eight million values.
pub const ELEMENTS_MAX: usize = crate::decode::METRICS_MAX;

/// The type of a metric, with the specification's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum DataType {
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
    UInt16 = 6,
    UInt32 = 7,
    UInt64 = 8,
    Float = 9,
    Double = 10,
    Boolean = 11,
    String = 12,
    DateTime = 13,
    Text = 14,
    Uuid = 15,
    DataSet = 16,
    Bytes = 17,
    File = 18,
    Template = 19,
    PropertySet = 20,
    PropertySetList = 21,
    Int8Array = 22,
    Int16Array = 23,
    Int32Array = 24,
    Int64Array = 25,
    UInt8Array = 26,
    UInt16Array = 27,
    UInt32Array = 28,
    UInt64Array = 29,
    FloatArray = 30,
    DoubleArray = 31,
    BooleanArray = 32,
    StringArray = 33,
    DateTimeArray = 34,
}

/// All types in the order of their numbers, from 1 on.
const TYPES: [DataType; 34] = {
    use DataType::*;
    [
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float,
        Double,
        Boolean,
        String,
        DateTime,
        Text,
        Uuid,
        DataSet,
        Bytes,
        File,
        Template,
        PropertySet,
        PropertySetList,
        Int8Array,
        Int16Array,
        Int32Array,
        Int64Array,
        UInt8Array,
        UInt16Array,
        UInt32Array,
        UInt64Array,
        FloatArray,
        DoubleArray,
        BooleanArray,
        StringArray,
        DateTimeArray,
    ]
};

impl DataType {
    /// The type of a number.
    pub fn from_number(number: u32) -> Option<Self> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        TYPES.get(index).copied()
    }
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Boolean(bool),
    /// Int8 to Int64.
    Signed(i64),
    /// UInt8 to UInt64; a DateTime in milliseconds since the Unix epoch.
    Unsigned(u64),
    /// A single.
    Float(f32),
    /// A double.
    Double(f64),
    /// String, Text or UUID.
    Text(String),
    /// Bytes or a file.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Value>),
    /// A data set.
    Table {
        /// Names of the columns.
        columns: Vec<String>,
        /// The rows, each as long as `columns`.
        rows: Vec<Vec<Value>>,
    },
}

/// Why a value does not fit its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// The type's number is none of the specification's.
    #[error("data type {number}, expected 1 to 34")]
    Type {
        /// The number.
        number: u32,
    },
    /// The value is in a field that the type does not use.
    #[error("value of type {datatype:?} is in the field of another type")]
    Carrier {
        /// The type.
        datatype: DataType,
    },
    /// The number is out of the type's range.
    #[error("value {bits:#x} is out of the range of {datatype:?}")]
    Range {
        /// The type.
        datatype: DataType,
        /// The bits.
        bits: u64,
    },
    /// The bytes are no array of the type.
    #[error("{length} bytes are no {datatype:?}")]
    Array {
        /// The type.
        datatype: DataType,
        /// How many bytes there are.
        length: usize,
    },
    /// A data set's rows do not fit its columns.
    #[error("data set row has {cells} cells, expected {columns}")]
    Row {
        /// Cells of the row.
        cells: usize,
        /// Columns of the set.
        columns: usize,
    },
    /// The value is an extension of a third party, a template or a property.
    #[error("value has no plain form")]
    Unsupported,
}

impl Value {
    /// The value that a field has by its type. Without a type, which only a
    /// faulty birth has, the field's own type counts.
    ///
    /// # Errors
    /// When the value does not fit the type.
    pub fn new(raw: &RawValue<'_>, datatype: Option<u32>) -> Result<Self, ValueError> {
        match datatype.filter(|number| *number != 0) {
            None => Self::untyped(raw),
            Some(number) => {
                let datatype = DataType::from_number(number).ok_or(ValueError::Type { number })?;
                Self::typed(raw, datatype)
            }
        }
    }

    fn untyped(raw: &RawValue<'_>) -> Result<Self, ValueError> {
        Ok(match raw {
            RawValue::Int(bits) => Self::Unsigned(u64::from(*bits)),
            RawValue::Long(bits) => Self::Unsigned(*bits),
            RawValue::Float(float) => Self::Float(*float),
            RawValue::Double(double) => Self::Double(*double),
            RawValue::Boolean(boolean) => Self::Boolean(*boolean),
            RawValue::String(text) => Self::Text((*text).to_owned()),
            RawValue::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            RawValue::DataSet(set) => table(set)?,
            RawValue::Template(_) | RawValue::Extension => return Err(ValueError::Unsupported),
        })
    }

    fn typed(raw: &RawValue<'_>, datatype: DataType) -> Result<Self, ValueError> {
        use DataType as T;
        match (datatype, raw) {
            (T::Int8 | T::Int16 | T::Int32 | T::Int64, _) => signed(raw, datatype),
            (T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 | T::DateTime, _) => {
                unsigned(raw, datatype)
            }
            (T::Float, RawValue::Float(float)) => Ok(Self::Float(*float)),
            (T::Double, RawValue::Double(double)) => Ok(Self::Double(*double)),
            (T::Double, RawValue::Float(float)) => Ok(Self::Float(*float)),
            (T::Boolean, RawValue::Boolean(boolean)) => Ok(Self::Boolean(*boolean)),
            (T::String | T::Text | T::Uuid, RawValue::String(text)) => {
                Ok(Self::Text((*text).to_owned()))
            }
            (T::Bytes | T::File, RawValue::Bytes(bytes)) => Ok(Self::Bytes(bytes.to_vec())),
            (T::DataSet, RawValue::DataSet(set)) => table(set),
            (T::Template | T::PropertySet | T::PropertySetList, _) => Err(ValueError::Unsupported),
            (_, RawValue::Bytes(bytes)) if datatype >= T::Int8Array => array(bytes, datatype),
            (_, RawValue::Extension) => Err(ValueError::Unsupported),
            _ => Err(ValueError::Carrier { datatype }),
        }
    }
}

/// Signed integers travel as the unsigned of the field's width, with their
/// sign extended or not, depending on the sender.
fn signed(raw: &RawValue<'_>, datatype: DataType) -> Result<Value, ValueError> {
    let (bits, carried) = match raw {
        RawValue::Int(bits) => (u64::from(*bits), i64::from(*bits as i32)),
        RawValue::Long(bits) => (*bits, *bits as i64),
        _ => return Err(ValueError::Carrier { datatype }),
    };
    let width = match datatype {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        _ => 64,
    };
    let narrow = (carried << (64 - width)) >> (64 - width);
    let is_extended = narrow == carried;
    let is_cut = width < 64 && bits >> width == 0;
    if is_extended || is_cut {
        Ok(Value::Signed(narrow))
    } else {
        Err(ValueError::Range { datatype, bits })
    }
}

fn unsigned(raw: &RawValue<'_>, datatype: DataType) -> Result<Value, ValueError> {
    let bits = match raw {
        RawValue::Int(bits) => u64::from(*bits),
        RawValue::Long(bits) => *bits,
        _ => return Err(ValueError::Carrier { datatype }),
    };
    let max = match datatype {
        DataType::UInt8 => u64::from(u8::MAX),
        DataType::UInt16 => u64::from(u16::MAX),
        DataType::UInt32 => u64::from(u32::MAX),
        _ => u64::MAX,
    };
    if bits > max {
        return Err(ValueError::Range { datatype, bits });
    }
    Ok(Value::Unsigned(bits))
}

fn array(bytes: &[u8], datatype: DataType) -> Result<Value, ValueError> {
    let wrong = ValueError::Array {
        datatype,
        length: bytes.len(),
    };
    let elements = match datatype {
        DataType::Int8Array => each(bytes, |b| Value::Signed(i8::from_le_bytes(b).into())),
        DataType::UInt8Array => each(bytes, |b| Value::Unsigned(u8::from_le_bytes(b).into())),
        DataType::Int16Array => each(bytes, |b| Value::Signed(i16::from_le_bytes(b).into())),
        DataType::UInt16Array => each(bytes, |b| Value::Unsigned(u16::from_le_bytes(b).into())),
        DataType::Int32Array => each(bytes, |b| Value::Signed(i32::from_le_bytes(b).into())),
        DataType::UInt32Array => each(bytes, |b| Value::Unsigned(u32::from_le_bytes(b).into())),
        DataType::Int64Array => each(bytes, |b| Value::Signed(i64::from_le_bytes(b))),
        DataType::UInt64Array | DataType::DateTimeArray => {
            each(bytes, |b| Value::Unsigned(u64::from_le_bytes(b)))
        }
        DataType::FloatArray => each(bytes, |b| Value::Float(f32::from_le_bytes(b))),
        DataType::DoubleArray => each(bytes, |b| Value::Double(f64::from_le_bytes(b))),
        DataType::BooleanArray => booleans(bytes),
        DataType::StringArray => strings(bytes),
        _ => None,
    };
    match elements {
        Some(elements) if elements.len() <= ELEMENTS_MAX => Ok(Value::List(elements)),
        _ => Err(wrong),
    }
}

fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Value) -> Option<Vec<Value>> {
    let (elements, rest) = bytes.as_chunks::<N>();
    (rest.is_empty() && elements.len() <= ELEMENTS_MAX)
        .then(|| elements.iter().map(|element| read(*element)).collect())
}

/// A count of 32 bits, then the booleans, the first in the highest bit.
fn booleans(bytes: &[u8]) -> Option<Vec<Value>> {
    let (count, packed) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    if count > ELEMENTS_MAX || packed.len() != count.div_ceil(8) {
        return None;
    }
    let bit = |index: usize| packed[index / 8] >> (7 - index % 8) & 1 == 1;
    Some((0..count).map(|index| Value::Boolean(bit(index))).collect())
}

/// Texts, each followed by a zero byte.
fn strings(bytes: &[u8]) -> Option<Vec<Value>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let texts = bytes.strip_suffix(&[0])?.split(|byte| *byte == 0);
    let text = |bytes| Some(Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()));
    texts.take(ELEMENTS_MAX + 1).map(text).collect()
}

fn table(set: &DataSet<'_>) -> Result<Value, ValueError> {
    let columns = set.columns.len();
    let count = set.column_count.unwrap_or(columns as u64);
    if count != columns as u64 || set.types.len() != columns {
        return Err(ValueError::Row {
            cells: set.types.len(),
            columns,
        });
    }
    let mut rows = Vec::with_capacity(set.rows.len());
    for row in &set.rows {
        if row.len() != columns {
            return Err(ValueError::Row {
                cells: row.len(),
                columns,
            });
        }
        let cells = row
            .iter()
            .zip(&set.types)
            .map(|(cell, datatype)| match cell {
                None => Ok(Value::Null),
                Some(raw) => Value::new(raw, Some(*datatype)),
            });
        rows.push(cells.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(Value::Table {
        columns: set.columns.iter().map(|name| (*name).to_owned()).collect(),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(raw: RawValue<'_>, datatype: DataType) -> Result<Value, ValueError> {
        Value::new(&raw, Some(datatype as u32))
    }

    #[test]
    fn types_have_the_numbers_of_the_specification() {
        for (index, datatype) in TYPES.into_iter().enumerate() {
            assert_eq!(datatype as usize, index + 1);
            assert_eq!(DataType::from_number(datatype as u32), Some(datatype));
        }
        assert_eq!(DataType::from_number(0), None);
        assert_eq!(DataType::from_number(35), None);
    }

    #[test]
    fn signed_integers_are_read_with_their_sign_extended_or_cut() {
        for (raw, datatype, expected) in [
            (RawValue::Int(0xffff_ffe9), DataType::Int8, -23),
            (RawValue::Int(0xe9), DataType::Int8, -23),
            (RawValue::Int(0x8ad0), DataType::Int16, -30_000),
            (RawValue::Int(u32::MAX), DataType::Int32, -1),
            (RawValue::Long(u64::MAX), DataType::Int32, -1),
            (RawValue::Long(0xffff_ffff), DataType::Int32, -1),
            (RawValue::Long(u64::MAX - 1), DataType::Int64, -2),
            (RawValue::Int(7), DataType::Int64, 7),
        ] {
            assert_eq!(value(raw, datatype), Ok(Value::Signed(expected)));
        }
        assert_eq!(
            value(RawValue::Int(0x1e9), DataType::Int8),
            Err(ValueError::Range {
                datatype: DataType::Int8,
                bits: 0x1e9
            })
        );
    }

    #[test]
    fn unsigned_integers_beyond_their_type_are_refused() {
        assert_eq!(
            value(RawValue::Int(255), DataType::UInt8),
            Ok(Value::Unsigned(255))
        );
        assert!(value(RawValue::Int(256), DataType::UInt8).is_err());
        assert!(value(RawValue::Long(1 << 32), DataType::UInt32).is_err());
        assert!(value(RawValue::Double(1.0), DataType::UInt32).is_err());
    }

    /// Section 6.4.16, the examples of the array types. Its text says
    /// little-endian, but its examples of float and double arrays are
    /// big-endian and that of times leaves bytes out: these are not used. Its
    /// first example calls 0xef -23, which is -17.
    #[test]
    fn arrays_of_the_specification_are_read() {
        let signed =
            |values: &[i64]| Value::List(values.iter().map(|v| Value::Signed(*v)).collect());
        let unsigned =
            |values: &[u64]| Value::List(values.iter().map(|v| Value::Unsigned(*v)).collect());
        let read = |bytes: &[u8], datatype| value(RawValue::Bytes(bytes), datatype).unwrap();
        assert_eq!(
            read(&[0xef, 0x7b], DataType::Int8Array),
            signed(&[-17, 123])
        );
        assert_eq!(
            read(&[0xd0, 0x8a, 0x30, 0x75], DataType::Int16Array),
            signed(&[-30_000, 30_000])
        );
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xfa, 0xaf, 0xcb, 0x12];
        assert_eq!(
            read(&bytes, DataType::Int32Array),
            signed(&[-1, 315_338_746])
        );
        assert_eq!(
            read(&[0x1e, 0x00, 0x88, 0xcc], DataType::UInt16Array),
            unsigned(&[30, 52_360])
        );
        let bytes = [
            0x34, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0x9e, 0x02, 0xd1, 0xb2, 0x76, 0x37, 0xe4,
        ];
        assert_eq!(
            read(&bytes, DataType::UInt64Array),
            unsigned(&[52, 16_444_743_074_749_521_625])
        );
        let expected = [
            false, false, true, true, false, true, false, false, true, true, false, true,
        ];
        assert_eq!(
            read(&[0x0c, 0, 0, 0, 0x34, 0xd0], DataType::BooleanArray),
            Value::List(expected.map(Value::Boolean).to_vec())
        );
        assert_eq!(
            read(b"ABC\0hello\0", DataType::StringArray),
            Value::List(vec![Value::Text("ABC".into()), Value::Text("hello".into())])
        );
    }

    #[test]
    fn arrays_of_a_wrong_length_are_refused() {
        for (bytes, datatype) in [
            (&[1u8, 2, 3][..], DataType::Int16Array),
            (&[1, 2, 3, 4, 5], DataType::FloatArray),
            (&[9, 0, 0, 0, 0xff], DataType::BooleanArray),
            (&[0xff, 0xff, 0xff, 0xff, 1], DataType::BooleanArray),
            (&[1, 0, 0], DataType::BooleanArray),
            (b"no end", DataType::StringArray),
            (&[0xff, 0], DataType::StringArray),
        ] {
            assert_eq!(
                value(RawValue::Bytes(bytes), datatype),
                Err(ValueError::Array {
                    datatype,
                    length: bytes.len()
                })
            );
        }
    }

    #[test]
    fn rows_of_a_data_set_must_fit_its_columns() {
        let mut set = DataSet {
            column_count: Some(2),
            columns: vec!["t", "on"],
            types: vec![DataType::Int8 as u32, DataType::Boolean as u32],
            rows: vec![vec![
                Some(RawValue::Int(0xff)),
                Some(RawValue::Boolean(true)),
            ]],
        };
        assert_eq!(
            value(RawValue::DataSet(set.clone()), DataType::DataSet),
            Ok(Value::Table {
                columns: vec!["t".into(), "on".into()],
                rows: vec![vec![Value::Signed(-1), Value::Boolean(true)]]
            })
        );
        set.rows[0].pop();
        assert_eq!(
            value(RawValue::DataSet(set), DataType::DataSet),
            Err(ValueError::Row {
                cells: 1,
                columns: 2
            })
        );
    }
}
