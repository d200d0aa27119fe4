//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11).

use bytes::{BufMut, BytesMut};

use super::acks::read_reason;
use super::encode::put_binary;
use super::reader::Reader;
use super::{
    DecodeError, EncodeError, PacketId, PacketType, Qos, ReasonProperties, SubscribeProperties,
    UnsubscribeProperties, Version,
};
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RESERVED_V5: u8 = 0b1100_0000;
const RESERVED_V311: u8 = 0b1111_1100;

/// SUBSCRIBE (section 3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Identifier of the request.
    pub packet_id: PacketId,
    /// Properties; none in 3.1.1.
    pub properties: SubscribeProperties,
    /// What is asked for, at least one.
    pub subscriptions: Vec<Subscription>,
}

/// One topic filter with its options (section 3.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: TopicFilter,
    /// The options.
    pub options: SubscriptionOptions,
}

/// Subscription options (section 3.8.3.1); 3.1.1 has only the QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// Highest QoS of deliveries.
    pub qos: Qos,
    /// Whether the subscriber's own messages are left out.
    pub no_local: bool,
    /// Whether the retain flag of the publisher is kept.
    pub retain_as_published: bool,
    /// What is done with retained messages.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent (section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// Each time the subscription is made; what 3.1.1 does.
    #[default]
    SendAtSubscribe = 0,
    /// Only when the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// Reads the options byte; in 3.1.1 it is the requested QoS.
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let byte = reader.byte()?;
        let reserved = match version {
            Version::V311 => RESERVED_V311,
            Version::V5 => RESERVED_V5,
        };
        if byte & reserved != 0 {
            return Err(reader.malformed("reserved subscription option is set (section 3.8.3.1)"));
        }
        let retain_handling = match (byte >> 4) & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(reader.protocol("retain handling is 3 (section 3.8.3.1)")),
        };
        Ok(Self {
            qos: Qos::from_bits(byte & 0b11)
                .ok_or_else(|| reader.protocol("maximum QoS is 3 (section 3.8.3.1)"))?,
            no_local: byte & NO_LOCAL != 0,
            retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    /// Returns the options byte of MQTT 5, which persisted sessions may keep.
    pub fn to_byte(self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let as_published = if self.retain_as_published {
            RETAIN_AS_PUBLISHED
        } else {
            0
        };
        self.qos as u8 | no_local | as_published | (self.retain_handling as u8) << 4
    }

    /// Returns the options of a byte of MQTT 5, `None` when it is not valid.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let mut reader = Reader::new(
            PacketType::Subscribe,
            bytes::Bytes::copy_from_slice(&[byte]),
        );
        Self::read(&mut reader, Version::V5).ok()
    }
}

impl Subscribe {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => SubscribeProperties::default(),
            Version::V5 => SubscribeProperties::read(reader)?,
        };
        let mut subscriptions = Vec::new();
        while !reader.is_empty() {
            let filter = reader.topic_filter()?;
            let options = SubscriptionOptions::read(reader, version)?;
            if options.no_local && filter.is_shared() {
                return Err(reader.protocol("no local on a shared subscription (section 3.8.3.1)"));
            }
            subscriptions.push(Subscription { filter, options });
        }
        if subscriptions.is_empty() {
            return Err(reader.protocol("has no topic filter (section 3.8.3)"));
        }
        Ok(Self {
            packet_id,
            properties,
            subscriptions,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.subscriptions.is_empty() {
            return Err(EncodeError::Invalid {
                packet: PacketType::Subscribe,
                what: "has no topic filter (section 3.8.3)",
            });
        }
        out.put_u16(self.packet_id.value());
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        for subscription in &self.subscriptions {
            put_binary(subscription.filter.text().as_bytes(), out)?;
            out.put_u8(match version {
                Version::V311 => subscription.options.qos as u8,
                Version::V5 => subscription.options.to_byte(),
            });
        }
        Ok(())
    }

    pub(super) fn len(&self, version: Version) -> usize {
        let filter_len = |subscription: &Subscription| 3 + subscription.filter.text().len();
        let filters_len: usize = self.subscriptions.iter().map(filter_len).sum();
        let properties_len = match version {
            Version::V311 => 0,
            Version::V5 => self.properties.len(),
        };
        2 + properties_len + filters_len
    }
}

/// SUBACK (section 3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// Identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties; none in 3.1.1.
    pub properties: ReasonProperties,
    /// One result per topic filter, in order: a granted QoS or a failure,
    /// which 3.1.1 writes as 0x80.
    pub reasons: Vec<ReasonCode>,
}

impl SubAck {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => ReasonProperties::default(),
            Version::V5 => ReasonProperties::read(reader)?,
        };
        let mut reasons = Vec::new();
        while !reader.is_empty() {
            let reason = read_reason(reader)?;
            let is_known_to_v311 = !reason.is_failure() || reason == ReasonCode::UnspecifiedError;
            if version == Version::V311 && !is_known_to_v311 {
                return Err(reader.protocol("return code is reserved (3.1.1 section 3.9.3)"));
            }
            reasons.push(reason);
        }
        if reasons.is_empty() {
            return Err(reader.protocol("has no reason code (section 3.9.3)"));
        }
        Ok(Self {
            packet_id,
            properties,
            reasons,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.packet_id.value());
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        for reason in &self.reasons {
            out.put_u8(match version {
                Version::V311 if reason.is_failure() => ReasonCode::UnspecifiedError.to_byte(),
                _ => reason.to_byte(),
            });
        }
        Ok(())
    }

    pub(super) fn len(&self, version: Version) -> usize {
        let properties_len = match version {
            Version::V311 => 0,
            Version::V5 => self.properties.len(),
        };
        2 + properties_len + self.reasons.len()
    }
}

/// UNSUBSCRIBE (section 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Identifier of the request.
    pub packet_id: PacketId,
    /// Properties; none in 3.1.1.
    pub properties: UnsubscribeProperties,
    /// The filters to end, at least one.
    pub filters: Vec<TopicFilter>,
}

impl Unsubscribe {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => UnsubscribeProperties::default(),
            Version::V5 => UnsubscribeProperties::read(reader)?,
        };
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.topic_filter()?);
        }
        if filters.is_empty() {
            return Err(reader.protocol("has no topic filter (section 3.10.3)"));
        }
        Ok(Self {
            packet_id,
            properties,
            filters,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Invalid {
                packet: PacketType::Unsubscribe,
                what: "has no topic filter (section 3.10.3)",
            });
        }
        out.put_u16(self.packet_id.value());
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        for filter in &self.filters {
            put_binary(filter.text().as_bytes(), out)?;
        }
        Ok(())
    }

    pub(super) fn len(&self, version: Version) -> usize {
        let properties_len = match version {
            Version::V311 => 0,
            Version::V5 => self.properties.len(),
        };
        let filter_len = |filter: &TopicFilter| 2 + filter.text().len();
        2 + properties_len + self.filters.iter().map(filter_len).sum::<usize>()
    }
}

/// UNSUBACK (section 3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// Identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties; none in 3.1.1.
    pub properties: ReasonProperties,
    /// One result per topic filter, in order; none in 3.1.1.
    pub reasons: Vec<ReasonCode>,
}

impl UnsubAck {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let mut unsub_ack = Self {
            packet_id: reader.packet_id()?,
            properties: ReasonProperties::default(),
            reasons: Vec::new(),
        };
        if version == Version::V5 {
            unsub_ack.properties = ReasonProperties::read(reader)?;
            while !reader.is_empty() {
                unsub_ack.reasons.push(read_reason(reader)?);
            }
            if unsub_ack.reasons.is_empty() {
                return Err(reader.protocol("has no reason code (section 3.11.3)"));
            }
        }
        Ok(unsub_ack)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.packet_id.value());
        if version == Version::V5 {
            self.properties.write(out)?;
            for reason in &self.reasons {
                out.put_u8(reason.to_byte());
            }
        }
        Ok(())
    }

    pub(super) fn len(&self, version: Version) -> usize {
        match version {
            Version::V311 => 2,
            Version::V5 => 2 + self.properties.len() + self.reasons.len(),
        }
    }
}
