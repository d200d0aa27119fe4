//! Building a batch record by record.

use bytes::Bytes;

use crate::{
    BatchError, BatchHeader, Compression, HEADER_LEN, compression,
    header::seal,
    varint::{self, put},
};

/// A record to be written, borrowing its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
    /// The headers in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Collects records and turns them into one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

impl BatchBuilder {
    /// An empty batch of a producer that is not idempotent.
    pub fn new() -> Self {
        Self {
            records: Vec::new(),
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }

    /// Adds a record behind the others. Its offset delta is its index.
    pub fn push(&mut self, record: &RecordRef<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let length = body_len(record, timestamp_delta, offset_delta);
        self.records.reserve(length + varint::len(length as i64));
        put(&mut self.records, length as i64);
        self.records.push(0);
        put(&mut self.records, timestamp_delta);
        put(&mut self.records, offset_delta);
        put_nullable(&mut self.records, record.key);
        put_nullable(&mut self.records, record.value);
        put(&mut self.records, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_nullable(&mut self.records, Some(name));
            put_nullable(&mut self.records, *value);
        }
        // Each record takes at least seven bytes, so `finish` refuses a batch
        // by its length long before the count could saturate.
        self.count = self.count.saturating_add(1);
    }

    /// Sets the idempotent producer's id, its epoch and the first record's sequence number.
    pub fn producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the batch in bytes if it were finished uncompressed.
    pub fn bytes(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Compresses, adds the header with base offset 0 and leader epoch -1, and
    /// computes the checksum.
    ///
    /// # Errors
    /// When there is no record or the batch does not fit its 32-bit length.
    pub fn finish(self, codec: Compression) -> Result<Bytes, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let packed = match codec {
            Compression::None => None,
            codec => Some(compression::compress(codec, &self.records)?),
        };
        let body = packed.as_deref().unwrap_or(&self.records);
        let total = HEADER_LEN + body.len();
        // Plain records above the limit could not be read back either.
        let largest = total.max(self.bytes());
        if i32::try_from(largest).is_err() {
            return Err(BatchError::BuiltTooLarge { bytes: largest });
        }
        let header = BatchHeader {
            base_offset: 0,
            batch_length: (total - 12) as i32,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: codec.bits(),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        let mut batch = Vec::with_capacity(total);
        header.write(&mut batch);
        batch.extend_from_slice(body);
        seal(&mut batch);
        Ok(Bytes::from(batch))
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn body_len(record: &RecordRef<'_>, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| nullable_len(Some(name)) + nullable_len(*value))
        .sum();
    1 + varint::len(timestamp_delta)
        + varint::len(offset_delta)
        + nullable_len(record.key)
        + nullable_len(record.value)
        + varint::len(record.headers.len() as i64)
        + headers
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put(out, -1),
    }
}
