//! Numbers for operators.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets in microseconds: from a fast NVMe to a
/// stalled SD card.
pub(crate) const BUCKETS_US: [u64; 12] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// How long commits took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// `(upper bound in microseconds, commits at or below it)`, cumulative.
    pub buckets_us: Vec<(u64, u64)>,
    /// All commits.
    pub count: u64,
    /// Sum of all in microseconds.
    pub sum_us: u64,
    /// The newest in microseconds.
    pub last_us: u64,
}

/// What a storage looks like from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Free bytes of the filesystem.
    pub free_bytes: u64,
    /// Bytes of all segments.
    pub used_bytes: u64,
    /// Bytes appended and not durable.
    pub pending_bytes: u64,
    /// Commit windows made durable since the start.
    pub windows: u64,
    /// How long they took from closing to durable.
    pub commit_latency: LatencyHistogram,
    /// Bytes handed to the device since the start: frames and zeros.
    pub device_bytes_written: u64,
    /// Whether the disk counts as full.
    pub full: bool,
    /// What an operator has to know, oldest first.
    pub alarms: Vec<String>,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Meters {
    windows: AtomicU64,
    pub device_bytes: AtomicU64,
    pub upkeep_wakes: AtomicU64,
    latency: Mutex<Latency>,
}

#[derive(Default)]
struct Latency {
    buckets: [u64; BUCKETS_US.len()],
    count: u64,
    sum_us: u64,
    last_us: u64,
}

impl Meters {
    /// Counts a durable window.
    pub fn window(&self, bytes: u64, took: Duration) {
        self.windows.fetch_add(1, Ordering::SeqCst);
        self.device_bytes.fetch_add(bytes, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut latency = self.latency.lock();
        latency.count += 1;
        latency.sum_us += took_us;
        latency.last_us = took_us;
        if let Some(at) = BUCKETS_US.iter().position(|bound| took_us <= *bound) {
            latency.buckets[at] += 1;
        }
    }

    /// Returns the number of durable windows.
    pub fn windows(&self) -> u64 {
        self.windows.load(Ordering::SeqCst)
    }

    /// Returns the latencies.
    pub fn histogram(&self) -> LatencyHistogram {
        let latency = self.latency.lock();
        let mut below = 0;
        let buckets_us = BUCKETS_US
            .iter()
            .zip(latency.buckets)
            .map(|(bound, count)| {
                below += count;
                (*bound, below)
            })
            .collect();
        LatencyHistogram {
            buckets_us,
            count: latency.count,
            sum_us: latency.sum_us,
            last_us: latency.last_us,
        }
    }
}
