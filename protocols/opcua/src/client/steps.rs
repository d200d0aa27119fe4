//! What a run does at the server, step by step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use opcua::client::{Session, SessionConnectMode, SessionPollResult, SubscriptionActivity};
use opcua::types::{
    NamespaceMap, ReadValueId, StatusCode, TimestampsToReturn, VariableId, Variant,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::browsing::{Findings, Walk, walk};
use super::opening::{OpenError, Opened, endpoints, open, own};
use super::receiving::{Flow, Inlet, Parcel, Progress, Table};
use super::{Notice, subscribing};
use crate::batch::Batch;
use crate::items::{Item, Items, Refusal};
use crate::node::Namespaces;
use crate::run::Reconnected;
use crate::sequence::{REPUBLISH_MAX, next};
use crate::settings::Settings;
use crate::value::status_name;

/// What the library's event loop says, as far as it matters.
#[derive(Debug)]
pub(crate) enum Linked {
    Lost(StatusCode),
    ReconnectFailed(StatusCode),
    Reconnected(Reconnected),
    Published,
    Ended(StatusCode),
}

/// Events that wait for the driver. It is never busy for long.
pub(crate) const LINKED_MAX: usize = 64;

/// A session whose event loop is polled by a task that ends with this.
pub(crate) struct Link {
    pub(crate) session: Arc<Session>,
    /// Lets the library try to reconnect.
    pub(super) permit: Arc<Notify>,
    pump: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// One subscription and its nodes.
pub(super) struct Subscribed {
    pub(super) number: u64,
    pub(super) id: u32,
    pub(super) items: Items,
    pub(super) progress: Arc<Progress>,
    /// What it was made for.
    pub(super) settings: Arc<Settings>,
    pub(super) refused: Vec<Refusal>,
    pub(super) is_cut: bool,
}

/// How long the server is given to close a session before it is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a start has to do with.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) settings: Arc<Settings>,
    pub(super) parcels: mpsc::Sender<Parcel>,
    pub(super) flow: Arc<Flow>,
    pub(super) number: u64,
    pub(super) batch: Batch,
}

/// A run that has begun.
pub(super) struct Begun {
    pub(super) namespaces: Namespaces,
    pub(super) subscribed: Subscribed,
    pub(super) batch: Batch,
}

/// Opens a session and polls its event loop, whose events go to `linked`.
pub(crate) async fn link(
    settings: &Arc<Settings>,
    linked: mpsc::Sender<Linked>,
) -> Result<(Link, Vec<Notice>), OpenError> {
    let Opened {
        session,
        events,
        notices,
    } = open(settings).await?;
    let permit = Arc::new(Notify::new());
    let allowed = Arc::clone(&permit);
    let pump = tokio::spawn(async move {
        let events = events.enter();
        tokio::pin!(events);
        // The first connect is reported as a reconnect.
        while let Some(event) = events.next().await {
            let (said, waits) = match event {
                Ok(SessionPollResult::ConnectionLost(status)) => (Linked::Lost(status), true),
                Ok(SessionPollResult::ReconnectFailed(status)) => {
                    (Linked::ReconnectFailed(status), true)
                }
                Ok(SessionPollResult::Reconnected(SessionConnectMode::NewSession(_))) => {
                    (Linked::Reconnected(Reconnected::NewSession), false)
                }
                Ok(SessionPollResult::Reconnected(_)) => {
                    (Linked::Reconnected(Reconnected::SameSession), false)
                }
                Ok(SessionPollResult::Subscription(SubscriptionActivity::Publish)) => {
                    // One that does not fit says nothing that those before it
                    // did not say, and the library must be polled.
                    let _ = linked.try_send(Linked::Published);
                    continue;
                }
                Ok(_) => continue,
                Err(status) => {
                    let _ = linked.send(Linked::Ended(status)).await;
                    return;
                }
            };
            if linked.send(said).await.is_err() {
                return;
            }
            if waits {
                allowed.notified().await;
            }
        }
        let _ = linked
            .send(Linked::Ended(StatusCode::BadConnectionClosed))
            .await;
    });
    let link = Link {
        session,
        permit,
        pump,
    };
    Ok((link, notices))
}

/// Whether the server at the address shows another certificate than the one that
/// the session was made with; false when it does not say.
pub(super) async fn is_another(settings: &Settings, session: &Session) -> bool {
    let before = &session.endpoint_info().endpoint;
    let Ok((_, own)) = own(settings).await else {
        return false;
    };
    let Ok(found) = endpoints(settings, &own).await else {
        return false;
    };
    // A chain begins with the certificate that was pinned.
    let certificate = before.server_certificate.value.as_deref().unwrap_or(&[]);
    let mut shown = found
        .iter()
        .filter(|endpoint| {
            endpoint.security_mode == before.security_mode
                && endpoint.security_policy_uri == before.security_policy_uri
        })
        .map(|endpoint| endpoint.server_certificate.value.as_deref().unwrap_or(&[]))
        .peekable();
    shown.peek().is_some() && !shown.any(|shown| shown.starts_with(certificate))
}

/// Ends a session at the server, if it answers.
pub(super) async fn close(session: &Session, linked: &mut mpsc::Receiver<Linked>) {
    let closing = tokio::time::timeout(CLOSE_TIMEOUT, session.disconnect());
    tokio::pin!(closing);
    loop {
        tokio::select! {
            // Closed or not: the connection is dropped next.
            _ = &mut closing => break,
            _ = linked.recv() => {}
        }
    }
}

/// From a connected session to values.
pub(super) async fn begin(session: Arc<Session>, frame: Frame) -> Result<Begun, String> {
    let namespaces = namespaces(&session).await.map_err(|status| {
        format!(
            "the namespace array cannot be read: {}",
            status_name(status)
        )
    })?;
    let (subscribed, batch) = subscribe(&session, &namespaces, frame, true).await?;
    Ok(Begun {
        namespaces,
        subscribed,
        batch,
    })
}

/// Makes a subscription beside one that it replaces. It is silent until that
/// has brought what it holds, so that values stay in order.
pub(super) async fn replace(
    session: &Session,
    namespaces: &Namespaces,
    frame: Frame,
) -> Result<(Subscribed, Batch), String> {
    let interval = frame.settings.publishing_interval;
    let (subscribed, batch) = subscribe(session, namespaces, frame, false).await?;
    tokio::time::sleep(interval * 2).await;
    let published = session.set_publishing_mode(&[subscribed.id], true).await;
    match published {
        Ok(status) if status.iter().all(StatusCode::is_good) => Ok((subscribed, batch)),
        Ok(status) => Err(failed("not published", status[0])),
        Err(error) => Err(failed("not published", error.status())),
    }
}

/// Ends a subscription that was replaced, when it has said its last.
pub(super) async fn dismiss(session: &Session, id: u32, settings: &Settings) {
    tokio::time::sleep(settings.publishing_interval * 2).await;
    // One that stays expires with the session.
    let _ = session.delete_subscription(id).await;
}

fn failed(what: &str, status: StatusCode) -> String {
    format!("{what}: {}", status_name(status))
}

/// Finds the nodes and makes a subscription with them.
pub(super) async fn subscribe(
    session: &Session,
    namespaces: &Namespaces,
    frame: Frame,
    is_publishing: bool,
) -> Result<(Subscribed, Batch), String> {
    let Frame {
        settings,
        parcels,
        flow,
        number,
        mut batch,
    } = frame;
    let findings = if settings.browse.is_empty() {
        Findings::default()
    } else {
        let found = walk(session, &Walk::of(&settings), &mut batch).await;
        found.map_err(|status| failed("browsing failed", status))?
    };
    let mut items = items(&settings, namespaces, &findings);
    let progress = Arc::<Progress>::default();
    let inlet = Inlet {
        number,
        parcels: parcels.clone(),
        flow,
        progress: Arc::clone(&progress),
    };
    let id = subscribing::create(session, &settings, is_publishing, inlet)
        .await
        .map_err(|status| failed("no subscription", status))?;
    // First the table: values come before the answer does.
    let table = |types| {
        Parcel::Table(Table {
            number,
            items: items
                .all()
                .iter()
                .map(|item| (Arc::clone(&item.name), item.sampling.deadband))
                .collect(),
            timestamp: settings.timestamp,
            types,
        })
    };
    // The receiver ends with the client, and this task with it.
    let _ = parcels.send(table(None)).await;
    let all: Vec<(usize, Item)> = items.all().iter().cloned().enumerate().collect();
    let answers = subscribing::monitor(session, id, &all, settings.server_deadband, &mut batch)
        .await
        .map_err(|status| failed("no monitored items", status))?;
    let refused = answers.apply(&mut items, Instant::now());
    if let Some(types) = subscribing::types(session, &items, &mut batch).await {
        let _ = parcels.send(Parcel::Types(number, types)).await;
    }
    let subscribed = Subscribed {
        number,
        id,
        items,
        progress,
        settings,
        refused,
        is_cut: findings.is_cut,
    };
    Ok((subscribed, batch))
}

/// The nodes by id and those that were found, each node and each name once.
fn items(settings: &Settings, namespaces: &Namespaces, findings: &Findings) -> Items {
    let mut items: Vec<Item> = Vec::new();
    for node in &settings.nodes {
        let id = node.id.resolve(namespaces);
        let id = id
            .inspect_err(|error| tracing::warn!(node = node.name, "{error}"))
            .ok();
        items.push(Item::new(Arc::from(node.name.as_str()), id, node.sampling));
    }
    let named: std::collections::BTreeSet<Arc<str>> =
        items.iter().map(|item| Arc::clone(&item.name)).collect();
    let known: std::collections::HashSet<_> =
        items.iter().filter_map(|item| item.node.clone()).collect();
    for found in &findings.found {
        // A node with a name of its own keeps it.
        if known.contains(&found.node) {
            continue;
        }
        let name = crate::names::unique(found.path.clone(), |name| named.contains(name));
        let node = Some(found.node.clone());
        items.push(Item::new(Arc::from(name), node, settings.sampling));
    }
    Items::new(items)
}

/// Reads the namespace array, and lets the library know it.
pub(crate) async fn namespaces(session: &Session) -> Result<Namespaces, StatusCode> {
    let asked = ReadValueId::from(opcua::types::NodeId::from(
        VariableId::Server_NamespaceArray,
    ));
    let answer = session
        .read(&[asked], TimestampsToReturn::Neither, 0.0)
        .await
        .map_err(|error| error.status())?;
    let value = answer.into_iter().next().and_then(|answer| answer.value);
    let Some(Variant::Array(array)) = value else {
        return Err(StatusCode::BadNoValue);
    };
    if let Ok(map) = NamespaceMap::new_from_variant_array(&array.values) {
        session.set_namespaces(map);
    }
    let uris = array.values.iter().map(|value| match value {
        Variant::String(uri) => uri.as_ref().to_owned(),
        _ => String::new(),
    });
    Ok(Namespaces::new(uris.collect()))
}

/// One subscription on its way through a step.
pub(super) struct Stream {
    pub(super) session: Arc<Session>,
    pub(super) id: u32,
    pub(super) number: u64,
    pub(super) progress: Arc<Progress>,
    pub(super) flow: Arc<Flow>,
    pub(super) parcels: mpsc::Sender<Parcel>,
}

impl Stream {
    /// Repairs a session after a reconnect: a new session takes the subscription
    /// of the one before over, the namespaces must be those of `before`, and lost
    /// messages are asked for before new ones can come.
    pub(super) async fn resume(
        self,
        is_new_session: bool,
        before: Namespaces,
    ) -> Result<(), String> {
        let session = &self.session;
        if is_new_session {
            let transferred = session.transfer_subscriptions(&[self.id], false).await;
            let status = match transferred {
                Ok(results) => results
                    .first()
                    .map_or(StatusCode::BadUnknownResponse, |one| one.status_code),
                Err(error) => error.status(),
            };
            if !status.is_good() {
                let status = status_name(status);
                return Err(format!(
                    "the server was restarted or forgot the subscription: {status}"
                ));
            }
        }
        let found = namespaces(session).await.map_err(|status| {
            let status = status_name(status);
            format!("the namespace array cannot be read: {status}")
        })?;
        if found != before {
            return Err("the server's namespaces have changed".to_owned());
        }
        if let Some(first) = self.progress.expected() {
            let republished = self.republish(first, REPUBLISH_MAX).await;
            republished
                .map_err(|status| format!("republishing failed: {}", status_name(status)))?;
        }
        // Without this the library never asks again (decision 0011).
        session.trigger_publish_now();
        Ok(())
    }

    /// Asks for messages once more, from `first` on. Returns how many came. The
    /// end is a message that the server does not have.
    pub(super) async fn republish(&self, first: u32, count: u32) -> Result<u32, StatusCode> {
        let mut at = first;
        for found in 0..count {
            match self.session.republish(self.id, at).await {
                Ok(message) => {
                    self.progress.handle_republished(&message);
                    self.flow.handle_republished(&message);
                    let _ = self
                        .parcels
                        .send(Parcel::Message(self.number, message))
                        .await;
                }
                Err(error) => match error.status() {
                    // Not every server can.
                    StatusCode::BadMessageNotAvailable | StatusCode::BadServiceUnsupported => {
                        return Ok(found);
                    }
                    status => return Err(status),
                },
            }
            at = next(at);
        }
        Ok(count)
    }
}

impl<'a> Walk<'a> {
    /// What the settings ask for.
    pub(crate) fn of(settings: &'a Settings) -> Self {
        Self {
            include: &settings.browse,
            exclude: &settings.exclude,
            max_nodes: settings.max_nodes,
            max_depth: settings.max_depth,
        }
    }
}
