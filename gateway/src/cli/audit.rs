//! `forebay audit`: is everything that the gateway holds at the hub, once and
//! in order?
//!
//! Offsets are preserved on the way to the hub, so both logs are walked side
//! by side: the record at an offset must have the same lineage digest (offset,
//! timestamp, key, value) on both sides. What one side no longer keeps or the
//! hub does not have yet is told apart from what is missing.

mod compare;

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{CommandError, print_json, reach};
use crate::client::Client;
use crate::client::records::Walk;
use crate::client::topics::{PartitionSummary, TopicSummary};
use crate::config::names;
use compare::{Comparison, Side};

pub use compare::{Finding, FindingKind};

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay audit --gateway 127.0.0.1:9092 --hub hub:9092 --site press-shop-1
  forebay audit --gateway press-shop-1:9092 --hub hub:9092 --json

Exit code 1: there is a gap, a duplicate or a difference. Records that are not
yet at the hub are counted as pending, which is no finding.")]
pub struct AuditArgs {
    /// The Kafka address of the gateway
    #[arg(long, value_name = "HOST:PORT", value_parser = reach::parse_kafka)]
    gateway: reach::Address,
    /// The Kafka address of the hub
    #[arg(long, value_name = "HOST:PORT", value_parser = reach::parse_kafka)]
    hub: reach::Address,
    #[command(flatten)]
    reach: reach::ReachArgs,
    /// The site of the gateway; found by the hub's topic names when left out
    #[arg(long)]
    site: Option<String>,
    /// Only this topic of the gateway
    #[arg(long)]
    topic: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What an audit found.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// Whether there is neither a gap nor a duplicate nor a difference.
    pub clean: bool,
    /// Records compared.
    pub compared: u64,
    /// Records at the gateway that are not yet at the hub.
    pub pending: u64,
    /// Offsets that are missing.
    pub gaps: u64,
    /// Records that the hub has more than once, or more than the gateway.
    pub duplicates: u64,
    /// Offsets whose records differ.
    pub differences: u64,
    /// Each partition.
    pub partitions: Vec<PartitionAudit>,
    /// Topics of the gateway that the hub does not have.
    pub not_at_hub: Vec<String>,
}

/// What an audit found in one partition.
#[derive(Debug, Serialize)]
pub struct PartitionAudit {
    /// The topic at the gateway.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What both sides keep, compared.
    pub from: i64,
    /// The first offset that was not compared.
    pub to: i64,
    /// Records compared.
    pub compared: u64,
    /// Records at the gateway behind the hub's end.
    pub pending: u64,
    /// What is wrong, at most a hundred ranges.
    pub findings: Vec<Finding>,
}

/// Compares the two nodes.
///
/// # Errors
/// A node does not answer.
pub async fn execute(args: AuditArgs) -> Result<bool, CommandError> {
    let mut gateway = Client::connect(args.reach.endpoint(&args.gateway)).await?;
    let mut hub = Client::connect(args.reach.endpoint(&args.hub)).await?;
    let named = args.topic.as_deref().map(|topic| [topic]);
    let sources = gateway
        .topics(named.as_ref().map(<[&str; 1]>::as_slice))
        .await?;
    let copies = hub.topics(None).await?;
    let site = match args.site {
        Some(site) => site,
        None => find_site(&sources, &copies)?,
    };
    names::check_site(&site).map_err(|reason| CommandError::Usage(format!("--site: {reason}")))?;

    let mut audit = Audit::default();
    for source in &sources {
        let copy_name = format!("{site}.{}", source.name);
        let Some(copy) = copies.iter().find(|copy| copy.name == copy_name) else {
            audit.not_at_hub.push(source.name.clone());
            audit.pending += source
                .partitions
                .iter()
                .map(|p| u64::try_from(p.end - p.start).unwrap_or(0))
                .sum::<u64>();
            continue;
        };
        for &theirs in &source.partitions {
            let ours = copy
                .partitions
                .iter()
                .find(|p| p.partition == theirs.partition)
                .copied()
                .unwrap_or(PartitionSummary {
                    partition: theirs.partition,
                    start: 0,
                    end: 0,
                });
            let found = compare_partition(
                (&mut gateway, &source.name, theirs),
                (&mut hub, &copy_name, ours),
            )
            .await?;
            audit.add(found);
        }
    }
    audit.clean = audit.gaps + audit.duplicates + audit.differences == 0;
    if args.json {
        print_json(&audit)?;
    } else {
        print(&audit, &site)?;
    }
    Ok(audit.clean)
}

impl Audit {
    fn add(&mut self, found: PartitionAudit) {
        self.compared += found.compared;
        self.pending += found.pending;
        for finding in &found.findings {
            let total = match finding.kind {
                FindingKind::MissingAtHub | FindingKind::RecordedGap => &mut self.gaps,
                FindingKind::Duplicate | FindingKind::OnlyAtHub => &mut self.duplicates,
                FindingKind::Different => &mut self.differences,
            };
            *total += finding.records;
        }
        self.partitions.push(found);
    }
}

/// The one prefix under which the hub has topics of the gateway.
fn find_site(sources: &[TopicSummary], copies: &[TopicSummary]) -> Result<String, CommandError> {
    let mut sites: Vec<&str> = Vec::new();
    for copy in copies {
        for source in sources {
            let prefix = copy.name.strip_suffix(&source.name);
            if let Some(site) = prefix.and_then(|prefix| prefix.strip_suffix('.'))
                && !sites.contains(&site)
            {
                sites.push(site);
            }
        }
    }
    match sites.as_slice() {
        [site] => Ok((*site).to_owned()),
        [] => Err(CommandError::Usage(
            "the hub has no topic of this gateway; name its site with --site".to_owned(),
        )),
        several => Err(CommandError::Usage(format!(
            "the hub has topics of several sites ({}); choose one with --site",
            several.join(", ")
        ))),
    }
}

type Place<'a> = (&'a mut Client, &'a str, PartitionSummary);

async fn compare_partition(
    (gateway, topic, source): Place<'_>,
    (hub, copy_name, copy): Place<'_>,
) -> Result<PartitionAudit, CommandError> {
    let from = source.start.max(copy.start);
    let to = source.end.min(copy.end).max(from);
    let mut comparison = Comparison::new(from);
    // The hub's side is walked to its own end: what lies behind the gateway's
    // end is more than the gateway ever had.
    let mut sources = Walk::new(topic, source.partition, from, to);
    let mut copies = Walk::new(copy_name, copy.partition, from, copy.end.max(from));
    let mut left = sources.next(gateway).await?;
    let mut right = copies.next(hub).await?;
    loop {
        match (&left, &right) {
            (None, None) => break,
            (Some(source), Some(copy)) if source.offset == copy.offset => {
                comparison.pair(source, copy);
                left = sources.next(gateway).await?;
                right = copies.next(hub).await?;
            }
            (Some(source), Some(copy)) if source.offset < copy.offset => {
                comparison.lone(Side::Gateway, source);
                left = sources.next(gateway).await?;
            }
            (Some(source), None) => {
                comparison.lone(Side::Gateway, source);
                left = sources.next(gateway).await?;
            }
            (_, Some(copy)) => {
                comparison.lone(Side::Hub, copy);
                right = copies.next(hub).await?;
            }
        }
    }
    let (compared, findings) = comparison.finish(to);
    Ok(PartitionAudit {
        topic: topic.to_owned(),
        partition: source.partition,
        from,
        to,
        compared,
        pending: u64::try_from(source.end - copy.end.max(source.start)).unwrap_or(0),
        findings,
    })
}

fn print(audit: &Audit, site: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    for partition in &audit.partitions {
        writeln!(
            out,
            "{}/{} -> {site}.{}/{}: offsets {}..{}, {} compared, {} pending",
            partition.topic,
            partition.partition,
            partition.topic,
            partition.partition,
            partition.from,
            partition.to,
            partition.compared,
            partition.pending
        )?;
        for finding in &partition.findings {
            writeln!(out, "  {finding}")?;
        }
    }
    for topic in &audit.not_at_hub {
        writeln!(out, "{topic}: the hub has no {site}.{topic}")?;
    }
    writeln!(
        out,
        "{} compared, {} pending, {} gaps, {} duplicates, {} differences{}",
        audit.compared,
        audit.pending,
        audit.gaps,
        audit.duplicates,
        audit.differences,
        if audit.clean { ": clean" } else { "" }
    )?;
    Ok(())
}
