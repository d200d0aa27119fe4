//! `cargo xtask tidy`: the habits that a compiler does not check.
//!
//! Each check returns complaints, one sentence each with a file and where
//! possible a line. All of them run, so that one run shows everything. The same
//! checks run under `cargo test` (`xtask/tests/tidy.rs`).

mod attributes;
mod conformance;
mod edges;
mod licences;
mod shipped;
mod sizes;
mod tree;
mod words;

use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::failure::{Failure, Outcome};

pub use tree::Tree;

/// The text of `cargo xtask tidy --help`.
pub const HELP: &str = "\
Checks crate edges, file sizes against xtask/ratchet.txt, banned words,
licences of dependencies against deny.toml, attributes, shipped files and the
tests that docs/mqtt-conformance.md names.

Usage: cargo xtask tidy
";

/// Runs all checks and prints every complaint.
///
/// # Errors
/// At least one check complained, or the tree could not be read.
pub fn command(args: Args) -> Outcome {
    args.finish()?;
    let complaints = complaints(&repository())?;
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    match complaints.len() {
        0 => {
            println!("tidy: no complaints");
            Ok(())
        }
        count => Err(Failure::new(format!("{count} complaints"))),
    }
}

/// Runs all checks over the repository at `root`.
///
/// # Errors
/// The tree or `cargo metadata` could not be read.
pub fn complaints(root: &Path) -> Outcome<Vec<String>> {
    let tree = Tree::read(root)?;
    let metadata = edges::Metadata::read(root)?;
    let mut found = Vec::new();
    found.extend(edges::check(&metadata));
    found.extend(edges::check_async(&tree));
    found.extend(sizes::check(&tree));
    found.extend(words::check(&tree));
    found.extend(attributes::check(&tree));
    found.extend(shipped::check(&tree));
    found.extend(conformance::check(&tree, &crate::interop::names()));
    found.extend(licences::check(&metadata, &tree)?);
    Ok(found)
}

/// The root of the repository that this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
