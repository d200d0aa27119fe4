//! A hub, a gateway and the link between them, with their data directories.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay_gateway::client::Client;
use forebay_gateway::client::records::Walk;
use forebay_gateway::config::names::host_port;
use forebay_records::Record;

use super::publisher::Address;
use super::relay::{Relay, Weather};
use super::running::{Running, forebay};

/// How long a test waits for what must come, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Vibration has two partitions; everything else goes to `readings`.
const GATEWAY: &str = "[[route]]\nfilter = \"plant/+/+\"\ntopic = \"vibration\"\npartitions = 2\n";

pub struct Site {
    name: &'static str,
    scratch: tempfile::TempDir,
    hub: Option<Running>,
    gateway: Option<Running>,
    pub relay: Relay,
    /// Where the gateway's MQTT server is.
    pub mqtt: Address,
}

impl Site {
    pub fn start() -> Self {
        Self::named("test")
    }

    pub fn named(name: &'static str) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let hub = start_hub(&scratch);
        let relay = Relay::open(socket(&hub, "kafka"));
        let gateway = start_gateway(&scratch, name, &relay);
        let mqtt = Arc::new(Mutex::new(socket(&gateway, "mqtt")));
        Self {
            name,
            scratch,
            hub: Some(hub),
            gateway: Some(gateway),
            relay,
            mqtt,
        }
    }

    pub fn hub(&self) -> &Running {
        self.hub.as_ref().expect("it is started again after a kill")
    }

    pub fn gateway(&self) -> &Running {
        let gateway = self.gateway.as_ref();
        gateway.expect("it is started again after a kill")
    }

    /// The gateway's configuration file.
    pub fn gateway_config(&self) -> String {
        let file = self.scratch.path().join("gateway/node.toml");
        file.to_str().expect("scratch paths are UTF-8").to_owned()
    }

    /// SIGKILL, then a start on the same data directory.
    pub fn kill_hub(&mut self) {
        self.hub = None;
        self.start_hub();
    }

    /// SIGKILL, then a start on the same data directory.
    pub fn kill_gateway(&mut self) {
        self.gateway = None;
        self.start_gateway();
    }

    /// SIGKILL, then a start on an empty data directory.
    pub fn lose_hub(&mut self) {
        self.hub = None;
        let dir = self.scratch.path().join("hub");
        std::fs::remove_dir_all(dir).expect("the directory is ours");
        self.start_hub();
    }

    /// SIGTERM, and the end that it asks for.
    pub fn stop_gateway(&mut self) {
        let gateway = self.gateway.take().expect("it runs");
        assert_eq!(gateway.terminate().code(), Some(0));
    }

    pub fn start_gateway(&mut self) {
        let gateway = start_gateway(&self.scratch, self.name, &self.relay);
        *self.mqtt.lock().expect("no panic under the lock") = socket(&gateway, "mqtt");
        self.gateway = Some(gateway);
    }

    fn start_hub(&mut self) {
        let hub = start_hub(&self.scratch);
        self.relay.lead_to(socket(&hub, "kafka"));
        self.hub = Some(hub);
    }

    pub fn set(&self, weather: Weather) {
        self.relay.set(weather);
    }

    /// The gateway's status.
    pub fn status(&self) -> serde_json::Value {
        let http = self.gateway().address("http");
        let output = forebay(&["status", "--http", &http, "--json"]);
        serde_json::from_slice(&output.stdout).expect("a running gateway has a status")
    }

    /// What the gateway says about the link of one partition, as soon as it
    /// says that it stopped.
    pub fn stopped_link(&self, topic: &str, partition: u32) -> String {
        self.link_that("stops", topic, partition, |link| {
            (link["stopped"] == true).then_some(())
        })
    }

    /// The state of the link of one partition, as soon as it is as wanted.
    pub fn link_that(
        &self,
        wanted: &str,
        topic: &str,
        partition: u32,
        is_wanted: impl Fn(&serde_json::Value) -> Option<()>,
    ) -> String {
        until(&format!("the link {wanted}"), || {
            let status = self.status();
            let links = status["uplink"]["partitions"].as_array()?;
            let mut links = links.iter().filter(|l| l["topic"] == topic);
            let link = links.find(|l| l["partition"] == partition)?;
            is_wanted(link)?;
            Some(link["state"].as_str()?.to_owned())
        })
    }

    /// Runs `forebay audit --json`; exit code and answer.
    pub fn audit(&self) -> (Option<i32>, serde_json::Value) {
        let (gateway, hub) = (self.gateway().address("kafka"), self.hub().address("kafka"));
        let output = forebay(&[
            "audit",
            "--gateway",
            &gateway,
            "--hub",
            &hub,
            "--site",
            self.name,
            "--json",
        ]);
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer)
    }

    /// Waits until the hub has every one of at least `records` records.
    pub fn drained(&self, records: u64) -> serde_json::Value {
        until("the hub has everything", || {
            let (_, audit) = self.audit();
            let is_complete = audit["pending"] == 0 && audit["compared"].as_u64()? >= records;
            is_complete.then_some(audit)
        })
    }

    /// Waits until the hub's copy of a topic equals the gateway's.
    pub fn until_equal(&self, topic: &str) {
        let copy = format!("{}.{topic}", self.name);
        until("the copy is complete", || {
            let exists = end(self.hub(), &copy) > 0;
            let here = exists.then(|| records(self.gateway(), topic))?;
            (here == records(self.hub(), &copy)).then_some(())
        });
    }
}

/// Every record of a topic, by partition.
pub fn records(node: &Running, topic: &str) -> Vec<Vec<Record>> {
    let address = host_port(&node.address("kafka")).expect("an address");
    runtime().block_on(async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        let topics = client.topics(Some(&[topic])).await.expect("it exists");
        let mut partitions = Vec::new();
        for held in &topics[0].partitions {
            let mut walk = Walk::new(topic, held.partition, held.start, held.end);
            let mut records = Vec::new();
            while let Some(record) = walk.next(&mut client).await.expect("it can be read") {
                records.push(record);
            }
            partitions.push(records);
        }
        partitions
    })
}

/// The sum of the ends of a topic's partitions; zero without the topic.
pub fn end(node: &Running, topic: &str) -> i64 {
    let address = host_port(&node.address("kafka")).expect("an address");
    let topics = runtime().block_on(async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        client.topics(None).await.expect("the node answers")
    });
    let topic = topics.iter().filter(|held| held.name == topic);
    topic.flat_map(|held| &held.partitions).map(|p| p.end).sum()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Looks at a condition until it holds.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

fn start_hub(scratch: &tempfile::TempDir) -> Running {
    let dir = scratch.path().join("hub");
    std::fs::create_dir_all(&dir).expect("the scratch directory is writable");
    Running::start(&dir, "broker", "")
}

fn start_gateway(scratch: &tempfile::TempDir, name: &str, relay: &Relay) -> Running {
    let dir = scratch.path().join("gateway");
    std::fs::create_dir_all(&dir).expect("the scratch directory is writable");
    let address = relay.address();
    let uplink = format!("[uplink]\nbootstrap = [\"{address}\"]\nsite = \"{name}\"\n");
    Running::start(&dir, "gateway", &format!("{GATEWAY}{uplink}"))
}

fn socket(node: &Running, listener: &str) -> SocketAddr {
    let address = node.address(listener);
    address.parse().expect("ports of a ready node")
}
