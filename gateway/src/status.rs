//! What a node says about itself: the answer of `/api/v1/status`.
//!
//! `forebay status` reads the same types back, so the two cannot drift apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::devices::Changes;
use crate::queries::board::Acknowledged;

/// A whole node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The name of the node.
    pub node: String,
    /// `gateway` or `broker`.
    pub role: String,
    /// The version of the program.
    pub version: String,
    /// Seconds since the node was ready.
    pub uptime_seconds: u64,
    /// Whether the system clock was synchronised once, or is trusted; records
    /// are marked while it is not. `None` without an MQTT server.
    #[serde(default)]
    pub clock_synchronised: Option<bool>,
    /// Where the node listens.
    pub listeners: Listeners,
    /// The log on disk.
    pub storage: StorageStatus,
    /// Every topic, by name.
    pub topics: Vec<TopicStatus>,
    /// The link to the hub, when there is one.
    pub uplink: Option<UplinkReport>,
    /// The MQTT server, when there is one.
    pub mqtt: Option<MqttStatus>,
    /// The Kafka server.
    #[serde(default)]
    pub kafka: KafkaStatus,
    /// The connections to machines and other brokers, by name.
    #[serde(default)]
    pub devices: Vec<DeviceStatus>,
    /// Continuous queries, by name.
    #[serde(default)]
    pub queries: Vec<QueryStatus>,
    /// The node's certificate and what shows it, when something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
}

/// TLS on the node's listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// The certificates whose end somebody has to know.
    pub certificates: Vec<CertificateStatus>,
    /// The listeners, by their keys in the configuration.
    pub listeners: Vec<TlsListenerStatus>,
    /// What needs a person: an end that is near, files that were not taken up.
    pub alarms: Vec<String>,
}

/// A certificate in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// What it is to the node: `server` or `client_ca`.
    pub role: String,
    /// Its file.
    pub file: String,
    /// Its subject, as RFC 4514 writes it.
    pub subject: String,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// Until when it counts, in seconds since the Unix epoch.
    pub expires_at: i64,
}

/// The handshakes of a listener since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsListenerStatus {
    /// Its key in the configuration.
    pub listener: String,
    /// Handshakes with all signatures.
    pub full: u64,
    /// Handshakes by a ticket of an earlier connection.
    pub resumed: u64,
    /// Connections that did not become one, by reason.
    pub failures: BTreeMap<String, u64>,
}

/// A continuous query. Totals count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStatus {
    /// The name.
    pub name: String,
    /// `connecting` before the first step, `connected`, or `down`.
    pub state: String,
    /// Why it is in that state; empty when there is nothing to say.
    pub reason: String,
    /// What needs a person.
    pub alarms: Vec<String>,
    /// The log topic of its results.
    pub topic: String,
    /// Records that became rows.
    pub rows_in: u64,
    /// Result rows.
    pub rows_out: u64,
    /// Rows whose windows had closed.
    pub late: u64,
    /// Rows whose time is too far ahead of their record's.
    pub ahead: u64,
    /// Records whose payload is not what the query expects.
    pub malformed: u64,
    /// Rows for which there was no memory.
    pub no_memory: u64,
    /// Windows that ended early and keys that were forgotten to save memory.
    pub shed: u64,
    /// Records in the log that it has not read yet.
    pub lag_records: u64,
    /// How far event time has come, in milliseconds since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// The newest event time, in milliseconds since the Unix epoch.
    pub newest_ms: Option<i64>,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// Alerts that are active.
    pub active_alerts: u64,
    /// Processor time that it took, in microseconds.
    pub cpu_us: u64,
}

/// An alert that is active.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertStatus {
    /// What identifies it.
    pub id: String,
    /// The query that raised it.
    pub query: String,
    /// Where it was published.
    pub path: String,
    /// The alert as it was published.
    pub alert: serde_json::Value,
    /// Who has seen it, and when.
    pub acknowledged: Option<Acknowledged>,
}

/// A consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group id.
    pub group: String,
    /// Kafka's name of its state.
    pub state: String,
    /// Client ids of its members.
    pub members: Vec<String>,
    /// What it committed.
    pub offsets: Vec<GroupOffsetStatus>,
}

/// What a group committed in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffsetStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that it reads next.
    pub committed: u64,
    /// Records that it has not read. `None` when the topic is gone.
    pub lag: Option<u64>,
}

/// What became of a request to read the configuration again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Whether the file was fine and was applied.
    pub applied: bool,
    /// What became of the devices.
    pub changes: Changes,
    /// Sections that differ from what runs and are read only at the start.
    pub needs_restart: Vec<String>,
    /// All mistakes of the file, when it was not applied.
    pub mistakes: Vec<String>,
}

/// One connection to a machine or another broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The name in the configuration.
    pub name: String,
    /// `modbus`, `opcua`, `bridge` or `sparkplug`.
    pub protocol: String,
    /// `connecting`, `connected`, `degraded` or `down`.
    pub state: String,
    /// Why, when there is something to say.
    pub reason: String,
    /// What needs a person.
    pub alarms: Vec<String>,
    /// Tags, nodes or mappings that it serves.
    pub tags: u64,
    /// Readings published.
    pub readings: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// When the newest reading was taken, in milliseconds since the Unix epoch.
    pub last_reading_ms: Option<i64>,
}

/// The addresses that were bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// The MQTT server.
    pub mqtt: Option<String>,
    /// The MQTT server's WebSockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_websocket: Option<String>,
    /// The MQTT server over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_tls: Option<String>,
    /// The MQTT server's WebSockets over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_websocket_tls: Option<String>,
    /// The Kafka protocol server.
    pub kafka: String,
    /// The Kafka protocol server over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka_tls: Option<String>,
    /// The HTTP server.
    pub http: String,
    /// The HTTP server over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tls: Option<String>,
}

/// The disk and what waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Bytes free on the file system of the data directory.
    pub free_bytes: u64,
    /// Bytes of all segments.
    pub used_bytes: u64,
    /// Bytes appended and not yet durable.
    pub pending_bytes: u64,
    /// Commit windows since the start.
    pub commits: u64,
    /// How long commits took.
    pub commit_latency: CommitLatency,
    /// Bytes written to the device since the start.
    pub device_bytes_written: u64,
    /// Whether appends are refused, or the oldest data is dropped.
    pub full: bool,
    /// What needs a person: damage, a full disk.
    pub alarms: Vec<String>,
}

/// How long commits took, from closing a window to its being durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitLatency {
    /// Upper bounds in microseconds, each with the commits at or below it.
    pub buckets_us: Vec<(u64, u64)>,
    /// All commits.
    pub count: u64,
    /// Sum of all, in microseconds.
    pub sum_us: u64,
    /// The newest, in microseconds.
    pub last_us: u64,
}

/// One topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStatus {
    /// The name.
    pub name: String,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The index.
    pub partition: u32,
    /// The first offset that is kept.
    pub log_start: u64,
    /// Every record below this offset is on disk and visible.
    pub durable: u64,
    /// The offset that the next record gets.
    pub log_end: u64,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// Ranges without records.
    pub gaps: Vec<GapStatus>,
}

/// A recorded range of offsets without records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapStatus {
    /// The first missing offset.
    pub from: u64,
    /// The first offset behind the gap.
    pub to: u64,
    /// Why the records are missing.
    pub reason: String,
}

/// The link to the hub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkReport {
    /// Whether the connection is up.
    pub connected: bool,
    /// Records that are here and not yet at the hub.
    pub lag_records: u64,
    /// Their stored bytes, estimated.
    pub lag_bytes: u64,
    /// Records per second that the hub acknowledges.
    pub drain_records_per_second: f64,
    /// Records per second that come in.
    pub ingest_records_per_second: f64,
    /// Hours until the buffer is full with the link down. `None` when nothing
    /// comes in.
    pub hours_of_buffer_left: Option<f64>,
    /// The newest failure, cleared by nothing.
    pub last_error: Option<String>,
    /// Every forwarded partition.
    pub partitions: Vec<UplinkPartition>,
}

/// One forwarded partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkPartition {
    /// The topic here.
    pub topic: String,
    /// The partition, the same on both sides.
    pub partition: u32,
    /// Every record below this offset is at the hub.
    pub acknowledged: u64,
    /// Records between that and the durable end.
    pub lag_records: u64,
    /// What the link does, or why it stopped.
    pub state: String,
    /// Whether it waits for a person.
    pub stopped: bool,
}

/// The Kafka server. Totals count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaStatus {
    /// Connections open at the moment.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections closed because there were too many.
    pub connections_refused: u64,
    /// Connections closed because the client broke the protocol.
    pub violations: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of responses.
    pub bytes_out: u64,
    /// Requests by the name of their API, those that were asked.
    pub requests: BTreeMap<String, u64>,
}

/// What the limits of `[mqtt.limits]` did, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqttLimited {
    /// Connections closed because their address had too many.
    pub addresses: u64,
    /// CONNECT packets refused because too many came in a second.
    pub connects: u64,
    /// Subscriptions refused because the session had too many.
    pub subscriptions: u64,
    /// Times that a publisher was not read because it was over its rate.
    pub throttled: u64,
    /// Requests that did not become a WebSocket.
    pub websockets: u64,
}

/// The MQTT server. Totals count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqttStatus {
    /// Connections open at the moment.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections closed because there were too many.
    pub connections_refused: u64,
    /// What limits per client refused.
    #[serde(default)]
    pub limits: MqttLimited,
    /// Connections closed because the client broke the protocol.
    pub violations: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of connected sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Publishes appended to the log, by quality of service.
    pub publishes_in: [u64; 3],
    /// Messages sent to subscribers, by quality of service.
    pub publishes_out: [u64; 3],
    /// Offsets that retention removed before a session had read them.
    pub deliveries_lost: u64,
    /// Times that a connection was not read because the disk was behind.
    pub backpressure: u64,
    /// Publishes refused for any reason: full disk, quota, size, topic.
    pub publishes_refused: u64,
}
