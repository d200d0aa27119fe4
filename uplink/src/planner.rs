//! Makes one batch to send out of stored batches.
//!
//! A gateway stores what arrived within one commit window, often a few hundred
//! bytes. With five batches per round trip such batches would cap a slow link,
//! so several travel as one. Offsets stay dense and timestamps, keys, values
//! and headers stay as they are; only the boundaries are ours, and they are in
//! the durable plan.

use bytes::{Bytes, BytesMut};
use forebay_records::{BatchBuilder, BatchError, Compression, RecordRef, records};
use thiserror::Error;

use crate::link::{SourceSpan, lineage_of};

/// Most bytes that one stored batch may decompress to: 64 times the largest
/// batch that the broker accepts by default.
pub const MAX_DECOMPRESSED: usize = 64 << 20;

/// Bytes that a record costs in a batch beside key, value and headers: length,
/// attributes, deltas and counts as varints, rounded up.
const RECORD_OVERHEAD: usize = 24;

/// What to take from the stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Lowest offset.
    pub from: u64,
    /// Offset to stop before, when the boundaries are planned already.
    pub end: Option<u64>,
    /// Most bytes before compression; one record always passes.
    pub max_bytes: usize,
    /// Most records.
    pub max_records: u64,
}

/// Why stored batches could not be merged.
#[derive(Debug, Error)]
pub enum MergeError {
    /// A stored batch cannot be decoded.
    #[error("stored batch near offset {offset} cannot be decoded")]
    Stored {
        /// Offset up to which decoding went well.
        offset: u64,
        /// The codec's finding.
        source: BatchError,
    },
    /// The merged batch cannot be encoded.
    #[error("records from offset {start} to {end} cannot be encoded")]
    Encode {
        /// First offset.
        start: u64,
        /// Offset after the last record.
        end: u64,
        /// The codec's finding.
        source: BatchError,
    },
}

/// Merges the records from `cut.from` on, up to the limits or the first gap.
/// `None` when the batches hold no such record.
///
/// # Errors
/// [`MergeError`] when a stored batch is not decodable.
pub fn merge(
    batches: &[Bytes],
    cut: Cut,
    compression: Compression,
) -> Result<Option<SourceSpan<Bytes>>, MergeError> {
    let mut builder = BatchBuilder::new();
    let mut start = cut.from;
    let mut next = cut.from;
    let mut lineage_last = 0;
    'all: for batch in batches {
        let stored = |source| MergeError::Stored {
            offset: next,
            source,
        };
        for record in records(batch, MAX_DECOMPRESSED).map_err(stored)? {
            let record = record.map_err(|source| MergeError::Stored {
                offset: next,
                source,
            })?;
            let offset = record.offset as u64;
            if offset < cut.from {
                continue;
            }
            if cut.end.is_some_and(|end| offset >= end) {
                break 'all;
            }
            let headers: Vec<_> = record.headers.iter().map(header).collect();
            let record = RecordRef {
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            if builder.is_empty() {
                start = offset;
            } else if offset != next
                || builder.bytes() + size(&record) > cut.max_bytes
                || builder.len() as u64 >= cut.max_records
            {
                break 'all;
            }
            builder.push(&record);
            lineage_last = lineage_of(offset, record.timestamp, record.key, record.value);
            next = offset + 1;
        }
    }
    if builder.is_empty() {
        return Ok(None);
    }
    let payload = builder
        .finish(compression)
        .map_err(|source| MergeError::Encode {
            start,
            end: next,
            source,
        })?;
    Ok(Some(SourceSpan {
        start,
        end: next,
        lineage_last,
        payload,
    }))
}

/// The lineage of the record at `offset`, when the batches hold it.
///
/// # Errors
/// [`MergeError`] when a stored batch is not decodable.
pub fn lineage_at(batches: &[Bytes], offset: u64) -> Result<Option<u32>, MergeError> {
    let stored = |source| MergeError::Stored { offset, source };
    for batch in batches {
        for record in records(batch, MAX_DECOMPRESSED).map_err(stored)? {
            let record = record.map_err(stored)?;
            if record.offset as u64 == offset {
                let key = record.key.as_deref();
                let value = record.value.as_deref();
                return Ok(Some(lineage_of(offset, record.timestamp, key, value)));
            }
        }
    }
    Ok(None)
}

/// Writes the producer's identity into a finished batch and renews its CRC.
/// The batch is compressed long before its sequence number is settled.
pub fn stamp_producer(batch: &[u8], id: i64, epoch: i16, sequence: i32) -> Bytes {
    let mut out = BytesMut::from(batch);
    out[PRODUCER_ID..PRODUCER_ID + 8].copy_from_slice(&id.to_be_bytes());
    out[PRODUCER_EPOCH..PRODUCER_EPOCH + 2].copy_from_slice(&epoch.to_be_bytes());
    out[BASE_SEQUENCE..BASE_SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC + 4..]);
    out[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

// Positions in a v2 batch: Kafka documentation, "Record Batch". The CRC covers
// everything behind itself.
const CRC: usize = 17;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;

fn header(header: &forebay_records::Header) -> (&[u8], Option<&[u8]>) {
    (header.key.as_ref(), header.value.as_deref())
}

fn size(record: &RecordRef<'_>) -> usize {
    let length = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    let headers = record.headers.iter();
    let headers = headers.map(|(key, value)| key.len() + length(*value) + 4);
    RECORD_OVERHEAD + length(record.key) + length(record.value) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests;
