//! The raw disk: what write and fdatasync cost without anything around them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;
use xtask::failure::{During, Outcome};

/// Bytes of the file that is overwritten in turns.
const FILE_SIZE: u64 = 256 << 20;

/// Makes a file whose blocks are all written, so that a write to it changes no
/// metadata: the fastest that the disk can do.
fn prepared(directory: &Path) -> Outcome<File> {
    let path = directory.join("raw");
    let mut file = File::create(&path).during(path.display())?;
    let block = vec![0; 1 << 20];
    for _ in 0..FILE_SIZE >> 20 {
        file.write_all(&block).during(path.display())?;
    }
    fdatasync(&file).during(path.display())?;
    Ok(file)
}

/// Bytes per second of sequential writes of `size`, each followed by fdatasync.
pub fn bandwidth(directory: &Path, size: usize, length: Duration) -> Outcome<f64> {
    let file = prepared(directory)?;
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
            at = 0;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let written = written as f64;
    Ok(written / started.elapsed().as_secs_f64())
}

/// Times of fdatasync while `bytes_per_second` arrive: each sync carries what
/// arrived since the one before, as a group commit does.
pub fn sync_times(
    directory: &Path,
    bytes_per_second: f64,
    length: Duration,
) -> Outcome<Vec<Duration>> {
    let file = prepared(directory)?;
    let mut samples = Vec::new();
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
        if at + size as u64 > FILE_SIZE {
            at = 0;
        }
        file.write_all_at(&vec![0x5a; size], at)
            .during("raw write")?;
        let before = Instant::now();
        fdatasync(&file).during("raw fdatasync")?;
        samples.push(before.elapsed());
        at += size as u64;
        done = due;
    }
    Ok(samples)
}
