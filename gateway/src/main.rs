//! The entry point of the binary `forebay`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use forebay_gateway::cli::{self, Cli};

fn main() -> ExitCode {
    cli::execute(Cli::parse())
}
