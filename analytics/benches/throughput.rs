//! Rows per CPU second of one thread: decoding, operators, and both together.
//!
//! `cargo bench -p forebay-analytics --profile ci`. CPU time is what the kernel
//! counts for this thread, so other load on the machine changes little. Compare
//! figures of one run with each other, not with those of another machine.

use std::fmt::Write;
use std::hint::black_box;

use forebay_analytics::batch::Batch;
use forebay_analytics::bind;
use forebay_analytics::column::{Column, Dictionary, Values};
use forebay_analytics::decode::{Record, Router, ScanDecoder};
use forebay_analytics::operators::{self, Chunk, Context};
use forebay_analytics::query::Query;
use std::sync::Arc;

const KEYS: usize = 1_000;
const BATCH: usize = 1_024;
const ROWS: usize = 2_000_000;

/// CPU time of this thread in seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn report(name: &str, rows: usize, seconds: f64) {
    println!(
        "{name:<44} {:>8.2} M rows per CPU second",
        rows as f64 / seconds / 1e6
    );
}

const STREAM: &str = "CREATE STREAM s FROM 'plant/#' TIMESTAMP BY ts; ";

/// The operators alone: columns that were made before the clock starts. A tenth
/// of a millisecond of event time passes per row, so a window of ten seconds
/// holds 100,000 rows.
fn operators_alone(name: &str, select: &str) {
    let plan = bind::plan(&format!("{STREAM}{select}")).expect("a plan");
    let mut words = Dictionary::new();
    let places: Vec<u32> = (0..KEYS)
        .map(|key| words.intern(&format!("plant/hall-7/machine-{key:04}/vib")))
        .collect();
    let words = Arc::new(words);
    let chunks: Vec<Chunk> = (0..ROWS / BATCH)
        .map(|batch| {
            let first = batch * BATCH;
            let times: Vec<i64> = (first..first + BATCH).map(|row| row as i64 / 10).collect();
            let columns = plan.scans[0]
                .columns
                .iter()
                .map(|column| match column.name.as_str() {
                    "path" => Column::new(
                        Values::Text {
                            ids: (first..first + BATCH)
                                .map(|row| places[row * 7 % KEYS])
                                .collect(),
                            words: Arc::clone(&words),
                        },
                        None,
                    ),
                    "ts" => Column::new(Values::Timestamp(times.clone()), None),
                    _ => Column::new(
                        Values::Float(
                            (first..first + BATCH)
                                .map(|row| row as f64 * 0.37)
                                .collect(),
                        ),
                        None,
                    ),
                })
                .collect();
            Chunk {
                batch: Batch::new(columns, BATCH),
                times,
                marks: None,
                records: Vec::new(),
            }
        })
        .collect();
    let mut root = operators::build(&plan.root, &plan.scans);
    let rows = chunks.len() * BATCH;
    let begin = cpu_seconds();
    let mut results = 0;
    for chunk in chunks {
        let mark = chunk.times[BATCH - 1];
        let mut context = Context {
            scans: vec![Some(chunk)],
            marks: vec![mark],
            ..Context::default()
        };
        let mut out = Vec::new();
        root.feed(&mut context, &mut out);
        root.advance(&mut context, &mut out);
        results += out.iter().map(Chunk::rows).sum::<usize>();
    }
    black_box(results);
    report(name, rows, cpu_seconds() - begin);
}

struct Messages {
    paths: Vec<String>,
    payloads: Vec<String>,
}

impl Messages {
    fn new(rows: usize) -> Self {
        let paths = (0..KEYS)
            .map(|key| format!("plant/hall-7/machine-{key:04}/vib"))
            .collect();
        let payloads = (0..rows)
            .map(|row| {
                let mut text = String::new();
                let _ = write!(
                    text,
                    "{{\"ts\":{},\"value\":{}.{:02},\"quality\":\"good\"}}",
                    1_763_856_000_000_i64 + row as i64 / 10,
                    row % 90,
                    row % 100
                );
                text
            })
            .collect();
        Self { paths, payloads }
    }

    fn records(&self) -> Vec<Record<'_>> {
        self.payloads
            .iter()
            .enumerate()
            .map(|(row, payload)| Record {
                topic: "telemetry",
                partition: 0,
                offset: row as i64,
                timestamp_ms: 1_763_856_000_000 + row as i64 / 10,
                path: &self.paths[row * 7 % KEYS],
                headers: &[],
                payload: payload.as_bytes(),
            })
            .collect()
    }
}

const TUMBLE: &str = "SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m
    FROM TUMBLE(s, '10 s') GROUP BY path";

fn decode_alone(messages: &Messages) {
    let plan = bind::plan(&format!("{STREAM}{TUMBLE}")).expect("a plan");
    let records = messages.records();
    let mut router = Router::new(&plan.scans);
    let mut decoder = ScanDecoder::new(&plan.scans[0]);
    let begin = cpu_seconds();
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
    report(
        "decode JSON: path, ts, value",
        records.len(),
        cpu_seconds() - begin,
    );
}

fn whole(name: &str, select: &str, messages: &Messages) {
    let mut query = Query::new(&format!("{STREAM}{select}"), 1 << 30).expect("a query");
    let records = messages.records();
    let begin = cpu_seconds();
    for part in records.chunks(BATCH) {
        black_box(query.push(part));
    }
    report(name, records.len(), cpu_seconds() - begin);
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let rows = if std::env::args().any(|argument| argument == "--bench") {
        ROWS
    } else {
        BATCH
    };
    operators_alone("tumble 10 s, avg+stddev+max, 1,000 keys", TUMBLE);
    operators_alone(
        "hop 10 s every 1/6 s (60 windows), same",
        "SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m
         FROM HOP(s, '167 ms', '10020 ms') GROUP BY path",
    );
    operators_alone(
        "tumble, filter and arithmetic, same",
        "SELECT path, avg(value * 1.8 + 32) AS a, stddev(value) AS s, max(value) AS m
         FROM TUMBLE(s, '10 s') WHERE value > 10 GROUP BY path",
    );
    operators_alone(
        "session of 1 s, same",
        "SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m
         FROM SESSION(s, '1 s') GROUP BY path",
    );
    operators_alone("lag per key", "SELECT path, value - lag(value) AS d FROM s");
    let messages = Messages::new(rows);
    decode_alone(&messages);
    whole("JSON to tumbling windows, all steps", TUMBLE, &messages);
    whole(
        "JSON to a filter, all steps",
        "SELECT path, value FROM s WHERE value > 89",
        &messages,
    );
}
