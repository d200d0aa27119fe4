//! Why bytes are not a packet, and why a packet has no bytes.

use super::{PacketType, Version};
use crate::reason::ReasonCode;

/// Says why the front of the input is not an acceptable packet.
///
/// After any of these the connection is closed (section 4.13.1);
/// [`DecodeError::reason`] is the code that MQTT 5 sends before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not follow the packet's format: reason 0x81.
    #[error("malformed {packet}: {what}")]
    Malformed {
        /// The packet that was read.
        packet: PacketType,
        /// What is wrong, with the section of the specification.
        what: &'static str,
    },
    /// The type nibble of the first byte is 0, or 15 in 3.1.1: reason 0x81.
    #[error("first byte 0x{first_byte:02x} names a reserved packet type (section 2.1.2)")]
    ReservedType {
        /// The first byte of the packet.
        first_byte: u8,
    },
    /// The bytes can be read, but the protocol forbids them: reason 0x82.
    #[error("protocol error in {packet}: {what}")]
    Protocol {
        /// The packet that was read.
        packet: PacketType,
        /// What is wrong, with the section of the specification.
        what: &'static str,
    },
    /// CONNECT names a protocol or level that is not served: reason 0x84.
    #[error(
        "protocol level {level} is not supported, expected MQTT with level 4 or 5 (section 3.1.2.2)"
    )]
    UnsupportedLevel {
        /// The protocol level of the packet.
        level: u8,
    },
    /// CONNECT names another protocol than MQTT: reason 0x84.
    #[error("protocol name is not MQTT (section 3.1.2.1)")]
    ProtocolName,
    /// A topic filter has bad syntax: reason 0x8F.
    #[error("topic filter in {packet} is invalid: {what}")]
    TopicFilter {
        /// The packet that was read.
        packet: PacketType,
        /// What is wrong, with the section of the specification.
        what: crate::topic::TopicError,
    },
    /// A topic name contains a wildcard: reason 0x90.
    #[error("topic name in {packet} is invalid: {what}")]
    TopicName {
        /// The packet that was read.
        packet: PacketType,
        /// What is wrong, with the section of the specification.
        what: crate::topic::TopicError,
    },
    /// The topic alias is 0: reason 0x94 \[MQTT-3.3.2-8\].
    #[error("topic alias is 0, expected 1 to 65535 (section 3.3.2.3.4)")]
    TopicAliasZero,
    /// The fixed header announces more than is accepted: reason 0x95.
    #[error("packet of {size} bytes is larger than the limit of {limit} (section 3.2.2.3.6)")]
    TooLarge {
        /// Bytes of the packet, the fixed header included.
        size: u64,
        /// Bytes accepted.
        limit: u32,
    },
    /// A PUBLISH or will says that it is UTF-8 and is not: reason 0x99.
    #[error("payload of {packet} is announced as UTF-8 and is not (section 3.3.2.3.2)")]
    PayloadFormat {
        /// The packet that was read.
        packet: PacketType,
    },
    /// The first packet is another one than CONNECT \[MQTT-3.1.0-1\]: reason
    /// 0x82. There is no connection yet, so nothing is sent.
    #[error("first byte is 0x{first_byte:02x}, expected CONNECT, 0x10 (section 3.1)")]
    NotConnect {
        /// The first byte received.
        first_byte: u8,
    },
    /// A CONNECT was refused after its protocol level was read, so that the
    /// CONNACK can be written in that version.
    #[error("CONNECT refused: {cause}")]
    Connect {
        /// The version of the CONNECT.
        version: Version,
        /// What is wrong with it.
        cause: Box<DecodeError>,
    },
}

impl DecodeError {
    /// Returns the MQTT 5 reason code that names this error (section 4.13).
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed { .. } | Self::ReservedType { .. } => ReasonCode::MalformedPacket,
            Self::Protocol { .. } | Self::NotConnect { .. } => ReasonCode::ProtocolError,
            Self::UnsupportedLevel { .. } | Self::ProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::TopicFilter { .. } => ReasonCode::TopicFilterInvalid,
            Self::TopicName { .. } => ReasonCode::TopicNameInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::PayloadFormat { .. } => ReasonCode::PayloadFormatInvalid,
            Self::Connect { cause, .. } => cause.reason(),
        }
    }
}

/// Says why a packet cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The packet is larger than a remaining length can say (section 2.1.4).
    #[error("packet needs {size} bytes after its fixed header, the limit is 268435455")]
    TooLarge {
        /// Bytes after the fixed header.
        size: usize,
    },
    /// A binary field is longer than its two-byte length prefix can say
    /// (section 1.5.6).
    #[error("binary field has {len} bytes, the limit is 65535")]
    BinaryTooLong {
        /// Bytes of the field.
        len: usize,
    },
    /// The packet does not exist in this version: AUTH in 3.1.1.
    #[error("{packet} does not exist in MQTT 3.1.1")]
    NotInVersion {
        /// The packet.
        packet: PacketType,
    },
    /// The packet has no valid form: a QoS above 0 without packet identifier
    /// or the reverse, no subscriptions, a password without user name in
    /// 3.1.1.
    #[error("{packet} cannot be written: {what}")]
    Invalid {
        /// The packet.
        packet: PacketType,
        /// What is wrong, with the section of the specification.
        what: &'static str,
    },
}
