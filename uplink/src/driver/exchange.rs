//! The requests of the sending phase and what their answers say.

use bytes::Bytes;
use forebay_kafka::append_condition;
use forebay_kafka::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, InitProducerIdRequest,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use forebay_kafka::{KStr, error_code};
use forebay_records::{records, split_batches};

use crate::link::{Refusal, Send, Tail, TailRecord};
use crate::planner::{MAX_DECOMPRESSED, stamp_producer};

/// Bytes asked for when the newest record is fetched. The first batch comes
/// whole whatever its size (KIP-74).
const TAIL_BYTES: i32 = 1 << 20;
/// How long the broker may wait for the newest record, which is there already.
const TAIL_WAIT_MS: i32 = 100;
/// How long the broker may wait for its replicas.
const PRODUCE_TIMEOUT_MS: i32 = 20_000;

/// The data of one batch in a Produce request.
pub fn produce_data(partition: u32, send: &Send<Bytes>) -> PartitionProduceData {
    let producer = send.producer;
    // A gap alone has no records to stamp.
    let records = match send.payload.is_empty() {
        true => Bytes::new(),
        false => stamp_producer(&send.payload, producer.id, producer.epoch, send.sequence),
    };
    let condition = Bytes::from(send.condition.encode());
    PartitionProduceData {
        index: partition as i32,
        records: Some(records),
        unknown_tagged_fields: vec![(append_condition::TAG, condition)],
    }
}

/// A Produce request with acks=all.
pub fn produce(topics: Vec<(String, Vec<PartitionProduceData>)>) -> ProduceRequest {
    let topic = |(name, partition_data): (String, _)| TopicProduceData {
        name: KStr::from(name),
        partition_data,
        ..TopicProduceData::default()
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: PRODUCE_TIMEOUT_MS,
        topic_data: topics.into_iter().map(topic).collect(),
        ..ProduceRequest::default()
    }
}

/// The answer for one partition of a Produce request.
pub fn produced(response: &ProduceResponse, topic: &str, partition: u32) -> Result<i64, Refusal> {
    let topics = response.responses.iter().filter(|t| &*t.name == topic);
    let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
    let Some(answer) = partitions.find(|answer| answer.index == partition as i32) else {
        return Err(Refusal {
            code: error_code::UNKNOWN_SERVER_ERROR,
            message: Some("the answer does not name this partition".into()),
        });
    };
    if answer.error_code == error_code::NONE {
        return Ok(answer.base_offset);
    }
    Err(Refusal {
        code: answer.error_code,
        message: answer.error_message.as_deref().map(str::to_owned),
    })
}

/// Asks for the log end of one partition.
pub fn list_end(topic: &str, partition: u32) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: KStr::from(topic),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition as i32,
                current_leader_epoch: -1,
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    }
}

/// The log end, or the error code.
pub fn listed_end(response: &ListOffsetsResponse) -> Result<i64, i16> {
    let partition = response.topics.first().and_then(|t| t.partitions.first());
    match partition {
        None => Err(error_code::UNKNOWN_SERVER_ERROR),
        Some(answer) if answer.error_code != error_code::NONE => Err(answer.error_code),
        Some(answer) => Ok(answer.offset),
    }
}

/// Asks for the record before `log_end`.
pub fn fetch_last(topic: &str, partition: u32, log_end: i64) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: TAIL_WAIT_MS,
        min_bytes: 1,
        max_bytes: TAIL_BYTES,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: KStr::from(topic),
            partitions: vec![FetchPartition {
                partition: partition as i32,
                current_leader_epoch: -1,
                fetch_offset: log_end - 1,
                partition_max_bytes: TAIL_BYTES,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// Why the destination's tail is unknown.
#[derive(Debug)]
pub struct TailRefusal {
    /// Kafka error code.
    pub code: i16,
    /// For the status.
    pub words: String,
}

/// The destination's tail out of the answer to [`fetch_last`].
///
/// # Errors
/// [`TailRefusal`] when the broker refuses or the records do not decode.
pub fn fetched_tail(response: &FetchResponse, log_end: i64) -> Result<Tail, TailRefusal> {
    let refusal = |what: &str, code: i16| {
        let name = error_code::name(code);
        let words = format!("the destination {what}: error code {code} ({name})");
        TailRefusal { code, words }
    };
    let topic = response.responses.first();
    let Some(answer) = topic.and_then(|topic| topic.partitions.first()) else {
        return Err(refusal(
            "did not return its newest record",
            response.error_code,
        ));
    };
    let nothing_left = answer.error_code == error_code::OFFSET_OUT_OF_RANGE;
    if answer.error_code != error_code::NONE && !nothing_left {
        return Err(refusal(
            "refused to return its newest record",
            answer.error_code,
        ));
    }
    let bytes = answer.records.clone().unwrap_or_default();
    let last = if nothing_left {
        None
    } else {
        record_at(&bytes, log_end - 1).map_err(|words| TailRefusal {
            code: error_code::CORRUPT_MESSAGE,
            words,
        })?
    };
    Ok(Tail {
        log_start: answer.log_start_offset,
        log_end,
        last,
    })
}

/// Asks for a producer id.
pub fn init_producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    }
}

fn record_at(bytes: &Bytes, offset: i64) -> Result<Option<TailRecord>, String> {
    for batch in split_batches(bytes) {
        // A fetch may end within a batch; the first one is always whole.
        let Ok(batch) = batch else { break };
        let iter = records(&batch, MAX_DECOMPRESSED).map_err(|error| undecodable(&error))?;
        for record in iter {
            let record = record.map_err(|error| undecodable(&error))?;
            if record.offset == offset {
                return Ok(Some(TailRecord {
                    offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                }));
            }
        }
    }
    Ok(None)
}

fn undecodable(error: &dyn std::error::Error) -> String {
    format!("the destination's newest record cannot be decoded: {error}")
}
