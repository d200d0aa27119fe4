//! Which command runs, and its exit code.

use std::process::ExitCode;

use crate::args::Args;
use crate::failure::{Failure, Outcome};
use crate::{bench, containers, fuzz, image, interop, package, powercut, service, tidy};

const HELP: &str = "\
Developer commands of Forebay.

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  interop     drive the built program with real MQTT and Kafka peers
  powercut    cut power, kill, damage and fill disks under load
  fuzz        run the fuzz targets for a bounded time
  package     make a Debian package and check its program
  service     run the package under systemd: start, kill, hang, upgrade, purge
  containers  check the image, the manifests and the chart
  image       make the SD-card image and cut its power in QEMU
  bench       score and time the analytic functions
  tidy        check crate edges, file sizes, words, licences and attributes
";

/// EX_USAGE of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// Runs the command that `words` name.
#[must_use]
pub fn main(mut words: Vec<String>) -> ExitCode {
    if words.is_empty() {
        print!("{HELP}");
        return ExitCode::from(EXIT_USAGE);
    }
    let command = words.remove(0);
    let result = match command.as_str() {
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            Ok(())
        }
        "interop" => with_help(words, interop::HELP, interop::command),
        "powercut" => with_help(words, powercut::HELP, powercut::command),
        "fuzz" => with_help(words, fuzz::HELP, fuzz::command),
        "package" => with_help(words, package::HELP, package::command),
        "service" => with_help(words, service::HELP, service::command),
        "containers" => with_help(words, containers::HELP, containers::command),
        "image" => with_help(words, image::HELP, image::command),
        "bench" => with_help(words, bench::HELP, bench::command),
        "tidy" => with_help(words, tidy::HELP, tidy::command),
        other => Err(Failure::new(format!(
            "unknown command {other:?}; see cargo xtask --help"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {command}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn with_help(words: Vec<String>, help: &str, run: fn(Args) -> Outcome) -> Outcome {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{help}");
        return Ok(());
    }
    run(Args::new(words))
}
