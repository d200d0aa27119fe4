//! The handle to everything.

mod topics;

use crate::config::Config;
use crate::core::Core;
use crate::disk::Disk;
use crate::error::{AppendError, OpenError};
use crate::recovery::{self, RecoveryReport};
use crate::stats::Stats;
use crate::ticket::Ticket;
use crate::topic::Topic;
use crate::transaction::{Committed, Transaction};
use parking_lot::{Mutex, RwLock};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// The open log of a node. Clones share it.
#[derive(Clone)]
pub struct Storage {
    pub(crate) inner: Arc<Inner>,
    _closer: Arc<Closer>,
}

/// Closes when the last handle goes, in the thread that drops it: the upkeep
/// thread may hold the shared part a moment longer.
struct Closer(Arc<Inner>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Topics and what the background threads share.
pub(crate) struct Inner {
    pub core: Arc<Core>,
    pub topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Serialises creating, deleting and altering topics.
    pub catalog: Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
    is_closed: Mutex<bool>,
}

impl Storage {
    /// Opens or creates a data directory and recovers what it holds. Blocks.
    ///
    /// # Errors
    /// When the directory is in use, of another format version or unreadable.
    /// Damaged data is no error: it is in the report.
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
    ) -> Result<(Storage, RecoveryReport), OpenError> {
        let recovered = recovery::open(config, disk)?;
        let inner = Arc::new(Inner {
            core: recovered.core,
            topics: RwLock::new(recovered.topics),
            catalog: Mutex::new(()),
            threads: Mutex::new(Vec::new()),
            lock: Mutex::new(Some(recovered.lock)),
            is_closed: Mutex::new(false),
        });
        inner.finish_recovery(&recovered.report);
        if inner.core.config.threads {
            inner.start_threads();
        }
        let storage = Storage {
            _closer: Arc::new(Closer(Arc::clone(&inner))),
            inner,
        };
        Ok((storage, recovered.report))
    }

    /// Appends all parts of a transaction in one commit window.
    ///
    /// # Errors
    /// As [`Partition::append_batch`](crate::Partition::append_batch); nothing
    /// of the transaction was stored.
    pub fn commit(&self, transaction: Transaction) -> Result<Committed, AppendError> {
        transaction.commit(&self.inner.core)
    }

    /// Returns the newest value of a key of the state. It may not be durable
    /// yet: wait for [`Storage::fence`] before it leaves the process.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.core.state.get(&self.inner.core, key)
    }

    /// Returns the newest entries of the state with this prefix, by key.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.inner.core.state.scan_prefix(&self.inner.core, prefix)
    }

    /// Returns the ticket that covers everything appended before the call.
    pub fn fence(&self) -> Ticket {
        self.inner.core.fence()
    }

    /// Returns the newest durable window.
    pub fn committed(&self) -> Ticket {
        Ticket(self.inner.core.committed.load(Ordering::Acquire))
    }

    /// Returns whether a window is durable; one atomic load.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.inner.core.is_durable(ticket)
    }

    /// Blocks until a window is durable. Returns `false` when it never will be,
    /// because the disk failed and `on_fatal` returned, or because the append
    /// was overtaken by the close: acknowledge nothing.
    pub fn wait(&self, ticket: Ticket) -> bool {
        self.inner.core.wait(ticket)
    }

    /// Calls `listener` from the commit thread after each window, once it is
    /// durable and visible. It must not block.
    pub fn on_commit(&self, listener: Arc<dyn Fn(Ticket) + Send + Sync>) {
        self.inner.core.listeners.write().push(listener);
    }

    /// Commits the gathering window in the caller's thread; for tests that open
    /// with `Config::threads` false. Returns whether there was something to commit.
    pub fn run_commit(&self) -> bool {
        self.inner.core.commit_window()
    }

    /// Runs one round of retention, preallocation, marks and compaction in the
    /// caller's thread; for tests that open with `Config::threads` false.
    pub fn run_maintenance(&self) {
        self.inner.maintain(true);
    }

    /// Returns numbers for operators.
    pub fn stats(&self) -> Stats {
        let core = &self.inner.core;
        Stats {
            free_bytes: core.free_bytes.load(Ordering::Relaxed),
            used_bytes: self
                .inner
                .logs()
                .iter()
                .map(|log| log.size_bytes())
                .sum::<u64>()
                + core.state.journal.size_bytes(),
            pending_bytes: core.pending_bytes.load(Ordering::Relaxed) as u64,
            windows: core.meters.windows(),
            commit_latency: core.meters.histogram(),
            device_bytes_written: core.meters.device_bytes.load(Ordering::Relaxed),
            full: core.full.load(Ordering::Relaxed),
            alarms: core.alarms(),
        }
    }

    /// Commits what gathered, records how far each partition is durable, and
    /// stops the threads. Appends that other threads make meanwhile are either
    /// committed or refused. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn start_threads(self: &Arc<Self>) {
        let core = Arc::clone(&self.core);
        let commit = std::thread::Builder::new()
            .name("forebay-commit".into())
            .spawn(move || core.run_commit_thread());
        let inner = Arc::downgrade(self);
        let maintenance = std::thread::Builder::new()
            .name("forebay-upkeep".into())
            .spawn(move || crate::maintenance::run(&inner));
        let mut threads = self.threads.lock();
        for spawned in [commit, maintenance] {
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => self
                    .core
                    .fatal(&format!("cannot start a storage thread: {error}")),
            }
        }
    }

    /// Returns all partitions of all topics.
    pub fn logs(&self) -> Vec<Arc<crate::partition::Log>> {
        self.topics
            .read()
            .values()
            .flat_map(|topic| topic.logs())
            .collect()
    }

    fn close(&self) {
        let mut is_closed = self.is_closed.lock();
        if std::mem::replace(&mut *is_closed, true) {
            return;
        }
        let core = &self.core;
        if !core.failed.load(Ordering::Acquire) {
            core.wait(core.fence());
            self.write_marks();
            core.wait(core.fence());
        }
        core.closing.store(true, Ordering::Release);
        {
            let _gathering = core.gathering.lock();
            core.work.notify_all();
        }
        core.wake_upkeep();
        let own = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            // A listener may hold the last handle and close from within.
            if thread.thread().id() != own && thread.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
        // Appends that passed the closing check while it was set.
        core.commit_window();
        {
            let _waiting = core.waiting.lock();
            core.closed.store(true, Ordering::Release);
            core.done.notify_all();
        }
        if !core.failed.load(Ordering::Acquire) {
            core.state.apply(core);
            if let Err(reason) = core.state.close() {
                tracing::warn!(%reason, "state view not closed, it will be rebuilt");
            }
            for log in self.logs() {
                for segment in log.segments.read().iter() {
                    segment.save_index(&*core.disk);
                }
            }
        }
        *self.lock.lock() = None;
    }
}
