//! What bounds the log: age, size, free space. Whole segments go, and only
//! after the new log start is durable.

use crate::config::WhenFull;
use crate::core::Core;
use crate::disk::write_all_at;
use crate::error::AppendError;
use crate::gap::{Gap, GapReason};
use crate::keys;
use crate::partition::Log;
use crate::state::Op;
use crate::storage::Inner;
use crate::ticket::Ticket;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Segments that one round removes because the disk is full: a round a second
/// frees faster than any gateway writes.
const DROPS_PER_ROUND: usize = 64;

/// A segment is closed when it is older than the limit of age divided by this:
/// a record outlives the limit by an eighth at most, and a partition that is
/// written slowly has about nine files.
const ROLLS_PER_RETENTION: i64 = 8;
/// ... but not when it is younger than this, in milliseconds: short limits
/// would make a file of each second of writing.
const MIN_ROLL_AGE_MS: i64 = 60_000;

/// Applies all limits once.
pub(crate) fn run(inner: &Inner) {
    let core = &inner.core;
    if core.failed.load(Ordering::Acquire) {
        return;
    }
    let now = (core.config.clock)();
    let topics: Vec<_> = inner.topics.read().values().cloned().collect();
    for topic in topics {
        let config = topic.config();
        let time = config
            .retention_time()
            .unwrap_or(core.config.retention.time);
        for log in topic.logs() {
            remove_hidden(core, &log);
            if let Some(time) = time {
                let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                roll_by_time(core, &log, now, time);
                expire_by_time(core, &log, now.saturating_sub(time));
            }
            if let Some(limit) = config.retention_bytes() {
                while log.size_bytes() > limit && remove_oldest(core, &log, false) {}
            }
        }
    }
    if let Some(limit) = core.config.retention.size {
        expire_by_total(inner, limit);
    }
    make_room(inner);
}

/// Drops the oldest segments, held or not, when the disk is full and the node
/// is told to.
pub(crate) fn make_room(inner: &Inner) {
    let core = &inner.core;
    if core.config.when_full == WhenFull::DropOldest && core.full.load(Ordering::Relaxed) {
        drop_oldest(inner);
    }
}

/// Raises the log start; the new one is durable with the ticket.
pub(crate) fn set_log_start(
    core: &Arc<Core>,
    log: &Arc<Log>,
    offset: u64,
) -> Result<Ticket, AppendError> {
    raise_start(core, log, offset.min(log.visible()), Vec::new())
}

/// Journals a higher log start with what belongs to it and hides what is below.
/// One at a time, so that the journal never ends with the lower of two.
fn raise_start(
    core: &Core,
    log: &Log,
    offset: u64,
    mut others: Vec<Op>,
) -> Result<Ticket, AppendError> {
    let _starts = core.starts.lock();
    if offset > log.log_start() {
        others.push(start_op(log, offset));
    }
    if others.is_empty() {
        return Ok(core.fence());
    }
    let ticket = core.journal_ops(others)?;
    log.raise_log_start(offset);
    Ok(ticket)
}

fn start_op(log: &Log, offset: u64) -> Op {
    Op {
        key: keys::log_start_key(&log.topic.id, log.index),
        value: Some(keys::encode_u64(offset)),
    }
}

/// Closes the active segment when all of it is expired, or when it is old
/// enough that waiting for its size would keep its first records too long.
fn roll_by_time(core: &Core, log: &Log, now: i64, time: i64) {
    let Some(active) = log.segments.read().last().cloned() else {
        return;
    };
    let is_expired =
        active.newest_ms() < now.saturating_sub(time) && log.held() >= active.end_offset();
    let age = now.saturating_sub(active.header.created_ms);
    let is_old = age > (time / ROLLS_PER_RETENTION).max(MIN_ROLL_AGE_MS);
    if active.is_empty() || !(is_expired || is_old) {
        return;
    }
    match log.roll(core) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::debug!(%error, "no room for a new segment");
        }
        // The topic was deleted meanwhile.
        Err(_) if log.is_deleted.load(Ordering::Acquire) => {}
        Err(error) => core.fatal(&format!(
            "cannot begin a segment of partition {} of topic {}: {error}",
            log.index, log.topic.name
        )),
    }
}

fn expire_by_time(core: &Core, log: &Log, oldest: i64) {
    loop {
        let newest = {
            let segments = log.segments.read();
            match segments.first() {
                Some(first) if segments.len() > 1 => first.newest_ms(),
                _ => return,
            }
        };
        if newest >= oldest || !remove_oldest(core, log, false) {
            return;
        }
    }
}

fn expire_by_total(inner: &Inner, limit: u64) {
    let mut total: u64 = inner.logs().iter().map(|log| log.size_bytes()).sum();
    while total > limit {
        if !remove_oldest_of_all(inner, false) {
            return;
        }
        total = inner.logs().iter().map(|log| log.size_bytes()).sum();
    }
}

fn drop_oldest(inner: &Inner) {
    for _ in 0..DROPS_PER_ROUND {
        if !inner.core.full.load(Ordering::Relaxed) || !remove_oldest_of_all(inner, true) {
            return;
        }
        inner.core.look_at_space();
    }
}

/// Removes the segment with the oldest data among all partitions.
fn remove_oldest_of_all(inner: &Inner, ignore_holds: bool) -> bool {
    let mut candidates: Vec<(i64, Arc<Log>)> = inner
        .logs()
        .into_iter()
        .filter_map(|log| {
            let segments = log.segments.read();
            let first = (segments.len() > 1).then(|| segments.first().cloned())??;
            drop(segments);
            Some((first.header.created_ms, log))
        })
        .collect();
    candidates.sort_by_key(|(created, _)| *created);
    candidates
        .iter()
        .any(|(_, log)| remove_oldest(&inner.core, log, ignore_holds))
}

/// Removes the oldest segment of a partition unless it is the active one or
/// held. A drop over a hold is recorded as a gap in the same commit as the
/// new log start.
fn remove_oldest(core: &Core, log: &Log, ignore_holds: bool) -> bool {
    let end = {
        let segments = log.segments.read();
        match segments.get(1) {
            Some(second) => second.header.base_offset,
            None => return false,
        }
    };
    let is_held = log.held() < end;
    if is_held && !ignore_holds {
        return false;
    }
    let start = log.log_start();
    let mut ops = Vec::new();
    if ignore_holds && start < end {
        let gap = Gap {
            from: start,
            to: end,
            reason: GapReason::DroppedWhenFull,
        };
        ops.push(gap_op(log, gap));
        log.note_gap(gap);
        core.alarm(format!(
            "disk is full: topic {} partition {} dropped offsets {start} to {}",
            log.topic.name,
            log.index,
            end - 1
        ));
    }
    match raise_start(core, log, end, ops) {
        Ok(ticket) if core.wait(ticket) => {}
        _ => return false,
    }
    remove_below_start(core, log);
    true
}

/// Unlinks what was hidden by a raised log start once that is durable.
fn remove_hidden(core: &Core, log: &Log) {
    let start = log.log_start();
    let is_hidden = log
        .segments
        .read()
        .get(1)
        .is_some_and(|second| second.header.base_offset <= start);
    if is_hidden && core.wait(core.fence()) {
        remove_below_start(core, log);
    }
}

/// Unlinks the segments below the log start, which is durable.
pub(crate) fn remove_below_start(core: &Core, log: &Log) {
    let start = log.log_start();
    let removed: Vec<_> = {
        let mut segments = log.segments.write();
        let keep = segments.partition_point(|segment| segment.header.base_offset <= start);
        let count = keep.saturating_sub(1);
        segments.drain(..count).collect()
    };
    for segment in &removed {
        // With its topic deleted meanwhile the file is gone already.
        if let Err(error) = core.disk.unlink(&segment.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            core.alarm(format!(
                "segment {} cannot be removed: {error}",
                segment.path.display()
            ));
        }
        // The index is a cache and may not exist.
        let _ = core.disk.unlink(&segment.index_path());
    }
}

fn gap_op(log: &Log, gap: Gap) -> Op {
    Op {
        key: keys::gap_key(&log.topic.id, log.index, gap.from),
        value: Some(keys::encode_gap_value(gap)),
    }
}

impl Core {
    /// Journals a gap that a reader found; it is durable with a later window.
    pub fn record_gap(&self, log: &Log, gap: Gap) {
        if let Err(error) = self.journal_ops(vec![gap_op(log, gap)]) {
            tracing::debug!(%error, "gap is found again by the next reader");
        }
    }

    /// Measures the free space.
    pub fn look_at_space(&self) {
        match self.disk.space(&self.config.data_dir) {
            Ok(space) => {
                self.free_bytes.store(space.free, Ordering::Relaxed);
                let full = space.free < self.config.retention.keep_free;
                if self.full.swap(full, Ordering::Relaxed) != full && full {
                    tracing::warn!(free_bytes = space.free, "disk is full");
                }
            }
            Err(error) => tracing::warn!(%error, "free space unknown"),
        }
    }

    fn ballast_path(&self) -> PathBuf {
        self.config.data_dir.join("ballast")
    }

    /// Creates the ballast when there is room for it.
    pub fn make_ballast(&self) {
        let size = self.config.ballast_bytes;
        let path = self.ballast_path();
        let exists = self
            .disk
            .open(&path)
            .and_then(|file| file.length())
            .is_ok_and(|length| length >= size);
        if size == 0 || exists || self.full.load(Ordering::Relaxed) {
            return;
        }
        let made = self.disk.create(&path).and_then(|file| {
            file.allocate(size)
                .or_else(|_| write_all_at(&*file, &[0], size - 1))
        });
        if let Err(error) = made {
            tracing::warn!(%error, "no ballast");
        }
    }

    /// Gives the ballast's space back to the filesystem; `false` when it is gone.
    pub fn free_ballast(&self) -> bool {
        match self.disk.unlink(&self.ballast_path()) {
            Ok(()) => {
                self.full.store(true, Ordering::Relaxed);
                self.alarm("disk is full: the ballast was freed to finish a commit".into());
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(%error, "ballast cannot be freed");
                false
            }
        }
    }
}
