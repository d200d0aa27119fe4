//! What the uplink tells about itself.

use std::time::SystemTime;

/// One partition's link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionStatus {
    /// Source topic.
    pub topic: String,
    /// Partition number, the same on both sides.
    pub partition: u32,
    /// Every record below this source offset is at the destination.
    pub acked: u64,
    /// Durable end of the source log.
    pub log_end: u64,
    /// Offsets between the two, lost ones included.
    pub lag_records: u64,
    /// Estimated stored bytes between the two.
    pub lag_bytes: u64,
    /// What the link does, or why it stopped.
    pub state: String,
    /// Whether the link stopped and waits for an operator.
    pub stopped: bool,
    /// Source ranges `[from, to)` that were lost before they were sent.
    pub gaps: Vec<(u64, u64)>,
}

/// The whole uplink at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UplinkStatus {
    /// One entry per forwarded partition, ordered by topic and partition.
    pub partitions: Vec<PartitionStatus>,
    /// Sum of `lag_records`.
    pub lag_records: u64,
    /// Sum of `lag_bytes`.
    pub lag_bytes: u64,
    /// Records acknowledged by the destination per second, averaged over
    /// about ten seconds.
    pub drain_records_per_second: f64,
    /// Records that became durable in forwarded topics per second, averaged
    /// over about ten seconds.
    pub ingest_records_per_second: f64,
    /// Stored bytes that forwarded topics grew by per second, averaged over
    /// about a minute.
    pub ingest_bytes_per_second: f64,
    /// Hours until the buffer is full at this rate with the link down; `None`
    /// when nothing comes in.
    pub buffer_hours_left: Option<f64>,
    /// The newest failure of the connection or of a link.
    pub last_error: Option<String>,
    /// Since when the connection is up; `None` while it is down.
    pub connected_since: Option<SystemTime>,
}

/// A rate that forgets exponentially: after `memory` seconds the weight of a
/// sample has fallen to about a third.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    memory: f64,
    value: Option<f64>,
}

impl Rate {
    pub(crate) fn new(memory_seconds: f64) -> Self {
        Rate {
            memory: memory_seconds,
            value: None,
        }
    }

    /// Adds `amount` that came within `seconds`.
    pub(crate) fn add(&mut self, amount: f64, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        let sample = amount / seconds;
        let weight = 1.0 - (-seconds / self.memory).exp();
        self.value = Some(match self.value {
            None => sample,
            Some(value) => value + (sample - value) * weight,
        });
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.value.unwrap_or(0.0)
    }
}

/// Hours until `room` bytes are filled at `bytes_per_second`.
pub(crate) fn hours_left(room: u64, bytes_per_second: f64) -> Option<f64> {
    // Below one byte a second the answer would be centuries of noise.
    (bytes_per_second >= 1.0).then(|| room as f64 / bytes_per_second / 3600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_settles_on_a_steady_flow() {
        let mut rate = Rate::new(10.0);
        rate.add(0.0, 1.0);
        for _ in 0..60 {
            rate.add(500.0, 1.0);
        }
        assert!((rate.per_second() - 500.0).abs() < 5.0);
    }

    #[test]
    fn buffer_hours_follow_room_and_rate() {
        assert_eq!(hours_left(7_200_000, 1000.0), Some(2.0));
        assert_eq!(hours_left(7_200_000, 0.0), None);
    }
}
