//! What every partition of a node shares: the gathering window, its gate, the
//! durable window, limits and alarms.

use crate::config::{Config, WhenFull};
use crate::disk::Disk;
use crate::error::AppendError;
use crate::partition::Log;
use crate::state::State;
use crate::stats::Meters;
use crate::sync_pool::SyncPool;
use crate::ticket::Ticket;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Alarms kept for the operator; the oldest go first. Each is one line, and a
/// screen that lists more than this explains nothing.
const MAX_ALARMS: usize = 64;

/// How far below `keep_free` the disk may fall with `DropOldest` before appends
/// are refused there too: dropping takes a moment.
const DROP_OLDEST_FLOOR: u64 = 4;

/// Called with each window that became durable.
pub(crate) type Listener = Arc<dyn Fn(Ticket) + Send + Sync>;

/// The window that appends go into.
pub(crate) struct Gathering {
    pub window: u64,
    pub dirty: Vec<Arc<Log>>,
}

/// Shared by all partitions.
pub(crate) struct Core {
    pub config: Config,
    pub disk: Arc<dyn Disk>,
    /// Held for reading by an append of several parts, for writing while the
    /// commit thread takes what gathered: the parts share a window.
    pub gate: RwLock<()>,
    pub gathering: Mutex<Gathering>,
    pub work: Condvar,
    pub committed: AtomicU64,
    pub waiting: Mutex<()>,
    pub done: Condvar,
    pub pending_bytes: AtomicUsize,
    pub listeners: RwLock<Vec<Listener>>,
    pub state: State,
    pub syncs: SyncPool,
    /// Held by whoever raises a log start.
    pub starts: Mutex<()>,
    /// Held by whoever commits a window.
    pub committer: Mutex<()>,
    pub failed: AtomicBool,
    pub closing: AtomicBool,
    /// Whether the last window was committed.
    pub closed: AtomicBool,
    pub full: AtomicBool,
    /// Estimate of the free space, lowered by what is written since the last look.
    pub free_bytes: AtomicU64,
    pub meters: Meters,
    /// Where the upkeep thread sleeps.
    pub upkeep: Mutex<()>,
    pub upkeep_wake: Condvar,
    /// Whether the upkeep thread sleeps long because there was nothing to do.
    pub upkeep_idles: AtomicBool,
    /// Whether a segment is short of zeros ahead.
    pub wants_zeros: AtomicBool,
    alarms: Mutex<VecDeque<String>>,
}

impl Core {
    /// Starts with `window` as the first gathering window.
    pub fn new(config: Config, disk: Arc<dyn Disk>, state: State, window: u64) -> Self {
        let sync_threads = if config.threads {
            config.sync_threads
        } else {
            0
        };
        Core {
            config,
            disk,
            gate: RwLock::new(()),
            gathering: Mutex::new(Gathering {
                window,
                dirty: Vec::new(),
            }),
            work: Condvar::new(),
            committed: AtomicU64::new(window - 1),
            waiting: Mutex::new(()),
            done: Condvar::new(),
            pending_bytes: AtomicUsize::new(0),
            listeners: RwLock::new(Vec::new()),
            state,
            syncs: SyncPool::new(sync_threads),
            starts: Mutex::new(()),
            committer: Mutex::new(()),
            failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            full: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            meters: Meters::default(),
            upkeep: Mutex::new(()),
            upkeep_wake: Condvar::new(),
            upkeep_idles: AtomicBool::new(false),
            wants_zeros: AtomicBool::new(false),
            alarms: Mutex::new(VecDeque::new()),
        }
    }

    /// Reserves room for `bytes` of pending appends to a topic.
    pub fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        self.admit_space()?;
        self.admit_internal(bytes)
    }

    /// Refuses when the disk is full.
    pub fn admit_space(&self) -> Result<(), AppendError> {
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        let keep_free = self.config.retention.keep_free;
        if self.config.when_full == WhenFull::DropOldest
            && free_bytes > keep_free / DROP_OLDEST_FLOOR
        {
            return Ok(());
        }
        Err(AppendError::Full {
            free_bytes,
            keep_free,
        })
    }

    /// Reserves room for `bytes` of pending appends, full disk or not.
    pub fn admit_internal(&self, bytes: usize) -> Result<(), AppendError> {
        if self.closing.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire) {
            return Err(AppendError::ShuttingDown);
        }
        let limit = self.config.max_pending_bytes;
        let before = self.pending_bytes.fetch_add(bytes, Ordering::AcqRel);
        // One that is larger than the limit waits for half of it only: while
        // others append, nothing would be pending at no moment.
        let room = if bytes > limit {
            limit / 2 + bytes
        } else {
            limit
        };
        if before != 0 && before + bytes > room {
            self.release(bytes);
            return Err(AppendError::Backpressure {
                pending: before,
                limit,
            });
        }
        Ok(())
    }

    /// Gives back a reservation.
    pub fn release(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Puts a partition on the list of the gathering window and returns the window.
    pub fn register(&self, log: &Arc<Log>) -> u64 {
        let mut gathering = self.gathering.lock();
        gathering.dirty.push(Arc::clone(log));
        if gathering.dirty.len() == 1 {
            self.work.notify_one();
        }
        gathering.window
    }

    /// Returns the ticket that covers everything appended before the call.
    pub fn fence(&self) -> Ticket {
        let gathering = self.gathering.lock();
        if gathering.dirty.is_empty() {
            Ticket(gathering.window - 1)
        } else {
            Ticket(gathering.window)
        }
    }

    /// Returns whether the window is durable.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.committed.load(Ordering::Acquire) >= ticket.0
    }

    /// Waits until the window is durable; `false` when it never will be.
    pub fn wait(&self, ticket: Ticket) -> bool {
        while !self.is_durable(ticket) {
            if !self.config.threads {
                if !self.commit_window() {
                    return self.is_durable(ticket);
                }
                continue;
            }
            let mut waiting = self.waiting.lock();
            // After the close nothing is committed any more.
            if self.failed.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire) {
                return self.is_durable(ticket);
            }
            if !self.is_durable(ticket) {
                self.done.wait_for(&mut waiting, Duration::from_secs(1));
            }
        }
        true
    }

    /// Ends the life of this storage after a failed write or sync.
    pub fn fatal(&self, message: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            (self.config.on_fatal)(message);
        }
        let _waiting = self.waiting.lock();
        self.done.notify_all();
    }

    /// Records an alarm for the operator.
    pub fn alarm(&self, message: String) {
        tracing::error!("{message}");
        let mut alarms = self.alarms.lock();
        if alarms.contains(&message) {
            return;
        }
        if alarms.len() == MAX_ALARMS {
            alarms.pop_front();
        }
        alarms.push_back(message);
    }

    /// Returns the alarms, oldest first.
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.lock().iter().cloned().collect()
    }
}
