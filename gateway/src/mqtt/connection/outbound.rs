//! From the log to the client.
//!
//! Messages come from four places, taken in this order: deliveries that the
//! resumed session left unfinished, the queue that the dispatching thread
//! fills, pages that this connection reads itself while it is behind, and
//! retained messages. They pass through one short list, `pending`, so their
//! order per partition is the log's.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use forebay_mqtt::packet::{PublishProperties, SubscriptionId};
use forebay_mqtt::session::{Cursor, Delivery as Outgoing};
use forebay_mqtt::{Packet, PacketId, Qos, ReasonCode};
use forebay_storage::{ReadError, Ticket};
use tokio::sync::{Notify, mpsc};

use super::retaining::Retaining;
use super::sharing::{Sharing, cursor, feed_of, shared_arrives};
use super::{Connection, Event};
use crate::mqtt::dispatch::{Delivery, Folded, SubscriberId, UNLOGGED_FEED};
use crate::mqtt::feeds::{FeedId, Page, detach, read_page};
use crate::mqtt::live::LiveQueue;
use crate::mqtt::node::now_ms;
use crate::mqtt::sessions::record::{PlaceRecord, StoredSession};
use crate::mqtt::stats::count;
use crate::mqtt::stream::ByteStream;

/// Messages taken from the queue ahead of the client's credit.
const PENDING_LEN_MAX: usize = 64;

/// Bytes read from a partition in one step while behind.
const CATCH_UP_LEN: usize = 64 << 10;

/// Pause after the disk refused a read.
const READ_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long finished deliveries may be missing from the cursor record. After a
/// crash they are delivered again, so this bounds duplicates, not losses.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Finished deliveries that may be missing from the cursor record.
const CHECKPOINT_EVERY: usize = 1024;

/// The connection as a reader of the log.
pub(super) struct Subscriber {
    /// Its name at the dispatching thread.
    pub id: SubscriberId,
    /// Notified when it falls behind.
    pub wake: Arc<Notify>,
    /// Messages of memory topics.
    pub live: Arc<LiveQueue>,
    queue: mpsc::Receiver<Delivery>,
    is_behind: bool,
}

/// What is on its way to the client.
#[derive(Default)]
pub(super) struct Outbound {
    /// Set with the first subscription.
    pub subscriber: Option<Subscriber>,
    /// Messages to be handed to the machine.
    pub pending: VecDeque<Delivery>,
    /// Retained messages on their way.
    pub retained: Retaining,
    /// Its shared subscriptions, from the first on.
    pub sharing: Option<Box<Sharing>>,
    /// A session to be resumed after its CONNACK.
    pub resume: Option<Box<StoredSession>>,
    /// Places of unfinished QoS 2 deliveries, not to be delivered again.
    skip: HashSet<(FeedId, u64)>,
    /// Where the backlog of a resumed session ends. QoS 0 messages below were
    /// published while the client was away and are not sent.
    backlog_ends: HashMap<FeedId, u64>,
    /// Packet ids with a record of an outgoing QoS 2 delivery.
    recorded: HashSet<u16>,
    /// Those of them that are finished; removed with the next checkpoint,
    /// because the cursor must have passed the message before it is forgotten.
    finished: Vec<u16>,
    /// Finished deliveries since the last checkpoint, and since when.
    unwritten: usize,
    dirty_since: Option<Instant>,
    retry_read_at: Option<Instant>,
}

impl Subscriber {
    /// A reader whose queue the dispatching thread fills.
    pub fn new(id: SubscriberId, queue: mpsc::Receiver<Delivery>) -> Self {
        Self {
            id,
            wake: Arc::default(),
            live: Arc::default(),
            queue,
            is_behind: true,
        }
    }
}

impl Outbound {
    /// Whether messages are taken from the queue.
    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_LEN_MAX
    }

    /// Takes a message from the queue.
    pub fn arrived(&mut self, delivery: Option<Delivery>) {
        self.pending.extend(delivery);
    }

    /// Moves the whole queue into the list.
    pub fn drain_queue(&mut self) {
        let Some(subscriber) = &mut self.subscriber else {
            return;
        };
        while let Ok(delivery) = subscriber.queue.try_recv() {
            self.pending.push_back(delivery);
        }
    }

    /// When the cursor record is to be written.
    pub fn next_checkpoint(&self) -> Option<Instant> {
        let checkpoint = self.dirty_since.map(|since| {
            if self.unwritten >= CHECKPOINT_EVERY {
                since
            } else {
                since + CHECKPOINT_INTERVAL
            }
        });
        match (checkpoint, self.retry_read_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether the cursor record is to be written.
    pub fn checkpoint_due(&mut self, now: Instant) -> bool {
        if self.retry_read_at.is_some_and(|at| at <= now) {
            self.retry_read_at = None;
            if let Some(subscriber) = &mut self.subscriber {
                subscriber.is_behind = true;
            }
        }
        let Some(since) = self.dirty_since else {
            return false;
        };
        self.unwritten >= CHECKPOINT_EVERY || since + CHECKPOINT_INTERVAL <= now
    }

    /// Takes note that the cursor record was written.
    pub fn checkpointed(&mut self) {
        for id in self.finished.drain(..) {
            self.recorded.remove(&id);
        }
        self.unwritten = 0;
        self.dirty_since = None;
    }

    /// Packet ids whose records the next checkpoint removes.
    pub fn finished(&self) -> &[u16] {
        &self.finished
    }

    /// The state knows of an outgoing QoS 2 delivery.
    pub fn is_now_recorded(&mut self, packet_id: u16) {
        self.recorded.insert(packet_id);
    }

    /// Whether the state knows of an outgoing QoS 2 delivery.
    pub fn is_recorded(&self, packet_id: u16) -> bool {
        self.recorded.contains(&packet_id)
    }

    /// The cursor record could not be written; it is due again later.
    pub fn postpone(&mut self, now: Instant) {
        self.unwritten = 0;
        self.dirty_since = Some(now);
    }

    fn changed(&mut self, now: Instant) {
        self.unwritten += 1;
        self.dirty_since.get_or_insert(now);
    }
}

/// Waits for the next message or for having to read.
pub(super) async fn arrives(
    subscriber: Option<&mut Subscriber>,
    sharing: Option<&mut Sharing>,
    takes: bool,
) -> Event {
    let Some(subscriber) = subscriber else {
        return std::future::pending().await;
    };
    tokio::select! {
        () = subscriber.wake.notified() => {
            subscriber.is_behind = true;
            Event::Behind
        }
        () = subscriber.live.arrived(), if takes => Event::Arrived(None),
        Some(delivery) = subscriber.queue.recv(), if takes => Event::Arrived(Some(delivery)),
        Some(delivery) = shared_arrives(sharing), if takes => Event::Arrived(Some(delivery)),
        else => std::future::pending().await,
    }
}

impl<S: ByteStream> Connection<S> {
    /// Gives the machine what it has room for. True when anything happened.
    pub(super) async fn deliver(&mut self) -> bool {
        if !self.machine.is_open() {
            return false;
        }
        if let Some(stored) = self.outbound.resume.take() {
            Box::pin(self.resume(*stored)).await;
            return true;
        }
        let mut progress = self.fill().await;
        while !self.output.is_full() {
            let Some(next) = self.outbound.pending.front() else {
                break;
            };
            if next.qos > 0 && self.machine.can_deliver() == 0 {
                break;
            }
            let Some(delivery) = self.outbound.pending.pop_front() else {
                break;
            };
            progress = true;
            let now = Instant::now();
            self.outbound.changed(now);
            let outgoing = outgoing(&delivery);
            let is_expired = outgoing.is_none();
            if let Some(outgoing) = outgoing
                && let Err(error) = self.machine.deliver(now, outgoing)
            {
                tracing::debug!(%error, "not delivered");
                self.outbound.pending.push_front(delivery);
                break;
            }
            self.shared_taken(&delivery, is_expired);
        }
        progress
    }

    /// Fills the list when it is empty.
    async fn fill(&mut self) -> bool {
        if !self.outbound.pending.is_empty() || self.output.is_full() {
            return false;
        }
        let Some(subscriber) = &mut self.outbound.subscriber else {
            return false;
        };
        // What is in no log comes first: it is there because it is urgent.
        while self.outbound.pending.len() < PENDING_LEN_MAX
            && let Some(delivery) = subscriber.live.pop()
        {
            self.outbound.pending.push_back(delivery);
        }
        if let Some(sharing) = &mut self.outbound.sharing {
            sharing.drain(&mut self.outbound.pending);
        }
        while self.outbound.pending.len() < PENDING_LEN_MAX {
            let Ok(delivery) = subscriber.queue.try_recv() else {
                break;
            };
            self.outbound.pending.push_back(delivery);
        }
        if !self.outbound.pending.is_empty() {
            return true;
        }
        if subscriber.is_behind {
            return Box::pin(self.catch_up()).await;
        }
        Box::pin(self.read_retained()).await
    }

    /// Reads one page of one partition in which this session is behind.
    async fn catch_up(&mut self) -> bool {
        let Some(subscriber) = &mut self.outbound.subscriber else {
            return false;
        };
        let id = subscriber.id;
        let behind = self.node.dispatch.behind(id);
        // What was queued before it fell behind comes first; after `behind`
        // nothing of that partition is queued until `advance`.
        self.outbound.drain_queue();
        let Some((feed, cursor)) = behind.first().copied() else {
            if let Some(subscriber) = &mut self.outbound.subscriber {
                subscriber.is_behind = false;
            }
            return true;
        };
        let partition = self.node.dispatch.feed(feed).partition;
        let reading =
            tokio::task::spawn_blocking(move || read_page(&partition, cursor, CATCH_UP_LEN));
        match reading.await {
            Ok(Ok(page)) => self.take_page(id, feed, cursor, page),
            Ok(Err(ReadError::Deleted)) => {
                self.node.dispatch.advance(id, feed, u64::MAX);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "backlog not read, trying again");
                self.read_later()
            }
            Err(_) => self.read_later(),
        }
    }

    fn read_later(&mut self) -> bool {
        self.outbound.retry_read_at = Some(Instant::now() + READ_RETRY_INTERVAL);
        if let Some(subscriber) = &mut self.outbound.subscriber {
            subscriber.is_behind = false;
        }
        false
    }

    fn take_page(&mut self, id: SubscriberId, feed: FeedId, cursor: u64, page: Page) -> bool {
        if page.lost > 0 {
            let stats = &self.node.stats;
            let lost = &stats.deliveries_lost;
            lost.fetch_add(page.lost, std::sync::atomic::Ordering::Relaxed);
            tracing::warn!(offsets = page.lost, "retention was faster than a session");
        }
        let Some(opened) = &self.opened else {
            return false;
        };
        let client = opened.claim.client();
        for (offset, message) in &page.messages {
            if self.outbound.skip.remove(&(feed, *offset)) {
                continue;
            }
            let mut folded: Option<Folded> = None;
            for (filter, subscribed) in &opened.subscriptions {
                let counts = subscribed
                    .starts
                    .get(&feed)
                    .is_none_or(|start| start <= offset);
                if counts
                    && filter.matches(&message.path)
                    && subscribed.grant.admits(message, client)
                {
                    folded
                        .get_or_insert_default()
                        .add(&subscribed.grant, message);
                }
            }
            let Some(folded) = folded else { continue };
            let delivery = folded.delivery(feed, *offset, Arc::new(detach(message)));
            let is_backlog = self
                .outbound
                .backlog_ends
                .get(&feed)
                .is_some_and(|e| offset < e);
            if delivery.qos > 0 || !is_backlog {
                self.outbound.pending.push_back(delivery);
            }
        }
        let caught_up = self.node.dispatch.advance(id, feed, page.next_offset);
        if !caught_up && page.next_offset == cursor {
            return self.read_later();
        }
        self.outbound.changed(Instant::now());
        true
    }

    /// Remembers what the stored session had under way.
    pub(super) fn resumed_outgoing(&mut self, packet_id: u16, place: Option<(FeedId, u64)>) {
        self.outbound.recorded.insert(packet_id);
        self.outbound.skip.extend(place);
    }

    /// An outgoing QoS 2 record that leads nowhere is removed with the next
    /// checkpoint.
    pub(super) fn forget_outgoing(&mut self, packet_id: u16) {
        self.outbound.finished.push(packet_id);
        self.outbound.changed(Instant::now());
    }

    /// QoS 0 messages below the present end of the log were published while
    /// the client was away.
    pub(super) fn end_backlog(&mut self) {
        let Some(subscriber) = &self.outbound.subscriber else {
            return;
        };
        for (feed, _) in self.node.dispatch.behind(subscriber.id) {
            let end = self
                .node
                .dispatch
                .feed(feed)
                .partition
                .offsets()
                .high_watermark;
            self.outbound.backlog_ends.insert(feed, end);
        }
    }

    /// Encodes a packet. A new QoS 2 delivery of a persistent session first
    /// writes down its packet id, or a crash would deliver it twice.
    pub(super) fn send(&mut self, packet: Packet) {
        let Packet::Publish(publish) = &packet else {
            return self.encode(&packet, None);
        };
        count(&self.node.stats.deliveries_out[publish.qos as usize]);
        self.traffic.payload_out += publish.payload.len() as u64;
        let is_new_qos2 = publish.qos == Qos::ExactlyOnce && !publish.dup;
        let gate = match self.record_outgoing(publish).filter(|_| is_new_qos2) {
            Some(Ok(ticket)) => Some(ticket),
            Some(Err(error)) => return self.give_up(&error),
            None => self.output.last_gate(),
        };
        self.encode(&packet, gate);
    }

    /// The client is done with a delivery.
    pub(super) fn completed(&mut self, cursor: Cursor, packet_id: PacketId) {
        self.finish_shared(cursor);
        self.outbound.retained.finish(cursor);
        if self.outbound.recorded.contains(&packet_id.value()) {
            self.outbound.finished.push(packet_id.value());
        }
        self.outbound.changed(Instant::now());
    }

    /// The log place of a machine's cursor; `None` for a retained message.
    pub(super) fn place(&self, cursor: Cursor) -> Option<PlaceRecord> {
        let feed = feed_of(cursor);
        if feed == UNLOGGED_FEED {
            return None;
        }
        let key = self.node.dispatch.feed(feed).key;
        Some(PlaceRecord::new(&key, cursor.position))
    }

    fn encode(&mut self, packet: &Packet, gate: Option<Ticket>) {
        let version = self.machine.version();
        self.traffic.packets_out += 1;
        let encoded = match gate {
            None => packet.encode(version, self.output.bytes()),
            Some(ticket) => {
                let mut bytes = BytesMut::with_capacity(packet.encoded_len(version));
                let encoded = packet.encode(version, &mut bytes);
                self.output.gate(ticket, bytes);
                encoded
            }
        };
        if let Err(error) = encoded {
            // The machine checks sizes before it sends; this is its last net.
            tracing::warn!(%error, "packet not encoded, connection closed");
            let reason = ReasonCode::ImplementationSpecificError;
            self.machine.disconnect(Instant::now(), reason);
        }
    }
}

/// The machine's form of a message; `None` when it has expired.
fn outgoing(delivery: &Delivery) -> Option<Outgoing> {
    let is_expired = delivery.message.is_expired(now_ms());
    (!is_expired).then(|| begun(delivery))
}

/// The machine's form of a message whose delivery was begun. It does not expire
/// any more \[MQTT-4.3.3-7\]: the client may have it and wait for the rest.
pub(super) fn begun(delivery: &Delivery) -> Outgoing {
    let message = &delivery.message;
    let now = now_ms();
    let mut properties = PublishProperties::default();
    if let Some(from) = &message.properties {
        properties.payload_is_utf8 = from.payload_is_utf8.then_some(true);
        properties.message_expiry_interval = message.remaining_seconds(now);
        properties.content_type = from.content_type.clone();
        properties.response_topic = from.response_topic.clone();
        properties.correlation_data = from.correlation_data.clone();
        properties.user_properties = from.user.clone();
    }
    let identifiers = delivery.identifiers.iter();
    properties.subscription_identifiers = identifiers
        .filter_map(|id| SubscriptionId::new(*id))
        .collect();
    Outgoing {
        topic: message.path.clone(),
        payload: message.payload.clone(),
        qos: Qos::from_bits(delivery.qos).unwrap_or(Qos::AtMostOnce),
        retain: delivery.retain,
        properties,
        cursor: cursor(delivery.group, delivery.feed, delivery.offset),
    }
}
