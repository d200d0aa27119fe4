//! Alarms about certificates.

use std::time::Duration;

use forebay_opcua::client::Whose;
use tokio::time::Instant;

use crate::devices::Health;

/// Days before the end of a certificate at which the alarm begins: whoever has to
/// order one from an office needs weeks.
const WARN_DAYS: i64 = 42;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The alarm about a server that is not trusted.
const UNTRUSTED: &str = "untrusted-certificate";

/// How long the certificates of a session last.
#[derive(Debug, Default)]
pub(super) struct Trust {
    own: Option<Life>,
    server: Option<Life>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    at: Instant,
    days_left: i64,
}

impl Life {
    fn days_left(self) -> i64 {
        let days = self.at.elapsed().as_secs() / DAY.as_secs();
        self.days_left
            .saturating_sub(i64::try_from(days).unwrap_or(i64::MAX))
    }
}

impl Trust {
    /// A certificate lasts this long from now on.
    pub(super) fn note(&mut self, whose: Whose, days_left: i64) {
        let life = Life {
            at: Instant::now(),
            days_left,
        };
        match whose {
            Whose::Own => self.own = Some(life),
            Whose::Server => self.server = Some(life),
        }
    }

    /// Raises and clears the alarms about certificates that end.
    pub(super) fn look(&self, health: &Health) {
        let both = [
            ("own-certificate", "the gateway's certificate", self.own),
            (
                "server-certificate",
                "the server's certificate",
                self.server,
            ),
        ];
        for (alarm, whose, life) in both {
            match life.map(Life::days_left) {
                Some(days @ ..0) => {
                    health.alarm(alarm, &format!("{whose} ended {} days ago", days.abs()));
                }
                Some(days @ 0..WARN_DAYS) => {
                    health.alarm(alarm, &format!("{whose} ends in {days} days"));
                }
                _ => health.clear_alarm(alarm),
            }
        }
    }

    /// The server's certificate is not trusted.
    pub(super) fn reject(&self, health: &Health, fingerprint: &str, subject: &str, why: &str) {
        let text = format!(
            "{why}; if this is the certificate of {subject}, trust it: forebay opcua trust {fingerprint}"
        );
        health.alarm(UNTRUSTED, &text);
    }

    /// It is now.
    pub(super) fn accept(&self, health: &Health) {
        health.clear_alarm(UNTRUSTED);
    }
}
