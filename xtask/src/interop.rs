//! `cargo xtask interop`: the built program against real peers.

mod acls;
mod bridge;
mod console;
mod crowd;
mod features;
pub(crate) mod install;
mod link;
mod logins;
mod modbus;
mod opcua;
mod queries;
mod readings;
mod sparkplug;
mod tls;
mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec, program};
use crate::tidy::repository;

/// The text of `cargo xtask interop --help`.
pub const HELP: &str = "\
Runs the built program against mosquitto and its clients, paho, kcat, confluent-kafka,
kafka-python, curl, pymodbus, libmodbus, pysparkplug and Chromium, cuts the link between a
gateway and a hub, kills a gateway while its queries work, and crowds one with
connections. Installs what it needs (apt, a Python environment).

Usage: cargo xtask interop [OPTIONS] [NAME ...]

NAME selects scenarios whose name contains it.

Options:
  --list          print the names
  --bin PATH      drive this program instead of building one (profile ci)
  --no-install    use what is there
  --seed N        repeat the link cuts of an earlier run
  --readings N    readings that flow while the link is cut (default 100000)
  --json          print the summary as JSON
";

/// What a scenario works with.
#[derive(Debug)]
struct Stage {
    program: PathBuf,
    python: PathBuf,
    work: TempDir,
    readings: u64,
}

/// One named scenario.
struct Scenario {
    name: String,
    run: Box<dyn Fn(&Stage) -> Outcome>,
}

impl Scenario {
    fn new(name: impl Into<String>, run: impl Fn(&Stage) -> Outcome + 'static) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// Functions of `xtask/interop/*.py`: script and scenario names.
const SCRIPTS: [(&str, &str, &[&str]); 3] = [
    (
        "paho",
        "mqtt_paho.py",
        &[
            "qos-v311",
            "qos-v5",
            "retained-v311",
            "retained-v5",
            "will-v311",
            "will-v5",
            "session-v311",
            "session-v5",
            "takeover-v311",
            "takeover-v5",
            "wildcards-v311",
            "wildcards-v5",
            "unsubscribe-v311",
            "unsubscribe-v5",
        ],
    ),
    (
        "confluent",
        "kafka_confluent.py",
        &["codecs", "groups", "commit", "admin", "idempotent", "times"],
    ),
    (
        "kafka-python",
        "kafka_pure.py",
        &["codecs", "groups", "admin", "idempotent", "times"],
    ),
];

fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        Scenario::new("mosquitto-v311", |stage| {
            tools::mosquitto(stage, "mqttv311")
        }),
        Scenario::new("mosquitto-v5", |stage| tools::mosquitto(stage, "mqttv5")),
        Scenario::new("kcat", tools::kcat),
        Scenario::new("mqtt-to-kafka", tools::mqtt_to_kafka),
    ];
    for (peer, script, names) in SCRIPTS {
        for name in names {
            all.push(Scenario::new(format!("{peer}-{name}"), move |stage| {
                let node = stage.gateway(&format!("{peer}-{name}"))?;
                stage.script(script, name, &node, &[])
            }));
            if peer == "paho" {
                all.push(features::over_websocket(name));
            }
        }
    }
    all.extend(features::scenarios());
    all.extend(bridge::scenarios());
    all.extend(tls::scenarios());
    all.extend(acls::scenarios());
    all.extend(logins::scenarios());
    all.extend(queries::scenarios());
    all.extend(console::scenarios());
    for mode in ["tcp", "rtu-over-tcp", "rtu"] {
        all.push(Scenario::new(
            format!("modbus-pymodbus-types-orders-tables-{mode}"),
            move |stage| modbus::pymodbus(stage, mode),
        ));
    }
    for mode in ["tcp", "rtu"] {
        all.push(Scenario::new(
            format!("modbus-libmodbus-tables-{mode}"),
            move |stage| modbus::libmodbus(stage, mode),
        ));
    }
    all.push(Scenario::new(
        "modbus-pymodbus-restarted-device",
        modbus::restarted_device,
    ));
    all.push(Scenario::new(
        "modbus-libmodbus-dead-neighbour-rtu",
        modbus::dead_neighbour,
    ));
    for mode in ["tcp", "rtu-over-tcp"] {
        all.push(Scenario::new(
            format!("modbus-pymodbus-commands-{mode}"),
            move |stage| modbus::commands(stage, mode),
        ));
    }
    for peer in opcua::PEERS {
        for (name, run) in opcua::SCENARIOS {
            let full = format!("opcua-{}-{name}", peer.name());
            all.push(Scenario::new(full, move |stage| run(stage, peer)));
        }
    }
    for name in sparkplug::NAMES {
        all.push(Scenario::new(format!("sparkplug-{name}"), move |stage| {
            sparkplug::edge_node(stage, name)
        }));
    }
    all.push(Scenario::new(
        "sparkplug-certificates-restart",
        sparkplug::restart,
    ));
    all.push(Scenario::new("demo", tools::demo));
    all.push(Scenario::new("crowd", crowd::ten_thousand));
    all.push(Scenario::new("link", link::cut_at_random));
    all
}

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    scenarios().into_iter().map(|one| one.name).collect()
}

/// Runs the scenarios.
///
/// # Errors
/// A scenario failed, or nothing could be run.
pub fn command(mut args: Args) -> Outcome {
    let given = args.value::<PathBuf>("--bin")?;
    let readings = args.value("--readings")?.unwrap_or(100_000);
    let seed = args.value("--seed")?.unwrap_or_else(|| fastrand::u64(..));
    let list = args.flag("--list");
    let no_install = args.flag("--no-install");
    let as_json = args.flag("--json");
    let wanted = args.names();
    args.finish()?;
    let mut selected = scenarios();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word));
    selected.retain(|scenario| is_wanted(&scenario.name));
    if list {
        selected
            .iter()
            .for_each(|scenario| println!("{}", scenario.name));
        return Ok(());
    }
    if selected.is_empty() {
        return Err(Failure::new("no scenario has such a name; see --list"));
    }
    let stage = Stage {
        python: install::everything(no_install)?,
        program: program::given_or_built(given)?,
        work: tempfile::Builder::new()
            .prefix("forebay-interop-")
            .tempdir()
            .during("temporary directory")?,
        readings,
    };
    fastrand::seed(seed);
    println!("interop: {} scenarios, seed {seed}", selected.len());
    let mut failed = Vec::new();
    let mut took = Vec::new();
    for scenario in &selected {
        let started = Instant::now();
        let result = (scenario.run)(&stage);
        let elapsed = started.elapsed();
        took.push(json!({
            "name": scenario.name,
            "seconds": elapsed.as_secs_f64(),
            "failure": result.as_ref().err().map(ToString::to_string),
        }));
        match result {
            Ok(()) => println!("ok     {} ({:.1} s)", scenario.name, elapsed.as_secs_f64()),
            Err(failure) => {
                println!("FAILED {}: {failure}", scenario.name);
                failed.push(scenario.name.as_str());
            }
        }
    }
    if as_json {
        println!("{}", json!({ "seed": seed, "scenarios": took }));
    }
    println!(
        "{} passed, {} failed",
        selected.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("failed: {}", failed.join(", "))))
    }
}

impl Stage {
    /// Starts a fresh gateway in a directory of its own.
    fn gateway(&self, name: &str) -> Outcome<Node> {
        Node::start(&Spec::gateway(&self.program, name, self.work.path()))
    }

    /// Runs one function of a Python script against `node`.
    fn script(&self, script: &str, name: &str, node: &Node, more: &[&str]) -> Outcome {
        let mqtt = node.ports.mqtt.unwrap_or(node.ports.kafka).to_string();
        let kafka = node.ports.kafka.to_string();
        self.script_at(script, name, [&mqtt, &kafka], more)
    }

    /// Runs one function of a Python script against MQTT and Kafka addresses.
    fn script_at(&self, script: &str, name: &str, at: [&str; 2], more: &[&str]) -> Outcome {
        let path = repository().join("xtask/interop").join(script);
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(path).arg(name).args(at).args(more);
        finish(&mut command, SCRIPT_TIMEOUT).map(drop)
    }

    /// A directory for a scenario's own files.
    fn directory(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.work.path().join(name);
        std::fs::create_dir_all(&path).during(path.display())?;
        Ok(path)
    }
}

/// The time a script gets: far above the slowest, which waits for a rebalance.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(180);

/// Runs a command to its end and returns what it printed; a failure shows the
/// end of what it said.
fn finish(command: &mut Command, limit: Duration) -> Outcome<Vec<u8>> {
    use std::io::Read;
    use std::process::Stdio;
    let name = command.get_program().to_string_lossy().into_owned();
    let name = Path::new(&name)
        .file_name()
        .map_or(name.clone(), |n| n.to_string_lossy().into());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .during(&name)?;
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe that breaks ends like one that is closed.
            pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        })
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().during(&name)? {
            break status;
        }
        if started.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::new(format!("{name} did not end within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let out = out.join().unwrap_or_default();
    let err = err.join().unwrap_or_default();
    if status.success() {
        return Ok(out);
    }
    let said = String::from_utf8_lossy(&err).into_owned() + &String::from_utf8_lossy(&out);
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(12)..].join("\n       ");
    Err(Failure::new(format!(
        "{name} ended with {status}:\n       {tail}"
    )))
}
