//! What an answer to Produce means for the link.

use std::time::Instant;

use forebay_kafka::append_condition::{REFUSED_LINEAGE, REFUSED_OFFSET};
use forebay_kafka::error_code;

use super::{Link, Phase, StopReason};

/// A refused batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka error code.
    pub code: i16,
    /// The destination's words.
    pub message: Option<String>,
}

impl<P: Clone + Default> Link<P> {
    /// The answer for the batch that starts at source offset `start`: the
    /// destination offset of its first record, or a refusal.
    pub fn handle_produced(&mut self, now: Instant, start: u64, answer: Result<i64, Refusal>) {
        let batches = &self.state.in_flight;
        let index = batches.iter().position(|batch| batch.start == start);
        let Some(index) = index.filter(|index| self.slots[*index].sent) else {
            return;
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        match (&self.phase, answer) {
            (Phase::Streaming, Ok(base_offset)) if index == 0 => self.acknowledged(base_offset),
            (Phase::Streaming, Ok(_)) => {
                // Answers come in the order of the requests. One out of order
                // is cleared up by the tail.
                self.drain(now);
            }
            (Phase::Streaming, Err(refusal)) => self.refused(now, index, &refusal),
            (Phase::Draining, _) if self.outstanding == 0 => self.pause(now),
            _ => {}
        }
    }

    fn acknowledged(&mut self, base_offset: i64) {
        let batch = self.state.in_flight[0];
        let delta = base_offset - batch.start as i64;
        let closed_up = self.state.delta - batch.gap_len() as i64;
        if delta != self.state.delta && delta != closed_up {
            return self.stop(StopReason::OffsetMismatch {
                offset: batch.start,
                found: base_offset,
                expected: batch.start as i64 + self.state.delta,
            });
        }
        self.state.delta = delta;
        self.state.in_flight.remove(0);
        self.slots.pop_front();
        self.state.acked = batch.end;
        self.state.acked_lineage = batch.lineage_known();
        self.backoff.reset();
        self.refused_in_a_row = 0;
        self.last_error = None;
        // A gap alone says nothing about the producer.
        self.proven |= batch.record_count() > 0;
        // While more is in flight the cursor rides with the next plan.
        if self.slots.is_empty() {
            self.persist();
        }
        self.send_ready();
    }

    fn refused(&mut self, now: Instant, index: usize, refusal: &Refusal) {
        let message = refusal.message.as_deref().unwrap_or_default();
        self.last_error = Some(format!(
            "source offset {} refused with error code {} {message}",
            self.state.in_flight[index].start, refusal.code
        ));
        if index > 0 {
            // The refusal of an earlier batch is on its way, or this one alone
            // was refused; the tail tells.
            return self.drain(now);
        }
        let compare_failed =
            message.starts_with(REFUSED_OFFSET) || message.starts_with(REFUSED_LINEAGE);
        match refusal.code {
            error_code::INVALID_RECORD if compare_failed => self.refused_in_a_row += 1,
            error_code::OUT_OF_ORDER_SEQUENCE_NUMBER => self.refused_in_a_row += 1,
            error_code::INVALID_PRODUCER_EPOCH | error_code::PRODUCER_FENCED => {
                return self.stop(StopReason::Fenced { code: refusal.code });
            }
            error_code::UNKNOWN_PRODUCER_ID => self.state.producer = None,
            error_code::MESSAGE_TOO_LARGE | error_code::RECORD_LIST_TOO_LARGE => {
                let batch = self.state.in_flight[0];
                if batch.record_count() <= 1 {
                    return self.stop(StopReason::RecordTooLarge {
                        offset: batch.start,
                    });
                }
                self.max_records = batch.record_count() / 2;
                self.replan = true;
            }
            code => {
                if let Some(meaning) = hopeless(code) {
                    let batch = self.state.in_flight[0];
                    return self.stop(StopReason::Refused {
                        start: batch.start,
                        end: batch.end,
                        code,
                        meaning,
                    });
                }
            }
        }
        self.drain(now);
    }

    /// Waits for the answers that are still to come, then pauses.
    pub(super) fn drain(&mut self, now: Instant) {
        self.phase = Phase::Draining;
        if self.outstanding == 0 {
            self.pause(now);
        }
    }

    pub(super) fn pause(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.sent = false;
        }
        let pause = self.backoff.fail(self.rng.u64(..));
        self.phase = Phase::Pausing { until: now + pause };
    }
}

/// Refusals that no retry of the same records turns into a success.
fn hopeless(code: i16) -> Option<&'static str> {
    Some(match code {
        error_code::INVALID_TIMESTAMP => {
            "a timestamp lies outside the range that the destination topic accepts; \
             check this gateway's clock and message.timestamp.*.max.ms"
        }
        error_code::INVALID_RECORD => "the destination finds a record invalid",
        error_code::UNSUPPORTED_COMPRESSION_TYPE => {
            "the destination does not know the compression; choose another"
        }
        error_code::UNSUPPORTED_FOR_MESSAGE_FORMAT => "the destination is too old",
        error_code::INVALID_TOPIC_EXCEPTION => "the topic name is not allowed",
        error_code::POLICY_VIOLATION => "a policy of the destination forbids it",
        _ => return None,
    })
}
