//! The UTF-8 encoded string of section 1.5.4.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// The longest string the two-byte length prefix can announce (section 1.5.4).
pub const TEXT_LEN_MAX: usize = u16::MAX as usize;

/// Holds a UTF-8 string without U+0000 of at most 65,535 bytes (section 1.5.4).
///
/// Cloning is cheap: a decoded text is a slice of the packet it came in.
/// Comparison and hashing work on the bytes, as section 1.5.4 asks for (no
/// normalisation).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

/// Says why bytes are not an MQTT string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The bytes are not well-formed UTF-8 \[MQTT-1.5.4-1\].
    #[error("string is not well-formed UTF-8 (section 1.5.4)")]
    NotUtf8,
    /// The string contains U+0000 \[MQTT-1.5.4-2\].
    #[error("string contains U+0000 (section 1.5.4)")]
    Null,
    /// The string is longer than the length prefix can say.
    #[error("string has {len} bytes, the limit is 65535 (section 1.5.4)")]
    TooLong {
        /// Bytes of the refused string.
        len: usize,
    },
}

impl Text {
    /// Makes the empty string.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// Wraps a string constant.
    ///
    /// # Panics
    ///
    /// Panics when the constant contains U+0000 or is too long.
    pub fn from_static(text: &'static str) -> Self {
        Self::from_bytes(Bytes::from_static(text.as_bytes()))
            .expect("a string constant in the program obeys section 1.5.4")
    }

    /// Checks bytes and wraps them without a copy.
    ///
    /// # Errors
    ///
    /// Refuses what section 1.5.4 refuses, see [`TextError`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, TextError> {
        if bytes.len() > TEXT_LEN_MAX {
            return Err(TextError::TooLong { len: bytes.len() });
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(TextError::NotUtf8);
        }
        if bytes.contains(&0) {
            return Err(TextError::Null);
        }
        Ok(Self(bytes))
    }

    /// Returns the string.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a text is checked when it is made")
    }

    /// Returns the bytes of the string; cheaper than [`Text::as_str`].
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether the string has no character.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<&str> for Text {
    type Error = TextError;

    fn try_from(text: &str) -> Result<Self, TextError> {
        Self::from_bytes(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        Self::from_bytes(Bytes::from(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_bad_utf8_and_overlong_strings_are_refused() {
        let text = |bytes: &'static [u8]| Text::from_bytes(Bytes::from_static(bytes));
        assert_eq!(text(b"a\0b"), Err(TextError::Null));
        assert_eq!(text(b"\xed\xa0\x80"), Err(TextError::NotUtf8));
        assert_eq!(text(b"\xc0\x80"), Err(TextError::NotUtf8));
        assert_eq!(
            Text::try_from("x".repeat(65_536)),
            Err(TextError::TooLong { len: 65_536 })
        );
        assert!(Text::try_from("x".repeat(65_535)).is_ok());
    }

    #[test]
    fn byte_order_mark_is_kept() {
        let text = Text::try_from("\u{feff}a").expect("U+FEFF is allowed");
        assert_eq!(text.len(), 4);
    }
}
