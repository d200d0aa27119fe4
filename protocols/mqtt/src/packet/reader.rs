//! Reads the data representations of section 1.5 from one packet's bytes.

use bytes::{Buf, Bytes};

use super::{DecodeError, PacketId, PacketType, VARINT_MAX};
use crate::text::{Text, TextError};
use crate::topic::{TopicError, TopicFilter, TopicName};

/// A cursor over the bytes behind a fixed header. Nothing is read past the
/// end, and strings and payloads are slices.
pub(super) struct Reader {
    bytes: Bytes,
    packet: PacketType,
}

impl Reader {
    pub(super) fn new(packet: PacketType, bytes: Bytes) -> Self {
        Self { bytes, packet }
    }

    pub(super) fn packet(&self) -> PacketType {
        self.packet
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed {
            packet: self.packet,
            what,
        }
    }

    pub(super) fn protocol(&self, what: &'static str) -> DecodeError {
        DecodeError::Protocol {
            packet: self.packet,
            what,
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.bytes
            .try_get_u8()
            .map_err(|_| self.malformed("ends inside a byte field (section 2.1.4)"))
    }

    pub(super) fn two_bytes(&mut self) -> Result<u16, DecodeError> {
        self.bytes
            .try_get_u16()
            .map_err(|_| self.malformed("ends inside a two byte integer (section 1.5.2)"))
    }

    pub(super) fn four_bytes(&mut self) -> Result<u32, DecodeError> {
        self.bytes
            .try_get_u32()
            .map_err(|_| self.malformed("ends inside a four byte integer (section 1.5.3)"))
    }

    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        match read_varint(&self.bytes) {
            Varint::Value { value, len } => {
                self.bytes.advance(len);
                Ok(value)
            }
            Varint::Incomplete => {
                Err(self.malformed("ends inside a variable byte integer (section 1.5.5)"))
            }
            Varint::TooLong => {
                Err(self
                    .malformed("variable byte integer has more than four bytes (section 1.5.5)"))
            }
            Varint::NotMinimal => Err(self
                .malformed("variable byte integer uses more bytes than necessary (section 1.5.5)")),
        }
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.two_bytes()?);
        if len > self.bytes.len() {
            return Err(self.malformed("ends inside a string or binary field (section 1.5.6)"));
        }
        Ok(self.bytes.split_to(len))
    }

    pub(super) fn text(&mut self) -> Result<Text, DecodeError> {
        let bytes = self.binary()?;
        Text::from_bytes(bytes).map_err(|error| self.text_error(error))
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.two_bytes()?)
            .ok_or_else(|| self.protocol("packet identifier is 0 (section 2.2.1)"))
    }

    pub(super) fn topic_name(&mut self) -> Result<TopicName, DecodeError> {
        let text = self.text()?;
        self.name_of(text)
    }

    /// Makes a topic name of a text that was read before.
    pub(super) fn name_of(&self, text: Text) -> Result<TopicName, DecodeError> {
        TopicName::new(text).map_err(|error| match error {
            TopicError::Text(error) => self.text_error(error),
            TopicError::Empty => self.protocol("topic name is empty (section 4.7.3)"),
            what => DecodeError::TopicName {
                packet: self.packet,
                what,
            },
        })
    }

    pub(super) fn topic_filter(&mut self) -> Result<TopicFilter, DecodeError> {
        let text = self.text()?;
        TopicFilter::new(text).map_err(|error| match error {
            TopicError::Text(error) => self.text_error(error),
            what => DecodeError::TopicFilter {
                packet: self.packet,
                what,
            },
        })
    }

    /// Takes the next `len` bytes as a reader of its own.
    pub(super) fn section(&mut self, len: usize) -> Result<Self, DecodeError> {
        if len > self.bytes.len() {
            return Err(self.malformed("property length is past the end (section 2.2.2.1)"));
        }
        Ok(Self {
            bytes: self.bytes.split_to(len),
            packet: self.packet,
        })
    }

    /// Takes all that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    /// Refuses bytes behind the last field.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(self.malformed("has bytes after its last field (section 2.1.4)"))
    }

    fn text_error(&self, error: TextError) -> DecodeError {
        self.malformed(match error {
            TextError::NotUtf8 => "string is not well-formed UTF-8 (section 1.5.4)",
            TextError::Null => "string contains U+0000 (section 1.5.4)",
            TextError::TooLong { .. } => "string is longer than 65535 bytes (section 1.5.4)",
        })
    }
}

/// What the front of a buffer holds as a variable byte integer.
pub(super) enum Varint {
    Value { value: u32, len: usize },
    Incomplete,
    TooLong,
    NotMinimal,
}

/// Reads a variable byte integer (section 1.5.5). A last byte of 0 behind
/// other bytes is an encoding longer than necessary \[MQTT-1.5.5-1\].
pub(super) fn read_varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if *byte == 0 && index > 0 {
                return Varint::NotMinimal;
            }
            debug_assert!(value <= VARINT_MAX);
            let len = index + 1;
            return Varint::Value { value, len };
        }
    }
    if bytes.len() < 4 {
        Varint::Incomplete
    } else {
        Varint::TooLong
    }
}
