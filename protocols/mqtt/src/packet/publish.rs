//! PUBLISH (section 3.3).

use bytes::{BufMut, Bytes, BytesMut};

use super::encode::put_binary;
use super::reader::Reader;
use super::{DecodeError, EncodeError, PacketId, PacketType, PublishProperties, Qos, Version};
use crate::topic::TopicName;

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

/// PUBLISH (section 3.3). Topic and payload are slices of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Whether this may be a repetition (section 3.3.1.1).
    pub dup: bool,
    /// Quality of service (section 3.3.1.2).
    pub qos: Qos,
    /// Retain flag (section 3.3.1.3).
    pub retain: bool,
    /// Topic; empty only when a topic alias stands for it (section 3.3.2.1).
    pub topic: TopicName,
    /// Identifier; there exactly when the QoS is above 0 (section 3.3.2.2).
    pub packet_id: Option<PacketId>,
    /// Properties; none in 3.1.1.
    pub properties: PublishProperties,
    /// Application message, may be empty (section 3.3.3).
    pub payload: Bytes,
}

impl Publish {
    /// Makes a QoS 0 message without properties.
    pub fn new(topic: TopicName, payload: Bytes) -> Self {
        Self {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        }
    }

    pub(super) fn read(
        reader: &mut Reader,
        flags: u8,
        version: Version,
    ) -> Result<Self, DecodeError> {
        let qos = Qos::from_bits((flags >> 1) & 0b11)
            .ok_or_else(|| reader.malformed("QoS is 3 (section 3.3.1.2)"))?;
        let dup = flags & DUP != 0;
        if dup && qos == Qos::AtMostOnce {
            return Err(reader.malformed("DUP is set on QoS 0 (section 3.3.1.1)"));
        }
        let topic = match reader.text()? {
            text if text.is_empty() && version == Version::V5 => TopicName::default(),
            text => reader.name_of(text)?,
        };
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce | Qos::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = match version {
            Version::V311 => PublishProperties::default(),
            Version::V5 => PublishProperties::read(reader)?,
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(reader.protocol("topic name and topic alias are missing (section 3.3.2.1)"));
        }
        let payload = reader.rest();
        if properties.payload_is_utf8 == Some(true) && std::str::from_utf8(&payload).is_err() {
            return Err(DecodeError::PayloadFormat {
                packet: PacketType::Publish,
            });
        }
        Ok(Self {
            dup,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let invalid = |what| EncodeError::Invalid {
            packet: PacketType::Publish,
            what,
        };
        if self.packet_id.is_some() != (self.qos > Qos::AtMostOnce) {
            return Err(invalid(
                "packet identifier is there exactly when the QoS is above 0 (section 2.2.1)",
            ));
        }
        if self.dup && self.qos == Qos::AtMostOnce {
            return Err(invalid("DUP is set on QoS 0 (section 3.3.1.1)"));
        }
        let has_alias = version == Version::V5 && self.properties.topic_alias.is_some();
        if self.topic.is_empty() && !has_alias {
            return Err(invalid(
                "topic name and topic alias are missing (section 3.3.2.1)",
            ));
        }
        put_binary(self.topic.text().as_bytes(), out)?;
        if let Some(packet_id) = self.packet_id {
            out.put_u16(packet_id.value());
        }
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        out.put_slice(&self.payload);
        Ok(())
    }

    pub(super) fn len(&self, version: Version) -> usize {
        let packet_id_len = if self.packet_id.is_some() { 2 } else { 0 };
        let properties_len = match version {
            Version::V311 => 0,
            Version::V5 => self.properties.len(),
        };
        2 + self.topic.text().len() + packet_id_len + properties_len + self.payload.len()
    }

    /// The low nibble of the first byte (section 3.3.1).
    pub(super) fn flags(&self) -> u8 {
        let dup = if self.dup { DUP } else { 0 };
        let retain = if self.retain { RETAIN } else { 0 };
        dup | (self.qos as u8) << 1 | retain
    }
}
