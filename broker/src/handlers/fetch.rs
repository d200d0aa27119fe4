//! Fetch: stored batches as they are, with a long poll.
//!
//! The handler only looks offsets up. Reading happens in [`FetchWait::read`],
//! where blocking is allowed, and only when a partition has something new; each
//! wake-up reads on from where the last one stopped, so a wait for many bytes
//! does not read the same batches twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_kafka::messages::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use forebay_kafka::{KStr, error_code};
use forebay_storage::Partition;

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::broker::LEADER_EPOCH;
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::{CloseReason, Reply};

/// Most record bytes in one response. Clients ask for 50 MiB by default; 8 MiB
/// keep a link busy as well and bound what one connection costs in memory.
/// A single larger batch is still returned.
pub const MAX_FETCH_BYTES: usize = 8 * 1024 * 1024;

/// Longest wait for records, whatever the client asks for: a connection that
/// nobody reads any more is noticed within this time.
const MAX_WAIT_MS: u64 = 5 * 60_000;

/// A Fetch that gathers records until it has enough or its time is up.
///
/// Call [`Self::is_done`]; while it is false, wait for a commit or
/// [`Self::wait`] to pass, and call [`Self::read`] when [`Self::has_news`].
pub struct FetchWait {
    call: Call,
    wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    gathered: usize,
    has_error: bool,
    topics: Vec<(KStr, Vec<PartitionFetch>)>,
}

struct PartitionFetch {
    index: i32,
    partition: Option<Partition>,
    next_offset: u64,
    max_bytes: usize,
    gathered: usize,
    batches: Vec<Bytes>,
    error_code: i16,
}

impl Broker {
    pub(crate) fn fetch(self: &Arc<Self>, call: &Call, request: FetchRequest) -> Reply {
        // Sessions are not kept: every client falls back to full requests when
        // it is answered with session id 0 (KIP-227).
        let session_error = match (request.session_id, request.session_epoch) {
            (0, -1 | 0) => error_code::NONE,
            (0, _) => error_code::INVALID_FETCH_SESSION_EPOCH,
            _ => error_code::FETCH_SESSION_ID_NOT_FOUND,
        };
        if session_error != error_code::NONE {
            return call.ready(&FetchResponse {
                error_code: session_error,
                ..FetchResponse::default()
            });
        }
        let mut has_error = false;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let fetches = topic.partitions.iter().map(|asked| {
                let allowed = call.check(Operation::Read, Resource::Topic(&topic.topic));
                let partition = allowed.and_then(|()| {
                    self.fetchable(
                        &topic.topic,
                        asked.partition,
                        asked.current_leader_epoch,
                        asked.fetch_offset,
                    )
                });
                has_error |= partition.is_err();
                PartitionFetch {
                    index: asked.partition,
                    next_offset: asked.fetch_offset.max(0) as u64,
                    max_bytes: asked.partition_max_bytes.max(0) as usize,
                    gathered: 0,
                    batches: Vec::new(),
                    error_code: partition
                        .as_ref()
                        .err()
                        .map_or(error_code::NONE, KafkaCode::kafka_code),
                    partition: partition.ok(),
                }
            });
            topics.push((topic.topic.clone(), fetches.collect()));
        }
        let is_empty = topics
            .iter()
            .all(|(_, fetches): &(KStr, Vec<PartitionFetch>)| fetches.is_empty());
        let max_bytes = (request.max_bytes.max(0) as usize).min(MAX_FETCH_BYTES);
        Reply::LongPoll(Box::new(FetchWait {
            call: call.clone(),
            wait: Duration::from_millis((request.max_wait_ms.max(0) as u64).min(MAX_WAIT_MS)),
            min_bytes: if is_empty {
                0
            } else {
                // More than the response may hold would always wait for the deadline.
                (request.min_bytes.max(0) as usize).min(max_bytes)
            },
            max_bytes,
            gathered: 0,
            has_error,
            topics,
        }))
    }

    fn fetchable(
        &self,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        offset: i64,
    ) -> Result<Partition, Refusal> {
        let (_, partition) = self.partition(topic, index)?;
        check_leader_epoch(leader_epoch)?;
        let offsets = partition.offsets();
        if !(offsets.log_start as i64..=offsets.log_end as i64).contains(&offset) {
            return Err(Refusal::OffsetOutOfRange(offset));
        }
        Ok(partition)
    }
}

/// Compares the leader epoch that a client knows with this node's only one.
pub(super) fn check_leader_epoch(leader_epoch: i32) -> Result<(), Refusal> {
    match leader_epoch {
        -1 | LEADER_EPOCH => Ok(()),
        ahead if ahead > LEADER_EPOCH => Err(Refusal::UnknownLeaderEpoch(ahead)),
        behind => Err(Refusal::FencedLeaderEpoch(behind)),
    }
}

impl FetchWait {
    /// How long to wait for records.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Says whether the response may be built before the wait is over.
    pub fn is_done(&self) -> bool {
        self.has_error || self.gathered >= self.min_bytes
    }

    /// Says whether a partition has records that were not read yet. Looks at
    /// memory only.
    pub fn has_news(&self) -> bool {
        self.gathered < self.max_bytes.max(1)
            && self
                .topics
                .iter()
                .flat_map(|(_, fetches)| fetches)
                .any(PartitionFetch::has_news)
    }

    /// Reads what is new, within the limits. Reads files.
    pub fn read(&mut self) {
        for fetch in self.topics.iter_mut().flat_map(|(_, fetches)| fetches) {
            if !fetch.has_news() {
                continue;
            }
            let room = self.max_bytes.saturating_sub(self.gathered);
            let read = fetch.read(room, self.gathered == 0);
            self.gathered += read;
            self.has_error |= fetch.error_code != error_code::NONE;
        }
    }

    /// Builds the response.
    ///
    /// # Errors
    /// [`CloseReason`] when it cannot be encoded.
    pub fn finish(mut self) -> Result<Bytes, CloseReason> {
        // The rules may have changed while it waited.
        if !self.call.is_welcome() {
            return Err(CloseReason::NotLoggedIn);
        }
        for (name, fetches) in &mut self.topics {
            if !self.call.sees(Operation::Read, Resource::Topic(name)) {
                fetches.iter_mut().for_each(PartitionFetch::refuse);
            }
        }
        let topic = |(name, fetches): (KStr, Vec<PartitionFetch>)| FetchableTopicResponse {
            topic: name,
            partitions: fetches.into_iter().map(PartitionFetch::respond).collect(),
            ..FetchableTopicResponse::default()
        };
        let responses = self.topics.into_iter().map(topic).collect();
        self.call.encode(&FetchResponse {
            responses,
            ..FetchResponse::default()
        })
    }
}

impl PartitionFetch {
    fn has_news(&self) -> bool {
        let visible = |partition: &Partition| partition.offsets().high_watermark > self.next_offset;
        self.error_code == error_code::NONE
            && (self.gathered == 0 || self.gathered < self.max_bytes)
            && self.partition.as_ref().is_some_and(visible)
    }

    fn read(&mut self, room: usize, is_first: bool) -> usize {
        let limit = self.max_bytes.saturating_sub(self.gathered).min(room);
        let Some(partition) = self.partition.as_ref().filter(|_| limit > 0 || is_first) else {
            return 0;
        };
        match partition.read(self.next_offset, limit, is_first) {
            Ok(chunk) => {
                let bytes = chunk.batches.iter().map(Bytes::len).sum();
                self.next_offset = self.next_offset.max(chunk.next_offset);
                self.gathered += bytes;
                self.batches.extend(chunk.batches);
                bytes
            }
            Err(error) => {
                // What was gathered before the error is still worth having.
                if self.batches.is_empty() {
                    self.error_code = error.kafka_code();
                }
                self.partition = None;
                0
            }
        }
    }

    fn refuse(&mut self) {
        self.batches.clear();
        self.partition = None;
        self.error_code = error_code::TOPIC_AUTHORIZATION_FAILED;
    }

    fn respond(self) -> PartitionData {
        let offsets = self.partition.as_ref().map(Partition::offsets);
        let high_watermark = offsets.map_or(-1, |o| o.high_watermark as i64);
        PartitionData {
            partition_index: self.index,
            error_code: self.error_code,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: offsets.map_or(-1, |o| o.log_start as i64),
            aborted_transactions: None,
            records: Some(join(self.batches)),
            ..PartitionData::default()
        }
    }
}

fn join(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() == 1 {
        return batches.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for batch in batches {
        joined.extend_from_slice(&batch);
    }
    joined.freeze()
}
