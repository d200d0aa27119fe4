//! The configuration: one TOML file, read once into types that cannot be wrong.
//!
//! [`Config::load`] walks the spanned document itself instead of handing it
//! to a derive, because a derive stops at the first mistake and this program
//! reports all of them together, each with file, line, key, value and the
//! expected form. What the walk yields is resolved: durations are
//! [`std::time::Duration`], sizes are bytes, addresses are parsed, defaults
//! (see [`defaults`]) are filled in.
//!
//! The reference for people is `docs/configuration.md`; `config/gateway.toml`
//! and `config/hub.toml` are shipped and parsed by a test.

mod access;
mod bridge;
mod commands;
pub mod defaults;
mod limits;
mod link;
mod listeners;
mod mistake;
mod modbus;
pub mod names;
mod node;
mod opcua;
pub mod quantity;
mod query;
mod section;
mod sparkplug;
mod tags;
mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::ingest::routes::Durability;
pub use crate::sasl::Sasl;
pub use access::Access;
pub use bridge::{Bridge, BridgeTopic, BridgeVersion, Direction};
pub use commands::Commands;
pub use limits::MqttLimits;
pub use mistake::{ConfigError, Mistake};
pub use modbus::{Modbus, ModbusTag};
pub use opcua::{OpcUa, OpcUaWrite};
pub use query::{Beginning, Query, late_topic};
use section::Document;
pub use sparkplug::Sparkplug;
pub use tags::WriteLimits;
pub use tls::{ClientCertificates, ClientTls, SYSTEM_AUTHORITIES, Tls};

/// A whole configuration, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// The log on disk.
    pub storage: Storage,
    /// The MQTT server. `None` on a broker whose file has no `[mqtt]`.
    pub mqtt: Option<Mqtt>,
    /// The Kafka protocol server. Both roles have one.
    pub kafka: Kafka,
    /// The HTTP server.
    pub http: Http,
    /// The node's own certificate.
    pub tls: Option<Tls>,
    /// MQTT path to log topic, in the order of the file; the first match wins.
    /// Never empty: the default route closes the list when no `#` does.
    pub routes: Vec<Route>,
    /// The link to the hub.
    pub uplink: Option<Uplink>,
    /// Modbus devices, in the order of the file.
    pub modbus: Vec<Modbus>,
    /// OPC UA servers, in the order of the file.
    pub opcua: Vec<OpcUa>,
    /// `[sparkplug]`; `None` unless it is enabled.
    pub sparkplug: Option<Sparkplug>,
    /// Whether tags may be written over MQTT, and by whom.
    pub commands: Commands,
    /// Connections to brokers that exist already.
    pub bridges: Vec<Bridge>,
    /// Continuous queries, in the order of the file.
    pub queries: Vec<Query>,
    /// Who may come in, and what for.
    pub access: Access,
    /// What is logged, and how.
    pub log: Log,
    /// What the file says that works and is probably not meant.
    pub warnings: Vec<Mistake>,
}

/// The two roles of the one binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes sensor traffic in and forwards it.
    Gateway,
    /// The hub: takes what gateways forward.
    Broker,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name of this node in logs, status and, by default, of its site.
    pub name: String,
    /// What this node does.
    pub role: Role,
    /// The directory that holds the log.
    pub data_dir: PathBuf,
    /// Threads of the asynchronous runtime.
    pub worker_threads: usize,
    /// Whether the system clock is believed as it is.
    pub clock: ClockTrust,
}

/// `node.clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// Records are marked until the system says that it is synchronised.
    Auto,
    /// Records are never marked.
    Trusted,
}

/// `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// How long a commit window gathers before it is synced.
    pub commit_linger: Duration,
    /// Bytes of one segment file.
    pub segment_size: u64,
    /// What is kept.
    pub retention: Retention,
    /// What happens when the disk is full.
    pub when_full: WhenFull,
    /// How segments get their space ahead of the writes.
    pub preallocation: Preallocation,
}

/// `storage.preallocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocation {
    /// Zeroes are written ahead: the cheapest small commit.
    ZeroFill,
    /// The file system reserves blocks.
    Fallocate,
    /// Files grow as they are written.
    None,
}

/// `storage.retention`. A `None` is no limit of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whole segments whose newest record is older than this go.
    pub time: Option<Duration>,
    /// Bytes of all topics together; the oldest segments go first.
    pub size: Option<u64>,
    /// Bytes left free on the file system at least.
    pub keep_free: u64,
}

/// `storage.when_full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Acknowledgements are withheld and the sender is told.
    Reject,
    /// The oldest segments go, and the loss is recorded as a gap.
    DropOldest,
}

/// `[mqtt]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// Where the server listens. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where it listens for TLS. `None`: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// Where it listens for WebSockets. `None`: nowhere.
    pub websocket_listen: Option<SocketAddr>,
    /// Where it listens for WebSockets over TLS. `None`: nowhere.
    pub websocket_tls_listen: Option<SocketAddr>,
    /// Sites whose pages may open a WebSocket, besides the gateway's own host.
    pub websocket_origins: Vec<String>,
    /// Bytes of one MQTT packet at most, announced to MQTT 5 clients.
    pub max_packet_size: u32,
    /// QoS 1 and 2 publishes in flight per client at most.
    pub receive_maximum: u16,
    /// The longest session expiry that is granted.
    pub session_expiry_max: Duration,
    /// The longest keep alive that is granted.
    pub keep_alive_max: Duration,
    /// How long a new connection may take to send CONNECT.
    pub connect_timeout: Duration,
    /// Connections open at the same time at most.
    pub max_connections: u32,
    /// How often `$SYS` is brought up to date; zero is never.
    pub sys_interval: Duration,
    /// What one client may ask for.
    pub limits: MqttLimits,
}

/// `[kafka]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Where the server listens. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// The address that clients are told to come back to. `None`: the one bound.
    pub advertise: Option<HostPort>,
    /// Where it listens for TLS. `None`: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// The address that clients of the TLS listener are told to come back to.
    /// `None`: the one bound.
    pub tls_advertise: Option<HostPort>,
    /// Whether a Metadata request creates the topic it asks for.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without a number.
    pub default_partitions: u32,
    /// Bytes of one record batch at most.
    pub max_message_bytes: u32,
    /// How long the committed offsets of a consumer group without members are
    /// kept.
    pub offsets_retention: Duration,
    /// Connections open at the same time at most.
    pub max_connections: u32,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where the server listens. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where it listens for HTTPS. `None`: nowhere.
    pub tls_listen: Option<SocketAddr>,
}

/// One `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// An MQTT topic filter. A level may be named, `{machine}`, which matches
    /// as `+` does and can be used in `key`.
    pub filter: String,
    /// The log topic that matching publishes go to.
    pub topic: String,
    /// Partitions the topic is created with.
    pub partitions: u32,
    /// The record key, with `{name}` for a named level. `None`: the whole path.
    pub key: Option<String>,
    /// Where MQTT publishes are kept. With [`Durability::Memory`] there is no
    /// topic and its name is empty.
    pub durability: Durability,
}

/// `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Addresses of the hub, tried in turn.
    pub bootstrap: Vec<HostPort>,
    /// The name of this site: topics arrive as `<site>.<topic>`.
    pub site: String,
    /// What is forwarded, with its priority.
    pub topics: Vec<UplinkTopic>,
    /// Bytes per second at most. `None`: as fast as the link goes.
    pub max_rate: Option<u64>,
    /// How the hub is checked, and what it is shown. `None`: plain TCP.
    pub tls: Option<ClientTls>,
    /// Who the gateway is at the hub. `None`: it does not log in.
    pub sasl: Option<Sasl>,
}

/// One element of `uplink.topics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkTopic {
    /// A log topic, or `#` for every topic that no other element names.
    pub name: String,
    /// Lower goes first.
    pub priority: u8,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Lines for people or JSON for machines.
    pub format: LogFormat,
    /// A level (`info`) or a filter by module (`info,forebay_storage=debug`).
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    Human,
    /// One JSON object per event.
    Json,
}

/// A host name or address with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Config {
    /// Takes over the sections of another configuration that a running node
    /// can change to.
    pub fn take_devices(&mut self, other: Self) {
        self.modbus = other.modbus;
        self.opcua = other.opcua;
        self.commands = other.commands;
        self.bridges = other.bridges;
        self.queries = other.queries;
        self.access = other.access;
        if self.tls.is_some() {
            self.tls = other.tls;
        }
    }

    /// Reads and resolves the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or it holds mistakes: all of them are listed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Resolves `text`. `path` names the file in mistakes, and files that are
    /// named in the text must be there from its directory.
    ///
    /// # Errors
    /// All mistakes of the text together.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document = Document::new(path, text);
        let config = Self::resolve(&document);
        let mistakes = document.into_mistakes();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(ConfigError::Mistakes(mistakes)),
        }
    }

    /// Walks the document. `None` when something needed is missing or wrong;
    /// the mistakes are then in the document.
    fn resolve(document: &Document<'_>) -> Option<Self> {
        let table = document.table()?;
        let root = document.root(&table);
        let (node_section, node) = node::node(&root);
        let role = node.role.unwrap_or(Role::Gateway);
        let storage = node::storage(&root, role);
        let mqtt = listeners::mqtt(&root, role);
        let kafka = listeners::kafka(&root);
        let http = listeners::http(&root);
        let tls = tls::tls(&root);
        let (mut routes, routes_at) = link::routes(&root);
        let uplink = link::uplink(&root, node.name.as_deref());
        let modbus = modbus::modbus(&root);
        let opcua = opcua::servers(&root, &modbus);
        let sparkplug = sparkplug::sparkplug(&root);
        if sparkplug.is_some() {
            sparkplug::put_routes(&root, &mut routes);
            if mqtt.is_none() {
                document.mistake(
                    "sparkplug.enabled",
                    "expected no [sparkplug] without [mqtt]: edge nodes publish there",
                );
            }
        }
        if role == Role::Broker && !modbus.is_empty() {
            document.mistake(
                "modbus",
                "expected no [[modbus]] on a broker: gateways poll devices",
            );
        }
        if role == Role::Broker && !opcua.is_empty() {
            document.mistake(
                "opcua",
                "expected no [[opcua]] on a broker: gateways subscribe to servers",
            );
        }
        let commands = commands::commands(&root, role);
        let bridges = bridge::bridges(&root, node.name.as_deref());
        if mqtt.is_none() && !bridges.is_empty() {
            document.mistake(
                "bridge",
                "expected no [[bridge]] without [mqtt]: bridges carry its namespace",
            );
        }
        let queries = query::queries(&root, &routes);
        if mqtt.is_none() && !queries.is_empty() {
            document.mistake(
                "query",
                "expected no [[query]] without [mqtt]: queries read its namespace",
            );
        }
        let access = access::access(&root, node.data_dir.as_deref());
        let log = node::log(&root);
        root.finish();
        node_section.finish();

        let config = Self {
            node: node.complete()?,
            storage,
            mqtt,
            kafka,
            http,
            tls,
            routes,
            uplink,
            modbus,
            opcua,
            sparkplug,
            commands,
            bridges,
            queries,
            access,
            log,
            warnings: Vec::new(),
        };
        config.check_combinations(document, routes_at);
        Some(Self {
            warnings: document.take_warnings(),
            ..config
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Broker => "broker",
        })
    }
}
