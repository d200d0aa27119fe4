//! Reading the primitive types from a frame.

use bytes::Bytes;

use crate::{DecodeError, KStr};

/// Longest string of the protocol, in bytes: its length is a signed 16-bit number.
pub(crate) const STRING_MAX: usize = i16::MAX as usize;
/// Elements for which memory is reserved before they are read. Larger arrays
/// grow with the elements that are really there.
const ELEMENTS_PREALLOCATED: usize = 64;

/// A read position over one frame.
///
/// Every read is checked against the bytes that remain. Byte fields are slices
/// that share the frame's memory.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    at: usize,
}

impl Reader {
    /// Starts at the first byte of `frame`.
    pub fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Asserts that everything was read.
    ///
    /// # Errors
    /// When bytes remain.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::Trailing {
                at: self.at,
                remaining,
            }),
        }
    }

    /// Number of bytes that are left.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Position of the next byte in the frame.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads a boolean; every byte but zero is true.
    ///
    /// # Errors
    /// When no byte is left; likewise for the other numbers.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Reads a signed 8-bit number.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array_of().map(i8::from_be_bytes)
    }

    /// Reads a big-endian 16-bit number.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array_of().map(i16::from_be_bytes)
    }

    /// Reads a big-endian 32-bit number.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array_of().map(i32::from_be_bytes)
    }

    /// Reads a big-endian 64-bit number.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// Reads the 16 bytes of a UUID.
    pub fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array_of()
    }

    /// Reads an unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// When it does not end or has more bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0u64;
        for index in 0..5 {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint { at });
            }
        }
        Err(DecodeError::Varint { at })
    }

    /// Reads a string that is not null.
    ///
    /// # Errors
    /// When it is null, too long, truncated or not UTF-8.
    pub fn string(&mut self, flexible: bool) -> Result<KStr, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::Null)
    }

    /// Reads a string or null.
    ///
    /// # Errors
    /// When it is too long, truncated or not UTF-8.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<KStr>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            let length = i64::from(self.i16()?);
            self.plain_length(length)?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let at = self.at;
        if length > STRING_MAX {
            return Err(DecodeError::StringLength { at, length });
        }
        let text = self.take(length)?;
        match KStr::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(DecodeError::Utf8 { at }),
        }
    }

    /// Reads a byte field that is not null, as a slice of the frame.
    ///
    /// # Errors
    /// When it is null or truncated.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::Null)
    }

    /// Reads a byte field or null, as a slice of the frame.
    ///
    /// # Errors
    /// When it is truncated.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// Reads an array that is not null.
    ///
    /// # Errors
    /// When it is null, claims more elements than bytes remain, or an element
    /// cannot be read.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, element)?
            .ok_or(DecodeError::Null)
    }

    /// Reads an array or null.
    ///
    /// # Errors
    /// When it claims more elements than bytes remain, or an element cannot be read.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible)? else {
            return Ok(None);
        };
        // No element of any definition takes less than one byte.
        self.check(count)?;
        let mut elements = Vec::with_capacity(count.min(ELEMENTS_PREALLOCATED));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the tagged fields at the end of a structure.
    ///
    /// `known` gets each tag with a reader over its value and says whether it
    /// took the field; the others are returned in order.
    ///
    /// # Errors
    /// When a field is truncated, tags do not ascend (KIP-482), or a known
    /// field is not read to its end.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<Vec<(u32, Bytes)>, DecodeError> {
        let count = self.unsigned_varint()? as usize;
        // A tagged field takes at least its tag and its length.
        self.check(count.saturating_mul(2))?;
        let mut unknown = Vec::new();
        let mut lowest = 0;
        for _ in 0..count {
            let at = self.at;
            let tag = self.unsigned_varint()?;
            if u64::from(tag) < lowest {
                return Err(DecodeError::TagOrder { at, tag });
            }
            lowest = u64::from(tag) + 1;
            let length = self.unsigned_varint()? as usize;
            self.check(length)?;
            let mut value = Self {
                frame: self.frame.slice(..self.at + length),
                at: self.at,
            };
            if known(tag, &mut value)? {
                value.finish()?;
                self.at += length;
            } else {
                unknown.push((tag, self.take(length)?));
            }
        }
        Ok(unknown)
    }

    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length()
        } else {
            let length = i64::from(self.i32()?);
            self.plain_length(length)
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        // Zero is null, everything else is the length plus one.
        Ok(self.unsigned_varint()?.checked_sub(1).map(|n| n as usize))
    }

    fn plain_length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(DecodeError::Length {
                at: self.at,
                length,
            }),
        }
    }

    fn check(&self, needed: usize) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if needed <= remaining {
            return Ok(());
        }
        Err(DecodeError::Truncated {
            at: self.at,
            needed,
            remaining,
        })
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.check(length)?;
        let slice = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.check(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.frame[self.at..self.at + N]);
        self.at += N;
        Ok(array)
    }
}
