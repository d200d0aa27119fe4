//! `cargo xtask image`: the SD-card image, and a power cut on it in QEMU.

mod board;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::node::http;
use crate::package::{self, Target, deb};
use crate::powercut::Reading;
use crate::powercut::writer::MqttWriter;
use crate::tidy::repository;
use board::Board;

/// The text of `cargo xtask image --help`.
pub const HELP: &str = "\
Makes the SD-card image for Raspberry Pi with cross/image.sh, boots it in QEMU with
a configuration on its first partition, publishes from outside, cuts the power, boots
again and looks for what was acknowledged. Says how long each part takes: some 25
minutes in all the first time, a third of that with the base system kept.
Needs root and cross/setup.sh arm64 image.

Usage: cargo xtask image [OPTIONS]

Options:
  --bin PATH    the program for arm64 (default: built with profile board)
  --out IMG     the image (default target/image/forebay.img)
  --no-boot     make it and do not boot it
";

/// The name that the configuration on the card gives the node.
const NODE: &str = "card-test";

/// Readings before the power cut.
const READINGS: u64 = 200;

/// Emulated on a busy machine, a boot takes minutes.
const BOOT_LIMIT: Duration = Duration::from_secs(900);

/// The card of the test: larger than the image, so that it can grow.
const CARD_SIZE: u64 = 3 << 30;

/// What the grown data partition has at least: far above what it had before.
const GROWN_FREE_MIN: u64 = 1 << 30;

/// A publisher that was refused tries again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Makes the image and boots it.
///
/// # Errors
/// It cannot be made, does not boot, or loses a reading.
pub fn command(mut args: Args) -> Outcome {
    let given = args.value::<PathBuf>("--bin")?;
    let out = args.value("--out")?;
    let no_boot = args.flag("--no-boot");
    args.finish()?;
    let out: PathBuf = out.unwrap_or_else(|| repository().join("target/image/forebay.img"));
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).during(parent.display())?;
    }
    let started = Instant::now();
    let program = match given {
        Some(path) => path.canonicalize().during(path.display())?,
        None => package::build(Target::Arm64, Target::Arm64.profile())?,
    };
    tell("program", started);
    make(&program, &out)?;
    if no_boot {
        return Ok(());
    }
    power_cut(&out)
}

fn make(program: &Path, out: &Path) -> Outcome {
    let started = Instant::now();
    let work = tempfile::tempdir().during("temporary directory")?;
    let stripped = package::strip(Target::Arm64, program, work.path())?;
    let package = deb::Package {
        target: Target::Arm64,
        glibc: package::binary::glibc(Target::Arm64, &stripped)?,
        program: stripped,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        packing: deb::QUICK,
    };
    let package = package.write(work.path())?;
    let status = Command::new(repository().join("cross/image.sh"))
        .args([&package, out])
        .status()
        .during("cross/image.sh")?;
    if !status.success() {
        return Err(Failure::new(format!("cross/image.sh: {status}")));
    }
    tell("image", started);
    Ok(())
}

/// Boots a copy, writes, pulls the plug, boots again, reads.
fn power_cut(image: &Path) -> Outcome {
    let work = tempfile::tempdir().during("temporary directory")?;
    let card = board::Card::of(image, work.path(), CARD_SIZE)?;
    card.configure(NODE)?;
    let mut writer = MqttWriter::new(1, 1);

    let started = Instant::now();
    let board = Board::start(&card)?;
    reach(&board, board.http)?;
    tell("first boot", started);
    let (_, body) = http::get(board.http, "/api/v1/status").during("status")?;
    let status: serde_json::Value = serde_json::from_slice(&body).during("status")?;
    check_status(&status)?;
    let finished = writer.complete(board.mqtt, READINGS, Duration::ZERO);
    finished.during("publishing")?;
    drop(board);
    println!("ok     {READINGS} readings acknowledged; power cut");

    let started = Instant::now();
    let board = Board::start(&card)?;
    reach(&board, board.http)?;
    tell("second boot", started);
    let reading = Reading::take(board.kafka, &["readings"], false)?;
    let violations = reading.violations([writer.ledger()].into_iter());
    if !violations.is_empty() {
        return Err(Failure::new(violations.join("\n  ")));
    }
    println!("ok     {} readings after the power cut", reading.count());
    Ok(())
}

fn check_status(status: &serde_json::Value) -> Outcome {
    let text = status.to_string();
    if !text.contains(NODE) {
        return Err(Failure::new(format!(
            "the configuration of the card is not used: {text}"
        )));
    }
    let free = status
        .pointer("/storage/free_bytes")
        .and_then(|free| free.as_u64());
    if free.is_none_or(|free| free < GROWN_FREE_MIN) {
        return Err(Failure::new(format!(
            "the data partition has not grown: {free:?} bytes free"
        )));
    }
    println!("ok     configuration taken over, data partition grown");
    Ok(())
}

/// Waits until the node says that it is ready.
fn reach(board: &Board, address: SocketAddr) -> Outcome {
    let started = Instant::now();
    while !http::get(address, "/readyz").is_ok_and(|(status, _)| status == 200) {
        if started.elapsed() > BOOT_LIMIT {
            let console = board.console();
            return Err(Failure::new(format!(
                "not ready after {BOOT_LIMIT:?}; the console:\n{console}"
            )));
        }
        std::thread::sleep(RETRY);
    }
    Ok(())
}

fn tell(what: &str, since: Instant) {
    println!("ok     {what} ({:.0} s)", since.elapsed().as_secs_f64());
}
