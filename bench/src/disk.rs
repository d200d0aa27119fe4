//! The raw disk: what write and fdatasync cost without anything around them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use xtask::failure::{During, Outcome};

/// Bytes of the file that is written.
const FILE_SIZE: u64 = 512 << 20;

/// Bytes of the file whose syncs are timed. Small, because writing it anew for
/// each measurement uses up what a throttled disk grants.
const SYNC_FILE_SIZE: u64 = 64 << 20;

/// Bytes of the file that a probe writes to, over and over.
const PROBE_FILE_SIZE: u64 = 16 << 20;

/// Pause between two syncs of a probe: some hundred samples per second, few
/// against the thousands of commits beside it.
const PROBE_EVERY: Duration = Duration::from_millis(5);

/// Makes a file whose blocks are all written, so that a write to it changes no
/// metadata: the fastest that the disk can do.
fn prepared(directory: &Path, name: &str, size: u64) -> Outcome<File> {
    let path = directory.join(name);
    let mut file = File::create(&path).during(path.display())?;
    let block = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        file.write_all(&block).during(path.display())?;
    }
    fdatasync(&file).during(path.display())?;
    Ok(file)
}

/// Makes a file whose blocks are allocated and not written, as a hub's log is:
/// each first write to a block is also a change of metadata.
fn allocated(directory: &Path) -> Outcome<File> {
    let path = directory.join("raw");
    let file = File::create(&path).during(path.display())?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_SIZE).during(path.display())?;
    fdatasync(&file).during(path.display())?;
    Ok(file)
}

/// What the raw writes go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Blocks that hold data; they are overwritten in turns.
    Written,
    /// Blocks of fallocate, each written once; the measurement ends with them.
    Allocated,
}

/// Bytes per second of sequential writes of `size`, each followed by fdatasync.
pub fn bandwidth(directory: &Path, blocks: Blocks, size: usize, length: Duration) -> Outcome<f64> {
    let file = match blocks {
        Blocks::Written => prepared(directory, "raw", FILE_SIZE)?,
        Blocks::Allocated => allocated(directory)?,
    };
    let block = vec![0x5a; size];
    let started = Instant::now();
    let mut written = 0u64;
    let mut at = 0;
    while started.elapsed() < length {
        file.write_all_at(&block, at).during("raw write")?;
        fdatasync(&file).during("raw fdatasync")?;
        written += size as u64;
        at += size as u64;
        if at + size as u64 > FILE_SIZE {
            if blocks == Blocks::Allocated {
                break;
            }
            at = 0;
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let written = written as f64;
    Ok(written / elapsed)
}

/// What fdatasync took, and how much each carried.
#[derive(Debug, Default)]
pub struct Syncs {
    /// The time of each.
    pub times: Vec<Duration>,
    /// Bytes written before each.
    pub sizes: Vec<usize>,
}

/// Times of fdatasync while `bytes_per_second` arrive: each sync carries what
/// arrived since the one before, as a group commit does.
pub fn sync_times(directory: &Path, bytes_per_second: f64, length: Duration) -> Outcome<Syncs> {
    let file = prepared(directory, "raw", SYNC_FILE_SIZE)?;
    let mut syncs = Syncs::default();
    let started = Instant::now();
    let (mut done, mut at) = (0.0, 0);
    while started.elapsed() < length {
        let due = started.elapsed().as_secs_f64() * bytes_per_second;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of a few milliseconds"
        )]
        let size = (due - done).max(0.0) as usize;
        if size == 0 {
            thread::sleep(Duration::from_micros(50));
            continue;
        }
        if at + size as u64 > SYNC_FILE_SIZE {
            at = 0;
        }
        file.write_all_at(&vec![0x5a; size], at)
            .during("raw write")?;
        let before = Instant::now();
        fdatasync(&file).during("raw fdatasync")?;
        syncs.times.push(before.elapsed());
        syncs.sizes.push(size);
        at += size as u64;
        done = due;
    }
    Ok(syncs)
}

/// Makes the file of a [`probe`].
pub fn probe_file(directory: &Path) -> Outcome<File> {
    prepared(directory, "probe", PROBE_FILE_SIZE)
}

/// Times of single fdatasyncs of `size` bytes each [`PROBE_EVERY`] until
/// `stop`: what the disk and the cores give to one more process while a load
/// runs.
pub fn probe(file: &File, size: usize, stop: &AtomicBool) -> Outcome<Vec<Duration>> {
    let block = vec![0x5a; size];
    let mut times = Vec::new();
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PROBE_EVERY);
        if at + size as u64 > PROBE_FILE_SIZE {
            at = 0;
        }
        file.write_all_at(&block, at).during("probe write")?;
        let before = Instant::now();
        fdatasync(file).during("probe fdatasync")?;
        times.push(before.elapsed());
        at += size as u64;
    }
    Ok(times)
}
