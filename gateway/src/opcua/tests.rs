//! A server from the socket to the log. What a session does is tested in
//! `forebay-opcua`; here it is what becomes of it.

use std::path::Path;
use std::time::Instant;

use forebay_records::records;
use forebay_storage::disk::RealDisk;
use forebay_storage::{Preallocation, Storage};
use opcua::crypto::SecurityPolicy;
use opcua::nodes::AccessLevel;
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{
    InMemoryNodeManager, SimpleNodeManager, SimpleNodeManagerImpl, simple_node_manager,
};
use opcua::server::{ServerBuilder, ServerEndpoint, ServerHandle};
use opcua::types::{DataTypeId, DataValue, DateTime, MessageSecurityMode, NodeId, ObjectId};
use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::commands::{CommandOutcome, CommandRequest, Commands};
use crate::config::Config;
use crate::devices::Health;
use crate::ingest::routes::Routes;
use crate::queries::board::Board;
use crate::readings::Publisher;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server with a rotating speed and a writable setpoint.
struct Machine {
    port: u16,
    handle: ServerHandle,
    manager: Arc<InMemoryNodeManager<SimpleNodeManagerImpl>>,
    namespace: u16,
    serving: JoinHandle<Result<(), String>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Machine {
    async fn start(pki: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let users = ["ANONYMOUS".to_owned()];
        let endpoint = |policy, mode| ServerEndpoint::new("/", policy, mode, &users);
        let space = NamespaceMetadata {
            namespace_uri: "urn:machine".to_owned(),
            ..NamespaceMetadata::default()
        };
        let none = endpoint(SecurityPolicy::None, MessageSecurityMode::None);
        let policy = SecurityPolicy::Basic256Sha256;
        let protected = endpoint(policy, MessageSecurityMode::SignAndEncrypt);
        let mut builder = ServerBuilder::new()
            .application_name("machine")
            .application_uri("urn:machine:server")
            .product_uri("urn:machine")
            .create_sample_keypair(true)
            .certificate_path("own/cert.der")
            .private_key_path("private/private.pem")
            .pki_dir(pki)
            .trust_client_certs(true)
            .host("127.0.0.1")
            .port(port)
            .discovery_urls(vec![format!("opc.tcp://127.0.0.1:{port}/")])
            .subscription_poll_interval_ms(20)
            .add_endpoint("none", none)
            .add_endpoint("protected", protected)
            .with_node_manager(simple_node_manager(space, "machine"));
        let limits = &mut builder.limits_mut().subscriptions;
        limits.min_publishing_interval_ms = 20.0;
        limits.min_sampling_interval_ms = 0.0;
        let (server, handle) = builder.build().unwrap();
        let manager = handle.node_managers();
        let manager = manager.get_by_name::<SimpleNodeManager>("machine").unwrap();
        let serving = tokio::spawn(server.run_with(listener));
        let namespace = handle.get_namespace_index("urn:machine").unwrap();
        let machine = Self {
            port,
            handle,
            manager,
            namespace,
            serving,
        };
        machine.add_nodes();
        machine
    }

    fn add_nodes(&self) {
        let space = self.manager.address_space();
        let mut space = space.write();
        let folder = NodeId::new(self.namespace, "Line1");
        space.add_folder(&folder, "Line1", "Line1", &ObjectId::ObjectsFolder.into());
        let writable = AccessLevel::CURRENT_READ | AccessLevel::CURRENT_WRITE;
        for (name, access) in [
            ("speed", AccessLevel::CURRENT_READ),
            ("setpoint", writable),
            ("extra", AccessLevel::CURRENT_READ),
        ] {
            VariableBuilder::new(&NodeId::new(self.namespace, name), name, name)
                .data_type(DataTypeId::Float)
                .value(0.0_f32)
                .access_level(access)
                .user_access_level(access)
                .organized_by(&folder)
                .insert(&mut *space);
        }
    }

    fn set(&self, name: &str, value: f32) {
        let node = NodeId::new(self.namespace, name);
        let value = DataValue {
            value: Some(value.into()),
            source_timestamp: Some(DateTime::now()),
            ..DataValue::null()
        };
        let subscriptions = self.handle.subscriptions();
        self.manager
            .set_value(subscriptions, &node, None, value)
            .unwrap();
    }

    fn section(&self, keys: &str) -> Arc<config::OpcUa> {
        let text = format!(
            "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n[[opcua]]\nname = \"cell-4\"\nendpoint = \"opc.tcp://127.0.0.1:{}\"\npublishing_interval = \"50ms\"\nsampling_interval = \"0ms\"\nkeep_alive = \"500ms\"\n{keys}\n",
            self.port
        );
        let config = Config::parse(Path::new("f.toml"), &text);
        let mut servers = config.expect("the section is valid").opcua;
        Arc::new(servers.remove(0))
    }
}

const SPEED: &str = "{ name = \"speed\", id = \"nsu=urn:machine;s=speed\", unit = \"1/min\" }";
const SETPOINT: &str = "{ name = \"setpoint\", id = \"nsu=urn:machine;s=setpoint\", write = { type = \"float\", min = 0, max = 99 } }";

/// A running device over a log in a scratch directory.
struct Site {
    storage: Storage,
    commands: Commands,
    health: Health,
    config: watch::Sender<Arc<config::OpcUa>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Site {
    async fn start(directory: &Path, section: Arc<config::OpcUa>) -> Self {
        let mut settings = forebay_storage::Config::new(directory);
        settings.preallocation = Preallocation::None;
        settings.retention.keep_free = 0;
        settings.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(settings, Arc::new(RealDisk::new())));
        let (storage, _) = opening.await.unwrap().unwrap();
        let routes = Arc::new(Routes::new(&[]).unwrap());
        let publisher = Publisher::with_clock(storage.clone(), routes, Clock::trusted());
        let context = DeviceContext {
            publisher: publisher.clone(),
            commands: Commands::default(),
            queries: Board::open(&publisher),
            health: Health::new("cell-4", "opcua"),
            data_dir: Arc::from(directory),
            config_dir: Arc::from(directory),
        };
        let (config, watched) = watch::channel(section);
        let (stop, stopped) = watch::channel(false);
        Self {
            storage,
            commands: context.commands.clone(),
            health: context.health.clone(),
            config,
            stop,
            serving: tokio::spawn(run(watched, context, stopped)),
        }
    }

    async fn until(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_there(self) {
            let snapshot = self.health.snapshot();
            assert!(
                started.elapsed() < DEADLINE,
                "no {what}: {snapshot:?} {:?}",
                self.readings().last()
            );
            tokio::task::yield_now().await;
        }
    }

    async fn reading(&self, path: &str, is_wanted: impl Fn(&Json) -> bool) -> Json {
        let find = |site: &Self| {
            let mut all = site.readings().into_iter();
            all.find(|(key, reading)| key == path && is_wanted(reading))
        };
        self.until(path, |site| find(site).is_some()).await;
        find(self).unwrap().1
    }

    fn readings(&self) -> Vec<(String, Json)> {
        let Some(topic) = self.storage.topic("readings") else {
            return Vec::new();
        };
        let partition = topic.partition(0).unwrap();
        let (mut from, end) = {
            let offsets = partition.offsets();
            (offsets.log_start, offsets.high_watermark)
        };
        let mut found = Vec::new();
        while from < end {
            let chunk = partition.read(from, 1 << 20, true).unwrap();
            for batch in &chunk.batches {
                for record in records(batch, 1 << 20).unwrap().map(Result::unwrap) {
                    from = u64::try_from(record.offset).unwrap() + 1;
                    let key = record.key.unwrap_or_default();
                    let key = String::from_utf8_lossy(&key).into_owned();
                    let value = serde_json::from_slice(&record.value.unwrap_or_default());
                    found.push((key, value.unwrap()));
                }
            }
        }
        found
    }

    fn alarms(&self) -> String {
        let alarms = self.health.snapshot().alarms;
        alarms.into_values().collect::<Vec<_>>().join("\n")
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.serving.await.unwrap();
        let storage = self.storage;
        tokio::task::spawn_blocking(move || storage.close())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_become_readings_and_a_reload_keeps_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(&dir.path().join("server")).await;
    let keys = |nodes: &str| format!("security = \"none\"\nnodes = [ {nodes} ]");
    let data = dir.path().join("data");
    let site = Site::start(&data, machine.section(&keys(SPEED))).await;
    site.until("connection", |site| {
        site.health.snapshot().state == DeviceState::Connected
    })
    .await;
    machine.set("speed", 21.1);
    let speed = site
        .reading("cell-4/speed", |reading| reading["value"] == 21.1)
        .await;
    assert_eq!(
        (&speed["quality"], &speed["unit"]),
        (&"good".into(), &"1/min".into())
    );
    assert!(speed.get("status").is_none(), "{speed}");
    let before = site.health.snapshot();
    assert_eq!((before.tags, before.reconnects), (1, 0));
    // Another node, one that does not exist, and one that may be written.
    let missing = "{ name = \"missing\", id = \"nsu=urn:machine;s=missing\" }";
    let nodes = format!("{SPEED}, {missing}, {SETPOINT}");
    site.config.send_replace(machine.section(&keys(&nodes)));
    let bad = site.reading("cell-4/missing", |_| true).await;
    assert_eq!(
        (&bad["value"], &bad["quality"]),
        (&Json::Null, &"bad".into())
    );
    assert_eq!(bad["status"], "BadNodeIdUnknown");
    site.until("degradation", |site| {
        let snapshot = site.health.snapshot();
        snapshot.state == DeviceState::Degraded && snapshot.tags == 3
    })
    .await;
    let alarms = site.alarms();
    assert_eq!(alarms, "the server does not have 1 nodes, such as missing");
    assert_eq!(site.health.snapshot().reconnects, 0);
    let outcome = command(&site, "cell-4/setpoint", Value::Float(41.5)).await;
    let read_back = Value::Float(41.5);
    assert_eq!(outcome, CommandOutcome::Done { read_back });
    site.reading("cell-4/setpoint", |reading| reading["value"] == 41.5)
        .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_trust_and_its_loss_makes_values_uncertain() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(&dir.path().join("server")).await;
    let keys = "check_hostname = false\nbrowse = [ \"Objects/Line1/*\" ]";
    let data = dir.path().join("data");
    let site = Site::start(&data, machine.section(keys)).await;
    let words = "trust it: forebay opcua trust ";
    site.until("alarm", |site| site.alarms().contains(words))
        .await;
    assert!(site.readings().is_empty());
    let alarms = site.alarms();
    let fingerprint = alarms.split(words).nth(1).unwrap();
    let fingerprint: String = fingerprint
        .chars()
        .take_while(char::is_ascii_hexdigit)
        .collect();
    let pki = forebay_opcua::certificates::Pki::open(&plan::pki_dir(&data)).unwrap();
    pki.trust(&fingerprint).unwrap();
    machine.set("speed", 7.5);
    site.reading("cell-4/Objects/Line1/speed", |reading| {
        reading["value"] == 7.5
    })
    .await;
    assert_eq!(site.alarms(), "");
    let reason = site.health.snapshot().reason;
    assert_eq!(reason, "Basic256Sha256 SignAndEncrypt");
    machine.handle.cancel();
    drop(machine);
    let away = site
        .reading("cell-4/Objects/Line1/speed", |one| {
            one["quality"] == "uncertain"
        })
        .await;
    assert_eq!(away["value"], 7.5);
    assert_eq!(away["status"], "UncertainNoCommunicationLastUsableValue");
    site.until("being down", |site| {
        site.health.snapshot().state == DeviceState::Down
    })
    .await;
    site.stop().await;
}

/// Hands a command to the tag, as the desk does after its checks.
async fn command(site: &Site, path: &str, value: Value) -> CommandOutcome {
    let writable = || site.commands.writable(path);
    site.until("writable tag", |_| writable().is_some()).await;
    let (_, device) = writable().expect("it was there");
    let (reply, outcome) = oneshot::channel();
    let request = CommandRequest {
        value,
        id: "1".to_owned(),
        reply,
    };
    device.send(request).await.unwrap();
    outcome.await.unwrap()
}
