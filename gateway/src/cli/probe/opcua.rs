//! `forebay probe opcua`: what a server offers and which nodes it has, ready to
//! paste into the configuration.

mod listing;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use forebay_opcua::batch;
use forebay_opcua::client::OpenError;
use forebay_opcua::deadband::Deadband;
use forebay_opcua::pattern::Pattern;
use forebay_opcua::probe::{self, ProbeError};
use forebay_opcua::sample::Timestamp;
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::settings::{Identity, Sampling, Settings, Url};

use super::modbus::parse_duration;
use crate::cli::opcua::hand_over;
use crate::cli::{CommandError, print_json};
use crate::config::{Config, defaults};
use crate::opcua::plan::{at_home, pki_dir};

/// Which server, and what of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay probe opcua opc.tcp://10.0.0.9:4840
  forebay probe opcua opc.tcp://10.0.0.9:4840 --browse Objects/Line1
  forebay probe opcua opc.tcp://10.0.0.9 --browse 'Objects/*/Speed' --json
  forebay probe opcua opc.tcp://10.0.0.9 --browse Objects --config /etc/forebay/forebay.toml

Without --browse nobody logs in: the server says what it offers to anybody. With
--browse and without --config the nodes are read anonymously and without
protection. With --config it goes as the gateway would: with its certificate, its
trust list, and the security and identity of the [[opcua]] section of this
endpoint, if there is one. Exit code 0: the server answered. 1: it did not.")]
pub struct OpcUaArgs {
    /// opc.tcp://HOST[:4840][/PATH]
    #[arg(value_parser = parse_url)]
    endpoint: Url,
    /// List the nodes of this browse path, such as Objects/Line1 or Objects/*/Speed
    #[arg(long, short, value_name = "PATH", value_parser = parse_pattern)]
    browse: Option<Pattern>,
    /// The gateway's TOML file, to go as the gateway would
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Nodes at most
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_nodes: u32,
    /// How long one answer may take
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The server does not answer, does not let us in, or is not trusted.
pub async fn execute(args: OpcUaArgs) -> Result<bool, CommandError> {
    let scratch = Scratch::new();
    let Some(file) = &args.config else {
        return look(&args, settings(&args, &scratch.dir)).await;
    };
    let config = Config::load(file).map_err(|error| CommandError::Usage(error.to_string()))?;
    let answered = look(&args, configured(&args, &config, file)).await;
    hand_over(&config.node.data_dir)?;
    answered
}

async fn look(args: &OpcUaArgs, mut settings: Settings) -> Result<bool, CommandError> {
    let offers = probe::offers(&settings)
        .await
        .map_err(|error| explain(&error.into(), args))?;
    let is_open = offers
        .endpoints
        .iter()
        .any(|offer| offer.is_spoken && offer.policy == Policy::None.name());
    let listing = match &args.browse {
        None => None,
        Some(_) if args.config.is_none() && !is_open => {
            return Err(CommandError::Usage(
                "the server has no endpoint without protection: expected --config, to go with the gateway's certificate".to_owned(),
            ));
        }
        Some(pattern) => {
            settings.browse = vec![pattern.clone()];
            let listing = probe::nodes(settings.clone()).await;
            Some(listing.map_err(|error| explain(&error, args))?)
        }
    };
    if args.json {
        print_json(&listing::json(&args.endpoint, &offers, listing.as_ref()))?;
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    out.write_all(listing::offers(&offers).as_bytes())?;
    match listing {
        Some(listing) => {
            let text = listing::nodes(&args.endpoint, &settings, &listing);
            out.write_all(text.as_bytes())?;
        }
        None => writeln!(out, "\n--browse Objects lists nodes.")?,
    }
    Ok(true)
}

/// Settings of a guest: nobody, without protection.
fn settings(args: &OpcUaArgs, pki: &Path) -> Settings {
    Settings {
        name: "forebay probe".to_owned(),
        url: args.endpoint.clone(),
        security: Security::Exactly(Policy::None, Mode::None),
        check_hostname: true,
        identity: Identity::Anonymous,
        publishing_interval: defaults::OPCUA_PUBLISHING_INTERVAL,
        keep_alive: defaults::OPCUA_KEEP_ALIVE,
        request_timeout: args.timeout,
        session_timeout: defaults::OPCUA_SESSION_TIMEOUT,
        batch: batch::SIZE,
        timestamp: Timestamp::Source,
        nodes: Vec::new(),
        browse: Vec::new(),
        exclude: Vec::new(),
        max_nodes: usize::try_from(args.max_nodes).unwrap_or(usize::MAX),
        max_depth: usize::try_from(defaults::OPCUA_DEPTH_MAX).unwrap_or(usize::MAX),
        sampling: Sampling {
            interval: None,
            queue_size: 1,
            deadband: Deadband::None,
        },
        server_deadband: false,
        pki: pki.to_path_buf(),
    }
}

/// Settings as the gateway has them for this endpoint.
fn configured(args: &OpcUaArgs, config: &Config, file: &Path) -> Settings {
    let guest = settings(args, &pki_dir(&config.node.data_dir));
    let section = config
        .opcua
        .iter()
        .find(|section| section.settings.url == args.endpoint);
    let Some(section) = section else {
        return Settings {
            security: Security::Auto { allow_none: true },
            ..guest
        };
    };
    let directory = file.parent().unwrap_or(Path::new(""));
    Settings {
        security: section.settings.security,
        check_hostname: section.settings.check_hostname,
        identity: at_home(&section.settings.identity, directory),
        ..guest
    }
}

/// A folder for a certificate that nobody needs afterwards.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let name = format!("forebay-probe-{:016x}", fastrand::u64(..));
        Self {
            dir: std::env::temp_dir().join(name),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // With --config it was never made.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// An error with what to try.
fn explain(error: &ProbeError, args: &OpcUaArgs) -> CommandError {
    let hint = match error {
        ProbeError::Open(OpenError::Certificate { fingerprint, .. }) => match &args.config {
            Some(file) => format!(
                "\nif it is the right one: forebay opcua trust {} --config {}",
                &fingerprint[..16],
                file.display()
            ),
            None => String::new(),
        },
        ProbeError::Open(OpenError::Silent(_) | OpenError::Endpoints(_)) => {
            "; check host and port, or try a longer --timeout".to_owned()
        }
        ProbeError::Session("BadSecurityChecksFailed" | "BadCertificateUntrusted") => {
            "; the server does not trust the gateway: `forebay opcua certificates` names the file to give to it".to_owned()
        }
        ProbeError::Session("BadIdentityTokenRejected" | "BadUserAccessDenied" | "BadIdentityTokenInvalid") => {
            "; the server wants a user: expected --config with an [[opcua]] section of this endpoint that has an identity".to_owned()
        }
        _ => String::new(),
    };
    CommandError::Usage(format!("{}: {error}{hint}", args.endpoint.as_str()))
}

fn parse_url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| error.to_string())
}

/// A pattern; one without wildcards means everything below, too.
fn parse_pattern(text: &str) -> Result<Pattern, String> {
    let text = text.trim_end_matches('/');
    let is_plain = !text.contains(['*', '?']);
    let whole = if is_plain {
        format!("{text}/**")
    } else {
        text.to_owned()
    };
    Pattern::parse(&whole).map_err(|error| error.to_string())
}
