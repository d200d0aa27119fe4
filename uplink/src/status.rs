//! What the uplink tells about itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

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
    /// Records acknowledged by the destination per second over the last ten
    /// seconds.
    pub drain_records_per_second: f64,
    /// Records that became durable in forwarded topics per second over the last
    /// ten seconds.
    pub ingest_records_per_second: f64,
    /// Stored bytes that forwarded topics grew by per second over the last
    /// minute, or since the first record came.
    pub ingest_bytes_per_second: f64,
    /// Hours until the buffer is full if the link is down from here on and
    /// `ingest_bytes_per_second` stays: the smaller of what retention by size
    /// leaves for records that are not delivered and the free disk above
    /// `keep_free`, divided by the rate. `None` when less than one byte a
    /// second comes in.
    pub buffer_hours_left: Option<f64>,
    /// The newest failure of the connection or of a link.
    pub last_error: Option<String>,
    /// Since when the connection is up; `None` while it is down.
    pub connected_since: Option<SystemTime>,
}

/// Most samples that a [`Window`] keeps: twice what a minute of one-second
/// ticks needs. Beyond them the oldest go first and the window is shorter.
const MAX_SAMPLES: usize = 128;

/// A rate over the newest `span`, or over the time since the first amount
/// came, if that is shorter. It tells the truth from the second sample on: an
/// average that forgets exponentially starts at zero and needs the whole span
/// to arrive, which shows as a buffer of weeks that melts to days.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    span: Duration,
    /// When a sample was taken and the sum of all amounts by then.
    samples: VecDeque<(Instant, f64)>,
    total: f64,
}

impl Window {
    pub(crate) fn new(span: Duration) -> Self {
        Window {
            span,
            samples: VecDeque::new(),
            total: 0.0,
        }
    }

    /// Adds `amount` that came since the sample before.
    pub(crate) fn add(&mut self, now: Instant, amount: f64) {
        self.total += amount;
        if self.total == 0.0 {
            // Nothing has come yet: the window begins with what comes first.
            self.samples.clear();
        }
        self.samples.push_back((now, self.total));
        let second = |samples: &VecDeque<(Instant, f64)>| samples.get(1).map(|sample| sample.0);
        while self.samples.len() > MAX_SAMPLES
            || second(&self.samples).is_some_and(|at| at + self.span <= now)
        {
            self.samples.pop_front();
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let seconds = last.0.saturating_duration_since(first.0).as_secs_f64();
        if seconds > 0.0 {
            (last.1 - first.1) / seconds
        } else {
            0.0
        }
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

    /// One sample a second with the given amounts; the rate after each.
    fn rates(span: u64, amounts: &[f64]) -> Vec<f64> {
        let mut window = Window::new(Duration::from_secs(span));
        let start = Instant::now();
        let at = |n: usize| start + Duration::from_secs(n as u64);
        let add = |(n, amount): (usize, &f64)| {
            window.add(at(n), *amount);
            window.per_second()
        };
        amounts.iter().enumerate().map(add).collect()
    }

    #[test]
    fn a_rate_is_right_from_the_first_second_of_flow() {
        let idle_then_steady = [0.0, 0.0, 0.0, 500.0, 500.0, 500.0];
        let expected = [0.0, 0.0, 0.0, 500.0, 500.0, 500.0];
        assert_eq!(rates(60, &idle_then_steady), expected);
    }

    #[test]
    fn a_rate_covers_the_newest_span_and_no_more() {
        assert_eq!(
            rates(4, &[0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0]),
            [0.0, 8.0, 4.0, 8.0 / 3.0, 2.0, 0.0, 0.0, 1.0]
        );
    }

    #[test]
    fn samples_beyond_the_limit_shorten_the_window() {
        let amounts = vec![3.0; 10 * MAX_SAMPLES];
        let rates = rates(3600, &amounts);
        assert_eq!(rates.last(), Some(&3.0));
    }

    #[test]
    fn the_estimate_does_not_melt_while_the_flow_is_steady() {
        // A gateway with 1 GiB of buffer and 5 kB/s, as in the demo.
        let mut amounts = vec![0.0];
        amounts.extend([5_000.0; 120]);
        let hours = rates(60, &amounts)
            .into_iter()
            .filter_map(|rate| hours_left(1 << 30, rate));
        let hours: Vec<f64> = hours.collect();
        assert_eq!(hours.len(), 120);
        assert!(hours.iter().all(|hours| (59.6..59.7).contains(hours)));
    }

    #[test]
    fn buffer_hours_follow_room_and_rate() {
        assert_eq!(hours_left(7_200_000, 1000.0), Some(2.0));
        assert_eq!(hours_left(7_200_000, 0.0), None);
    }
}
