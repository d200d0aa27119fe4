//! DeleteRecords: moves the log start of partitions forward.

use std::sync::Arc;

use forebay_kafka::error_code;
use forebay_kafka::messages::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use forebay_storage::Ticket;

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;

/// Offset that stands for the high watermark.
const UP_TO_HIGH_WATERMARK: i64 = -1;

impl Broker {
    pub(crate) fn delete_records(
        self: &Arc<Self>,
        call: &Call,
        request: DeleteRecordsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let mut last = None;
            let mut delete = |topic: &str, index: i32, offset: i64| {
                let allowed = call.check(Operation::Delete, Resource::Topic(topic));
                let deleted = allowed.and_then(|()| broker.delete_before(topic, index, offset));
                let (low_watermark, error_code) = match deleted {
                    Ok((low_watermark, ticket)) => {
                        last = last.max(Some(ticket));
                        (low_watermark, error_code::NONE)
                    }
                    Err(refusal) => (-1, refusal.kafka_code()),
                };
                DeleteRecordsPartitionResult {
                    partition_index: index,
                    low_watermark,
                    error_code,
                    ..DeleteRecordsPartitionResult::default()
                }
            };
            let topics = request.topics.iter().map(|topic| DeleteRecordsTopicResult {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| delete(&topic.name, p.partition_index, p.offset))
                    .collect(),
                ..DeleteRecordsTopicResult::default()
            });
            let response = DeleteRecordsResponse {
                topics: topics.collect(),
                ..DeleteRecordsResponse::default()
            };
            match last {
                Some(ticket) => call.after_commit(ticket, &response),
                None => call.ready(&response),
            }
        })
    }

    fn delete_before(
        &self,
        topic: &str,
        index: i32,
        offset: i64,
    ) -> Result<(i64, Ticket), Refusal> {
        let (_, partition) = self.partition(topic, index)?;
        let offsets = partition.offsets();
        let high_watermark = offsets.high_watermark as i64;
        let target = if offset == UP_TO_HIGH_WATERMARK {
            high_watermark
        } else {
            offset
        };
        if !(0..=high_watermark).contains(&target) {
            return Err(Refusal::OffsetOutOfRange(offset));
        }
        if target as u64 <= offsets.log_start {
            return Ok((offsets.log_start as i64, self.storage.committed()));
        }
        Ok((target, partition.set_log_start(target as u64)?))
    }
}
