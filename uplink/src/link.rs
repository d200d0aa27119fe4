//! The state machine of one partition's link, without I/O.
//!
//! One link carries one source partition to one destination partition. It
//! decides what is sent, what must be durable before, and when it is safe to
//! go on after a failure; a driver does the reading, writing and waiting.
//!
//! Poll it in this order: feed one input (`handle_*`), then drain
//! [`Link::next_effect`], then ask [`Link::wants_source`] when the schedule
//! has a turn for this partition, and wake it with [`Link::handle_timeout`] at
//! [`Link::timeout`].
//!
//! The intuition: the destination log is the real cursor, the stored state is
//! what is needed to repeat a send *exactly*. The sequence number is a
//! function of the source offset, so whatever copy of a batch arrives second,
//! from whatever dead connection, is recognised by the destination. The
//! rejected alternative, a new producer id and a resend from the destination's
//! end, duplicates a batch that is appended but not yet visible.

mod answer;
mod effect;
mod stop;
mod verify;

use std::collections::VecDeque;
use std::time::Instant;

use forebay_kafka::append_condition::AppendCondition;

use crate::backoff::Backoff;
use crate::state::{Destination, MAX_IN_FLIGHT, PartitionState, PlannedBatch, Producer};

pub use answer::Refusal;
pub use effect::{
    Effect, LinkConfig, ReadRequest, Send, SourceBounds, SourceSpan, Tail, TailRecord,
};
pub use stop::StopReason;
pub use verify::lineage_of;

/// The link of one partition. `P` is the payload of a batch; cloning it must
/// be cheap.
#[derive(Debug)]
pub struct Link<P> {
    config: LinkConfig,
    state: PartitionState,
    /// One per batch in `state.in_flight`, in the same order.
    slots: VecDeque<Slot<P>>,
    phase: Phase,
    effects: VecDeque<Effect<P>>,
    /// Counts changes of the state; a batch leaves when its version is durable.
    version: u64,
    durable_version: u64,
    /// Version and cursor that are on their way to the disk.
    submitted: Option<(u64, u64)>,
    /// Requests without an answer on this connection.
    outstanding: usize,
    /// The destination has acknowledged something since the last tail check,
    /// so it knows the producer. Until then one batch travels at a time: a
    /// Kafka that does not know a producer accepts any sequence from it, so
    /// with the first batch refused a second one would be stored in its place.
    proven: bool,
    reading: bool,
    /// The next record lies behind a gap, whose batch travels alone.
    gap_ahead: bool,
    /// The source has no records from the next one to read up to here, and the
    /// destination keeps no gaps: there is nothing to read below.
    quiet_to: u64,
    /// The destination checks the append condition.
    compares: bool,
    /// Records below this offset count as lost.
    skip_to: u64,
    /// The plan was found too large; it is made anew after the tail check.
    replan: bool,
    /// Lowered when the destination finds a batch too large.
    max_records: u64,
    backoff: Backoff,
    refused_in_a_row: u32,
    last_error: Option<String>,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Slot<P> {
    version: u64,
    payload: Option<P>,
    sent: bool,
    /// The source no longer has all of the records.
    lost: bool,
}

impl<P> Slot<P> {
    fn new(version: u64, payload: Option<P>) -> Self {
        Slot {
            version,
            payload,
            sent: false,
            lost: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// No connection.
    Offline,
    /// Waits for the destination's tail.
    Checking,
    /// Waits for the local record that the tail is compared with.
    Comparing {
        tail: Tail,
        source: SourceBounds,
        offset: u64,
    },
    /// Waits for a producer id.
    Identifying,
    /// Sends.
    Streaming,
    /// Waits for the answers to what was sent, then pauses.
    Draining,
    /// Pauses, then checks the tail.
    Pausing { until: Instant },
    /// Sends nothing more.
    Stopped(StopReason),
}

/// Refusals as out of order, with a verified tail, before the link stops. With
/// the back-off these span about a minute, which is longer than a follower of
/// a healthy cluster holds the high watermark below the log end.
const MAX_REFUSED_IN_A_ROW: u32 = 10;

impl<P: Clone + Default> Link<P> {
    /// A link that goes on from `stored`, or starts when there is nothing.
    pub fn new(config: LinkConfig, stored: Option<PartitionState>, rng: fastrand::Rng) -> Self {
        let fresh = || {
            let nowhere = Destination {
                cluster_id: String::new(),
                topic_id: [0; 16],
            };
            PartitionState::new(config.incarnation, config.source_topic_id, nowhere)
        };
        let state = stored.unwrap_or_else(fresh);
        let plan = state.in_flight.iter();
        let slots = plan.map(|_| Slot::new(0, None)).collect();
        let effects = VecDeque::from([Effect::Hold {
            offset: state.acked,
        }]);
        let mut link = Link {
            state,
            slots,
            phase: Phase::Offline,
            effects,
            version: 0,
            durable_version: 0,
            submitted: None,
            outstanding: 0,
            proven: false,
            reading: false,
            gap_ahead: false,
            quiet_to: 0,
            compares: false,
            skip_to: 0,
            replan: false,
            max_records: u64::MAX,
            backoff: Backoff::default(),
            refused_in_a_row: 0,
            last_error: None,
            rng,
            config,
        };
        link.check_own_identity();
        link
    }

    /// A connection to the leader of the destination partition is up.
    /// `compares` tells whether it announces compare-and-append.
    pub fn handle_connected(&mut self, destination: Destination, compares: bool) {
        if self.is_stopped() {
            return;
        }
        self.compares = compares;
        let bound = &self.state.destination;
        if bound.cluster_id.is_empty() {
            self.state.destination = destination;
        } else if bound.cluster_id != destination.cluster_id {
            let expected = bound.cluster_id.clone();
            return self.stop(StopReason::ClusterChanged {
                found: destination.cluster_id,
                expected,
            });
        } else if bound.topic_id != destination.topic_id {
            let expected = bound.topic_id;
            return self.stop(StopReason::TopicRecreated {
                found: destination.topic_id,
                expected,
            });
        }
        self.forget_connection();
        self.check_tail();
    }

    /// The connection is gone; answers to earlier requests will not come.
    pub fn handle_disconnected(&mut self) {
        if self.is_stopped() {
            return;
        }
        self.forget_connection();
        for slot in &mut self.slots {
            // The records are read again, so that an outage costs no memory.
            slot.payload = None;
        }
        self.phase = Phase::Offline;
    }

    /// A request other than Produce was refused, or could not be made.
    pub fn handle_failure(&mut self, now: Instant, error: String) {
        if matches!(
            self.phase,
            Phase::Checking | Phase::Comparing { .. } | Phase::Identifying
        ) {
            self.last_error = Some(error);
            self.pause(now);
        }
    }

    /// The destination assigned a producer id.
    pub fn handle_producer_id(&mut self, id: i64, epoch: i16) {
        if self.phase != Phase::Identifying {
            return;
        }
        let first = self.state.in_flight.first();
        self.state.producer = Some(Producer {
            id,
            epoch,
            sequence_base: first.map_or(self.state.acked, |batch| batch.start),
        });
        self.persist();
        for slot in &mut self.slots {
            slot.version = self.version;
        }
        self.stream();
    }

    /// The state with this version is durable.
    pub fn handle_persisted(&mut self, version: u64) {
        let Some((submitted, acked)) = self.submitted else {
            return;
        };
        if submitted != version {
            return;
        }
        self.submitted = None;
        self.durable_version = version;
        self.effects.push_back(Effect::Hold { offset: acked });
        self.submit();
        self.send_ready();
    }

    /// The answer to [`Self::begin_read`]: records, or `None` when there are
    /// none. `from` repeats the request.
    pub fn handle_source(&mut self, from: u64, span: Option<SourceSpan<P>>) {
        if !std::mem::take(&mut self.reading) || self.phase != Phase::Streaming {
            return;
        }
        let Some(span) = span else { return };
        let next = self.state.next_offset();
        if from != self.read_from() || span.start < next || self.slots.len() >= MAX_IN_FLIGHT {
            return;
        }
        if span.start > next && !self.slots.is_empty() {
            self.gap_ahead = true;
            return;
        }
        self.gap_ahead = false;
        if span.start > next && span.start < self.state.given_up_to && !self.compares {
            // A copy of a batch that was given up may still be on its way.
            // Apache Kafka refuses it once a batch of a higher epoch is there,
            // and that batch must not repeat what the copy holds. A hub
            // refuses whichever comes second.
            self.skip_to = self.state.given_up_to;
            return;
        }
        self.plan(span);
    }

    /// The answer to [`Self::begin_read`] when the source lost every record of
    /// `from..upto` and has none behind them yet. A hub records the gap at
    /// once, so that offsets agree while the source is quiet; elsewhere the gap
    /// waits for the next record.
    pub fn handle_source_gap(&mut self, from: u64, upto: u64) {
        if !std::mem::take(&mut self.reading) || self.phase != Phase::Streaming {
            return;
        }
        if from != self.read_from() || upto <= from {
            return;
        }
        if !self.compares {
            self.quiet_to = upto;
        } else if self.slots.is_empty() {
            self.plan(SourceSpan {
                start: upto,
                end: upto,
                lineage_last: 0,
                payload: P::default(),
            });
        } else {
            self.gap_ahead = true;
        }
    }

    /// The answer to [`Effect::ReadSource`]; `None` when the source no longer
    /// has all of the records.
    pub fn handle_reread(&mut self, now: Instant, start: u64, end: u64, payload: Option<P>) {
        let batches = &self.state.in_flight;
        let index = batches.iter().position(|batch| batch.start == start);
        let Some(index) = index.filter(|index| batches[*index].end == end) else {
            return;
        };
        if payload.is_some() {
            self.slots[index].payload = payload;
            return self.send_ready();
        }
        if self.phase != Phase::Streaming || self.slots[index].sent {
            return;
        }
        // The exact batch cannot be repeated. Whether it arrived is seen at
        // the destination's tail; what is missing there becomes a gap.
        self.last_error = Some(format!(
            "source records {start} to {end} are gone before they were acknowledged"
        ));
        self.slots[index].lost = true;
        self.drain(now);
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Pausing { until } if until <= now) {
            self.check_tail();
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// What to read next when the source's durable end is `log_end`; `None`
    /// when there is nothing to send or no room for it. Call
    /// [`Self::begin_read`] when the read is made.
    pub fn wants_source(&self, log_end: u64) -> Option<ReadRequest> {
        let from = self.read_from();
        let alone = self.state.in_flight.iter().any(|batch| batch.gap_len() > 0);
        let waits = self.reading || alone || (self.gap_ahead && !self.slots.is_empty());
        let resent = self.slots.iter().all(|slot| slot.payload.is_some());
        let room = self.slots.len() < MAX_IN_FLIGHT && resent;
        let news = from.max(self.quiet_to) < log_end;
        let ready = self.phase == Phase::Streaming && !waits && room && news;
        ready.then_some(ReadRequest {
            from,
            max_bytes: self.config.batch_bytes,
            max_records: self.max_records,
        })
    }

    /// A read that [`Self::wants_source`] asked for is on its way.
    pub fn begin_read(&mut self) {
        self.reading = true;
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<Effect<P>> {
        self.effects.pop_front()
    }

    /// Source offset below which everything is delivered.
    pub fn acked(&self) -> u64 {
        self.state.acked
    }

    /// The state, whether durable or not.
    pub fn state(&self) -> &PartitionState {
        &self.state
    }

    /// Why the link stopped, if it did.
    pub fn stop_reason(&self) -> Option<&StopReason> {
        match &self.phase {
            Phase::Stopped(reason) => Some(reason),
            _ => None,
        }
    }

    /// The newest failure that did not stop the link.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// One line for the operator.
    pub fn description(&self) -> String {
        let words = match &self.phase {
            Phase::Offline => "waiting for a connection",
            Phase::Checking | Phase::Comparing { .. } => "comparing the destination with this log",
            Phase::Identifying => "asking for a producer id",
            Phase::Streaming if self.slots.is_empty() => "up to date",
            Phase::Streaming => "sending",
            Phase::Draining | Phase::Pausing { .. } => "pausing after a refusal",
            Phase::Stopped(reason) => return format!("stopped: {reason}"),
        };
        words.to_owned()
    }

    fn read_from(&self) -> u64 {
        self.state.next_offset().max(self.skip_to)
    }

    fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    fn check_own_identity(&mut self) {
        if self.state.incarnation != self.config.incarnation {
            self.stop(StopReason::IncarnationChanged {
                found: self.config.incarnation,
                expected: self.state.incarnation,
            });
        } else if self.state.source_topic_id != self.config.source_topic_id {
            self.stop(StopReason::SourceRecreated {
                found: self.config.source_topic_id,
                expected: self.state.source_topic_id,
            });
        }
    }

    fn stop(&mut self, reason: StopReason) {
        self.effects.push_back(Effect::Stop {
            explanation: reason.to_string(),
        });
        self.phase = Phase::Stopped(reason);
    }

    fn forget_connection(&mut self) {
        self.outstanding = 0;
        self.reading = false;
        self.gap_ahead = false;
        for slot in &mut self.slots {
            slot.sent = false;
        }
    }

    fn check_tail(&mut self) {
        self.phase = Phase::Checking;
        self.effects.push_back(Effect::FetchTail);
    }

    fn plan(&mut self, span: SourceSpan<P>) {
        let gap_from = self.state.next_offset();
        let batch = PlannedBatch {
            gap_from,
            start: span.start,
            end: span.end,
            lineage_before: self.state.next_lineage().unwrap_or(0),
            lineage_last: span.lineage_last,
        };
        if batch.gap_len() > 0 {
            self.state.record_gap(gap_from, span.start);
            let base = self.state.producer.map(|producer| producer.sequence_base);
            // Behind the same gap the sequence stays, so that a smaller batch
            // in place of one that was refused cannot pass beside it.
            if base != Some(span.start) {
                self.restart_sequence(span.start);
            }
        }
        self.state.in_flight.push(batch);
        self.persist();
        let slot = Slot::new(self.version, Some(span.payload));
        self.slots.push_back(slot);
        if self.state.producer.is_none() {
            self.identify();
        }
    }

    /// Starts the sequence over at `offset` under a higher epoch, which also
    /// fences whatever copy of an older batch is still on its way.
    fn restart_sequence(&mut self, offset: u64) {
        self.state.producer = self.state.producer.and_then(|producer| {
            let epoch = producer.epoch.checked_add(1)?;
            Some(Producer {
                id: producer.id,
                epoch,
                sequence_base: offset,
            })
        });
    }

    fn identify(&mut self) {
        self.phase = Phase::Identifying;
        self.effects.push_back(Effect::InitProducerId);
    }

    fn persist(&mut self) {
        self.version += 1;
        self.submit();
    }

    /// One version at a time is on its way; changes meanwhile share the next.
    fn submit(&mut self) {
        if self.submitted.is_some() || self.version == self.durable_version {
            return;
        }
        self.submitted = Some((self.version, self.state.acked));
        self.effects.push_back(Effect::PersistPlan {
            version: self.version,
            bytes: self.state.encode(),
        });
    }

    /// Enters the sending phase; what was planned before goes out first.
    fn stream(&mut self) {
        self.phase = Phase::Streaming;
        self.proven = false;
        for (batch, slot) in self.state.in_flight.iter().zip(&mut self.slots) {
            if batch.record_count() == 0 {
                slot.payload = Some(P::default());
            } else if slot.payload.is_none() {
                self.effects.push_back(Effect::ReadSource {
                    from: batch.start,
                    end: batch.end,
                });
            }
        }
        self.send_ready();
    }

    fn send_ready(&mut self) {
        let Some(producer) = self.state.producer else {
            return;
        };
        if self.phase != Phase::Streaming {
            return;
        }
        for (batch, slot) in self.state.in_flight.iter().zip(&mut self.slots) {
            if slot.sent {
                continue;
            }
            let Some(payload) = slot.payload.clone() else {
                break;
            };
            let unproven = !self.proven && self.outstanding > 0;
            if slot.version > self.durable_version || unproven {
                break;
            }
            slot.sent = true;
            self.outstanding += 1;
            self.effects.push_back(Effect::SendProduce(Box::new(Send {
                batch: *batch,
                producer,
                sequence: producer.sequence(batch.start),
                condition: condition(&self.state, batch),
                payload,
            })));
        }
    }

    fn truncate_plan(&mut self, length: usize) {
        let planned_end = self.state.next_offset();
        self.state.given_up_to = self.state.given_up_to.max(planned_end);
        self.state.in_flight.truncate(length);
        self.slots.truncate(length);
    }
}

fn condition(state: &PartitionState, batch: &PlannedBatch) -> AppendCondition {
    let at_destination = |offset: u64| offset as i64 + state.delta;
    AppendCondition {
        expected_offset: at_destination(batch.gap_from),
        incarnation: state.incarnation,
        lineage: batch.lineage_before,
        gap_to: (batch.gap_len() > 0).then(|| at_destination(batch.start)),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
