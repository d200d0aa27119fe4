//! Logins and permissions of Kafka clients: SASL PLAIN and SCRAM, and the rules.

use std::sync::Arc;

use bytes::Bytes;
use forebay_access::acls::{Binding, Filter};
use forebay_access::permissions::asked;
use forebay_access::scram::{ClientFirst, MESSAGE_LEN_MAX, Mechanism, NONCE_LEN, Server};
use forebay_broker::{
    AclRefusal, Authority, ConnectionContext, Login, LoginStep, LoginStepLater, Operation,
    Principal, Resource, Selected,
};
use tokio::sync::watch;

use super::{Access, LoginError, Protocol, Visitor, chance};

/// The mechanism whose password crosses the connection (RFC 4616).
const PLAIN: &str = "PLAIN";

/// The doorkeeper as the broker knows it.
pub struct KafkaAuthority {
    access: Access,
    changes: watch::Receiver<u64>,
}

impl KafkaAuthority {
    /// Asks `access`.
    #[must_use]
    pub fn new(access: Access) -> Self {
        let changes = access.changes();
        Self { access, changes }
    }
}

/// Whether nobody on the way can read along.
fn is_private(context: &ConnectionContext) -> bool {
    context.is_secure || context.client_host.to_canonical().is_loopback()
}

impl Authority for KafkaAuthority {
    fn enter(&self, context: &ConnectionContext) -> Option<Principal> {
        let host = context.client_host;
        let certificate = context.certificate.as_ref();
        if let Some(user) = certificate.and_then(|shown| shown.common_name.as_deref()) {
            let entered = self.access.enter_as(Protocol::Kafka, host, user);
            return entered.ok().map(principal);
        }
        let comes_in = self.access.admits_anonymous();
        comes_in.then_some(Principal {
            user: None,
            by_certificate: false,
            host,
        })
    }

    fn mechanisms(&self, context: &ConnectionContext) -> Vec<&'static str> {
        let mut names = vec![Mechanism::Sha512.name(), Mechanism::Sha256.name()];
        if is_private(context) {
            names.push(PLAIN);
        }
        names
    }

    fn log_in(&self, context: &ConnectionContext, mechanism: &str) -> Option<Box<dyn Login>> {
        let client = Client {
            access: self.access.clone(),
            context: context.clone(),
        };
        if mechanism == PLAIN {
            return is_private(context).then(|| Box::new(Plain(client)) as Box<dyn Login>);
        }
        let mechanism = Mechanism::named(mechanism)?;
        Some(Box::new(ScramFirst { client, mechanism }))
    }

    fn refused_without_login(&self, context: &ConnectionContext) {
        let denials = &self.access.shared.denials;
        denials.login(Protocol::Kafka, context.client_host, "without a login");
    }

    fn is_welcome(&self, principal: &Principal) -> bool {
        self.access.is_welcome(&visitor(principal))
    }

    fn may(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        let policy = self.access.policy();
        let visitor = visitor(principal);
        let subject = visitor.subject(None);
        policy.is_open || policy.permissions.may(&subject, operation, resource)
    }

    fn denied(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) {
        let (action, place) = asked(operation, resource);
        let denials = &self.access.shared.denials;
        denials.action(&visitor(principal), action, place);
    }

    fn acls(&self, filter: &Filter) -> Result<Vec<Binding>, AclRefusal> {
        self.access.acls(filter)
    }

    fn add_acls(&self, principal: &Principal, bindings: &[Binding]) -> Result<(), AclRefusal> {
        self.access.add_acls(&visitor(principal), bindings)
    }

    fn remove_acls(
        &self,
        principal: &Principal,
        filters: &[Filter],
    ) -> Result<Vec<Vec<Selected>>, AclRefusal> {
        self.access.remove_acls(&visitor(principal), filters)
    }

    fn generation(&self) -> u64 {
        *self.changes.borrow()
    }
}

fn visitor(principal: &Principal) -> Visitor {
    Visitor {
        user: principal.user.clone(),
        by_certificate: principal.by_certificate,
        address: principal.host,
        protocol: Protocol::Kafka,
    }
}

fn principal(visitor: Visitor) -> Principal {
    Principal {
        user: visitor.user,
        by_certificate: visitor.by_certificate,
        host: visitor.address,
    }
}

/// A connection that logs in.
struct Client {
    access: Access,
    context: ConnectionContext,
}

impl Client {
    fn refuse(&self, user: &str) -> LoginStep {
        let host = self.context.client_host;
        let outcome = self.access.outcome(Protocol::Kafka, host, user, false);
        refused(outcome.err().unwrap_or(LoginError::Wrong))
    }
}

fn refused(error: LoginError) -> LoginStep {
    LoginStep::Refused(error.to_string())
}

fn logged_in(message: Bytes, visitor: Visitor) -> LoginStep {
    let user = visitor.user.as_deref().unwrap_or("anonymous");
    tracing::debug!(user, address = %visitor.address, "kafka client logged in");
    LoginStep::LoggedIn(message, principal(visitor))
}

/// Waits for name and password.
struct Plain(Client);

impl Login for Plain {
    fn answer(self: Box<Self>, message: Bytes) -> LoginStepLater {
        Box::pin(async move {
            let client = self.0;
            let Some((user, password)) = plain(&message) else {
                return client.refuse("");
            };
            let host = client.context.client_host;
            let login = client
                .access
                .login(Protocol::Kafka, host, user, password)
                .await;
            match login {
                Ok(visitor) => logged_in(Bytes::new(), visitor),
                Err(error) => refused(error),
            }
        })
    }
}

/// Name and password of a PLAIN message; nobody acts as somebody else.
fn plain(message: &[u8]) -> Option<(&str, &[u8])> {
    if message.len() > MESSAGE_LEN_MAX {
        return None;
    }
    let mut parts = message.splitn(3, |byte| *byte == 0);
    let (acts_as, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let user = std::str::from_utf8(user).ok()?;
    let is_self = acts_as.is_empty() || acts_as == user.as_bytes();
    is_self.then_some((user, password))
}

/// Waits for the first message of SCRAM.
struct ScramFirst {
    client: Client,
    mechanism: Mechanism,
}

impl ScramFirst {
    fn step(self, message: &[u8]) -> LoginStep {
        let Self { client, mechanism } = self;
        let Ok(first) = ClientFirst::parse(message) else {
            return client.refuse("");
        };
        let host = client.context.client_host;
        let user: Arc<str> = first.user.as_str().into();
        let keys = client
            .access
            .scram_keys(Protocol::Kafka, host, &user, mechanism);
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => return refused(error),
        };
        let Ok(nonce) = chance::<NONCE_LEN>() else {
            return refused(LoginError::Busy);
        };
        let (server, answer) = Server::start(first, keys, &nonce);
        let next = ScramFinal {
            client,
            user,
            server,
        };
        LoginStep::Challenge(answer.into(), Box::new(next))
    }
}

impl Login for ScramFirst {
    fn answer(self: Box<Self>, message: Bytes) -> LoginStepLater {
        Box::pin(async move { self.step(&message) })
    }
}

/// Waits for the proof.
struct ScramFinal {
    client: Client,
    user: Arc<str>,
    server: Server,
}

impl Login for ScramFinal {
    fn answer(self: Box<Self>, message: Bytes) -> LoginStepLater {
        Box::pin(async move {
            let Self {
                client,
                user,
                server,
            } = *self;
            let Ok(answer) = server.finish(&message) else {
                return client.refuse(&user);
            };
            let is_enabled = client.access.is_enabled(&user);
            let host = client.context.client_host;
            match client
                .access
                .outcome(Protocol::Kafka, host, &user, is_enabled)
            {
                Ok(visitor) => logged_in(answer.into(), visitor),
                Err(error) => refused(error),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_a_name_and_a_password() {
        let read = |text: &'static str| plain(text.as_bytes());
        assert_eq!(read("\0mia\0pw"), Some(("mia", &b"pw"[..])));
        assert_eq!(read("mia\0mia\0p\0w"), Some(("mia", &b"p\0w"[..])));
        assert_eq!(read("chief\0mia\0pw"), None);
        assert_eq!(read("\0mia"), None);
        assert_eq!(plain(b"\0\xff\0pw"), None);
        assert_eq!(plain(&[0; MESSAGE_LEN_MAX + 1]), None);
    }
}
