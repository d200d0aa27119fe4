//! PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT and AUTH: packets of a reason
//! code and properties that may be left out.

use bytes::{BufMut, BytesMut};

use super::reader::Reader;
use super::{
    AuthProperties, DecodeError, DisconnectProperties, EncodeError, PacketId, PacketType,
    ReasonProperties, Version,
};
use crate::reason::ReasonCode;

/// The content of PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// The result; always success in 3.1.1.
    pub reason: ReasonCode,
    /// Properties; none in 3.1.1.
    pub properties: ReasonProperties,
}

impl Ack {
    /// Makes an acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: ReasonProperties::default(),
        }
    }

    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        if version == Version::V5 && !reader.is_empty() {
            ack.reason = read_reason(reader)?;
            if !reader.is_empty() {
                ack.properties = ReasonProperties::read(reader)?;
            }
        }
        Ok(ack)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.packet_id.value());
        match self.tail(version) {
            Tail::Nothing => Ok(()),
            Tail::Reason => {
                out.put_u8(self.reason.to_byte());
                Ok(())
            }
            Tail::Properties => {
                out.put_u8(self.reason.to_byte());
                self.properties.write(out)
            }
        }
    }

    pub(super) fn len(&self, version: Version) -> usize {
        2 + match self.tail(version) {
            Tail::Nothing => 0,
            Tail::Reason => 1,
            Tail::Properties => 1 + self.properties.len(),
        }
    }

    fn tail(&self, version: Version) -> Tail {
        Tail::of(version, self.reason, self.properties.is_empty())
    }
}

/// DISCONNECT (section 3.14).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// Why the connection ends; always success in 3.1.1.
    pub reason: ReasonCode,
    /// Properties; none in 3.1.1.
    pub properties: DisconnectProperties,
}

impl Disconnect {
    /// Makes a DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: DisconnectProperties::default(),
        }
    }

    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let mut disconnect = Self::default();
        if version == Version::V5 && !reader.is_empty() {
            disconnect.reason = read_reason(reader)?;
            if !reader.is_empty() {
                disconnect.properties = DisconnectProperties::read(reader)?;
            }
        }
        Ok(disconnect)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match Tail::of(version, self.reason, self.properties.is_empty()) {
            Tail::Nothing => Ok(()),
            Tail::Reason => {
                out.put_u8(self.reason.to_byte());
                Ok(())
            }
            Tail::Properties => {
                out.put_u8(self.reason.to_byte());
                self.properties.write(out)
            }
        }
    }

    pub(super) fn len(&self, version: Version) -> usize {
        match Tail::of(version, self.reason, self.properties.is_empty()) {
            Tail::Nothing => 0,
            Tail::Reason => 1,
            Tail::Properties => 1 + self.properties.len(),
        }
    }
}

/// AUTH (section 3.15); MQTT 5 only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// What the exchange is at.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Ok(Self::default());
        }
        let reason = read_reason(reader)?;
        let properties = AuthProperties::read(reader)?;
        if properties.authentication_method.is_none() {
            return Err(reader.protocol("authentication method is missing (section 3.15.2.2.2)"));
        }
        Ok(Self { reason, properties })
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.len() == 0 {
            return Ok(());
        }
        out.put_u8(self.reason.to_byte());
        self.properties.write(out)
    }

    pub(super) fn len(&self) -> usize {
        if self.reason == ReasonCode::Success && self.properties.is_empty() {
            return 0;
        }
        1 + self.properties.len()
    }
}

/// How much follows: what says nothing is left out (sections 3.4.2.1 and
/// 3.14.2.1).
enum Tail {
    Nothing,
    Reason,
    Properties,
}

impl Tail {
    fn of(version: Version, reason: ReasonCode, is_empty: bool) -> Self {
        match (version, reason, is_empty) {
            (Version::V311, _, _) | (Version::V5, ReasonCode::Success, true) => Self::Nothing,
            (Version::V5, _, true) => Self::Reason,
            (Version::V5, _, false) => Self::Properties,
        }
    }
}

/// Reads a reason code and refuses one that the packet may not carry.
pub(super) fn read_reason(reader: &mut Reader) -> Result<ReasonCode, DecodeError> {
    let byte = reader.byte()?;
    match ReasonCode::from_byte(byte) {
        Some(reason) if is_allowed(reader.packet(), byte) => Ok(reason),
        _ => Err(reader.protocol("reason code does not belong in this packet (section 2.4)")),
    }
}

/// The reason codes of each packet, from tables 3-1 to 3-11.
pub(crate) fn is_allowed(packet: PacketType, reason: u8) -> bool {
    match packet {
        PacketType::ConnAck => matches!(
            reason,
            0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F
        ),
        PacketType::PubAck | PacketType::PubRec => matches!(
            reason,
            0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
        ),
        PacketType::PubRel | PacketType::PubComp => matches!(reason, 0x00 | 0x92),
        PacketType::SubAck => matches!(
            reason,
            0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
        ),
        PacketType::UnsubAck => matches!(reason, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
        PacketType::Disconnect => matches!(
            reason,
            0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2
        ),
        PacketType::Auth => matches!(reason, 0x00 | 0x18 | 0x19),
        _ => false,
    }
}
