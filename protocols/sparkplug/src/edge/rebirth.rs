//! When to ask an edge node for its births.

use super::EdgeSettings;

/// Requests are spaced by an interval that doubles while they are repeated, and
/// that falls back when none was needed for the longest interval: an edge node
/// whose births do not help is not asked all the time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rebirth {
    wanted: bool,
    sent_ms: Option<i64>,
    interval_ms: i64,
}

impl Rebirth {
    /// A birth is missing since `now_ms`.
    pub fn want(&mut self, now_ms: i64, settings: &EdgeSettings) {
        if !self.wanted {
            let quiet = self
                .sent_ms
                .is_none_or(|sent| now_ms.abs_diff(sent) >= span(settings.rebirth_interval_max_ms));
            if quiet {
                self.interval_ms = settings.rebirth_interval_ms;
                self.sent_ms = None;
            }
        }
        self.wanted = true;
    }

    /// The births came.
    pub fn satisfy(&mut self) {
        self.wanted = false;
    }

    /// Whether a birth is missing.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether a request is due at `now_ms`.
    pub fn is_due(&self, now_ms: i64) -> bool {
        // By absolute difference, so that a clock that is set back does not
        // stop the requests for as long.
        let waited = |sent| now_ms.abs_diff(sent) >= span(self.interval_ms);
        self.wanted && self.sent_ms.is_none_or(waited)
    }

    /// Whether to send a request at `now_ms`. True is counted as sent.
    pub fn poll(&mut self, now_ms: i64, settings: &EdgeSettings) -> bool {
        if !self.is_due(now_ms) {
            return false;
        }
        if self.sent_ms.is_some() {
            let doubled = self.interval_ms.saturating_mul(2);
            self.interval_ms = doubled.min(settings.rebirth_interval_max_ms);
        }
        self.sent_ms = Some(now_ms);
        true
    }
}

fn span(interval_ms: i64) -> u64 {
    u64::try_from(interval_ms).unwrap_or(0)
}
