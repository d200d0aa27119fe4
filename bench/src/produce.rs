//! Kafka Produce of 1 KB records beside the raw disk with the same commits.

use std::time::Duration;

use serde_json::Value;
use xtask::failure::Outcome;
use xtask::node::{Node, Spec};

use crate::device;
use crate::disk::{self, Blocks};
use crate::figures::{Report, ratio};
use crate::load::{self, RECORD_SIZE};
use crate::machine::Setting;
use crate::process::usage;

/// Length of one raw measurement in seconds.
const SECONDS: u64 = 5;

/// Bytes that are produced in one round.
const TOTAL: u64 = 512 << 20;

/// Measures Produce, then the disk with the mean commit size of that run.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact(
        "load",
        format!(
            "1 connection, {} KiB of {RECORD_SIZE}-byte records per request, 5 in flight, \
             acks=all, {} MiB",
            setting.batch_kib,
            TOTAL >> 20
        ),
    );
    report.fact("forebay settings", "role broker, defaults");
    report.fact(
        "raw",
        "write + fdatasync in turns, the mean commit at a time, over written blocks and \
         into blocks of fallocate",
    );
    let (mut rates, mut raws, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut firsts, mut first_ratios) = (Vec::new(), Vec::new());
    let (mut commits, mut cpu, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let (mut device, mut resident) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let node = Node::start(&Spec::hub(&setting.program, "produce", scratch.path()))?;
        let (before, windows) = (usage(node.id()), commit_count(&node)?);
        let on_device = device::bytes_written(scratch.path())?;
        let rate = load::produce(node.ports.kafka, "bench", TOTAL, setting.batch_kib << 10)?;
        let used = usage(node.id()).since(before);
        let on_device = device::bytes_written(scratch.path())? - on_device;
        let windows = commit_count(&node)? - windows;
        drop(node);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let total = TOTAL as f64;
        let commit = ratio(total, windows);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "megabytes"
        )]
        let size = (commit as usize).max(1);
        let raw = disk::bandwidth(scratch.path(), Blocks::Written, size, length)?;
        let first = disk::bandwidth(scratch.path(), Blocks::Allocated, size, length)?;
        rates.push(rate / 1e6);
        raws.push(raw / 1e6);
        firsts.push(first / 1e6);
        ratios.push(ratio(rate, raw));
        first_ratios.push(ratio(rate, first));
        commits.push(commit / 1e3);
        cpu.push(used.cpu_s / (total / 1e9));
        written.push(used.written / total);
        device.push(on_device / total);
        resident.push(used.resident_mib);
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    report.median("produce MB/s", &rates);
    report.median("raw over written blocks MB/s", &raws);
    report.median("raw into allocated blocks MB/s", &firsts);
    report.median("produce to raw over written blocks", &ratios);
    report.median("produce to raw into allocated blocks", &first_ratios);
    report.median("mean commit KB", &commits);
    report.median("CPU s per GB", &cpu);
    report.median("resident MiB", &resident);
    report.median("written bytes per payload byte", &written);
    report.median("device bytes per payload byte (others included)", &device);
    Ok(())
}

fn commit_count(node: &Node) -> Outcome<f64> {
    let status = node.status()?;
    let count = status.pointer("/storage/commits").and_then(Value::as_f64);
    Ok(count.unwrap_or_default())
}
