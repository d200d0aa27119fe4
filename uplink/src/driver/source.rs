//! Reads of the local log, made on blocking threads.

use bytes::Bytes;
use forebay_records::Compression;
use forebay_storage::{Partition, ReadError};
use thiserror::Error;

use crate::link::SourceSpan;
use crate::planner::{Cut, MergeError, lineage_at, merge};

/// Bytes read beyond a batch's size, so that stored headers and the part of
/// the first stored batch before the cursor do not make the batch smaller.
const READ_AHEAD: usize = 64 << 10;

/// Why a read of the local log failed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The storage could not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stored records cannot be sent.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// What lies behind the cursor.
#[derive(Debug)]
pub enum Found {
    /// Records to send.
    Records(SourceSpan<Bytes>),
    /// No records below this offset, and none read above it.
    Gap(u64),
}

/// Reads the next batch to send.
///
/// # Errors
/// [`SourceError`] when the log cannot be read or decoded.
pub fn next_batch(
    partition: &Partition,
    cut: Cut,
    compression: Compression,
) -> Result<Found, SourceError> {
    // Records that retention removed are a gap, not an error.
    let from = cut.from.max(partition.offsets().log_start);
    let chunk = match partition.read(from, cut.max_bytes + READ_AHEAD, true) {
        // Retention was faster; the next read begins at the new start.
        Err(ReadError::OffsetOutOfRange { .. }) => return Ok(Found::Gap(cut.from)),
        other => other?,
    };
    let span = merge(&chunk.batches, Cut { from, ..cut }, compression)?;
    Ok(span.map_or(Found::Gap(chunk.next_offset), Found::Records))
}

/// Reads exactly the records `from..end` again. `None` when the log no longer
/// holds them all.
///
/// # Errors
/// [`SourceError`] when the log cannot be read or decoded.
pub fn same_batch(
    partition: &Partition,
    from: u64,
    end: u64,
    batch_bytes: usize,
    compression: Compression,
) -> Result<Option<Bytes>, SourceError> {
    if partition.offsets().log_start > from {
        return Ok(None);
    }
    let mut batches: Vec<Bytes> = Vec::new();
    let mut next = from;
    while next < end {
        let chunk = match partition.read(next, batch_bytes + READ_AHEAD, true) {
            Err(ReadError::OffsetOutOfRange { .. }) => return Ok(None),
            other => other?,
        };
        let Some(last) = chunk.batches.last() else {
            return Ok(None);
        };
        let header =
            forebay_records::BatchHeader::parse(last).map_err(|source| MergeError::Stored {
                offset: next,
                source,
            })?;
        next = header.next_offset() as u64;
        batches.extend(chunk.batches);
    }
    let cut = Cut {
        from,
        end: Some(end),
        max_bytes: usize::MAX,
        max_records: u64::MAX,
    };
    let span = merge(&batches, cut, compression)?;
    let same = span.filter(|span| (span.start, span.end) == (from, end));
    Ok(same.map(|span| span.payload))
}

/// The lineage of one record; `None` when the log does not hold it.
///
/// # Errors
/// [`SourceError`] when the log cannot be read or decoded.
pub fn lineage(partition: &Partition, offset: u64) -> Result<Option<u32>, SourceError> {
    let offsets = partition.offsets();
    if offset < offsets.log_start || offset >= offsets.high_watermark {
        return Ok(None);
    }
    match partition.read(offset, 1, true) {
        Err(ReadError::OffsetOutOfRange { .. }) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(chunk) => Ok(lineage_at(&chunk.batches, offset)?),
    }
}
