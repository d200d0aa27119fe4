//! How a device is, for the status, the metrics and the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Alarms of one device at a time. They are for a person, who reads a few.
const ALARMS_MAX: usize = 64;

/// The state of a device's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceState {
    /// It has never been reached.
    #[default]
    Connecting,
    /// It answers.
    Connected,
    /// It answers, and something of it does not work.
    Degraded,
    /// It does not answer.
    Down,
}

impl DeviceState {
    /// The word in the status and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// How a device is. Cheap to clone and to update; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    protocol: &'static str,
    standing: Mutex<Standing>,
    tags: AtomicU64,
    readings: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    reconnects: AtomicU64,
    last_reading_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct Standing {
    name: String,
    state: DeviceState,
    reason: String,
    alarms: BTreeMap<String, String>,
}

/// A [`Health`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSnapshot {
    /// The device's name in the configuration.
    pub name: String,
    /// `modbus`, `opcua`, `bridge`, `sparkplug`.
    pub protocol: &'static str,
    /// The state.
    pub state: DeviceState,
    /// Why it is in that state; empty when there is nothing to say.
    pub reason: String,
    /// What needs a person, by a short name.
    pub alarms: BTreeMap<String, String>,
    /// Tags, nodes or mappings that it serves.
    pub tags: u64,
    /// Readings published.
    pub readings: u64,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// When the newest reading was taken, in milliseconds since the Unix
    /// epoch; `None` before the first.
    pub last_reading_ms: Option<i64>,
}

impl Health {
    /// The health of a device that was not tried yet.
    pub fn new(name: &str, protocol: &'static str) -> Self {
        let shared = Shared {
            protocol,
            standing: Mutex::new(Standing {
                name: name.to_owned(),
                ..Standing::default()
            }),
            tags: AtomicU64::new(0),
            readings: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            last_reading_ms: AtomicI64::new(i64::MIN),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The device's name.
    pub fn name(&self) -> String {
        self.shared.standing.lock().name.clone()
    }

    /// Gives the device another name: more sections share its bus.
    pub fn rename(&self, name: &str) {
        name.clone_into(&mut self.shared.standing.lock().name);
    }

    /// Sets the state; a change is logged.
    pub fn set_state(&self, state: DeviceState, reason: &str) {
        let mut standing = self.shared.standing.lock();
        if standing.state == state && standing.reason == reason {
            return;
        }
        let (device, protocol) = (&standing.name, self.shared.protocol);
        match state {
            DeviceState::Connecting | DeviceState::Connected => {
                tracing::info!(device, protocol, state = state.name(), "{reason}");
            }
            DeviceState::Degraded | DeviceState::Down => {
                tracing::warn!(device, protocol, state = state.name(), "{reason}");
            }
        }
        standing.state = state;
        reason.clone_into(&mut standing.reason);
    }

    /// Raises an alarm under a short name, or replaces its text. A name beyond
    /// the limit is only logged.
    pub fn alarm(&self, name: &str, text: &str) {
        let mut standing = self.shared.standing.lock();
        if standing.alarms.get(name).is_some_and(|old| old == text) {
            return;
        }
        tracing::warn!(device = standing.name, alarm = name, "{text}");
        if standing.alarms.len() < ALARMS_MAX || standing.alarms.contains_key(name) {
            standing.alarms.insert(name.to_owned(), text.to_owned());
        }
    }

    /// Ends an alarm.
    pub fn clear_alarm(&self, name: &str) {
        let mut standing = self.shared.standing.lock();
        if standing.alarms.remove(name).is_some() {
            tracing::info!(device = standing.name, alarm = name, "cleared");
        }
    }

    /// Sets the number of tags.
    pub fn set_tags(&self, count: u64) {
        self.shared.tags.store(count, Ordering::Relaxed);
    }

    /// Counts published readings, the newest of which was taken at `newest_ms`.
    pub fn add_readings(&self, count: u64, newest_ms: i64) {
        self.shared.readings.fetch_add(count, Ordering::Relaxed);
        let newest = &self.shared.last_reading_ms;
        newest.fetch_max(newest_ms, Ordering::Relaxed);
    }

    /// Counts requests.
    pub fn add_requests(&self, count: u64) {
        self.shared.requests.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts failed requests.
    pub fn add_errors(&self, count: u64) {
        self.shared.errors.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a reconnect.
    pub fn add_reconnect(&self) {
        self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything at one moment.
    pub fn snapshot(&self) -> HealthSnapshot {
        let shared = &*self.shared;
        let standing = shared.standing.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let newest = shared.last_reading_ms.load(Ordering::Relaxed);
        HealthSnapshot {
            name: standing.name.clone(),
            protocol: shared.protocol,
            state: standing.state,
            reason: standing.reason.clone(),
            alarms: standing.alarms.clone(),
            tags: count(&shared.tags),
            readings: count(&shared.readings),
            requests: count(&shared.requests),
            errors: count(&shared.errors),
            reconnects: count(&shared.reconnects),
            last_reading_ms: (newest != i64::MIN).then_some(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_of_a_health_are_one() {
        let health = Health::new("press-7", "modbus");
        let other = health.clone();
        other.set_state(DeviceState::Down, "no answer");
        other.alarm("certificate", "expires in 9 days");
        other.add_readings(3, 40);
        other.add_readings(2, 30);
        let seen = health.snapshot();
        assert_eq!(
            (seen.state, seen.reason.as_str()),
            (DeviceState::Down, "no answer")
        );
        assert_eq!((seen.readings, seen.last_reading_ms), (5, Some(40)));
        assert_eq!(seen.alarms["certificate"], "expires in 9 days");
        other.clear_alarm("certificate");
        assert!(health.snapshot().alarms.is_empty());
    }

    #[test]
    fn alarms_have_a_limit() {
        let health = Health::new("press-7", "modbus");
        for number in 0..2 * ALARMS_MAX {
            health.alarm(&number.to_string(), "text");
        }
        assert_eq!(health.snapshot().alarms.len(), ALARMS_MAX);
    }
}
