//! The destination's tail against this log: may the link go on, and from
//! where?
//!
//! The destination's end alone proves nothing: another writer, a clone or a
//! restored backup can end at the same offset. The newest record's offset,
//! timestamp, key and value decide.

use std::time::Instant;

use forebay_kafka::append_condition;

use super::{Link, Phase, SourceBounds, StopReason, Tail, TailRecord};
use crate::state::PlannedBatch;

/// The digest by which two logs compare a record at `offset`.
pub fn lineage_of(offset: u64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    append_condition::lineage(crc32c::crc32c_append, offset as i64, timestamp, key, value)
}

enum Verdict {
    /// The destination holds exactly what lies below source offset `upto`.
    Resume {
        upto: u64,
        lineage: Option<u32>,
        delta: i64,
    },
    /// The local record at this offset has to be looked at.
    Compare(u64),
    Stop(StopReason),
}

impl<P: Clone + Default> Link<P> {
    /// The end of the destination log, and how far the source reaches.
    pub fn handle_tail(&mut self, now: Instant, tail: Tail, source: SourceBounds) {
        if self.phase == Phase::Checking {
            self.decide(now, tail, source, None);
        }
    }

    /// The lineage of the source record at `offset`; `None` when the source
    /// does not hold it.
    pub fn handle_lineage(&mut self, now: Instant, offset: u64, lineage: Option<u32>) {
        let Phase::Comparing {
            tail,
            source,
            offset: asked,
        } = &self.phase
        else {
            return;
        };
        if *asked == offset {
            let (tail, source) = (tail.clone(), *source);
            self.decide(now, tail, source, Some(lineage));
        }
    }

    /// `looked_up` is the result of an earlier [`Verdict::Compare`].
    fn decide(
        &mut self,
        now: Instant,
        tail: Tail,
        source: SourceBounds,
        looked_up: Option<Option<u32>>,
    ) {
        match self.judge(&tail, source, looked_up) {
            Verdict::Stop(reason) => self.stop(reason),
            Verdict::Compare(_) if looked_up.is_some() => self.pause(now),
            Verdict::Compare(offset) => {
                self.phase = Phase::Comparing {
                    tail,
                    source,
                    offset,
                };
                self.effects
                    .push_back(super::Effect::ReadLineage { offset });
            }
            Verdict::Resume {
                upto,
                lineage,
                delta,
            } => self.resume(upto, lineage, delta),
        }
    }

    fn judge(&self, tail: &Tail, source: SourceBounds, looked_up: Option<Option<u32>>) -> Verdict {
        let state = &self.state;
        let last = tail.last.as_ref();
        // A tail that ends with a gap has no record to compare.
        let last = last.filter(|record| record.offset + 1 == tail.log_end);
        let front = state.in_flight.first();
        if let Some(front) = front.filter(|batch| batch.gap_len() > 0)
            && let Some(verdict) = self.judge_gap_batch(front, tail.log_end, last)
        {
            return verdict;
        }
        let upto_signed = tail.log_end - state.delta;
        let Ok(upto) = u64::try_from(upto_signed) else {
            return Verdict::Stop(self.unverifiable(tail));
        };
        if upto > source.log_end {
            return Verdict::Stop(if self.is_fresh() {
                self.unverifiable(tail)
            } else {
                StopReason::SourceBehind {
                    destination: upto_signed,
                    source_end: source.log_end,
                }
            });
        }
        if upto < state.acked && upto < source.log_start {
            return Verdict::Stop(StopReason::LostAtDestination {
                destination: upto_signed,
                acked: state.acked,
                log_start: source.log_start,
            });
        }
        let resume = |lineage| Verdict::Resume {
            upto,
            lineage,
            delta: state.delta,
        };
        let Some(last) = last else {
            // Nothing to compare: an empty destination is fine when it is
            // empty from the start, otherwise the end must be one of ours.
            let known = self.known_lineage(upto);
            let ours = upto == state.acked || known.is_some() || tail.log_end == 0;
            return match ours {
                true => resume(known),
                false => Verdict::Stop(self.unverifiable(tail)),
            };
        };
        // A destination end above zero with a record has one before it.
        let offset = upto.saturating_sub(1);
        let expected = match (self.known_lineage(upto), looked_up) {
            (Some(known), _) => known,
            (None, Some(Some(found))) => found,
            (None, Some(None)) if upto == state.acked => return resume(None),
            (None, Some(None)) => return Verdict::Stop(self.unverifiable(tail)),
            (None, None) => return Verdict::Compare(offset),
        };
        if digest(offset, last) == expected {
            resume(Some(expected))
        } else {
            Verdict::Stop(StopReason::Diverged {
                offset,
                destination_offset: last.offset,
            })
        }
    }

    /// A batch behind a gap travels alone, and the destination either records
    /// the gap (a hub) or closes it up (Apache Kafka). `None` when the batch
    /// has not arrived.
    fn judge_gap_batch(
        &self,
        batch: &PlannedBatch,
        log_end: i64,
        last: Option<&TailRecord>,
    ) -> Option<Verdict> {
        let delta = self.state.delta;
        let gap = batch.gap_len() as i64;
        if log_end == batch.start as i64 + delta && last.is_none() {
            // A hub that recorded the gap and not the batch.
            return Some(Verdict::Resume {
                upto: batch.start,
                lineage: None,
                delta,
            });
        }
        if batch.record_count() == 0 {
            return None;
        }
        let arrived_with = [delta, delta - gap];
        let delta = arrived_with
            .into_iter()
            .find(|delta| log_end == batch.end as i64 + delta)?;
        let offset = batch.end - 1;
        Some(match last {
            Some(record) if digest(offset, record) != batch.lineage_last => {
                Verdict::Stop(StopReason::Diverged {
                    offset,
                    destination_offset: record.offset,
                })
            }
            _ => Verdict::Resume {
                upto: batch.end,
                lineage: Some(batch.lineage_last),
                delta,
            },
        })
    }

    fn resume(&mut self, upto: u64, lineage: Option<u32>, delta: i64) {
        let before = self.state.acked;
        let changed = upto != before || delta != self.state.delta;
        while self.state.in_flight.first().is_some_and(|b| b.end <= upto) {
            self.state.in_flight.remove(0);
            self.slots.pop_front();
        }
        if upto < before {
            // The destination lost what it had acknowledged; it is still
            // here, and the same records go to the same offsets.
            self.last_error = Some(format!(
                "the destination lost records from source offset {upto} to {before}; sending again"
            ));
        }
        let front = self.state.in_flight.first().copied();
        let mut narrowed = false;
        if let Some(front) = front.filter(|batch| batch.gap_from != upto) {
            narrowed = !self.compares && (front.gap_from..=front.start).contains(&upto);
        }
        if narrowed {
            // A late copy of an older epoch filled a part of the gap, and more
            // of them may come. The batch stays as it was sent: records of the
            // gap that are sent again under a raised epoch would be repeated.
            let front = &mut self.state.in_flight[0];
            front.gap_from = upto;
            front.lineage_before = lineage.unwrap_or(0);
        } else if let Some(front) = front.filter(|batch| batch.gap_from != upto) {
            self.truncate_plan(0);
            if front.gap_len() > 0 {
                // The sequence started over for a batch that never arrived.
                self.restart_sequence(upto);
            }
        }
        self.state.acked = upto;
        self.state.acked_lineage = lineage;
        self.state.delta = delta;
        if changed {
            self.refused_in_a_row = 0;
        } else if self.refused_in_a_row >= super::MAX_REFUSED_IN_A_ROW {
            return self.stop(StopReason::SequenceRefused {
                offset: upto,
                attempts: self.refused_in_a_row,
            });
        }
        let is_gap = front.is_some_and(|batch| batch.record_count() == 0);
        if std::mem::take(&mut self.replan) || (is_gap && !self.compares) {
            self.truncate_plan(0);
        }
        if let Some(lost) = self.slots.iter().position(|slot| slot.lost) {
            self.truncate_plan(lost);
        }
        let base = self.state.producer.map(|producer| producer.sequence_base);
        if upto < before && base.is_some_and(|base| base > upto) {
            // What the destination lost reaches back behind sequence zero.
            self.restart_sequence(upto);
        }
        if changed {
            self.persist();
        }
        if let Some(slot) = self.slots.front_mut().filter(|_| narrowed) {
            slot.version = self.version;
        }
        match self.state.producer {
            Some(_) => self.stream(),
            None => self.identify(),
        }
    }

    /// The lineage of the record before `upto`, where the state knows it.
    fn known_lineage(&self, upto: u64) -> Option<u32> {
        if upto == self.state.acked {
            return self.state.acked_lineage;
        }
        let batches = self.state.in_flight.iter();
        let mut ending_there = batches.filter(|batch| batch.end == upto);
        ending_there.next().and_then(PlannedBatch::lineage_known)
    }

    fn is_fresh(&self) -> bool {
        self.state.producer.is_none() && self.state.acked == 0
    }

    fn unverifiable(&self, tail: &Tail) -> StopReason {
        StopReason::Unverifiable {
            destination_end: tail.log_end,
        }
    }
}

fn digest(offset: u64, record: &TailRecord) -> u32 {
    let key = record.key.as_deref();
    lineage_of(offset, record.timestamp, key, record.value.as_deref())
}
