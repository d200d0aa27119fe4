//! One request on its way through the handlers.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use forebay_access::acls::ResourceType;
use forebay_kafka::{ApiKey, KStr, Message, encode_response};
use forebay_storage::Ticket;

use crate::authority::{Operation, Resource, Session, Visit};
use crate::config::BrokerConfig;
use crate::errors::Refusal;
use crate::reply::{CloseReason, Reply};
use crate::{Advertised, ClientCertificate};

/// What the handlers know of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    /// Address of the client.
    pub client_host: IpAddr,
    /// Who the client is, if its transport checked that.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Where the client is told to come back to. `None`: the address of the
    /// configuration.
    pub advertised: Option<Arc<Advertised>>,
    /// Nobody on the way reads along.
    pub is_secure: bool,
    /// Who the client has become.
    pub session: Arc<Session>,
}

impl ConnectionContext {
    /// A client of the plain listener.
    pub fn plain(client_host: IpAddr) -> Self {
        Self {
            client_host,
            certificate: None,
            advertised: None,
            is_secure: false,
            session: Arc::default(),
        }
    }
}

/// The header of a request, which its response needs again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<KStr>,
    pub(crate) client_host: IpAddr,
    pub(crate) advertised: Option<Arc<Advertised>>,
    /// Whom to ask about it; `None`: everything is allowed.
    pub(crate) visit: Option<Visit>,
}

impl Call {
    /// Whether the request may do something; for what is shown or left out.
    pub(crate) fn sees(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let visit = self.visit.as_ref();
        visit.is_none_or(|visit| visit.may(operation, resource))
    }

    /// What the request may do with a resource: a bit for each operation by its
    /// number (KIP-430).
    pub(crate) fn authorized(&self, resource: Resource<'_>) -> i32 {
        let kind = match resource {
            Resource::Topic(_) | Resource::AnyTopic => ResourceType::Topic,
            Resource::Group(_) => ResourceType::Group,
            Resource::Cluster => ResourceType::Cluster,
        };
        let allowed = kind
            .operations()
            .filter(|operation| self.sees(*operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << operation as i32)
    }

    /// Refuses what the request may not do.
    pub(crate) fn check(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        if self.sees(operation, resource) {
            return Ok(());
        }
        if let Some(visit) = &self.visit {
            visit
                .authority
                .denied(&visit.principal, operation, resource);
        }
        Err(match resource {
            Resource::Topic(name) => Refusal::TopicNotAllowed(name.to_owned()),
            Resource::Group(name) => Refusal::GroupNotAllowed(name.to_owned()),
            Resource::AnyTopic | Resource::Cluster => Refusal::ClusterNotAllowed,
        })
    }

    /// Whether who asked may still be here.
    pub(crate) fn is_welcome(&self) -> bool {
        let visit = self.visit.as_ref();
        visit.is_none_or(|visit| visit.authority.is_welcome(&visit.principal))
    }

    /// Host and port that this client is told.
    pub(crate) fn advertised<'a>(&'a self, config: &'a BrokerConfig) -> (KStr, i32) {
        let (host, port) = match &self.advertised {
            Some(own) => (own.host.as_str(), own.port),
            None => (config.advertised_host.as_str(), config.advertised_port),
        };
        (host.into(), i32::from(port))
    }

    pub(crate) fn encode<M: Message>(&self, response: &M) -> Result<Bytes, CloseReason> {
        encode_response(self.key, self.version, self.correlation_id, response)
            .map_err(|error| CloseReason::Encode(error.to_string()))
    }

    pub(crate) fn ready<M: Message>(&self, response: &M) -> Reply {
        match self.encode(response) {
            Ok(response) => Reply::Ready(response),
            Err(reason) => Reply::Close(reason),
        }
    }

    pub(crate) fn after_commit<M: Message>(&self, ticket: Ticket, response: &M) -> Reply {
        match self.encode(response) {
            Ok(response) => Reply::AfterCommit { ticket, response },
            Err(reason) => Reply::Close(reason),
        }
    }
}
