//! Deliveries to the client (sections 3.3, 4.3, 4.4 and 4.9).

use std::collections::{BTreeMap, VecDeque};

use super::aliases::Spelling;
use super::answers::Answers;
use super::connection::{Connection, Violation};
use super::effect::{
    CloseReason, Cursor, DeliverError, Delivery, DropReason, Effect, Inflight, InflightStage,
    Outcome, ResumedDelivery, ResumedStage, Token,
};
use crate::packet::{Ack, Packet, PacketId, Publish, PublishProperties, Qos, Version};
use crate::reason::ReasonCode;
use crate::text::TEXT_LEN_MAX;
use crate::topic::TopicName;

/// Bytes that a topic alias may add to a PUBLISH: the property, and one more
/// byte for each of the two lengths in front of it.
const ALIAS_LEN: usize = 5;

/// What was sent to the client and is not finished.
#[derive(Debug)]
pub(super) struct Outbound {
    inflight: BTreeMap<PacketId, Entry>,
    /// PUBRELs in the order of their PUBRECs (section 4.6), each waiting for
    /// its receipt to be durable.
    releases: Answers<PacketId>,
    /// Deliveries of the resumed session that wait for credit, in order.
    resuming: VecDeque<(PacketId, Delivery)>,
    next_id: PacketId,
    /// Number of deliveries so far; orders the ones in flight.
    sequence: u64,
    /// Deliveries in flight at most: the lower of the client's receive
    /// maximum and the server's own bound.
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    cursor: Cursor,
    stage: Stage,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Of a resumed session and not sent again on this connection.
    Waiting(Qos),
    /// PUBLISH was sent.
    Published(Qos),
    /// PUBREC came, its record is on its way to the disk.
    Recording,
    /// PUBREC is recorded and PUBREL was sent.
    Released,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            inflight: BTreeMap::new(),
            releases: Answers::new(),
            resuming: VecDeque::new(),
            next_id: PacketId::FIRST,
            sequence: 0,
            limit: 0,
        }
    }

    pub(super) fn set_limit(&mut self, limit: u16) {
        self.limit = usize::from(limit);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn credit(&self) -> usize {
        if !self.resuming.is_empty() {
            return 0;
        }
        self.limit.saturating_sub(self.inflight.len())
    }

    pub(super) fn inflight(&self) -> Vec<Inflight> {
        let mut entries: Vec<(&PacketId, &Entry)> = self.inflight.iter().collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.sequence);
        let inflight = entries.into_iter().map(|(packet_id, entry)| Inflight {
            packet_id: *packet_id,
            cursor: entry.cursor,
            stage: match entry.stage {
                Stage::Waiting(qos) | Stage::Published(qos) => InflightStage::Published(qos),
                Stage::Recording | Stage::Released => InflightStage::Received,
            },
        });
        inflight.collect()
    }

    fn insert(&mut self, packet_id: PacketId, cursor: Cursor, stage: Stage) {
        self.sequence += 1;
        let sequence = self.sequence;
        let entry = Entry {
            cursor,
            stage,
            sequence,
        };
        self.inflight.insert(packet_id, entry);
    }

    /// Returns an identifier that is not in use. There is one, because fewer
    /// than 65,535 deliveries are in flight when credit is left.
    fn allot_id(&mut self) -> PacketId {
        while self.inflight.contains_key(&self.next_id) {
            self.next_id = self.next_id.next();
        }
        let packet_id = self.next_id;
        self.next_id = packet_id.next();
        packet_id
    }

    fn sent(&self) -> usize {
        self.inflight.len() - self.resuming.len()
    }
}

impl Connection {
    pub(super) fn deliver_open(&mut self, delivery: Delivery) -> Result<(), DeliverError> {
        if delivery.qos == Qos::AtMostOnce {
            self.send_delivery(None, delivery, false);
            return Ok(());
        }
        if self.outbound.credit() == 0 {
            return Err(DeliverError::NoCredit {
                inflight: self.outbound.inflight.len(),
                limit: self.outbound.limit,
            });
        }
        let packet_id = self.outbound.allot_id();
        let stage = Stage::Published(delivery.qos);
        self.outbound.insert(packet_id, delivery.cursor, stage);
        self.send_delivery(Some(packet_id), delivery, false);
        Ok(())
    }

    /// Repeats what a resumed session left unfinished (section 4.4).
    pub(super) fn resume_open(&mut self, deliveries: Vec<ResumedDelivery>) {
        for ResumedDelivery { packet_id, stage } in deliveries {
            if self.outbound.inflight.contains_key(&packet_id) {
                continue;
            }
            match stage {
                ResumedStage::Release { cursor } => {
                    self.outbound.insert(packet_id, cursor, Stage::Released);
                    self.send_release(packet_id, ReasonCode::Success);
                }
                ResumedStage::Publish(delivery) => {
                    let stage = Stage::Waiting(delivery.qos);
                    self.outbound.insert(packet_id, delivery.cursor, stage);
                    self.outbound.resuming.push_back((packet_id, delivery));
                }
            }
        }
        self.send_resuming();
    }

    fn send_resuming(&mut self) {
        while self.outbound.sent() < self.outbound.limit {
            let Some((packet_id, delivery)) = self.outbound.resuming.pop_front() else {
                return;
            };
            if delivery.qos == Qos::AtMostOnce {
                self.outbound.inflight.remove(&packet_id);
                self.send_delivery(None, delivery, false);
                continue;
            }
            if let Some(entry) = self.outbound.inflight.get_mut(&packet_id) {
                entry.stage = Stage::Published(delivery.qos);
            }
            self.send_delivery(Some(packet_id), delivery, true);
        }
    }

    /// Sends a delivery, or drops it when it cannot be sent.
    fn send_delivery(&mut self, packet_id: Option<PacketId>, delivery: Delivery, dup: bool) {
        let Delivery {
            topic,
            payload,
            qos,
            retain,
            mut properties,
            cursor,
        } = delivery;
        properties.topic_alias = None;
        if self.version == Version::V311 {
            properties = PublishProperties::default();
        }
        let is_encodable = !topic.is_empty()
            && properties
                .correlation_data
                .as_ref()
                .is_none_or(|data| data.len() <= TEXT_LEN_MAX);
        let mut packet = Packet::Publish(Publish {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload,
        });
        let size = packet.encoded_len(self.version);
        let limit = self.client.packet_size_max;
        if is_encodable && size + ALIAS_LEN <= limit as usize {
            // A table that the client does not share would be worthless, so
            // the alias is chosen when it is certain that the packet is sent.
            self.abbreviate(&mut packet);
        }
        if is_encodable && size <= limit as usize {
            self.push_effect(Effect::SendPacket(packet));
            return;
        }
        if let Some(packet_id) = packet_id {
            self.outbound.inflight.remove(&packet_id);
        }
        let reason = if is_encodable {
            DropReason::TooLarge { size, limit }
        } else {
            DropReason::Unencodable
        };
        self.push_effect(Effect::DropDelivery { cursor, reason });
    }

    fn abbreviate(&mut self, packet: &mut Packet) {
        let Packet::Publish(publish) = packet else {
            return;
        };
        match self.aliases_out.spell(&publish.topic) {
            Spelling::Name => {}
            Spelling::NameAndAlias(alias) => publish.properties.topic_alias = Some(alias),
            Spelling::Alias(alias) => {
                publish.properties.topic_alias = Some(alias);
                publish.topic = TopicName::default();
            }
        }
    }

    /// Handles PUBACK (section 3.4). One that nobody waits for is ignored: it
    /// may belong to a delivery that a crash of the server made it forget.
    pub(super) fn handle_puback(&mut self, ack: &Ack) -> Result<(), Violation> {
        match self.stage_of(ack.packet_id) {
            None | Some(Stage::Waiting(_)) => Ok(()),
            Some(Stage::Published(Qos::AtLeastOnce)) => {
                self.complete(ack);
                Ok(())
            }
            Some(_) => Err(violation("PUBACK answers a QoS 2 PUBLISH (section 4.3.3)")),
        }
    }

    /// Handles PUBREC (section 3.5).
    pub(super) fn handle_pubrec(&mut self, ack: &Ack) -> Result<(), Violation> {
        let packet_id = ack.packet_id;
        match self.stage_of(packet_id) {
            None => {
                let reason = match self.version {
                    Version::V311 => ReasonCode::Success,
                    Version::V5 => ReasonCode::PacketIdentifierNotFound,
                };
                if !ack.reason.is_failure() {
                    self.send_release(packet_id, reason);
                }
                Ok(())
            }
            Some(Stage::Waiting(_) | Stage::Recording) => Ok(()),
            Some(Stage::Released) => {
                self.send_release(packet_id, ReasonCode::Success);
                Ok(())
            }
            Some(Stage::Published(Qos::ExactlyOnce)) if ack.reason.is_failure() => {
                self.complete(ack);
                Ok(())
            }
            Some(Stage::Published(Qos::ExactlyOnce)) => {
                self.record_received(packet_id);
                Ok(())
            }
            Some(Stage::Published(_)) => {
                Err(violation("PUBREC answers a QoS 1 PUBLISH (section 4.3.2)"))
            }
        }
    }

    /// Handles PUBCOMP (section 3.7).
    pub(super) fn handle_pubcomp(&mut self, ack: &Ack) -> Result<(), Violation> {
        match self.stage_of(ack.packet_id) {
            None | Some(Stage::Waiting(_)) => Ok(()),
            Some(Stage::Released) => {
                self.complete(ack);
                Ok(())
            }
            Some(_) => Err(violation("PUBCOMP came before its PUBREL (section 4.3.3)")),
        }
    }

    /// Settles the record of a PUBREC; `false` when the token is not one.
    pub(super) fn settle_outbound(&mut self, token: Token, outcome: Outcome) -> bool {
        let Some(packet_id) = self.outbound.releases.waiting_mut(token).copied() else {
            return false;
        };
        if let Outcome::Refused { reason } = outcome {
            self.close_with(reason, CloseReason::Server(reason));
            return true;
        }
        if let Some(entry) = self.outbound.inflight.get_mut(&packet_id) {
            entry.stage = Stage::Released;
        }
        let packet = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
        self.outbound.releases.settle(token, packet, false);
        self.send_releases();
        true
    }

    fn record_received(&mut self, packet_id: PacketId) {
        let token = self.next_token();
        let Some(entry) = self.outbound.inflight.get_mut(&packet_id) else {
            return;
        };
        entry.stage = Stage::Recording;
        let cursor = entry.cursor;
        self.outbound.releases.wait(token, packet_id);
        self.push_effect(Effect::RecordQos2Received {
            token,
            cursor,
            packet_id,
        });
    }

    fn complete(&mut self, ack: &Ack) {
        if let Some(entry) = self.outbound.inflight.remove(&ack.packet_id) {
            self.push_effect(Effect::CompleteDelivery {
                cursor: entry.cursor,
                packet_id: ack.packet_id,
                reason: ack.reason,
            });
        }
        self.send_resuming();
    }

    fn send_release(&mut self, packet_id: PacketId, reason: ReasonCode) {
        let token = self.next_token();
        let packet = Packet::PubRel(Ack::new(packet_id, reason));
        self.outbound.releases.push_ready(token, packet);
        self.send_releases();
    }

    fn send_releases(&mut self) {
        while let Some((packet, _)) = self.outbound.releases.pop_ready() {
            self.send(packet);
        }
    }

    fn stage_of(&self, packet_id: PacketId) -> Option<Stage> {
        self.outbound
            .inflight
            .get(&packet_id)
            .map(|entry| entry.stage)
    }
}

fn violation(what: &'static str) -> Violation {
    Violation {
        reason: ReasonCode::ProtocolError,
        what,
    }
}
