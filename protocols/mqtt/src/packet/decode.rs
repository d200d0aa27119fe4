//! The fixed header and the way to each packet's decoder (section 2.1).

use bytes::{Buf, BytesMut};

use super::reader::{Reader, Varint, read_varint};
use super::{
    Ack, Auth, ConnAck, Connect, DecodeError, Disconnect, Packet, PacketType, Publish, SubAck,
    Subscribe, UnsubAck, Unsubscribe, Version,
};

/// Takes one packet off the front of `input`; `None` when it is not complete.
///
/// `version` is the one that the connection's CONNECT named; a CONNECT itself
/// says its version, so `version` does not matter for it. `max_packet_size`
/// bounds the whole packet in bytes, fixed header included (section 3.2.2.3.6).
///
/// Type, flags and size are judged as soon as the fixed header is there, so a
/// packet that will be refused is not waited for. Nothing is allocated on the
/// word of a length field: the caller grows `input` by what it received.
/// Topics, payloads and strings are slices of `input`'s memory.
///
/// # Errors
///
/// Says what is wrong with the first packet. The input is then of no use, as
/// the connection has to be closed (section 4.13.1).
pub fn decode(
    input: &mut BytesMut,
    version: Version,
    max_packet_size: u32,
) -> Result<Option<Packet>, DecodeError> {
    let Some(first_byte) = input.first().copied() else {
        return Ok(None);
    };
    let packet_type = PacketType::from_first_byte(first_byte)
        .filter(|packet| *packet != PacketType::Auth || version == Version::V5)
        .ok_or(DecodeError::ReservedType { first_byte })?;
    let flags = first_byte & 0x0F;
    check_flags(packet_type, flags)?;
    let (remaining_len, varint_len) = match read_varint(&input[1..]) {
        Varint::Value { value, len } => (value as usize, len),
        Varint::Incomplete => return Ok(None),
        Varint::TooLong => {
            return Err(malformed(
                packet_type,
                "remaining length has more than four bytes (section 2.1.4)",
            ));
        }
        Varint::NotMinimal => {
            return Err(malformed(
                packet_type,
                "remaining length uses more bytes than necessary (section 1.5.5)",
            ));
        }
    };
    let header_len = 1 + varint_len;
    let size = header_len as u64 + remaining_len as u64;
    if size > u64::from(max_packet_size) {
        let limit = max_packet_size;
        return Err(DecodeError::TooLarge { size, limit });
    }
    if input.len() < header_len + remaining_len {
        return Ok(None);
    }
    input.advance(header_len);
    let body = input.split_to(remaining_len).freeze();
    let mut reader = Reader::new(packet_type, body);
    let packet = read_body(&mut reader, packet_type, flags, version)?;
    reader.finish()?;
    Ok(Some(packet))
}

fn malformed(packet: PacketType, what: &'static str) -> DecodeError {
    DecodeError::Malformed { packet, what }
}

/// Section 2.1.3: reserved flags must have the value listed there; for
/// PUBLISH the flags that contradict each other are refused at once.
fn check_flags(packet: PacketType, flags: u8) -> Result<(), DecodeError> {
    match packet.required_flags() {
        Some(required) if flags != required => Err(malformed(
            packet,
            "reserved flags of the fixed header have another value (section 2.1.3)",
        )),
        None if flags & 0b0110 == 0b0110 => Err(malformed(packet, "QoS is 3 (section 3.3.1.2)")),
        None if flags & 0b1110 == 0b1000 => {
            Err(malformed(packet, "DUP is set on QoS 0 (section 3.3.1.1)"))
        }
        _ => Ok(()),
    }
}

fn read_body(
    reader: &mut Reader,
    packet_type: PacketType,
    flags: u8,
    version: Version,
) -> Result<Packet, DecodeError> {
    Ok(match packet_type {
        PacketType::Connect => Packet::Connect(Box::new(Connect::read(reader)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(ConnAck::read(reader, version)?)),
        PacketType::Publish => Packet::Publish(Publish::read(reader, flags, version)?),
        PacketType::PubAck => Packet::PubAck(Ack::read(reader, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::read(reader, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::read(reader, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::read(reader, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::read(reader, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::read(reader, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::read(reader, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::read(reader, version)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::read(reader, version)?),
        PacketType::Auth => Packet::Auth(Auth::read(reader)?),
    })
}
