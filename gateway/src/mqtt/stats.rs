//! What the MQTT server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one MQTT server, updated without locks.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) connections: AtomicU64,
    pub(super) connections_total: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) websockets_refused: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) subscriptions: AtomicU64,
    pub(super) retained: AtomicU64,
    pub(super) publishes_in: [AtomicU64; 3],
    pub(super) deliveries_out: [AtomicU64; 3],
    pub(super) deliveries_lost: AtomicU64,
    pub(super) backpressure: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_quota: AtomicU64,
    pub(super) refused_too_large: AtomicU64,
    pub(super) refused_topic: AtomicU64,
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
}

impl Stats {
    /// Reads all counters. They are not read at one instant.
    pub fn snapshot(&self) -> StatsSnapshot {
        let by_qos = |counters: &[AtomicU64; 3]| counters.each_ref().map(read);
        StatsSnapshot {
            connections: read(&self.connections),
            connections_total: read(&self.connections_total),
            connections_refused: read(&self.connections_refused),
            websockets_refused: read(&self.websockets_refused),
            sessions: read(&self.sessions),
            subscriptions: read(&self.subscriptions),
            retained: read(&self.retained),
            publishes_in: by_qos(&self.publishes_in),
            deliveries_out: by_qos(&self.deliveries_out),
            deliveries_lost: read(&self.deliveries_lost),
            backpressure: read(&self.backpressure),
            refused: RefusedPublishes {
                full: read(&self.refused_full),
                quota: read(&self.refused_quota),
                too_large: read(&self.refused_too_large),
                topic: read(&self.refused_topic),
            },
            violations: read(&self.violations),
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
