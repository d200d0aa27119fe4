//! Device bytes per acknowledged byte beside plain appended files.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;
use xtask::failure::{During, Failure, Outcome};
use xtask::loopfs::{self, LoopFs};
use xtask::node::{Node, Spec};

use crate::device;
use crate::figures::{Report, median, ratio};
use crate::load::{self, READING_SIZE};
use crate::machine::Setting;

/// Length of one measurement: several chunks of preallocation.
const SECONDS: u64 = 30;

/// Readings per second.
const RATE: f64 = 100.0;

/// Time between commits.
const COMMIT: Duration = Duration::from_millis(50);

/// Bytes of the loop filesystem.
const DISK_SIZE: u64 = 1 << 30;

/// Measures the program and plain appends, each on a fresh filesystem.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    if let Some(reason) = loopfs::unavailable() {
        return Err(Failure::new(reason));
    }
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact(
        "load",
        format!("{RATE} readings/s of {READING_SIZE} bytes, a commit each {COMMIT:?}, {length:?}"),
    );
    let (mut ours, mut plain, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let (bytes, count) = forebay(setting, length)?;
        ours.push(bytes);
        counts.push(count);
        plain.push(appended(setting, length)?);
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    report.median("readings acknowledged", &counts);
    report.median("forebay device bytes per payload byte", &ours);
    report.median("appended file device bytes per payload byte", &plain);
    report.number(
        "appended file to forebay",
        ratio(median(&plain), median(&ours)),
    );
    Ok(())
}

/// Runs the program on a filesystem of its own.
fn forebay(setting: &Setting, length: Duration) -> Outcome<(f64, f64)> {
    let scratch = setting.scratch()?;
    let disk = LoopFs::create(scratch.path(), DISK_SIZE)?;
    let mut spec = Spec::gateway(&setting.program, "wear", scratch.path());
    spec.data_dir = disk.path().join("data");
    spec.storage += &format!("commit_linger = \"{}ms\"\n", COMMIT.as_millis());
    let node = Node::start(&spec)?;
    let address = node.mqtt()?;
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let publisher = scope.spawn(|| load::trickle(address, RATE, &stop, &count));
        // The first seconds make files and preallocate; they are not typical.
        thread::sleep(Duration::from_secs(2));
        rustix::fs::sync();
        let (before, first) = (
            device::bytes_written(disk.path())?,
            count.load(Ordering::Relaxed),
        );
        thread::sleep(length);
        let readings = count.load(Ordering::Relaxed) - first;
        rustix::fs::sync();
        let written = device::bytes_written(disk.path())? - before;
        stop.store(true, Ordering::Relaxed);
        publisher
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))??;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (readings, size) = (readings as f64, READING_SIZE as f64);
        Ok((ratio(written, readings * size), readings))
    })
}

/// Appends the same readings to a plain file and syncs at the same times.
fn appended(setting: &Setting, length: Duration) -> Outcome<f64> {
    let scratch = setting.scratch()?;
    let disk = LoopFs::create(scratch.path(), DISK_SIZE)?;
    let path = disk.path().join("appended");
    let mut file = File::create(&path).during(path.display())?;
    rustix::fs::sync();
    let before = device::bytes_written(disk.path())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "five readings"
    )]
    let block = vec![b'x'; READING_SIZE * (RATE * COMMIT.as_secs_f64()) as usize];
    let (started, mut due, mut total) = (Instant::now(), Instant::now(), 0usize);
    while started.elapsed() < length {
        file.write_all(&block).during("append")?;
        fdatasync(&file).during("fdatasync")?;
        total += block.len();
        due += COMMIT;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    rustix::fs::sync();
    let written = device::bytes_written(disk.path())? - before;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let total = total as f64;
    Ok(ratio(written, total))
}
