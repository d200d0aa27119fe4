//! Scenarios with OPC UA servers: asyncua and node-opcua.

mod peers;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::readings::{READ_TIMEOUT, all, is_value, last, wait_for};
use super::{Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};
use crate::proxy::{Fault, Proxy};
use crate::tidy::repository;
pub use peers::Peer;
use peers::{Server, Setting};

/// Everybody who takes part.
pub const PEERS: [Peer; 2] = [Peer::Asyncua, Peer::NodeOpcua];

type Run = fn(&Stage, Peer) -> Outcome;

/// What each of them is asked.
pub const SCENARIOS: [(&str, Run); 8] = [
    ("types-browse-missing-node", types),
    ("policies-identities", policies),
    ("restart-other-namespace-indexes", restart),
    ("link-cut-backlog", cut),
    ("hang", hang),
    ("write-read-back", write),
    ("certificate-replaced", replaced),
    ("reload-adds-a-node", reload),
];

/// Values that are set while the link is cut.
const BACKLOG: u32 = 400;

/// Keys of a session that notices faults soon.
const BRISK: &str = "\
publishing_interval = \"100ms\"
sampling_interval = \"0ms\"
queue_size = 1000
keep_alive = \"1s\"
timeout = \"2s\"
";

fn setting(stage: &Stage, peer: Peer, name: &str, others: u32) -> Outcome<Setting> {
    Ok(Setting {
        port: 0,
        directory: stage
            .directory(&format!("opcua-{}-{name}", peer.name()))?
            .join("server"),
        others,
    })
}

/// A section with a name, for a port, with more keys.
fn section(name: &str, port: u16, keys: &str) -> String {
    format!(
        "[[opcua]]\nname = {name:?}\nendpoint = \"opc.tcp://127.0.0.1:{port}/\"\n{BRISK}{keys}\n"
    )
}

fn nodes(names: &[&str]) -> String {
    let node =
        |name: &&str| format!("{{ name = {name:?}, id = \"nsu=urn:plant:line1;s={name}\" }}");
    let nodes: Vec<String> = names.iter().map(node).collect();
    format!("nodes = [ {} ]\n", nodes.join(", "))
}

fn gateway(stage: &Stage, name: &str, sections: String) -> Outcome<(Node, Spec)> {
    let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
    // Nobody sets the clock of a build machine, and commands need one.
    spec.node = "clock = \"trusted\"\n".to_owned();
    spec.sections = sections;
    Ok((Node::start(&spec)?, spec))
}

/// Waits until the newest reading of a path is good and has this value.
fn expect_value(node: &Node, path: &str, value: &Value) -> Outcome {
    wait_for(node, &format!("{path} = {value}"), |readings| {
        last(readings, path).is_some_and(|reading| {
            reading["quality"] == "good" && is_value(&reading["value"], value)
        })
    })
}

/// Every type as JSON, found by browsing, without the excluded ones; a node that
/// is not there is bad.
fn types(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-types", peer.name());
    let server = Server::start(stage, peer, &setting(stage, peer, "types", 2)?)?;
    let keys = "security = \"none\"\nbrowse = [\"Objects/Line1/**\"]\nexclude = [\"Objects/Line1/m*\"]\n\
        nodes = [ { name = \"missing\", id = \"nsu=urn:plant:line1;s=missing\" }, { name = \"own\", id = \"nsu=urn:plant:line1;s=count\" } ]";
    let (node, _) = gateway(stage, &name, section("cell", server.port, keys))?;
    let expected = [
        ("speed", json!(0.0)),
        ("running", json!(true)),
        ("text", json!("Pumpe 7 Süd")),
        ("levels", json!([1, 2, 3])),
        ("single", json!(21.1)),
        ("since", json!(1_795_392_000_000_i64)),
        ("setpoint", json!(1.5)),
    ];
    for (name, value) in &expected {
        expect_value(&node, &format!("cell/Objects/Line1/{name}"), value)?;
    }
    expect_value(&node, "cell/own", &json!(0))?;
    wait_for(&node, "the missing node", |readings| {
        last(readings, "cell/missing").is_some_and(|reading| {
            reading["quality"] == "bad" && reading["status"] == "BadNodeIdUnknown"
        })
    })?;
    let readings = all(&node)?;
    let single = last(&readings, "cell/Objects/Line1/single");
    // The digits that a single has, not those of the nearest double.
    if single.is_none_or(|single| single["value"] != 21.1) {
        return Err(Failure::new(format!("expected 21.1, got {single:?}")));
    }
    let unwanted = ["cell/Objects/Line1/mode", "cell/Objects/Line1/count"];
    match readings
        .iter()
        .find(|(path, _)| unwanted.contains(&path.as_str()))
    {
        Some(found) => Err(Failure::new(format!(
            "expected no reading of it: {found:?}"
        ))),
        None => Ok(()),
    }
}

/// Each policy and mode with each identity, after the server's certificate was
/// trusted by the command that the alarm tells.
fn policies(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-policies", peer.name());
    let mut server = Server::start(stage, peer, &setting(stage, peer, "policies", 0)?)?;
    let directory = stage.directory(&name)?;
    let password = directory.join("operator.password");
    std::fs::write(&password, "secret\n").during("password file")?;
    let [certificate, key] = ["operator.der", "operator.pem"].map(|name| directory.join(name));
    let mut making = Command::new(&stage.python);
    making
        .arg(repository().join("xtask/interop/opcua_certificate.py"))
        .args([&certificate, &key]);
    finish(&mut making, READ_TIMEOUT)?;
    let identities = [
        ("anonymous", String::new()),
        (
            "user",
            format!("identity = {{ user = \"operator\", password_file = {password:?} }}\n"),
        ),
        (
            "certificate",
            format!("identity = {{ certificate = {certificate:?}, key = {key:?} }}\n"),
        ),
    ];
    let mut sections = section(
        "none",
        server.port,
        &format!("security = \"none\"\n{}", nodes(&["speed"])),
    );
    let mut paths = vec!["none/speed".to_owned()];
    for policy in [
        "Basic256Sha256",
        "Aes128_Sha256_RsaOaep",
        "Aes256_Sha256_RsaPss",
    ] {
        for mode in ["Sign", "SignAndEncrypt"] {
            for (identity, keys) in &identities {
                let cell = format!("{policy}-{mode}-{identity}");
                let keys = format!(
                    "security = \"{policy}/{mode}\"\ncheck_hostname = false\n{keys}{}",
                    nodes(&["speed"])
                );
                sections.push_str(&section(&cell, server.port, &keys));
                paths.push(format!("{cell}/speed"));
            }
        }
    }
    let (node, spec) = gateway(stage, &name, sections)?;
    trust(stage, &node, &spec)?;
    server.set(&[("speed", 7.5)])?;
    for path in &paths {
        expect_value(&node, path, &json!(7.5))?;
    }
    Ok(())
}

/// The server is killed and comes back with other namespace indexes.
fn restart(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-restart", peer.name());
    let mut setting = setting(stage, peer, "restart", 1)?;
    let mut server = Server::start(stage, peer, &setting)?;
    let keys = format!("security = \"none\"\n{}", nodes(&["speed", "count"]));
    let (node, _) = gateway(stage, &name, section("cell", server.port, &keys))?;
    server.set(&[("speed", 1.5), ("count", 100.0)])?;
    expect_value(&node, "cell/speed", &json!(1.5))?;
    expect_value(&node, "cell/count", &json!(100))?;
    setting.port = server.port;
    drop(server);
    wait_for(&node, "an uncertain value", |readings| {
        last(readings, "cell/speed").is_some_and(|reading| reading["quality"] == "uncertain")
    })?;
    setting.others = 4;
    let mut server = Server::start(stage, peer, &setting)?;
    server.set(&[("speed", 2.5), ("count", 200.0)])?;
    expect_value(&node, "cell/speed", &json!(2.5))?;
    expect_value(&node, "cell/count", &json!(200))?;
    // No value was attributed to the other node.
    let allowed = [
        ("cell/speed", [0.0, 1.5, 2.5]),
        ("cell/count", [0.0, 100.0, 200.0]),
    ];
    for (path, reading) in all(&node)? {
        let own = allowed.iter().find(|(known, _)| *known == path);
        let value = reading["value"].as_f64();
        let is_own =
            own.is_some_and(|(_, values)| value.is_none_or(|value| values.contains(&value)));
        if !is_own {
            return Err(Failure::new(format!("{path}: {reading}")));
        }
    }
    Ok(())
}

/// What the server queued while the link was cut comes whole and in order.
fn cut(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-cut", peer.name());
    let mut server = Server::start(stage, peer, &setting(stage, peer, "cut", 0)?)?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port))).during("proxy")?;
    let keys = format!("security = \"none\"\n{}", nodes(&["count"]));
    let (node, _) = gateway(stage, &name, section("cell", proxy.address().port(), &keys))?;
    let mut count = 0;
    let mut next = |server: &mut Server| -> Outcome {
        count += 1;
        server.set(&[("count", f64::from(count))])
    };
    expect_value(&node, "cell/count", &json!(0))?;
    for _ in 0..20 {
        next(&mut server)?;
    }
    expect_value(&node, "cell/count", &json!(20))?;
    proxy.set(Fault::Cut);
    wait_for(&node, "an uncertain value", |readings| {
        last(readings, "cell/count").is_some_and(|reading| reading["quality"] == "uncertain")
    })?;
    for _ in 0..BACKLOG {
        next(&mut server)?;
    }
    proxy.set(Fault::None);
    expect_value(&node, "cell/count", &json!(20 + BACKLOG))?;
    let good: Vec<i64> = all(&node)?
        .iter()
        .filter(|(_, reading)| reading["quality"] == "good")
        .filter_map(|(_, reading)| reading["value"].as_i64())
        .collect();
    expect_counts(peer, &good, 20 + BACKLOG)
}

/// Everything from 0 to `last`, or what a server that samples saw of it: never
/// backwards, and nothing twice.
fn expect_counts(peer: Peer, found: &[i64], last: u32) -> Outcome {
    let expected: Vec<i64> = (0..=i64::from(last)).collect();
    let is_right = if peer.reports_each() {
        found == expected
    } else {
        let ends = (found.first(), found.last());
        found.windows(2).all(|pair| pair[0] < pair[1])
            && ends == (expected.first(), expected.last())
    };
    if is_right {
        return Ok(());
    }
    let missing: Vec<&i64> = expected.iter().filter(|one| !found.contains(one)).collect();
    Err(Failure::new(format!(
        "expected 0 to {last}, got {} values; missing {missing:?}",
        found.len()
    )))
}

/// A server that keeps its connections and does nothing is noticed.
fn hang(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-hang", peer.name());
    let mut server = Server::start(stage, peer, &setting(stage, peer, "hang", 0)?)?;
    let keys = format!("security = \"none\"\n{}", nodes(&["speed"]));
    let (node, _) = gateway(stage, &name, section("cell", server.port, &keys))?;
    expect_value(&node, "cell/speed", &json!(0.0))?;
    server.freeze()?;
    wait_for(&node, "an uncertain value", |readings| {
        last(readings, "cell/speed").is_some_and(|reading| reading["quality"] == "uncertain")
    })?;
    server.thaw()?;
    server.set(&[("speed", 5.5)])?;
    expect_value(&node, "cell/speed", &json!(5.5))
}

/// Commands over MQTT reach the node in its own type.
fn write(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-write", peer.name());
    let mut server = Server::start(stage, peer, &setting(stage, peer, "write", 1)?)?;
    let id = |name: &str| format!("name = {name:?}, id = \"nsu=urn:plant:line1;s={name}\"");
    let mut keys = "security = \"none\"\nnodes = [\n".to_owned();
    for (name, write) in [
        ("setpoint", "type = \"float\", min = 0, max = 100"),
        ("mode", "type = \"integer\""),
        ("speed", "type = \"float\""),
    ] {
        writeln!(
            keys,
            "  {{ {}, write = {{ {write}, min_interval = \"0s\" }} }},",
            id(name)
        )
        .during("nodes")?;
    }
    keys.push_str("]\n");
    let sections = format!(
        "[commands]\nenabled = true\nallow = [\"scada\"]\n\n{}",
        section("device", server.port, &keys)
    );
    let (node, _) = gateway(stage, &name, sections)?;
    expect_value(&node, "device/mode", &json!(3))?;
    stage.script("opcua_commands.py", "write", &node, &[])?;
    let written = (server.get("setpoint")?, server.get("mode")?);
    if written != (json!(41.5), json!(-7)) {
        return Err(Failure::new(format!("the server has {written:?}")));
    }
    expect_value(&node, "device/setpoint", &json!(41.5))?;
    expect_value(&node, "device/mode", &json!(-7))
}

/// A server that was set up anew is a stranger until a person says otherwise.
fn replaced(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-replaced", peer.name());
    let mut setting = setting(stage, peer, "replaced", 0)?;
    let server = Server::start(stage, peer, &setting)?;
    let keys = format!("check_hostname = false\n{}", nodes(&["speed"]));
    let (node, spec) = gateway(stage, &name, section("cell", server.port, &keys))?;
    trust(stage, &node, &spec)?;
    expect_value(&node, "cell/speed", &json!(0.0))?;
    setting.port = server.port;
    setting.directory = setting.directory.with_file_name("other");
    drop(server);
    let mut server = Server::start(stage, peer, &setting)?;
    server.set(&[("speed", 9.5)])?;
    fingerprint(&node)?;
    let readings = all(&node)?;
    if readings.iter().any(|(_, reading)| reading["value"] == 9.5) {
        return Err(Failure::new("a stranger's value was taken"));
    }
    trust(stage, &node, &spec)?;
    expect_value(&node, "cell/speed", &json!(9.5))
}

/// A node that is added by `forebay reload` leaves the session alone.
fn reload(stage: &Stage, peer: Peer) -> Outcome {
    let name = format!("opcua-{}-reload", peer.name());
    let mut server = Server::start(stage, peer, &setting(stage, peer, "reload", 0)?)?;
    let keys = |names| format!("security = \"none\"\n{}", nodes(names));
    let before = section("cell", server.port, &keys(&["count"]));
    let (node, spec) = gateway(stage, &name, before.clone())?;
    expect_value(&node, "cell/count", &json!(0))?;
    let file = spec.work_dir.join("forebay.toml");
    let text = std::fs::read_to_string(&file).during(file.display())?;
    let after = section("cell", server.port, &keys(&["count", "speed"]));
    std::fs::write(&file, text.replace(&before, &after)).during(file.display())?;
    for count in 1..=50 {
        server.set(&[("count", f64::from(count))])?;
        if count == 25 {
            let mut command = Command::new(&stage.program);
            command.args(["reload", "--http", &node.ports.http.to_string()]);
            finish(&mut command, READ_TIMEOUT)?;
        }
    }
    server.set(&[("speed", 3.5)])?;
    expect_value(&node, "cell/speed", &json!(3.5))?;
    expect_value(&node, "cell/count", &json!(50))?;
    let readings = all(&node)?;
    let counts = readings.iter().filter(|(path, _)| path == "cell/count");
    let counts: Vec<i64> = counts
        .filter_map(|(_, reading)| reading["value"].as_i64())
        .collect();
    let reconnects = &node.status().during("status")?["devices"][0]["reconnects"];
    if reconnects != 0 {
        return Err(Failure::new(format!("{reconnects} reconnects")));
    }
    expect_counts(peer, &counts, 50)
}

/// Runs the command that the alarm about a certificate tells.
fn trust(stage: &Stage, node: &Node, spec: &Spec) -> Outcome {
    let fingerprint = fingerprint(node)?;
    let mut command = Command::new(&stage.program);
    command
        .args(["opcua", "trust", &fingerprint, "--config"])
        .arg(spec.work_dir.join("forebay.toml"));
    finish(&mut command, READ_TIMEOUT).map(drop)
}

/// Waits for the alarm about a certificate.
fn fingerprint(node: &Node) -> Outcome<String> {
    const WORDS: &str = "forebay opcua trust ";
    let started = Instant::now();
    loop {
        let status = node.status().during("status")?;
        let devices = status["devices"].as_array().cloned().unwrap_or_default();
        let alarms = devices
            .iter()
            .filter_map(|device| device["alarms"].as_array());
        let alarm = alarms
            .flatten()
            .filter_map(Value::as_str)
            .find(|alarm| alarm.contains(WORDS));
        if let Some((_, fingerprint)) = alarm.and_then(|alarm| alarm.split_once(WORDS)) {
            return Ok(fingerprint.trim().to_owned());
        }
        if started.elapsed() > READ_TIMEOUT {
            return Err(Failure::new(format!(
                "no alarm about a certificate: {devices:?}"
            )));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
