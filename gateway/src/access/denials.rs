//! What was denied: counted always, logged once per minute and subject.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use forebay_access::rules::{Action, Place};
use metrics::counter;
use parking_lot::Mutex;

use super::{Protocol, Visitor};

/// Between two lines about the same subject.
const QUIET: Duration = Duration::from_secs(60);
/// Denials by protocol, and by `login` or the action.
pub const DENIED_METRIC: &str = "forebay_access_denied_total";
/// Subjects that are remembered for that. When there are more, some are logged
/// again too early.
const SUBJECTS_MAX: usize = 10_000;

/// Who was denied something, and when that was logged.
#[derive(Debug, Default)]
pub struct Denials {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    logged: HashMap<(Protocol, String), Instant>,
}

impl Denials {
    /// Somebody did not come in.
    pub fn login(&self, protocol: Protocol, address: IpAddr, how: &'static str) {
        if self.count(protocol, "login", address.to_string()) {
            tracing::warn!(protocol = protocol.name(), %address, "login refused: {how}");
        }
    }

    /// Somebody may not do something.
    pub fn action(&self, visitor: &Visitor, action: Action, place: Place<'_>) {
        let subject = match &visitor.user {
            Some(user) => user.to_string(),
            None => format!("anonymous from {}", visitor.address),
        };
        if !self.count(visitor.protocol, action.name(), subject.clone()) {
            return;
        }
        let place = match place {
            Place::Path(path) => format!("path {path}"),
            Place::Topic(topic) => format!("topic {topic}"),
            Place::Group(group) => format!("group {group}"),
            Place::AnyTopic => "any topic".to_owned(),
            Place::Node | Place::Anywhere => "the node".to_owned(),
        };
        tracing::warn!(
            protocol = visitor.protocol.name(),
            address = %visitor.address,
            "{subject} may not {} {place}; more of this is counted only for a minute",
            action.name()
        );
    }

    /// Counts, and says whether it is to be logged.
    fn count(&self, protocol: Protocol, what: &'static str, subject: String) -> bool {
        counter!(DENIED_METRIC, "protocol" => protocol.name(), "what" => what).increment(1);
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if inner.logged.len() >= SUBJECTS_MAX {
            inner.logged.retain(|_, at| now.duration_since(*at) < QUIET);
            if inner.logged.len() >= SUBJECTS_MAX {
                inner.logged.clear();
            }
        }
        match inner.logged.get_mut(&(protocol, subject.clone())) {
            Some(at) if now.duration_since(*at) < QUIET => false,
            Some(at) => {
                *at = now;
                true
            }
            None => {
                inner.logged.insert((protocol, subject), now);
                true
            }
        }
    }
}
