//! ListOffsets and OffsetForLeaderEpoch: where to start reading.

use std::sync::Arc;

use forebay_kafka::messages::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use forebay_kafka::messages::{
    list_offsets_request::ListOffsetsPartition, offset_for_leader_epoch_response::EpochEndOffset,
};

use super::fetch::check_leader_epoch;
use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::broker::LEADER_EPOCH;
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

/// Replica id of a debugging consumer, which sees the log end instead of the
/// high watermark.
const DEBUG_REPLICA: i32 = -2;

/// Timestamp and offset that answer one lookup.
type Found = Option<(i64, u64)>;

impl Broker {
    pub(crate) fn list_offsets(
        self: &Arc<Self>,
        call: &Call,
        request: ListOffsetsRequest,
    ) -> Reply {
        let reads_log = request
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .any(|p| p.timestamp >= 0);
        if reads_log {
            let call = call.clone();
            return self
                .blocking(move |broker| call.ready(&broker.look_up_offsets(&call, &request)));
        }
        call.ready(&self.look_up_offsets(call, &request))
    }

    fn look_up_offsets(&self, call: &Call, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let partition = |topic: &str, asked: &ListOffsetsPartition| {
            let allowed = call.check(Operation::Describe, Resource::Topic(topic));
            let found =
                allowed.and_then(|()| self.look_up_offset(topic, asked, request.replica_id));
            let (timestamp, offset) = found
                .as_ref()
                .ok()
                .copied()
                .flatten()
                .map_or((-1, -1), |(t, o)| (t, o as i64));
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: found.as_ref().err().map_or(0, KafkaCode::kafka_code),
                timestamp,
                offset,
                leader_epoch: if offset >= 0 { LEADER_EPOCH } else { -1 },
                ..ListOffsetsPartitionResponse::default()
            }
        };
        let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| partition(&topic.name, asked))
                .collect(),
            ..ListOffsetsTopicResponse::default()
        });
        ListOffsetsResponse {
            topics: topics.collect(),
            ..ListOffsetsResponse::default()
        }
    }

    fn look_up_offset(
        &self,
        topic: &str,
        asked: &ListOffsetsPartition,
        replica_id: i32,
    ) -> Result<Found, Refusal> {
        let (_, partition) = self.partition(topic, asked.partition_index)?;
        check_leader_epoch(asked.current_leader_epoch)?;
        let offsets = partition.offsets();
        Ok(match asked.timestamp {
            LATEST if replica_id == DEBUG_REPLICA => Some((-1, offsets.log_end)),
            LATEST => Some((-1, offsets.high_watermark)),
            EARLIEST | EARLIEST_LOCAL => Some((-1, offsets.log_start)),
            MAX_TIMESTAMP => partition
                .max_timestamp()
                .map(|(offset, timestamp)| (timestamp, offset)),
            timestamp if timestamp >= 0 => partition
                .offset_for_time(timestamp)?
                .map(|(offset, timestamp)| (timestamp, offset)),
            // Tiered storage lookups: nothing is tiered.
            _ => None,
        })
    }

    pub(crate) fn offset_for_leader_epoch(
        self: &Arc<Self>,
        call: &Call,
        request: OffsetForLeaderEpochRequest,
    ) -> Reply {
        let end_offset = |topic: &str, index: i32, current: i32, epoch: i32| {
            call.check(Operation::Describe, Resource::Topic(topic))?;
            let (_, partition) = self.partition(topic, index)?;
            check_leader_epoch(current)?;
            // One epoch covers the whole log; others have no end here.
            Ok::<_, Refusal>(
                (epoch == LEADER_EPOCH).then(|| partition.offsets().high_watermark as i64),
            )
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| OffsetForLeaderTopicResult {
                topic: topic.topic.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| {
                        let end = end_offset(
                            &topic.topic,
                            asked.partition,
                            asked.current_leader_epoch,
                            asked.leader_epoch,
                        );
                        let known = end.as_ref().ok().copied().flatten();
                        EpochEndOffset {
                            error_code: end.as_ref().err().map_or(0, KafkaCode::kafka_code),
                            partition: asked.partition,
                            leader_epoch: if known.is_some() { LEADER_EPOCH } else { -1 },
                            end_offset: known.unwrap_or(-1),
                            ..EpochEndOffset::default()
                        }
                    })
                    .collect(),
                ..OffsetForLeaderTopicResult::default()
            });
        call.ready(&OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..OffsetForLeaderEpochResponse::default()
        })
    }
}
