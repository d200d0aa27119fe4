//! `forebay query`: a query over what the log holds, to try a rule on history.
//!
//! Records come over the Kafka protocol, so gateway and hub answer alike. They
//! are handed in as a running query got them: merged by record time, and
//! silence is taken for silence where it was one.

mod mistake;
mod printing;
mod progress;
mod reading;
mod zone;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use forebay_analytics::bind;
use forebay_analytics::decode;
use forebay_analytics::plan::{self, Plan};
use forebay_analytics::query::{Advance, MEMORY_BYTES, Output, Query};

use super::{BootstrapArgs, CommandError, moment};
use crate::client::Client;
use crate::config::{defaults, quantity};
use crate::queries::path_of;
use printing::{Printer, Style};
use progress::Progress;
use reading::{Bound, Portion, Reading};

/// A longer file is no query; the engine takes less.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `query`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay query bearing.sql --from 7d              last week, as a table
  forebay query bearing.sql --from 2026-11-16 --to 2026-11-23 --csv > week.csv
  forebay query 'SELECT path, max(value) FROM TUMBLE(\"plant/#\", INTERVAL '\\''1 h'\\'') GROUP BY path'
  forebay query bearing.sql --explain              what it would do, without a node

Rows go to standard output, progress and a summary to standard error, alerts too
unless --json prints them as objects with \"alert\". The log is not changed.
Exit code 2: the SQL holds a mistake, shown with its place.")]
pub struct QueryArgs {
    /// A file with SQL, the SQL itself, or - for standard input
    #[arg(value_name = "FILE|SQL")]
    query: String,
    #[command(flatten)]
    node: BootstrapArgs,
    /// earliest, latest, a time (RFC 3339), a duration ago (7d), or an offset if
    /// the query reads one topic
    #[arg(long, default_value = "earliest")]
    from: String,
    /// Where to end, as --from; what comes while the query runs is not read
    #[arg(long, default_value = "latest")]
    to: String,
    /// Print rows and alerts as JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Print rows as CSV with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print the plan with the memory that its state takes, and end
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    explain: bool,
    /// What the query's state may take
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<usize>,
}

/// The text of a query and what it is called.
struct Text {
    sql: String,
    /// What stands before line and column of a mistake.
    shown: String,
    /// The name in alerts, if the text gives none.
    name: String,
}

/// Runs a query over the stored log.
///
/// # Errors
/// The SQL holds a mistake, a topic that it names does not exist, or the node
/// does not answer.
pub async fn execute(args: QueryArgs) -> Result<bool, CommandError> {
    let text = text(&args.query)?;
    let mut plan = bind::plan(&text.sql)
        .map_err(|error| CommandError::Sql(mistake::show(&text.shown, &text.sql, &error)))?;
    if args.explain {
        let plan = plan::explain(&plan);
        std::io::Write::write_all(&mut std::io::stdout().lock(), plan.as_bytes())?;
        return Ok(true);
    }
    let from = bound("--from", &args.from)?;
    let to = bound("--to", &args.to)?;
    let client = Client::connect(args.node.endpoint()).await?;
    let reading = Reading::open(client, &mut plan, from, to).await?;
    let name = plan.name.clone().unwrap_or(text.name);
    let style = match (args.json, args.csv) {
        (true, _) => Style::Json,
        (_, true) => Style::Csv,
        _ => Style::Table,
    };
    let printer = Printer::new(&plan, name, style, zone::local());
    run(plan, args.memory.unwrap_or(MEMORY_BYTES), reading, printer).await?;
    Ok(true)
}

async fn run(
    plan: Plan,
    memory: usize,
    mut reading: Reading,
    mut printer: Printer,
) -> Result<(), CommandError> {
    let mut query = Query::from_plan(plan, memory);
    let mut progress = Progress::new();
    reading.set_step_ms(query.idle_after_ms() / 2);
    while let Some(portion) = reading.next().await? {
        // The gateway was told of a silence before the record that ended it.
        for advance in query.silent(portion.now_ms) {
            let output = query.advance(&advance);
            take(&output, &mut printer, &mut progress)?;
        }
        let output = hand_in(&mut query, &portion, &reading);
        take(&output, &mut printer, &mut progress)?;
        progress.show(&reading);
    }
    // What ends later than the newest row lacks what would still have come.
    printer.mark_open(query.newest_ms());
    let output = query.advance(&Advance::End);
    take(&output, &mut printer, &mut progress)?;
    printer.finish()?;
    progress.summary(&reading, &query, printer.told());
    Ok(())
}

fn take(
    output: &Output,
    printer: &mut Printer,
    progress: &mut Progress,
) -> Result<(), CommandError> {
    if !output.rows.is_empty() || !output.alerts.is_empty() {
        progress.clear();
        printer.take(output)?;
    }
    Ok(())
}

/// Hands a portion to the query, in one call.
fn hand_in(query: &mut Query, portion: &Portion, reading: &Reading) -> Output {
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    let mut own = Vec::with_capacity(portion.records.len());
    for (_, record) in &portion.records {
        let start = headers.len();
        headers.extend(record.headers.iter().filter_map(|header| {
            let name = std::str::from_utf8(&header.key).ok()?;
            Some((name, header.value.as_deref()?))
        }));
        own.push(start..headers.len());
    }
    let records: Vec<decode::Record<'_>> = portion
        .records
        .iter()
        .zip(own)
        .map(|((feed, record), own)| decode::Record {
            topic: reading.topic(*feed),
            partition: reading.partition(*feed),
            offset: record.offset,
            timestamp_ms: record.timestamp,
            path: path_of(record).unwrap_or_default(),
            headers: &headers[own],
            payload: record.value.as_deref().unwrap_or_default(),
        })
        .collect();
    query.push(&records)
}

/// What the argument means: a file that exists, standard input, or SQL.
fn text(argument: &str) -> Result<Text, CommandError> {
    let file = Path::new(argument);
    if argument != "-" && !file.is_file() {
        // No file has a name of several words and is missing by a typo.
        if !argument.trim().contains(char::is_whitespace) {
            let sentence = format!("there is no file {argument}, and it is no SQL");
            return Err(CommandError::Usage(sentence));
        }
        return Ok(Text {
            sql: argument.to_owned(),
            shown: "query".to_owned(),
            name: "query".to_owned(),
        });
    }
    let (shown, source): (String, Box<dyn Read>) = match argument {
        "-" => ("stdin".to_owned(), Box::new(std::io::stdin())),
        _ => {
            let opened = std::fs::File::open(file);
            let opened = opened.map_err(|error| unreadable(argument, &error))?;
            (argument.to_owned(), Box::new(opened))
        }
    };
    let mut sql = String::new();
    source
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut sql)
        .map_err(|error| unreadable(&shown, &error))?;
    let stem = PathBuf::from(&shown);
    let stem = stem.file_stem().and_then(|stem| stem.to_str());
    Ok(Text {
        name: stem.unwrap_or("query").to_owned(),
        sql,
        shown,
    })
}

fn unreadable(file: &str, error: &std::io::Error) -> CommandError {
    CommandError::Usage(format!("cannot read {file}: {error}"))
}

fn bound(option: &str, text: &str) -> Result<Bound, CommandError> {
    match text {
        "earliest" => return Ok(Bound::Earliest),
        "latest" => return Ok(Bound::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>() {
        return Ok(Bound::Offset(offset));
    }
    let time = moment::parse(text, moment::now_ms());
    time.map(Bound::Time).ok_or_else(|| {
        CommandError::Usage(format!(
            "{option} {text}: expected earliest, latest, a time such as 2026-11-22T08:00:00Z, a duration such as 7d, or an offset"
        ))
    })
}

/// Parses a size of at least a megabyte, the least that `[[query]]` takes.
fn parse_memory(text: &str) -> Result<usize, String> {
    let size = quantity::size(text).filter(|size| *size >= defaults::QUERY_MEMORY_MIN);
    size.and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| {
            format!(
                "expected a size from {}, such as 64MiB",
                quantity::show_size(defaults::QUERY_MEMORY_MIN)
            )
        })
}
