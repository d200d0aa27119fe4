//! Threads that sync files in parallel; the kernel merges their device flushes.

use crate::disk::DiskFile;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;

#[derive(Default)]
struct Round {
    /// Files not yet claimed; at most one per partition of a window.
    files: Vec<Arc<dyn DiskFile>>,
    running: usize,
    error: Option<io::Error>,
    started: usize,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    round: Mutex<Round>,
    work: Condvar,
    done: Condvar,
}

/// Syncs the files of a window. The threads start with the first window that
/// has more than one file, so a small node never has them.
pub(crate) struct SyncPool {
    shared: Arc<Shared>,
    threads: usize,
}

impl SyncPool {
    /// Uses up to `threads` threads besides the caller's.
    pub fn new(threads: usize) -> Self {
        SyncPool {
            shared: Arc::default(),
            threads,
        }
    }

    /// Syncs all `files`; the first error wins.
    pub fn sync_all(&self, mut files: Vec<Arc<dyn DiskFile>>) -> io::Result<()> {
        if files.len() == 1 || self.threads == 0 {
            return files.iter().try_for_each(|file| file.fdatasync());
        }
        let Some(own) = files.pop() else {
            return Ok(());
        };
        {
            let mut round = self.shared.round.lock();
            self.start_threads(&mut round, files.len());
            round.files = files;
            self.shared.work.notify_all();
        }
        let mut result = own.fdatasync();
        let mut round = self.shared.round.lock();
        while let Some(file) = round.files.pop() {
            drop(round);
            result = result.and(file.fdatasync());
            round = self.shared.round.lock();
        }
        while round.running > 0 {
            self.shared.done.wait(&mut round);
        }
        match round.error.take() {
            Some(error) => Err(error),
            None => result,
        }
    }

    fn start_threads(&self, round: &mut Round, wanted: usize) {
        while round.started < self.threads.min(wanted) {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new()
                .name("forebay-sync".into())
                .stack_size(64 << 10)
                .spawn(move || shared.run());
            if spawned.is_err() {
                // The caller's thread syncs what is left.
                return;
            }
            round.started += 1;
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut round = self.round.lock();
        loop {
            if let Some(file) = round.files.pop() {
                round.running += 1;
                drop(round);
                let result = file.fdatasync();
                drop(file);
                round = self.round.lock();
                round.running -= 1;
                if let Err(error) = result {
                    round.error.get_or_insert(error);
                }
                if round.running == 0 {
                    self.done.notify_one();
                }
            } else if round.stopped {
                return;
            } else {
                self.work.wait(&mut round);
            }
        }
    }
}

impl Drop for SyncPool {
    fn drop(&mut self) {
        self.shared.round.lock().stopped = true;
        self.shared.work.notify_all();
    }
}
