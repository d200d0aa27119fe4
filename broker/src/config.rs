//! What the broker is told when it starts.

use std::time::Duration;

use crate::group::GroupTiming;
use crate::topic_config::DEFAULT_MAX_MESSAGE_BYTES;

/// Partitions of a topic that a client creates by asking for its metadata.
/// One keeps all readings in one order; who needs more creates the topic.
pub const DEFAULT_PARTITIONS: u32 = 1;

/// Largest number of partitions one request may ask for. Each partition has
/// open files and preallocated segments of its own.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 1_000;

/// Connections served at one time. An idle one costs a few KB, so this is
/// below 100 MB, and it stays below the usual limit of 16,384 open files that
/// the service unit asks for.
pub const DEFAULT_MAX_CONNECTIONS: usize = 12_000;

/// How long the offsets of a group without members are kept. Kafka's week is
/// shorter than a plant's summer break.
pub const DEFAULT_OFFSETS_RETENTION: Duration = Duration::from_hours(30 * 24);

/// Settings of a [`Broker`](crate::Broker).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Node id in Metadata answers.
    pub node_id: i32,
    /// Cluster id in Metadata answers; clients detect a wrong cluster by it.
    pub cluster_id: String,
    /// Host name that clients are told to connect to.
    pub advertised_host: String,
    /// Port that clients are told to connect to.
    pub advertised_port: u16,
    /// Metadata requests create missing topics when the client allows it.
    pub auto_create_topics: bool,
    /// Partitions of a topic created without a count.
    pub default_partitions: u32,
    /// Largest record batch in bytes, where a topic sets no `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Connections served at one time; further ones are closed at once.
    pub max_connections: usize,
    /// Path shown by DescribeLogDirs.
    pub log_dir: String,
    /// Timing of consumer groups.
    pub group_timing: GroupTiming,
    /// How long the committed offsets of a group without members are kept.
    pub offsets_retention: Duration,
}

impl BrokerConfig {
    /// Settings for node 1 of `cluster_id`, advertised as `host:port`, with the
    /// defaults above and topics created on demand.
    pub fn new(cluster_id: &str, advertised_host: &str, advertised_port: u16) -> Self {
        Self {
            node_id: 1,
            cluster_id: cluster_id.to_owned(),
            advertised_host: advertised_host.to_owned(),
            advertised_port,
            auto_create_topics: true,
            default_partitions: DEFAULT_PARTITIONS,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES as usize,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            log_dir: "data".to_owned(),
            group_timing: GroupTiming::default(),
            offsets_retention: DEFAULT_OFFSETS_RETENTION,
        }
    }
}
