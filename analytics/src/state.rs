//! The encoding of operator state.
//!
//! Integers are little-endian and of fixed width, texts and lists carry their
//! length in front. A *section* is `version u8, length u32, bytes`: an operator
//! writes itself as one section, so that a reader can refuse a version it does
//! not know and cannot run past the end of its part. Decoding never allocates
//! more than the bytes that are there can fill, and never panics.

/// Why encoded state could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes end early.
    #[error("state ends early: {needed} more bytes are needed, {remaining} are there")]
    Truncated {
        /// Bytes that the next item takes.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A section was written by another version of its operator.
    #[error("state of {what} has version {found}, expected {expected}")]
    Version {
        /// The operator.
        what: &'static str,
        /// The version in the bytes.
        found: u8,
        /// The version that this program writes.
        expected: u8,
    },
    /// A number is outside of what it can be.
    #[error("state has an impossible {what}: {found}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What the bytes say.
        found: u64,
    },
    /// A section holds more bytes than its operator reads.
    #[error("state of {what} has {extra} bytes too many")]
    Trailing {
        /// The operator.
        what: &'static str,
        /// Bytes that were not read.
        extra: usize,
    },
    /// The state belongs to another query or another text of it.
    #[error("state belongs to query {found:016x}, expected {expected:016x}")]
    Identity {
        /// The identity in the bytes.
        found: u64,
        /// The identity of the query that reads.
        expected: u64,
    },
    /// A text is not UTF-8.
    #[error("state holds text that is not utf-8")]
    Text,
}

/// Appends state to a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was written and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn put_u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    /// One byte, 0 or 1.
    pub fn put_bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// Four bytes.
    pub fn put_u32(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Eight bytes.
    pub fn put_u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Eight bytes.
    pub fn put_i64(&mut self, number: i64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Eight bytes, the bits of the double.
    pub fn put_f64(&mut self, number: f64) {
        self.put_u64(number.to_bits());
    }

    /// A count as four bytes. Counts are bounded by memory budgets far below 2^32.
    pub fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// A count and the bytes.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// A count and the UTF-8 bytes.
    pub fn put_str(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    /// A count and the doubles.
    pub fn put_f64s(&mut self, numbers: &[f64]) {
        self.put_count(numbers.len());
        for number in numbers {
            self.put_f64(*number);
        }
    }

    /// Writes a section: version, length, and what `write` appends.
    pub fn section(&mut self, version: u8, write: impl FnOnce(&mut Self)) {
        self.put_u8(version);
        let at = self.bytes.len();
        self.put_u32(0);
        write(self);
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads what an [`Encoder`] wrote.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        if length > self.bytes.len() {
            return Err(StateError::Truncated {
                needed: length,
                remaining: self.bytes.len(),
            });
        }
        let (front, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Ok(front)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`StateError::Truncated`], as for every method here.
    pub fn take_u8(&mut self) -> Result<u8, StateError> {
        Ok(self.take_array::<1>()?[0])
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// [`StateError::Invalid`] for any other byte.
    pub fn take_bool(&mut self) -> Result<bool, StateError> {
        match self.take_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(StateError::Invalid {
                what: "boolean",
                found: u64::from(other),
            }),
        }
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.take_array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.take_array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_i64(&mut self) -> Result<i64, StateError> {
        Ok(i64::from_le_bytes(self.take_array()?))
    }

    /// Eight bytes, the bits of a double. Not checked for being finite:
    /// accumulators start at infinities.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_f64(&mut self) -> Result<f64, StateError> {
        Ok(f64::from_bits(self.take_u64()?))
    }

    /// A count of items that take at least `item_bytes` each, so that a count
    /// that the rest cannot hold is refused before anything is allocated.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_count(&mut self, item_bytes: usize) -> Result<usize, StateError> {
        let count = self.take_u32()? as usize;
        let needed = count.saturating_mul(item_bytes.max(1));
        if needed > self.bytes.len() {
            return Err(StateError::Truncated {
                needed,
                remaining: self.bytes.len(),
            });
        }
        Ok(count)
    }

    /// A count and that many bytes.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.take_count(1)?;
        self.take(length)
    }

    /// A count and that many bytes of UTF-8.
    ///
    /// # Errors
    /// [`StateError::Text`] if they are not.
    pub fn take_str(&mut self) -> Result<&'a str, StateError> {
        std::str::from_utf8(self.take_bytes()?).map_err(|_| StateError::Text)
    }

    /// A count and that many doubles.
    ///
    /// # Errors
    /// [`StateError::Truncated`].
    pub fn take_f64s(&mut self) -> Result<Vec<f64>, StateError> {
        let count = self.take_count(8)?;
        (0..count).map(|_| self.take_f64()).collect()
    }

    /// Reads a section of `version` and hands its bytes to `read`, which has to
    /// use all of them.
    ///
    /// # Errors
    /// [`StateError::Version`], [`StateError::Trailing`], and those of `read`.
    pub fn section<T>(
        &mut self,
        what: &'static str,
        version: u8,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let found = self.take_u8()?;
        if found != version {
            return Err(StateError::Version {
                what,
                found,
                expected: version,
            });
        }
        let mut inner = Decoder::new(self.take_bytes()?);
        let value = read(&mut inner)?;
        if inner.remaining() > 0 {
            return Err(StateError::Trailing {
                what,
                extra: inner.remaining(),
            });
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Encoder::new();
        out.section(3, |out| {
            out.put_bool(true);
            out.put_i64(-7);
            out.put_str("pump/1");
            out.put_f64s(&[1.5, -2.0]);
        });
        out.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<(bool, i64, String, Vec<f64>), StateError> {
        Decoder::new(bytes).section("sample", 3, |input| {
            Ok((
                input.take_bool()?,
                input.take_i64()?,
                input.take_str()?.to_owned(),
                input.take_f64s()?,
            ))
        })
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(
            read(&sample()),
            Ok((true, -7, "pump/1".to_owned(), vec![1.5, -2.0]))
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end} bytes were enough");
        }
    }

    #[test]
    fn another_version_and_extra_bytes_are_refused() {
        let mut bytes = sample();
        bytes[0] = 4;
        assert!(matches!(
            read(&bytes),
            Err(StateError::Version { found: 4, .. })
        ));
        let mut out = Encoder::new();
        out.section(3, |out| out.put_u32(9));
        assert_eq!(
            Decoder::new(&out.into_bytes()).section("sample", 3, Decoder::take_u8),
            Err(StateError::Trailing {
                what: "sample",
                extra: 3
            })
        );
    }

    #[test]
    fn a_count_beyond_the_bytes_allocates_nothing() {
        let mut out = Encoder::new();
        out.put_u32(u32::MAX);
        assert!(matches!(
            Decoder::new(&out.into_bytes()).take_f64s(),
            Err(StateError::Truncated { .. })
        ));
    }
}
