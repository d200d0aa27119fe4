//! A string that shares memory with the frame it came from.

use std::{borrow::Borrow, fmt, hash::Hash, ops::Deref};

use bytes::Bytes;

/// An immutable UTF-8 string over [`Bytes`]: cloning it copies no text.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KStr(Bytes);

impl KStr {
    /// A string over static text, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes bytes that are valid UTF-8.
    ///
    /// # Errors
    /// When they are not.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every constructor takes valid UTF-8")
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for KStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for KStr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for KStr {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

// `Borrow` demands the hash of `str`, which differs from that of its bytes.
impl Hash for KStr {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&str> for KStr {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for KStr {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl PartialEq<str> for KStr {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for KStr {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for KStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for KStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_map_keyed_by_strings_is_found_by_str() {
        let map = HashMap::from([(KStr::from("readings"), 1)]);
        assert_eq!(map.get("readings"), Some(&1));
        assert_eq!(map.get("reading"), None);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert!(KStr::from_utf8(Bytes::from_static(b"\xc3\x28")).is_err());
        let text = KStr::from_utf8(Bytes::from_static("é".as_bytes())).unwrap();
        assert_eq!(text, "é");
        assert_eq!(format!("{text} {text:?}"), "é \"é\"");
    }
}
