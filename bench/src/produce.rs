//! Kafka Produce of 1 KB records beside the raw disk with the same commits.

use std::time::Duration;

use serde_json::Value;
use xtask::failure::Outcome;
use xtask::node::{Node, Spec};

use crate::disk;
use crate::figures::{Report, ratio};
use crate::load;
use crate::machine::Setting;
use crate::process::usage;

/// Length of one raw measurement.
const SECONDS: u64 = 5;

const RECORD_SIZE: usize = 1000;

/// Records to a batch: 64 KB, with five in flight.
const BATCH_RECORDS: usize = 64;

/// Bytes that are produced in one round.
const TOTAL: u64 = 512 << 20;

/// Measures Produce, then the disk with the mean commit size of that run.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact(
        "load",
        format!("1 connection, {BATCH_RECORDS} records of {RECORD_SIZE} bytes per batch, 5 in flight, acks=all"),
    );
    let (mut rates, mut raws, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut commits, mut cpu, mut device) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let node = Node::start(&Spec::hub(&setting.program, "produce", scratch.path()))?;
        let (before, windows) = (usage(node.id()), commit_count(&node)?);
        let rate = load::produce(node.ports.kafka, "bench", TOTAL, RECORD_SIZE, BATCH_RECORDS)?;
        let (after, windows) = (usage(node.id()), commit_count(&node)? - windows);
        drop(node);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let total = TOTAL as f64;
        let commit = ratio(total, windows);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "megabytes"
        )]
        let raw = disk::bandwidth(scratch.path(), (commit as usize).max(1), length)?;
        rates.push(rate / 1e6);
        raws.push(raw / 1e6);
        ratios.push(ratio(rate, raw));
        commits.push(commit / 1e3);
        cpu.push((after.cpu_s - before.cpu_s) / (total / 1e9));
        device.push((after.written - before.written) / total);
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    report.median("produce MB/s", &rates);
    report.median("raw write and fdatasync MB/s", &raws);
    report.median("produce to raw", &ratios);
    report.median("mean commit KB", &commits);
    report.median("CPU s per GB", &cpu);
    report.median("written bytes per payload byte", &device);
    Ok(())
}

fn commit_count(node: &Node) -> Outcome<f64> {
    let status = node.status()?;
    let count = status.pointer("/storage/commits").and_then(Value::as_f64);
    Ok(count.unwrap_or_default())
}
