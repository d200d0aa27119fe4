//! `forebay uplink reset`: the operator's way out of a stopped link.
//!
//! It works on the data directory of a gateway that does not run, because the
//! uplink reads the cursor of a link once, at its start. The log itself is not
//! changed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use forebay_storage::disk::RealDisk;
use forebay_storage::{OpenError, Retention, Storage, WhenFull};
use forebay_uplink::{StoredLink, reset_link, stored_links};

use super::{CommandError, EXIT_FAILED, refuse};
use crate::config::{Config, Uplink};
use crate::roles;

/// What can be done with the uplink of a stopped gateway.
#[derive(Debug, Subcommand)]
pub enum UplinkCommand {
    /// Forget how far a link has come, so that it starts over
    #[command(after_help = "Examples:
  systemctl stop forebay
  forebay uplink reset --config /etc/forebay/gateway.toml vibration
  forebay uplink reset --config /etc/forebay/gateway.toml vibration/3
  systemctl start forebay

For a link that `forebay status` shows as stopped. The gateway must not run. No
record is removed here or at the hub. At its next start the link looks at the
topic at the hub: if it is empty, every record that is still stored here is
sent; if its newest record is one of this gateway, sending goes on behind it;
otherwise the link stops again. See docs/uplink.md, `When it stops`.")]
    Reset(ResetArgs),
}

/// Arguments of `uplink reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The TOML file of the gateway
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The topic as the gateway names it, and the partition; all of them when
    /// it is left out
    #[arg(value_name = "TOPIC[/PARTITION]", value_parser = parse_link)]
    link: (String, Option<u32>),
}

/// Runs the command to its end.
pub fn run(command: &UplinkCommand) -> ExitCode {
    let UplinkCommand::Reset(args) = command;
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match reset(&config, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn reset(config: &Config, args: &ResetArgs) -> Result<(), CommandError> {
    let Some(uplink) = &config.uplink else {
        let file = args.config.display();
        return Err(usage(format!("{file} has no [uplink]")));
    };
    let storage = open(config)?;
    let outcome = reset_in(&storage, uplink, &args.link);
    storage.close();
    tell(uplink, &outcome?)?;
    Ok(())
}

/// Opens the log of a gateway that does not run.
fn open(config: &Config) -> Result<Storage, CommandError> {
    let dir = config.node.data_dir.display();
    if !config.node.data_dir.is_dir() {
        return Err(usage(format!(
            "there is no data directory {dir}; is that the file of this gateway?"
        )));
    }
    let mut settings = roles::storage_config(config);
    // This is no occasion to remove records: retention is the gateway's, which
    // knows what is not yet delivered.
    settings.retention = Retention {
        time: None,
        size: None,
        keep_free: settings.retention.keep_free,
    };
    settings.when_full = WhenFull::Reject;
    match Storage::open(settings, Arc::new(RealDisk::new())) {
        Ok((storage, _)) => Ok(storage),
        Err(OpenError::Locked { .. }) => Err(usage(format!(
            "a running gateway holds {dir}; stop it first, for example with \
             `systemctl stop forebay`, because it reads how far a link has come only at its start"
        ))),
        Err(error) => Err(usage(format!("cannot open the log: {error}"))),
    }
}

fn reset_in(
    storage: &Storage,
    uplink: &Uplink,
    (topic, partition): &(String, Option<u32>),
) -> Result<Vec<StoredLink>, CommandError> {
    let links = stored_links(storage, &uplink.site);
    let known: Vec<String> = links.iter().map(name).collect();
    let is_meant =
        |link: &StoredLink| link.topic == *topic && partition.is_none_or(|n| n == link.partition);
    let meant: Vec<StoredLink> = links.into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        let wanted = match partition {
            Some(partition) => format!("{topic}/{partition}"),
            None => topic.clone(),
        };
        return Err(usage(match known.as_slice() {
            [] => format!("nothing to reset for {wanted}: no link has sent anything yet"),
            known => format!(
                "nothing to reset for {wanted}; the links are {}",
                known.join(", ")
            ),
        }));
    }
    for link in &meant {
        let ticket = reset_link(storage, &uplink.site, &link.topic, link.partition)
            .map_err(|error| usage(format!("cannot reset {}: {error}", name(link))))?;
        if !storage.wait(ticket) {
            return Err(usage(format!(
                "cannot reset {}: the disk failed",
                name(link)
            )));
        }
    }
    Ok(meant)
}

fn tell(uplink: &Uplink, links: &[StoredLink]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for link in links {
        let target = format!("{}.{}/{}", uplink.site, link.topic, link.partition);
        let progress = match link.acked {
            Some(acked) => format!("{target} had everything below offset {acked}"),
            None => "its state was unreadable".to_owned(),
        };
        writeln!(out, "reset {}: {progress}", name(link))?;
    }
    writeln!(
        out,
        "At the next start of the gateway: where the topic at the hub is empty, every record\n\
         still stored here is sent; where its newest record is one of this gateway, sending\n\
         goes on behind it; otherwise the link stops again and says why."
    )
}

fn name(link: &StoredLink) -> String {
    format!("{}/{}", link.topic, link.partition)
}

fn usage(sentence: String) -> CommandError {
    CommandError::Usage(sentence)
}

/// Parses `topic` or `topic/partition`; topic names hold no slash.
fn parse_link(text: &str) -> Result<(String, Option<u32>), String> {
    match text.split_once('/') {
        None => Ok((text.to_owned(), None)),
        Some((topic, number)) => match number.parse() {
            Ok(partition) => Ok((topic.to_owned(), Some(partition))),
            Err(_) => Err("expected a topic, or topic/partition such as vibration/3".to_owned()),
        },
    }
}
