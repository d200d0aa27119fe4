//! Who may do what, asked of whoever knows.
//!
//! The broker decides nothing about users. It asks an [`Authority`] who a
//! connection is, carries SASL messages between the client and a [`Login`], and
//! asks again for every topic and group of a request. Without an authority
//! everybody may do everything and no login is served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
pub use forebay_access::acls::{BINDINGS_MAX, Binding, Filter, Operation, Resource};
use parking_lot::Mutex;

use crate::ConnectionContext;

/// Topics and groups whose permission a connection remembers. A client with
/// more of them only asks more often.
const DECISIONS_MAX: usize = 256;

/// Somebody on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user; `None` who has not logged in.
    pub user: Option<Arc<str>>,
    /// Whether the certificate of the connection says so, and no login.
    pub by_certificate: bool,
    /// Address of the client.
    pub host: IpAddr,
}

/// Why permissions are not listed or changed.
#[derive(Debug, thiserror::Error)]
pub enum AclRefusal {
    /// Everybody may do everything.
    #[error("permissions are not in force: the configuration of this node has no [access] section")]
    Disabled,
    /// There would be too many.
    #[error("there are too many permissions: expected at most {BINDINGS_MAX}")]
    TooMany,
    /// They could not be written; those before are in force.
    #[error("permissions cannot be written: {0}")]
    NotWritten(String),
}

/// A permission that a filter selected to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The permission.
    pub binding: Binding,
    /// The place in the configuration that grants it, where it stays.
    pub kept_by: Option<String>,
}

/// What comes of a message of a login.
pub enum LoginStep {
    /// The client has to answer.
    Challenge(Bytes, Box<dyn Login>),
    /// The client is who it says, and gets these bytes.
    LoggedIn(Bytes, Principal),
    /// It is not. The text goes to the client.
    Refused(String),
}

/// The server's side of a SASL exchange.
pub trait Login: Send {
    /// Takes the client's next message.
    fn answer(self: Box<Self>, message: Bytes) -> LoginStepLater;
}

/// A step that may take a while: checking a password is slow on purpose.
pub type LoginStepLater = Pin<Box<dyn Future<Output = LoginStep> + Send>>;

/// Decides who may do what. Nothing in it blocks.
pub trait Authority: Send + Sync {
    /// Who a connection is before any login; `None`: it has to log in first.
    fn enter(&self, context: &ConnectionContext) -> Option<Principal>;

    /// The SASL mechanisms that a connection may use.
    fn mechanisms(&self, context: &ConnectionContext) -> Vec<&'static str>;

    /// Begins a login; `None` for a mechanism that the connection may not use.
    fn log_in(&self, context: &ConnectionContext, mechanism: &str) -> Option<Box<dyn Login>>;

    /// A request came before the login that it needs.
    fn refused_without_login(&self, context: &ConnectionContext);

    /// Whether somebody who came in may still be here.
    fn is_welcome(&self, principal: &Principal) -> bool;

    /// Whether somebody may do something.
    fn may(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool;

    /// A request was refused because [`Self::may`] said no.
    fn denied(&self, principal: &Principal, operation: Operation, resource: Resource<'_>);

    /// The permissions that a filter selects.
    ///
    /// # Errors
    /// [`AclRefusal::Disabled`].
    fn acls(&self, filter: &Filter) -> Result<Vec<Binding>, AclRefusal>;

    /// Adds all permissions or none. Blocks; they are durable and in force on
    /// return.
    ///
    /// # Errors
    /// [`AclRefusal`].
    fn add_acls(&self, principal: &Principal, bindings: &[Binding]) -> Result<(), AclRefusal>;

    /// Removes what each filter selects, and returns that. Blocks; it is durable and
    /// in force on return.
    ///
    /// # Errors
    /// [`AclRefusal`]; nothing is removed.
    fn remove_acls(
        &self,
        principal: &Principal,
        filters: &[Filter],
    ) -> Result<Vec<Vec<Selected>>, AclRefusal>;

    /// A number that changes with the answers of [`Self::may`] and
    /// [`Self::is_welcome`].
    fn generation(&self) -> u64;
}

/// What an authority is told and has said about one connection.
#[derive(Default)]
pub struct Session {
    state: Mutex<State>,
    decisions: Mutex<Decisions>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("principal", &self.state.lock().principal)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    has_entered: bool,
    principal: Option<Principal>,
    login: LoginState,
}

/// Where the SASL exchange of a connection is.
#[derive(Default)]
pub(crate) enum LoginState {
    /// None was begun.
    #[default]
    None,
    /// The client's next message goes here.
    Expects(Box<dyn Login>),
    /// A message is looked at.
    Busy,
    /// The client is in.
    Done,
    /// The client failed, and the connection is of no more use.
    Failed,
}

/// What was allowed in a generation of the rules, as bits of operations.
#[derive(Default)]
struct Decisions {
    generation: u64,
    topics: HashMap<String, u16>,
    groups: HashMap<String, u16>,
}

/// The bit of an operation: their numbers are below sixteen.
fn bit(operation: Operation) -> u16 {
    1 << operation as u8
}

impl Session {
    /// Who the connection is, after asking once for those that need no login.
    pub(crate) fn principal(
        &self,
        authority: &dyn Authority,
        context: &ConnectionContext,
    ) -> Option<Principal> {
        let mut state = self.state.lock();
        if !state.has_entered {
            state.has_entered = true;
            state.principal = authority.enter(context);
        }
        let principal = state.principal.clone()?;
        authority.is_welcome(&principal).then_some(principal)
    }

    /// Takes the place in the exchange and leaves [`LoginState::Busy`].
    pub(crate) fn take_login(&self) -> LoginState {
        std::mem::replace(&mut self.state.lock().login, LoginState::Busy)
    }

    /// Puts a place in the exchange back.
    pub(crate) fn set_login(&self, login: LoginState) {
        self.state.lock().login = login;
    }

    /// Forgets who the connection was: a login decides it from here on.
    pub(crate) fn begin_login(&self, login: Box<dyn Login>) {
        let mut state = self.state.lock();
        state.has_entered = true;
        state.principal = None;
        state.login = LoginState::Expects(login);
    }

    /// A login has succeeded.
    pub(crate) fn end_login(&self, principal: Principal) {
        let mut state = self.state.lock();
        state.principal = Some(principal);
        state.login = LoginState::Done;
        drop(state);
        *self.decisions.lock() = Decisions::default();
    }
}

/// A request of somebody, with whom to ask about it.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) session: Arc<Session>,
    pub(crate) principal: Principal,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Visit").field(&self.principal).finish()
    }
}

impl Visit {
    /// Whether the request may do something.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let generation = self.authority.generation();
        let mut decisions = self.session.decisions.lock();
        if decisions.generation != generation {
            *decisions = Decisions {
                generation,
                ..Decisions::default()
            };
        }
        let known = match resource {
            Resource::Topic(name) => decisions.topics.get(name),
            Resource::Group(name) => decisions.groups.get(name),
            Resource::AnyTopic | Resource::Cluster => None,
        };
        if known.is_some_and(|allowed| allowed & bit(operation) != 0) {
            return true;
        }
        let is_allowed = self.authority.may(&self.principal, operation, resource);
        let (table, name) = match resource {
            Resource::Topic(name) => (&mut decisions.topics, name),
            Resource::Group(name) => (&mut decisions.groups, name),
            Resource::AnyTopic | Resource::Cluster => return is_allowed,
        };
        if is_allowed {
            if table.len() >= DECISIONS_MAX {
                table.clear();
            }
            *table.entry(name.to_owned()).or_default() |= bit(operation);
        }
        is_allowed
    }
}
