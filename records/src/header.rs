//! The 61 bytes in front of the records.

use bytes::Bytes;

use crate::{BatchError, Compression};

/// Length of the batch header in bytes.
pub const HEADER_LEN: usize = 61;

/// Bytes in front of what the length field counts: base offset and the field.
const LENGTH_OVERHEAD: usize = 12;
/// Smallest value of the length field: the header without these bytes.
const MIN_BATCH_LENGTH: i32 = (HEADER_LEN - LENGTH_OVERHEAD) as i32;
/// Where the bytes begin that the checksum covers.
const CRC_FROM: usize = 21;

const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const COMPRESSION_MASK: i16 = 0x07;

/// The header of a v2 record batch, in wire order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes that follow this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch, -1 when unknown.
    pub leader_epoch: i32,
    /// Message format version, always 2.
    pub magic: i8,
    /// CRC32C of the bytes from the attributes to the end.
    pub crc: u32,
    /// Compression, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas add to, in milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp of a record, in milliseconds.
    pub max_timestamp: i64,
    /// Producer id, -1 when the producer is not idempotent.
    pub producer_id: i64,
    /// Producer epoch, -1 when the producer is not idempotent.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 when the producer is not idempotent.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Parses the header at the start of `bytes`, which may hold less than the whole batch.
    ///
    /// # Errors
    /// When there are fewer than [`HEADER_LEN`] bytes, the magic is not 2, or
    /// the length field is smaller than the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BatchError::Truncated {
            available: bytes.len(),
            needed: HEADER_LEN,
        })?;
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, 8)),
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            magic: i8::from_be_bytes(field(bytes, 16)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        };
        if header.magic != 2 {
            return Err(BatchError::Magic {
                magic: header.magic,
            });
        }
        if header.batch_length < MIN_BATCH_LENGTH {
            return Err(BatchError::Length {
                length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// When the bits name no known codec.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & COMPRESSION_MASK {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            codec => Err(BatchError::UnknownCompression { codec: codec as u8 }),
        }
    }

    /// Whether the batch holds transaction markers instead of data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether every record carries the broker's append time, which is `max_timestamp`.
    pub fn uses_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_BIT != 0
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }

    /// Length of the whole batch in bytes, header included.
    pub fn total_len(&self) -> usize {
        // The field is not negative: `parse` refuses anything below 49.
        LENGTH_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// Writes the header with checksum zero; [`seal`] computes it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&self.batch_length.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&self.magic.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.attributes.to_be_bytes());
        out.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
    }
}

/// Whether the stored CRC32C matches the bytes from the attributes to the end.
///
/// Bytes behind the batch's own length, or missing ones, make it false.
pub fn crc_is_valid(batch: &[u8]) -> bool {
    match BatchHeader::parse(batch) {
        Ok(header) if header.total_len() == batch.len() => {
            crc32c::crc32c(&batch[CRC_FROM..]) == header.crc
        }
        _ => false,
    }
}

/// Writes the base offset and the leader epoch, which the checksum does not cover.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_LEN, "a stamped batch has a header");
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Computes the checksum of a complete batch and writes it.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Splits concatenated batches by their length fields, without copying.
///
/// A fetch response may end inside a batch; the iterator then ends with
/// [`BatchError::Truncated`]. It yields nothing after an error.
pub fn split_batches(bytes: &Bytes) -> impl Iterator<Item = Result<Bytes, BatchError>> + use<> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let split = BatchHeader::parse(&rest).and_then(|header| {
            let needed = header.total_len();
            if needed > rest.len() {
                return Err(BatchError::Truncated {
                    available: rest.len(),
                    needed,
                });
            }
            Ok(needed)
        });
        Some(match split {
            Ok(needed) => Ok(rest.split_to(needed)),
            Err(error) => {
                rest.clear();
                Err(error)
            }
        })
    })
}

fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
