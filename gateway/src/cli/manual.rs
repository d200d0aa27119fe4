//! `forebay completions` and `forebay manual`: what packages install beside the
//! program, made from the definition of the command line.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CommandError};

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay completions bash > /usr/share/bash-completion/completions/forebay
  forebay completions zsh  > /usr/share/zsh/site-functions/_forebay
  forebay completions fish > ~/.config/fish/completions/forebay.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `manual`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  forebay manual --dir /usr/share/man/man1 && man forebay-query")]
pub struct ManualArgs {
    /// Where the pages go, one per command
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Prints a completion script.
///
/// # Errors
/// It cannot be printed.
pub async fn completions(args: CompletionsArgs) -> Result<bool, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "forebay", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(true)
}

/// Writes the manual pages.
///
/// # Errors
/// They cannot be written.
pub async fn manual(args: ManualArgs) -> Result<bool, CommandError> {
    let failed = |error: io::Error| CommandError::Usage(format!("{}: {error}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    // `help` of help is no page.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.dir).map_err(failed)?;
    Ok(true)
}
