//! A look at a server before it is configured: what it offers, and its nodes
//! with types and values.
//!
//! [`offers`] asks without a session, as every client may. [`nodes`] opens one
//! for as long as it browses and reads, and subscribes to nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opcua::types::{
    ApplicationDescription, AttributeId, DataValue, EndpointDescription, NodeId, ReadValueId,
    StatusCode, UserTokenType, Variant,
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::certificates::Cert;
use crate::client::{
    CURRENT_WRITE, LINKED_MAX, Link, Linked, Notice, OpenError, Walk, attribute_of, built_in,
    endpoints, link, namespaces, own, read, walk,
};
use crate::node::NodeRef;
use crate::sample::{Sample, Timestamp};
use crate::security::{self, Policy};
use crate::settings::Settings;
use crate::value::{kind_name, status_name};

/// What is read of each node: value, type, access and dimensions.
const ATTRIBUTES: [AttributeId; 4] = [
    AttributeId::Value,
    AttributeId::DataType,
    AttributeId::UserAccessLevel,
    AttributeId::ValueRank,
];

/// A server that closes slowly does not keep a person waiting.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who the server says it is, and what it offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offers {
    /// Its name.
    pub name: String,
    /// Its application URI.
    pub application_uri: String,
    /// Its certificate, if it has one.
    pub certificate: Option<Cert>,
    /// Its endpoints, as it lists them.
    pub endpoints: Vec<Offer>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The address that the server gives for it.
    pub url: String,
    /// The name of the policy, also of one that this client does not speak.
    pub policy: String,
    /// The name of the mode.
    pub mode: &'static str,
    /// Who may come: `anonymous`, `user`, `certificate`, `issued token`.
    pub identities: Vec<&'static str>,
    /// Whether this client speaks it.
    pub is_spoken: bool,
}

/// A variable of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Browse names from Objects on, as levels of a path.
    pub path: String,
    /// Its id, by namespace URI.
    pub id: NodeRef,
    /// The built-in type of its values, when the server says it.
    pub kind: Option<&'static str>,
    /// Whether it has several values.
    pub is_array: bool,
    /// Whether this user may write it.
    pub is_writable: bool,
    /// Its value, with quality and status.
    pub sample: Sample,
}

/// The nodes that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The policy and the mode of the session.
    pub protection: (&'static str, &'static str),
    /// The variables, in the order of their paths.
    pub nodes: Vec<Described>,
    /// Whether a limit ended the walk.
    pub is_cut: bool,
}

/// Why nothing can be shown.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// There is no way to open a session.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server refuses the session, or goes away.
    #[error("no session: {0}")]
    Session(&'static str),
    /// The session did not come in time.
    #[error("no session after {0:?}")]
    Timeout(Duration),
    /// It does not let its nodes be seen.
    #[error("{what}: {status}")]
    Request {
        /// What was asked.
        what: &'static str,
        /// What it said.
        status: &'static str,
    },
}

/// Asks a server for its endpoints. Makes the gateway's certificate when
/// `settings.pki` has none.
///
/// # Errors
/// [`OpenError`] when the server does not answer, or the folder of certificates
/// cannot be used.
pub async fn offers(settings: &Settings) -> Result<Offers, OpenError> {
    let (_, own) = own(settings).await?;
    let endpoints = endpoints(settings, &own).await?;
    let server = endpoints
        .first()
        .map_or_else(ApplicationDescription::default, |first| {
            first.server.clone()
        });
    let certificate = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.server_certificate.value.as_deref())
        .find_map(Cert::chain_from_der)
        .map(|mut chain| chain.swap_remove(0));
    Ok(Offers {
        name: server.application_name.text.as_ref().to_owned(),
        application_uri: server.application_uri.as_ref().to_owned(),
        certificate,
        endpoints: endpoints.iter().map(offer).collect(),
    })
}

fn offer(endpoint: &EndpointDescription) -> Offer {
    let uri = endpoint.security_policy_uri.as_ref();
    let policy = Policy::from_uri(uri).map_or_else(
        || uri.rsplit('#').next().unwrap_or(uri).to_owned(),
        |policy| policy.name().to_owned(),
    );
    let mut identities: Vec<&'static str> = Vec::new();
    for token in endpoint.user_identity_tokens.iter().flatten() {
        let identity = match token.token_type {
            UserTokenType::Anonymous => "anonymous",
            UserTokenType::UserName => "user",
            UserTokenType::Certificate => "certificate",
            UserTokenType::IssuedToken => "issued token",
        };
        if !identities.contains(&identity) {
            identities.push(identity);
        }
    }
    Offer {
        url: endpoint.endpoint_url.as_ref().to_owned(),
        policy,
        mode: security::mode_name(endpoint.security_mode),
        identities,
        is_spoken: security::protection(endpoint).is_some(),
    }
}

/// Opens a session, finds the nodes that `settings.browse` means and reads
/// them.
///
/// # Errors
/// [`ProbeError`] says how far it came.
pub async fn nodes(settings: Settings) -> Result<Listing, ProbeError> {
    let settings = Arc::new(settings);
    let (linked, mut events) = mpsc::channel(LINKED_MAX);
    let (link, notices) = link(&settings, linked).await?;
    let limit = settings.request_timeout * 3;
    match tokio::time::timeout(limit, events.recv()).await {
        Ok(Some(Linked::Reconnected(_))) => {}
        Ok(Some(
            Linked::Lost(status) | Linked::ReconnectFailed(status) | Linked::Ended(status),
        )) => return Err(ProbeError::Session(status_name(status))),
        Ok(Some(Linked::Published) | None) => {
            return Err(ProbeError::Session(status_name(
                StatusCode::BadUnexpectedError,
            )));
        }
        Err(_) => return Err(ProbeError::Timeout(limit)),
    }
    let protection = notices.iter().find_map(|notice| match notice {
        Notice::Endpoint { policy, mode } => Some((*policy, *mode)),
        _ => None,
    });
    let listing = list(&link, &settings, protection.unwrap_or(("None", "None"))).await;
    // What was read is worth more than a clean end.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, link.session.disconnect()).await;
    listing
}

async fn list(
    link: &Link,
    settings: &Settings,
    protection: (&'static str, &'static str),
) -> Result<Listing, ProbeError> {
    let failed = |what| {
        move |status| ProbeError::Request {
            what,
            status: status_name(status),
        }
    };
    let session = &link.session;
    let namespaces = namespaces(session)
        .await
        .map_err(failed("the namespaces cannot be read"))?;
    let mut batch = Batch::new(settings.batch);
    let findings = walk(session, &Walk::of(settings), &mut batch)
        .await
        .map_err(failed("the nodes cannot be browsed"))?;
    let asked: Vec<ReadValueId> = findings
        .found
        .iter()
        .flat_map(|found| ATTRIBUTES.map(|attribute| attribute_of(&found.node, attribute)))
        .collect();
    let answers = read(session, &asked, &mut batch)
        .await
        .map_err(failed("the nodes cannot be read"))?;
    let mut kinds: HashMap<NodeId, Option<&'static str>> = HashMap::new();
    let mut nodes = Vec::with_capacity(findings.found.len());
    for (found, answers) in findings
        .found
        .into_iter()
        .zip(answers.chunks(ATTRIBUTES.len()))
    {
        let [value, data_type, access, rank] = answers else {
            break;
        };
        let kind = match &data_type.value {
            Some(Variant::NodeId(data_type)) => match kinds.get(&**data_type) {
                Some(kind) => *kind,
                None => {
                    let kind = built_in(session, data_type).await.map(kind_name);
                    kinds.insert((**data_type).clone(), kind);
                    kind
                }
            },
            _ => None,
        };
        let name: Arc<str> = found.path.as_str().into();
        nodes.push(Described {
            id: NodeRef::of(&found.node, &namespaces),
            path: found.path,
            kind,
            is_array: is_array(rank),
            is_writable: matches!(access.value, Some(Variant::Byte(access)) if access & CURRENT_WRITE != 0),
            sample: Sample::of(name, value, Timestamp::Source, None),
        });
    }
    // Servers list children in any order.
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Listing {
        protection,
        nodes,
        is_cut: findings.is_cut,
    })
}

/// One dimension or more; a scalar has -1 (Part 3, 5.6.2).
fn is_array(rank: &DataValue) -> bool {
    matches!(rank.value, Some(Variant::Int32(rank)) if rank >= 1)
}
