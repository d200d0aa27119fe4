//! What a client may do: its login, and the permissions of what it asks for.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use forebay_access::rules::{Action, Place};
use forebay_mqtt::ReasonCode;
use forebay_mqtt::session::OpenSession;
use tokio::sync::watch;

use super::Connection;
use crate::access::{Access, LoginError, Protocol, Visitor};
use crate::mqtt::sessions::Claimant;
use crate::mqtt::stream::ByteStream;

/// Paths that are known to be allowed, so that rules are not looked through for
/// each publish. A device publishes on some ten.
const ALLOWED_PATHS_MAX: usize = 64;

/// What a connection may do. Where everybody may do everything it is nothing.
pub(super) struct Admission(Option<Box<Checked>>);

struct Checked {
    access: Access,
    address: IpAddr,
    /// `None` before the login.
    visitor: Option<Visitor>,
    /// The name that rules know it by.
    client: Box<str>,
    allowed: HashSet<Box<str>>,
    /// Whether everybody may do everything, as of the last change that was seen:
    /// the rules are shared, and not looked at for each publish.
    is_open: bool,
    changes: watch::Receiver<u64>,
}

impl Admission {
    pub(super) fn new(access: &Access, address: IpAddr) -> Self {
        if access.is_fixed() {
            return Self(None);
        }
        // A change after this is told, so what is asked next is not missed.
        let changes = access.changes();
        Self(Some(Box::new(Checked {
            is_open: access.is_open(),
            access: access.clone(),
            address,
            visitor: None,
            client: Box::default(),
            allowed: HashSet::new(),
            changes,
        })))
    }

    /// Who wants sessions on this connection.
    pub(super) fn claimant(&self) -> Claimant {
        match &self.0 {
            Some(checked) if !checked.access.is_open() => {
                let visitor = checked.visitor.as_ref();
                Claimant::Visitor(visitor.and_then(|visitor| visitor.user.clone()))
            }
            _ => Claimant::Anybody,
        }
    }

    /// Completes when users or rules have changed.
    pub(super) async fn changed(&mut self) {
        if let Some(checked) = &mut self.0
            && checked.changes.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl Checked {
    fn may(&self, action: Action, place: &str) -> bool {
        let Some(visitor) = &self.visitor else {
            return false;
        };
        let client = Some(&*self.client);
        self.access.may(visitor, client, action, Place::Path(place))
    }
}

impl<S: ByteStream> Connection<S> {
    /// Logs the client of a CONNECT in, and looks whether its will may be
    /// published. A password comes before a certificate.
    pub(super) async fn admit(&mut self, open: &OpenSession) -> Result<(), ReasonCode> {
        let Some(checked) = &mut self.admission.0 else {
            return Ok(());
        };
        checked.client = open.client_id.as_str().into();
        let common_name = self.certificate.as_ref();
        let common_name = common_name.and_then(|certificate| certificate.common_name.as_deref());
        let (access, address) = (&checked.access, checked.address);
        let entered = match (&open.user_name, common_name) {
            (Some(user), _) => {
                let password = open.password.as_deref().unwrap_or_default();
                // Boxed: an idle connection does not pay for it.
                Box::pin(access.login(Protocol::Mqtt, address, user.as_str(), password)).await
            }
            (None, Some(user)) => access.enter_as(Protocol::Mqtt, address, user),
            (None, None) => access.enter(Protocol::Mqtt, address),
        };
        checked.visitor = Some(entered.map_err(reason)?);
        let will = open.will.as_ref();
        let is_allowed = will.is_none_or(|will| {
            let path = will.topic.as_str();
            checked.may(publishing(path), path)
        });
        is_allowed.then_some(()).ok_or(ReasonCode::NotAuthorized)
    }

    /// Whether the client may publish on a path; a denial is counted and logged.
    pub(super) fn may_publish(&mut self, path: &str) -> bool {
        let Some(checked) = &mut self.admission.0 else {
            return true;
        };
        let is_open = checked.is_open && checked.visitor.is_some();
        if is_open || checked.allowed.contains(path) {
            return true;
        }
        let is_allowed = checked.may(publishing(path), path);
        if is_allowed && checked.allowed.len() < ALLOWED_PATHS_MAX {
            checked.allowed.insert(path.into());
        }
        is_allowed
    }

    /// Whether the client may subscribe to a filter.
    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        let checked = self.admission.0.as_ref();
        checked.is_none_or(|checked| checked.may(Action::Read, filter))
    }

    /// Whether the client may go on with a session. Its messages may come from any
    /// of its subscriptions, so it has to be allowed all of them.
    pub(super) fn may_resume<'a>(&self, mut filters: impl Iterator<Item = &'a str>) -> bool {
        let checked = self.admission.0.as_ref();
        checked.is_none_or(|checked| filters.all(|filter| checked.may(Action::Read, filter)))
    }

    /// Ends the connection when it may not be there any more, or has
    /// subscriptions that it may not have. The client may come back.
    pub(super) fn admit_again(&mut self) {
        let Some(checked) = &mut self.admission.0 else {
            return;
        };
        checked.allowed.clear();
        checked.is_open = checked.access.is_open();
        let Some(visitor) = &checked.visitor else {
            return;
        };
        let is_welcome = checked.access.is_welcome(visitor);
        let opened = self.opened.as_ref();
        let has_denied = opened.is_some_and(|opened| {
            let filters = opened.subscriptions.keys().chain(opened.shares.keys());
            filters
                .map(|filter| filter.as_str())
                .any(|filter| !checked.may(Action::Read, filter))
        });
        if !is_welcome || has_denied {
            self.machine
                .disconnect(Instant::now(), ReasonCode::NotAuthorized);
        }
    }
}

/// What publishing on a path is.
fn publishing(path: &str) -> Action {
    match path.ends_with("/set") {
        true => Action::Command,
        false => Action::Write,
    }
}

/// Section 3.2.2.2; 3.1.1 is told with what it has for it.
fn reason(error: LoginError) -> ReasonCode {
    match error {
        LoginError::Wrong => ReasonCode::BadUserNameOrPassword,
        LoginError::Needed => ReasonCode::NotAuthorized,
        LoginError::Limited => ReasonCode::ConnectionRateExceeded,
        LoginError::Busy => ReasonCode::ServerBusy,
    }
}
