//! Writing the primitive types.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{EncodeError, KStr, read::STRING_MAX};

/// Most bytes or elements behind one 32-bit length.
const LENGTH_MAX: usize = i32::MAX as usize;

pub(crate) fn string(out: &mut BytesMut, flexible: bool, text: &KStr) -> Result<(), EncodeError> {
    nullable_string(out, flexible, Some(text))
}

pub(crate) fn nullable_string(
    out: &mut BytesMut,
    flexible: bool,
    text: Option<&KStr>,
) -> Result<(), EncodeError> {
    let Some(text) = text else {
        if flexible {
            out.put_u8(0);
        } else {
            out.put_i16(-1);
        }
        return Ok(());
    };
    let text = text.as_bytes();
    check("string", text.len(), STRING_MAX)?;
    if flexible {
        unsigned_varint(out, text.len() as u32 + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text);
    Ok(())
}

pub(crate) fn bytes(out: &mut BytesMut, flexible: bool, value: &Bytes) -> Result<(), EncodeError> {
    nullable_bytes(out, flexible, Some(value))
}

pub(crate) fn nullable_bytes(
    out: &mut BytesMut,
    flexible: bool,
    value: Option<&Bytes>,
) -> Result<(), EncodeError> {
    length(out, flexible, value.map(Bytes::len), "byte field")?;
    if let Some(value) = value {
        out.put_slice(value);
    }
    Ok(())
}

pub(crate) fn array<T>(
    out: &mut BytesMut,
    flexible: bool,
    elements: &[T],
    element: impl FnMut(&mut BytesMut, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    nullable_array(out, flexible, Some(elements), element)
}

pub(crate) fn nullable_array<T>(
    out: &mut BytesMut,
    flexible: bool,
    elements: Option<&[T]>,
    mut element: impl FnMut(&mut BytesMut, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    length(out, flexible, elements.map(<[T]>::len), "array")?;
    elements
        .unwrap_or_default()
        .iter()
        .try_for_each(|value| element(out, value))
}

/// Writes the fields of both lists in the order of their tags (KIP-482).
pub(crate) fn tagged_fields(
    out: &mut BytesMut,
    known: Vec<(u32, Bytes)>,
    unknown: &[(u32, Bytes)],
) -> Result<(), EncodeError> {
    if known.is_empty() && unknown.is_empty() {
        out.put_u8(0);
        return Ok(());
    }
    let mut fields = known;
    fields.extend_from_slice(unknown);
    fields.sort_by_key(|(tag, _)| *tag);
    check("tagged field list", fields.len(), LENGTH_MAX)?;
    if let Some(pair) = fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(EncodeError::DuplicateTag { tag: pair[0].0 });
    }
    unsigned_varint(out, fields.len() as u32);
    for (tag, value) in fields {
        check("tagged field", value.len(), LENGTH_MAX)?;
        unsigned_varint(out, tag);
        unsigned_varint(out, value.len() as u32);
        out.put_slice(&value);
    }
    Ok(())
}

pub(crate) fn unsigned_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn length(
    out: &mut BytesMut,
    flexible: bool,
    length: Option<usize>,
    what: &'static str,
) -> Result<(), EncodeError> {
    check(what, length.unwrap_or(0), LENGTH_MAX)?;
    match (flexible, length) {
        (true, None) => out.put_u8(0),
        (true, Some(length)) => unsigned_varint(out, length as u32 + 1),
        (false, None) => out.put_i32(-1),
        (false, Some(length)) => out.put_i32(length as i32),
    }
    Ok(())
}

pub(crate) fn check(what: &'static str, length: usize, limit: usize) -> Result<(), EncodeError> {
    if length <= limit {
        return Ok(());
    }
    Err(EncodeError::TooLong {
        what,
        length,
        limit,
    })
}
