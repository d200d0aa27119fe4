//! A connection under test, a clock that is moved by hand, and short names for
//! the values that scripts are made of.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_mqtt::packet::{
    Ack, ConnAck, ConnAckProperties, Connect, Disconnect, Packet, PacketId, Publish, Qos,
    ReasonProperties, SubAck, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions,
    UnsubAck, Version,
};
use forebay_mqtt::session::{
    AcceptSession, Config, Connection, Cursor, Delivery, Effect, Outcome, Token,
};
use forebay_mqtt::{ReasonCode, Text, TopicFilter, TopicName};

pub struct Script {
    pub connection: Connection,
    pub now: Instant,
}

/// A small configuration, so that limits are reached with few packets.
pub fn config() -> Config {
    Config {
        receive_maximum: NonZeroU16::new(2).expect("not zero"),
        inflight_maximum: NonZeroU16::new(3).expect("not zero"),
        packet_size_max: NonZeroU32::new(1000).expect("not zero"),
        ..Config::default()
    }
}

impl Script {
    pub fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(now, Arc::new(config)),
            now,
        }
    }

    /// A connection whose session is open, with nothing left to poll.
    pub fn open(version: Version) -> Self {
        Self::open_with(config(), connect(version), AcceptSession::default())
    }

    pub fn open_with(config: Config, connect: Connect, accept: AcceptSession) -> Self {
        let mut script = Self::new(config);
        script.input(Packet::Connect(Box::new(connect)));
        script.connection.accept_session(script.now, accept);
        script.effects();
        assert!(script.connection.is_open());
        script
    }

    /// The effects without reason strings, which are for people.
    pub fn effects(&mut self) -> Vec<Effect> {
        let mut effects = self.worded_effects();
        for effect in &mut effects {
            let words = match effect {
                Effect::SendPacket(Packet::Disconnect(packet)) => {
                    &mut packet.properties.reason_string
                }
                Effect::SendPacket(Packet::ConnAck(packet)) => &mut packet.properties.reason_string,
                Effect::SendPacket(Packet::PubAck(packet) | Packet::PubRec(packet)) => {
                    &mut packet.properties.reason_string
                }
                _ => continue,
            };
            *words = None;
        }
        effects
    }

    pub fn worded_effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.connection.poll_effect()).collect()
    }

    pub fn input(&mut self, packet: Packet) -> Vec<Effect> {
        self.connection.handle_packet(self.now, packet);
        self.effects()
    }

    #[track_caller]
    pub fn check(&mut self, input: Packet, expected: &[Effect]) {
        assert_eq!(self.input(input), expected);
    }

    #[track_caller]
    pub fn check_acknowledge(&mut self, token: Token, outcome: Outcome, expected: &[Effect]) {
        self.connection.acknowledge(self.now, token, outcome);
        assert_eq!(self.effects(), expected);
    }

    /// Gives the publish in and returns its token.
    #[track_caller]
    pub fn publish(&mut self, input: Publish) -> Token {
        match &self.input(Packet::Publish(input.clone()))[..] {
            [
                Effect::Publish {
                    token: Some(token),
                    publish,
                },
            ] if *publish == input => *token,
            other => panic!("expected one publish, found {other:?}"),
        }
    }

    #[track_caller]
    pub fn deliver(&mut self, delivery: Delivery) -> Vec<Effect> {
        self.connection
            .deliver(self.now, delivery)
            .expect("credit is left");
        self.effects()
    }

    pub fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.connection.handle_timeout(self.now);
        self.effects()
    }
}

pub fn text(text: &str) -> Text {
    Text::try_from(text).expect("valid text")
}

pub fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

pub fn connect(version: Version) -> Connect {
    Connect::new(version, text("press-1"))
}

pub fn publish(qos: Qos, packet_id: u16) -> Publish {
    let topic = TopicName::try_from("plant/press/force").expect("valid name");
    Publish {
        qos,
        packet_id: PacketId::new(packet_id),
        ..Publish::new(topic, Bytes::from_static(b"17.5"))
    }
}

pub fn subscribe(packet_id: u16, filters: &[(&str, Qos)]) -> Subscribe {
    let subscription = |(filter, qos): &(&str, Qos)| Subscription {
        filter: TopicFilter::try_from(*filter).expect("valid filter"),
        options: SubscriptionOptions {
            qos: *qos,
            ..SubscriptionOptions::default()
        },
    };
    Subscribe {
        packet_id: id(packet_id),
        properties: SubscribeProperties::default(),
        subscriptions: filters.iter().map(subscription).collect(),
    }
}

pub fn delivery(qos: Qos, position: u64) -> Delivery {
    let Publish {
        topic,
        payload,
        properties,
        ..
    } = publish(Qos::AtMostOnce, 0);
    Delivery {
        topic,
        payload,
        qos,
        retain: false,
        properties,
        cursor: cursor(position),
    }
}

/// The packet that a delivery of [`delivery`] becomes.
pub fn delivered(qos: Qos, packet_id: u16, dup: bool) -> Effect {
    Effect::SendPacket(Packet::Publish(Publish {
        dup,
        ..publish(qos, packet_id)
    }))
}

pub fn cursor(position: u64) -> Cursor {
    Cursor {
        stream: 7,
        position,
    }
}

pub fn ack(packet_id: u16, reason: ReasonCode) -> Ack {
    Ack::new(id(packet_id), reason)
}

pub fn pub_ack(packet_id: u16) -> Packet {
    Packet::PubAck(ack(packet_id, ReasonCode::Success))
}

pub fn pub_rec(packet_id: u16) -> Packet {
    Packet::PubRec(ack(packet_id, ReasonCode::Success))
}

pub fn pub_rel(packet_id: u16) -> Packet {
    Packet::PubRel(ack(packet_id, ReasonCode::Success))
}

pub fn pub_comp(packet_id: u16) -> Packet {
    Packet::PubComp(ack(packet_id, ReasonCode::Success))
}

pub fn send(packet: Packet) -> Effect {
    Effect::SendPacket(packet)
}

pub fn conn_ack(session_present: bool, reason: ReasonCode) -> Effect {
    send(Packet::ConnAck(Box::new(ConnAck {
        session_present,
        reason,
        properties: ConnAckProperties::default(),
    })))
}

pub fn sub_ack(packet_id: u16, reasons: &[ReasonCode]) -> Effect {
    send(Packet::SubAck(SubAck {
        packet_id: id(packet_id),
        properties: ReasonProperties::default(),
        reasons: reasons.to_vec(),
    }))
}

pub fn unsub_ack(packet_id: u16, reasons: &[ReasonCode]) -> Effect {
    send(Packet::UnsubAck(UnsubAck {
        packet_id: id(packet_id),
        properties: ReasonProperties::default(),
        reasons: reasons.to_vec(),
    }))
}

pub fn disconnect(reason: ReasonCode) -> Effect {
    send(Packet::Disconnect(Disconnect::new(reason)))
}

/// What is sent before a close, and whether a close follows.
pub fn sent_and_closed(effects: &[Effect]) -> (Vec<Packet>, bool) {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::SendPacket(packet) => Some(packet.clone()),
        _ => None,
    });
    let is_closed = matches!(effects.last(), Some(Effect::Close { .. }));
    (sent.collect(), is_closed)
}

/// A violation: MQTT 5 is told the reason, 3.1.1 is told nothing, and both are
/// closed.
#[track_caller]
pub fn check_violation(effects: &[Effect], version: Version, reason: ReasonCode) {
    let (sent, is_closed) = sent_and_closed(effects);
    let expected = match version {
        Version::V311 => vec![],
        Version::V5 => vec![Packet::Disconnect(Disconnect::new(reason))],
    };
    assert_eq!(sent, expected);
    assert!(is_closed, "{effects:?}");
}
