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

/// Name, key column with its expression, and window of a query.
const QUERIES: [(&str, &str, &str, i64); 2] = [
    // A few rows with every commit.
    ("writers", "writer", "writer", 50),
    // A state so large that snapshots are blobs.
    ("slots", "slot", "\"offset\" % 2000 AS slot", 2_000),
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
    for (name, key, expression, size_ms) in QUERIES {
        let text = format!(
            "CREATE STREAM readings FROM 'press/{{writer}}/temperature' TOPIC '{MQTT_TOPIC}'
               FORMAT text WATERMARK DELAY '{DELAY_MS} ms' IDLE AFTER '1 h';
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
    for (name, key, _, size_ms) in QUERIES {
        match compare(&mut client, &input, (name, key), size_ms)? {
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
    (name, key): (&str, &str),
    size_ms: i64,
) -> Outcome<Result<u64, String>> {
    let started = Instant::now();
    loop {
        let late = late_ones(client, name)?;
        let late = match late {
            Ok(late) => late,
            Err(violation) => return Ok(Err(violation)),
        };
        let mut windows = Windows::new(size_ms, i64::MAX / 4);
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
        let expected = windows.closed(watermark);
        let output: Vec<Vec<u8>> = read(client, name, 0)?
            .into_iter()
            .map(|record| record.value)
            .collect();
        let is_there = output.len() >= expected.len();
        if is_there || started.elapsed() > PATIENCE {
            let found = tumbling::rows(&output, key);
            let judged = found.and_then(|found| tumbling::compare(name, &found, &expected));
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
