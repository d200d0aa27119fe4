//! Writing a value and reading it back.

use opcua::client::Session;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, DataTypeId, DataValue, NodeClassMask, NodeId,
    ReferenceTypeId, StatusCode, TimestampsToReturn, Variant, VariantScalarTypeId, WriteValue,
};
use thiserror::Error;

use super::subscribing::{attribute_of, value_of};
use crate::value::{Misfit, Value, coerce, status_name};

/// Levels of data types between one that is used and a built-in one.
const SUPERTYPES_MAX: usize = 10;

/// CurrentWrite in AccessLevel and UserAccessLevel (Part 3, 8.57).
pub(crate) const CURRENT_WRITE: u8 = 2;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum WriteError {
    /// Not tried: the value is not of the node's type.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Not tried: the server does not let this user write the node.
    #[error("the server lets nobody like us write this node")]
    NotWritable,
    /// Not tried: nobody knows the node's type.
    #[error("the type of the node is unknown")]
    Type,
    /// Not tried: there is no session, or the node is not of it.
    #[error("not connected")]
    NotConnected,
    /// The server refused, or did not answer.
    #[error("{0}")]
    Refused(&'static str),
    /// It was written, and could not be read back.
    #[error("written, but not read back: {0}")]
    NotReadBack(&'static str),
}

/// Writes a value: looks at the node first, writes the value without time and
/// status, and reads it back.
///
/// # Errors
/// [`WriteError`] says whether it was tried.
pub(super) async fn write(
    session: &Session,
    node: &NodeId,
    value: &Value,
) -> Result<Value, WriteError> {
    let refused = |status: StatusCode| WriteError::Refused(status_name(status));
    let asked = [
        attribute_of(node, AttributeId::DataType),
        attribute_of(node, AttributeId::UserAccessLevel),
        attribute_of(node, AttributeId::ValueRank),
    ];
    let described = session.read(&asked, TimestampsToReturn::Neither, 0.0).await;
    let described = described.map_err(|error| refused(error.status()))?;
    let [data_type, access, rank] = described.as_slice() else {
        return Err(WriteError::Type);
    };
    if let Some(status) = data_type.status.filter(StatusCode::is_bad) {
        return Err(refused(status));
    }
    // A server that does not tell is asked by writing.
    if let Some(Variant::Byte(access)) = access.value
        && access & CURRENT_WRITE == 0
    {
        return Err(WriteError::NotWritable);
    }
    let Some(Variant::NodeId(data_type)) = &data_type.value else {
        return Err(WriteError::Type);
    };
    // One dimension or more; a scalar has -1 (Part 3, 5.6.2).
    let is_array = matches!(rank.value, Some(Variant::Int32(rank)) if rank >= 1);
    let kind = built_in(session, data_type).await.ok_or(WriteError::Type)?;
    let variant = coerce(value, kind, is_array)?;
    let write = WriteValue {
        node_id: node.clone(),
        attribute_id: AttributeId::Value as u32,
        index_range: opcua::types::NumericRange::None,
        value: DataValue {
            value: Some(variant),
            ..DataValue::null()
        },
    };
    let written = session.write(&[write]).await;
    let written = written.map_err(|error| refused(error.status()))?;
    match written.first() {
        Some(status) if status.is_good() => {}
        Some(status) => return Err(refused(*status)),
        None => return Err(refused(StatusCode::BadUnknownResponse)),
    }
    let lost = |status: StatusCode| WriteError::NotReadBack(status_name(status));
    let read = session
        .read(&[value_of(node)], TimestampsToReturn::Neither, 0.0)
        .await
        .map_err(|error| lost(error.status()))?;
    let Some(read) = read.first() else {
        return Err(lost(StatusCode::BadUnknownResponse));
    };
    if let Some(status) = read.status.filter(StatusCode::is_bad) {
        return Err(lost(status));
    }
    let value = read.value.as_ref().map(|value| Value::of(value, None));
    value
        .unwrap_or(Ok(Value::Null))
        .map_err(|_| lost(StatusCode::BadDataEncodingUnsupported))
}

/// The built-in type that values of a data type have on the wire.
pub(crate) async fn built_in(session: &Session, data_type: &NodeId) -> Option<VariantScalarTypeId> {
    let mut at = data_type.clone();
    for _ in 0..SUPERTYPES_MAX {
        if at == DataTypeId::Enumeration {
            return Some(VariantScalarTypeId::Int32);
        }
        // The ids of the built-in types are their encoding (Part 6, 5.1.2);
        // 23 and above hold other values, 26 to 29 are abstract.
        let id = at.as_u32().filter(|_| at.namespace == 0);
        if let Some(kind @ 1..=22) = id {
            return VariantScalarTypeId::try_from(kind).ok();
        }
        let parents = BrowseDescription {
            node_id: at,
            browse_direction: BrowseDirection::Inverse,
            reference_type_id: ReferenceTypeId::HasSubtype.into(),
            include_subtypes: false,
            node_class_mask: NodeClassMask::DATA_TYPE.bits(),
            result_mask: 0,
        };
        let found = session.browse(&[parents], 1, None).await.ok()?;
        let references = found.into_iter().next()?.references?;
        at = references.into_iter().next()?.node_id.node_id;
    }
    None
}
