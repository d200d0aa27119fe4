//! Retained messages for new subscriptions.
//!
//! They are in no log, so a session that ends with some of them undelivered or
//! unacknowledged writes down their paths, and the packet identifiers of those
//! that were sent \[MQTT-4.4.0-1\].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use forebay_mqtt::session::{Cursor, Inflight, InflightStage, ResumedDelivery, ResumedStage};
use forebay_mqtt::{PacketId, TopicName};

use super::outbound::begun;
use super::sharing::{cursor, feed_of};
use super::{Connection, Waiting};
use crate::mqtt::dispatch::{Delivery, Folded, Grant, UNLOGGED_FEED};
use crate::mqtt::message::Message;
use crate::mqtt::sessions::record::RetainedRecord;
use crate::mqtt::stream::ByteStream;

/// Retained messages read in one step.
const STEP: usize = 32;

/// Undelivered retained messages that a session record lists. A client that
/// goes away in the middle of more gets the rest when it subscribes again.
const RECORDS_MAX: usize = 1024;

/// Tells positions of retained messages from those of memory topics.
const POSITION_BIT: u64 = 1 << 63;

/// Retained messages on their way to the client.
#[derive(Default)]
pub(super) struct Retaining {
    /// To be read.
    wanted: VecDeque<(TopicName, Grant)>,
    is_waiting: bool,
    /// Read, with QoS 1 or 2, and not finished, by position.
    unfinished: BTreeMap<u64, Unfinished>,
    count: u64,
}

struct Unfinished {
    path: TopicName,
    timestamp_ms: i64,
    qos: u8,
}

impl Retaining {
    /// Adds messages to be read.
    pub fn extend(&mut self, wanted: impl IntoIterator<Item = (TopicName, Grant)>) {
        self.wanted.extend(wanted);
    }

    /// Messages to be read.
    pub fn wanted_count(&self) -> usize {
        self.wanted.len()
    }

    /// Takes back messages that were added last.
    pub fn truncate(&mut self, count: usize) {
        self.wanted.truncate(count);
    }

    /// The client is done with a message.
    pub fn finish(&mut self, cursor: Cursor) {
        if feed_of(cursor) == UNLOGGED_FEED {
            self.unfinished.remove(&cursor.position);
        }
    }

    /// What a later connection has to deliver.
    pub fn records(&self, inflight: &[Inflight]) -> Vec<RetainedRecord> {
        let sent = self.unfinished.iter().map(|(position, one)| {
            let known = inflight.iter().find(|sent| {
                feed_of(sent.cursor) == UNLOGGED_FEED && sent.cursor.position == *position
            });
            RetainedRecord {
                path: one.path.as_str().to_owned(),
                timestamp_ms: one.timestamp_ms,
                qos: one.qos,
                packet_id: known.map(|sent| sent.packet_id.value()),
                received: known.is_some_and(|sent| sent.stage == InflightStage::Received),
            }
        });
        let wanted = self.wanted.iter().filter(|(_, grant)| grant.qos > 0);
        let wanted = wanted.map(|(path, grant)| RetainedRecord {
            path: path.as_str().to_owned(),
            timestamp_ms: 0,
            qos: grant.qos,
            packet_id: None,
            received: false,
        });
        sent.chain(wanted).take(RECORDS_MAX).collect()
    }

    fn position(&mut self, message: &Message, qos: u8) -> u64 {
        self.count += 1;
        let position = POSITION_BIT | self.count;
        if qos > 0 {
            let one = Unfinished {
                path: message.path.clone(),
                timestamp_ms: message.timestamp_ms,
                qos,
            };
            self.unfinished.insert(position, one);
        }
        position
    }
}

impl<S: ByteStream> Connection<S> {
    /// Reads some of the wanted messages. False when there are none.
    pub(super) async fn read_retained(&mut self) -> bool {
        let retaining = &mut self.outbound.retained;
        if retaining.wanted.is_empty() || retaining.is_waiting {
            return false;
        }
        let step = retaining.wanted.len().min(STEP);
        let wanted: Vec<_> = retaining.wanted.drain(..step).collect();
        let node = Arc::clone(&self.node);
        let reading = tokio::task::spawn_blocking(move || {
            let read =
                |(path, grant): (TopicName, Grant)| Some((node.retained_message(&path)?, grant));
            let found: Vec<_> = wanted.into_iter().filter_map(read).collect();
            // What was read may not be durable yet.
            (found, node.storage.fence())
        });
        let Ok((mut found, fence)) = reading.await else {
            return false;
        };
        let client = self.opened.as_ref().map(|o| Arc::clone(o.claim.client()));
        let client = client.unwrap_or_default();
        found.retain(|(message, grant)| grant.admits(message, &client));
        let retaining = &mut self.outbound.retained;
        let deliveries = found.into_iter().map(|(message, grant)| {
            let mut folded = Folded::default();
            folded.add(&grant, &message);
            let mut delivery = folded.delivery(UNLOGGED_FEED, 0, Arc::new(message));
            delivery.offset = retaining.position(&delivery.message, delivery.qos);
            delivery.retain = true;
            delivery
        });
        let deliveries = deliveries.collect();
        self.outbound.retained.is_waiting = true;
        self.wait_for(fence, Waiting::Retained(deliveries));
        true
    }

    /// Retained messages that were read are durable.
    pub(super) fn retained_arrived(&mut self, deliveries: Vec<Delivery>) {
        self.outbound.retained.is_waiting = false;
        self.outbound.pending.extend(deliveries);
    }

    /// Goes on with what an earlier connection did not finish: a message that
    /// is still the same is sent again under its packet identifier, one that
    /// was not sent or has changed is sent anew.
    pub(super) async fn resume_retained(
        &mut self,
        records: Vec<RetainedRecord>,
    ) -> Vec<ResumedDelivery> {
        let mut resumed = Vec::new();
        for record in records {
            let Ok(path) = TopicName::try_from(record.path.as_str()) else {
                continue;
            };
            let packet_id = record.packet_id.and_then(PacketId::new);
            if let (Some(packet_id), true) = (packet_id, record.received) {
                let cursor = cursor(0, UNLOGGED_FEED, POSITION_BIT);
                let stage = ResumedStage::Release { cursor };
                resumed.push(ResumedDelivery { packet_id, stage });
                continue;
            }
            let subscriptions = self.opened.iter().flat_map(|o| &o.subscriptions);
            let mut matching = subscriptions.filter(|(filter, _)| filter.matches(&path));
            let grant = matching.next().map(|(_, subscribed)| subscribed.grant);
            // What was begun is finished, also behind an UNSUBSCRIBE
            // \[MQTT-3.10.4-3\].
            let again = match packet_id {
                Some(packet_id) => self.same_as_sent(packet_id, &path, &record, grant).await,
                None => None,
            };
            match (again, grant) {
                (Some(again), _) => resumed.push(again),
                (None, Some(grant)) => self.outbound.retained.wanted.push_back((path, grant)),
                (None, None) => {}
            }
        }
        resumed
    }

    async fn same_as_sent(
        &mut self,
        packet_id: PacketId,
        path: &TopicName,
        record: &RetainedRecord,
        grant: Option<Grant>,
    ) -> Option<ResumedDelivery> {
        let (node, of) = (Arc::clone(&self.node), path.clone());
        let reading = tokio::task::spawn_blocking(move || node.retained_message(&of));
        let message = reading.await.ok()??;
        if message.timestamp_ms != record.timestamp_ms {
            return None;
        }
        let mut folded = Folded::default();
        if let Some(grant) = grant {
            folded.add(&grant, &message);
        }
        let mut delivery = folded.delivery(UNLOGGED_FEED, 0, Arc::new(message));
        delivery.qos = record.qos;
        delivery.retain = true;
        let again = begun(&delivery);
        let position = self
            .outbound
            .retained
            .position(&delivery.message, record.qos);
        let stage = ResumedStage::Publish(forebay_mqtt::session::Delivery {
            cursor: cursor(0, UNLOGGED_FEED, position),
            ..again
        });
        Some(ResumedDelivery { packet_id, stage })
    }
}
