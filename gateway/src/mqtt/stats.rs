//! What the MQTT server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one MQTT server, updated without locks.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) connections: AtomicU64,
    pub(super) connections_total: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) websockets_refused: AtomicU64,
    pub(super) addresses_refused: AtomicU64,
    pub(super) connects_refused: AtomicU64,
    pub(super) subscriptions_refused: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) clients: AtomicU64,
    pub(super) clients_maximum: AtomicU64,
    pub(super) packets_in: AtomicU64,
    pub(super) packets_out: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) payload_in: AtomicU64,
    pub(super) payload_out: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) subscriptions: AtomicU64,
    pub(super) retained: AtomicU64,
    pub(super) publishes_in: [AtomicU64; 3],
    pub(super) deliveries_out: [AtomicU64; 3],
    pub(super) deliveries_lost: AtomicU64,
    pub(super) deliveries_dropped: AtomicU64,
    pub(super) deliveries_expired: AtomicU64,
    pub(super) deliveries_missed: AtomicU64,
    pub(super) backpressure: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_quota: AtomicU64,
    pub(super) refused_too_large: AtomicU64,
    pub(super) refused_topic: AtomicU64,
    pub(super) refused_reserved: AtomicU64,
    pub(super) violations: AtomicU64,
}

/// Values of [`Stats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Open connections.
    pub connections: u64,
    /// Connections since start.
    pub connections_total: u64,
    /// Connections closed because there were too many.
    pub connections_refused: u64,
    /// Connections to the WebSocket listener that did not become one.
    pub websockets_refused: u64,
    /// Connections closed because their address had too many.
    pub addresses_refused: u64,
    /// CONNECT packets refused because too many came in a second.
    pub connects_refused: u64,
    /// Subscriptions refused because the session had too many.
    pub subscriptions_refused: u64,
    /// Times that a publisher was not read because it was over its rate.
    pub throttled: u64,
    /// Connections with an open session.
    pub clients: u64,
    /// The most of them at once.
    pub clients_maximum: u64,
    /// MQTT packets received.
    pub packets_in: u64,
    /// MQTT packets sent.
    pub packets_out: u64,
    /// Bytes received, without what lies below MQTT.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Payload bytes of received publishes.
    pub payload_in: u64,
    /// Payload bytes of sent publishes.
    pub payload_out: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of connected sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Publishes appended to the log, by quality of service.
    pub publishes_in: [u64; 3],
    /// Messages sent to subscribers, by quality of service.
    pub deliveries_out: [u64; 3],
    /// Offsets that retention removed before a session had read them.
    pub deliveries_lost: u64,
    /// Messages that were larger than their subscriber accepts.
    pub deliveries_dropped: u64,
    /// Messages that expired before they could be sent.
    pub deliveries_expired: u64,
    /// Messages of memory topics that a session was too slow for.
    pub deliveries_missed: u64,
    /// Times that a connection was not read because the disk was behind.
    pub backpressure: u64,
    /// Publishes that were refused.
    pub refused: RefusedPublishes,
    /// Connections closed because the client broke the protocol.
    pub violations: u64,
}

/// Refused publishes by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedPublishes {
    /// The disk is full.
    pub full: u64,
    /// Too many retained messages.
    pub quota: u64,
    /// Larger than a batch may be.
    pub too_large: u64,
    /// The routed topic could not be created.
    pub topic: u64,
    /// Published below `$SYS/`.
    pub reserved: u64,
}

impl RefusedPublishes {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.full + self.quota + self.too_large + self.topic + self.reserved
    }
}

/// What one connection counts on its own between two waits, so that the shared
/// counters are touched once per turn and not per packet.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) packets_in: u64,
    pub(super) packets_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) payload_in: u64,
    pub(super) payload_out: u64,
}

impl Stats {
    /// Counts a connection whose session is open.
    pub(super) fn client_came(&self) {
        let before = self.clients.fetch_add(1, Ordering::Relaxed);
        self.clients_maximum
            .fetch_max(before + 1, Ordering::Relaxed);
    }

    /// Reads all counters. They are not read at one instant.
    pub fn snapshot(&self) -> StatsSnapshot {
        let by_qos = |counters: &[AtomicU64; 3]| counters.each_ref().map(read);
        StatsSnapshot {
            connections: read(&self.connections),
            connections_total: read(&self.connections_total),
            connections_refused: read(&self.connections_refused),
            websockets_refused: read(&self.websockets_refused),
            addresses_refused: read(&self.addresses_refused),
            connects_refused: read(&self.connects_refused),
            subscriptions_refused: read(&self.subscriptions_refused),
            throttled: read(&self.throttled),
            clients: read(&self.clients),
            clients_maximum: read(&self.clients_maximum),
            packets_in: read(&self.packets_in),
            packets_out: read(&self.packets_out),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            payload_in: read(&self.payload_in),
            payload_out: read(&self.payload_out),
            sessions: read(&self.sessions),
            subscriptions: read(&self.subscriptions),
            retained: read(&self.retained),
            publishes_in: by_qos(&self.publishes_in),
            deliveries_out: by_qos(&self.deliveries_out),
            deliveries_lost: read(&self.deliveries_lost),
            deliveries_dropped: read(&self.deliveries_dropped),
            deliveries_expired: read(&self.deliveries_expired),
            deliveries_missed: read(&self.deliveries_missed),
            backpressure: read(&self.backpressure),
            refused: RefusedPublishes {
                full: read(&self.refused_full),
                quota: read(&self.refused_quota),
                too_large: read(&self.refused_too_large),
                topic: read(&self.refused_topic),
                reserved: read(&self.refused_reserved),
            },
            violations: read(&self.violations),
        }
    }
}

impl Traffic {
    /// Moves what was counted to the shared counters.
    pub(super) fn flush(&mut self, stats: &Stats) {
        let Self {
            packets_in,
            packets_out,
            bytes_in,
            bytes_out,
            payload_in,
            payload_out,
        } = std::mem::take(self);
        for (counter, count) in [
            (&stats.packets_in, packets_in),
            (&stats.packets_out, packets_out),
            (&stats.bytes_in, bytes_in),
            (&stats.bytes_out, bytes_out),
            (&stats.payload_in, payload_in),
            (&stats.payload_out, payload_out),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
