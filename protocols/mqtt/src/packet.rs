//! The control packets of both versions (chapter 3) and their codec.
//!
//! One set of types serves MQTT 3.1.1 and 5: what 3.1.1 does not have
//! (properties, most reason codes) is empty when decoded and left out when
//! encoded. [`decode`] takes one packet off the front of a buffer,
//! [`Packet::encode`] appends one.

mod acks;
mod connect;
mod decode;
mod encode;
mod error;
mod properties;
mod property;
mod publish;
mod reader;
mod subscribe;

use std::fmt;
use std::num::NonZeroU16;

pub(crate) use acks::is_allowed as reason_is_allowed;
pub use acks::{Ack, Auth, Disconnect};
pub use connect::{ConnAck, Connect, Will};
pub use decode::decode;
pub use error::{DecodeError, EncodeError};
pub use properties::{
    AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    ReasonProperties, SubscribeProperties, UnsubscribeProperties, WillProperties,
};
pub use property::{MaximumQos, SubscriptionId, TopicAlias};
pub use publish::Publish;
pub use subscribe::{
    RetainHandling, SubAck, Subscribe, Subscription, SubscriptionOptions, UnsubAck, Unsubscribe,
};

/// The largest value of a variable byte integer (section 1.5.5), and so the
/// largest remaining length of a packet.
pub const VARINT_MAX: u32 = 268_435_455;

/// The largest packet that can be written: a five byte fixed header and
/// [`VARINT_MAX`] bytes.
pub const PACKET_SIZE_MAX: u32 = VARINT_MAX + 5;

/// The protocol version, by the level byte of CONNECT (section 3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5, level 5.
    V5,
}

impl Version {
    /// Returns the protocol level.
    pub const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Quality of service (section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// Returns the QoS of two bits; 3 is malformed \[MQTT-3.3.1-4\].
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            2 => Self::ExactlyOnce,
            _ => return None,
        })
    }
}

/// A packet identifier: 1 to 65,535 (section 2.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// Returns the identifier of a number, `None` for 0 \[MQTT-2.2.1-3\].
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn value(self) -> u16 {
        self.0.get()
    }

    /// Returns the following identifier; 1 follows 65,535.
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(id) => Self(id),
            None => Self::FIRST,
        }
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A control packet (section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Asks for a connection (section 3.1). Boxed, because it is large and
    /// comes once.
    Connect(Box<Connect>),
    /// Answers CONNECT (section 3.2).
    ConnAck(Box<ConnAck>),
    /// Carries a message (section 3.3).
    Publish(Publish),
    /// Acknowledges a QoS 1 PUBLISH (section 3.4).
    PubAck(Ack),
    /// Acknowledges a QoS 2 PUBLISH (section 3.5).
    PubRec(Ack),
    /// Releases a QoS 2 message (section 3.6).
    PubRel(Ack),
    /// Completes a QoS 2 exchange (section 3.7).
    PubComp(Ack),
    /// Asks for subscriptions (section 3.8).
    Subscribe(Subscribe),
    /// Answers SUBSCRIBE (section 3.9).
    SubAck(SubAck),
    /// Ends subscriptions (section 3.10).
    Unsubscribe(Unsubscribe),
    /// Answers UNSUBSCRIBE (section 3.11).
    UnsubAck(UnsubAck),
    /// Asks for a sign of life (section 3.12).
    PingReq,
    /// Answers PINGREQ (section 3.13).
    PingResp,
    /// Ends the connection (section 3.14).
    Disconnect(Disconnect),
    /// Exchanges authentication data; MQTT 5 only (section 3.15).
    Auth(Auth),
}

impl Packet {
    /// Returns the type of the packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// The type of a control packet, by the high nibble of its first byte
/// (section 2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH; MQTT 5 only.
    Auth = 15,
}

impl PacketType {
    /// Returns the type of a packet's first byte, `None` for the reserved 0.
    pub const fn from_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// Returns the name as the specification writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The low nibble that section 2.1.3 prescribes; PUBLISH carries flags.
    const fn required_flags(self) -> Option<u8> {
        match self {
            Self::Publish => None,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => Some(0b0010),
            _ => Some(0),
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
