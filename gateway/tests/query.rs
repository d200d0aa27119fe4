//! `forebay query` against running nodes, with a history that the test produces.

mod running;

use std::collections::BTreeMap;
use std::process::Output;

use forebay_gateway::client::Client;
use forebay_gateway::config::names::host_port;
use forebay_kafka::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};
use forebay_records::{BatchBuilder, Compression, RecordRef};
use running::{Running, forebay};

/// 2026-01-05T00:00:00Z.
const START_MS: i64 = 1_767_571_200_000;

/// Machines by minute, with a limit that press-2 is above.
const LEVELS: &str = "CREATE STREAM levels FROM 'plant/{machine}/level' WATERMARK DELAY '1 s';
CREATE QUERY minutes AS
SELECT machine, count(*) AS readings, avg(value) AS level, window_start, window_end
FROM TUMBLE(levels, '1 min') GROUP BY machine;
CREATE ALERT high ON minutes WHEN level > 5 FOR '2 min' SEVERITY critical MESSAGE 'look at it'";

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

/// A record: path, seconds after the start, payload.
type Sent = (String, i64, String);

fn produce(node: &Running, topic: &str, partition: i32, sent: &[Sent]) {
    let mut builder = BatchBuilder::new();
    for (path, seconds, payload) in sent {
        builder.push(&RecordRef {
            timestamp: START_MS + seconds * 1_000,
            key: Some(path.as_bytes()),
            value: Some(payload.as_bytes()),
            headers: &[],
        });
    }
    let batch = builder.finish(Compression::None).expect("a small batch");
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(batch),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let address = host_port(&node.address("kafka")).expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let response = runtime.block_on(async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        client.call(&request, 7).await.expect("the node answers")
    });
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Ten minutes of one machine, a reading each second.
fn machine(name: &str, level: i64) -> Vec<Sent> {
    let path = format!("plant/{name}/level");
    let reading = |second| (path.clone(), second, format!(r#"{{"value":{level}}}"#));
    (0..600).map(reading).collect()
}

/// A node with two machines in two partitions, some kilobytes apart, and a record
/// that a query wrote.
fn node(dir: &std::path::Path, topic: &str) -> Running {
    let node = Running::start(dir, "broker", "");
    node.answer(&["topic", "create", topic, "--partitions", "3"]);
    for (partition, name, level) in [(0, "press-1", 2), (1, "press-2", 7)] {
        for part in machine(name, level).chunks(100) {
            produce(&node, topic, partition, part);
        }
    }
    let own = "forebay/queries/plant/level".to_owned();
    produce(&node, topic, 2, &[(own, 5, r#"{"value":99}"#.to_owned())]);
    produce(
        &node,
        topic,
        2,
        &[("plant/press-1/level".to_owned(), 30, "torn".to_owned())],
    );
    node
}

fn lines(output: &Output) -> (Vec<String>, String) {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8_lossy(&output.stdout);
    (text.lines().map(str::to_owned).collect(), complaint)
}

#[test]
fn a_rule_is_tried_on_what_the_log_holds() {
    let dir = scratch();
    let node = node(dir.path(), "t");
    let output = node.command(&["query", LEVELS, "--json"]);
    let (printed, told) = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let objects: Vec<serde_json::Value> = printed
        .iter()
        .map(|line| serde_json::from_str(line).expect("an object per line"))
        .collect();
    let (alerts, rows): (Vec<_>, Vec<_>) = objects
        .iter()
        .partition(|object| object.get("alert").is_some());
    // Both machines in ten windows each, though their partitions follow each other.
    let mut counted: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for row in &rows {
        let minute = (row["window_start"].as_i64().expect("a time") - START_MS) / 60_000;
        let machine = row["machine"].as_str().expect("a name").to_owned();
        counted.insert(
            (machine, minute),
            row["readings"].as_i64().expect("a number"),
        );
    }
    assert_eq!(rows.len(), 20);
    assert_eq!(counted.len(), 20);
    assert!(
        counted.values().all(|readings| *readings == 60),
        "{counted:?}"
    );
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["key"]["machine"], "press-2");
    assert_eq!(alerts[0]["query"], "minutes");
    // What comes out in the middle came out in the middle: the alert is not the
    // last line.
    let place = objects
        .iter()
        .position(|object| object.get("alert").is_some());
    assert!(place.is_some_and(|place| place < 10), "{place:?}");
    for wanted in [
        "1,201 records",
        "1,200 read as rows, 20 result rows, 1 alert raised, 0 late, 1 malformed",
    ] {
        assert!(told.contains(wanted), "{wanted:?} in {told}");
    }
}

#[test]
fn times_bound_what_is_read_and_people_get_a_table() {
    let dir = scratch();
    let node = node(dir.path(), "t");
    let range = [
        "--from",
        "2026-01-05T00:02:00Z",
        "--to",
        "2026-01-05T00:04:00Z",
    ];
    let output = node.command(&[&["query", LEVELS, "--csv"][..], &range[..]].concat());
    let (printed, told) = lines(&output);
    assert_eq!(
        printed,
        [
            "machine,readings,level,window_start,window_end",
            "press-1,60,2,2026-01-05T00:02:00.000Z,2026-01-05T00:03:00.000Z",
            "press-2,60,7,2026-01-05T00:02:00.000Z,2026-01-05T00:03:00.000Z",
            "press-1,60,2,2026-01-05T00:03:00.000Z,2026-01-05T00:04:00.000Z",
            "press-2,60,7,2026-01-05T00:03:00.000Z,2026-01-05T00:04:00.000Z",
        ],
        "{told}"
    );
    assert!(told.contains("240 records"), "{told}");
    assert!(told.contains("what would still come: 2\n"), "{told}");
    let file = dir.path().join("levels.sql");
    std::fs::write(&file, LEVELS).expect("the scratch directory is writable");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args([
            "query",
            file.to_str().expect("UTF-8"),
            "--bootstrap",
            &node.address("kafka"),
        ])
        .env("TZ", "CET-1")
        .output()
        .expect("the binary runs");
    let (printed, told) = lines(&output);
    assert_eq!(printed.len(), 21, "{printed:?}");
    assert_eq!(
        printed[1],
        "press-1        60      2  2026-01-05T01:00:00+01:00  2026-01-05T01:01:00+01:00"
    );
    let alert =
        "! 2026-01-05T01:02:59.999+01:00 CRITICAL high machine=press-2: 7, limit 5 (look at it)";
    assert!(told.contains(alert), "{told}");
}

#[test]
fn a_hub_has_the_topics_of_its_sites() {
    let dir = scratch();
    let node = node(dir.path(), "north.readings");
    let named = LEVELS.replace("WATERMARK", "TOPIC 'readings' WATERMARK");
    let (printed, told) = lines(&node.command(&["query", &named, "--csv"]));
    assert_eq!(printed.len(), 21, "{told}");
    let other = LEVELS.replace("WATERMARK", "TOPIC 'north.reading' WATERMARK");
    let output = node.command(&["query", &other]);
    let (_, told) = lines(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("has no topic north.reading, did you mean north.readings?"),
        "{told}"
    );
}

#[test]
fn a_mistake_is_shown_with_its_place_and_a_plan_without_a_node() {
    let dir = scratch();
    let file = dir.path().join("worn.sql");
    std::fs::write(&file, LEVELS.replace("avg(value)", "agv(value)")).expect("writable");
    let name = file.to_str().expect("UTF-8");
    let output = forebay(&["query", name]);
    let (printed, told) = lines(&output);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(printed, [""; 0]);
    assert!(told.starts_with(&format!("{name}:3:39: ")), "{told}");
    assert!(told.contains("avg"), "{told}");
    assert!(
        told.ends_with(&format!("  {}^\n", " ".repeat(38))),
        "{told}"
    );
    let output = forebay(&["query", LEVELS, "--explain"]);
    let (printed, told) = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        printed.iter().any(|line| line.contains("bytes per group")),
        "{printed:?}"
    );
    let output = forebay(&["query", "worn.sq"]);
    assert_eq!(output.status.code(), Some(1));
    let output = forebay(&["functions", "ewmaa"]);
    let (_, told) = lines(&output);
    assert_eq!(
        told,
        "forebay: there is no function ewmaa, did you mean ewma?\n"
    );
}

/// Reads the value of each record of a topic until there are `wanted`.
fn values(node: &Running, topic: &str, wanted: usize) -> Vec<serde_json::Value> {
    /// Bounds a failure, on a machine that is busy.
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
    let address = host_port(&node.address("kafka")).expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let reading = async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        let mut values = Vec::new();
        let mut offset = 0;
        while values.len() < wanted {
            let Ok(fetched) = client.fetch(topic, 0, offset, 1_000).await else {
                // The topic comes with its first record.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            offset = fetched.next_offset;
            for record in fetched.records {
                let value = record.value.expect("a result has a value");
                values.push(serde_json::from_slice(&value).expect("results are JSON"));
            }
        }
        values
    };
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, reading).await })
        .expect("the query has its results in time")
}

#[test]
fn history_gives_what_the_running_query_gives() {
    let dir = scratch();
    let node = Running::start(dir.path(), "gateway", "");
    node.answer(&["topic", "create", "readings"]);
    let mut sent = machine("press-1", 2);
    sent.extend(machine("press-2", 7));
    sent.sort_by_key(|(_, second, _)| *second);
    // One reading came five minutes late, one hour was silent.
    let late = sent[200].clone();
    sent.insert(800, (late.0, late.1, r#"{"value":99}"#.to_owned()));
    sent.push((
        "plant/press-1/level".to_owned(),
        4_200,
        r#"{"value":3}"#.to_owned(),
    ));
    for part in sent.chunks(100) {
        produce(&node, "readings", 0, part);
    }
    let (printed, told) = lines(&node.command(&["query", LEVELS, "--json"]));
    let (tried_alerts, tried): (Vec<serde_json::Value>, Vec<_>) = printed
        .iter()
        .map(|line| serde_json::from_str(line).expect("an object per line"))
        .partition(|object: &serde_json::Value| object.get("alert").is_some());
    assert!(told.contains(" 1 late"), "{told}");
    assert_eq!(tried.len(), 21);
    node.terminate();
    std::fs::write(dir.path().join("levels.sql"), LEVELS).expect("writable");
    let section = "[[query]]\nfile = \"levels.sql\"\nfrom = \"earliest\"\n";
    let node = Running::start(dir.path(), "gateway", section);
    assert_eq!(values(&node, "minutes", tried.len()), tried);
    assert_eq!(values(&node, "alerts", tried_alerts.len()), tried_alerts);
    // What it wrote is not taken for readings.
    let (_, told) = lines(&node.command(&["query", LEVELS, "--json"]));
    assert!(told.contains("1,202 records"), "{told}");
}
