//! Exponential back-off with full jitter.

use std::time::Duration;

/// Shortest ceiling of a pause. One round trip of a slow mobile link.
pub const MIN: Duration = Duration::from_millis(100);
/// Longest ceiling of a pause. A hub that returns after an hour is noticed
/// within half a minute, and a thousand gateways ask 33 times a second.
pub const MAX: Duration = Duration::from_secs(30);

/// The pause before the next attempt: uniform between zero and a ceiling that
/// doubles with each failure from [`MIN`] to [`MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts one failure and returns the pause that follows it. `random` is
    /// any uniformly distributed number.
    pub fn fail(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        let micros = ceiling.as_micros() as u64;
        Duration::from_micros(random % (micros + 1))
    }

    /// Forgets the failures after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn ceiling(&self) -> Duration {
        // 100 ms doubled nine times passes 30 s, so larger shifts are capped.
        MIN.saturating_mul(1 << self.failures.min(9)).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_from_100_ms_to_30_s() {
        let mut backoff = Backoff::default();
        let mut ceilings = Vec::new();
        for _ in 0..12 {
            ceilings.push(backoff.ceiling().as_millis());
            backoff.fail(0);
        }
        assert_eq!(
            ceilings,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000
            ]
        );
    }

    #[test]
    fn pause_is_spread_over_the_whole_ceiling() {
        assert_eq!(Backoff::default().fail(0), Duration::ZERO);
        assert_eq!(Backoff::default().fail(100_000), MIN);
        assert_eq!(Backoff::default().fail(100_001), Duration::ZERO);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..40 {
            backoff.fail(7);
        }
        backoff.reset();
        assert_eq!(backoff.fail(100_000), MIN);
    }
}
