//! Scenarios with Modbus devices: pymodbus and libmodbus, over TCP, RTU through
//! TCP, and RTU on a pseudo-terminal pair.

mod peers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::readings::{READ_TIMEOUT, all as readings, is_value, last, wait_for};
use super::{Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};
use peers::{Line, Peer};

/// Reads every type in every byte order, every table, a reference and an
/// address that does not exist.
pub fn pymodbus(stage: &Stage, mode: &str) -> Outcome {
    let line = (mode == "rtu").then(|| Line::start(stage)).transpose()?;
    let device = line.as_ref().map(|line| line.device.as_path());
    let peer = Peer::pymodbus(stage, mode, device, None)?;
    let endpoint = endpoint(mode, &peer.place, line.as_ref());
    let node = gateway(stage, &format!("pymodbus-{mode}"), &endpoint, &peer.tags)?;
    expect_tags(&node, &peer.tags)?;
    drop(node);
    // The node is gone, so the line is free.
    probe(stage, &endpoint)
}

/// Reads a device by libmodbus, all four tables.
pub fn libmodbus(stage: &Stage, mode: &str) -> Outcome {
    let line = (mode == "rtu").then(|| Line::start(stage)).transpose()?;
    let peer = Peer::libmodbus(stage, mode, line.as_ref().map(|line| line.device.as_path()))?;
    let endpoint = endpoint(mode, &peer.place, line.as_ref());
    let node = gateway(stage, &format!("libmodbus-{mode}"), &endpoint, &peer.tags)?;
    expect_tags(&node, &peer.tags)
}

/// Kills the device while it is polled, looks for bad readings, brings it back
/// at the same place and looks for good ones.
pub fn restarted_device(stage: &Stage) -> Outcome {
    let peer = Peer::pymodbus(stage, "tcp", None, None)?;
    let place = peer.place.clone();
    let tags: Vec<Value> = peer.tags.iter().take(3).cloned().collect();
    let endpoint = endpoint("tcp", &place, None);
    let node = gateway(stage, "modbus-restarted", &endpoint, &tags)?;
    expect_tags(&node, &tags)?;
    drop(peer);
    let name = path(&tags[0]);
    wait_for(&node, "a bad reading", |all| {
        last(all, &name).is_some_and(|reading| reading["status"] == "disconnected")
    })?;
    let _again = Peer::pymodbus(stage, "tcp", None, Some(&place))?;
    wait_for(&node, "a good reading", |all| {
        last(all, &name).is_some_and(|reading| reading["quality"] == "good")
    })?;
    // Whatever happened, no reading held anything but its register.
    let all = readings(&node)?;
    for tag in &tags {
        let mine = all.iter().filter(|(key, _)| *key == path(tag));
        for (_, reading) in mine.filter(|(_, reading)| reading["quality"] == "good") {
            if !is_value(&reading["value"], &tag["value"]) {
                return Err(Failure::new(format!("{tag}: got {reading}")));
            }
        }
    }
    Ok(())
}

/// Bad readings of a live unit that a busy machine may cause beside twenty good
/// ones. A unit that pays for its neighbour has more.
const LATE_MAX: usize = 4;

/// Adds a unit that nobody answers for and looks whether its neighbour is read
/// as before.
///
/// The timeout is the default of a second. A unit by libmodbus takes whatever
/// comes within half a second of an unanswered request to another unit for that
/// one's answer, so with a shorter timeout it misses requests of its own.
pub fn dead_neighbour(stage: &Stage) -> Outcome {
    let line = Line::start(stage)?;
    let peer = Peer::libmodbus(stage, "rtu", Some(&line.device))?;
    let endpoint = endpoint("rtu", &peer.place, Some(&line));
    let alive = serde_json::json!({ "name": "alive", "address": 7, "type": "UINT16", "value": 35 });
    let dead = serde_json::json!({ "name": "dead", "address": 7, "type": "UINT16", "unit_id": 9, "status": "timeout" });
    let tags = vec![alive, dead];
    let node = gateway(stage, "modbus-neighbour", &endpoint, &tags)?;
    expect_tags(&node, &tags)?;
    let count = |all: &[(String, Value)], name: &str, quality: &str| {
        let of_tag = all.iter().filter(|(key, _)| key == name);
        of_tag
            .filter(|(_, reading)| reading["quality"] == quality)
            .count()
    };
    // Twenty polls of the one while the other is probed a few times.
    wait_for(&node, "twenty good readings", |all| {
        count(all, "device/alive", "good") >= 20
    })?;
    let all = readings(&node)?;
    let late = count(&all, "device/alive", "bad");
    let dead = count(&all, "device/dead", "bad");
    if late > LATE_MAX || dead > 8 {
        return Err(Failure::new(format!(
            "the live unit was late {late} times, and the dead one was tried {dead} times"
        )));
    }
    Ok(())
}

/// Commands over MQTT: what is allowed is at the device and nowhere else, what is
/// not is not, and a restart repeats none.
pub fn commands(stage: &Stage, mode: &str) -> Outcome {
    let peer = Peer::pymodbus(stage, mode, None, None)?;
    let name = format!("modbus-commands-{mode}");
    let mut spec = Spec::gateway(&stage.program, &name, stage.work.path());
    // Nobody sets the clock of a build machine, and commands need one.
    spec.node = "clock = \"trusted\"\n".to_owned();
    let tags = [
        r#"{ name = "setpoint", address = 380, type = "FLOAT32", byte_order = "CDAB", write = { min = 0, max = 100 } }"#,
        r#"{ name = "valve", register = "coil", address = 60, write = {} }"#,
        r#"{ name = "high", address = 390, type = "UINT8H", write = {} }"#,
        r#"{ name = "low", address = 390, type = "UINT8L", write = {} }"#,
    ];
    spec.sections = format!(
        "[commands]\nenabled = true\nallow = [\"scada\"]\n\n\
         [[modbus]]\nname = \"device\"\ninterval = \"200ms\"\nendpoint = {:?}\ntags = [{}]\n",
        endpoint(mode, &peer.place, None),
        tags.join(", "),
    );
    let script =
        |name, node: &Node| stage.script("modbus_commands.py", name, node, &[&peer.place, mode]);
    let mut node = Node::start(&spec)?;
    let is_zero = |reading: &Value| is_value(&reading["value"], &0.0.into());
    wait_for(&node, "a good reading", |all| {
        last(all, "device/setpoint").is_some_and(is_zero)
    })?;
    script("write", &node)?;
    node.kill();
    script("overwrite", &node)?;
    let node = Node::start(&spec)?;
    // Commands are not read from the log; two polls later would be the time.
    wait_for(&node, "the reading of what somebody else wrote", |all| {
        let mut newest = all.iter().rev();
        let written = newest.position(|(_, reading)| is_value(&reading["value"], &41.5.into()));
        let newer = all.iter().rev().take(written.unwrap_or(all.len()));
        newer.filter(|(key, _)| key == "device/setpoint").count() >= 2
    })?;
    script("untouched", &node)
}

fn endpoint(mode: &str, place: &str, line: Option<&Line>) -> String {
    match (mode, line) {
        (_, Some(line)) => format!("rtu://{}?baud=115200&parity=none", line.gateway.display()),
        ("rtu-over-tcp", None) => format!("rtu+tcp://127.0.0.1:{place}"),
        _ => format!("tcp://127.0.0.1:{place}"),
    }
}

fn gateway(stage: &Stage, name: &str, endpoint: &str, tags: &[Value]) -> Outcome<Node> {
    let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
    spec.sections = section(endpoint, tags).during("[[modbus]]")?;
    Node::start(&spec)
}

/// The section of a device with these tags.
fn section(endpoint: &str, tags: &[Value]) -> Result<String, std::fmt::Error> {
    let mut out = String::from("[[modbus]]\nname = \"device\"\ninterval = \"200ms\"\n");
    writeln!(out, "endpoint = {endpoint:?}\ntags = [")?;
    for tag in tags {
        out.push_str("  { ");
        let fields = tag.as_object().into_iter().flatten();
        let known = fields.filter(|(key, _)| !matches!(key.as_str(), "value" | "status"));
        for (index, (key, value)) in known.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(out, "{comma}{key} = {value}")?;
        }
        out.push_str(" },\n");
    }
    out.push_str("]\n");
    Ok(out)
}

/// Waits until every tag has the reading that it should have.
///
/// A busy machine may be late with an answer, and the reading that says so is
/// right. A good reading with another value never is.
fn expect_tags(node: &Node, tags: &[Value]) -> Outcome {
    let mut wrong = None;
    let waited = wait_for(node, "right reading of every tag", |all| {
        let newest: BTreeMap<&str, &Value> = all
            .iter()
            .map(|(key, reading)| (key.as_str(), reading))
            .collect();
        wrong = tags.iter().find_map(|tag| {
            let reading = newest.get(path(tag).as_str());
            let is_right = reading.is_some_and(|reading| is_reading(reading, tag));
            (!is_right).then(|| (tag, reading.map_or(Value::Null, |&reading| reading.clone())))
        });
        let still = wrong.as_ref().map(|(_, reading)| reading);
        still.is_none_or(|reading| reading["quality"] == "good")
    });
    match wrong {
        Some((tag, got)) => Err(Failure::new(format!("expected {tag}, got {got}"))),
        None => waited,
    }
}

fn is_reading(reading: &Value, tag: &Value) -> bool {
    let has_time = reading["timestamp"].as_i64().is_some_and(|at| at > 0);
    let is_right = match tag.get("status") {
        Some(status) => reading["status"] == *status && reading["value"].is_null(),
        None => reading["quality"] == "good" && is_value(&reading["value"], &tag["value"]),
    };
    has_time && is_right
}

fn path(tag: &Value) -> String {
    format!("device/{}", tag["name"].as_str().unwrap_or_default())
}

/// The probe finds the device's numbers and its unit.
fn probe(stage: &Stage, endpoint: &str) -> Outcome {
    let probe = |words: &[&str]| {
        let mut command = Command::new(&stage.program);
        command
            .args(["probe", "modbus", endpoint, "--json"])
            .args(words);
        finish(&mut command, READ_TIMEOUT)
    };
    let table = probe(&["--address", "0", "--count", "4"])?;
    let table: Value = serde_json::from_slice(&table).during("forebay probe")?;
    let first = &table["values"][0];
    if first["INT16"]["ABCD"] != -1_234 || first["reference"] != "40001" {
        return Err(Failure::new(format!("forebay probe: got {table}")));
    }
    let scan = probe(&["--scan-units", "--units", "1-2", "--timeout", "2s"])?;
    let scan: Value = serde_json::from_slice(&scan).during("forebay probe")?;
    if scan["units"][0]["unit"] != 1 {
        return Err(Failure::new(format!(
            "forebay probe --scan-units: got {scan}"
        )));
    }
    Ok(())
}
