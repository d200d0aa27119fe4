//! What is measured, where, and with which settings.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use xtask::args::Args;
use xtask::failure::{During, Outcome};
use xtask::node::program;

use crate::figures::Report;

/// The settings of one run.
#[derive(Debug)]
pub struct Setting {
    /// The program.
    pub program: PathBuf,
    /// Rounds of each measurement.
    pub rounds: usize,
    /// Length of one measurement, if given.
    pub seconds: Option<u64>,
    /// Size of a backlog or log, if given.
    pub megabytes: Option<u64>,
    directory: Option<PathBuf>,
}

impl Setting {
    /// Reads the settings and whether JSON is wanted.
    pub fn from_args(mut args: Args) -> Outcome<(Self, bool)> {
        let given = args.value::<PathBuf>("--bin")?;
        let rounds = args.value("--rounds")?.unwrap_or(3);
        let seconds = args.value("--seconds")?;
        let megabytes = args.value("--megabytes")?;
        let directory = args.value("--dir")?;
        let as_json = args.flag("--json");
        args.finish()?;
        let program = match given {
            Some(path) => path,
            None => program::build("release")?,
        };
        let setting = Self {
            program,
            rounds,
            seconds,
            megabytes,
            directory,
        };
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
    report.fact(
        "filesystem",
        said(
            Command::new("stat")
                .args(["-f", "-c", "%T"])
                .arg(scratch.path()),
        ),
    );
    report.fact(
        "forebay",
        said(Command::new(&setting.program).arg("--version")),
    );
    report.fact("rounds", setting.rounds);
    Ok(())
}

/// The first line that a command prints.
pub fn said(command: &mut Command) -> String {
    let output = command.output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
