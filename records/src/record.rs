//! Reading the records of a batch.

use std::ops::Range;

use bytes::Bytes;

use crate::{BatchError, BatchHeader, Compression, HEADER_LEN, compression, varint::Cursor};

/// Headers for which memory is reserved before they are read. More are read
/// too; the vector then grows with what is really there.
const HEADERS_PREALLOCATED: usize = 16;

/// A record header: a name and an optional value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name. Kafka asks for UTF-8; it is not checked here.
    pub key: Bytes,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// One record of a batch, sharing memory with the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Absolute offset: the batch's base offset plus the record's delta.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; -1 when the producer gave none.
    pub timestamp: i64,
    /// The key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's null, a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in order; names may repeat.
    pub headers: Vec<Header>,
}

/// The records of one batch, in order. Yields nothing after an error.
#[derive(Debug, Clone)]
pub struct RecordIter {
    header: BatchHeader,
    plain: Bytes,
    at: usize,
    next_index: i32,
    failed: bool,
}

/// Reads the records of one complete batch.
///
/// Uncompressed records are slices of `batch`; compressed ones are slices of
/// one buffer of at most `max_decompressed` bytes. The checksum is not
/// checked: see [`crate::crc_is_valid`].
///
/// # Errors
/// When the header is bad, `batch` is not exactly one batch long, or the
/// records do not decompress within the limit.
pub fn records(batch: &Bytes, max_decompressed: usize) -> Result<RecordIter, BatchError> {
    let header = parse_whole(batch)?;
    let plain = match header.compression()? {
        Compression::None => batch.slice(HEADER_LEN..),
        codec => Bytes::from(compression::decompress(
            codec,
            &batch[HEADER_LEN..],
            max_decompressed,
        )?),
    };
    Ok(RecordIter {
        header,
        plain,
        at: 0,
        next_index: 0,
        failed: false,
    })
}

/// Parses the header of bytes that must be exactly one batch.
pub(crate) fn parse_whole(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let needed = header.total_len();
    if batch.len() < needed {
        return Err(BatchError::Truncated {
            available: batch.len(),
            needed,
        });
    }
    if batch.len() > needed {
        return Err(BatchError::TrailingBytes {
            expected: needed,
            extra: batch.len() - needed,
        });
    }
    if header.record_count < 0 {
        return Err(BatchError::RecordCount {
            count: header.record_count,
        });
    }
    Ok(header)
}

impl RecordIter {
    /// The header of the batch that is read.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read_next(&mut self) -> Result<Record, BatchError> {
        let mut headers: Vec<(Range<usize>, Option<Range<usize>>)> = Vec::new();
        let mut cursor = Cursor::new(&self.plain, self.at);
        let raw = RawRecord::parse(&mut cursor, self.next_index, |count, key, value| {
            if headers.is_empty() {
                headers.reserve(count.min(HEADERS_PREALLOCATED));
            }
            headers.push((key, value));
        })?;
        self.at = cursor.position();
        let slice = |range: Range<usize>| self.plain.slice(range);
        Ok(Record {
            offset: self
                .header
                .base_offset
                .wrapping_add(i64::from(raw.offset_delta)),
            timestamp: raw.timestamp(&self.header),
            key: raw.key.map(slice),
            value: raw.value.map(slice),
            headers: headers
                .into_iter()
                .map(|(key, value)| Header {
                    key: slice(key),
                    value: value.map(slice),
                })
                .collect(),
        })
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.next_index < self.header.record_count {
            self.read_next()
        } else if self.at < self.plain.len() {
            Err(BatchError::RecordsTrailing {
                extra: self.plain.len() - self.at,
            })
        } else {
            return None;
        };
        self.next_index = self.next_index.saturating_add(1);
        self.failed = item.is_err();
        Some(item)
    }
}

/// The positions of one record's parts within the decompressed records.
#[derive(Debug)]
pub(crate) struct RawRecord {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
}

impl RawRecord {
    /// Parses the record at the cursor and calls `on_header` for each header
    /// with the claimed number of headers, its name and its value.
    pub(crate) fn parse(
        cursor: &mut Cursor<'_>,
        index: i32,
        mut on_header: impl FnMut(usize, Range<usize>, Option<Range<usize>>),
    ) -> Result<Self, BatchError> {
        let ends_early = |at: usize| {
            move |error| match error {
                BatchError::Truncated { .. } => BatchError::RecordTruncated { index, at },
                other => other,
            }
        };
        let start = cursor.position();
        let declared = cursor.varint().map_err(ends_early(start))?;
        let body_start = cursor.position();
        match usize::try_from(declared) {
            Ok(length) if length <= cursor.remaining() => {}
            _ => return Err(BatchError::RecordTruncated { index, at: start }),
        }
        let raw = Self::parse_fields(cursor, index, &mut on_header).map_err(ends_early(start))?;
        let actual = cursor.position() - body_start;
        if i64::from(declared) != actual as i64 {
            return Err(BatchError::RecordLength {
                index,
                declared: i64::from(declared),
                actual,
            });
        }
        Ok(raw)
    }

    /// The record's timestamp in milliseconds.
    pub(crate) fn timestamp(&self, header: &BatchHeader) -> i64 {
        if header.uses_log_append_time() {
            header.max_timestamp
        } else {
            // The wire format has 64-bit deltas in two's complement.
            header.base_timestamp.wrapping_add(self.timestamp_delta)
        }
    }

    fn parse_fields(
        cursor: &mut Cursor<'_>,
        index: i32,
        on_header: &mut impl FnMut(usize, Range<usize>, Option<Range<usize>>),
    ) -> Result<Self, BatchError> {
        let _attributes = cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = nullable(cursor, index, "key length")?;
        let value = nullable(cursor, index, "value length")?;
        let count = cursor.varint()?;
        let count = usize::try_from(count).map_err(|_| BatchError::Negative {
            index,
            what: "header count",
            value: count,
        })?;
        for _ in 0..count {
            let name_len = cursor.varint()?;
            let name_len = usize::try_from(name_len).map_err(|_| BatchError::Negative {
                index,
                what: "header name length",
                value: name_len,
            })?;
            let name_start = cursor.skip(name_len)?;
            let value = nullable(cursor, index, "header value length")?;
            on_header(count, name_start..name_start + name_len, value);
        }
        Ok(Self {
            timestamp_delta,
            offset_delta,
            key,
            value,
        })
    }
}

fn nullable(
    cursor: &mut Cursor<'_>,
    index: i32,
    what: &'static str,
) -> Result<Option<Range<usize>>, BatchError> {
    let length = cursor.varint()?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Negative {
        index,
        what,
        value: length,
    })?;
    let start = cursor.skip(length)?;
    Ok(Some(start..start + length))
}
