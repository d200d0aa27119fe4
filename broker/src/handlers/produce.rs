//! Produce: batches are validated and appended at once; the response leaves
//! when the last of them is durable, for acks=1 as for acks=all.

use std::sync::Arc;

use forebay_kafka::KStr;
use forebay_kafka::append_condition::{AppendCondition, TAG};
use forebay_kafka::messages::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use forebay_storage::Ticket;

use super::append::{AppendRequest, NotPlaced, Placed};
use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::{CloseReason, Reply};

/// Longest a Produce waits for the log to take its batches, whatever its
/// timeout says: clients give up after 30 s by default.
const MAX_STALL_MS: u64 = 30_000;

/// Shortest such wait: a client that asks for less would fail where a commit
/// or two would have helped.
const MIN_STALL_MS: u64 = 1_000;

/// A Produce request with what is left to do.
struct ProduceJob {
    broker: Arc<Broker>,
    call: Call,
    acks: i16,
    stall_until_ms: u64,
    timeout_ms: i32,
    refuse_all: Option<fn(i16) -> Refusal>,
    topics: Vec<TopicJob>,
    ticket: Option<Ticket>,
    refused: Option<String>,
}

struct TopicJob {
    name: KStr,
    pending: std::vec::IntoIter<PartitionProduceData>,
    /// The partition that could not be placed yet.
    retry: Option<(i32, AppendRequest)>,
    done: Vec<PartitionProduceResponse>,
}

impl Broker {
    pub(crate) fn produce(self: &Arc<Self>, call: &Call, request: ProduceRequest) -> Reply {
        let stall_ms = u64::try_from(request.timeout_ms)
            .unwrap_or(0)
            .clamp(MIN_STALL_MS, MAX_STALL_MS);
        let refuse_all: Option<fn(i16) -> Refusal> = if !(-1..=1).contains(&request.acks) {
            Some(Refusal::Acks)
        } else if request.transactional_id.is_some() {
            Some(|_| Refusal::Transactional)
        } else {
            None
        };
        let topic_job = |topic: forebay_kafka::messages::TopicProduceData| TopicJob {
            name: topic.name,
            done: Vec::with_capacity(topic.partition_data.len()),
            pending: topic.partition_data.into_iter(),
            retry: None,
        };
        let job = ProduceJob {
            broker: Arc::clone(self),
            call: call.clone(),
            acks: request.acks,
            stall_until_ms: self.clock.monotonic_ms() + stall_ms,
            timeout_ms: request.timeout_ms,
            refuse_all,
            topics: request.topic_data.into_iter().map(topic_job).collect(),
            ticket: None,
            refused: None,
        };
        Box::new(job).run(false)
    }
}

enum Pause {
    Block,
    Stall,
}

impl ProduceJob {
    fn run(mut self: Box<Self>, may_block: bool) -> Reply {
        let mut topics = std::mem::take(&mut self.topics);
        for topic in &mut topics {
            while let Some((index, result)) = topic.next_request() {
                let paused = match result {
                    Ok(request) => self.step(topic, request, may_block),
                    Err(refusal) => {
                        topic.done.push(self.refuse(index, &refusal));
                        None
                    }
                };
                if let Some(pause) = paused {
                    self.topics = topics;
                    return match pause {
                        Pause::Block => Reply::Blocking(Box::new(move || self.run(true))),
                        Pause::Stall => Reply::Stalled(Box::new(move || self.run(may_block))),
                    };
                }
            }
        }
        self.finish(topics)
    }

    fn step(
        &mut self,
        topic: &mut TopicJob,
        request: AppendRequest,
        may_block: bool,
    ) -> Option<Pause> {
        let index = request.index;
        let placed = match self.refuse_all {
            Some(refuse) => Err(NotPlaced::Refused(refuse(self.acks))),
            None => {
                let topic = Resource::Topic(&topic.name);
                let allowed = self.call.check(Operation::Write, topic);
                allowed
                    .map_err(NotPlaced::Refused)
                    .and_then(|()| self.broker.place(&request, may_block))
            }
        };
        match placed {
            Ok(placed) => {
                self.ticket = self.ticket.max(placed.ticket);
                topic.done.push(placed_response(index, placed));
                None
            }
            Err(NotPlaced::Refused(refusal)) => {
                topic.done.push(self.refuse(index, &refusal));
                None
            }
            Err(NotPlaced::MustBlock) => {
                topic.retry = Some((index, request));
                Some(Pause::Block)
            }
            Err(NotPlaced::Backpressure)
                if self.broker.clock.monotonic_ms() >= self.stall_until_ms =>
            {
                topic
                    .done
                    .push(self.refuse(index, &Refusal::TimedOut(self.timeout_ms)));
                None
            }
            Err(NotPlaced::Backpressure) => {
                topic.retry = Some((index, request));
                Some(Pause::Stall)
            }
        }
    }

    fn refuse(&mut self, index: i32, refusal: &Refusal) -> PartitionProduceResponse {
        let message = refusal.to_string();
        let log_end = match refusal {
            Refusal::Condition { log_end, .. } => *log_end as i64,
            _ => -1,
        };
        self.refused.get_or_insert_with(|| message.clone());
        PartitionProduceResponse {
            index,
            error_code: refusal.kafka_code(),
            base_offset: -1,
            log_start_offset: log_end,
            error_message: Some(message.into()),
            ..PartitionProduceResponse::default()
        }
    }

    fn finish(self, topics: Vec<TopicJob>) -> Reply {
        if self.acks == 0 {
            // Closing makes the client look for the cause; Kafka does the same.
            return match self.refused {
                Some(message) => Reply::Close(CloseReason::UnacknowledgedRefused(message)),
                None => Reply::None,
            };
        }
        let response = |topic: TopicJob| TopicProduceResponse {
            name: topic.name,
            partition_responses: topic.done,
            ..TopicProduceResponse::default()
        };
        let response = ProduceResponse {
            responses: topics.into_iter().map(response).collect(),
            ..ProduceResponse::default()
        };
        match self.ticket {
            Some(ticket) => self.call.after_commit(ticket, &response),
            None => self.call.ready(&response),
        }
    }
}

impl TopicJob {
    fn next_request(&mut self) -> Option<(i32, Result<AppendRequest, Refusal>)> {
        if let Some((index, request)) = self.retry.take() {
            return Some((index, Ok(request)));
        }
        let data = self.pending.next()?;
        let condition = data
            .unknown_tagged_fields
            .iter()
            .find(|(tag, _)| *tag == TAG);
        let condition = condition
            .map(|(_, body)| AppendCondition::decode(body))
            .transpose();
        let request = condition
            .map_err(Refusal::from)
            .map(|condition| AppendRequest {
                topic: self.name.to_string(),
                index: data.index,
                records: data.records.unwrap_or_default(),
                condition,
            });
        Some((data.index, request))
    }
}

fn placed_response(index: i32, placed: Placed) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: placed.base_offset,
        log_append_time_ms: placed.append_time_ms,
        log_start_offset: placed.log_start as i64,
        ..PartitionProduceResponse::default()
    }
}
