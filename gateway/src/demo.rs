//! `forebay demo`: a hub, a gateway and simulated sensors in a scratch
//! directory. The link is cut and restored on the way, and an audit ends it.

mod audit;
mod bearing;
mod broker;
mod link;
mod nodes;
mod plc;
mod screen;
mod sensors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};

use self::audit::{Arrival, Audit};
use self::bearing::Finding;
use self::link::Link;
use self::nodes::{Node, NodeError};
use self::plc::Plc;
use self::screen::{Row, Screen};
use self::sensors::{Machine, Tally};
use crate::cli::{DemoArgs, EXIT_FAILED};
use crate::client::records::Walk;
use crate::client::{Client, ClientError};
use crate::config::HostPort;

/// The site name of the demo gateway, the prefix of its topics at the hub.
const SITE: &str = "demo";
/// How long the demo runs when nobody says: long enough to see the bearing
/// leave its healthy range and the backlog drain.
const DEFAULT_SECONDS: u64 = 60;
/// Shorter runs leave no time to cut the link and to see it come back.
const MIN_SECONDS: u64 = 3;
/// How long the audit waits for the hub to have what the gateway has.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at the lag while draining.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// How long the sensors may wait for their last PUBACKs.
const SENSOR_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Why the demo could not be shown to its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot use the directory {dir}: {source}")]
    Directory {
        dir: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot open a loopback port for the link: {0}")]
    Link(std::io::Error),
    #[error("cannot open a loopback port for the PLC: {0}")]
    Plc(std::io::Error),
    #[error("cannot wait for Ctrl-C: {0}")]
    Signal(std::io::Error),
    #[error("the bridge to the old broker is {state} and brought {readings} readings after {} s", DRAIN_LIMIT.as_secs())]
    Bridge { state: String, readings: u64 },
    #[error("the hub still lacks {lag} readings after {} s", DRAIN_LIMIT.as_secs())]
    NotDrained { lag: u64 },
    #[error("a record at {topic}/{partition} offset {offset} is no reading of the demo")]
    Foreign {
        topic: String,
        partition: i32,
        offset: i64,
    },
}

/// Runs the demo. Exit code 0 means that the audit is clean.
pub fn run(args: &DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("forebay: cannot start: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match runtime.block_on(in_scratch_directory(args)) {
        Ok(audit) if audit.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn in_scratch_directory(args: &DemoArgs) -> Result<Audit, DemoError> {
    let dir = args.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!(
            "forebay-demo-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        ))
    });
    let directory_error = |source| DemoError::Directory {
        dir: dir.clone(),
        source,
    };
    std::fs::create_dir_all(&dir).map_err(directory_error)?;
    let outcome = show(args, &dir).await;
    if args.dir.is_none() {
        std::fs::remove_dir_all(&dir).map_err(directory_error)?;
    }
    outcome
}

async fn show(args: &DemoArgs, dir: &Path) -> Result<Audit, DemoError> {
    let mut screen = Screen::new(args.json);
    let hub = Node::start("hub", dir, &nodes::hub_config(dir)).await?;
    let link = Link::open(hub.ports.kafka())
        .await
        .map_err(DemoError::Link)?;
    let old_broker = Node::start(broker::BRIDGE, dir, &broker::config(dir)).await?;
    let plc = Plc::start().await.map_err(DemoError::Plc)?;
    let query = bearing::section(dir).map_err(|source| DemoError::Directory {
        dir: dir.to_path_buf(),
        source,
    })?;
    let devices = plc::section(plc.address) + &broker::section(old_broker.ports.mqtt()) + &query;
    let config = nodes::gateway_config(dir, link.address(), &devices);
    let gateway = Node::start("gateway", dir, &config).await?;
    screen.announce(&format!(
        "A hub (Kafka on {}) and a gateway (MQTT on {}, Kafka on {}, HTTP on {}) run in {}.\n\
         Four presses publish at QoS 1; the bearing of press-3 is failing, and a query watches.\n\
         A fifth is polled: press-5 is a PLC on Modbus TCP ({}).\n\
         A sixth knows only an old MQTT broker ({}), which is bridged in.",
        hub.ports.kafka(),
        gateway.ports.mqtt(),
        gateway.ports.kafka(),
        gateway.ports.http(),
        dir.display(),
        plc.address,
        old_broker.ports.mqtt(),
    ));
    let mut view = View::open(&gateway, &hub).await?;
    // Nobody keeps what is published before the bridge has subscribed.
    view.wait_for_bridge(|bridge| bridge.state == "connected")
        .await?;
    let tally = Arc::new(Tally::default());
    let seconds = args.seconds.unwrap_or(DEFAULT_SECONDS).max(MIN_SECONDS);
    // The bearing's life is as long as the demo.
    let haste = bearing::LIFE_SECONDS / seconds as f64;
    let mut sensors = sensors::start(&machines(&gateway, &old_broker), &tally, haste);
    watch(seconds, &mut view, &mut screen, &link, &tally).await?;

    link.restore();
    tally.stop();
    let quiet = async { while sensors.join_next().await.is_some() {} };
    // Sensors that still wait are counted as sent and not acknowledged.
    let _ = tokio::time::timeout(SENSOR_STOP_LIMIT, quiet).await;
    sensors.abort_all();
    let bridged = tally.acknowledged_of(broker::MACHINE);
    view.wait_for_bridge(|bridge| bridge.readings >= bridged)
        .await?;
    view.drain().await?;
    let arrivals = view.arrivals().await?;
    let mut audit = Audit::new(&tally.sent_per_path(), tally.acknowledged(), &arrivals);
    audit.findings = view.findings;
    report(&audit, args.json, &screen);
    gateway.stop().await;
    old_broker.stop().await;
    hub.stop().await;
    Ok(audit)
}

/// The machines that publish, and where.
fn machines(gateway: &Node, old_broker: &Node) -> Vec<Machine> {
    let direct = sensors::MACHINES.map(|name| Machine {
        name,
        broker: gateway.ports.mqtt(),
        prefix: broker::LOCAL_PREFIX,
        path_prefix: broker::LOCAL_PREFIX,
    });
    let mut machines = direct.to_vec();
    machines.push(Machine {
        name: broker::MACHINE,
        broker: old_broker.ports.mqtt(),
        prefix: broker::REMOTE_PREFIX,
        path_prefix: broker::LOCAL_PREFIX,
    });
    machines
}

/// Shows a row a second; the link is down in the second third of the time.
async fn watch(
    seconds: u64,
    view: &mut View,
    screen: &mut Screen,
    link: &Link,
    tally: &Tally,
) -> Result<(), DemoError> {
    let started = Instant::now();
    let mut ticks =
        tokio::time::interval_at(started + Duration::from_secs(1), Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = (started, 0);
    loop {
        tokio::select! {
            at = ticks.tick() => {
                let acknowledged = tally.acknowledged();
                let rate = (acknowledged - last.1) as f64 / (at - last.0).as_secs_f64().max(0.001);
                last = (at, acknowledged);
                let elapsed = started.elapsed().as_secs();
                screen.show(&view.row(elapsed, rate, link.is_up(), tally).await?);
                for finding in view.find(elapsed, link.is_up()).await {
                    screen.announce(&finding.sentence());
                }
                if elapsed >= seconds {
                    return Ok(());
                }
                let should_be_up = elapsed < seconds / 3 || elapsed >= seconds * 2 / 3;
                if should_be_up != link.is_up() {
                    switch(link, should_be_up, screen);
                }
            }
            signal = tokio::signal::ctrl_c() => {
                signal.map_err(DemoError::Signal)?;
                screen.announce("Stopping; the audit follows.");
                return Ok(());
            }
        }
    }
}

fn switch(link: &Link, up: bool, screen: &Screen) {
    if up {
        link.restore();
        screen.announce("--- The link is back. The backlog drains while live readings go on. ---");
    } else {
        link.cut();
        screen.announce(
            "--- The link to the hub is cut. The gateway keeps acknowledging and stores. ---",
        );
    }
}

fn report(audit: &Audit, json: bool, screen: &Screen) {
    if json {
        match serde_json::to_string(audit) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("forebay: cannot print the audit: {error}"),
        }
        return;
    }
    screen.announce(&format!(
        "Audit: {} sent, {} acknowledged, {} arrived at the hub, with them {} polled readings and {} results of the query, {} gaps, {} duplicates, {} out of order, {} missing offsets.\n{}",
        audit.sent,
        audit.acknowledged,
        audit.arrived,
        audit.polled,
        audit.results,
        audit.gaps,
        audit.duplicates,
        audit.out_of_order,
        audit.offset_gaps,
        if audit.is_clean() {
            "Every acknowledged reading arrived once and in order."
        } else {
            "This is a defect; please report it with the directory given by --dir."
        },
    ));
}

/// The demo's eyes: a Kafka client at each node and the gateway's status page.
struct View {
    gateway: Client,
    hub: Client,
    gateway_http: HostPort,
    /// Alerts that were seen.
    findings: Vec<Finding>,
}

/// What the gateway's status says about the bridge.
#[derive(Debug, Default, Deserialize)]
struct BridgeStatus {
    state: String,
    readings: u64,
}

/// What a demo sensor puts into a payload. Polled readings have no number.
#[derive(Deserialize)]
struct Payload {
    seq: Option<u64>,
}

impl View {
    async fn open(gateway: &Node, hub: &Node) -> Result<View, ClientError> {
        Ok(View {
            gateway: Client::connect(&host_port(gateway.ports.kafka())).await?,
            hub: Client::connect(&host_port(hub.ports.kafka())).await?,
            gateway_http: host_port(gateway.ports.http()),
            findings: Vec::new(),
        })
    }

    async fn row(
        &mut self,
        seconds: u64,
        rate: f64,
        link_up: bool,
        tally: &Tally,
    ) -> Result<Row, ClientError> {
        Ok(Row {
            seconds,
            link_up,
            rate,
            acknowledged: tally.acknowledged(),
            gateway_durable: durable(&mut self.gateway).await?,
            hub_durable: durable(&mut self.hub).await?,
            buffer_hours: self.buffer_hours().await,
            vibration: tally.vibration(sensors::FAILING_MACHINE),
        })
    }

    /// Alerts that are new. The picture goes on without them.
    async fn find(&mut self, seconds: u64, link_up: bool) -> Vec<Finding> {
        let alerts = crate::cli::alerts::fetch(&(&self.gateway_http).into()).await;
        let found = alerts.unwrap_or_default();
        let found = found
            .iter()
            .filter_map(|alert| Finding::of(alert, seconds, link_up));
        let is_known = |one: &Finding| self.findings.iter().any(|old| old.machine == one.machine);
        let new: Vec<Finding> = found.filter(|one| !is_known(one)).collect();
        self.findings.extend(new.iter().cloned());
        new
    }

    /// Waits until the bridge is as it is wanted.
    async fn wait_for_bridge(
        &self,
        is_as_wanted: impl Fn(&BridgeStatus) -> bool,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            let bridge = self.bridge().await.unwrap_or_default();
            if is_as_wanted(&bridge) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let BridgeStatus { state, readings } = bridge;
                return Err(DemoError::Bridge { state, readings });
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    async fn bridge(&self) -> Option<BridgeStatus> {
        let status = crate::cli::status::fetch(&(&self.gateway_http).into())
            .await
            .ok()?;
        let mut devices = status.get("devices")?.as_array()?.iter();
        let bridge = devices.find(|device| device["name"] == broker::BRIDGE)?;
        BridgeStatus::deserialize(bridge).ok()
    }

    /// Waits until the hub has as many readings as the gateway.
    async fn drain(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            let here = durable(&mut self.gateway).await?;
            let lag = here.saturating_sub(durable(&mut self.hub).await?);
            if lag == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(DemoError::NotDrained { lag });
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Reads every reading back from the hub.
    async fn arrivals(&mut self) -> Result<Vec<Arrival>, DemoError> {
        let mut arrivals = Vec::new();
        for topic in self.hub.topics(None).await? {
            for held in topic.partitions {
                let mut walk = Walk::new(&topic.name, held.partition, held.start, held.end);
                while let Some(record) = walk.next(&mut self.hub).await? {
                    let foreign = || DemoError::Foreign {
                        topic: topic.name.clone(),
                        partition: held.partition,
                        offset: record.offset,
                    };
                    let path = record
                        .key
                        .as_deref()
                        .and_then(|key| std::str::from_utf8(key).ok());
                    let payload: Option<Payload> = record
                        .value
                        .as_deref()
                        .and_then(|value| serde_json::from_slice(value).ok());
                    arrivals.push(Arrival {
                        topic: topic.name.clone(),
                        partition: held.partition.unsigned_abs(),
                        offset: record.offset.unsigned_abs(),
                        path: path.ok_or_else(foreign)?.to_owned(),
                        sequence: payload.ok_or_else(foreign)?.seq,
                    });
                }
            }
        }
        Ok(arrivals)
    }

    /// The gateway's own estimate; the picture goes on without it.
    async fn buffer_hours(&self) -> Option<f64> {
        let status = crate::cli::status::fetch(&(&self.gateway_http).into())
            .await
            .ok()?;
        status.pointer("/uplink/hours_of_buffer_left")?.as_f64()
    }
}

/// Sum of the visible offsets of all topics of a node.
async fn durable(client: &mut Client) -> Result<u64, ClientError> {
    let topics = client.topics(None).await?;
    Ok(topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|held| held.end.max(0).unsigned_abs())
        .sum())
}

fn host_port(address: std::net::SocketAddr) -> HostPort {
    HostPort {
        host: address.ip().to_string(),
        port: address.port(),
    }
}
