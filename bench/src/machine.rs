//! What is measured, where, and with which settings.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use xtask::args::Args;
use xtask::failure::{During, Failure, Outcome};

use crate::figures::Report;

/// The program, unless another one is named.
const PROGRAM: &str = "target/release/forebay";

/// The settings of one run.
#[derive(Debug)]
pub struct Setting {
    /// The program.
    pub program: PathBuf,
    /// Rounds of each measurement.
    pub rounds: usize,
    /// Length of one measurement in seconds, if given.
    pub seconds: Option<u64>,
    /// MQTT publishes in flight per connection.
    pub window: usize,
    /// Sessions or subscribers, if given.
    pub sessions: Option<usize>,
    /// Publishes per second while latency is measured, if given.
    pub rate: Option<f64>,
    /// KiB of one Produce request.
    pub batch_kib: usize,
    /// MiB of the backlog.
    pub mib: u64,
    /// GiB of the large log.
    pub gib: u64,
    directory: Option<PathBuf>,
}

impl Setting {
    /// Reads the settings and whether JSON is wanted.
    pub fn from_args(mut args: Args) -> Outcome<(Self, bool)> {
        let program: Option<PathBuf> = args.value("--forebay")?;
        let setting = Self {
            program: program.unwrap_or_else(|| PROGRAM.into()),
            rounds: args.value("--rounds")?.unwrap_or(3),
            seconds: args.value("--seconds")?,
            window: args.value("--window")?.unwrap_or(16),
            sessions: args.value("--sessions")?,
            rate: args.value("--rate")?,
            batch_kib: args.value("--batch-kib")?.unwrap_or(256),
            mib: args.value("--mib")?.unwrap_or(256),
            gib: args.value("--gib")?.unwrap_or(1),
            directory: args.value("--dir")?,
        };
        let as_json = args.flag("--json");
        args.finish()?;
        if !setting.program.exists() {
            return Err(Failure::new(format!(
                "{} does not exist: `cargo build --release` makes it, --forebay PATH names another",
                setting.program.display()
            )));
        }
        Ok((setting, as_json))
    }

    /// A directory that is removed at the end.
    pub fn scratch(&self) -> Outcome<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("forebay-bench-");
        match &self.directory {
            Some(directory) => builder.tempdir_in(directory),
            None => builder.tempdir(),
        }
        .during("temporary directory")
    }
}

/// Adds the machine, the kernel, the filesystem and the program.
pub fn describe(setting: &Setting, report: &mut Report) -> Outcome {
    let scratch = setting.scratch()?;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report.fact(
        "machine",
        format!("{cores} cores, {}", model.unwrap_or("unknown")),
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.fact("kernel", kernel.trim());
    let mut filesystem = Command::new("findmnt");
    filesystem.args(["-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T"]);
    report.fact("filesystem", said(filesystem.arg(scratch.path())));
    report.fact("load average at the start", load_average());
    report.fact(
        "forebay",
        said(Command::new(&setting.program).arg("--version")),
    );
    report.fact("rounds", setting.rounds);
    Ok(())
}

/// Processes that ran or waited over the last 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let numbers: Vec<&str> = text.split_whitespace().take(3).collect();
    numbers.join(" ")
}

/// The first line that a command prints.
pub fn said(command: &mut Command) -> String {
    let output = command.output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().next().unwrap_or("unknown");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
