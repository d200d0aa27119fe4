//! The command line: what can be asked, and how a failure is told.
//!
//! Every command ends in an [`ExitCode`] of `sysexits.h`, listed in
//! `docs/configuration.md`. Answers go to standard output, everything else to
//! standard error.

mod acl;
pub mod alerts;
pub mod audit;
pub mod cert;
pub mod functions;
mod http;
pub mod manual;
pub mod moment;
pub mod opcua;
pub mod probe;
pub mod query;
pub mod reach;
pub mod reload;
pub mod status;
pub mod support;
pub mod tail;
pub mod topic;
pub mod uplink;
pub mod user;

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::{ClientError, Endpoint, Token};
use crate::config::{Config, ConfigError};
use crate::{demo, roles};

/// A client command failed, or an audit found a difference.
pub const EXIT_FAILED: u8 = 1;
/// The command line, or the SQL that it names, holds mistakes.
pub const EXIT_USAGE: u8 = 2;
/// A port cannot be listened on (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The disk or the data directory failed (`EX_IOERR`).
pub const EXIT_IO: u8 = 74;
/// The configuration holds mistakes (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// Takes sensor traffic in, never loses what it acknowledged, passes it on.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    after_help = "Examples:
  forebay demo                                   see it work, no configuration needed
  forebay check --config /etc/forebay/gateway.toml
  forebay run --config /etc/forebay/gateway.toml
  forebay tail vibration --from earliest --follow
  forebay query bearing.sql --from 7d            try a rule on last week's records
  forebay status"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway or a hub, whichever the file says, until SIGTERM
    #[command(after_help = "Example:
  forebay run --config /etc/forebay/gateway.toml

The file is checked before a port is bound; mistakes end with exit code 78.
SIGTERM and SIGINT stop it: it commits what it took in and exits with 0.")]
    Run(RunArgs),
    /// Check a config file and print every mistake at once
    #[command(after_help = "Example:
  forebay check --config gateway.toml && systemctl reload-or-restart forebay

Exit code 0: the file is fine. 78: it holds mistakes, all of them printed with
file, line, key, value and what was expected.")]
    Check(FileArgs),
    /// Start a hub, a gateway and simulated sensors, cut the link, audit
    #[command(after_help = "Examples:
  forebay demo                       watch it live, Ctrl-C for the audit
  forebay demo --seconds 30 --json   for a script: the audit as JSON")]
    Demo(DemoArgs),
    /// List, describe, create, delete or alter topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Print the records of a topic
    Tail(tail::TailArgs),
    /// Show what a running node does: disk, topics, uplink, buffer hours
    Status(status::StatusArgs),
    /// Let a running node read its config file again
    Reload(reload::ReloadArgs),
    /// List the alerts that are active, or acknowledge one
    Alerts(alerts::AlertsArgs),
    /// Try a query on what the log of a running node holds
    Query(query::QueryArgs),
    /// List the functions of SQL, or tell all about one
    Functions(functions::FunctionsArgs),
    /// Compare a gateway's topics with their copies at the hub
    Audit(audit::AuditArgs),
    /// Look at a machine before it is configured
    #[command(subcommand)]
    Probe(probe::ProbeCommand),
    /// List the certificates of OPC UA, or trust a server
    #[command(subcommand)]
    Opcua(opcua::OpcUaCommand),
    /// Add, change, list or remove users and their tokens
    #[command(subcommand)]
    User(user::UserCommand),
    /// List, allow or deny what users may do as Kafka clients
    #[command(subcommand)]
    Acl(acl::AclCommand),
    /// Make certificates for this node and its clients
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Collect what somebody who helps wants to see, without secrets
    SupportBundle(support::SupportArgs),
    /// Print a completion script for a shell
    Completions(manual::CompletionsArgs),
    /// Write the manual pages
    Manual(manual::ManualArgs),
    /// Start a stopped link to the hub over
    #[command(subcommand)]
    Uplink(uplink::UplinkCommand),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The TOML file; `config/gateway.toml` documents every key
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Stop as by SIGTERM when standard input closes, for a parent that may
    /// die, such as a test or the demo
    #[arg(long)]
    stop_on_stdin_close: bool,
}

/// How long the demo runs, where, and what it prints.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// End after this many seconds; without it, Ctrl-C ends it
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Print nothing but the audit, as JSON
    #[arg(long)]
    pub json: bool,
    /// Keep the data here instead of in a scratch directory that is removed
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Which node a client command talks to.
#[derive(Debug, Clone, Args)]
pub struct BootstrapArgs {
    /// The Kafka address of the node
    #[arg(long, short, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = reach::parse_kafka)]
    bootstrap: reach::Address,
    #[command(flatten)]
    reach: reach::ReachArgs,
}

impl BootstrapArgs {
    /// Where and how to connect.
    pub fn endpoint(&self) -> Endpoint {
        self.reach.endpoint(&self.bootstrap)
    }
}

/// Which node a command asks over HTTP.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// The HTTP address of the node
    #[arg(long, value_name = "HOST:PORT", global = true, default_value = "127.0.0.1:8080", value_parser = reach::parse_http)]
    http: reach::Address,
    /// The first line of this file is a token of `forebay user token`
    #[arg(long, value_name = "FILE", global = true, value_parser = token_of)]
    token_file: Option<Token>,
    #[command(flatten)]
    reach: reach::ReachArgs,
}

/// Reads a token from a file.
fn token_of(path: &str) -> Result<Token, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let line = text.lines().next().unwrap_or_default().trim();
    let is_token = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
    let token = is_token.then(|| Token(line.into()));
    token.ok_or_else(|| "expected a token in its first line".to_owned())
}

impl HttpArgs {
    /// Where and how to connect.
    pub fn endpoint(&self) -> Endpoint {
        let token = self.token_file.as_ref();
        Endpoint {
            token: token.cloned(),
            ..self.reach.endpoint(&self.http)
        }
    }
}

/// Why a command failed, in a sentence.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The node did not answer, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer could not be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// Anything that is the caller's to mend.
    #[error("{0}")]
    Usage(String),
    /// A mistake in a text of SQL, shown with its place.
    #[error("{0}")]
    Sql(String),
}

/// Runs one command to its end.
#[must_use]
pub fn execute(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => run(&args),
        Command::Check(args) => check(&args.config),
        Command::Demo(args) => demo::run(&args),
        Command::Acl(command) => client_command(acl::execute(command)),
        Command::Topic(command) => client_command(topic::execute(command)),
        Command::Tail(args) => client_command(tail::execute(args)),
        Command::Status(args) => client_command(status::execute(args)),
        Command::Reload(args) => client_command(reload::execute(args)),
        Command::Alerts(args) => client_command(alerts::execute(args)),
        Command::Query(args) => client_command(query::execute(args)),
        Command::Functions(args) => client_command(functions::execute(args)),
        Command::Audit(args) => client_command(audit::execute(args)),
        Command::Probe(command) => client_command(probe::execute(command)),
        Command::Opcua(command) => client_command(opcua::execute(command)),
        Command::SupportBundle(args) => client_command(support::execute(args)),
        Command::Completions(args) => client_command(manual::completions(args)),
        Command::Manual(args) => client_command(manual::manual(args)),
        Command::User(command) => client_command(user::execute(command)),
        Command::Cert(command) => client_command(cert::execute(command)),
        Command::Uplink(command) => uplink::run(&command),
    }
}

fn run(args: &RunArgs) -> ExitCode {
    match Config::load(&args.file.config) {
        Ok(config) => roles::run(&config, &args.file.config, args.stop_on_stdin_close),
        Err(error) => refuse(&error),
    }
}

fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            let uplink = match &config.uplink {
                Some(uplink) => format!(", uplink to {}", uplink.bootstrap[0]),
                None => String::new(),
            };
            let queries = match config.queries.len() {
                0 => String::new(),
                1 => ", 1 query".to_owned(),
                several => format!(", {several} queries"),
            };
            print_line(format_args!(
                "{} is fine: {} {}, {}{queries}{uplink}",
                file.display(),
                config.node.role,
                config.node.name,
                match config.routes.len() {
                    1 => "1 route".to_owned(),
                    routes => format!("{routes} routes"),
                },
            ))
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(EXIT_CONFIG)
}

/// Runs a client command on a runtime of one thread. `Ok(false)` is an answer
/// that a script should notice, such as an audit with a difference.
fn client_command(command: impl Future<Output = Result<bool, CommandError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("forebay: cannot start: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match runtime.block_on(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        // A reader that had enough, as in `forebay tail x | head`.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CommandError::Sql(mistake)) => {
            eprintln!("{mistake}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn print_line(line: fmt::Arguments<'_>) -> ExitCode {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
