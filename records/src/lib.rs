//! The Kafka v2 record batch: header, records, checksum, compression and the
//! checks a broker makes before it appends.
//!
//! A batch is the unit that is produced, stored, forwarded and fetched, and it
//! stays the same bytes on the whole way: only the base offset and the leader
//! epoch are stamped, and both lie outside the checksum. This crate reads and
//! builds these bytes. It does no I/O, knows no topics and reads no clock.
//!
//! Input is hostile until it is checked: every length is compared with the
//! bytes that remain before memory is reserved for it, and decompression stops
//! at a limit that the caller names.
//!
//! Start at [`BatchHeader`], then [`records`] to read, [`BatchBuilder`] to
//! write and [`validate_for_append`] for the checks. The layout is Kafka's
//! "Record Batch" (message format version 2, KIP-98).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builder;
mod compression;
mod error;
mod header;
mod record;
mod validate;
mod varint;

pub use builder::{BatchBuilder, RecordRef};
pub use compression::Compression;
pub use error::BatchError;
pub use header::{BatchHeader, HEADER_LEN, crc_is_valid, split_batches, stamp};
pub use record::{Header, Record, RecordIter, records};
pub use validate::{ValidateError, ValidateLimits, validate_for_append};
