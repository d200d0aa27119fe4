//! Resuming what was unfinished, writing cursors, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_mqtt::session::{CloseReason, InflightStage, ResumedDelivery, ResumedStage};
use forebay_mqtt::{PacketId, Qos, ReasonCode};
use forebay_storage::AppendError;

use super::opening::{Opened, seconds};
use super::outbound::begun;
use super::sharing::{FORMER_GROUP, cursor, group_of};
use super::{Connection, READ_LEN, Waiting};
use crate::mqtt::dispatch::{Delivery, Folded};
use crate::mqtt::feeds::{FeedId, detach, read_page};
use crate::mqtt::node::{Node, now_ms};
use crate::mqtt::sessions::record::{
    self, Changes, CursorRecord, OutgoingRecord, PlaceRecord, StoredSession, UnacknowledgedRecord,
};
use crate::mqtt::stats::count;
use crate::mqtt::stream::{ByteStream, ready, writable};

/// How long the last packets may take to be written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// How long a client that is told why it is disconnected may take to read that,
/// and how many bytes it may send meanwhile.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_LEN_MAX: usize = 64 << 20;

/// How long the session's last record is tried to be written when the disk is
/// behind. Without it the last checkpoint counts and messages are repeated.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// A delivery of the stored session.
struct Unfinished {
    packet_id: u16,
    place: PlaceRecord,
    qos: u8,
    received: bool,
    shared: bool,
}

impl<S: ByteStream> Connection<S> {
    /// Repeats what the session left unfinished, then becomes its reader.
    pub(super) async fn resume(&mut self, stored: StoredSession) {
        let (shares, own): (Vec<_>, Vec<_>) = stored
            .session
            .subscriptions
            .into_iter()
            .partition(|record| record.filter.starts_with("$share/"));
        self.attach(&own, &stored.cursors);
        self.rejoin(&shares);
        self.end_backlog();
        let unacknowledged = stored.cursors.unacknowledged.into_iter();
        let mut unfinished: Vec<Unfinished> = unacknowledged
            .map(|record| Unfinished {
                packet_id: record.packet_id,
                place: record.place,
                qos: 1,
                received: false,
                shared: false,
            })
            .collect();
        unfinished.extend(
            stored
                .outgoing
                .into_iter()
                .map(|(packet_id, record)| Unfinished {
                    packet_id,
                    place: record.place,
                    qos: 2,
                    received: record.received,
                    shared: record.shared,
                }),
        );
        unfinished.sort_by(|a, b| {
            let order = |u: &Unfinished| (u.place.topic.clone(), u.place.partition, u.place.offset);
            order(a).cmp(&order(b))
        });
        let mut deliveries = Vec::new();
        for one in unfinished {
            let feed = one
                .place
                .key()
                .and_then(|key| self.node.dispatch.find(&key));
            if one.qos == 2 {
                let place = feed.filter(|_| !one.shared);
                let place = place.map(|feed| (feed, one.place.offset));
                self.resumed_outgoing(one.packet_id, place);
            }
            let resumed = match (feed, PacketId::new(one.packet_id)) {
                (Some(feed), Some(packet_id)) => self.resumed(feed, packet_id, &one).await,
                _ => None,
            };
            match resumed {
                Some(resumed) => deliveries.push(resumed),
                // Retention removed the message.
                None if one.qos == 2 => self.forget_outgoing(one.packet_id),
                None => {}
            }
        }
        let retained = self.resume_retained(stored.cursors.retained).await;
        deliveries.extend(retained);
        self.machine.resume(Instant::now(), deliveries);
    }

    async fn resumed(
        &self,
        feed: FeedId,
        packet_id: PacketId,
        one: &Unfinished,
    ) -> Option<ResumedDelivery> {
        let offset = one.place.offset;
        if one.received {
            let group = if one.shared { FORMER_GROUP } else { 0 };
            let cursor = cursor(group, feed, offset);
            let stage = ResumedStage::Release { cursor };
            return Some(ResumedDelivery { packet_id, stage });
        }
        let partition = self.node.dispatch.feed(feed).partition;
        let reading = tokio::task::spawn_blocking(move || read_page(&partition, offset, 1));
        let page = reading.await.ok()?.ok()?;
        let (_, message) = page.messages.into_iter().find(|(at, _)| *at == offset)?;
        let mut folded = Folded::default();
        for (filter, subscribed) in self.opened.iter().flat_map(|o| &o.subscriptions) {
            let client = self.machine.client_id().as_str();
            if filter.matches(&message.path) && subscribed.grant.admits(&message, client) {
                folded.add(&subscribed.grant, &message);
            }
        }
        let mut group = 0;
        if one.shared {
            group = FORMER_GROUP;
            folded = self.shared_fold(&message);
        }
        let delivery = Delivery {
            qos: one.qos,
            group,
            ..folded.delivery(feed, offset, Arc::new(detach(&message)))
        };
        let stage = ResumedStage::Publish(begun(&delivery));
        Some(ResumedDelivery { packet_id, stage })
    }

    /// Writes where the session reads on. What is not written yet is repeated
    /// after a crash.
    pub(super) fn checkpoint(&mut self, now: Instant) {
        let mut changes = Changes::default();
        let persistent = self.opened.as_ref().is_some_and(Opened::is_persistent);
        if !persistent || self.outbound.resume.is_some() {
            self.outbound.checkpointed();
            return;
        }
        self.stage_cursors(None, &mut changes);
        match self.node.storage.commit(changes.transaction()) {
            Ok(_) => self.outbound.checkpointed(),
            Err(error) => {
                tracing::debug!(%error, "cursors not written, later");
                self.outbound.postpone(now);
            }
        }
    }

    /// Adds the cursor record to changes of the state, and the removal of finished
    /// QoS 2 deliveries.
    pub(super) fn stage_cursors(&mut self, disconnected_at_ms: Option<i64>, changes: &mut Changes) {
        let Some(opened) = &self.opened else { return };
        // Positions first, then the queue: a message below a position is in
        // the queue by then.
        let places = self.node.dispatch.cursors(opened.claim.number());
        self.outbound.drain_queue();
        let cursors = places.into_iter().map(|(feed, key, cursor)| {
            let pending = self.outbound.pending.iter();
            let own = pending.filter(|d| d.feed == feed && d.group == 0);
            let of_feed = own.map(|d| d.offset);
            let offset = of_feed.fold(cursor, u64::min);
            PlaceRecord::new(&key, offset)
        });
        let cursors = cursors.collect();
        let inflight = self.machine.inflight();
        // What came from a shared subscription goes to another member.
        let sent = inflight.iter().filter(|one| {
            one.stage == InflightStage::Published(Qos::AtLeastOnce) && group_of(one.cursor) == 0
        });
        let unacknowledged = sent.filter_map(|one| {
            Some(UnacknowledgedRecord {
                packet_id: one.packet_id.value(),
                place: self.place(one.cursor)?,
            })
        });
        let record = CursorRecord {
            disconnected_at_ms,
            cursors,
            unacknowledged: unacknowledged.collect(),
            retained: self.outbound.retained.records(&inflight),
        };
        let client = opened.claim.client();
        changes.put(record::cursor_key(client), &record);
        // The machine has these and the connection did not come to send them:
        // the cursor passes them, so the state has to know.
        let unsent = inflight.iter().filter(|one| {
            one.stage == InflightStage::Published(Qos::ExactlyOnce)
                && !self.outbound.is_recorded(one.packet_id.value())
        });
        for one in unsent {
            if let Some(place) = self.place(one.cursor) {
                let record = OutgoingRecord {
                    place,
                    received: false,
                    shared: group_of(one.cursor) != 0,
                };
                let key = record::outgoing_key(client, one.packet_id.value());
                changes.put(key, &record);
            }
        }
        for packet_id in self.outbound.finished() {
            changes.delete(record::outgoing_key(client, *packet_id));
        }
    }

    /// Answers what needs no commit.
    pub(super) fn answer(&mut self, waiting: Waiting) {
        let now = Instant::now();
        match waiting {
            Waiting::Acknowledge(token) => self.acknowledge(token),
            Waiting::Subscribed(token, reasons) => {
                self.machine.acknowledge_subscribe(now, token, &reasons);
            }
            Waiting::Unsubscribed(token, reasons) => {
                self.machine.acknowledge_unsubscribe(now, token, &reasons);
            }
            Waiting::Open => self.accept(),
            Waiting::Retained(messages) => self.retained_arrived(messages),
        }
    }

    /// Closes because the storage refuses session state. There is no answer
    /// that says "later": the client keeps its side and repeats it when it
    /// comes back.
    pub(super) fn give_up(&mut self, error: &AppendError) {
        tracing::warn!(%error, "session state not written, connection closed");
        let reason = ReasonCode::ServerUnavailable;
        self.machine.disconnect(Instant::now(), reason);
    }

    /// Writes the session's last record, lets go of it, and says goodbye.
    pub(super) async fn finish(&mut self) {
        let Some((reason, expiry)) = self.close.take() else {
            return;
        };
        if let CloseReason::Decode(_) | CloseReason::Violation { .. } = &reason {
            count(&self.node.stats.violations);
        }
        tracing::debug!(
            client = self.machine.client_id().as_str(),
            ?reason,
            "connection closed"
        );
        self.leave(seconds(expiry)).await;
        let flush = async {
            loop {
                let written = self.output.write(&mut self.stream, Instant::now())?;
                self.traffic.bytes_out += written as u64;
                if self.output.is_empty() {
                    self.stream.close();
                    if !self.stream.wants_write() {
                        break;
                    }
                }
                writable(&mut self.stream).await?;
            }
            std::io::Result::Ok(())
        };
        // The client is gone or will notice; there is nobody to tell.
        let flushed = tokio::time::timeout(FLUSH_MAX, flush).await;
        let is_told = matches!(
            reason,
            CloseReason::Decode(_) | CloseReason::Violation { .. } | CloseReason::Server(_)
        );
        if is_told && matches!(flushed, Ok(Ok(()))) && !*self.shutdown.borrow() {
            // Nobody waits for it.
            let _ = tokio::time::timeout(LINGER_MAX, self.linger()).await;
        }
    }

    /// Reads on until the client closes. A connection that is closed with bytes
    /// unread is reset, and a client that is still sending would never read why
    /// it was disconnected.
    async fn linger(&mut self) {
        let mut left = LINGER_LEN_MAX;
        while left > 0 {
            self.input.clear();
            self.input.reserve(READ_LEN);
            match self.stream.try_read(&mut self.input) {
                Ok(0) => return,
                Ok(len) => left = left.saturating_sub(len),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if ready(&mut self.stream, true, false).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    async fn leave(&mut self, expiry_seconds: u32) {
        let now = now_ms();
        // A connection that never opened has a will that nobody asked for.
        self.discard_will().await;
        self.leave_groups();
        let mut changes = Changes::default();
        let was_resumed = self.outbound.resume.is_none();
        if was_resumed {
            self.stage_cursors(Some(now), &mut changes);
        }
        let record = self.session_record(expiry_seconds);
        let Some(opened) = self.opened.take() else {
            return;
        };
        self.node.dispatch.detach(opened.claim.number());
        let client = Arc::clone(opened.claim.client());
        if expiry_seconds == 0 {
            let ended = end(Arc::clone(&self.node), opened).await;
            if let Err(error) = ended {
                tracing::warn!(client = &*client, %error, "ended session not removed");
            }
            return;
        }
        if was_resumed && expiry_seconds != opened.expiry_seconds {
            changes.put(record::session_key(&client), &record);
        }
        if let Err(error) = self.node.commit_soon(&changes, WRITE_MAX).await {
            tracing::warn!(client = &*client, %error, "cursors not written, messages repeat");
        }
        opened.claim.release(now, expiry_seconds);
    }
}

/// Removes a session that ends with its connection.
async fn end(node: Arc<Node>, mut opened: Opened) -> Result<(), AppendError> {
    if !opened.claim.is_stored() {
        return Ok(());
    }
    let removing = tokio::task::spawn_blocking(move || {
        let removed = opened.claim.reset(None, None);
        drop(node);
        removed.map(|_| ())
    });
    removing.await.unwrap_or(Err(AppendError::ShuttingDown))
}
