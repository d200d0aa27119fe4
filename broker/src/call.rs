//! One request on its way through the handlers.

use std::net::IpAddr;

use bytes::Bytes;
use forebay_kafka::{ApiKey, KStr, Message, encode_response};
use forebay_storage::Ticket;

use crate::reply::{CloseReason, Reply};

/// What the handlers know of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionContext {
    /// Address of the client.
    pub client_host: IpAddr,
}

/// The header of a request, which its response needs again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<KStr>,
    pub(crate) client_host: IpAddr,
}

impl Call {
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
