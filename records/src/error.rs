//! Why bytes are not a readable batch.

use crate::Compression;

/// Why a record batch cannot be parsed, read or built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch ends early: {available} bytes, expected at least {needed}")]
    Truncated {
        /// Bytes present.
        available: usize,
        /// Bytes the batch needs.
        needed: usize,
    },
    /// More bytes follow than the batch's own length field says.
    #[error("batch of {expected} bytes is followed by {extra} bytes, expected none")]
    TrailingBytes {
        /// Length by the header.
        expected: usize,
        /// Bytes behind it.
        extra: usize,
    },
    /// The length field is smaller than the rest of the header.
    #[error("batch length is {length}, expected at least 49")]
    Length {
        /// The field's value.
        length: i32,
    },
    /// The batch has another message format.
    #[error("batch magic is {magic}, expected 2")]
    Magic {
        /// The field's value.
        magic: i8,
    },
    /// The compression bits name no known codec.
    #[error("compression codec is {codec}, expected 0 to 4")]
    UnknownCompression {
        /// The attribute bits 0 to 2.
        codec: u8,
    },
    /// The compressed part cannot be decoded.
    #[error("{compression:?} data is corrupt: {reason}")]
    Corrupt {
        /// The codec.
        compression: Compression,
        /// The codec's own explanation.
        reason: String,
    },
    /// The compressed part holds more than the caller's limit.
    #[error("decompressed records exceed {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A built batch would not fit the 32-bit length field.
    #[error("built batch has {bytes} bytes, expected at most 2147483647")]
    BuiltTooLarge {
        /// Bytes of the batch.
        bytes: usize,
    },
    /// A batch without records was to be built.
    #[error("batch has no records, expected at least one")]
    Empty,
    /// A variable-length integer is longer than its type allows.
    #[error("varint at byte {at} of the records is longer than its type")]
    Varint {
        /// Position within the decompressed records.
        at: usize,
    },
    /// A record ends before its fields do.
    #[error("record {index} ends early at byte {at} of the records")]
    RecordTruncated {
        /// Index of the record within the batch.
        index: i32,
        /// Position within the decompressed records.
        at: usize,
    },
    /// A record's length field disagrees with its fields.
    #[error("record {index} says {declared} bytes, its fields have {actual}")]
    RecordLength {
        /// Index of the record within the batch.
        index: i32,
        /// The length field.
        declared: i64,
        /// Bytes its fields take.
        actual: usize,
    },
    /// A length or count inside a record is negative where that has no meaning.
    #[error("record {index} has {what} {value}, expected 0 or more")]
    Negative {
        /// Index of the record within the batch.
        index: i32,
        /// Which field.
        what: &'static str,
        /// The field's value.
        value: i32,
    },
    /// The header's record count is negative.
    #[error("record count is {count}, expected 0 or more")]
    RecordCount {
        /// The field's value.
        count: i32,
    },
    /// Bytes follow the last record.
    #[error("{extra} bytes follow the last record, expected none")]
    RecordsTrailing {
        /// Number of these bytes.
        extra: usize,
    },
}
