//! `[mqtt.limits]`: what one MQTT client may ask of the node.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use super::defaults;
use super::quantity::rate;
use super::section::Section;

/// `[mqtt.limits]`. A `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MqttLimits {
    /// Unacknowledged deliveries of QoS 1 and 2 per client.
    pub inflight: NonZeroU16,
    /// Deliveries that wait in memory per client.
    pub queued: u32,
    /// Subscriptions per client.
    pub subscriptions: u32,
    /// Connections at once from one address.
    pub connections_per_address: Option<NonZeroU32>,
    /// CONNECT packets per second, all clients together.
    pub connect_rate: Option<NonZeroU32>,
    /// Publishes per second of one client.
    pub publish_rate: Option<NonZeroU32>,
    /// Bytes of publishes per second of one client.
    pub publish_bytes_rate: Option<NonZeroU64>,
}

/// Reads `[mqtt.limits]`.
pub(super) fn mqtt_limits(section: &Section<'_>) -> MqttLimits {
    const RATE: &str = "expected a rate of at least \"1KiB/s\", such as \"1MiB/s\"";
    let number = |key, max| {
        let number = section.number(key, 1, max)?;
        u32::try_from(number).ok()
    };
    let count = |key| number(key, u64::from(u32::MAX)).and_then(NonZeroU32::new);
    let limits = MqttLimits {
        inflight: number("inflight", u64::from(u16::MAX))
            .and_then(|count| NonZeroU16::new(u16::try_from(count).ok()?))
            .unwrap_or(defaults::MQTT_INFLIGHT),
        queued: number("queued", defaults::MQTT_QUEUED_MAX).unwrap_or(defaults::MQTT_QUEUED),
        subscriptions: number("subscriptions", defaults::MQTT_SUBSCRIPTIONS_MAX)
            .unwrap_or(defaults::MQTT_SUBSCRIPTIONS),
        connections_per_address: count("connections_per_address"),
        connect_rate: count("connect_rate"),
        publish_rate: count("publish_rate"),
        publish_bytes_rate: section.parsed("publish_bytes_rate", RATE, |text| {
            rate(text)
                .filter(|bytes| *bytes >= defaults::MQTT_PUBLISH_BYTES_RATE_MIN)
                .and_then(NonZeroU64::new)
        }),
    };
    section.finish();
    limits
}
