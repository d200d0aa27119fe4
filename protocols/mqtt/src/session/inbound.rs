//! Messages and requests from the client (sections 3.3, 3.6, 3.8 and 3.10).

use std::collections::BTreeMap;

use super::answers::Answers;
use super::connection::{Connection, Violation};
use super::effect::{CloseReason, Effect, Outcome, Token};
use crate::packet::{
    Ack, Packet, PacketId, PacketType, Publish, Qos, ReasonProperties, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Version, reason_is_allowed,
};
use crate::reason::ReasonCode;
use crate::text::Text;

/// Requests besides publishes that a client of MQTT 5 may have unanswered
/// before it is not read from. A client at its start subscribes with a few
/// packets and then waits; 64 never holds up a sane one and bounds the memory
/// of one that floods.
const REQUESTS_MAX: usize = 64;

/// What the client sent and has no answer to.
#[derive(Debug)]
pub(super) struct Inbound {
    answers: Answers<Pending>,
    /// Received QoS 2 identifiers that are not released (section 4.3.3).
    qos2: BTreeMap<PacketId, Qos2>,
    /// Publishes that count against the receive maximum (section 4.9).
    unacknowledged: usize,
    receive_maximum: usize,
}

/// An answer that waits for the application.
#[derive(Debug)]
enum Pending {
    PubAck(PacketId),
    PubRec(PacketId),
    PubComp(PacketId),
    /// With what is granted when the application says no more.
    SubAck {
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
    },
    UnsubAck {
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Qos2 {
    stage: Qos2Stage,
    /// Whether it counts against the receive maximum of this connection; one
    /// that an earlier connection brought does not until it is sent again.
    is_counted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qos2Stage {
    /// The message is on its way to the disk.
    Appending,
    /// The message is durable; PUBREL is awaited.
    Received,
    /// The release is on its way to the disk.
    Releasing,
}

impl Inbound {
    pub(super) fn new(receive_maximum: u16) -> Self {
        Self {
            answers: Answers::new(),
            qos2: BTreeMap::new(),
            unacknowledged: 0,
            receive_maximum: usize::from(receive_maximum),
        }
    }

    /// Takes over the identifiers of a resumed session (section 4.1).
    pub(super) fn restore(&mut self, received: Vec<PacketId>) {
        let entry = Qos2 {
            stage: Qos2Stage::Received,
            is_counted: false,
        };
        self.qos2.extend(received.into_iter().map(|id| (id, entry)));
    }

    /// Says whether another packet may be read. MQTT 5 clients know the
    /// receive maximum and are told when they break it; 3.1.1 clients are
    /// slowed down by not reading.
    pub(super) fn has_room(&self, version: Version) -> bool {
        let limit = match version {
            Version::V311 => self.receive_maximum,
            Version::V5 => self.receive_maximum + REQUESTS_MAX,
        };
        self.answers.len() < limit
    }

    fn count(&mut self, version: Version) -> Result<(), Violation> {
        if version == Version::V5 && self.unacknowledged >= self.receive_maximum {
            return Err(Violation {
                reason: ReasonCode::ReceiveMaximumExceeded,
                what: "more publishes are unacknowledged than the receive maximum (section 3.3.4)",
            });
        }
        self.unacknowledged += 1;
        Ok(())
    }

    fn pop_ready(&mut self) -> Option<Packet> {
        let (packet, frees_quota) = self.answers.pop_ready()?;
        if frees_quota {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
        Some(packet)
    }
}

impl Connection {
    /// Handles PUBLISH (section 3.3.4).
    pub(super) fn handle_publish(&mut self, mut publish: Publish) -> Result<(), Violation> {
        check_publish(&publish, self.config.retain_available)?;
        if let Some(alias) = publish.properties.topic_alias.take() {
            let maximum = self.config.topic_alias_maximum;
            publish.topic = self.aliases_in.resolve(alias, publish.topic, maximum)?;
        }
        let Some(packet_id) = publish.packet_id else {
            let token = None;
            self.push_effect(Effect::Publish { token, publish });
            return Ok(());
        };
        if publish.qos == Qos::ExactlyOnce
            && let Some(known) = self.inbound.qos2.get(&packet_id).copied()
        {
            return self.handle_repeated(packet_id, known);
        }
        self.inbound.count(self.version)?;
        let token = self.next_token();
        if publish.qos == Qos::ExactlyOnce {
            let entry = Qos2 {
                stage: Qos2Stage::Appending,
                is_counted: true,
            };
            self.inbound.qos2.insert(packet_id, entry);
            self.inbound.answers.wait(token, Pending::PubRec(packet_id));
        } else {
            self.inbound.answers.wait(token, Pending::PubAck(packet_id));
        }
        let token = Some(token);
        self.push_effect(Effect::Publish { token, publish });
        Ok(())
    }

    /// A QoS 2 PUBLISH whose identifier is known is not a new message
    /// \[MQTT-4.3.3-10\]: it is acknowledged again and not handed out.
    fn handle_repeated(&mut self, packet_id: PacketId, known: Qos2) -> Result<(), Violation> {
        match known.stage {
            Qos2Stage::Appending => Ok(()),
            Qos2Stage::Received => {
                if !known.is_counted {
                    self.inbound.count(self.version)?;
                    let entry = Qos2 {
                        is_counted: true,
                        ..known
                    };
                    self.inbound.qos2.insert(packet_id, entry);
                }
                let ack = Ack::new(packet_id, ReasonCode::Success);
                let token = self.next_token();
                self.inbound.answers.push_ready(token, Packet::PubRec(ack));
                self.send_ready();
                Ok(())
            }
            Qos2Stage::Releasing => Err(Violation {
                reason: ReasonCode::ProtocolError,
                what: "packet identifier is used again before its PUBCOMP (section 2.2.1)",
            }),
        }
    }

    /// Handles PUBREL (sections 3.6 and 4.3.3).
    pub(super) fn handle_pubrel(&mut self, packet_id: PacketId) -> Result<(), Violation> {
        let Some(entry) = self.inbound.qos2.get_mut(&packet_id) else {
            let reason = match self.version {
                Version::V311 => ReasonCode::Success,
                Version::V5 => ReasonCode::PacketIdentifierNotFound,
            };
            let token = self.next_token();
            let packet = Packet::PubComp(Ack::new(packet_id, reason));
            self.inbound.answers.push_ready(token, packet);
            self.send_ready();
            return Ok(());
        };
        match entry.stage {
            Qos2Stage::Appending => Err(Violation {
                reason: ReasonCode::ProtocolError,
                what: "PUBREL came before its PUBREC was sent (section 4.3.3)",
            }),
            Qos2Stage::Releasing => Ok(()),
            Qos2Stage::Received => {
                entry.stage = Qos2Stage::Releasing;
                let token = self.next_token();
                self.inbound
                    .answers
                    .wait(token, Pending::PubComp(packet_id));
                self.push_effect(Effect::ReleaseQos2 { token, packet_id });
                Ok(())
            }
        }
    }

    /// Handles SUBSCRIBE (section 3.8.4).
    pub(super) fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let subscriptions = subscribe.subscriptions;
        let reasons = subscriptions.iter().map(|s| granted(s.options.qos));
        let token = self.next_token();
        let pending = Pending::SubAck {
            packet_id: subscribe.packet_id,
            reasons: reasons.collect(),
        };
        self.inbound.answers.wait(token, pending);
        self.push_effect(Effect::Subscribe {
            token,
            subscriptions,
            identifier: subscribe.properties.subscription_identifier,
        });
    }

    /// Handles UNSUBSCRIBE (section 3.10.4).
    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let token = self.next_token();
        let pending = Pending::UnsubAck {
            packet_id: unsubscribe.packet_id,
            reasons: vec![ReasonCode::Success; unsubscribe.filters.len()],
        };
        self.inbound.answers.wait(token, pending);
        let filters = unsubscribe.filters;
        self.push_effect(Effect::Unsubscribe { token, filters });
    }

    /// Settles a request of the client; `false` when the token is not one.
    pub(super) fn settle_inbound(&mut self, token: Token, outcome: Outcome) -> bool {
        let Some(pending) = self.inbound.answers.waiting_mut(token) else {
            return false;
        };
        let reason = match outcome {
            Outcome::Durable => ReasonCode::Success,
            Outcome::Refused { reason } => reason,
        };
        let is_refused = reason != ReasonCode::Success;
        let explains = self.client.wants_reasons;
        let (packet, frees_quota) = match pending {
            Pending::PubAck(id) => (Packet::PubAck(answer(*id, reason, explains)), true),
            Pending::PubRec(id) => {
                let id = *id;
                if is_refused {
                    self.inbound.qos2.remove(&id);
                } else if let Some(entry) = self.inbound.qos2.get_mut(&id) {
                    entry.stage = Qos2Stage::Received;
                }
                (Packet::PubRec(answer(id, reason, explains)), is_refused)
            }
            Pending::PubComp(id) => {
                let id = *id;
                let entry = self.inbound.qos2.remove(&id);
                let is_counted = entry.is_some_and(|entry| entry.is_counted);
                (Packet::PubComp(Ack::new(id, reason)), is_counted)
            }
            Pending::SubAck { packet_id, reasons } => {
                if is_refused {
                    reasons.fill(reason);
                }
                (sub_ack(*packet_id, std::mem::take(reasons)), false)
            }
            Pending::UnsubAck { packet_id, reasons } => {
                if is_refused {
                    reasons.fill(reason);
                }
                (unsub_ack(*packet_id, std::mem::take(reasons)), false)
            }
        };
        self.settle_or_close(token, packet, reason, frees_quota);
        true
    }

    /// A refusal that the version's acknowledgement cannot carry ends the
    /// connection: an acknowledgement would say that the message is kept.
    fn settle_or_close(
        &mut self,
        token: Token,
        packet: Packet,
        reason: ReasonCode,
        frees_quota: bool,
    ) {
        let packet_type = packet.packet_type();
        let is_list = matches!(packet_type, PacketType::SubAck | PacketType::UnsubAck);
        let is_sayable = match self.version {
            Version::V311 => is_list || reason == ReasonCode::Success,
            Version::V5 => reason_is_allowed(packet_type, reason.to_byte()),
        };
        if !is_sayable {
            self.close_with(reason, CloseReason::Server(reason));
            return;
        }
        self.inbound.answers.settle(token, packet, frees_quota);
        self.send_ready();
    }

    /// Puts the application's results into a SUBACK.
    pub(super) fn settle_subscribe(&mut self, token: Token, results: &[ReasonCode]) {
        let Some(Pending::SubAck { packet_id, reasons }) = self.inbound.answers.waiting_mut(token)
        else {
            return;
        };
        for (index, reason) in reasons.iter_mut().enumerate() {
            *reason = results
                .get(index)
                .copied()
                .unwrap_or(ReasonCode::UnspecifiedError);
        }
        let packet = sub_ack(*packet_id, std::mem::take(reasons));
        self.inbound.answers.settle(token, packet, false);
        self.send_ready();
    }

    /// Puts the application's results into an UNSUBACK.
    pub(super) fn settle_unsubscribe(&mut self, token: Token, results: &[ReasonCode]) {
        let Some(Pending::UnsubAck { packet_id, reasons }) =
            self.inbound.answers.waiting_mut(token)
        else {
            return;
        };
        for (index, reason) in reasons.iter_mut().enumerate() {
            *reason = results
                .get(index)
                .copied()
                .unwrap_or(ReasonCode::UnspecifiedError);
        }
        let packet = unsub_ack(*packet_id, std::mem::take(reasons));
        self.inbound.answers.settle(token, packet, false);
        self.send_ready();
    }

    fn send_ready(&mut self) {
        while let Some(packet) = self.inbound.pop_ready() {
            self.send(packet);
        }
    }
}

/// What only the session can judge of a PUBLISH.
fn check_publish(publish: &Publish, retain_available: bool) -> Result<(), Violation> {
    let violation = |reason, what| Err(Violation { reason, what });
    if !publish.properties.subscription_identifiers.is_empty() {
        return violation(
            ReasonCode::ProtocolError,
            "PUBLISH of a client carries a subscription identifier (section 3.3.4)",
        );
    }
    if publish.retain && !retain_available {
        return violation(
            ReasonCode::RetainNotSupported,
            "retained messages are not served (section 3.2.2.3.5)",
        );
    }
    Ok(())
}

/// The answer to a message; a refusal says its reason in words where the
/// client wants that \[MQTT-3.1.2-29\].
fn answer(packet_id: PacketId, reason: ReasonCode, explains: bool) -> Ack {
    let mut ack = Ack::new(packet_id, reason);
    if explains && reason.is_failure() {
        ack.properties.reason_string = Some(Text::from_static(reason.name()));
    }
    ack
}

fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::Success,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

fn sub_ack(packet_id: PacketId, reasons: Vec<ReasonCode>) -> Packet {
    Packet::SubAck(SubAck {
        packet_id,
        properties: ReasonProperties::default(),
        reasons,
    })
}

fn unsub_ack(packet_id: PacketId, reasons: Vec<ReasonCode>) -> Packet {
    Packet::UnsubAck(UnsubAck {
        packet_id,
        properties: ReasonProperties::default(),
        reasons,
    })
}
