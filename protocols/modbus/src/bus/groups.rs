//! Groups of tags that are polled together, and their schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bus, Effect, Moment, Reading, Status};
use crate::plan::{Read, Span, SpanData, plan};
use crate::report::Reported;
use crate::value::Value;

/// The first poll of a group comes within this, however long its interval: who
/// starts a gateway wants to see values.
const FIRST_POLL_WITHIN: Duration = Duration::from_secs(1);

/// The tags of one unit, one interval and one set of rules.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) device: usize,
    pub(super) unit: u8,
    pub(super) interval: Duration,
    /// The plan, and what was learned about it.
    pub(super) reads: Vec<Read>,
    /// The cycles lie at `phase + n * interval`.
    phase: Moment,
    pub(super) next_due: Moment,
    pub(super) cycle: Option<Cycle>,
}

/// Where a cycle is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cycle {
    /// The request to send next.
    pub(super) next: usize,
    /// How often it was sent without success.
    pub(super) attempts: u32,
}

impl Group {
    pub(super) const fn is_busy(&self) -> bool {
        self.cycle.is_some()
    }

    /// The first moment of the schedule behind `now`.
    fn schedule_after(&self, now: Moment) -> Moment {
        if now < self.phase {
            return self.phase;
        }
        let passed = now.saturating_sub(self.phase).as_nanos() / self.interval.as_nanos().max(1);
        let cycles = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        let next = self.phase + self.interval * cycles;
        // After 2^32 cycles the schedule is no grid any more, but goes on.
        if next > now {
            next
        } else {
            now + self.interval
        }
    }
}

impl Bus {
    /// Makes the plan anew from the configuration.
    pub(super) fn plan(&mut self, now: Moment) {
        let mut spans: BTreeMap<(usize, u8, Duration), Vec<Span>> = BTreeMap::new();
        for (tag, of) in self.config.tags.iter().enumerate() {
            let span = Span {
                address: of.address,
                count: of.encoding.kind.registers(),
                tag,
            };
            let group = (of.device, of.unit, of.interval);
            spans.entry(group).or_default().push(span);
        }
        let count = spans.len().max(1);
        let start = self.rng.f64();
        let mut groups = Vec::with_capacity(spans.len());
        for (index, ((device, unit, interval), spans)) in spans.into_iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52 groups")]
            let share = (start + index as f64 / count as f64).fract();
            let limits = self.config.devices[device].limits;
            groups.push(Group {
                device,
                unit,
                interval,
                reads: plan(spans, limits),
                phase: now + interval.mul_f64(share),
                next_due: now + interval.min(FIRST_POLL_WITHIN).mul_f64(share),
                cycle: None,
            });
        }
        self.groups = groups;
        self.ready.clear();
        self.reported = vec![Reported::default(); self.config.tags.len()];
        let units = self.config.tags.iter().map(|tag| tag.unit);
        let units: std::collections::BTreeSet<u8> = units.collect();
        self.units.retain(|unit, _| units.contains(unit));
        for unit in units {
            self.units.entry(unit).or_default().probe_again();
        }
    }

    /// Starts the cycles that are due, and skips those whose former one is
    /// still under way.
    pub(super) fn start_cycles(&mut self, now: Moment) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.next_due > now {
                continue;
            }
            let missed = now.saturating_sub(group.next_due).as_nanos();
            let missed = u64::try_from(missed / group.interval.as_nanos().max(1));
            self.counters.skipped_cycles += missed.unwrap_or(u64::MAX);
            group.next_due = group.schedule_after(now);
            if group.is_busy() {
                self.counters.skipped_cycles += 1;
                continue;
            }
            let unit = self.units.entry(group.unit).or_default();
            if !unit.may_start(now) {
                let probe_at = unit.probe_at().filter(|at| *at > now);
                group.next_due = group.next_due.min(probe_at.unwrap_or(group.next_due));
                continue;
            }
            group.cycle = Some(Cycle::default());
            self.ready.push_back(index);
        }
    }

    /// Reports the data of one request and goes on in its cycle.
    pub(super) fn read_succeeded(&mut self, now: Moment, index: usize, data: &[u8]) {
        let Some(cycle) = self.groups[index].cycle else {
            return;
        };
        let read = &self.groups[index].reads[cycle.next];
        let mut readings = Vec::new();
        for span in &read.spans {
            let tag = &self.config.tags[span.tag];
            let value = match read.data_of(*span, data) {
                Some(SpanData::Bit(on)) => Some(Value::Bool(on)),
                Some(SpanData::Registers(data)) => tag.encoding.decode(data),
                None => None,
            };
            // The length of the answer was checked against the request, so
            // there is data for every tag of it.
            let result = value.ok_or(Status::WrongAnswer);
            if self.reported[span.tag].admit(now, &tag.report, &result) {
                readings.push(Reading {
                    tag: span.tag,
                    result,
                });
            }
        }
        self.report(readings);
        self.next_request_of(index);
    }

    /// Reports the tags of one request as bad and goes on in its cycle.
    pub(super) fn read_failed(&mut self, now: Moment, index: usize, status: Status) {
        let Some(cycle) = self.groups[index].cycle else {
            return;
        };
        self.report_bad(now, index, cycle.next..cycle.next + 1, status);
        self.next_request_of(index);
    }

    /// Ends a cycle: everything that it has not read is bad.
    pub(super) fn fail_cycle(&mut self, now: Moment, index: usize, status: Status) {
        let Some(cycle) = self.groups[index].cycle.take() else {
            return;
        };
        self.ready.retain(|ready| *ready != index);
        let end = self.groups[index].reads.len();
        self.report_bad(now, index, cycle.next..end, status);
    }

    /// Splits the request that a device refused for its addresses. Returns
    /// whether it could be split; the parts are then next in the cycle.
    pub(super) fn split_request(&mut self, index: usize) -> bool {
        let group = &mut self.groups[index];
        let Some(cycle) = &mut group.cycle else {
            return false;
        };
        let Some(parts) = group.reads[cycle.next].split() else {
            return false;
        };
        group.reads.splice(cycle.next..=cycle.next, parts);
        cycle.attempts = 0;
        self.ready.push_back(index);
        true
    }

    /// Puts the group at the end of the queue with its next request, or ends
    /// the cycle.
    fn next_request_of(&mut self, index: usize) {
        let group = &mut self.groups[index];
        let Some(cycle) = &mut group.cycle else {
            return;
        };
        cycle.next += 1;
        cycle.attempts = 0;
        if cycle.next < group.reads.len() {
            self.ready.push_back(index);
        } else {
            group.cycle = None;
        }
    }

    fn report_bad(
        &mut self,
        now: Moment,
        index: usize,
        reads: std::ops::Range<usize>,
        status: Status,
    ) {
        let mut readings = Vec::new();
        let spans = self.groups[index].reads[reads].iter();
        for span in spans.flat_map(|read| &read.spans) {
            let rule = &self.config.tags[span.tag].report;
            if self.reported[span.tag].admit(now, rule, &Err(status)) {
                readings.push(Reading {
                    tag: span.tag,
                    result: Err(status),
                });
            }
        }
        self.report(readings);
    }

    fn report(&mut self, readings: Vec<Reading>) {
        if !readings.is_empty() {
            self.effects.push_back(Effect::Report(readings));
        }
    }
}
