//! From CONNECT to CONNACK: claim, load or make the session, wait for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use forebay_mqtt::session::{AcceptSession, OpenSession, SessionExpiry};
use forebay_mqtt::{PacketId, ReasonCode, Text, TopicFilter};
use forebay_storage::{AppendError, Ticket, Transaction};
use tokio::sync::mpsc;

use super::inbound::will_message;
use super::outbound::Subscriber;
use super::{Connection, Waiting};
use crate::mqtt::dispatch::{Grant, Reader, Subscription};
use crate::mqtt::feeds::FeedId;
use crate::mqtt::node::Node;
use crate::mqtt::sessions::record::{
    self, CursorRecord, SessionRecord, StoredSession, SubscriptionRecord,
};
use crate::mqtt::sessions::{Claim, ClaimError, EXPIRY_NEVER};
use crate::mqtt::shares::MemberGrant;
use crate::mqtt::stats::count;
use crate::mqtt::stream::ByteStream;
use crate::mqtt::wills::{self, StoredWill};

/// Characters of a made-up client identifier, 119 bits of chance.
const ASSIGNED_ID_LEN: usize = 20;

/// The session that the connection owns.
pub(super) struct Opened {
    /// The right to it.
    pub claim: Claim,
    /// Seconds it outlives the connection.
    pub expiry_seconds: u32,
    /// Its subscriptions.
    pub subscriptions: BTreeMap<TopicFilter, Subscribed>,
    /// Its shared subscriptions.
    pub shares: BTreeMap<TopicFilter, MemberGrant>,
    /// Whether a no-local subscription was made, so that the client's messages
    /// have to say who published them.
    pub has_no_local: bool,
    /// Its will, until it is published or discarded.
    pub will: Option<StoredWill>,
    /// What the machine is told when the session is durable.
    accept: AcceptSession,
}

/// A subscription of the session.
#[derive(Clone, Debug)]
pub(super) struct Subscribed {
    /// What it asks for.
    pub grant: Grant,
    /// Where it counts from, in partitions the session had a backlog in.
    pub starts: HashMap<FeedId, u64>,
}

impl Opened {
    /// Subscriptions of all kinds.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len() + self.shares.len()
    }

    /// Whether the session outlives the connection.
    pub fn is_persistent(&self) -> bool {
        self.expiry_seconds > 0
    }
}

/// What was found or made in the state.
struct Prepared {
    claim: Claim,
    stored: Option<StoredSession>,
    ticket: Option<Ticket>,
}

impl<S: ByteStream> Connection<S> {
    pub(super) async fn open(&mut self, open: OpenSession) {
        if !self.node.may_connect(Instant::now()) {
            count(&self.node.stats.connects_refused);
            let reason = ReasonCode::ConnectionRateExceeded;
            self.machine.refuse_connect(Instant::now(), reason);
            return;
        }
        if let Err(reason) = self.admit(&open).await {
            self.machine.refuse_connect(Instant::now(), reason);
            return;
        }
        let assigned = open.client_id.is_empty().then(assigned_client_id);
        let client = assigned.as_ref().unwrap_or(&open.client_id);
        let claimant = self.admission.claimant();
        let claim = match self.node.sessions.claim(client.as_str(), &claimant).await {
            Ok(claim) => claim,
            Err(error) => {
                tracing::warn!(client = client.as_str(), %error, "connection refused");
                let reason = match error {
                    ClaimError::Foreign => ReasonCode::NotAuthorized,
                    ClaimError::TooMany => ReasonCode::QuotaExceeded,
                    ClaimError::Busy => ReasonCode::ServerBusy,
                };
                self.machine.refuse_connect(Instant::now(), reason);
                return;
            }
        };
        let expiry_seconds = seconds(open.session_expiry);
        let node = Arc::clone(&self.node);
        let will = open.will.as_ref().and_then(|will| {
            let delay = will.properties.will_delay_interval.unwrap_or(0);
            let message = will_message(will, client.clone());
            StoredWill::new(&message, delay.min(expiry_seconds))
        });
        let resumes = claim.is_stored() && !open.clean_start;
        if node.wills.disarm(claim.client()) && !resumes {
            // The session of that will ends here, before its delay has passed.
            Box::pin(publish_earlier(&node, claim.client())).await;
        }
        let fresh = SessionRecord {
            expiry_seconds,
            subscriptions: Vec::new(),
            user: claimant.user().map(ToString::to_string),
        };
        let prepared = prepare(node, claim, resumes, fresh, will.clone()).await;
        let Prepared {
            claim,
            stored,
            ticket,
        } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "session not written, connection refused");
                let reason = ReasonCode::ServerUnavailable;
                self.machine.refuse_connect(Instant::now(), reason);
                return;
            }
        };
        let filters = stored
            .iter()
            .flat_map(|stored| &stored.session.subscriptions);
        if !self.may_resume(filters.map(|record| record.filter.as_str())) {
            let client = claim.client();
            tracing::warn!(%client, "its session has subscriptions that it may not have; it has to start clean");
            let reason = ReasonCode::NotAuthorized;
            self.machine.refuse_connect(Instant::now(), reason);
            return;
        }
        let received = stored.iter().flat_map(|stored| &stored.received);
        let accept = AcceptSession {
            session_present: stored.is_some(),
            assigned_client_id: assigned,
            received_qos2: received.filter_map(|id| PacketId::new(*id)).collect(),
        };
        self.opened = Some(Opened {
            claim,
            expiry_seconds,
            subscriptions: BTreeMap::new(),
            shares: BTreeMap::new(),
            has_no_local: false,
            will,
            accept,
        });
        self.outbound.resume = stored.map(Box::new);
        match ticket {
            Some(ticket) => self.wait_for(ticket, Waiting::Open),
            None => self.accept(),
        }
    }

    /// Sends the CONNACK of the session that is durable.
    pub(super) fn accept(&mut self) {
        if let Some(opened) = &mut self.opened {
            let accept = std::mem::take(&mut opened.accept);
            self.machine.accept_session(Instant::now(), accept);
            self.node.stats.client_came();
            self.is_client = true;
        }
    }

    /// Becomes a reader of the log with these subscriptions, reading on at the
    /// cursors.
    pub(super) fn attach(&mut self, records: &[SubscriptionRecord], cursors: &CursorRecord) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        let id = opened.claim.number();
        let (sender, queue) = mpsc::channel(self.node.config.queue_len_max.max(1));
        let subscriber = Subscriber::new(id, queue);
        let subscriptions: Vec<Subscription> = records
            .iter()
            .filter_map(|record| {
                let filter = TopicFilter::try_from(record.filter.as_str()).ok()?;
                let grant = Grant {
                    subscriber: id,
                    qos: record.qos,
                    identifier: record.identifier,
                    retain_as_published: record.retain_as_published,
                    no_local: record.no_local,
                };
                Some(Subscription { filter, grant })
            })
            .collect();
        let places = cursors.cursors.iter();
        let cursors = places.filter_map(|place| Some((place.key()?, place.offset)));
        let cursors: HashMap<_, _> = cursors.collect();
        let dispatch = &self.node.dispatch;
        let reader = Reader {
            client: Arc::clone(opened.claim.client()),
            queue: sender,
            live: Some(Arc::clone(&subscriber.live)),
            wake: Arc::clone(&subscriber.wake),
        };
        dispatch.attach(id, reader, subscriptions.clone(), &cursors);
        for (record, subscription) in records.iter().zip(subscriptions) {
            let places = record.starts.iter();
            let starts = places.filter_map(|p| Some((dispatch.find(&p.key()?)?, p.offset)));
            let subscribed = Subscribed {
                grant: subscription.grant,
                starts: starts.collect(),
            };
            opened.has_no_local |= subscription.grant.no_local;
            opened.subscriptions.insert(subscription.filter, subscribed);
        }
        self.outbound.subscriber = Some(subscriber);
    }
}

/// Loads the session or makes a new one. Only a session that the state knows
/// costs a look at it.
async fn prepare(
    node: Arc<Node>,
    claim: Claim,
    resumes: bool,
    fresh: SessionRecord,
    will: Option<StoredWill>,
) -> Result<Prepared, AppendError> {
    if !claim.is_stored() {
        return make(claim, &fresh, will.as_ref());
    }
    let prepared = tokio::task::spawn_blocking(move || {
        let will = will.as_ref();
        match claim.load().filter(|_| resumes) {
            Some(stored) => resume(&node, claim, stored, fresh, will),
            None => make(claim, &fresh, will),
        }
    });
    prepared.await.unwrap_or(Err(AppendError::ShuttingDown))
}

/// Publishes the will that an earlier session of the client left.
async fn publish_earlier(node: &Arc<Node>, client: &Arc<str>) {
    let (reader, of) = (Arc::clone(node), Arc::clone(client));
    let reading = tokio::task::spawn_blocking(move || reader.wills.read(&of));
    if let Ok(Some(message)) = reading.await {
        wills::publish(node, message, client).await;
    }
}

fn make(
    mut claim: Claim,
    fresh: &SessionRecord,
    will: Option<&StoredWill>,
) -> Result<Prepared, AppendError> {
    let ticket = claim.reset((fresh.expiry_seconds > 0).then_some(fresh), will)?;
    Ok(Prepared {
        claim,
        stored: None,
        ticket,
    })
}

/// Takes note that the session is connected again, so that its expiry does not
/// count from the last disconnect.
fn resume(
    node: &Node,
    claim: Claim,
    mut stored: StoredSession,
    fresh: SessionRecord,
    will: Option<&StoredWill>,
) -> Result<Prepared, AppendError> {
    stored.session.expiry_seconds = fresh.expiry_seconds;
    stored.session.user = fresh.user;
    stored.cursors.disconnected_at_ms = None;
    let client = claim.client();
    let mut transaction = Transaction::new();
    let session = record::encode(&stored.session);
    transaction.put(&record::session_key(client), &session);
    let cursors = record::encode(&stored.cursors);
    transaction.put(&record::cursor_key(client), &cursors);
    // A will that waited is not to be published any more [MQTT-3.1.3-9].
    wills::stage(client, will, &mut transaction);
    let ticket = node.storage.commit(transaction)?.ticket;
    Ok(Prepared {
        claim,
        stored: Some(stored),
        ticket: Some(ticket),
    })
}

/// The session expiry interval of section 3.1.2.11.2.
pub(super) fn seconds(expiry: SessionExpiry) -> u32 {
    match expiry {
        SessionExpiry::AtClose => 0,
        SessionExpiry::After(time) => u32::try_from(time.as_secs()).unwrap_or(EXPIRY_NEVER),
        SessionExpiry::Never => EXPIRY_NEVER,
    }
}

fn assigned_client_id() -> Text {
    let random = std::iter::repeat_with(fastrand::alphanumeric).take(ASSIGNED_ID_LEN);
    let id: String = "forebay-".chars().chain(random).collect();
    Text::try_from(id).expect("28 letters and digits are a text")
}

/// Waits until another connection claims the session.
pub(super) async fn taken_over(claim: Option<&mut Claim>) {
    match claim {
        Some(claim) => claim.taken_over().await,
        None => std::future::pending().await,
    }
}
