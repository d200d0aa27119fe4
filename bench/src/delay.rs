//! PUBACK times at a given load, beside the times of the disk.
//!
//! The raw fdatasync is measured twice. *Alone*, before and after the load, a
//! process writes as many bytes per second to blocks that hold data and syncs
//! as often as it can. *Beside*, while the load runs, a probe writes and syncs
//! a file of its own some hundred times per second, so that it waits for cores
//! and for the disk as the gateway does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use xtask::failure::{Failure, Outcome};
use xtask::node::{Node, Spec};

use crate::disk;
use crate::figures::{Report, percentile_ms, ratio};
use crate::load::{CONNECTIONS, Pace, READING_SIZE, Reached, publish};
use crate::machine::Setting;

/// Length of one measurement in seconds.
const SECONDS: u64 = 5;

/// Publishes per second of a node that is well used and not full.
const RATE: f64 = 20_000.0;

/// The smallest write of a probe: one block.
const PROBE_MIN: usize = 4096;

/// The shares of the samples that are printed.
const SHARES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// Acknowledgement times beside those of the disk, over all rounds.
#[derive(Default)]
pub struct Delay {
    rate: Vec<f64>,
    cpu_us: Vec<f64>,
    core_waits: Vec<f64>,
    generator: Vec<f64>,
    generator_waits: Vec<f64>,
    commits: Vec<f64>,
    commit_ms: Vec<f64>,
    raw_kb: Vec<f64>,
    puback: [Vec<f64>; 2],
    alone: [Vec<f64>; 2],
    beside: [Vec<f64>; 2],
    to_alone: [Vec<f64>; 2],
    to_beside: [Vec<f64>; 2],
}

impl Delay {
    /// Publishes at `rate` between two measurements of the disk, so that what
    /// else the machine does weighs on both.
    pub fn measure(
        &mut self,
        node: &Node,
        directory: &Path,
        pace: (f64, usize),
        length: Duration,
    ) -> Outcome {
        let (rate, burst) = pace;
        #[expect(clippy::cast_precision_loss, reason = "100")]
        let bytes = rate * READING_SIZE as f64;
        let mut alone = disk::sync_times(directory, bytes, length / 2)?;
        alone.sizes.sort_unstable();
        let size = alone.sizes.get(alone.sizes.len() / 2).copied();
        let size = size.unwrap_or_default();
        let pace = Pace::Rate { rate, burst };
        let before = commits(node)?;
        let (mut paced, mut beside) = beside_probe(directory, size.max(PROBE_MIN), || {
            publish(node.mqtt()?, node.id(), pace, length)
        })?;
        let after = commits(node)?;
        let again = disk::sync_times(directory, bytes, length / 2)?;
        alone.times.extend(again.times);

        let seconds = length.as_secs_f64();
        let count = paced.rate * seconds;
        self.rate.push(paced.rate);
        self.cpu_us.push(ratio(paced.used.cpu_s * 1e6, count));
        self.core_waits.push(paced.used.core_wait_s / seconds);
        self.generator.push(paced.generator_cores);
        self.generator_waits.push(paced.generator_waits);
        #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
        self.raw_kb.push(size as f64 / 1e3);
        let windows = after.0 - before.0;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let all = paced.acknowledged as f64;
        self.commits.push(ratio(all, windows));
        self.commit_ms
            .push(ratio(after.1 - before.1, windows) / 1e3);
        for (index, (_, share)) in SHARES.into_iter().enumerate() {
            let puback = percentile_ms(&mut paced.latencies, share);
            let alone = percentile_ms(&mut alone.times, share);
            let beside = percentile_ms(&mut beside, share);
            self.puback[index].push(puback);
            self.alone[index].push(alone);
            self.beside[index].push(beside);
            self.to_alone[index].push(ratio(puback, alone));
            self.to_beside[index].push(ratio(puback, beside));
        }
        Ok(())
    }

    /// Adds what was measured under `name`.
    pub fn report(&self, name: &str, report: &mut Report) {
        let mut add = |what: &str, rounds| report.median(&format!("{name}: {what}"), rounds);
        add("acknowledged per second", &self.rate);
        add("CPU us per publish", &self.cpu_us);
        add("threads that wait for a core", &self.core_waits);
        add("generator cores", &self.generator);
        add("generator waits for a core", &self.generator_waits);
        add("publishes per commit", &self.commits);
        add("mean commit ms", &self.commit_ms);
        add("raw write KB p50", &self.raw_kb);
        for (index, (share, _)) in SHARES.into_iter().enumerate() {
            add(&format!("PUBACK {share} ms"), &self.puback[index]);
            add(&format!("fdatasync alone {share} ms"), &self.alone[index]);
            add(&format!("fdatasync beside {share} ms"), &self.beside[index]);
            add(&format!("PUBACK to alone {share}"), &self.to_alone[index]);
            add(&format!("PUBACK to beside {share}"), &self.to_beside[index]);
        }
    }
}

/// Measures a gateway at `--rate`, one publish per write and a window per write.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    let rate = setting.rate.unwrap_or(RATE);
    report.fact("forebay settings", "defaults, commit_linger 0ms, zero-fill");
    report.fact(
        "load",
        format!(
            "{CONNECTIONS} connections, {rate} per second in all, {READING_SIZE} bytes, QoS 1, {length:?}"
        ),
    );
    let (mut singles, mut bursts) = (Delay::default(), Delay::default());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let node = Node::start(&Spec::gateway(&setting.program, "latency", scratch.path()))?;
        singles.measure(&node, scratch.path(), (rate, 1), length)?;
        bursts.measure(&node, scratch.path(), (rate, setting.window), length)?;
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    singles.report("one by one", report);
    bursts.report(&format!("{} at once", setting.window), report);
    Ok(())
}

/// Runs `load` with a probe beside it.
fn beside_probe(
    directory: &Path,
    size: usize,
    load: impl FnOnce() -> Outcome<Reached>,
) -> Outcome<(Reached, Vec<Duration>)> {
    let file = disk::probe_file(directory)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let probing = scope.spawn(|| disk::probe(&file, size, &stop));
        let reached = load();
        stop.store(true, Ordering::Relaxed);
        let times = probing
            .join()
            .map_err(|_| Failure::new("the probe panicked"))?;
        Ok((reached?, times?))
    })
}

/// Commits of a node and the microseconds that they took.
fn commits(node: &Node) -> Outcome<(f64, f64)> {
    let status = node.status()?;
    let number = |field: &str| {
        let pointer = format!("/storage/commit_latency/{field}");
        status.pointer(&pointer).and_then(Value::as_f64)
    };
    let commits = number("count").zip(number("sum_us"));
    commits.ok_or_else(|| Failure::new("the status has no commits"))
}
