//! Frames: the length, the header and the body.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{ApiKey, DecodeError, EncodeError, KStr, Message, Reader, Request, write};

/// Largest frame: its length is a signed 32-bit number.
const FRAME_MAX: usize = i32::MAX as usize;
/// Bytes of the length in front of a frame, which it does not count.
const LENGTH_LEN: usize = 4;

/// The header of a request. Its tagged fields carry nothing in any known version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Number of the API, which may be unknown to this codec.
    pub api_key: i16,
    /// Version of the request, which may be unknown too.
    pub api_version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<KStr>,
}

/// Reads the header of a request; the body follows at the reader's position.
///
/// The header of an unknown API is read without tagged fields, which is enough
/// to refuse it.
///
/// # Errors
/// When the frame is too short or the client id is not a string.
pub fn decode_request_header(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
    let api_key = reader.i16()?;
    let api_version = reader.i16()?;
    let correlation_id = reader.i32()?;
    // The client id keeps its 16-bit length in every header version, so that
    // a broker can read it before it knows the version (KIP-482).
    let client_id = reader.nullable_string(false)?;
    if ApiKey::try_from(api_key).is_ok_and(|key| key.is_flexible(api_version)) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
    })
}

/// Appends the header of a request.
///
/// # Errors
/// When the client id is too long.
pub fn encode_request_header(
    out: &mut BytesMut,
    header: &RequestHeader,
) -> Result<(), EncodeError> {
    out.put_i16(header.api_key);
    out.put_i16(header.api_version);
    out.put_i32(header.correlation_id);
    write::nullable_string(out, false, header.client_id.as_ref())?;
    if ApiKey::try_from(header.api_key).is_ok_and(|key| key.is_flexible(header.api_version)) {
        write::tagged_fields(out, Vec::new(), &[])?;
    }
    Ok(())
}

/// Reads the header of a response and returns its correlation id.
///
/// # Errors
/// When the frame is too short.
pub fn decode_response_header(
    reader: &mut Reader,
    key: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = reader.i32()?;
    if key.has_flexible_response_header(version) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(correlation_id)
}

/// Appends the header of a response.
pub fn encode_response_header(out: &mut BytesMut, key: ApiKey, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if key.has_flexible_response_header(version) {
        // No tagged fields.
        out.put_u8(0);
    }
}

/// Encodes a whole request frame, with the length in front.
///
/// # Errors
/// When the version is unknown or a value does not fit the layout.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader {
        api_key: R::KEY as i16,
        api_version: version,
        correlation_id,
        client_id: client_id.map(KStr::from),
    };
    encode_request_header(&mut out, &header)?;
    request.encode(&mut out, version)?;
    close(out)
}

/// Decodes a whole response frame, without the length in front, and returns
/// the correlation id with the body.
///
/// # Errors
/// When the frame does not hold exactly the response of `version`.
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = decode_response_header(&mut reader, R::KEY, version)?;
    let response = R::Response::decode(&mut reader, version)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

/// Encodes a whole response frame, with the length in front.
///
/// # Errors
/// When the version is unknown or a value does not fit the layout.
pub fn encode_response<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    encode_response_header(&mut out, key, version, correlation_id);
    response.encode(&mut out, version)?;
    close(out)
}

fn close(mut out: BytesMut) -> Result<Bytes, EncodeError> {
    let length = out.len() - LENGTH_LEN;
    write::check("frame", length, FRAME_MAX)?;
    out[..LENGTH_LEN].copy_from_slice(&(length as i32).to_be_bytes());
    Ok(out.freeze())
}

#[cfg(test)]
mod tests;
