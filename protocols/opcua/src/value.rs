//! Values of nodes: from the wire, and to it.

use std::fmt::Write as _;
use std::sync::Arc;

use opcua::types::custom::{DataTypeTree, DynamicStructure};
use opcua::types::{
    ByteString, DateTime, ExtensionObject, Guid, LocalizedText, StatusCode, UAString, Variant,
    VariantScalarTypeId,
};
use serde_json::Value as Json;

/// Structures in structures of one value. The protocol allows 100; a machine
/// has three.
const DEPTH_MAX: usize = 8;

/// A value of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The node has none.
    Null,
    /// Boolean.
    Bool(bool),
    /// SByte to Int64; DateTime, in milliseconds since the Unix epoch.
    Signed(i64),
    /// Byte to UInt64; StatusCode.
    Unsigned(u64),
    /// Float.
    Single(f32),
    /// Double.
    Float(f64),
    /// Texts, node ids; byte strings in base64; structures as JSON.
    Text(Arc<str>),
    /// Arrays; a matrix is a list of its rows.
    List(Vec<Value>),
}

/// A structure whose description the server does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

impl Value {
    /// A number, if it is one.
    pub fn number(&self) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "compared with limits and deadbands, which are floats; beyond 2^53 the nearest one is meant"
        )]
        match self {
            Self::Signed(number) => Some(*number as f64),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Single(number) => Some(f64::from(*number)),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Takes a value from the wire. `types` describes structures.
    ///
    /// # Errors
    /// [`Undecodable`] when it is a structure that nobody describes.
    pub fn of(variant: &Variant, types: Option<&DataTypeTree>) -> Result<Self, Undecodable> {
        Ok(match variant {
            Variant::Array(array) => {
                let items: Result<Vec<_>, _> = array
                    .values
                    .iter()
                    .map(|item| Self::of(item, types))
                    .collect();
                rows(items?, array.dimensions.as_deref().unwrap_or_default())
            }
            Variant::Variant(inner) => Self::of(inner, types)?,
            Variant::DataValue(inner) => match &inner.value {
                Some(value) => Self::of(value, types)?,
                None => Self::Null,
            },
            Variant::ExtensionObject(object) if object.is_null() => Self::Null,
            Variant::ExtensionObject(object) => {
                let json = structure(object, types, 0).ok_or(Undecodable)?;
                Self::Text(json.to_string().into())
            }
            scalar => Self::scalar(scalar),
        })
    }

    fn scalar(variant: &Variant) -> Self {
        match variant {
            Variant::Boolean(flag) => Self::Bool(*flag),
            Variant::SByte(number) => Self::Signed(i64::from(*number)),
            Variant::Int16(number) => Self::Signed(i64::from(*number)),
            Variant::Int32(number) => Self::Signed(i64::from(*number)),
            Variant::Int64(number) => Self::Signed(*number),
            Variant::Byte(number) => Self::Unsigned(u64::from(*number)),
            Variant::UInt16(number) => Self::Unsigned(u64::from(*number)),
            Variant::UInt32(number) => Self::Unsigned(u64::from(*number)),
            Variant::UInt64(number) => Self::Unsigned(*number),
            Variant::StatusCode(status) => Self::Unsigned(u64::from(status.bits())),
            Variant::Float(number) => Self::Single(*number),
            Variant::Double(number) => Self::Float(*number),
            Variant::DateTime(time) => milliseconds(time).map_or(Self::Null, Self::Signed),
            Variant::String(text) => text_of(text),
            Variant::XmlElement(xml) => Self::Text(xml.to_string().into()),
            Variant::LocalizedText(text) => text_of(&text.text),
            Variant::QualifiedName(name) => text_of(&name.name),
            Variant::Guid(guid) => Self::Text(guid.to_string().into()),
            Variant::NodeId(node) => Self::Text(node.to_string().into()),
            Variant::ExpandedNodeId(node) => Self::Text(node.to_string().into()),
            Variant::ByteString(bytes) if bytes.is_null() => Self::Null,
            Variant::ByteString(bytes) => Self::Text(bytes.as_base64().into()),
            _ => Self::Null,
        }
    }

    /// The value as JSON has it; what is not finite is null.
    pub fn into_json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => flag.into(),
            Self::Signed(number) => number.into(),
            Self::Unsigned(number) => number.into(),
            // The shortest decimal that is this single.
            Self::Single(number) => number
                .to_string()
                .parse::<f64>()
                .map_or(Json::Null, Json::from),
            Self::Float(number) => number.into(),
            Self::Text(text) => text.as_ref().into(),
            Self::List(items) => items.into_iter().map(Self::into_json).collect(),
        }
    }
}

/// Milliseconds since the Unix epoch; `None` for the smallest and the largest
/// date, which mean "none" (Part 6, 5.2.2.5).
pub fn milliseconds(time: &DateTime) -> Option<i64> {
    let ticks = time.checked_ticks();
    (ticks > 0 && ticks < DateTime::endtimes_ticks()).then(|| time.as_chrono().timestamp_millis())
}

fn text_of(text: &UAString) -> Value {
    match text.value() {
        Some(text) => Value::Text(text.as_str().into()),
        None => Value::Null,
    }
}

/// Splits the items of a matrix, which come row by row, by its dimensions.
fn rows(items: Vec<Value>, dimensions: &[u32]) -> Value {
    let [_, inner @ ..] = dimensions else {
        return Value::List(items);
    };
    if inner.is_empty() {
        return Value::List(items);
    }
    let length = inner.iter().try_fold(1_usize, |length, &count| {
        length.checked_mul(usize::try_from(count).ok()?)
    });
    let Some(length) = length.filter(|&length| length > 0 && items.len().is_multiple_of(length))
    else {
        return Value::List(items);
    };
    let split = items
        .chunks(length)
        .map(|row| rows(row.to_vec(), inner))
        .collect();
    Value::List(split)
}

/// A structure as a JSON object with its fields by name.
fn structure(object: &ExtensionObject, types: Option<&DataTypeTree>, depth: usize) -> Option<Json> {
    let dynamic = object.inner_as::<DynamicStructure>()?;
    let data_type = object.data_type()?.node_id;
    let described = types?.get_struct_type(&data_type)?;
    if depth >= DEPTH_MAX {
        return None;
    }
    let mut fields = serde_json::Map::new();
    for field in &described.fields {
        let name = field.name.to_string();
        let value = match dynamic.get_field_by_name(&name) {
            None | Some(Variant::Empty) => Json::Null,
            Some(Variant::ExtensionObject(inner)) if inner.is_null() => Json::Null,
            Some(Variant::ExtensionObject(inner)) => structure(inner, types, depth + 1)?,
            Some(Variant::Array(array)) => array
                .values
                .iter()
                .map(|item| match item {
                    Variant::ExtensionObject(inner) => structure(inner, types, depth + 1),
                    other => Value::of(other, types).ok().map(Value::into_json),
                })
                .collect::<Option<Json>>()?,
            Some(other) => Value::of(other, types).ok()?.into_json(),
        };
        fields.insert(name, value);
    }
    Some(Json::Object(fields))
}

/// Why a value cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} does not fit into {kind}")]
pub struct Misfit {
    /// What was to be written.
    pub value: String,
    /// The node's type.
    pub kind: &'static str,
}

/// The value as the node's type has it.
///
/// # Errors
/// [`Misfit`] when the node cannot hold it. Numbers are never rounded or cut,
/// but for a double that goes into a Float.
pub fn coerce(value: &Value, kind: VariantScalarTypeId, is_array: bool) -> Result<Variant, Misfit> {
    let misfit = || Misfit {
        value: shown(value),
        kind: kind_name(kind),
    };
    match (value, is_array) {
        (Value::List(items), true) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| coerce(item, kind, false)).collect();
            let array = opcua::types::Array::new(kind, items?).map_err(|_| misfit())?;
            Ok(Variant::Array(Box::new(array)))
        }
        (Value::List(_), false) | (_, true) => Err(misfit()),
        _ => scalar_as(value, kind).ok_or_else(misfit),
    }
}

fn scalar_as(value: &Value, kind: VariantScalarTypeId) -> Option<Variant> {
    use VariantScalarTypeId as Kind;
    let text = || match value {
        Value::Text(text) => Some(text.as_ref()),
        _ => None,
    };
    Some(match kind {
        Kind::Boolean => match value {
            Value::Bool(flag) => Variant::Boolean(*flag),
            _ => return None,
        },
        Kind::SByte => Variant::SByte(integer(value)?.try_into().ok()?),
        Kind::Byte => Variant::Byte(integer(value)?.try_into().ok()?),
        Kind::Int16 => Variant::Int16(integer(value)?.try_into().ok()?),
        Kind::UInt16 => Variant::UInt16(integer(value)?.try_into().ok()?),
        Kind::Int32 => Variant::Int32(integer(value)?.try_into().ok()?),
        Kind::UInt32 => Variant::UInt32(integer(value)?.try_into().ok()?),
        Kind::Int64 => Variant::Int64(integer(value)?.try_into().ok()?),
        Kind::UInt64 => Variant::UInt64(integer(value)?.try_into().ok()?),
        Kind::Double => Variant::Double(value.number().filter(|number| number.is_finite())?),
        Kind::Float => {
            let number = value.number().filter(|number| number.is_finite())?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the nearest Float is meant"
            )]
            let single = number as f32;
            Variant::Float(Some(single).filter(|single| single.is_finite())?)
        }
        Kind::String => Variant::String(UAString::from(text()?)),
        Kind::LocalizedText => Variant::LocalizedText(Box::new(LocalizedText::from(text()?))),
        Kind::ByteString => Variant::ByteString(ByteString::from_base64(text()?)?),
        Kind::Guid => Variant::Guid(Box::new(text()?.parse::<Guid>().ok()?)),
        Kind::DateTime => {
            let ms = i64::try_from(integer(value)?).ok()?;
            // 100 ns since 1601.
            let ticks = ms.checked_mul(10_000)?.checked_add(UNIX_EPOCH_TICKS)?;
            Variant::DateTime(Box::new(DateTime::from(
                Some(ticks).filter(|&ticks| ticks > 0)?,
            )))
        }
        _ => return None,
    })
}

/// The Unix epoch in steps of 100 ns since 1601-01-01 (Part 6, 5.2.2.5).
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// A whole number; a float counts when it is one.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Signed(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        Value::Single(_) | Value::Float(_) => {
            let number = value.number()?;
            // Every whole double up to 2^64 is one exactly.
            #[expect(clippy::cast_possible_truncation, reason = "it has no fraction")]
            (number.fract() == 0.0 && number.abs() <= 2_f64.powi(64)).then_some(number as i128)
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => format!("a list of {}", items.len()),
        other => {
            let mut text = String::new();
            // Writing into a String does not fail.
            let _ = write!(text, "{}", other.clone().into_json());
            text
        }
    }
}

/// The name of a built-in type (Part 6, 5.1.2).
pub fn kind_name(kind: VariantScalarTypeId) -> &'static str {
    use VariantScalarTypeId as Kind;
    match kind {
        Kind::Boolean => "Boolean",
        Kind::SByte => "SByte",
        Kind::Byte => "Byte",
        Kind::Int16 => "Int16",
        Kind::UInt16 => "UInt16",
        Kind::Int32 => "Int32",
        Kind::UInt32 => "UInt32",
        Kind::Int64 => "Int64",
        Kind::UInt64 => "UInt64",
        Kind::Float => "Float",
        Kind::Double => "Double",
        Kind::String => "String",
        Kind::DateTime => "DateTime",
        Kind::Guid => "Guid",
        Kind::StatusCode => "StatusCode",
        Kind::ByteString => "ByteString",
        Kind::XmlElement => "XmlElement",
        Kind::QualifiedName => "QualifiedName",
        Kind::LocalizedText => "LocalizedText",
        Kind::NodeId => "NodeId",
        Kind::ExpandedNodeId => "ExpandedNodeId",
        Kind::ExtensionObject => "Structure",
        Kind::Variant => "BaseDataType",
        Kind::DataValue => "DataValue",
        Kind::DiagnosticInfo => "DiagnosticInfo",
    }
}

/// The name of a status, `BadNodeIdUnknown`.
pub fn status_name(status: StatusCode) -> &'static str {
    status.sub_code().name()
}

#[cfg(test)]
mod tests;
