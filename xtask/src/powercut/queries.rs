//! Continuous queries over what the MQTT writers publish: after each cut the
//! output holds each window that has closed, once, with exactly the readings
//! that the input log has for it.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::{MQTT_TOPIC, Summary};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};
use crate::tumbling::{self, Windows};
use crate::wire::batch::Record;
use crate::wire::kafka::Client;

/// A query of the node.
struct Counting {
    name: &'static str,
    /// The key column, and its expression.
    key: &'static str,
    expression: &'static str,
    size_ms: i64,
    idle: &'static str,
    /// Whether silence closes all windows.
    ends: bool,
}

const QUERIES: [Counting; 3] = [
    // A few rows with every commit.
    Counting {
        name: "writers",
        key: "writer",
        expression: "writer",
        size_ms: 50,
        idle: "1 h",
        ends: false,
    },
    // A state so large that snapshots are blobs.
    Counting {
        name: "slots",
        key: "slot",
        expression: "\"offset\" % 2000 AS slot",
        size_ms: 2_000,
        idle: "1 h",
        ends: false,
    },
    // Silence, which is in no reading, and must be the same after a restart.
    Counting {
        name: "silent",
        key: "writer",
        expression: "writer",
        size_ms: 1_000,
        idle: "200 ms",
        ends: true,
    },
];

/// Behind the newest reading; above the time between the moment that a reading
/// gets and its place in the log, except on a disk that is far behind.
const DELAY_MS: i64 = 400;

/// The time that queries get to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Gives a node its queries.
pub fn configure(spec: &mut Spec) -> Outcome {
    std::fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
    for Counting {
        name,
        key,
        expression,
        size_ms,
        idle,
        ..
    } in QUERIES
    {
        let text = format!(
            "CREATE STREAM readings FROM 'press/{{writer}}/temperature' TOPIC '{MQTT_TOPIC}'
               FORMAT text WATERMARK DELAY '{DELAY_MS} ms' IDLE AFTER '{idle}';
             SELECT {expression}, count(*) AS n, sum(\"offset\") AS total, window_start
             FROM TUMBLE(readings, '{size_ms} ms') GROUP BY {key}"
        );
        let file = spec.work_dir.join(format!("{name}.sql"));
        std::fs::write(&file, text).during(file.display())?;
        spec.sections
            .push_str(&format!("[[query]]\nfile = \"{name}.sql\"\n"));
    }
    Ok(())
}

/// Compares the outputs with the input, and notes what is wrong.
pub fn check(node: &Node, summary: &mut Summary) -> Outcome {
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    let mut input = Vec::new();
    for partition in 0..client.partitions(MQTT_TOPIC).during(MQTT_TOPIC)? {
        input.push(read(&mut client, MQTT_TOPIC, partition)?);
    }
    summary.rows = 0;
    for query in QUERIES {
        match compare(&mut client, &input, &query)? {
            Ok(rows) => summary.rows += rows,
            Err(violation) => summary.violations.push(violation),
        }
    }
    let status = node.status()?;
    for query in status["queries"].as_array().into_iter().flatten() {
        if query["alarms"] != serde_json::json!([]) {
            let violation = format!("alarms of a query after a clean cut: {query}");
            summary.violations.push(violation);
        }
    }
    Ok(())
}

fn compare(
    client: &mut Client,
    input: &[Vec<Record>],
    query: &Counting,
) -> Outcome<Result<u64, String>> {
    let (name, key) = (query.name, query.key);
    let started = Instant::now();
    loop {
        let late = late_ones(client, name)?;
        let late = match late {
            Ok(late) => late,
            Err(violation) => return Ok(Err(violation)),
        };
        let mut windows = Windows::new(query.size_ms, i64::MAX / 4);
        let mut watermark = i64::MAX;
        for (partition, records) in input.iter().enumerate() {
            let mut newest = None;
            for record in records {
                newest = newest.max(Some(record.timestamp_ms));
                if late.contains(&format!("{MQTT_TOPIC}/{partition}/{}", record.offset)) {
                    continue;
                }
                let key = match key {
                    "writer" => level(&record.key, 1),
                    _ => (record.offset % 2_000).to_string(),
                };
                windows.take(&key, record.timestamp_ms, record.offset, record.offset);
            }
            // A partition without readings holds nobody back.
            watermark = newest.map_or(watermark, |newest| watermark.min(newest - DELAY_MS));
        }
        if query.ends {
            watermark = i64::MAX;
        }
        let expected = windows.closed(watermark);
        let output: Vec<Vec<u8>> = read(client, name, 0)?
            .into_iter()
            .map(|record| record.value)
            .collect();
        let found = tumbling::rows(&output, key);
        let judged = found.and_then(|found| tumbling::compare(name, &found, &expected));
        // What is missing may come; what is there twice will not go.
        if judged.is_ok() || started.elapsed() > PATIENCE {
            return Ok(judged.map(|()| output.len() as u64));
        }
        thread::sleep(LOOK);
    }
}

/// Where the readings lie whose windows had closed, each once.
fn late_ones(client: &mut Client, name: &str) -> Outcome<Result<BTreeSet<String>, String>> {
    let topic = format!("{name}.late");
    let mut late = BTreeSet::new();
    for record in read(client, &topic, 0)? {
        let source = record.headers.iter().find(|(name, _)| name == b"source");
        let source = source.map(|(_, place)| String::from_utf8_lossy(place).into_owned());
        let source = source.ok_or_else(|| Failure::new(format!("{topic}: no source")))?;
        if !late.insert(source.clone()) {
            return Ok(Err(format!("{topic}: {source} is there again")));
        }
    }
    Ok(Ok(late))
}

fn level(path: &[u8], number: usize) -> String {
    let path = String::from_utf8_lossy(path);
    path.split('/').nth(number).unwrap_or_default().to_owned()
}

/// A partition from its start to its end; a topic that is not there is empty.
fn read(client: &mut Client, topic: &str, partition: i32) -> Outcome<Vec<Record>> {
    client.create_topic(topic, 1).during(topic)?;
    client.read_partition(topic, partition).during(topic)
}
