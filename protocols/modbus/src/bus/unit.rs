//! The health of one unit on a bus.

use std::time::Duration;

use super::{Bus, Moment, Notice, Status};
use crate::address::Table;
use crate::request::Request;

/// Failed requests in a row after which a unit is degraded: one may be noise
/// on the line, and each further one costs its neighbours a time-out.
const DEGRADED_AFTER: u32 = 2;

/// The first pause of a degraded unit, doubled by each failed probe.
const PROBE_DELAY_MIN: Duration = Duration::from_secs(2);

/// The longest pause between probes: a machine that was switched on again is
/// back in the readings within a minute, and a dead unit costs its neighbours
/// one time-out a minute.
const PROBE_DELAY_MAX: Duration = Duration::from_secs(60);

/// A late answer is feared for this many time-outs. Devices and converters
/// that hold an answer longer than that have not been seen.
const SUSPECT_TIMEOUTS: u32 = 10;

/// What is known about a unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Failed requests in a row.
    failures: u32,
    degraded: Option<Degraded>,
    /// RTU only: requests that may still be answered.
    suspect: Option<Suspect>,
}

#[derive(Debug)]
struct Degraded {
    /// The next probe.
    until: Moment,
    delay: Duration,
    /// Whether a group probes at this moment.
    is_probing: bool,
}

#[derive(Debug)]
struct Suspect {
    /// Functions that were not answered, one bit each.
    functions: u32,
    until: Moment,
}

/// What may be asked of a unit whose former requests may still be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing old can come.
    Freely,
    /// This first: its answer cannot be taken for an old one.
    First(Request),
    /// Every answer could be an old one.
    Nothing,
}

impl Unit {
    /// Whether a cycle may start; for a degraded unit that makes it the probe.
    pub(super) fn may_start(&mut self, now: Moment) -> bool {
        match &mut self.degraded {
            None => true,
            Some(degraded) if degraded.is_probing || now < degraded.until => false,
            Some(degraded) => {
                degraded.is_probing = true;
                true
            }
        }
    }

    pub(super) const fn is_degraded(&self) -> bool {
        self.degraded.is_some()
    }

    /// When a degraded unit is probed next.
    pub(super) fn probe_at(&self) -> Option<Moment> {
        self.degraded.as_ref().map(|degraded| degraded.until)
    }

    /// The unit answered. Returns whether it was degraded.
    pub(super) fn answered(&mut self) -> bool {
        self.failures = 0;
        self.degraded.take().is_some()
    }

    /// A request failed for good. Returns whether this degraded the unit.
    pub(super) fn failed(&mut self, now: Moment, jitter: f64) -> bool {
        self.failures += 1;
        let delay = match &self.degraded {
            Some(degraded) => (degraded.delay * 2).min(PROBE_DELAY_MAX),
            None if self.failures < DEGRADED_AFTER => return false,
            None => PROBE_DELAY_MIN,
        };
        let was_degraded = self.degraded.is_some();
        self.degraded = Some(Degraded {
            until: now + delay.mul_f64(jitter),
            delay,
            is_probing: false,
        });
        !was_degraded
    }

    /// The probe did not take place, through no fault of the unit.
    pub(super) fn probe_again(&mut self) {
        if let Some(degraded) = &mut self.degraded {
            degraded.is_probing = false;
        }
    }

    /// A request of an RTU bus was left unanswered.
    pub(super) fn suspect(&mut self, now: Moment, request: &Request, timeout: Duration) {
        let former = self.suspect.as_ref().filter(|suspect| now < suspect.until);
        self.suspect = Some(Suspect {
            functions: former.map_or(0, |suspect| suspect.functions) | 1 << request.function(),
            until: now + timeout * SUSPECT_TIMEOUTS,
        });
    }

    /// A request was answered that no old answer can be mistaken for.
    pub(super) fn trust(&mut self) {
        self.suspect = None;
    }

    /// What may be asked before anything else.
    pub(super) fn ask(&self, now: Moment, start: u16) -> Ask {
        let Some(suspect) = self.suspect.as_ref().filter(|suspect| now < suspect.until) else {
            return Ask::Freely;
        };
        // The input registers first: reading them has no effect anywhere, and
        // a device that lacks them refuses with the function in its answer.
        let others = [Table::Input, Table::Holding, Table::Discrete, Table::Coil];
        let distinct = others.into_iter().map(|table| Request::Read {
            table,
            start,
            count: 1,
        });
        let first = distinct
            .into_iter()
            .find(|request| suspect.functions & 1 << request.function() == 0);
        first.map_or(Ask::Nothing, Ask::First)
    }
}

impl Bus {
    /// Notes an answer of a unit, which brings all its polls back.
    pub(super) fn unit_answered(&mut self, now: Moment, unit: u8) {
        let Some(state) = self.units.get_mut(&unit) else {
            return;
        };
        if state.answered() {
            self.notice(Notice::UnitRecovered(unit));
            let groups = self.groups.iter_mut();
            for group in groups.filter(|group| group.unit == unit && !group.is_busy()) {
                group.next_due = now;
            }
        }
    }

    /// Notes a failed request. A unit that is degraded by it fails everything
    /// that is asked of it at this moment, so that its neighbours wait for two
    /// time-outs and not for one per request.
    pub(super) fn unit_failed(&mut self, now: Moment, unit: u8, status: Status) {
        let jitter = 0.75 + self.rng.f64() / 2.0;
        let state = self.units.entry(unit).or_default();
        let is_new = state.failed(now, jitter);
        let Some(probe_at) = state.probe_at() else {
            return;
        };
        if is_new {
            self.notice(Notice::UnitDegraded(unit, status));
        }
        for index in 0..self.groups.len() {
            if self.groups[index].unit == unit {
                self.fail_cycle(now, index, status);
                let group = &mut self.groups[index];
                group.next_due = group.next_due.min(probe_at);
            }
        }
    }
}
