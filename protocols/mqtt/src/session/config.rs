//! What the server offers and bounds.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::topic::TopicName;

/// Inbound QoS 1 and 2 messages that may wait for the disk at once.
///
/// A commit takes milliseconds, a fast client sends tens of thousands of
/// messages a second, so a thousand keep the disk busy; with messages of 1 KiB
/// they hold 1 MiB per connection.
const RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(1024).expect("1024 is not zero");

/// Outbound QoS 1 and 2 messages in flight to one client.
///
/// 64 messages of 1 KiB fill a path of 64 KiB, which is a round trip of 50 ms
/// at 10 Mbit/s; more would only be kept in the memory of a slow client's
/// socket. A client may ask for less by its receive maximum.
const INFLIGHT_MAXIMUM: NonZeroU16 = NonZeroU16::new(64).expect("64 is not zero");

/// Largest packet accepted, in bytes.
///
/// Sensor readings are far below 1 KiB; camera pictures and firmware are not
/// what a telemetry log is for. 1 MiB is also what Kafka accepts per message
/// by default, so what comes in can be forwarded.
const PACKET_SIZE_MAX: NonZeroU32 = NonZeroU32::new(1024 * 1024).expect("1 MiB is not zero");

/// Time for the first packet to arrive completely.
///
/// A modem on a poor cell needs several seconds for a TLS handshake and a
/// packet; ten leave it a retransmission, and a stranger that opens
/// connections cannot hold them for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Topic aliases that each client may set.
///
/// A device reports some dozen values. Each alias keeps a name of at most
/// 64 KiB, so a hostile connection pins 2 MiB with them, which is two packets
/// of the largest size.
const TOPIC_ALIAS_MAXIMUM: u16 = 32;

/// What the server offers to each client and where its patience ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// QoS 1 and 2 messages that a client may have unacknowledged
    /// (section 3.2.2.3.3). A client of MQTT 5 that sends more is
    /// disconnected with 0x93; one of 3.1.1 is not read from.
    pub receive_maximum: NonZeroU16,
    /// QoS 1 and 2 messages that are unacknowledged by a client at most; the
    /// client's own receive maximum may be lower (section 3.1.2.11.3).
    pub inflight_maximum: NonZeroU16,
    /// Largest packet accepted in bytes (section 3.2.2.3.6).
    pub packet_size_max: NonZeroU32,
    /// Time for CONNECT to arrive after the connection was opened
    /// (section 3.1).
    pub connect_timeout: Duration,
    /// Longest keep alive in seconds; a client that asks for more, or for
    /// none, gets this (section 3.2.2.3.14). `None` leaves it to the client.
    /// 3.1.1 cannot be told, so there the client's own value counts.
    pub keep_alive_max: Option<NonZeroU16>,
    /// Longest session expiry in seconds; `None` leaves it to the client
    /// (section 3.2.2.3.2).
    pub session_expiry_max: Option<u32>,
    /// Topic aliases that a client may set (section 3.2.2.3.8).
    pub topic_alias_maximum: u16,
    /// What the topics for responses to a client begin with; the client that
    /// asks for it gets `<prefix>/<client identifier>` as response information
    /// (section 3.2.2.3.15). `None` tells nothing.
    pub response_prefix: Option<TopicName>,
    /// Whether retained messages are served (section 3.2.2.3.5); if not, a
    /// PUBLISH or will with the retain flag ends the connection with 0x9A.
    pub retain_available: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_maximum: RECEIVE_MAXIMUM,
            inflight_maximum: INFLIGHT_MAXIMUM,
            packet_size_max: PACKET_SIZE_MAX,
            connect_timeout: CONNECT_TIMEOUT,
            keep_alive_max: None,
            session_expiry_max: None,
            topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
            response_prefix: None,
            retain_available: true,
        }
    }
}
