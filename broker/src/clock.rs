//! The two clocks of the broker.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads wall time for records and monotonic time for timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64)
    }

    /// Milliseconds since the broker started; never goes back.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
