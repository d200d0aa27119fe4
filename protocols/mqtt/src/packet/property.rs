//! The values of properties and the macro that makes a property set.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use super::encode::{put_binary, put_varint, varint_len};
use super::reader::Reader;
use super::{DecodeError, EncodeError, VARINT_MAX};
use crate::text::Text;
use crate::topic::TopicName;

/// A subscription identifier: 1 to 268,435,455 (section 3.8.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// Returns the identifier of a number, `None` when it is 0 or larger than
    /// a variable byte integer.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) if id.get() <= VARINT_MAX => Some(Self(id)),
            _ => None,
        }
    }

    /// Returns the number.
    pub const fn value(self) -> u32 {
        self.0.get()
    }
}

/// A topic alias: 1 to 65,535 (section 3.3.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicAlias(NonZeroU16);

impl TopicAlias {
    /// Returns the alias of a number, `None` for 0.
    pub const fn new(alias: u16) -> Option<Self> {
        match NonZeroU16::new(alias) {
            Some(alias) => Some(Self(alias)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

/// A maximum QoS below 2, which is what the property can say; QoS 2 is said
/// by leaving the property out (section 3.2.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MaximumQos {
    /// Only QoS 0 is served.
    AtMostOnce = 0,
    /// QoS 0 and 1 are served.
    AtLeastOnce = 1,
}

/// A value that a property can have.
pub(super) trait Value: Sized {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError>;
    fn len(&self) -> usize;
}

/// A place in a property set: at most one value, or any number of them.
pub(super) trait Slot {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError>;
    fn write(&self, id: u8, out: &mut BytesMut) -> Result<(), EncodeError>;
    fn len(&self) -> usize;
}

impl<V: Value> Slot for Option<V> {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let value = V::read(reader)?;
        if self.replace(value).is_some() {
            return Err(reader.protocol("property is included more than once (section 2.2.2.2)"));
        }
        Ok(())
    }

    fn write(&self, id: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        if let Some(value) = self {
            out.put_u8(id);
            value.write(out)?;
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.as_ref().map_or(0, |value| 1 + value.len())
    }
}

impl<V: Value> Slot for Vec<V> {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        self.push(V::read(reader)?);
        Ok(())
    }

    fn write(&self, id: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        for value in self {
            out.put_u8(id);
            value.write(out)?;
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.iter().map(|value| 1 + value.len()).sum()
    }
}

impl Value for bool {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.protocol("property is neither 0 nor 1 (section 2.2.2.2)")),
        }
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(u8::from(*self));
        Ok(())
    }

    fn len(&self) -> usize {
        1
    }
}

impl Value for MaximumQos {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.byte()? {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(reader.protocol("maximum QoS is neither 0 nor 1 (section 3.2.2.3.4)")),
        }
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(*self as u8);
        Ok(())
    }

    fn len(&self) -> usize {
        1
    }
}

impl Value for TopicAlias {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::new(reader.two_bytes()?).ok_or(DecodeError::TopicAliasZero)
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.value());
        Ok(())
    }

    fn len(&self) -> usize {
        2
    }
}

impl Value for u16 {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.two_bytes()
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(*self);
        Ok(())
    }

    fn len(&self) -> usize {
        2
    }
}

impl Value for NonZeroU16 {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        NonZeroU16::new(reader.two_bytes()?)
            .ok_or_else(|| reader.protocol("receive maximum is 0 (section 3.1.2.11.3)"))
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.get());
        Ok(())
    }

    fn len(&self) -> usize {
        2
    }
}

impl Value for u32 {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.four_bytes()
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(*self);
        Ok(())
    }

    fn len(&self) -> usize {
        4
    }
}

impl Value for NonZeroU32 {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        NonZeroU32::new(reader.four_bytes()?)
            .ok_or_else(|| reader.protocol("maximum packet size is 0 (section 3.1.2.11.4)"))
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.get());
        Ok(())
    }

    fn len(&self) -> usize {
        4
    }
}

impl Value for SubscriptionId {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::new(reader.varint()?)
            .ok_or_else(|| reader.protocol("subscription identifier is 0 (section 3.8.2.1.2)"))
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_varint(self.value(), out);
        Ok(())
    }

    fn len(&self) -> usize {
        varint_len(self.value())
    }
}

impl Value for Bytes {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.binary()
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_binary(self, out)
    }

    fn len(&self) -> usize {
        2 + Bytes::len(self)
    }
}

impl Value for Text {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.text()
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_binary(self.as_bytes(), out)
    }

    fn len(&self) -> usize {
        2 + Text::len(self)
    }
}

impl Value for (Text, Text) {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok((reader.text()?, reader.text()?))
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_binary(self.0.as_bytes(), out)?;
        put_binary(self.1.as_bytes(), out)
    }

    fn len(&self) -> usize {
        4 + self.0.len() + self.1.len()
    }
}

impl Value for TopicName {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.topic_name()
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_binary(self.text().as_bytes(), out)
    }

    fn len(&self) -> usize {
        2 + self.text().len()
    }
}

/// Refuses a property that a set does not list: a protocol error when another
/// packet may carry it, malformed when nobody knows it or when its value does
/// not fit (section 2.2.2.2).
pub(super) fn refuse(id: u32, reader: &mut Reader) -> DecodeError {
    let read = match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => reader.byte().map(drop),
        0x13 | 0x21 | 0x22 | 0x23 => reader.two_bytes().map(drop),
        0x02 | 0x11 | 0x18 | 0x27 => reader.four_bytes().map(drop),
        0x0B => reader.varint().map(drop),
        0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => reader.text().map(drop),
        0x09 | 0x16 => reader.binary().map(drop),
        0x26 => <(Text, Text)>::read(reader).map(drop),
        _ => Err(reader.malformed("property identifier is unknown (section 2.2.2.2)")),
    };
    match read {
        Ok(()) => reader.protocol("property does not belong in this packet (section 2.2.2.2)"),
        Err(error) => error,
    }
}

/// Declares a property set with its decoder and encoder: a field per property,
/// `Option` for one that may be there once, `Vec` for one that may repeat.
macro_rules! property_set {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty = $id:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $name {
            /// Says whether no property is set.
            pub fn is_empty(&self) -> bool {
                self.content_len() == 0
            }

            /// Reads the length and the properties (section 2.2.2).
            pub(super) fn read(
                reader: &mut $crate::packet::reader::Reader,
            ) -> Result<Self, $crate::packet::DecodeError> {
                use $crate::packet::property::Slot as _;
                let len = reader.varint()?;
                let mut reader = reader.section(len as usize)?;
                let mut set = Self::default();
                while !reader.is_empty() {
                    match reader.varint()? {
                        $( $id => set.$field.read_into(&mut reader)?, )*
                        id => return Err($crate::packet::property::refuse(id, &mut reader)),
                    }
                }
                Ok(set)
            }

            /// Writes the length and the properties (section 2.2.2).
            pub(super) fn write(
                &self,
                out: &mut bytes::BytesMut,
            ) -> Result<(), $crate::packet::EncodeError> {
                use $crate::packet::property::Slot as _;
                let len = $crate::packet::encode::length(self.content_len())?;
                $crate::packet::encode::put_varint(len, out);
                $( self.$field.write($id, out)?; )*
                Ok(())
            }

            /// Bytes that `write` appends.
            pub(super) fn len(&self) -> usize {
                let len = self.content_len();
                $crate::packet::encode::varint_len(u32::try_from(len).unwrap_or(u32::MAX)) + len
            }

            fn content_len(&self) -> usize {
                0 $( + $crate::packet::property::Slot::len(&self.$field) )*
            }
        }
    };
}

pub(super) use property_set;
