//! What a node decides about its log.

use std::io::{self, Write};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Segment size of a gateway. 16 MiB is scanned in well under a second on an
/// SD card and keeps whole-segment retention fine enough for small disks.
const DEFAULT_SEGMENT_SIZE: u64 = 16 << 20;

/// Bytes appended but not yet durable. At 10 MB/s, a slow SD card, this is
/// about three seconds of writing, more than any stall worth hiding.
const DEFAULT_MAX_PENDING_BYTES: usize = 32 << 20;

/// Parallel fdatasync calls. The kernel merges concurrent flushes; 64 files
/// needed 19 device flushes with 8 threads and 64 with one.
const DEFAULT_SYNC_THREADS: usize = 8;

/// Free space below which the disk counts as full: room for the state journal,
/// its snapshot and the logs of other programs on the same card.
const DEFAULT_KEEP_FREE: u64 = 256 << 20;

/// Space set aside in the file `ballast`, freed when a write meets a full disk:
/// twice the journal's compaction threshold would be ideal, half of it suffices
/// because the journal is compacted into a smaller snapshot.
const DEFAULT_BALLAST_BYTES: u64 = 16 << 20;

/// How segment files get their blocks before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocation {
    /// Zeros are written and synced ahead of the write position: a small commit
    /// then costs one device block. For SD cards and eMMC.
    ZeroFill,
    /// `fallocate` of the whole segment. For hubs on SSDs.
    Fallocate,
    /// The file grows with each commit.
    None,
}

/// What bounds the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose newest record is older are removed.
    pub time: Option<Duration>,
    /// Bytes of all topics together; the oldest segments go first.
    pub size: Option<u64>,
    /// Free bytes of the filesystem below which the disk counts as full.
    pub keep_free: u64,
}

/// What happens to appends when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Appends to topics are refused until there is room.
    Reject,
    /// The oldest segments are dropped and the loss is recorded as a gap.
    DropOldest,
}

/// Receives the last message of a process whose disk failed.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Returns the wall clock in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a node keeps its log.
#[derive(Clone)]
pub struct Config {
    /// The directory that holds everything.
    pub data_dir: PathBuf,
    /// How long an idle commit thread waits for company after the first append.
    pub commit_linger: Duration,
    /// Size at which a segment is closed, in bytes.
    pub segment_size: u64,
    /// How files get their blocks.
    pub preallocation: Preallocation,
    /// What bounds the log.
    pub retention: Retention,
    /// What happens when the disk is full.
    pub when_full: WhenFull,
    /// Bytes that may be appended and not yet durable.
    pub max_pending_bytes: usize,
    /// Threads that sync files in parallel.
    pub sync_threads: usize,
    /// Size of the emergency file freed when a write meets a full disk.
    pub ballast_bytes: u64,
    /// Called once when a write or a sync failed; it is expected not to return.
    pub on_fatal: OnFatal,
    /// The wall clock that retention compares with, in milliseconds.
    pub clock: Clock,
    /// Whether background threads run. Without them a test drives
    /// [`Storage::run_commit`](crate::Storage::run_commit) itself.
    pub threads: bool,
}

impl Config {
    /// Returns the defaults of a gateway.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Config {
            data_dir: data_dir.into(),
            commit_linger: Duration::ZERO,
            segment_size: DEFAULT_SEGMENT_SIZE,
            preallocation: Preallocation::ZeroFill,
            retention: Retention {
                time: None,
                size: None,
                keep_free: DEFAULT_KEEP_FREE,
            },
            when_full: WhenFull::Reject,
            max_pending_bytes: DEFAULT_MAX_PENDING_BYTES,
            sync_threads: DEFAULT_SYNC_THREADS,
            ballast_bytes: DEFAULT_BALLAST_BYTES,
            on_fatal: Arc::new(exit_process),
            clock: Arc::new(system_clock),
            threads: true,
        }
    }
}

/// The exit status of a process whose disk failed (`EX_IOERR` of sysexits).
const EXIT_IO_ERROR: i32 = 74;

fn exit_process(message: &str) {
    // The log may lie on the disk that failed: no error of it may keep the
    // process alive, which nothing would acknowledge any more.
    let _ = catch_unwind(|| tracing::error!("{message}"));
    let _ = writeln!(io::stderr(), "forebay: {message}");
    std::process::exit(EXIT_IO_ERROR);
}

fn system_clock() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
