//! The state of one connection: what was asked and is not answered.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use forebay_kafka::messages::{
    FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
};
use forebay_kafka::{DecodeError, Request, decode_response};

use super::connection::Pipeline;
use super::exchange::{self, TailRefusal};
use super::handshake::Versions;
use super::runner::Key;
use crate::link::{Refusal, Send, Tail};

/// Most bytes in one Produce request, which the broker must take as a whole
/// (Kafka's socket.request.max.bytes is 100 MiB; ours is lower).
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// A connection to the destination in the sending phase.
pub struct Session {
    /// Number of the connection; answers of older ones are dropped.
    pub generation: u64,
    pub pipeline: Pipeline,
    pub versions: Versions,
    pending: VecDeque<Pending>,
}

struct Pending {
    correlation: i32,
    version: i16,
    asked: Asked,
    since: Instant,
}

enum Asked {
    Produce(Vec<(Key, String, u64)>),
    ListEnd(Key, String),
    FetchLast(Key, i64),
    ProducerId(Key),
}

/// What a response means for the links.
pub enum Answer {
    Produced(Vec<(Key, u64, Result<i64, Refusal>)>),
    Tail(Key, Result<Tail, TailRefusal>),
    ProducerId(Key, Result<(i64, i16), i16>),
    /// The end is known; the newest record is being fetched.
    Nothing,
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("response cannot be decoded")]
    Decode(#[from] DecodeError),
    #[error("response answers no request")]
    Unasked,
    #[error("the connection does not take requests")]
    Closed,
}

impl Session {
    pub fn new(generation: u64, pipeline: Pipeline, versions: Versions) -> Self {
        Session {
            generation,
            pipeline,
            versions,
            pending: VecDeque::new(),
        }
    }

    /// Since when the oldest request waits.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.since)
    }

    /// Asks for the end and the newest record of a partition.
    pub fn fetch_tail(&mut self, now: Instant, key: Key, name: String) -> Result<(), SessionError> {
        let request = exchange::list_end(&name, key.1);
        self.ask(now, &request, 7, Asked::ListEnd(key, name))
    }

    /// Asks for a producer id.
    pub fn init_producer(&mut self, now: Instant, key: Key) -> Result<(), SessionError> {
        let request = exchange::init_producer_id();
        self.ask(now, &request, 4, Asked::ProducerId(key))
    }

    /// Sends batches in as few requests as order and size allow. Each request
    /// holds at most one batch per partition.
    pub fn produce(
        &mut self,
        now: Instant,
        batches: Vec<(Key, String, Box<Send<Bytes>>)>,
    ) -> Result<(), SessionError> {
        let mut topics: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut asked: Vec<(Key, String, u64)> = Vec::new();
        let mut bytes = 0;
        for (key, name, send) in batches {
            let repeats = asked.iter().any(|(other, _, _)| *other == key);
            if repeats || (bytes > 0 && bytes + send.payload.len() > MAX_REQUEST_BYTES) {
                self.flush(now, &mut topics, &mut asked)?;
                bytes = 0;
            }
            bytes += send.payload.len();
            let data = exchange::produce_data(key.1, &send);
            topics.entry(name.clone()).or_default().push(data);
            asked.push((key, name, send.batch.start));
        }
        self.flush(now, &mut topics, &mut asked)
    }

    /// Takes one response frame.
    pub fn answer(&mut self, now: Instant, frame: Bytes) -> Result<Answer, SessionError> {
        let pending = self.pending.pop_front().ok_or(SessionError::Unasked)?;
        let version = pending.version;
        let correlation = pending.correlation;
        match pending.asked {
            Asked::Produce(batches) => {
                let response = decode::<ProduceRequest>(frame, version, correlation)?;
                let answer = |(key, name, start): (Key, String, u64)| {
                    let answer = exchange::produced(&response, &name, key.1);
                    (key, start, answer)
                };
                Ok(Answer::Produced(batches.into_iter().map(answer).collect()))
            }
            Asked::ListEnd(key, name) => {
                let response = decode::<ListOffsetsRequest>(frame, version, correlation)?;
                match exchange::listed_end(&response) {
                    Err(code) => {
                        let name = forebay_kafka::error_code::name(code);
                        let words = format!("the destination's end is unknown: {name} ({code})");
                        Ok(Answer::Tail(key, Err(TailRefusal { code, words })))
                    }
                    Ok(0) => Ok(Answer::Tail(
                        key,
                        Ok(Tail {
                            log_start: 0,
                            log_end: 0,
                            last: None,
                        }),
                    )),
                    Ok(end) => {
                        let request = exchange::fetch_last(&name, key.1, end);
                        self.ask(now, &request, 11, Asked::FetchLast(key, end))?;
                        Ok(Answer::Nothing)
                    }
                }
            }
            Asked::FetchLast(key, end) => {
                let response = decode::<FetchRequest>(frame, version, correlation)?;
                Ok(Answer::Tail(key, exchange::fetched_tail(&response, end)))
            }
            Asked::ProducerId(key) => {
                let response = decode::<InitProducerIdRequest>(frame, version, correlation)?;
                let answer = match response.error_code {
                    0 => Ok((response.producer_id, response.producer_epoch)),
                    code => Err(code),
                };
                Ok(Answer::ProducerId(key, answer))
            }
        }
    }

    fn flush(
        &mut self,
        now: Instant,
        topics: &mut BTreeMap<String, Vec<forebay_kafka::messages::PartitionProduceData>>,
        asked: &mut Vec<(Key, String, u64)>,
    ) -> Result<(), SessionError> {
        if asked.is_empty() {
            return Ok(());
        }
        let topics = std::mem::take(topics).into_iter().collect();
        let asked = Asked::Produce(std::mem::take(asked));
        self.ask(now, &exchange::produce(topics), 11, asked)
    }

    fn ask<R: Request>(
        &mut self,
        now: Instant,
        request: &R,
        highest: i16,
        asked: Asked,
    ) -> Result<(), SessionError> {
        let version = self.versions.pick::<R>(highest);
        let sent = self.pipeline.send(request, version);
        let correlation = sent.ok_or(SessionError::Closed)?;
        self.pending.push_back(Pending {
            correlation,
            version,
            asked,
            since: now,
        });
        Ok(())
    }
}

/// Answers come in the order of the requests.
fn decode<R: Request>(
    frame: Bytes,
    version: i16,
    expected: i32,
) -> Result<R::Response, SessionError> {
    let (correlation, response) = decode_response::<R>(frame, version)?;
    if correlation == expected {
        Ok(response)
    } else {
        Err(SessionError::Unasked)
    }
}
