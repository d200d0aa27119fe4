//! The background thread: zeros ahead, marks, the view, retention.

use crate::commit::PanicGuard;
use crate::config::Preallocation;
use crate::core::Core;
use crate::error::AppendError;
use crate::keys::{self, Mark};
use crate::partition::Log;
use crate::scrub::{BYTES_PER_ROUND, Scrub};
use crate::state::Op;
use crate::storage::Inner;
use crate::ticket::Ticket;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often upkeep is done while windows are committed.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// ... and when none was: only free space and age change then, both slowly.
const IDLE_EVERY: Duration = Duration::from_secs(10);
/// Marks are journaled at most this often under load.
const MARKS_EVERY: Duration = Duration::from_secs(5);
/// Idle files are closed and indexes dropped after this many upkeeps unused.
const UPKEEPS_PER_REST: u32 = 30;
/// Retention begins this long after the start: holds are not durable, and
/// whoever needs undelivered records takes its hold again first.
const RETENTION_GRACE: Duration = Duration::from_secs(30);

/// Runs until the storage is closed or dropped.
pub(crate) fn run(inner: &Weak<Inner>) {
    let Some(core) = inner.upgrade().map(|inner| Arc::clone(&inner.core)) else {
        return;
    };
    let _guard = PanicGuard {
        core: &core,
        thread: "upkeep",
    };
    let mut upkeep = Upkeep::new();
    let mut due = Instant::now();
    loop {
        let Some(inner) = inner.upgrade() else { return };
        if core.closing.load(Ordering::Acquire) || core.failed.load(Ordering::Acquire) {
            return;
        }
        core.meters.upkeep_wakes.fetch_add(1, Ordering::Relaxed);
        if core.wants_zeros.swap(false, Ordering::AcqRel) {
            inner.fill_ahead();
        }
        if Instant::now() >= due {
            let is_quiet = inner.upkeep(&mut upkeep);
            due = Instant::now() + if is_quiet { IDLE_EVERY } else { UPKEEP_EVERY };
        }
        drop(inner);
        due = core.rest(due, upkeep.windows);
    }
}

impl Core {
    /// Sleeps until `due`, or until zeros are wanted. A window that ends the
    /// idleness brings `due` forward; `windows` is the number of those known.
    fn rest(&self, mut due: Instant, windows: u64) -> Instant {
        let mut asleep = self.upkeep.lock();
        while !self.closing.load(Ordering::Acquire) && !self.wants_zeros.load(Ordering::Acquire) {
            let soon = Instant::now() + UPKEEP_EVERY;
            // Set before the look at the windows, so that one of both sees the other.
            self.upkeep_idles.store(due > soon, Ordering::SeqCst);
            if due > soon && self.meters.windows() != windows {
                due = soon;
            }
            if self.upkeep_wake.wait_until(&mut asleep, due).timed_out() {
                break;
            }
        }
        self.upkeep_idles.store(false, Ordering::SeqCst);
        due
    }

    /// Wakes the upkeep thread.
    pub fn wake_upkeep(&self) {
        let _asleep = self.upkeep.lock();
        self.upkeep_wake.notify_all();
    }

    /// Has zeros written ahead by the upkeep thread.
    pub fn want_zeros(&self) {
        if !self.wants_zeros.swap(true, Ordering::AcqRel) {
            self.wake_upkeep();
        }
    }

    /// Tells an idle upkeep thread that there was a window.
    pub fn note_activity(&self) {
        if self.upkeep_idles.swap(false, Ordering::SeqCst) {
            self.wake_upkeep();
        }
    }
}

/// What the upkeep thread remembers.
struct Upkeep {
    opened: Instant,
    count: u32,
    windows: u64,
    marked: Option<Instant>,
    scrub: Scrub,
}

impl Upkeep {
    fn new() -> Self {
        Upkeep {
            opened: Instant::now(),
            count: 0,
            windows: 0,
            marked: None,
            scrub: Scrub::new(),
        }
    }
}

impl Inner {
    /// One round of everything, for manual mode.
    pub fn maintain(&self, marks: bool) {
        self.core.make_ballast();
        self.fill_ahead();
        self.core.look_at_space();
        self.core.state.apply(&self.core);
        if marks {
            self.write_marks();
        }
        crate::retention::run(self);
        self.core.state.compact(&self.core);
        self.save_indexes();
    }

    /// One round of everything but zeros; returns whether the next one
    /// may wait long.
    fn upkeep(&self, upkeep: &mut Upkeep) -> bool {
        let core = &self.core;
        let count = upkeep.count;
        upkeep.count = count.wrapping_add(1);
        if count == 0 {
            core.make_ballast();
            self.fill_ahead();
        }
        core.look_at_space();
        core.state.apply(core);
        let windows = core.meters.windows();
        let is_quiet = windows == upkeep.windows;
        upkeep.windows = windows;
        if is_quiet || upkeep.marked.is_none_or(|at| at.elapsed() >= MARKS_EVERY) {
            self.write_marks();
            upkeep.marked = Some(Instant::now());
        }
        if upkeep.opened.elapsed() >= RETENTION_GRACE {
            crate::retention::run(self);
        } else {
            crate::retention::make_room(self);
        }
        core.state.compact(core);
        self.save_indexes();
        if count % UPKEEPS_PER_REST == UPKEEPS_PER_REST - 1 {
            for log in self.logs() {
                let segments = log.segments.read().clone();
                let last = segments.len().saturating_sub(1);
                for (at, segment) in segments.iter().enumerate() {
                    segment.rest(at == last);
                }
            }
        }
        // A full disk is looked at often, because appends wait for its end.
        let is_scrubbing = upkeep.scrub.step(self, BYTES_PER_ROUND);
        is_quiet && !is_scrubbing && !core.full.load(Ordering::Relaxed)
    }

    /// Keeps zeros ahead of the write position of active segments.
    fn fill_ahead(&self) {
        let core = &self.core;
        if core.config.preallocation != Preallocation::ZeroFill {
            return;
        }
        for log in self.logs() {
            fill_log(core, &log);
        }
        fill_log(core, &core.state.journal);
    }

    fn save_indexes(&self) {
        for log in self.logs() {
            let segments = log.segments.read().clone();
            for segment in segments.iter().rev().skip(1) {
                segment.save_index(&*self.core.disk);
            }
        }
    }

    /// Journals how far each partition is durable, where that changed.
    pub fn write_marks(&self) {
        let mut ops = Vec::new();
        let mut marked = Vec::new();
        for log in self.logs() {
            let mark = log.mark();
            if mark.end_offset != log.marked.load(Ordering::Acquire) {
                ops.push(Op {
                    key: keys::mark_key(&log.topic.id, log.index),
                    value: Some(keys::encode_mark(mark)),
                });
                marked.push((log, mark.end_offset));
            }
        }
        if ops.is_empty() {
            return;
        }
        match self.core.journal_ops(ops) {
            Ok(_) => {
                for (log, end) in marked {
                    log.marked.store(end, Ordering::Release);
                }
            }
            Err(error) => tracing::debug!(%error, "marks wait for the next round"),
        }
    }
}

fn fill_log(core: &Core, log: &Log) {
    if log.is_deleted.load(Ordering::Acquire) {
        return;
    }
    let Some(segment) = log.segments.read().last().cloned() else {
        return;
    };
    let limit = log.segment_size.load(Ordering::Relaxed);
    while segment.room.is_short(limit) {
        // A failed sync is reported once per descriptor, so the commit's must
        // not be the one that this sync uses up.
        let filled = core
            .disk
            .open(&segment.path)
            .and_then(|file| segment.room.fill(&*file, limit, (core.config.clock)()));
        match filled {
            Ok(0) => return,
            Ok(bytes) => {
                core.meters.device_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                core.fatal(&format!(
                    "cannot write zeros to {}: {error}",
                    segment.path.display()
                ));
                return;
            }
        }
    }
}

impl Log {
    /// Returns the durable end for the journal, all of it from between two windows.
    fn mark(&self) -> Mark {
        let segments = self.segments.read();
        let end_offset = self.visible();
        match segments.last() {
            Some(last) if last.end_offset() == end_offset => Mark {
                end_offset,
                segment: last.header.base_offset,
                position: last.length(),
                max_timestamp: last.max_timestamp(),
                next_index: self.next_index.load(Ordering::Acquire),
            },
            _ => Mark {
                end_offset,
                ..Mark::default()
            },
        }
    }
}

impl Core {
    /// Journals storage's own changes.
    pub fn journal_ops(&self, ops: Vec<Op>) -> Result<Ticket, AppendError> {
        let size = ops
            .iter()
            .map(|op| op.key.len() + op.value.as_ref().map_or(0, Vec::len))
            .sum();
        self.admit_internal(size)?;
        let _gate = self.gate.read();
        Ok(self.state.append(self, ops, size))
    }
}

#[cfg(test)]
mod tests;
