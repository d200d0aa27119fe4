//! The MQTT server: sockets and sessions over the durable log.
//!
//! The protocol's rules live in `forebay_mqtt`; this module carries out what
//! its session machine asks for. One task per connection reads, appends and
//! writes; it never waits for the disk. An append gives a ticket, and the
//! acknowledgement leaves when the commit with that ticket is durable, together
//! with all others of the same commit in one write.
//!
//! Subscriptions are readers of the log: see [`dispatch`] for what happens while
//! connected and [`sessions`] for what is kept. Start reading at [`serve`], then
//! [`connection`].

mod commits;
mod connection;
mod dispatch;
pub(crate) mod feeds;
mod limits;
mod live;
pub mod message;
pub(crate) mod node;
pub(crate) mod retained;
mod server;
mod sessions;
mod shares;
mod stats;
pub(crate) mod stream;
mod sys;
mod websocket;
mod wills;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use forebay_mqtt::TopicName;
use forebay_storage::Storage;

use crate::access::Access;
use crate::commands::desk::Desk;
use crate::ingest::routes::Routes;
use crate::readings::Publisher;

pub use limits::Limits;
pub use server::{Listeners, serve};
pub use stats::{RefusedPublishes, Stats, StatsSnapshot};

/// Connections at once. Each costs a few kilobytes while idle; a factory's
/// gateway sees hundreds.
const CONNECTIONS_MAX: usize = 20_000;

/// Subscriptions of one session. Matching a backlog tries each of them per
/// message.
const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 1_000;

/// How often `$SYS` is brought up to date: mosquitto's interval, which tools
/// expect.
const SYS_INTERVAL: Duration = Duration::from_secs(10);

/// How long a client may leave what is sent to it unread. Longer than a radio
/// link needs to come back, shorter than a keep alive.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the topics for responses begin with that clients are told on request.
const RESPONSE_PREFIX: &str = "response";

/// What an MQTT server needs.
#[derive(Clone)]
pub struct MqttContext {
    /// The log.
    pub storage: Storage,
    /// Where paths go.
    pub routes: Arc<Routes>,
    /// Shares its caches of paths and of retained messages.
    pub publisher: Publisher,
    /// Takes the publishes that are commands.
    pub commands: Option<Desk>,
    /// Who may come in, and what for.
    pub access: Access,
    /// Limits.
    pub config: MqttConfig,
    /// What is counted; keep a clone to read it.
    pub stats: Arc<Stats>,
}

/// The limits of an MQTT server.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// What the protocol machine offers to clients.
    pub protocol: forebay_mqtt::Config,
    /// Connections at once; more are closed at once.
    pub connections_max: usize,
    /// Subscriptions of one session; more are refused with 0x97.
    pub subscriptions_per_session_max: usize,
    /// Messages that wait in memory for one connected session; a session that
    /// has more reads them from the log.
    pub queue_len_max: usize,
    /// Rates and counts per client.
    pub limits: Limits,
    /// How often `$SYS` is brought up to date; zero is never.
    pub sys_interval: Duration,
    /// How long a client may leave what is sent to it unread.
    pub write_timeout: Duration,
    /// Sites whose pages may open a WebSocket besides the gateway's own host:
    /// `https://panel.example`, or `*` for all.
    pub websocket_origins: Vec<String>,
    /// Whether Sparkplug's NDEATH wills get the time of their publication.
    pub ndeath_timestamp: bool,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            protocol: offered(),
            connections_max: CONNECTIONS_MAX,
            subscriptions_per_session_max: SUBSCRIPTIONS_PER_SESSION_MAX,
            queue_len_max: dispatch::QUEUE_LEN_MAX,
            limits: Limits::default(),
            sys_interval: SYS_INTERVAL,
            write_timeout: WRITE_TIMEOUT,
            websocket_origins: Vec::new(),
            ndeath_timestamp: false,
        }
    }
}

/// What is offered where the configuration says nothing else.
fn offered() -> forebay_mqtt::Config {
    forebay_mqtt::Config {
        response_prefix: TopicName::try_from(RESPONSE_PREFIX).ok(),
        ..forebay_mqtt::Config::default()
    }
}

impl From<&crate::config::Mqtt> for MqttConfig {
    fn from(file: &crate::config::Mqtt) -> Self {
        let defaults = offered();
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let limits = &file.limits;
        let keep_alive = u16::try_from(file.keep_alive_max.as_secs()).unwrap_or(u16::MAX);
        Self {
            protocol: forebay_mqtt::Config {
                receive_maximum: NonZeroU16::new(file.receive_maximum)
                    .unwrap_or(defaults.receive_maximum),
                packet_size_max: NonZeroU32::new(file.max_packet_size)
                    .unwrap_or(defaults.packet_size_max),
                connect_timeout: file.connect_timeout,
                keep_alive_max: NonZeroU16::new(keep_alive),
                session_expiry_max: Some(seconds(file.session_expiry_max)),
                inflight_maximum: limits.inflight,
                ..defaults
            },
            connections_max: file.max_connections as usize,
            websocket_origins: file.websocket_origins.clone(),
            subscriptions_per_session_max: limits.subscriptions as usize,
            queue_len_max: limits.queued as usize,
            limits: Limits {
                connections_per_address: limits.connections_per_address,
                connect_rate: limits.connect_rate,
                publish_rate: limits.publish_rate,
                publish_bytes_rate: limits.publish_bytes_rate,
            },
            sys_interval: file.sys_interval,
            ..Self::default()
        }
    }
}
