//! The background thread: zeros ahead, marks, the view, retention.

use crate::config::Preallocation;
use crate::core::Core;
use crate::error::AppendError;
use crate::keys::{self, Mark};
use crate::partition::Log;
use crate::state::Op;
use crate::storage::Inner;
use crate::ticket::Ticket;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often segments are looked at for zeros: at 10 MB/s a partition uses up
/// the zeros ahead in 25 ms, at the 1 MB/s of a busy gateway in 250 ms.
const FILL_EVERY: Duration = Duration::from_millis(100);
/// How often the rest is done, in rounds of [`FILL_EVERY`].
const ROUNDS_PER_UPKEEP: u32 = 10;
/// Marks are journaled at most this often under load.
const MARKS_EVERY: Duration = Duration::from_secs(5);
/// Idle files are closed and indexes dropped after this many upkeeps unused.
const UPKEEPS_PER_REST: u32 = 30;

/// Runs until the storage is closed or dropped.
pub(crate) fn run(inner: &Weak<Inner>) {
    let mut upkeep = Upkeep::default();
    let mut round = 0u32;
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let core = &inner.core;
        if core.closing.load(Ordering::Acquire) || core.failed.load(Ordering::Acquire) {
            return;
        }
        inner.fill_ahead();
        if round.is_multiple_of(ROUNDS_PER_UPKEEP) {
            inner.upkeep(&mut upkeep, round / ROUNDS_PER_UPKEEP);
        }
        round = round.wrapping_add(1);
        let core = std::sync::Arc::clone(core);
        drop(inner);
        let mut asleep = core.upkeep.lock();
        if !core.closing.load(Ordering::Acquire) {
            core.upkeep_wake.wait_for(&mut asleep, FILL_EVERY);
        }
    }
}

#[derive(Default)]
struct Upkeep {
    windows: u64,
    marked: Option<Instant>,
}

impl Inner {
    /// Wakes the maintenance thread.
    pub fn tick_now(&self) {
        let _asleep = self.core.upkeep.lock();
        self.core.upkeep_wake.notify_all();
    }

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

    fn upkeep(&self, upkeep: &mut Upkeep, count: u32) {
        let core = &self.core;
        if count == 0 {
            core.make_ballast();
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
        crate::retention::run(self);
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
        for log in self.logs() {
            let mark = log.mark();
            if mark.end_offset != log.marked.swap(mark.end_offset, Ordering::AcqRel) {
                ops.push(Op {
                    key: keys::mark_key(&log.topic.id, log.index),
                    value: Some(keys::encode_mark(mark)),
                });
            }
        }
        if ops.is_empty() {
            return;
        }
        if let Err(error) = self.core.journal_ops(ops) {
            tracing::debug!(%error, "marks not journaled");
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
        let filled = segment
            .file(&*core.disk)
            .and_then(|file| segment.room.fill(&*file, limit));
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
