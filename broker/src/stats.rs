//! What the Kafka server did since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use forebay_kafka::ApiKey;

/// Counters that every connection adds to. Each is read on its own, so a
/// snapshot may lie between two that belong together.
#[derive(Debug)]
pub(crate) struct Counters {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    violations: AtomicU64,
    failed_logins: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// By the place of the API in [`ApiKey::ALL`].
    requests: Vec<AtomicU64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            failed_logins: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            requests: ApiKey::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// A connection that is open until this is dropped.
pub(crate) struct Open<'a>(&'a Counters);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts a connection for as long as the guard lives.
    pub(crate) fn open(&self) -> Open<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }

    pub(crate) fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_failed_login(&self) {
        self.failed_logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes_in(&self, count: usize) {
        self.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes_out(&self, count: usize) {
        self.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_request(&self, key: ApiKey) {
        let place = ApiKey::ALL.iter().position(|known| *known == key);
        if let Some(count) = place.and_then(|place| self.requests.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let by_api = ApiKey::ALL.iter().zip(&self.requests);
        Stats {
            connections: get(&self.open),
            connections_total: get(&self.accepted),
            connections_refused: get(&self.refused),
            violations: get(&self.violations),
            failed_logins: get(&self.failed_logins),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            requests: by_api
                .map(|(key, count)| (*key, get(count)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

/// What the Kafka server did. Totals count from the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections closed because there were too many.
    pub connections_refused: u64,
    /// Connections closed because of what the client sent.
    pub violations: u64,
    /// Logins that failed.
    pub failed_logins: u64,
    /// Bytes of requests, with their length prefixes.
    pub bytes_in: u64,
    /// Bytes of responses, with their length prefixes.
    pub bytes_out: u64,
    /// Requests by API, those that were asked.
    pub requests: Vec<(ApiKey, u64)>,
}
