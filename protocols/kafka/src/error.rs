//! Why bytes are not a message, and why a message is not bytes.

/// Why a message cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message has no such version in this codec.
    #[error("version is {version}, expected {min} to {max}")]
    Version {
        /// The version asked for.
        version: i16,
        /// Lowest known version.
        min: i16,
        /// Highest known version.
        max: i16,
    },
    /// The bytes end before the message does.
    #[error("message ends early at byte {at}: {needed} bytes needed, {remaining} remain")]
    Truncated {
        /// Position in the frame.
        at: usize,
        /// Bytes that the next part needs at least.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// Bytes follow the message or a tagged field.
    #[error("{remaining} bytes follow at byte {at}, expected none")]
    Trailing {
        /// Position in the frame.
        at: usize,
        /// Number of these bytes.
        remaining: usize,
    },
    /// A length is negative where null is not meant.
    #[error("length at byte {at} is {length}, expected -1 or more")]
    Length {
        /// Position behind the length.
        at: usize,
        /// Its value.
        length: i64,
    },
    /// A string is longer than the protocol allows.
    #[error("string at byte {at} has {length} bytes, expected at most 32767")]
    StringLength {
        /// Position of the string.
        at: usize,
        /// Its length.
        length: usize,
    },
    /// A string is not UTF-8.
    #[error("string at byte {at} is not valid UTF-8")]
    Utf8 {
        /// Position of the string.
        at: usize,
    },
    /// A varint has more than 32 bits.
    #[error("varint at byte {at} has more than 32 bits")]
    Varint {
        /// Position of the varint.
        at: usize,
    },
    /// A tagged field repeats or does not follow a lower tag.
    #[error("tag {tag} at byte {at} is not above the tag before it")]
    TagOrder {
        /// Position of the tag.
        at: usize,
        /// The tag.
        tag: u32,
    },
    /// A field is null in a version that does not allow it.
    #[error("field is null, expected a value in this version")]
    Null,
}

/// Why a message cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message has no such version in this codec.
    #[error("version is {version}, expected {min} to {max}")]
    Version {
        /// The version asked for.
        version: i16,
        /// Lowest known version.
        min: i16,
        /// Highest known version.
        max: i16,
    },
    /// A field is null in a version that does not allow it.
    #[error("field {field} is null, version {version} expects a value")]
    Null {
        /// The field's name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, byte field, array or frame is longer than its length field.
    #[error("{what} has length {length}, expected at most {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The most that the layout holds.
        limit: usize,
    },
    /// Two tagged fields of one structure have the same tag.
    #[error("tag {tag} occurs twice in one structure")]
    DuplicateTag {
        /// The tag.
        tag: u32,
    },
}
