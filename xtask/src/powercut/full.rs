//! A filesystem that runs full, and a device that fails.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::writer::Writer;
use super::{Summary, acknowledged, check, prepare, queries, under_load};
use crate::failure::{During, Failure, Outcome};
use crate::loopfs::{LoopFs, TmpFs};
use crate::node::{Node, Spec};

/// A disk that the writers fill in seconds.
const SMALL_DISK_SIZE: u64 = 160 << 20;

/// How long the node is written to once the disk is full.
const FULL_FOR: Duration = Duration::from_secs(2);

/// The longest time that filling the small disk may take.
const FILL_TIMEOUT: Duration = Duration::from_secs(120);

/// Payload of the Kafka writers here: 10 records make a batch of 200 KB.
const VALUE_SIZE: usize = 20_000;

/// The memory that stands for a device which fails when it is used up.
const DEVICE_SIZE: u64 = 192 << 20;

/// How long a node may live on a failed device before it must have noticed.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(60);

/// The disk fills up; the node refuses, stays up, and loses nothing.
pub fn enospc(program: &Path, work: &TempDir, cuts: u32, summary: &mut Summary) -> Outcome {
    for round in 1..=cuts {
        let directory = work.path().join(format!("full-{round}"));
        fs::create_dir_all(&directory).during(directory.display())?;
        let disk = LoopFs::create(&directory, SMALL_DISK_SIZE)?;
        let mut spec = Spec::gateway(program, &format!("node-{round}"), work.path());
        spec.data_dir = disk.path().join("data");
        spec.storage = "segment_size = \"4MiB\"\nwhen_full = \"reject\"\n\
            retention = { time = \"7d\", keep_free = \"24MiB\" }\n"
            .to_owned();
        queries::configure(&mut spec)?;
        let mut node = Node::start(&spec)?;
        prepare(&node)?;
        let mut writers = Writer::company(VALUE_SIZE);
        let full = under_load(&mut writers, &mut node, |node| {
            let full = wait_until_full(node)?;
            thread::sleep(FULL_FOR);
            Ok(full)
        })?;
        if let Some(status) = node.wait(Duration::ZERO)? {
            summary.violations.push(format!(
                "the node ended with {status} on a full disk; its last lines:\n{}",
                node.log_tail()
            ));
        } else if !full {
            summary
                .violations
                .push("the disk never counted as full".to_owned());
        } else {
            check_full(&node, &writers, summary)?;
        }
        node.kill();
        let mut node = Node::start(&spec)?;
        check_full(&node, &writers, summary)?;
        node.stop()?;
        // With room again the queries write what they could not.
        spec.storage = spec.storage.replace("24MiB", "4MiB");
        let node = Node::start(&spec)?;
        queries::check(&node, summary)?;
        println!(
            "round {round}: {} acknowledged on a full disk, {} read back, {} violations",
            acknowledged(&writers),
            summary.read,
            summary.violations.len()
        );
        note(&writers, summary);
    }
    Ok(())
}

/// A full disk is an alarm, and only that one.
fn check_full(node: &Node, writers: &[Writer], summary: &mut Summary) -> Outcome {
    let known = summary.violations.len();
    check(node, writers, summary)?;
    let mut fresh = summary.violations.split_off(known);
    fresh.retain(|violation| !(violation.contains("alarms") && violation.contains("full")));
    summary.violations.extend(fresh);
    Ok(())
}

fn wait_until_full(node: &mut Node) -> Outcome<bool> {
    let tries = FILL_TIMEOUT.as_millis() / 100;
    for _ in 0..tries {
        thread::sleep(Duration::from_millis(100));
        if node.wait(Duration::ZERO)?.is_some() {
            return Ok(false);
        }
        let status = node.status()?;
        if status
            .pointer("/storage/full")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The device fails; the process ends with a clear last message, and what it
/// had acknowledged is there when the device works again.
pub fn eio(program: &Path, work: &TempDir, cuts: u32, summary: &mut Summary) -> Outcome {
    for round in 1..=cuts {
        let directory = work.path().join(format!("device-{round}"));
        let memory = TmpFs::create(&directory, DEVICE_SIZE)?;
        // The filesystem believes in twice the space that there is.
        let disk = LoopFs::create(&directory, DEVICE_SIZE * 2)?;
        let mut spec = Spec::gateway(program, &format!("node-{round}"), work.path());
        spec.data_dir = disk.path().join("data");
        spec.storage = "segment_size = \"4MiB\"\nretention = { keep_free = \"8MiB\" }\n".to_owned();
        let mut node = Node::start(&spec)?;
        prepare(&node)?;
        let mut writers = Writer::company(VALUE_SIZE);
        let stuffing = directory.join("stuffing");
        let ended = under_load(&mut writers, &mut node, |node| {
            thread::sleep(Duration::from_millis(fastrand::u64(200..900)));
            use_up(&stuffing)?;
            let ended = node.wait(NOTICE_TIMEOUT)?;
            node.kill();
            Ok(ended)
        })?;
        let last = node.log_tail();
        let last = last.lines().last().unwrap_or_default().to_owned();
        match ended {
            None => summary.violations.push(format!(
                "the node lives on a failed device for {NOTICE_TIMEOUT:?}"
            )),
            Some(status) if status.success() => {
                summary
                    .violations
                    .push("the node ended with 0 on a failed device".to_owned());
            }
            Some(_) if last.is_empty() => {
                summary
                    .violations
                    .push("the node ended without a last message".to_owned());
            }
            Some(_) => {}
        }
        fs::remove_file(&stuffing).during(stuffing.display())?;
        disk.unmount()?;
        disk.repair()?;
        disk.mount()?;
        let node = Node::start(&spec)?;
        check(&node, &writers, summary)?;
        println!(
            "round {round}: {}, last message {last:?}, {} acknowledged, {} read back, {} violations",
            ended.map_or("still running".to_owned(), |status| status.to_string()),
            acknowledged(&writers),
            summary.read,
            summary.violations.len()
        );
        note(&writers, summary);
        drop(node);
        drop(disk);
        drop(memory);
    }
    Ok(())
}

/// Fills the memory behind the device, so that its next new block fails.
fn use_up(stuffing: &Path) -> Outcome {
    let mut file = File::create(stuffing).during(stuffing.display())?;
    let block = vec![0x5a; 1 << 20];
    // At most twice the device; a write that fails is what this waits for.
    for _ in 0..(DEVICE_SIZE * 2) >> 20 {
        if file.write_all(&block).is_err() {
            return Ok(());
        }
    }
    Err(Failure::new(
        "the memory behind the device does not fill up",
    ))
}

fn note(writers: &[Writer], summary: &mut Summary) {
    summary.rounds += 1;
    summary.acknowledged += acknowledged(writers);
    summary.sent += writers
        .iter()
        .map(|writer| writer.ledger().sent())
        .sum::<u64>();
}
