//! CPU time of queries, one thread: operators on columns that were made before,
//! and whole queries from JSON payloads to result rows.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use forebay_analytics::batch::Batch;
use forebay_analytics::bind;
use forebay_analytics::column::{Column, Dictionary, Values};
use forebay_analytics::decode::{Record, Router, ScanDecoder};
use forebay_analytics::operators::{self, Chunk, Context};
use forebay_analytics::query::{MEMORY_BYTES, Query};

use super::functions::{ROUNDS, best, cpu_seconds, noise};
use crate::failure::{Failure, Outcome};

/// Groups, as in a plant with a thousand sensors.
const KEYS: usize = 1_000;
/// Rows of a batch.
const BATCH: usize = 1_024;
/// Rows of one round of the operators, and of whole queries.
const ROWS: usize = 2_000_000;
const MESSAGES: usize = 500_000;
/// Rows per millisecond of event time: each sensor ten times a second.
const ROWS_PER_MS: usize = 10;
/// Queries that wait, and how much they may take.
const IDLE: usize = 50;
const IDLE_BYTES: usize = 10_000_000;

const STREAM: &str = "CREATE STREAM s FROM 'plant/#' TIMESTAMP BY ts; ";
const SELECT: &str = "SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m FROM";
const TUMBLE: &str = "TUMBLE(s, '10 s') GROUP BY path";

/// Prints rates, and fails if a target was missed.
pub fn run() -> Outcome {
    settings();
    // Before anything else, so that no freed memory is taken again.
    let idle = idle()?;
    println!("{IDLE} queries that wait: {:.1} MB", idle as f64 / 1e6);
    println!("operators alone, million rows per CPU second:");
    let tumble = operators(&format!("{SELECT} {TUMBLE}"))?;
    print("tumble 10 s", tumble);
    let hop = |window: &str| operators(&format!("{SELECT} HOP(s, {window}) GROUP BY path"));
    let dense = hop("'1 s', '60 s'")?;
    let share = dense / tumble;
    print(
        &format!("60 windows, hop by 1 s: 10 rows per group and hop ({share:.2} of tumble)"),
        dense,
    );
    // Nearly as many rows come out as go in.
    let sparse = hop("'167 ms', '10020 ms'")?;
    let share = sparse / tumble;
    print(
        &format!("60 windows, hop by 1/6 s: 1.7 rows per group and hop ({share:.2} of tumble)"),
        sparse,
    );
    for (name, select) in [
        (
            "session of 1 s",
            format!("{SELECT} SESSION(s, '1 s') GROUP BY path"),
        ),
        (
            "tumble, filter and arithmetic",
            "SELECT path, avg(value * 1.8 + 32) AS a, stddev(value) AS s, max(value) AS m
                 FROM TUMBLE(s, '10 s') WHERE value > 10 GROUP BY path"
                .to_owned(),
        ),
        (
            "lag",
            "SELECT path, value - lag(value) AS d FROM s".to_owned(),
        ),
    ] {
        print(name, operators(&select)?);
    }
    println!("from JSON payloads, million events per CPU second:");
    let messages = Messages::new();
    print("decode path, ts, value", decode(&messages)?);
    let whole = query(&format!("{SELECT} {TUMBLE}"), &messages)?;
    print("tumble 10 s", whole);
    print(
        "filter that keeps 1 in 90",
        query("SELECT path, value FROM s WHERE value > 89", &messages)?,
    );
    let targets = [
        ("10 million rows per CPU second", tumble >= 10e6),
        ("a third of the tumbling rate", dense * 3.0 >= tumble),
        ("1 million JSON events per CPU second", whole >= 1e6),
        ("10 MB for queries that wait", idle < IDLE_BYTES),
    ];
    let missed: Vec<&str> = targets
        .iter()
        .filter(|(_, met)| !met)
        .map(|(name, _)| *name)
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("missed: {}", missed.join("; "))))
}

fn print(name: &str, rate: f64) {
    println!("{:8.1}  {name}", rate / 1e6);
}

pub(super) fn settings() {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{}, {cores} cores, load {}; one thread, {} build",
        field("/proc/cpuinfo", "model name"),
        load.split(' ').next().unwrap_or("unknown"),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    );
    println!(
        "avg, stddev and max by {KEYS} text keys, {} rows per second of event time, batches of {BATCH}, best of 5",
        ROWS_PER_MS * 1_000
    );
}

/// Columns of [`ROWS`] rows as the plan wants them.
fn chunks(plan: &forebay_analytics::plan::Plan) -> Vec<Chunk> {
    let mut words = Dictionary::new();
    let places: Vec<u32> = (0..KEYS).map(|key| words.intern(&path(key))).collect();
    let words = Arc::new(words);
    (0..ROWS / BATCH)
        .map(|batch| {
            let rows = batch * BATCH..(batch + 1) * BATCH;
            let times: Vec<i64> = rows.clone().map(time).collect();
            let columns = plan.scans[0].columns.iter().map(|column| {
                let values = match column.name.as_str() {
                    "path" => Values::Text {
                        ids: rows.clone().map(|row| places[key(row)]).collect(),
                        words: Arc::clone(&words),
                    },
                    "ts" => Values::Timestamp(times.clone()),
                    _ => Values::Float(rows.clone().map(|row| 40.0 + noise(row as u64)).collect()),
                };
                Column::new(values, None)
            });
            Chunk {
                batch: Batch::new(columns.collect(), BATCH),
                times: times.clone(),
                marks: None,
                records: Vec::new(),
            }
        })
        .collect()
}

fn time(row: usize) -> i64 {
    1_763_856_000_000 + (row / ROWS_PER_MS) as i64
}

/// Every sensor once per [`KEYS`] rows, in an order that no cache knows.
fn key(row: usize) -> usize {
    row * 7 % KEYS
}

fn path(key: usize) -> String {
    format!("plant/hall-7/machine-{key:04}/vib")
}

fn plan(select: &str) -> Outcome<forebay_analytics::plan::Plan> {
    bind::plan(&format!("{STREAM}{select}")).map_err(|error| Failure::new(error.to_string()))
}

/// Rows per CPU second of the operators of a query.
fn operators(select: &str) -> Outcome<f64> {
    let plan = plan(select)?;
    let chunks = chunks(&plan);
    let mut seconds = f64::INFINITY;
    for _ in 0..ROUNDS {
        let given = chunks.clone();
        let before = cpu_seconds();
        let mut root = operators::build(&plan.root, &plan.scans);
        for chunk in given {
            let mut context = Context {
                marks: vec![chunk.times[BATCH - 1]],
                scans: vec![Some(chunk)],
                ..Context::default()
            };
            let mut out = Vec::new();
            root.feed(&mut context, &mut out);
            root.advance(&mut context, &mut out);
            black_box(out);
        }
        seconds = seconds.min(cpu_seconds() - before);
    }
    Ok((chunks.len() * BATCH) as f64 / seconds)
}

struct Messages {
    paths: Vec<String>,
    payloads: Vec<String>,
}

impl Messages {
    fn new() -> Self {
        let payloads = (0..MESSAGES)
            .map(|row| {
                let mut text = String::new();
                let (whole, part) = (row % 90, row % 100);
                let _ = write!(
                    text,
                    "{{\"value\":{whole}.{part:02},\"ts\":{},\"quality\":\"good\",\"unit\":\"mm/s\"}}",
                    time(row),
                );
                text
            })
            .collect();
        Self {
            paths: (0..KEYS).map(path).collect(),
            payloads,
        }
    }

    fn records(&self) -> Vec<Record<'_>> {
        self.payloads
            .iter()
            .enumerate()
            .map(|(row, payload)| Record {
                topic: "telemetry",
                partition: 0,
                offset: row as i64,
                timestamp_ms: time(row),
                path: &self.paths[key(row)],
                headers: &[],
                payload: payload.as_bytes(),
            })
            .collect()
    }
}

/// Events per CPU second from payloads to columns.
fn decode(messages: &Messages) -> Outcome<f64> {
    let plan = plan(&format!("{SELECT} {TUMBLE}"))?;
    let records = messages.records();
    let seconds = best(|| {
        let mut router = Router::new(&plan.scans);
        let mut decoder = ScanDecoder::new(&plan.scans[0]);
        for part in records.chunks(BATCH) {
            router.begin();
            let paths: Vec<u32> = part
                .iter()
                .map(|record| router.place(record.path))
                .collect();
            let chosen: Vec<u32> = (0..part.len() as u32)
                .filter(|row| router.wants(0, paths[*row as usize], part[*row as usize].topic))
                .collect();
            black_box(decoder.decode(part, &chosen, &paths, router.words()));
        }
    });
    Ok(records.len() as f64 / seconds)
}

/// Events per CPU second from payloads to result rows.
fn query(select: &str, messages: &Messages) -> Outcome<f64> {
    let plan = plan(select)?;
    let records = messages.records();
    let seconds = best(|| {
        let mut query = Query::from_plan(plan.clone(), MEMORY_BYTES);
        for part in records.chunks(BATCH) {
            black_box(query.push(part));
        }
    });
    Ok(records.len() as f64 / seconds)
}

/// Bytes of resident anonymous memory that queries add which have seen a row of
/// each of ten paths and wait for more.
fn idle() -> Outcome<usize> {
    let before = anonymous("self")?;
    let mut queries = Vec::new();
    for index in 0..IDLE {
        let text = format!(
            "{STREAM}{SELECT} HOP(s, '1 s', '60 s') WHERE value > {index} GROUP BY path;
             CREATE ALERT high WHEN m > 80 FOR '1 min' CLEAR WHEN m < 70"
        );
        let mut query =
            Query::new(&text, MEMORY_BYTES).map_err(|error| Failure::new(error.to_string()))?;
        for row in 0..10 {
            black_box(query.push(&[Record {
                topic: "telemetry",
                partition: 0,
                offset: row as i64,
                timestamp_ms: time(row),
                path: &path(row),
                headers: &[],
                payload: format!("{{\"ts\":{},\"value\":60}}", time(row)).as_bytes(),
            }]));
        }
        queries.push(query);
    }
    let after = anonymous("self")?;
    black_box(queries);
    Ok(after.saturating_sub(before))
}

/// Anonymous memory of a process, `self` or its number, in bytes.
pub(super) fn anonymous(process: &str) -> Outcome<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<usize>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| Failure::new(format!("/proc/{process}/status has no RssAnon")))
}
