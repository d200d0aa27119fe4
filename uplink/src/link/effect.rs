//! What goes into a link and what comes out of it.

use bytes::Bytes;
use forebay_kafka::append_condition::AppendCondition;

#[expect(unused_imports, reason = "named in the documentation")]
use super::Link;
use crate::state::{PlannedBatch, Producer};

/// What a link needs to know about its own side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Identity of this gateway.
    pub incarnation: [u8; 16],
    /// Id of the source topic.
    pub source_topic_id: [u8; 16],
    /// Largest batch before compression, in bytes.
    pub batch_bytes: usize,
}

/// What the driver has to do for a link, in the order in which it is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<P> {
    /// Ask for the destination's log end and its newest record; answer with
    /// [`Link::handle_tail`] or [`Link::handle_failure`].
    FetchTail,
    /// Compute the lineage of one source record; answer with
    /// [`Link::handle_lineage`].
    ReadLineage {
        /// Source offset of the record.
        offset: u64,
    },
    /// Ask for a producer id; answer with [`Link::handle_producer_id`] or
    /// [`Link::handle_failure`].
    InitProducerId,
    /// Make the state durable, then call [`Link::handle_persisted`].
    PersistPlan {
        /// To be named in the answer.
        version: u64,
        /// The state's bytes.
        bytes: Vec<u8>,
    },
    /// Read a planned batch again; answer with [`Link::handle_reread`].
    ReadSource {
        /// Source offset of the first record.
        from: u64,
        /// Source offset after the last record.
        end: u64,
    },
    /// Send one batch; answer with [`Link::handle_produced`]. Batches of one
    /// partition must leave in the order of these effects, on one connection.
    SendProduce(Box<Send<P>>),
    /// Everything below `offset` is delivered and will not be read again.
    Hold {
        /// Source offset.
        offset: u64,
    },
    /// Nothing more will be sent; show the explanation.
    Stop {
        /// Words for the operator.
        explanation: String,
    },
}

/// One batch to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Send<P> {
    /// Its place in the source.
    pub batch: PlannedBatch,
    /// Producer id and epoch to stamp.
    pub producer: Producer,
    /// First sequence number to stamp.
    pub sequence: i32,
    /// The compare-and-append condition for a hub.
    pub condition: AppendCondition,
    /// The records.
    pub payload: P,
}

/// How far the source log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceBounds {
    /// Oldest offset that is stored.
    pub log_start: u64,
    /// Durable end.
    pub log_end: u64,
}

/// What a link wants to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// Source offset to start at.
    pub from: u64,
    /// Most bytes before compression.
    pub max_bytes: usize,
    /// Most records.
    pub max_records: u64,
}

/// Records that were read from the source: dense offsets `start..end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpan<P> {
    /// First offset; above the requested one when the source has a gap.
    pub start: u64,
    /// Offset after the last record.
    pub end: u64,
    /// Lineage of the last record.
    pub lineage_last: u32,
    /// The records.
    pub payload: P,
}

/// The end of the destination log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Oldest offset.
    pub log_start: i64,
    /// Offset after the newest record.
    pub log_end: i64,
    /// The newest record, when there is one.
    pub last: Option<TailRecord>,
}

/// The newest record of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRecord {
    /// Destination offset.
    pub offset: i64,
    /// Timestamp in milliseconds.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
}
