//! Records over the Kafka protocol: fetch and walk a partition.

use std::collections::VecDeque;

use bytes::Bytes;
use forebay_kafka::messages::{FetchPartition, FetchRequest, FetchTopic};
use forebay_records::{Record, records, split_batches};

use super::{Client, ClientError, check};

/// Bytes per fetch: large enough that the round trip does not matter, small
/// enough for a gateway's memory.
pub const FETCH_BYTES: i32 = 1 << 20;

/// A batch that unpacks to more than this is not shown; producers here are
/// limited to far less.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// What one fetch of one partition brought.
#[derive(Debug)]
pub struct Fetched {
    /// Records from the asked offset on. Empty at the end of the partition.
    pub records: Vec<Record>,
    /// The offset behind the last visible record.
    pub high_watermark: i64,
    /// The offset behind the last batch that was fetched, or the asked offset.
    pub next_offset: i64,
}

/// Walks the records of one partition from one offset to another.
#[derive(Debug)]
pub struct Walk {
    topic: String,
    partition: i32,
    next: i64,
    end: i64,
    buffer: VecDeque<Record>,
}

impl Client {
    /// Fetches from one partition, waiting up to `wait_ms` for a first record.
    ///
    /// # Errors
    /// The offset is outside the log, or a batch cannot be read.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        wait_ms: i32,
    ) -> Result<Fetched, ClientError> {
        self.fetch_some(topic, partition, offset, wait_ms, FETCH_BYTES)
            .await
    }

    /// The same with another number of bytes that the node should not exceed. It
    /// sends at least one batch.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_some(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        wait_ms: i32,
        max_bytes: i32,
    ) -> Result<Fetched, ClientError> {
        const VERSION: i16 = 7;
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.into(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    log_start_offset: -1,
                    partition_max_bytes: max_bytes,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        let subject = format!("{topic}/{partition} at offset {offset}");
        check(&subject, response.error_code, None)?;
        let mut fetched = Fetched {
            records: Vec::new(),
            high_watermark: -1,
            next_offset: offset,
        };
        for data in response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            check(&subject, data.error_code, None)?;
            fetched.high_watermark = data.high_watermark;
            if let Some(bytes) = data.records {
                self.unpack(&bytes, offset, &mut fetched)?;
            }
        }
        Ok(fetched)
    }

    fn unpack(&self, bytes: &Bytes, from: i64, fetched: &mut Fetched) -> Result<(), ClientError> {
        for batch in split_batches(bytes) {
            // A broker may cut the last batch of an answer; the next fetch has it.
            let Ok(batch) = batch else { break };
            let iterator = records(&batch, DECOMPRESSED_BYTES_MAX)
                .map_err(|error| self.protocol(error.to_string()))?;
            fetched.next_offset = fetched.next_offset.max(iterator.header().next_offset());
            if iterator.header().is_control() {
                continue;
            }
            for record in iterator {
                let record = record.map_err(|error| self.protocol(error.to_string()))?;
                if record.offset >= from {
                    fetched.records.push(record);
                }
            }
        }
        Ok(())
    }
}

impl Walk {
    /// A walk over the offsets `from..end`.
    #[must_use]
    pub fn new(topic: &str, partition: i32, from: i64, end: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            next: from,
            end,
            buffer: VecDeque::new(),
        }
    }

    /// The next record, or `None` behind the last one before the end.
    ///
    /// # Errors
    /// A fetch fails.
    pub async fn next(&mut self, client: &mut Client) -> Result<Option<Record>, ClientError> {
        while self.buffer.is_empty() && self.next < self.end {
            let fetched = client
                .fetch(&self.topic, self.partition, self.next, 0)
                .await?;
            if fetched.next_offset <= self.next {
                // Nothing lies between here and the end: a recorded gap.
                self.next = self.end;
            } else {
                self.next = fetched.next_offset;
            }
            let end = self.end;
            self.buffer.extend(
                fetched
                    .records
                    .into_iter()
                    .filter(|record| record.offset < end),
            );
        }
        Ok(self.buffer.pop_front())
    }
}
