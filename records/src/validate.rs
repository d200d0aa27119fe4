//! The checks that a broker makes before a client's batch touches the log.
//!
//! They follow what Kafka's `LogValidator` asks of message format 2, and they
//! open compressed records, because a batch that cannot be read would
//! otherwise stop every consumer of the partition.

use bytes::Bytes;

use crate::{
    BatchError, BatchHeader, Compression, HEADER_LEN, compression, crc_is_valid,
    record::{RawRecord, parse_whole},
    varint::Cursor,
};

/// Timestamp of a record whose producer gave none.
const NO_TIMESTAMP: i64 = -1;

/// What a batch may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidateLimits {
    /// Largest batch in bytes as it is sent (`max.message.bytes`).
    pub max_batch_bytes: usize,
    /// Largest size of the records after decompression, in bytes.
    pub max_decompressed_bytes: usize,
    /// The time to compare timestamps with, in milliseconds.
    pub now_ms: i64,
    /// How far a timestamp may lie in the past (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: Option<i64>,
    /// How far a timestamp may lie in the future (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: Option<i64>,
}

/// Why a batch is not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// The batch cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is larger than the topic allows.
    #[error("batch has {bytes} bytes, expected at most {limit}")]
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The checksum does not match.
    #[error("batch checksum does not match its bytes")]
    Checksum,
    /// A client sent a control batch.
    #[error("batch is a control batch, which only a broker writes")]
    Control,
    /// A client marked its batch with the broker's append time.
    #[error("timestamp type is log append time, which only a broker sets")]
    LogAppendTime,
    /// Record count and last offset delta disagree, or there is no record.
    #[error("batch says {record_count} records and last offset delta {last_offset_delta}")]
    Counts {
        /// The header's count.
        record_count: i32,
        /// The header's last delta, which must be the count minus one.
        last_offset_delta: i32,
    },
    /// A producer id comes with a negative epoch or sequence number.
    #[error("producer {producer_id} has epoch {producer_epoch} and sequence {base_sequence}")]
    Producer {
        /// The header's producer id.
        producer_id: i64,
        /// The header's epoch.
        producer_epoch: i16,
        /// The header's sequence number.
        base_sequence: i32,
    },
    /// The offset deltas do not count up from zero.
    #[error("record {index} has offset delta {delta}, expected {index}")]
    OffsetDelta {
        /// Index of the record.
        index: i32,
        /// Its delta.
        delta: i32,
    },
    /// The header's maximum is not the records' maximum.
    #[error("max timestamp is {declared}, the records' is {actual}")]
    MaxTimestamp {
        /// The header's value.
        declared: i64,
        /// The largest of the records.
        actual: i64,
    },
    /// A record is too old or too far in the future.
    #[error("record {index} has timestamp {timestamp}, expected {earliest} to {latest}")]
    Timestamp {
        /// Index of the record.
        index: i32,
        /// Its timestamp.
        timestamp: i64,
        /// Smallest allowed value.
        earliest: i64,
        /// Largest allowed value.
        latest: i64,
    },
}

/// Checks a client's batch completely and returns its header.
///
/// The base offset and the leader epoch are not looked at: the log stamps them.
///
/// # Errors
/// The first rule that the batch breaks.
pub fn validate_for_append(
    batch: &Bytes,
    limits: &ValidateLimits,
) -> Result<BatchHeader, ValidateError> {
    if batch.len() > limits.max_batch_bytes {
        return Err(ValidateError::BatchTooLarge {
            bytes: batch.len(),
            limit: limits.max_batch_bytes,
        });
    }
    let header = parse_whole(batch)?;
    if !crc_is_valid(batch) {
        return Err(ValidateError::Checksum);
    }
    check_header(&header)?;
    let packed = &batch[HEADER_LEN..];
    match header.compression()? {
        Compression::None => check_records(&header, packed, limits)?,
        codec => {
            let plain = compression::decompress(codec, packed, limits.max_decompressed_bytes)?;
            check_records(&header, &plain, limits)?;
        }
    }
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), ValidateError> {
    if header.is_control() {
        return Err(ValidateError::Control);
    }
    if header.uses_log_append_time() {
        return Err(ValidateError::LogAppendTime);
    }
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return Err(ValidateError::Counts {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    let has_producer = header.producer_id >= 0;
    if has_producer && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(ValidateError::Producer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    Ok(())
}

fn check_records(
    header: &BatchHeader,
    plain: &[u8],
    limits: &ValidateLimits,
) -> Result<(), ValidateError> {
    let earliest = limits
        .timestamp_before_max_ms
        .map_or(i64::MIN, |before| limits.now_ms.saturating_sub(before));
    let latest = limits
        .timestamp_after_max_ms
        .map_or(i64::MAX, |after| limits.now_ms.saturating_add(after));
    let mut cursor = Cursor::new(plain, 0);
    let mut largest = i64::MIN;
    for index in 0..header.record_count {
        let record = RawRecord::parse(&mut cursor, index, |_, _, _| {})?;
        if record.offset_delta != index {
            return Err(ValidateError::OffsetDelta {
                index,
                delta: record.offset_delta,
            });
        }
        let timestamp = record.timestamp(header);
        if timestamp != NO_TIMESTAMP && !(earliest..=latest).contains(&timestamp) {
            return Err(ValidateError::Timestamp {
                index,
                timestamp,
                earliest,
                latest,
            });
        }
        largest = largest.max(timestamp);
    }
    if cursor.remaining() > 0 {
        return Err(ValidateError::Batch(BatchError::RecordsTrailing {
            extra: cursor.remaining(),
        }));
    }
    if largest != header.max_timestamp {
        return Err(ValidateError::MaxTimestamp {
            declared: header.max_timestamp,
            actual: largest,
        });
    }
    Ok(())
}
