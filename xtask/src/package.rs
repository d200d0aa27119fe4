//! `cargo xtask package`: a Debian package, and what its program promises.

pub mod binary;
pub mod deb;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::node::program;
use crate::tidy::repository;

pub use target::Target;

/// The text of `cargo xtask package --help`.
pub const HELP: &str = "\
Makes a Debian package of the program, after checking the program: position
independent, read-only relocations, no executable stack, no search path of its
own, no library beyond the C library's, a C library that Debian 12 has, and a
size that fits.

Usage: cargo xtask package [OPTIONS]

Options:
  --target NAME    amd64 (default), arm64 or armhf; the last two need cross/setup.sh
  --profile NAME   of cargo (default release, for boards `board`)
  --bin PATH       package this program instead of building one
  --version TEXT   of the package (default: that of Cargo.toml)
  --out DIR        where to put it (default target/packages)
  --check          check the program and make no package
  --any-size       for programs of a profile that is not shipped
";

/// Builds, checks and packages.
///
/// # Errors
/// The program does not build, breaks a promise, or cannot be packaged.
pub fn command(mut args: Args) -> Outcome {
    let target = args.value("--target")?.unwrap_or(Target::Amd64);
    let profile = args.value("--profile")?;
    let profile: String = profile.unwrap_or_else(|| target.profile().to_owned());
    let given = args.value::<PathBuf>("--bin")?;
    let version = args.value("--version")?;
    let out = args.value("--out")?;
    let only_check = args.flag("--check");
    let any_size = args.flag("--any-size");
    args.finish()?;
    let program = match given {
        Some(path) => path.canonicalize().during(path.display())?,
        None => build(target, &profile)?,
    };
    let work = tempfile::tempdir().during("temporary directory")?;
    let stripped = strip(target, &program, work.path())?;
    let size_max = if any_size {
        u64::MAX
    } else {
        target.size_max()
    };
    let properties = binary::check(target, &stripped, size_max)?;
    println!(
        "{target}: {} MB stripped, C library {} or newer",
        properties.size.div_ceil(1_000_000),
        properties.glibc
    );
    if only_check {
        return Ok(());
    }
    let package = deb::Package {
        target,
        program: stripped,
        glibc: properties.glibc,
        version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        packing: deb::SMALL,
    };
    let out = out.unwrap_or_else(|| repository().join("target/packages"));
    println!("{}", package.write(&out)?.display());
    Ok(())
}

/// Builds the program for `target`; returns where it lies.
///
/// # Errors
/// It does not compile, or cross/setup.sh has not run.
pub fn build(target: Target, profile: &str) -> Outcome<PathBuf> {
    let Some(triple) = target.cross_triple() else {
        return program::build(profile);
    };
    let status = Command::new(repository().join("cross/build.sh"))
        .arg(target.to_string())
        .env("PROFILE", profile)
        // It chooses its own compiler.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .status()
        .during("cross/build.sh")?;
    if !status.success() {
        return Err(Failure::new(format!("cross/build.sh: {status}")));
    }
    let target_directory = std::env::var_os("CARGO_TARGET_DIR");
    let target_directory =
        target_directory.map_or_else(|| repository().join("target"), PathBuf::from);
    let directory = match profile {
        "dev" => "debug",
        other => other,
    };
    Ok(target_directory
        .join(triple)
        .join(directory)
        .join("forebay"))
}

/// A copy of `program` without symbols.
///
/// # Errors
/// The tool for `target` is missing.
pub fn strip(target: Target, program: &Path, directory: &Path) -> Outcome<PathBuf> {
    let stripped = directory.join("forebay");
    fs::copy(program, &stripped).during(program.display())?;
    let tool = target.tool("strip");
    let status = Command::new(&tool)
        .arg(&stripped)
        .status()
        .during(format!("{tool} (binutils)"))?;
    if !status.success() {
        return Err(Failure::new(format!("{tool}: {status}")));
    }
    Ok(stripped)
}
