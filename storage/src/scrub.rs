//! Reads what nobody reads, so that damage is known while a copy may exist.

use crate::core::Core;
use crate::partition::{CheckPlace, Log};
use crate::segment::Segment;
use crate::storage::Inner;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes read per round of upkeep, one each second: a tenth of what a slow SD
/// card reads, and 32 GB in about two hours.
pub(crate) const BYTES_PER_ROUND: u64 = 4 << 20;
/// No reading while more than this waits for the disk.
const BUSY_PENDING: usize = 1 << 20;
/// A process that restarts in a loop does not read in a loop.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(600);
/// Time between the end of a pass and the next one: flash loses charge over
/// months, and the card has other things to do.
const PASS_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a pass over all segments stands.
pub(crate) struct Scrub {
    todo: Vec<(Arc<Log>, Arc<Segment>)>,
    place: Option<CheckPlace>,
    pub next_pass: Instant,
}

impl Scrub {
    /// Waits for the first pass.
    pub fn new() -> Self {
        Scrub {
            todo: Vec::new(),
            place: None,
            next_pass: Instant::now() + FIRST_PASS_AFTER,
        }
    }

    /// Checks about `bytes` unless the disk is busy. Returns whether a pass is
    /// under way.
    pub fn step(&mut self, inner: &Inner, mut bytes: u64) -> bool {
        if self.todo.is_empty() {
            if Instant::now() < self.next_pass {
                return false;
            }
            self.begin(inner);
        }
        let core = &inner.core;
        if core.pending_bytes.load(Ordering::Relaxed) > BUSY_PENDING {
            return true;
        }
        while bytes > 0
            && let Some((log, segment)) = self.todo.last().cloned()
        {
            let place = self
                .place
                .take()
                .unwrap_or_else(|| CheckPlace::start_of(&segment));
            match check(core, &log, &segment, place, bytes) {
                Some(next) => {
                    bytes = bytes.saturating_sub(next.position - place.position);
                    self.place = Some(next);
                }
                None => {
                    bytes = bytes.saturating_sub(segment.length().saturating_sub(place.position));
                    self.todo.pop();
                }
            }
        }
        if self.todo.is_empty() {
            self.next_pass = Instant::now() + PASS_EVERY;
        }
        !self.todo.is_empty()
    }

    fn begin(&mut self, inner: &Inner) {
        let mut logs = inner.logs();
        logs.push(Arc::clone(&inner.core.state.journal));
        for log in logs {
            let segments = log.segments.read().clone();
            let of_log = segments.into_iter().map(|one| (Arc::clone(&log), one));
            self.todo.extend(of_log);
        }
    }
}

/// Checks a stretch of one segment; `None` when it is done with.
fn check(
    core: &Core,
    log: &Log,
    segment: &Segment,
    place: CheckPlace,
    bytes: u64,
) -> Option<CheckPlace> {
    let known = log.gaps.lock().len();
    let checked = log.check_segment(core, segment, place, bytes);
    if log.is_journal() && log.gaps.lock().len() > known {
        // The state is whole in the view: a snapshot replaces the damaged part.
        core.state.snapshot_again(core);
    }
    match checked {
        Ok(next) => next,
        // Retention or a deletion took it away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            core.alarm(format!(
                "segment {} cannot be read: {error}",
                segment.path.display()
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests;
