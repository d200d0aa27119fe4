//! A server whose certificate nobody trusted yet: saying so, and noticing when
//! somebody does.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::Notice;
use super::opening::OpenError;
use super::outlet::Outlet;
use crate::certificates::Problem;

/// How often the folder of trusted certificates is looked at after a refusal.
/// The person who trusts a server watches whether it helped; the pause between
/// runs may have grown to a minute by then.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The folder of trusted certificates as a run found it.
#[derive(Default)]
pub(super) struct TrustList {
    changed: Option<SystemTime>,
    /// When to look again; only after a refusal.
    look_at: Option<Instant>,
}

impl TrustList {
    /// Of the folder `pki`, as a run that begins now will find it.
    pub(super) fn of(pki: &Path) -> Self {
        Self {
            changed: changed(pki),
            look_at: None,
        }
    }

    /// Tells about a certificate that is not trusted, if that is the error.
    pub(super) async fn report(&mut self, error: &OpenError, outlet: &Outlet) {
        let OpenError::Certificate {
            fingerprint,
            subject,
            problems,
        } = error
        else {
            return;
        };
        if problems.contains(&Problem::Untrusted) {
            self.look_at = Some(Instant::now() + LOOK_EVERY);
            let notice = Notice::Untrusted {
                fingerprint: fingerprint.clone(),
                subject: subject.clone(),
                text: error.to_string(),
            };
            outlet.notice(notice).await;
        }
    }

    /// When [`TrustList::has_news`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether a certificate was added or removed since the run that was
    /// refused began, or since the last look.
    pub(super) fn has_news(&mut self, pki: &Path, now: Instant) -> bool {
        if self.look_at.is_none_or(|at| now < at) {
            return false;
        }
        self.look_at = Some(now + LOOK_EVERY);
        let changed = changed(pki);
        std::mem::replace(&mut self.changed, changed) != changed
    }
}

/// When an entry was added or removed last.
fn changed(pki: &Path) -> Option<SystemTime> {
    let folder = std::fs::metadata(pki.join("trusted"));
    folder.and_then(|it| it.modified()).ok()
}
