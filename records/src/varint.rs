//! Zigzag variable-length integers, as in Protocol Buffers.

use crate::BatchError;

/// A read position over the decompressed records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Reads a zigzag varint of at most 32 bits.
    pub(crate) fn varint(&mut self) -> Result<i32, BatchError> {
        let start = self.at;
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| BatchError::Varint { at: start })?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Reads a zigzag varint of at most 64 bits.
    pub(crate) fn varlong(&mut self) -> Result<i64, BatchError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, BatchError> {
        let byte = *self.bytes.get(self.at).ok_or(BatchError::Truncated {
            available: self.bytes.len(),
            needed: self.at + 1,
        })?;
        self.at += 1;
        Ok(byte)
    }

    /// Moves over `count` bytes and returns where they start.
    pub(crate) fn skip(&mut self, count: usize) -> Result<usize, BatchError> {
        if count > self.remaining() {
            return Err(BatchError::Truncated {
                available: self.bytes.len(),
                needed: self.at.saturating_add(count),
            });
        }
        let start = self.at;
        self.at += count;
        Ok(start)
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn unsigned(&mut self, max_bytes: u32) -> Result<u64, BatchError> {
        let start = self.at;
        let mut value = 0u64;
        for index in 0..max_bytes {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            if (bits << shift) >> shift != bits {
                return Err(BatchError::Varint { at: start });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BatchError::Varint { at: start })
    }
}

/// Appends a zigzag varint. A 32-bit value has the same encoding in both widths.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Number of bytes that [`put`] writes.
pub(crate) fn len(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_have_known_bytes() {
        for (value, bytes) in [
            (0i64, &[0u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(len(value), bytes.len(), "{value}");
            assert_eq!(i64::from(Cursor::new(bytes, 0).varint().unwrap()), value);
            assert_eq!(Cursor::new(bytes, 0).varlong().unwrap(), value);
        }
    }

    #[test]
    fn extremes_of_64_bits_survive() {
        for value in [i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), 10);
            assert_eq!(len(value), 10);
            assert_eq!(Cursor::new(&out, 0).varlong().unwrap(), value);
        }
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        let five = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(
            Cursor::new(&five, 0).varint(),
            Err(BatchError::Varint { at: 0 })
        );
        let ten = [0xff; 10];
        assert_eq!(
            Cursor::new(&ten, 0).varlong(),
            Err(BatchError::Varint { at: 0 })
        );
        let last_too_big = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(
            Cursor::new(&last_too_big, 0).varlong(),
            Err(BatchError::Varint { at: 0 })
        );
    }
}
