//! The protobuf wire format: fields of bounded length, read in place.

use crate::decode::DecodeError;

/// Longest varint: 64 bits in groups of seven.
const VARINT_LEN_MAX: usize = 10;

/// The content of one field as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// One field: its number, its content, and its bytes as they stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub number: u32,
    pub content: Content<'a>,
    pub raw: &'a [u8],
}

/// Reads fields one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// Position of `rest` in the payload, for errors.
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a message at `at` of the payload.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// The next field, or `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest;
        let at = self.at;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number))
            .ok_or(DecodeError::FieldNumber { at })?;
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Fixed32(u32::from_le_bytes(self.array()?)),
            wire_type => {
                return Err(DecodeError::WireType {
                    at,
                    wire_type: wire_type as u8,
                });
            }
        };
        let raw = &start[..start.len() - self.rest.len()];
        Ok(Some(Field {
            number,
            content,
            raw,
        }))
    }

    /// Reads one varint, as packed fields have them.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for index in 0..VARINT_LEN_MAX {
            let Some(&byte) = self.rest.get(index) else {
                return Err(DecodeError::Truncated { at: self.at });
            };
            let bits = u64::from(byte & 0x7f);
            if index == VARINT_LEN_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.skip(index + 1);
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { at: self.at })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let bytes = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.get(..length))
            .ok_or(DecodeError::Truncated { at: self.at })?;
        self.skip(bytes.len());
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((array, _)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { at: self.at });
        };
        let array = *array;
        self.skip(N);
        Ok(array)
    }

    fn skip(&mut self, length: usize) {
        self.rest = &self.rest[length..];
        self.at += length;
    }
}

/// Appends a field of wire type 0.
pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

/// Appends a field of wire type 1.
pub(crate) fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field of wire type 5.
pub(crate) fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field of wire type 2.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a nested message.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_of_64_bits_is_read_and_one_of_65_is_not() {
        let largest = [&[0xff; 9][..], &[0x01]].concat();
        assert_eq!(Fields::new(&largest).varint(), Ok(u64::MAX));
        let larger = [&[0xff; 9][..], &[0x02]].concat();
        assert_eq!(
            Fields::new(&larger).varint(),
            Err(DecodeError::Varint { at: 0 })
        );
        assert_eq!(
            Fields::new(&[0x80; 11]).varint(),
            Err(DecodeError::Varint { at: 0 })
        );
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        let group = [0x0b];
        assert_eq!(
            Fields::new(&group).next(),
            Err(DecodeError::WireType {
                at: 0,
                wire_type: 3
            })
        );
        let zero = [0x00, 0x00];
        assert_eq!(
            Fields::new(&zero).next(),
            Err(DecodeError::FieldNumber { at: 0 })
        );
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_without_allocating() {
        let claims = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(
            Fields::new(&claims).next(),
            Err(DecodeError::Truncated { at: 10 })
        );
    }
}
