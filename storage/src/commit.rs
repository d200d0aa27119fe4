//! The commit: close the window, write all partitions, sync them in parallel,
//! make them visible, tell the waiters.

use crate::core::Core;
use crate::partition::{Log, Taken, Written};
use crate::ticket::Ticket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A partition and what the window takes from it.
type Part = (Arc<Log>, Taken);

/// Ends the process when its thread panics: without the commit thread nothing
/// becomes durable, without upkeep the disk fills up unseen.
pub(crate) struct PanicGuard<'a> {
    pub core: &'a Core,
    pub thread: &'static str,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core
                .fatal(&format!("the {} thread panicked", self.thread));
        }
    }
}

impl Core {
    /// Runs until closed or failed.
    pub fn run_commit_thread(&self) {
        let _guard = PanicGuard {
            core: self,
            thread: "commit",
        };
        loop {
            {
                let mut gathering = self.gathering.lock();
                while gathering.dirty.is_empty() {
                    if self.closing.load(Ordering::Acquire) {
                        return;
                    }
                    self.work.wait(&mut gathering);
                }
            }
            let linger = self.config.commit_linger;
            if !linger.is_zero() && !self.closing.load(Ordering::Acquire) {
                std::thread::sleep(linger);
            }
            if !self.commit_window() && self.failed.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Commits the gathering window. Returns `false` when there was nothing to
    /// commit or the disk failed.
    pub fn commit_window(&self) -> bool {
        let _committer = self.committer.lock();
        if self.failed.load(Ordering::Acquire) {
            return false;
        }
        let started = Instant::now();
        let Some((window, taken)) = self.close_window() else {
            return false;
        };
        let pending = taken.iter().map(|(_, frames)| frames.reserved).sum();
        // The journal's record closes the parts of a transaction, so it must not
        // reach the disk before them; without parts all files go at once.
        let has_parts = taken
            .iter()
            .any(|(log, frames)| !log.is_journal() && frames.is_grouped());
        let (parts, rest): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .partition(|(log, _)| has_parts && !log.is_journal());
        let mut written = Vec::with_capacity(parts.len() + rest.len());
        for stage in [parts, rest] {
            if !self.write_stage(window, stage, &mut written) {
                return false;
            }
        }
        self.publish(window, written, pending, started);
        true
    }

    /// Writes and syncs some of the window's partitions.
    fn write_stage(
        &self,
        window: u64,
        stage: Vec<Part>,
        written: &mut Vec<(Arc<Log>, Written)>,
    ) -> bool {
        let before = written.len();
        for (log, frames) in stage {
            match log.write(self, frames, window) {
                Ok(part) => written.push((log, part)),
                Err(error) => {
                    self.fatal(&format!(
                        "write to partition {} of topic {} failed, what was not acknowledged may be missing: {error}",
                        log.index, log.topic.name
                    ));
                    return false;
                }
            }
        }
        let files: Vec<_> = written[before..]
            .iter()
            .map(|(_, part)| Arc::clone(&part.file))
            .collect();
        if files.is_empty() {
            return true;
        }
        if let Err(error) = self.syncs.sync_all(files) {
            self.fatal(&format!(
                "fdatasync failed, a retry would claim success for lost data: {error}"
            ));
            return false;
        }
        true
    }

    fn close_window(&self) -> Option<(u64, Vec<Part>)> {
        let _gate = self.gate.write();
        let (window, dirty) = {
            let mut gathering = self.gathering.lock();
            if gathering.dirty.is_empty() {
                return None;
            }
            let window = gathering.window;
            gathering.window += 1;
            (window, std::mem::take(&mut gathering.dirty))
        };
        let taken = dirty
            .into_iter()
            .map(|log| {
                let frames = log.take();
                (log, frames)
            })
            .collect();
        Some((window, taken))
    }

    fn publish(
        &self,
        window: u64,
        written: Vec<(Arc<Log>, Written)>,
        pending: usize,
        started: Instant,
    ) {
        let mut bytes = 0;
        for (log, part) in written {
            bytes += part.bytes;
            log.publish(part);
        }
        self.release(pending);
        self.meters.window(bytes, started.elapsed());
        let free = self.free_bytes.load(Ordering::Relaxed);
        self.free_bytes
            .store(free.saturating_sub(bytes), Ordering::Relaxed);
        if free.saturating_sub(bytes) < self.config.retention.keep_free {
            self.full.store(true, Ordering::Relaxed);
        }
        {
            let _waiting = self.waiting.lock();
            self.committed.store(window, Ordering::Release);
            self.done.notify_all();
        }
        self.note_activity();
        self.state.apply_if_many(self);
        for listener in self.listeners.read().iter() {
            listener(Ticket(window));
        }
    }
}
