//! Builds the program that is driven.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// Builds `forebay` with a cargo profile and returns the path of the binary.
///
/// # Errors
/// It does not compile.
pub fn build(profile: &str) -> Outcome<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["build", "--package", "forebay-gateway", "--bin", "forebay"])
        .args([
            "--profile",
            profile,
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()
        .during("cargo build")?;
    if !output.status.success() {
        return Err(Failure::new("cargo build failed"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = text.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.ok_or_else(|| Failure::new("cargo build named no executable"))
}

/// The program at `given`, or a fresh build with profile `ci`.
///
/// # Errors
/// The path does not exist, or the build failed.
pub fn given_or_built(given: Option<PathBuf>) -> Outcome<PathBuf> {
    match given {
        Some(path) => path.canonicalize().during(path.display()),
        None => build("ci"),
    }
}
