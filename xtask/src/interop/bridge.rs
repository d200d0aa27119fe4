//! A bridge between a gateway and a mosquitto broker, either of which is stopped
//! and killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::install::SERVERS;
use super::{Scenario, Stage};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};

/// How often one side is ended while messages flow.
const BREAKS: u32 = 3;

/// The time that mosquitto gets to listen, or to save and end.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a condition of another process is looked at.
const POLL: Duration = Duration::from_millis(10);

const PREFIXED: &str = r##"[
  { filter = "#", direction = "out", local_prefix = "up/", remote_prefix = "site/" },
  { filter = "#", direction = "in", local_prefix = "down/", remote_prefix = "center/" },
]"##;

const SAME: &str = r#"[{ filter = "loop/#", direction = "both" }]"#;

type Run = fn(&Stage, &str, &str) -> Outcome;

/// Each scenario in each version.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let runs: [(&str, Run); 4] = [
        ("both-ways", both_ways),
        ("same-topics", same_topics),
        ("broker-restarts", broker_restarts),
        ("gateway-killed", gateway_killed),
    ];
    runs.into_iter().flat_map(|(name, run)| {
        [("v311", "3.1.1"), ("v5", "5")].map(|(short, version)| {
            let full = format!("mqtt-bridge-{name}-{short}");
            Scenario::new(full.clone(), move |stage| run(stage, &full, version))
        })
    })
}

fn both_ways(stage: &Stage, name: &str, version: &str) -> Outcome {
    let pair = Pair::start(stage, name, version, PREFIXED)?;
    pair.script(stage, "both-ways", &[])
}

fn same_topics(stage: &Stage, name: &str, version: &str) -> Outcome {
    let pair = Pair::start(stage, name, version, SAME)?;
    pair.script(stage, "loop", &[])
}

/// Stops mosquitto while messages flow. Then kills it, which makes it forget
/// everything that it had not saved: it gets what was published meanwhile, and
/// the bridge subscribes again.
///
/// It is not killed while messages flow, because it acknowledges before it saves,
/// so what it loses then is not the bridge's.
fn broker_restarts(stage: &Stage, name: &str, version: &str) -> Outcome {
    let mut pair = Pair::start(stage, name, version, PREFIXED)?;
    flow_while(stage, name, &mut pair, |pair| {
        pair.broker.stop()?;
        thread::sleep(some_time());
        pair.broker.start()
    })?;
    pair.broker.kill();
    pair.script(stage, "away", &[])?;
    pair.broker.start()?;
    pair.script(stage, "back", &[])
}

/// Kills the gateway while messages flow.
fn gateway_killed(stage: &Stage, name: &str, version: &str) -> Outcome {
    let mut pair = Pair::start(stage, name, version, PREFIXED)?;
    let ports = pair.node.ports;
    let mqtt = pair.node.mqtt()?;
    // It comes back where its clients look for it.
    pair.spec.ports = [mqtt.port(), ports.kafka.port(), ports.http.port()];
    flow_while(stage, name, &mut pair, |pair| {
        pair.node.kill();
        thread::sleep(some_time());
        pair.node = Node::start(&pair.spec)?;
        Ok(())
    })
}

/// Runs `break_it` now and then while the script's messages flow.
fn flow_while(
    stage: &Stage,
    name: &str,
    pair: &mut Pair,
    mut break_it: impl FnMut(&mut Pair) -> Outcome,
) -> Outcome {
    let directory = stage.directory(&format!("{name}-flow"))?;
    let at = [pair.node.mqtt()?, pair.node.ports.kafka].map(|address| address.to_string());
    let broker = pair.broker.address.to_string();
    let version = pair.version.clone();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let flowing = scope.spawn(|| {
            let [mqtt, kafka] = &at;
            let place = directory.display().to_string();
            let words = [broker.as_str(), &version, &place];
            let result = stage.script_at("mqtt_bridge.py", "flow", [mqtt, kafka], &words);
            has_ended.store(true, Ordering::Release);
            result
        });
        // A script that fails before ends this wait as well.
        while !directory.join("flowing").exists() && !has_ended.load(Ordering::Acquire) {
            thread::sleep(POLL);
        }
        let broken = (0..BREAKS).try_for_each(|_| {
            thread::sleep(Duration::from_millis(500) + some_time());
            match has_ended.load(Ordering::Acquire) {
                true => Err(Failure::new("the messages ended before the breaks")),
                false => break_it(pair),
            }
        });
        thread::sleep(some_time());
        let over = fs::write(directory.join("over"), "").during(directory.display());
        let flowed = flowing.join();
        flowed.unwrap_or_else(|_| Err(Failure::new("the script's thread panicked")))?;
        over.and(broken)
    })
}

/// Up to a second, so that breaks meet every state.
fn some_time() -> Duration {
    Duration::from_millis(fastrand::u64(0..1_000))
}

/// A gateway and the broker that it is bridged to.
struct Pair {
    node: Node,
    spec: Spec,
    broker: Broker,
    version: String,
}

impl Pair {
    fn start(stage: &Stage, name: &str, version: &str, topics: &str) -> Outcome<Self> {
        let broker = Broker::start_new(&stage.directory(&format!("{name}-broker"))?)?;
        let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
        spec.sections = format!(
            "[[bridge]]\nname = \"old\"\naddress = \"{}\"\nversion = {version:?}\ntopics = {topics}\n",
            broker.address
        );
        Ok(Self {
            node: Node::start(&spec)?,
            spec,
            broker,
            version: version.to_owned(),
        })
    }

    fn script(&self, stage: &Stage, function: &str, more: &[&str]) -> Outcome {
        let broker = self.broker.address.to_string();
        let words = [&[broker.as_str(), &self.version], more].concat();
        stage.script("mqtt_bridge.py", function, &self.node, &words)
    }
}

/// A mosquitto that keeps its sessions in a file when it is stopped.
struct Broker {
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Broker {
    fn start_new(directory: &Path) -> Outcome<Self> {
        // The port is free until mosquitto takes it, unless somebody is as fast.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("a free port")?;
        let address = port.local_addr().during("a free port")?;
        drop(port);
        let config = directory.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\n",
            address.port(),
            directory.display()
        );
        fs::write(&config, text).during(config.display())?;
        let mut broker = Self {
            address,
            config,
            log: directory.join("mosquitto.log"),
            child: None,
        };
        broker.start()?;
        Ok(broker)
    }

    fn start(&mut self) -> Outcome {
        let installed = Path::new(SERVERS).join("mosquitto");
        let program = match installed.is_file() {
            true => installed,
            false => PathBuf::from("mosquitto"),
        };
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.during(self.log.display())?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .during("mosquitto")?;
        self.child = Some(child);
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if started.elapsed() > BROKER_TIMEOUT {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(Failure::new(format!("mosquitto does not listen: {said}")));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// SIGTERM: it saves and ends.
    fn stop(&mut self) -> Outcome {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let id = i32::try_from(child.id()).ok();
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // An error means that it has ended already.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let started = Instant::now();
        while child.try_wait().during("mosquitto")?.is_none() {
            if started.elapsed() > BROKER_TIMEOUT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::new("mosquitto does not end"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
