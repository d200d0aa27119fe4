//! Whose turn it is, and how fast.
//!
//! Among the partitions that have something to send, the lowest priority
//! number goes first. Among equals the one that was given the fewest bytes
//! goes first, so a partition with large batches does not crowd out one with
//! small batches. A partition that wakes up starts level with the others and
//! does not collect a claim while it sleeps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A token bucket never holds more than this much of its rate: long enough to
/// cover the pause between two wake-ups, short enough that the cap is visible
/// on a one-second graph.
const BURST: Duration = Duration::from_millis(250);

/// Smallest burst in bytes, one uplink batch of the default size, so that a
/// low cap does not forbid a batch for ever.
const MIN_BURST: u64 = 1 << 20;

/// Fair choice between partitions with priorities. `K` names a partition.
#[derive(Debug, Clone)]
pub struct Schedule<K> {
    entries: BTreeMap<K, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    priority: u32,
    given_bytes: u64,
    wants: bool,
}

impl<K: Ord + Clone> Default for Schedule<K> {
    fn default() -> Self {
        Schedule {
            entries: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// Adds a partition or changes its priority.
    pub fn insert(&mut self, key: K, priority: u32) {
        let entry = self.entries.entry(key).or_insert(Entry {
            priority,
            given_bytes: 0,
            wants: false,
        });
        entry.priority = priority;
    }

    /// Removes a partition.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Says whether a partition has something to send and room to send it.
    pub fn set_wants(&mut self, key: &K, wants: bool) {
        let Some(entry) = self.entries.get(key).copied() else {
            return;
        };
        let mut given_bytes = entry.given_bytes;
        if wants && !entry.wants {
            let level = self.level(entry.priority);
            given_bytes = given_bytes.max(level.unwrap_or(given_bytes));
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.wants = wants;
            entry.given_bytes = given_bytes;
        }
    }

    /// The partition to serve next.
    pub fn next(&self) -> Option<K> {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.wants);
        let first = waiting.min_by_key(|(_, entry)| (entry.priority, entry.given_bytes));
        first.map(|(key, _)| key.clone())
    }

    /// Accounts for `bytes` that a partition was given.
    pub fn charge(&mut self, key: &K, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.given_bytes = entry.given_bytes.saturating_add(bytes);
        }
    }

    fn level(&self, priority: u32) -> Option<u64> {
        let active = self.entries.values();
        active
            .filter(|entry| entry.wants && entry.priority == priority)
            .map(|entry| entry.given_bytes)
            .min()
    }
}

/// A cap on bytes per second. The balance may go below zero by one batch, so
/// a batch that is larger than the burst still passes and is paid for later.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: u64,
    burst: f64,
    balance: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket for `rate` bytes per second, at least 1.
    pub fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        let burst = ((rate as f64) * BURST.as_secs_f64()).max(MIN_BURST.min(rate) as f64);
        TokenBucket {
            rate,
            burst,
            balance: burst,
            filled_at: now,
        }
    }

    /// Whether something may be sent at `now`.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.balance > 0.0
    }

    /// Pays for `bytes` that are sent.
    pub fn take(&mut self, bytes: u64) {
        self.balance -= bytes as f64;
    }

    /// When [`Self::allows`] turns true again, if it is false.
    pub fn ready_at(&self) -> Option<Instant> {
        if self.balance > 0.0 {
            return None;
        }
        let seconds = (1.0 - self.balance) / self.rate as f64;
        Some(self.filled_at + Duration::from_secs_f64(seconds))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at);
        self.balance = (self.balance + passed.as_secs_f64() * self.rate as f64).min(self.burst);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(entries: &[(&'static str, u32)]) -> Schedule<&'static str> {
        let mut schedule = Schedule::default();
        for (key, priority) in entries {
            schedule.insert(*key, *priority);
            schedule.set_wants(key, true);
        }
        schedule
    }

    #[test]
    fn alerts_go_before_raw_data() {
        let mut schedule = schedule(&[("raw", 1), ("alerts", 0)]);
        schedule.charge(&"alerts", 1 << 40);
        assert_eq!(schedule.next(), Some("alerts"));
        schedule.set_wants(&"alerts", false);
        assert_eq!(schedule.next(), Some("raw"));
        schedule.set_wants(&"raw", false);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn equals_share_bytes_and_not_turns() {
        let mut schedule = schedule(&[("big", 1), ("small", 1)]);
        let mut given = BTreeMap::new();
        for _ in 0..1100 {
            let key = schedule.next().unwrap();
            let bytes = if key == "big" { 1000 } else { 100 };
            schedule.charge(&key, bytes);
            *given.entry(key).or_insert(0u64) += bytes;
        }
        assert!(given["big"].abs_diff(given["small"]) <= 1000, "{given:?}");
    }

    #[test]
    fn a_sleeper_does_not_collect_a_claim() {
        let mut schedule = schedule(&[("awake", 1), ("sleeper", 1)]);
        schedule.set_wants(&"sleeper", false);
        schedule.charge(&"awake", 1_000_000);
        schedule.set_wants(&"sleeper", true);
        schedule.charge(&"sleeper", 1);
        assert_eq!(schedule.next(), Some("awake"));
    }

    #[test]
    fn the_cap_holds_over_ten_seconds() {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = TokenBucket::new(1_000_000, now);
        let mut sent = 0;
        while now < start + Duration::from_secs(10) {
            if bucket.allows(now) {
                bucket.take(64_000);
                sent += 64_000;
            }
            now = bucket.ready_at().unwrap_or(now);
        }
        assert!((10_000_000..=11_100_000).contains(&sent), "sent {sent}");
    }

    #[test]
    fn a_batch_above_the_burst_passes_and_is_paid_for() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(1000, now);
        assert!(bucket.allows(now));
        bucket.take(5000);
        assert!(!bucket.allows(now + Duration::from_secs(3)));
        assert!(bucket.allows(now + Duration::from_secs(5)));
    }
}
