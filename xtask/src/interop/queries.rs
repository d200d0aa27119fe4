//! Continuous queries on a running gateway: what subscribers, Kafka clients and
//! people at the command line see of them, and what a reload does to them.

mod kill;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Scenario, Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec, http};
use crate::wire::mqtt::{Client, Packet};

/// The time that a query may take for what takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The time one call of the program gets.
const TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// Averages per machine and an alert. Silence closes nothing while it runs.
const VIBRATION: &str = "\
CREATE STREAM vibration (rms double, ts timestamp)
  FROM 'plant/{machine}/vibration'
  TIMESTAMP BY ts WATERMARK DELAY '2 s' IDLE AFTER '1 h';
CREATE QUERY bearing INTO TOPIC 'analytics.bearing' AS
SELECT machine, count(*) AS n, avg(rms) AS level, window_start, window_end
FROM TUMBLE(vibration, INTERVAL '10 s') GROUP BY machine;
CREATE ALERT worn ON bearing WHEN level > 7.1 CLEAR WHEN level < 4.5
  SEVERITY critical MESSAGE 'replace the bearing';
";

/// Counts readings; the number of seconds goes into the text.
fn counting(seconds: u32) -> String {
    format!(
        "SELECT path, count(*) AS n FROM TUMBLE(\"plant/+/vibration\", '{seconds} s') GROUP BY path"
    )
}

/// All scenarios of queries.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("query-rows-alerts", rows_and_alerts),
        Scenario::new("query-reload", reload),
        Scenario::new("query-kill", kill::eight_times),
    ]
}

/// A gateway with these files beside its configuration, one query each.
fn spec(stage: &Stage, name: &str, files: &[(&str, &str)]) -> Outcome<Spec> {
    let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
    std::fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
    for (file, text) in files {
        write(&spec, file, text)?;
        spec.sections
            .push_str(&format!("[[query]]\nfile = \"{file}\"\n"));
    }
    Ok(spec)
}

fn write(spec: &Spec, file: &str, text: &str) -> Outcome {
    let path: PathBuf = spec.work_dir.join(file);
    std::fs::write(&path, text).during(path.display())
}

/// paho publishes; rows and alerts come over MQTT, Kafka, HTTP and the command
/// line.
fn rows_and_alerts(stage: &Stage) -> Outcome {
    let node = Node::start(&spec(stage, "query-rows", &[("bearing.sql", VIBRATION)])?)?;
    running(&node, "bearing", |_| true)?;
    let http = node.ports.http.to_string();
    let program = stage.program.display().to_string();
    stage.script("queries.py", "rows-alerts", &node, &[&http, &program])
}

/// Queries come, change and are refused, and those that stay do not notice.
fn reload(stage: &Stage) -> Outcome {
    let mut spec = spec(stage, "query-reload", &[("bearing.sql", VIBRATION)])?;
    let node = Node::start(&spec)?;
    running(&node, "bearing", |_| true)?;
    publish(&node, 100)?;
    running(&node, "bearing", |query| number(query, "rows_in") == 100)?;

    write(&spec, "count.sql", &counting(5))?;
    spec.sections.push_str("[[query]]\nfile = \"count.sql\"\n");
    let said = ask_for_reload(stage, &spec, &node, true)?;
    has(&said, "added    count")?;
    running(&node, "count", |_| true)?;
    publish(&node, 100)?;
    running(&node, "bearing", |query| number(query, "rows_in") == 200)?;
    running(&node, "count", |query| number(query, "rows_in") == 100)?;

    // The mistake is named with its place, and everything goes on.
    write(
        &spec,
        "count.sql",
        "SELECT path,\n  count(*) AS n\nFROM TUMBEL(\"a/#\", '1 s')",
    )?;
    let said = ask_for_reload(stage, &spec, &node, false)?;
    has(&said, "count.sql:3:")?;
    has(&said, "nothing has changed")?;
    publish(&node, 100)?;
    running(&node, "bearing", |query| number(query, "rows_in") == 300)?;
    running(&node, "count", |query| number(query, "rows_in") == 200)?;

    // Layout and comments make no other query; its text does.
    write(&spec, "count.sql", &format!("-- per path\n{}", counting(5)))?;
    ask_for_reload(stage, &spec, &node, true)?;
    write(&spec, "count.sql", &counting(7))?;
    let said = ask_for_reload(stage, &spec, &node, true)?;
    has(&said, "changed  count")?;
    running(&node, "count", |query| {
        number(query, "rows_in") == 0 && number(query, "state_bytes") < 100_000
    })?;
    publish(&node, 100)?;
    running(&node, "bearing", |query| number(query, "rows_in") == 400)?;
    running(&node, "count", |query| number(query, "rows_in") == 100)?;

    // With a query its alerts go.
    worn(&node)?;
    running(&node, "bearing", |query| {
        number(query, "active_alerts") == 1
    })?;
    spec.sections = "[[query]]\nfile = \"count.sql\"\n".to_owned();
    let said = ask_for_reload(stage, &spec, &node, true)?;
    has(&said, "removed  bearing")?;
    if find(&node.status()?, "bearing").is_some() {
        return Err(Failure::new("the query that was removed is in the status"));
    }
    let (_, alerts) = http::get(node.ports.http, "/api/v1/alerts").during("alerts")?;
    if alerts != b"[]" {
        let alerts = String::from_utf8_lossy(&alerts).into_owned();
        return Err(Failure::new(format!("an alert of no query: {alerts}")));
    }
    let retained = retained(&node, "forebay/alerts/#")?;
    if !retained.is_empty() {
        return Err(Failure::new(format!("retained for no query: {retained:?}")));
    }
    publish(&node, 100)?;
    running(&node, "count", |query| number(query, "rows_in") == 202)
}

/// Two readings of the near future: the second closes the window of the first,
/// whose level raises the alert.
fn worn(node: &Node) -> Outcome {
    let (mut client, _) = Client::connect(node.mqtt()?, "publisher", true).during("MQTT")?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .during("clock")?;
    for (id, seconds) in [(1, 60), (2, 120)] {
        let reading = format!("{{\"rms\":9,\"ts\":{}}}", now.as_millis() + seconds * 1_000);
        client.publish("plant/m9/vibration", id, 1, false, reading.as_bytes());
    }
    client.flush().during("publish")?;
    for _ in 0..2 {
        client.read().during("PUBACK")?;
    }
    Ok(())
}

/// The topics that a subscriber gets at once. A message of its own comes behind
/// what is retained.
fn retained(node: &Node, filter: &str) -> Outcome<Vec<String>> {
    const LAST: &str = "last/word";
    let (mut client, _) = Client::connect(node.mqtt()?, "late", true).during("MQTT")?;
    client.subscribe(1, filter, 0);
    client.subscribe(2, LAST, 0);
    client.publish(LAST, 0, 0, false, b"");
    client.flush().during("subscribe")?;
    let mut topics = Vec::new();
    loop {
        match client.read().during("retained messages")? {
            Packet::Publish { topic, .. } if topic == LAST => return Ok(topics),
            Packet::Publish { topic, .. } => topics.push(topic),
            _ => {}
        }
    }
}

/// Asks the program to reload; returns what it printed. Exit code 1 is a
/// refusal.
fn ask_for_reload(stage: &Stage, spec: &Spec, node: &Node, succeeds: bool) -> Outcome<String> {
    spec.write_config()?;
    let mut command = Command::new(&stage.program);
    command.args(["reload", "--http", &node.ports.http.to_string()]);
    match (finish(&mut command, TOOL_TIMEOUT), succeeds) {
        (Ok(said), true) => Ok(String::from_utf8_lossy(&said).into_owned()),
        (Ok(said), false) => Err(Failure::new(format!(
            "a mistake was taken: {:?}",
            String::from_utf8_lossy(&said)
        ))),
        (Err(failure), true) => Err(failure),
        (Err(failure), false) => Ok(failure.to_string()),
    }
}

fn has(said: &str, wanted: &str) -> Outcome {
    match said.contains(wanted) {
        true => Ok(()),
        false => Err(Failure::new(format!("expected {wanted:?} in {said:?}"))),
    }
}

/// Publishes readings of one machine and waits for their acknowledgements.
fn publish(node: &Node, count: u16) -> Outcome {
    let (mut client, _) = Client::connect(node.mqtt()?, "publisher", true).during("MQTT")?;
    for id in 1..=count {
        client.publish("plant/m1/vibration", id, 1, false, br#"{"rms":2.5}"#);
    }
    client.flush().during("publish")?;
    for id in 1..=count {
        let answer = client.read().during("PUBACK")?;
        if answer != Packet::PubAck(id) {
            return Err(Failure::new(format!(
                "expected PUBACK {id}, got {answer:?}"
            )));
        }
    }
    Ok(())
}

/// A query in the status.
fn find<'s>(status: &'s Value, name: &str) -> Option<&'s Value> {
    let queries = status.get("queries")?.as_array()?;
    queries.iter().find(|query| query["name"] == name)
}

fn number(query: &Value, field: &str) -> u64 {
    query.get(field).and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// Waits until a query runs and is as it should be.
fn running(node: &Node, name: &str, is_right: impl Fn(&Value) -> bool) -> Outcome {
    let started = Instant::now();
    loop {
        let status = node.status()?;
        let query = find(&status, name);
        if query.is_some_and(|query| query["state"] == "connected" && is_right(query)) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "query {name} is not as expected after {PATIENCE:?}: {query:?}"
            )));
        }
        thread::sleep(LOOK);
    }
}
