//! Reading payloads. Nothing is allocated for what is not there: counts are
//! those of fields that were read.

use thiserror::Error;

use crate::payload::{
    DataSet, Metric, Parameter, Payload, Property, PropertyValue, RawValue, Template,
};
use crate::wire::{Content, Field, Fields};

/// Most metrics of a payload, members of templates included. Births of large
/// edge nodes have some ten thousand; at about 200 bytes each in memory this
/// bounds a payload at 13 MB.
pub const METRICS_MAX: usize = 65_536;

/// Longest name of a metric, a column, a parameter or a property. With group,
/// node and device in front it must fit a topic name of 65,535 bytes.
pub const NAME_LEN_MAX: usize = 4_096;

/// Templates in templates and property sets in property sets. The
/// specification's examples have three levels.
pub const DEPTH_MAX: usize = 8;

/// Most cells of all data sets, and most properties, of one payload: as many
/// as metrics, for the same reason.
const PARTS_MAX: usize = METRICS_MAX;

/// Why bytes are no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("payload ends inside the field at byte {at} of its message")]
    Truncated {
        /// Position within the message.
        at: usize,
    },
    /// A varint has more than 64 bits.
    #[error("varint at byte {at} of its message has more than 64 bits")]
    Varint {
        /// Position within the message.
        at: usize,
    },
    /// A field number is zero or too large.
    #[error("field at byte {at} of its message has a number outside 1 to 536870911")]
    FieldNumber {
        /// Position within the message.
        at: usize,
    },
    /// A wire type that version 2 messages do not have.
    #[error("field at byte {at} of its message has wire type {wire_type}, expected 0, 1, 2 or 5")]
    WireType {
        /// Position within the message.
        at: usize,
        /// The type.
        wire_type: u8,
    },
    /// A known field has another wire type than its definition.
    #[error("field {field} has another wire type than the definition of {message}")]
    FieldType {
        /// The message.
        message: &'static str,
        /// The field's number.
        field: u32,
    },
    /// A text is not UTF-8.
    #[error("field {field} of {message} is not UTF-8")]
    Utf8 {
        /// The message.
        message: &'static str,
        /// The field's number.
        field: u32,
    },
    /// A name is too long.
    #[error("field {field} of {message} has {length} bytes, expected at most {NAME_LEN_MAX}")]
    NameLength {
        /// The message.
        message: &'static str,
        /// The field's number.
        field: u32,
        /// Its length.
        length: usize,
    },
    /// There is too much of something.
    #[error("payload has more than {limit} {what}")]
    TooMany {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Messages are nested too deeply.
    #[error("payload has more than {DEPTH_MAX} templates or property sets in each other")]
    Depth,
    /// Keys and values of a property set do not pair up.
    #[error("property set has {keys} keys and {values} values, expected as many")]
    Properties {
        /// Number of keys.
        keys: usize,
        /// Number of values.
        values: usize,
    },
}

/// What is left of the limits of one payload.
struct Budget {
    metrics: usize,
    parts: usize,
}

impl Budget {
    fn metric(&mut self) -> Result<(), DecodeError> {
        take(&mut self.metrics, "metrics", METRICS_MAX)
    }

    fn part(&mut self) -> Result<(), DecodeError> {
        take(&mut self.parts, "cells and properties", PARTS_MAX)
    }
}

fn take(left: &mut usize, what: &'static str, limit: usize) -> Result<(), DecodeError> {
    *left = left
        .checked_sub(1)
        .ok_or(DecodeError::TooMany { what, limit })?;
    Ok(())
}

impl<'a> Payload<'a> {
    /// Reads a payload. Unknown fields are skipped; of a field that repeats
    /// without being repeated, the last one counts, as protobuf has it.
    ///
    /// # Errors
    /// When the bytes are no payload, or it exceeds a limit.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut budget = Budget {
            metrics: METRICS_MAX,
            parts: PARTS_MAX,
        };
        let mut payload = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            let known = Known::new("Payload", field);
            match field.number {
                1 => payload.timestamp = Some(known.varint()?),
                2 => {
                    let metric = metric(known.bytes()?, &mut budget, 0)?;
                    payload.metrics.push(metric);
                }
                3 => payload.seq = Some(known.varint()?),
                4 => payload.uuid = Some(known.text()?),
                5 => payload.body = Some(known.bytes()?),
                _ => {}
            }
        }
        Ok(payload)
    }
}

/// A field of a message that is known by name.
struct Known<'a> {
    message: &'static str,
    field: Field<'a>,
}

impl<'a> Known<'a> {
    fn new(message: &'static str, field: Field<'a>) -> Self {
        Self { message, field }
    }

    fn wrong(&self) -> DecodeError {
        DecodeError::FieldType {
            message: self.message,
            field: self.field.number,
        }
    }

    fn varint(&self) -> Result<u64, DecodeError> {
        match self.field.content {
            Content::Varint(value) => Ok(value),
            _ => Err(self.wrong()),
        }
    }

    fn uint32(&self) -> Result<u32, DecodeError> {
        // Protobuf keeps the low 32 bits: negative numbers come as 64 bits.
        Ok(self.varint()? as u32)
    }

    fn boolean(&self) -> Result<bool, DecodeError> {
        Ok(self.varint()? != 0)
    }

    fn float(&self) -> Result<f32, DecodeError> {
        match self.field.content {
            Content::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.wrong()),
        }
    }

    fn double(&self) -> Result<f64, DecodeError> {
        match self.field.content {
            Content::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong()),
        }
    }

    fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.field.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong()),
        }
    }

    fn text(&self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Utf8 {
            message: self.message,
            field: self.field.number,
        })
    }

    fn name(&self) -> Result<&'a str, DecodeError> {
        let name = self.text()?;
        if name.len() > NAME_LEN_MAX {
            return Err(DecodeError::NameLength {
                message: self.message,
                field: self.field.number,
                length: name.len(),
            });
        }
        Ok(name)
    }

    /// The plain values stand in one order in all messages, from `first` on.
    fn plain(&self, first: u32) -> Result<Option<RawValue<'a>>, DecodeError> {
        let Some(index) = self.field.number.checked_sub(first) else {
            return Ok(None);
        };
        Ok(Some(match index {
            0 => RawValue::Int(self.uint32()?),
            1 => RawValue::Long(self.varint()?),
            2 => RawValue::Float(self.float()?),
            3 => RawValue::Double(self.double()?),
            4 => RawValue::Boolean(self.boolean()?),
            5 => RawValue::String(self.text()?),
            _ => return Ok(None),
        }))
    }
}

fn deeper(depth: usize) -> Result<usize, DecodeError> {
    if depth >= DEPTH_MAX {
        return Err(DecodeError::Depth);
    }
    Ok(depth + 1)
}

fn metric<'a>(
    bytes: &'a [u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<Metric<'a>, DecodeError> {
    budget.metric()?;
    let mut metric = Metric::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("Metric", field);
        match field.number {
            1 => metric.name = Some(known.name()?),
            2 => metric.alias = Some(known.varint()?),
            3 => metric.timestamp = Some(known.varint()?),
            4 => metric.datatype = Some(known.uint32()?),
            5 => metric.is_historical = known.boolean()?,
            6 => metric.is_transient = known.boolean()?,
            7 => metric.is_null = known.boolean()?,
            // Metadata describes files and parts; nothing here reads it.
            8 => drop(known.bytes()?),
            9 => metric.properties = properties(known.bytes()?, budget, deeper(depth)?)?,
            16 => metric.value = Some(RawValue::Bytes(known.bytes()?)),
            17 => metric.value = Some(RawValue::DataSet(data_set(known.bytes()?, budget)?)),
            18 => {
                let template = template(known.bytes()?, budget, deeper(depth)?)?;
                metric.value = Some(RawValue::Template(template));
            }
            19 => {
                known.bytes()?;
                metric.value = Some(RawValue::Extension);
            }
            _ => {
                if let Some(value) = known.plain(10)? {
                    metric.value = Some(value);
                }
            }
        }
    }
    Ok(metric)
}

fn template<'a>(
    bytes: &'a [u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<Template<'a>, DecodeError> {
    let mut template = Template::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("Template", field);
        match field.number {
            1 => template.version = Some(known.text()?),
            2 => template
                .metrics
                .push(metric(known.bytes()?, budget, depth)?),
            3 => template.parameters.push(parameter(known.bytes()?, budget)?),
            4 => template.template_ref = Some(known.name()?),
            5 => template.is_definition = known.boolean()?,
            _ => {}
        }
    }
    Ok(template)
}

fn parameter<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Parameter<'a>, DecodeError> {
    budget.part()?;
    let mut parameter = Parameter::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("Parameter", field);
        match field.number {
            1 => parameter.name = Some(known.name()?),
            2 => parameter.datatype = Some(known.uint32()?),
            9 => {
                known.bytes()?;
                parameter.value = Some(RawValue::Extension);
            }
            _ => {
                if let Some(value) = known.plain(3)? {
                    parameter.value = Some(value);
                }
            }
        }
    }
    Ok(parameter)
}

fn data_set<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<DataSet<'a>, DecodeError> {
    let mut set = DataSet::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("DataSet", field);
        match field.number {
            1 => set.column_count = Some(known.varint()?),
            2 => {
                budget.part()?;
                set.columns.push(known.name()?);
            }
            // Both forms of a repeated number are read, as protobuf asks.
            3 => match field.content {
                Content::Bytes(packed) => {
                    let mut packed = Fields::new(packed);
                    while !packed.is_empty() {
                        budget.part()?;
                        set.types.push(packed.varint()? as u32);
                    }
                }
                _ => {
                    budget.part()?;
                    set.types.push(known.uint32()?);
                }
            },
            4 => {
                budget.part()?;
                set.rows.push(row(known.bytes()?, budget)?);
            }
            _ => {}
        }
    }
    Ok(set)
}

fn row<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Vec<Option<RawValue<'a>>>, DecodeError> {
    let mut cells = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            budget.part()?;
            cells.push(cell(Known::new("Row", field).bytes()?)?);
        }
    }
    Ok(cells)
}

fn cell(bytes: &[u8]) -> Result<Option<RawValue<'_>>, DecodeError> {
    let mut value = None;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("DataSetValue", field);
        if field.number == 7 {
            known.bytes()?;
            value = Some(RawValue::Extension);
        } else if let Some(plain) = known.plain(1)? {
            value = Some(plain);
        }
    }
    Ok(value)
}

fn properties<'a>(
    bytes: &'a [u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<Vec<Property<'a>>, DecodeError> {
    let mut keys = Vec::new();
    let mut values = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("PropertySet", field);
        match field.number {
            1 => {
                budget.part()?;
                keys.push(known.name()?);
            }
            2 => values.push(property_value(known.bytes()?, budget, depth)?),
            _ => {}
        }
    }
    if keys.len() != values.len() {
        return Err(DecodeError::Properties {
            keys: keys.len(),
            values: values.len(),
        });
    }
    let pairs = keys.into_iter().zip(values);
    Ok(pairs
        .map(|(key, (datatype, value))| Property {
            key,
            datatype,
            value,
        })
        .collect())
}

type TypedProperty<'a> = (Option<u32>, Option<PropertyValue<'a>>);

fn property_value<'a>(
    bytes: &'a [u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<TypedProperty<'a>, DecodeError> {
    budget.part()?;
    let mut datatype = None;
    let mut is_null = false;
    let mut value = None;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        let known = Known::new("PropertyValue", field);
        match field.number {
            1 => datatype = Some(known.uint32()?),
            2 => is_null = known.boolean()?,
            9 => {
                let set = properties(known.bytes()?, budget, deeper(depth)?)?;
                value = Some(PropertyValue::Set(set));
            }
            10 => {
                let sets = property_sets(known.bytes()?, budget, deeper(depth)?)?;
                value = Some(PropertyValue::Sets(sets));
            }
            11 => {
                known.bytes()?;
                value = Some(PropertyValue::Plain(RawValue::Extension));
            }
            _ => {
                if let Some(plain) = known.plain(3)? {
                    value = Some(PropertyValue::Plain(plain));
                }
            }
        }
    }
    Ok((datatype, value.filter(|_| !is_null)))
}

fn property_sets<'a>(
    bytes: &'a [u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<Vec<Vec<Property<'a>>>, DecodeError> {
    let mut sets = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            budget.part()?;
            let known = Known::new("PropertySetList", field);
            sets.push(properties(known.bytes()?, budget, depth)?);
        }
    }
    Ok(sets)
}
