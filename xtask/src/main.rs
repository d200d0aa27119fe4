//! Entry point of `cargo xtask`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::cli::main(std::env::args().skip(1).collect())
}
