//! `forebay tail`.

mod times;

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use forebay_records::Record;
use serde::Serialize;

use super::{BootstrapArgs, CommandError, moment};
use crate::client::Client;
use crate::client::topics::{EARLIEST, LATEST};
use times::{Time, Times};

/// With several partitions each fetch waits this long for a first record, so
/// that the next partition's turn comes soon; the node answers at once when it
/// has one.
const TURN_WAIT_MS: i32 = 100;
/// With one partition there is nobody else to turn to.
const LONE_WAIT_MS: i32 = 5_000;

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay tail vibration                          the last record onwards, then stop
  forebay tail vibration --from earliest --json   everything, one JSON object per line
  forebay tail vibration --from 10m --follow      ten minutes ago and whatever comes
  forebay tail vibration --from 4711 --partition 2
  forebay tail vibration --from 2026-11-22T08:00:00Z")]
pub struct TailArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    node: BootstrapArgs,
    /// earliest, latest, an offset, a time (RFC 3339) or a duration ago (10m)
    #[arg(long, default_value = "latest")]
    from: String,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Print one JSON object per record
    #[arg(long)]
    json: bool,
    /// Only this partition
    #[arg(long, short)]
    partition: Option<i32>,
}

/// One record as `--json` prints it. Bytes that are not UTF-8 stand as hex in
/// the fields that end in `_hex`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    /// The right time, when the stored one is known to be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_corrected: Option<i64>,
    /// `unsynchronised` or `corrected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

/// Prints the records.
///
/// # Errors
/// There is no such topic, the offset is outside the log, or the node does
/// not answer.
pub async fn execute(args: TailArgs) -> Result<bool, CommandError> {
    let mut client = Client::connect(args.node.endpoint()).await?;
    let (_, all) = client
        .metadata(Some(&[&args.topic]))
        .await?
        .pop()
        .ok_or_else(|| CommandError::Usage(format!("there is no topic {}", args.topic)))?;
    let partitions = match args.partition {
        Some(one) if all.contains(&one) => vec![one],
        Some(one) => {
            return Err(CommandError::Usage(format!(
                "topic {} has partitions 0 to {}, not {one}",
                args.topic,
                all.len().saturating_sub(1)
            )));
        }
        None => all,
    };
    let mut positions = start(&mut client, &args, &partitions).await?;
    let ends = client.offsets(&args.topic, &partitions, LATEST).await?;
    let wait = match (args.follow, partitions.len()) {
        (false, _) => 0,
        (true, 1) => LONE_WAIT_MS,
        (true, _) => TURN_WAIT_MS,
    };
    let mut times = Times::default();
    loop {
        let mut is_behind = false;
        for (place, &partition) in partitions.iter().enumerate() {
            if !args.follow && positions[place] >= ends[place] {
                continue;
            }
            let fetched = client
                .fetch(&args.topic, partition, positions[place], wait)
                .await?;
            times.learn(&mut client, &fetched.records).await?;
            print(&args, partition, &fetched.records, &times)?;
            if fetched.next_offset > positions[place] {
                positions[place] = fetched.next_offset;
                is_behind |= positions[place] < ends[place];
            } else if !args.follow {
                // A recorded gap reaches to the end.
                positions[place] = ends[place];
            }
        }
        if !args.follow && !is_behind {
            return Ok(true);
        }
    }
}

/// The offset of each partition to start at.
async fn start(
    client: &mut Client,
    args: &TailArgs,
    partitions: &[i32],
) -> Result<Vec<i64>, CommandError> {
    let topic = &args.topic;
    let earliest = client.offsets(topic, partitions, EARLIEST).await?;
    let latest = client.offsets(topic, partitions, LATEST).await?;
    if args.from == "earliest" {
        return Ok(earliest);
    }
    if args.from == "latest" {
        // The newest record shows what the topic looks like; a following tail
        // prints only what comes.
        let back = i64::from(!args.follow);
        let newest = latest.iter().zip(&earliest);
        return Ok(newest
            .map(|(end, start)| (end - back).max(*start))
            .collect());
    }
    if let Ok(offset) = args.from.parse::<i64>() {
        let wanted = earliest.iter().map(|start| offset.max(*start));
        return Ok(wanted
            .zip(&latest)
            .map(|(from, end)| from.min(*end))
            .collect());
    }
    let ms = moment::parse(&args.from, moment::now_ms()).ok_or_else(|| {
        CommandError::Usage(format!(
            "--from {}: expected earliest, latest, an offset, a time such as 2026-11-22T08:00:00Z, or a duration such as 10m",
            args.from
        ))
    })?;
    let found = client.offsets(topic, partitions, ms).await?;
    let none_that_young = found.into_iter().zip(latest);
    Ok(none_that_young
        .map(|(offset, end)| if offset < 0 { end } else { offset })
        .collect())
}

fn print(
    args: &TailArgs,
    partition: i32,
    records: &[Record],
    times: &Times,
) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    for record in records {
        if args.json {
            let line = json_line(&args.topic, partition, record, times.of(record));
            serde_json::to_writer(&mut out, &line).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        } else {
            let show = |bytes: Option<&[u8]>| bytes.map_or_else(|| "(null)".to_owned(), readable);
            let (shown, note) = told(times.of(record));
            writeln!(
                out,
                "{} {}/{partition}@{} {} {}{note}",
                moment::show(shown),
                args.topic,
                record.offset,
                show(record.key.as_deref()),
                show(record.value.as_deref()),
            )?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The time to show and what to say about it behind the record.
fn told(time: Time) -> (i64, String) {
    match time {
        Time::Stored(ms) => (ms, String::new()),
        Time::Unsynchronised(ms) => (ms, " [clock not synchronised]".to_owned()),
        Time::Corrected(ms, stored) => {
            let stored = moment::show(stored);
            (ms, format!(" [corrected time, stored as {stored}]"))
        }
        Time::StoredCorrected(ms) => (ms, " [corrected time]".to_owned()),
    }
}

fn json_line<'a>(topic: &'a str, partition: i32, record: &'a Record, time: Time) -> Line<'a> {
    let (key, key_hex) = text_or_hex(record.key.as_deref());
    let (value, value_hex) = text_or_hex(record.value.as_deref());
    let headers = record
        .headers
        .iter()
        .map(|header| (readable(&header.key), header.value.as_deref().map(readable)))
        .collect();
    Line {
        topic,
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        timestamp_corrected: match time {
            Time::Corrected(ms, _) => Some(ms),
            _ => None,
        },
        clock: match time {
            Time::Stored(_) => None,
            Time::Unsynchronised(_) => Some("unsynchronised"),
            Time::Corrected(..) | Time::StoredCorrected(_) => Some("corrected"),
        },
        key,
        key_hex,
        value,
        value_hex,
        headers,
    }
}

fn text_or_hex(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(std::str::from_utf8) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(_)) => (None, bytes.map(hex)),
    }
}

/// Text as it is without control characters; other bytes as hex.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
