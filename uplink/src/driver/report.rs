//! The status out of the links and the storage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_storage::Stats;

use super::runner::{Entry, Key, Runner};
use crate::status::{PartitionStatus, UplinkStatus, Window, hours_left};

/// Time over which record rates are averaged: quiet enough to read, quick
/// enough to see an outage.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// Time over which the growth of the buffer is averaged, since the hours
/// left are for planning.
const GROWTH_SPAN: Duration = Duration::from_secs(60);

/// Measures rates from one sample to the next.
pub struct Meter {
    /// Whether a first sample was taken. What was stored before it is backlog,
    /// what a partition holds that appears later has just come in.
    sampled: bool,
    /// Cursor and log end per partition at the newest sample.
    before: BTreeMap<Key, (u64, u64)>,
    drain: Window,
    ingest: Window,
    growth: Window,
}

impl Meter {
    pub fn new() -> Self {
        Meter {
            sampled: false,
            before: BTreeMap::new(),
            drain: Window::new(RATE_SPAN),
            ingest: Window::new(RATE_SPAN),
            growth: Window::new(GROWTH_SPAN),
        }
    }

    /// Takes a sample.
    pub fn sample(&mut self, now: Instant, entries: &BTreeMap<Key, Entry>) {
        let (mut drained, mut ingested, mut grown) = (0.0, 0.0, 0.0);
        for (key, entry) in entries {
            let offsets = entry.partition.offsets();
            let log_end = offsets.high_watermark;
            let acked = entry.link.acked();
            let new = (offsets.log_start, offsets.log_start);
            let before = self.before.get(key).copied();
            let before = before.or(self.sampled.then_some(new));
            if let Some((acked_before, end_before)) = before {
                drained += acked.saturating_sub(acked_before) as f64;
                let records = log_end.saturating_sub(end_before) as f64;
                ingested += records;
                grown += records * record_bytes(entry);
            }
            self.before.insert(key.clone(), (acked, log_end));
        }
        self.before.retain(|key, _| entries.contains_key(key));
        self.sampled = true;
        self.drain.add(now, drained);
        self.ingest.add(now, ingested);
        self.growth.add(now, grown);
    }

    /// The status of all links.
    pub fn status(&self, runner: &Runner, stats: &Stats) -> UplinkStatus {
        let partitions = runner.entries.iter();
        let partitions: Vec<_> = partitions
            .map(|(key, entry)| partition_status(runner, key, entry))
            .collect();
        let lag_bytes = partitions.iter().map(|p| p.lag_bytes).sum();
        let by_retention = runner
            .retention_bytes()
            .map(|limit| limit.saturating_sub(lag_bytes));
        let free = stats.free_bytes.saturating_sub(runner.keep_free());
        let room = by_retention.map_or(free, |room| room.min(free));
        let growth = self.growth.per_second();
        let of_a_link = || {
            let links = runner.entries.values();
            links.filter_map(|entry| entry.link.last_error()).next()
        };
        let last_error = runner.last_error.as_deref().or_else(of_a_link);
        UplinkStatus {
            lag_records: partitions.iter().map(|p| p.lag_records).sum(),
            lag_bytes,
            drain_records_per_second: self.drain.per_second(),
            ingest_records_per_second: self.ingest.per_second(),
            ingest_bytes_per_second: growth,
            buffer_hours_left: hours_left(room, growth),
            last_error: last_error.map(str::to_owned),
            connected_since: runner.connected_since,
            partitions,
        }
    }
}

fn partition_status(runner: &Runner, key: &Key, entry: &Entry) -> PartitionStatus {
    let refused = runner.refused.get(&entry.target);
    let refused = refused.filter(|_| runner.connected_since.is_some() && entry.node.is_none());
    let log_end = entry.partition.offsets().high_watermark;
    let acked = entry.link.acked();
    let lag_records = log_end.saturating_sub(acked);
    PartitionStatus {
        topic: key.0.clone(),
        partition: key.1,
        acked,
        log_end,
        lag_records,
        lag_bytes: (lag_records as f64 * record_bytes(entry)) as u64,
        state: match refused {
            Some(refused) => format!("waiting: {}", refused.words),
            None => entry.link.description(),
        },
        stopped: entry.link.stop_reason().is_some(),
        gaps: entry.link.state().gaps.clone(),
    }
}

/// Average stored bytes per record of a partition.
fn record_bytes(entry: &Entry) -> f64 {
    let offsets = entry.partition.offsets();
    let records = offsets.log_end.saturating_sub(offsets.log_start);
    if records == 0 {
        return 0.0;
    }
    entry.partition.size_bytes() as f64 / records as f64
}
