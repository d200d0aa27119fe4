//! Writes packets: the fixed header in front of each packet's own encoder.

use bytes::{BufMut, BytesMut};

use super::{EncodeError, Packet, PacketType, VARINT_MAX, Version};

impl Packet {
    /// Appends the packet to `out`.
    ///
    /// What the version does not have is left out; a CONNECT is written in the
    /// version that it names itself.
    ///
    /// # Errors
    ///
    /// Refuses a packet that has no valid form, see [`EncodeError`]; `out` is
    /// then as it was before.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if matches!(self, Self::Auth(_)) && version == Version::V311 {
            let packet = PacketType::Auth;
            return Err(EncodeError::NotInVersion { packet });
        }
        let start = out.len();
        let remaining_len = length(self.body_len(version))?;
        out.reserve(1 + varint_len(remaining_len) + remaining_len as usize);
        out.put_u8((self.packet_type() as u8) << 4 | self.flags());
        put_varint(remaining_len, out);
        let body_start = out.len();
        if let Err(error) = self.write_body(version, out) {
            out.truncate(start);
            return Err(error);
        }
        debug_assert_eq!(out.len() - body_start, remaining_len as usize);
        Ok(())
    }

    /// Returns the bytes that [`Packet::encode`] appends, the fixed header
    /// included; this is what a maximum packet size bounds (section 3.1.2.11.4).
    pub fn encoded_len(&self, version: Version) -> usize {
        let body_len = self.body_len(version);
        1 + varint_len(u32::try_from(body_len).unwrap_or(u32::MAX)) + body_len
    }

    fn flags(&self) -> u8 {
        match self {
            Self::Publish(publish) => publish.flags(),
            _ => self.packet_type().required_flags().unwrap_or(0),
        }
    }

    fn body_len(&self, version: Version) -> usize {
        match self {
            Self::Connect(connect) => connect.len(),
            Self::ConnAck(conn_ack) => conn_ack.len(version),
            Self::Publish(publish) => publish.len(version),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.len(version)
            }
            Self::Subscribe(subscribe) => subscribe.len(version),
            Self::SubAck(sub_ack) => sub_ack.len(version),
            Self::Unsubscribe(unsubscribe) => unsubscribe.len(version),
            Self::UnsubAck(unsub_ack) => unsub_ack.len(version),
            Self::PingReq | Self::PingResp => 0,
            Self::Disconnect(disconnect) => disconnect.len(version),
            Self::Auth(auth) => auth.len(),
        }
    }

    fn write_body(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.write(out),
            Self::ConnAck(conn_ack) => conn_ack.write(version, out),
            Self::Publish(publish) => publish.write(version, out),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.write(version, out)
            }
            Self::Subscribe(subscribe) => subscribe.write(version, out),
            Self::SubAck(sub_ack) => sub_ack.write(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.write(version, out),
            Self::UnsubAck(unsub_ack) => unsub_ack.write(version, out),
            Self::PingReq | Self::PingResp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.write(version, out),
            Self::Auth(auth) => auth.write(out),
        }
    }
}

/// Checks a length against what a variable byte integer can say.
pub(super) fn length(len: usize) -> Result<u32, EncodeError> {
    match u32::try_from(len) {
        Ok(len) if len <= VARINT_MAX => Ok(len),
        _ => Err(EncodeError::TooLarge { size: len }),
    }
}

/// Writes a variable byte integer (section 1.5.5).
pub(super) fn put_varint(mut value: u32, out: &mut BytesMut) {
    while value > 0x7F {
        out.put_u8(0x80 | (value & 0x7F) as u8);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Returns the bytes that a variable byte integer takes (section 1.5.5).
pub(super) fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes a two-byte length and the bytes (sections 1.5.4 and 1.5.6).
pub(super) fn put_binary(bytes: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    let len =
        u16::try_from(bytes.len()).map_err(|_| EncodeError::BinaryTooLong { len: bytes.len() })?;
    out.put_u16(len);
    out.put_slice(bytes);
    Ok(())
}
