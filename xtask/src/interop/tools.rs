//! Scenarios with command line peers: mosquitto_pub, mosquitto_sub, kcat, and
//! the program's own commands.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::Node;
use crate::wire::kafka::Client;
use crate::wire::mqtt;

/// The time one tool gets.
const TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// A subscriber whose debug output told that the SUBACK is there.
struct Subscriber(Child);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Publishes at each QoS and reads it back, mosquitto's way.
pub fn mosquitto(stage: &Stage, version: &str) -> Outcome {
    let node = stage.gateway(&format!("mosquitto-{version}"))?;
    let address = node.mqtt()?;
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    for qos in ["0", "1", "2"] {
        let topic = format!("tools/{qos}/value");
        let mut subscriber = Command::new("stdbuf");
        let subscriber = subscriber
            .args([
                "-oL",
                "mosquitto_sub",
                "-d",
                "-V",
                version,
                "-h",
                &host,
                "-p",
                &port,
            ])
            .args([
                "-q",
                qos,
                "-t",
                &format!("tools/{qos}/#"),
                "-C",
                "5",
                "-F",
                "got %t %p",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .during("mosquitto_sub")?;
        let mut subscriber = Subscriber(subscriber);
        let output = subscriber.0.stdout.take();
        let mut lines = BufReader::new(output.ok_or_else(|| Failure::new("no output"))?).lines();
        // The subscription holds from here on.
        loop {
            let line = lines
                .next()
                .ok_or_else(|| Failure::new("mosquitto_sub ended"))?;
            if line.during("mosquitto_sub")?.starts_with("Subscribed") {
                break;
            }
        }
        for number in 0..5 {
            let mut publisher = Command::new("mosquitto_pub");
            publisher
                .args(["-V", version, "-h", &host, "-p", &port, "-q", qos])
                .args(["-t", &topic, "-m", &format!("m{number}")]);
            finish(&mut publisher, TOOL_TIMEOUT)?;
        }
        let mut got = Vec::new();
        for line in lines {
            let line = line.during("mosquitto_sub")?;
            got.extend(line.strip_prefix("got ").map(str::to_owned));
        }
        if qos == "0" {
            // Each message comes from a process of its own, and nothing is
            // acknowledged: the connections may overtake each other.
            got.sort();
        }
        let expected: Vec<String> = (0..5).map(|n| format!("{topic} m{n}")).collect();
        if got != expected {
            return Err(Failure::new(format!(
                "QoS {qos}: expected {expected:?}, got {got:?}"
            )));
        }
    }
    Ok(())
}

/// Lists, produces with each compression, consumes and queries with kcat.
pub fn kcat(stage: &Stage) -> Outcome {
    let node = stage.gateway("kcat")?;
    let broker = node.ports.kafka.to_string();
    let directory = stage.directory("kcat-input")?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("kcat-{codec}");
        let lines: String = (0..500)
            .map(|n| format!("key{n}:{codec} value {n}\n"))
            .collect();
        let input = directory.join(codec);
        std::fs::write(&input, &lines).during(input.display())?;
        let mut produce = Command::new("kcat");
        produce
            .args([
                "-P", "-b", &broker, "-t", &topic, "-p", "0", "-K", ":", "-z", codec,
            ])
            .args(["-X", "acks=all", "-l"])
            .arg(&input);
        finish(&mut produce, TOOL_TIMEOUT)?;
        let mut consume = Command::new("kcat");
        consume
            .args([
                "-C",
                "-b",
                &broker,
                "-t",
                &topic,
                "-p",
                "0",
                "-o",
                "beginning",
                "-e",
                "-q",
            ])
            .args(["-K", ":"]);
        let read = finish(&mut consume, TOOL_TIMEOUT)?;
        if read != lines.as_bytes() {
            return Err(Failure::new(format!(
                "{codec}: wrote {} bytes, read {} others",
                lines.len(),
                read.len()
            )));
        }
    }
    let mut list = Command::new("kcat");
    let listing = finish(list.args(["-L", "-J", "-b", &broker]), TOOL_TIMEOUT)?;
    let listing: Value = serde_json::from_slice(&listing).during("kcat -L")?;
    let topics = listing
        .get("topics")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if topics < 5 {
        return Err(Failure::new(format!(
            "kcat lists {topics} topics, expected 5"
        )));
    }
    let mut query = Command::new("kcat");
    let answer = finish(
        query.args(["-Q", "-b", &broker, "-t", "kcat-none:0:-1"]),
        TOOL_TIMEOUT,
    )?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if !answer.contains("500") {
        return Err(Failure::new(format!(
            "kcat -Q: expected offset 500, got {answer:?}"
        )));
    }
    Ok(())
}

/// What is published over MQTT is a Kafka record whose key is the path.
pub fn mqtt_to_kafka(stage: &Stage) -> Outcome {
    let node: Node = stage.gateway("mqtt-to-kafka")?;
    let (mut publisher, _) =
        mqtt::Client::connect(node.mqtt()?, "bridge", true).during("MQTT connection")?;
    for id in 1..=100 {
        publisher.publish(
            "plant/press/pressure",
            id,
            1,
            false,
            format!("{id}").as_bytes(),
        );
    }
    publisher.flush().during("publish")?;
    for id in 1..=100 {
        let packet = publisher.read().during("PUBACK")?;
        if packet != mqtt::Packet::PubAck(id) {
            return Err(Failure::new(format!(
                "expected PUBACK {id}, got {packet:?}"
            )));
        }
    }
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    // Acknowledged means readable, at once.
    let records = client.read_partition("readings", 0).during("reading")?;
    let expected: Vec<Vec<u8>> = (1..=100).map(|id| format!("{id}").into_bytes()).collect();
    let values: Vec<Vec<u8>> = records.iter().map(|record| record.value.clone()).collect();
    if values != expected {
        return Err(Failure::new(format!(
            "expected 100 values, got {}",
            values.len()
        )));
    }
    match records
        .iter()
        .find(|record| record.key != b"plant/press/pressure")
    {
        None => Ok(()),
        Some(other) => Err(Failure::new(format!("a key of {:?}", other.key))),
    }
}

/// The demo runs, cuts its link, finds the one bearing that fails, and its audit
/// is clean.
pub fn demo(stage: &Stage) -> Outcome {
    let mut command = Command::new(&stage.program);
    command.args(["demo", "--seconds", "12", "--json"]);
    let output = finish(&mut command, Duration::from_secs(60))?;
    let audit: Value = serde_json::from_slice(&output).during("the demo's JSON")?;
    let found = audit["findings"].as_array();
    let found: Vec<&Value> = found.into_iter().flatten().collect();
    if found.len() != 1 || found[0]["machine"] != "press-3" {
        return Err(Failure::new(format!(
            "expected the bearing of press-3 to be found: {audit}"
        )));
    }
    let number = |name: &str| find_number(&audit, name);
    match (number("gaps"), number("duplicates")) {
        (Some(0), Some(0)) => Ok(()),
        other => Err(Failure::new(format!(
            "gaps and duplicates {other:?} in {audit}"
        ))),
    }
}

fn find_number(value: &Value, name: &str) -> Option<u64> {
    match value.get(name) {
        Some(found) if found.is_u64() => found.as_u64(),
        Some(found) if found.is_array() => found.as_array().map(|list| list.len() as u64),
        _ => value
            .as_object()?
            .values()
            .find_map(|inner| find_number(inner, name)),
    }
}
