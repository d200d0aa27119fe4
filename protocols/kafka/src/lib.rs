//! The Kafka wire protocol: requests, responses and their headers.
//!
//! The message types are generated from `definitions/`, one file per API, with
//! the versions as data. This crate does no I/O and takes no decisions: which
//! versions a broker offers and what it answers is the broker's business.
//!
//! Input is hostile until it is decoded. A [`Reader`] compares every length
//! with the bytes that remain before it reserves memory, so a frame of N bytes
//! costs memory in proportion to N whatever it claims; the caller bounds N.
//! Records stay slices of the frame.
//!
//! Start at [`decode_request_header`] and [`Message::decode`] on the broker's
//! side, [`encode_request`] and [`decode_response`] on the client's. The
//! protocol is described at <https://kafka.apache.org/protocol.html>; flexible
//! versions and tagged fields are KIP-482.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

include!(concat!(env!("OUT_DIR"), "/with_request.rs"));

mod api_key;
pub mod append_condition;
mod error;
pub mod error_code;
mod frame;
mod kstr;
pub mod messages;
mod read;
mod write;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod sample;

use bytes::BytesMut;

pub use api_key::{ApiKey, UnknownApiKey};
pub use error::{DecodeError, EncodeError};
pub use frame::{
    RequestHeader, decode_request_header, decode_response, decode_response_header, encode_request,
    encode_request_header, encode_response, encode_response_header,
};
pub use kstr::KStr;
pub use read::Reader;

/// A request, a response, or a structure within one.
pub trait Message: Sized {
    /// Reads the message in the layout of `version`.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not hold the message.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message in the layout of `version`. Fields that the version
    /// does not have are left out.
    ///
    /// # Errors
    /// When the version is unknown or a value does not fit the layout; `out`
    /// then holds a part of the message.
    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), EncodeError>;
}

/// A request together with the type of its response.
pub trait Request: Message {
    /// The API that the request belongs to.
    const KEY: ApiKey;
    /// What the broker answers.
    type Response: Message;
}
