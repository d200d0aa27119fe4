//! `forebay topic`.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{BootstrapArgs, CommandError, print_json};
use crate::client::Client;
use crate::client::topics::{TopicSetting, TopicSummary};

/// What can be done with topics.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  forebay topic list
  forebay topic create alerts --partitions 2 --set retention.ms=86400000
  forebay topic alter alerts --partitions 4 --set retention.ms=3600000 --unset segment.bytes
  forebay topic describe alerts
  forebay topic delete alerts --bootstrap hub:9092")]
pub enum TopicCommand {
    /// List all topics with their partitions and records
    List(ListArgs),
    /// Show the offsets and the settings of one topic
    Describe(DescribeArgs),
    /// Create a topic
    Create(CreateArgs),
    /// Delete a topic and its records
    Delete(DeleteArgs),
    /// Change settings of a topic or add partitions
    Alter(AlterArgs),
}

/// Arguments of `topic list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    node: BootstrapArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `topic describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    node: BootstrapArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `topic create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    node: BootstrapArgs,
    /// How many partitions; records of one key stay in one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// A setting by its Kafka name, such as retention.ms=86400000
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

/// Arguments of `topic delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    node: BootstrapArgs,
}

/// Arguments of `topic alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    node: BootstrapArgs,
    /// The new number of partitions; it can only grow
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting by its Kafka name, such as retention.ms=86400000
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// A setting to bring back to its default
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Description {
    #[serde(flatten)]
    topic: TopicSummary,
    settings: Vec<TopicSetting>,
}

/// Runs one topic command.
///
/// # Errors
/// The node does not answer or refuses.
pub async fn execute(command: TopicCommand) -> Result<bool, CommandError> {
    match command {
        TopicCommand::List(args) => list(args).await,
        TopicCommand::Describe(args) => describe(args).await,
        TopicCommand::Create(args) => {
            let mut client = Client::connect(args.node.endpoint()).await?;
            client
                .create_topic(&args.topic, args.partitions, &args.set)
                .await?;
            writeln!(
                io::stdout(),
                "created {} with {}",
                args.topic,
                count(i64::from(args.partitions), "partition")
            )?;
            Ok(true)
        }
        TopicCommand::Delete(args) => {
            let mut client = Client::connect(args.node.endpoint()).await?;
            client.delete_topic(&args.topic).await?;
            writeln!(io::stdout(), "deleted {}", args.topic)?;
            Ok(true)
        }
        TopicCommand::Alter(args) => alter(args).await,
    }
}

async fn list(args: ListArgs) -> Result<bool, CommandError> {
    let mut client = Client::connect(args.node.endpoint()).await?;
    let topics = client.topics(None).await?;
    if args.json {
        print_json(&topics)?;
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    if topics.is_empty() {
        writeln!(out, "{} has no topics", client.address())?;
    }
    let width = topics
        .iter()
        .map(|topic| topic.name.len())
        .max()
        .unwrap_or(0);
    for topic in &topics {
        let records: i64 = topic.partitions.iter().map(|p| p.end - p.start).sum();
        writeln!(
            out,
            "{:width$}  {:>14}  {}",
            topic.name,
            count(topic.partitions.len() as i64, "partition"),
            count(records, "record"),
        )?;
    }
    Ok(true)
}

async fn describe(args: DescribeArgs) -> Result<bool, CommandError> {
    let mut client = Client::connect(args.node.endpoint()).await?;
    let topic = client
        .topics(Some(&[&args.topic]))
        .await?
        .pop()
        .ok_or_else(|| CommandError::Usage(format!("there is no topic {}", args.topic)))?;
    let settings = client.topic_settings(&args.topic).await?;
    if args.json {
        print_json(&Description { topic, settings })?;
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}", topic.name)?;
    writeln!(out, "  partition         start           end       records")?;
    for p in &topic.partitions {
        writeln!(
            out,
            "  {:>9}  {:>12}  {:>12}  {:>12}",
            p.partition,
            p.start,
            p.end,
            p.end - p.start
        )?;
    }
    for setting in &settings {
        writeln!(
            out,
            "  {} = {}{}",
            setting.name,
            setting.value.as_deref().unwrap_or("(none)"),
            if setting.own { "" } else { "  (default)" }
        )?;
    }
    Ok(true)
}

async fn alter(args: AlterArgs) -> Result<bool, CommandError> {
    if args.partitions.is_none() && args.set.is_empty() && args.unset.is_empty() {
        return Err(CommandError::Usage(
            "nothing to alter: give --partitions, --set or --unset".to_owned(),
        ));
    }
    let mut client = Client::connect(args.node.endpoint()).await?;
    let mut settings: Vec<(String, Option<String>)> = Vec::new();
    settings.extend(
        args.set
            .into_iter()
            .map(|(name, value)| (name, Some(value))),
    );
    settings.extend(args.unset.into_iter().map(|name| (name, None)));
    if !settings.is_empty() {
        client.alter_topic(&args.topic, &settings).await?;
    }
    if let Some(total) = args.partitions {
        client.add_partitions(&args.topic, total).await?;
    }
    writeln!(io::stdout(), "altered {}", args.topic)?;
    Ok(true)
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE, such as retention.ms=86400000".to_owned())
}

fn count(number: i64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
