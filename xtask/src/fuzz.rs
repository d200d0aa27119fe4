//! `cargo xtask fuzz`: builds the fuzz targets on stable and runs each.
//!
//! cargo-fuzz needs a nightly compiler for its sanitizer. Coverage alone does
//! not: LLVM's sancov pass is reachable through `-Cpasses`, and libFuzzer's
//! runtime comes with the `libfuzzer-sys` crate.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// The text of `cargo xtask fuzz --help`.
pub const HELP: &str = "\
Builds fuzz/ with coverage instrumentation on stable and runs its targets.

Usage: cargo xtask fuzz [--seconds N] [TARGET ...]

Options:
  --seconds N   time of each target (default 10)
";

/// What libFuzzer needs from the compiler.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Memory of one target in MiB; a claimed length that is believed exceeds it.
const MEMORY_MIB: u32 = 1024;

/// Runs the targets one after the other.
///
/// # Errors
/// The targets do not build, or one of them finds a crash.
pub fn command(mut args: Args) -> Outcome {
    let seconds: u32 = args.value("--seconds")?.unwrap_or(10);
    let wanted = args.names();
    args.finish()?;
    let fuzz = repository().join("fuzz");
    let targets = targets(&fuzz)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        return Err(Failure::new(format!(
            "unknown target {unknown:?}, expected one of {}",
            targets.join(", ")
        )));
    }
    let host = host()?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        // --target keeps the flags away from build scripts and macros.
        .args(["build", "--release", "--bins", "--target", &host])
        .arg("--target-dir")
        .arg(fuzz.join("target"))
        .current_dir(&fuzz)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .during("cargo build")?;
    if !status.success() {
        return Err(Failure::new("the fuzz targets do not build"));
    }
    let mut failed = Vec::new();
    let selected = |name: &&String| wanted.is_empty() || wanted.contains(name);
    for target in targets.iter().filter(selected) {
        println!("fuzz {target}: {seconds} s");
        if !run(&fuzz, &host, target, seconds)? {
            failed.push(target.clone());
        }
    }
    println!("fuzz: {} targets, {} failed", targets.len(), failed.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("crashes in {}", failed.join(", "))))
    }
}

fn run(fuzz: &Path, host: &str, target: &str, seconds: u32) -> Outcome<bool> {
    // What a run finds stays with the build; seeds in fuzz/corpus are only read.
    let corpus = fuzz.join("target/corpus").join(target);
    let artifacts = fuzz.join("target/artifacts").join(target);
    let seeds = Some(fuzz.join("corpus").join(target)).filter(|seeds| seeds.is_dir());
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).during(directory.display())?;
    }
    let binary = fuzz.join("target").join(host).join("release").join(target);
    let output = Command::new(&binary)
        .arg(&corpus)
        .args(seeds)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .output()
        .during(binary.display())?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let done = text
            .lines()
            .filter(|line| line.contains("number_of_executed_units"));
        done.for_each(|line| println!("  {}", line.trim()));
    } else {
        eprintln!("{text}");
    }
    Ok(output.status.success())
}

/// The names of the targets: one file each.
fn targets(fuzz: &Path) -> Outcome<Vec<String>> {
    let directory = fuzz.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).during(directory.display())? {
        let path = entry.during(directory.display())?.path();
        if path.extension().is_some_and(|ending| ending == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn host() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output().during("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc -vV names no host"))
}
