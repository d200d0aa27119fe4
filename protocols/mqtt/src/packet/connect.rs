//! CONNECT and CONNACK (sections 3.1 and 3.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::acks::read_reason;
use super::encode::put_binary;
use super::reader::Reader;
use super::{
    ConnAckProperties, ConnectProperties, DecodeError, EncodeError, PacketType, Qos, Version,
    WillProperties,
};
use crate::reason::ReasonCode;
use crate::text::Text;
use crate::topic::TopicName;

const USER_NAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL_RETAIN: u8 = 0b0010_0000;
const WILL: u8 = 0b0000_0100;
const CLEAN_START: u8 = 0b0000_0010;
const RESERVED: u8 = 0b0000_0001;

/// The level of MQTT 3.1, which calls itself `MQIsdp`.
const LEVEL_3_1: u8 = 3;

/// CONNECT (section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The protocol version of the connection (section 3.1.2.2).
    pub version: Version,
    /// Whether an existing session is discarded; 3.1.1 calls it clean session
    /// (section 3.1.2.4).
    pub clean_start: bool,
    /// Longest silence of the client in seconds, 0 for no limit
    /// (section 3.1.2.10).
    pub keep_alive: u16,
    /// Client identifier; empty asks the server to assign one
    /// (section 3.1.3.1).
    pub client_id: Text,
    /// Message to publish when the connection ends badly (section 3.1.2.5).
    pub will: Option<Will>,
    /// User name (section 3.1.3.5).
    pub user_name: Option<Text>,
    /// Password, any bytes (section 3.1.3.6).
    pub password: Option<Bytes>,
    /// Properties; none in 3.1.1.
    pub properties: ConnectProperties,
}

/// The will message of a CONNECT (sections 3.1.2.5 and 3.1.3.2 to 3.1.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic to publish on.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// QoS to publish with.
    pub qos: Qos,
    /// Whether to publish as a retained message.
    pub retain: bool,
    /// Properties; none in 3.1.1.
    pub properties: WillProperties,
}

impl Connect {
    /// Makes a CONNECT with clean start, keep alive 0 and nothing else.
    pub fn new(version: Version, client_id: Text) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Reads the packet; its own level byte says which version it is.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = read_version(reader)?;
        Self::read_fields(reader, version).map_err(|cause| in_version(version, cause))
    }

    fn read_fields(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let flags = reader.byte()?;
        check_flags(reader, flags, version)?;
        let keep_alive = reader.two_bytes()?;
        let properties = match version {
            Version::V311 => ConnectProperties::default(),
            Version::V5 => ConnectProperties::read(reader)?,
        };
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(
                reader.protocol("authentication data comes without a method (section 3.1.2.11.10)")
            );
        }
        let client_id = reader.text()?;
        let will = if flags & WILL == 0 {
            None
        } else {
            Some(Will::read(reader, flags, version)?)
        };
        let user_name = if flags & USER_NAME == 0 {
            None
        } else {
            Some(reader.text()?)
        };
        let password = if flags & PASSWORD == 0 {
            None
        } else {
            Some(reader.binary()?)
        };
        if !reader.is_empty() {
            return Err(reader.malformed("has bytes after its last field (section 3.1.3)"));
        }
        Ok(Self {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.version == Version::V311 && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::Invalid {
                packet: PacketType::Connect,
                what: "password without user name (3.1.1 section 3.1.2.9)",
            });
        }
        put_binary(b"MQTT", out)?;
        out.put_u8(self.version.level());
        out.put_u8(self.flags());
        out.put_u16(self.keep_alive);
        if self.version == Version::V5 {
            self.properties.write(out)?;
        }
        put_binary(self.client_id.as_bytes(), out)?;
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                will.properties.write(out)?;
            }
            put_binary(will.topic.text().as_bytes(), out)?;
            put_binary(&will.payload, out)?;
        }
        if let Some(user_name) = &self.user_name {
            put_binary(user_name.as_bytes(), out)?;
        }
        if let Some(password) = &self.password {
            put_binary(password, out)?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        let is_v5 = self.version == Version::V5;
        let properties_len = if is_v5 { self.properties.len() } else { 0 };
        let will_len = self.will.as_ref().map_or(0, |will| {
            let properties_len = if is_v5 { will.properties.len() } else { 0 };
            properties_len + 4 + will.topic.text().len() + will.payload.len()
        });
        let user_name_len = self.user_name.as_ref().map_or(0, |name| 2 + name.len());
        let password_len = self.password.as_ref().map_or(0, |bytes| 2 + bytes.len());
        let fixed_len = 10 + properties_len + 2 + self.client_id.len();
        fixed_len + will_len + user_name_len + password_len
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

impl Will {
    fn read(reader: &mut Reader, flags: u8, version: Version) -> Result<Self, DecodeError> {
        let properties = match version {
            Version::V311 => WillProperties::default(),
            Version::V5 => WillProperties::read(reader)?,
        };
        let topic = reader.topic_name()?;
        let payload = reader.binary()?;
        if properties.payload_is_utf8 == Some(true) && std::str::from_utf8(&payload).is_err() {
            return Err(DecodeError::PayloadFormat {
                packet: reader.packet(),
            });
        }
        let qos = Qos::from_bits((flags >> 3) & 0b11)
            .ok_or_else(|| reader.malformed("will QoS is 3 (section 3.1.2.6)"))?;
        Ok(Self {
            topic,
            payload,
            qos,
            retain: flags & WILL_RETAIN != 0,
            properties,
        })
    }
}

/// Reads the protocol name and level (sections 3.1.2.1 and 3.1.2.2).
fn read_version(reader: &mut Reader) -> Result<Version, DecodeError> {
    let name = reader.binary()?;
    let level = reader.byte()?;
    match (&name[..], level) {
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", level) => Err(DecodeError::UnsupportedLevel { level }),
        (b"MQIsdp", LEVEL_3_1) => Err(DecodeError::UnsupportedLevel { level }),
        _ => Err(DecodeError::ProtocolName),
    }
}

fn check_flags(reader: &Reader, flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(reader.malformed("reserved connect flag is set (section 3.1.2.3)"));
    }
    let will_qos = (flags >> 3) & 0b11;
    if flags & WILL == 0 && (will_qos != 0 || flags & WILL_RETAIN != 0) {
        return Err(reader.malformed("will QoS or retain is set without a will (section 3.1.2.6)"));
    }
    if will_qos == 3 {
        return Err(reader.malformed("will QoS is 3 (section 3.1.2.6)"));
    }
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(reader.malformed("password without user name (3.1.1 section 3.1.2.9)"));
    }
    Ok(())
}

/// Remembers the version, so that the refusal can be written in it.
pub(super) fn in_version(version: Version, cause: DecodeError) -> DecodeError {
    DecodeError::Connect {
        version,
        cause: Box::new(cause),
    }
}

/// CONNACK (section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnAck {
    /// Whether the server resumes a session it kept (section 3.2.2.1.1).
    pub session_present: bool,
    /// The result. In 3.1.1 it is written as the return code that says the
    /// same, see [`ReasonCode::to_return_code`].
    pub reason: ReasonCode,
    /// Properties; none in 3.1.1.
    pub properties: ConnAckProperties,
}

impl ConnAck {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let flags = reader.byte()?;
        if flags > 1 {
            return Err(reader.malformed("reserved acknowledge flag is set (section 3.2.2.1)"));
        }
        let reason = match version {
            Version::V311 => ReasonCode::from_return_code(reader.byte()?).ok_or_else(|| {
                reader.protocol("return code is reserved (3.1.1 section 3.2.2.3)")
            })?,
            Version::V5 => read_reason(reader)?,
        };
        if flags == 1 && reason != ReasonCode::Success {
            return Err(reader.protocol("session is present in a refusal (section 3.2.2.1.1)"));
        }
        let properties = match version {
            Version::V311 => ConnAckProperties::default(),
            Version::V5 => ConnAckProperties::read(reader)?,
        };
        Ok(Self {
            session_present: flags == 1,
            reason,
            properties,
        })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(u8::from(self.session_present));
        match version {
            Version::V311 => {
                out.put_u8(self.reason.to_return_code());
                Ok(())
            }
            Version::V5 => {
                out.put_u8(self.reason.to_byte());
                self.properties.write(out)
            }
        }
    }

    pub(super) fn len(&self, version: Version) -> usize {
        match version {
            Version::V311 => 2,
            Version::V5 => 2 + self.properties.len(),
        }
    }
}
