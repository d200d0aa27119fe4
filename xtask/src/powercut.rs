//! `cargo xtask powercut`: cuts, kills and damage under load.
//!
//! Writers record every acknowledgement (PUBACK, PUBREC, Produce acks=all).
//! After the node comes back, everything is read through Fetch and compared:
//! what was acknowledged is there, once, in order, and so are the results of
//! continuous queries over it.

mod checker;
mod damage;
mod full;
pub mod ledger;
mod queries;
pub mod writer;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::loopfs::{self, LoopFs};
use crate::node::{Node, Spec, program};
use crate::wire::kafka;
pub use checker::Reading;
use writer::{TOPIC, Writer};

/// The text of `cargo xtask powercut --help`.
pub const HELP: &str = "\
Interrupts a node under load and checks that every acknowledged record is
there afterwards, once and in order. In all modes but flip and eio continuous
queries run, and each of their final rows must be there once.

Usage: cargo xtask powercut [--mode MODE] [--cuts N] [OPTIONS]

Modes:
  power    (default) cut the ext4 under the data directory; needs root
  kill     SIGKILL
  view     SIGKILL, then damage the key-value view of the state
  flip     stop, then flip a bit in a segment or cut a segment short: the loss
           must be reported with its range, and nothing else may be missing
  enospc   let the filesystem run full; needs root
  eio      let the device under the filesystem fail; needs root

Options:
  --cuts N      rounds (default 10)
  --bin PATH    drive this program instead of building one (profile ci)
  --seed N      repeat the moments and places of an earlier run
  --keep        keep the directory of the run
  --json        print the summary as JSON
";

/// The topic that the default route sends MQTT publishes to.
const MQTT_TOPIC: &str = "readings";

/// Bytes of the filesystem that is cut. Sparse: only what is written counts.
const DISK_SIZE: u64 = 2 << 30;

/// Payload of the Kafka writers, except where a disk has to fill up.
const VALUE_SIZE: usize = 200;

/// How a round interrupts the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Power,
    Kill,
    View,
    Flip,
    Enospc,
    Eio,
}

impl Mode {
    fn parse(name: &str) -> Outcome<Self> {
        Ok(match name {
            "power" => Self::Power,
            "kill" => Self::Kill,
            "view" => Self::View,
            "flip" => Self::Flip,
            "enospc" => Self::Enospc,
            "eio" => Self::Eio,
            other => {
                return Err(Failure::new(format!(
                    "unknown mode {other:?}, expected power, kill, view, flip, enospc or eio"
                )));
            }
        })
    }

    fn needs_filesystem(self) -> bool {
        matches!(self, Self::Power | Self::Enospc | Self::Eio)
    }
}

/// What all rounds together did.
#[derive(Debug, Default)]
struct Summary {
    rounds: u32,
    sent: u64,
    acknowledged: u64,
    read: u64,
    /// Result rows of the queries that were right.
    rows: u64,
    violations: Vec<String>,
}

/// Runs the rounds.
///
/// # Errors
/// A promise was broken, or the rounds could not be run.
pub fn command(mut args: Args) -> Outcome {
    let name: String = args.value("--mode")?.unwrap_or_else(|| "power".to_owned());
    let mode = Mode::parse(&name)?;
    let cuts = args.value("--cuts")?.unwrap_or(10);
    let program = args.value::<PathBuf>("--bin")?;
    let seed = args.value("--seed")?.unwrap_or_else(|| fastrand::u64(..));
    let as_json = args.flag("--json");
    let keep = args.flag("--keep");
    args.finish()?;
    if let Some(reason) = loopfs::unavailable().filter(|_| mode.needs_filesystem()) {
        if std::env::var_os("CI").is_some() {
            return Err(Failure::new(reason));
        }
        println!("skipped: {reason}");
        return Ok(());
    }
    let program = program::given_or_built(program)?;
    fastrand::seed(seed);
    println!("powercut: mode {name}, {cuts} rounds, seed {seed}");
    let mut work = tempfile::Builder::new()
        .prefix("forebay-powercut-")
        .tempdir()
        .during("temporary directory")?;
    work.disable_cleanup(keep);
    let started = Instant::now();
    let mut summary = Summary::default();
    let result = match mode {
        Mode::Flip => damage::flips(&program, &work, cuts, &mut summary),
        Mode::Enospc => full::enospc(&program, &work, cuts, &mut summary),
        Mode::Eio => full::eio(&program, &work, cuts, &mut summary),
        Mode::Power | Mode::Kill | Mode::View => {
            interruptions(mode, &program, &work, cuts, &mut summary)
        }
    };
    result?;
    report(&name, &summary, started.elapsed(), as_json);
    match summary.violations.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{count} violations, seed {seed}"))),
    }
}

fn report(mode: &str, summary: &Summary, took: Duration, as_json: bool) {
    for violation in &summary.violations {
        eprintln!("violation: {violation}");
    }
    if as_json {
        let value = json!({
            "mode": mode,
            "rounds": summary.rounds,
            "sent": summary.sent,
            "acknowledged": summary.acknowledged,
            "read": summary.read,
            "rows": summary.rows,
            "violations": summary.violations,
            "seconds": took.as_secs_f64(),
        });
        println!("{value}");
    } else {
        println!(
            "powercut {mode}: {} rounds, {} sent, {} acknowledged, {} read back, {} rows of queries, {} violations, {:.1} s",
            summary.rounds,
            summary.sent,
            summary.acknowledged,
            summary.read,
            summary.rows,
            summary.violations.len(),
            took.as_secs_f64()
        );
    }
}

/// Rounds on one data directory that is never replaced: each round finds what
/// all rounds before it left.
fn interruptions(
    mode: Mode,
    program: &std::path::Path,
    work: &TempDir,
    cuts: u32,
    summary: &mut Summary,
) -> Outcome {
    let mut spec = Spec::gateway(program, "node", work.path());
    let disk = match mode {
        Mode::Power => Some(LoopFs::create(work.path(), DISK_SIZE)?),
        _ => None,
    };
    if let Some(disk) = &disk {
        spec.data_dir = disk.path().join("data");
    }
    queries::configure(&mut spec)?;
    let mut writers = Writer::company(VALUE_SIZE);
    for round in 1..=cuts {
        let mut node = Node::start(&spec)?;
        prepare(&node)?;
        if round > 1 {
            check(&node, &writers, summary)?;
            queries::check(&node, summary)?;
        }
        let before = acknowledged(&writers);
        let moment = Duration::from_millis(fastrand::u64(30..900));
        under_load(&mut writers, &mut node, |node| {
            thread::sleep(moment);
            let cut = disk.as_ref().map_or(Ok(()), LoopFs::cut);
            node.kill();
            cut
        })?;
        if let Some(disk) = &disk {
            disk.remount()?;
        }
        let mut remark = String::new();
        if mode == Mode::View {
            remark = damage::view(&spec.data_dir)?;
        }
        summary.rounds += 1;
        println!(
            "round {round}: cut after {} ms, {} acknowledged, ready after {} ms, {} violations {remark}",
            moment.as_millis(),
            acknowledged(&writers) - before,
            node.ready_after.as_millis(),
            summary.violations.len(),
        );
        if !summary.violations.is_empty() {
            break;
        }
    }
    let mut node = Node::start(&spec)?;
    check(&node, &writers, summary)?;
    queries::check(&node, summary)?;
    let status = node.stop()?;
    if !status.success() {
        summary
            .violations
            .push(format!("the last stop by SIGTERM ended with {status}"));
    }
    summary.sent = writers.iter().map(|writer| writer.ledger().sent()).sum();
    summary.acknowledged = acknowledged(&writers);
    Ok(())
}

fn prepare(node: &Node) -> Outcome {
    let mut client = kafka::Client::connect(node.ports.kafka).during("Kafka connection")?;
    client.create_topic(TOPIC, 4).during(TOPIC)?;
    client.create_topic(MQTT_TOPIC, 2).during(MQTT_TOPIC)
}

/// Reads everything back and notes what is wrong.
fn check(node: &Node, writers: &[Writer], summary: &mut Summary) -> Outcome<Reading> {
    let reading = Reading::take(node.ports.kafka, &[TOPIC, MQTT_TOPIC], false)?;
    let found = reading.violations(writers.iter().map(Writer::ledger));
    // What one check found is found by the next one too.
    let fresh = found
        .into_iter()
        .filter(|violation| !summary.violations.contains(violation));
    let fresh: Vec<String> = fresh.collect();
    summary.violations.extend(fresh);
    summary.read = reading.count();
    let status = node.status()?;
    let alarms = status
        .pointer("/storage/alarms")
        .and_then(|alarms| alarms.as_array());
    if let Some(alarms) = alarms.filter(|alarms| !alarms.is_empty()) {
        summary
            .violations
            .push(format!("alarms after a clean cut: {alarms:?}"));
    }
    Ok(reading)
}

fn acknowledged(writers: &[Writer]) -> u64 {
    let counts = writers
        .iter()
        .map(|writer| writer.ledger().acknowledged.len());
    counts.sum::<usize>() as u64
}

/// Lets the writers write while `interrupt` runs; returns when all have ended.
/// Writers end when their connection fails; what failed is their business.
fn under_load<T>(
    writers: &mut [Writer],
    node: &mut Node,
    interrupt: impl FnOnce(&mut Node) -> Outcome<T>,
) -> Outcome<T> {
    let stop = AtomicBool::new(false);
    let ports = node.ports;
    thread::scope(|scope| {
        for writer in writers {
            scope.spawn(|| {
                // The connection is meant to fail; the ledger holds the rest.
                let _ = writer.drive(ports, &stop);
            });
        }
        let result = interrupt(node);
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Removes a directory that may not exist.
fn wipe(directory: &std::path::Path) -> Outcome {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(directory.display())
        }
        _ => Ok(()),
    }
}
