//! Deliveries to the client.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use forebay_mqtt::ReasonCode;
use forebay_mqtt::packet::{Packet, PublishProperties, Qos, TopicAlias, Version};
use forebay_mqtt::session::{
    AcceptSession, DeliverError, Delivery, DropReason, Effect, Inflight, InflightStage, Outcome,
    ResumedDelivery, ResumedStage, Token,
};

use crate::harness::{
    Script, ack, check_violation, config, connect, cursor, delivered, delivery, id, pub_ack,
    pub_comp, pub_rec, pub_rel, send, sent_and_closed,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const QOS_1: Qos = Qos::AtLeastOnce;
const QOS_2: Qos = Qos::ExactlyOnce;

fn completed(position: u64, packet_id: u16, reason: ReasonCode) -> Effect {
    Effect::CompleteDelivery {
        cursor: cursor(position),
        packet_id: id(packet_id),
        reason,
    }
}

fn done(position: u64, packet_id: u16) -> Effect {
    completed(position, packet_id, ReasonCode::Success)
}

#[track_caller]
fn received_token(script: &mut Script, position: u64, packet_id: u16) -> Token {
    match script.input(pub_rec(packet_id))[..] {
        [
            Effect::RecordQos2Received {
                token,
                cursor: at,
                packet_id: received,
            },
        ] if at == cursor(position) && received == id(packet_id) => token,
        ref other => panic!("expected a receipt, found {other:?}"),
    }
}

#[test]
fn qos_1_is_completed_by_pub_ack() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let effects = script.deliver(delivery(QOS_1, 100));
        assert_eq!(effects, [delivered(QOS_1, 1, false)]);
        script.check(pub_ack(1), &[done(100, 1)]);
        script.check(pub_ack(1), &[]);
        assert_eq!(
            script.deliver(delivery(QOS_1, 101)),
            [delivered(QOS_1, 2, false)]
        );
    }
}

#[test]
fn pub_rel_waits_for_the_record_of_pub_rec() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        script.deliver(delivery(QOS_2, 100));
        let token = received_token(&mut script, 100, 1);
        script.check(pub_rec(1), &[]);
        script.check_acknowledge(token, Outcome::Durable, &[send(pub_rel(1))]);
        script.check(pub_rec(1), &[send(pub_rel(1))]);
        script.check(pub_comp(1), &[done(100, 1)]);
        assert_eq!(script.connection.inflight(), []);
    }
}

#[test]
fn pub_rels_keep_the_order_of_their_pub_recs() {
    let mut script = Script::open(Version::V311);
    script.deliver(delivery(QOS_2, 100));
    script.deliver(delivery(QOS_2, 101));
    let first = received_token(&mut script, 101, 2);
    let second = received_token(&mut script, 100, 1);
    script.check_acknowledge(second, Outcome::Durable, &[]);
    let expected = [send(pub_rel(2)), send(pub_rel(1))];
    script.check_acknowledge(first, Outcome::Durable, &expected);
}

#[test]
fn refused_delivery_is_completed_with_the_reason() {
    let mut script = Script::open(Version::V5);
    let reason = ReasonCode::ImplementationSpecificError;
    script.deliver(delivery(QOS_2, 100));
    script.check(Packet::PubRec(ack(1, reason)), &[completed(100, 1, reason)]);
    script.deliver(delivery(QOS_1, 101));
    script.check(Packet::PubAck(ack(2, reason)), &[completed(101, 2, reason)]);
}

#[test]
fn credit_is_the_lower_of_both_bounds_and_is_given_back() {
    let mut packet = connect(Version::V5);
    packet.properties.receive_maximum = NonZeroU16::new(2);
    let mut script = Script::open_with(config(), packet, AcceptSession::default());
    assert_eq!(script.connection.can_deliver(), 2);
    script.deliver(delivery(QOS_1, 100));
    script.deliver(delivery(QOS_2, 101));
    assert_eq!(script.connection.can_deliver(), 0);
    let refused = script.connection.deliver(script.now, delivery(QOS_1, 102));
    let error = DeliverError::NoCredit {
        inflight: 2,
        limit: 2,
    };
    assert_eq!(refused, Err(error));
    assert_eq!(
        script.deliver(delivery(Qos::AtMostOnce, 103)),
        [delivered(Qos::AtMostOnce, 0, false)]
    );
    script.check(pub_ack(1), &[done(100, 1)]);
    assert_eq!(script.connection.can_deliver(), 1);

    let script = Script::open(Version::V311);
    assert_eq!(script.connection.can_deliver(), 3);
}

#[test]
fn acknowledgement_of_the_wrong_level_is_a_violation() {
    for (qos, answer) in [
        (QOS_1, pub_rec(1)),
        (QOS_2, pub_ack(1)),
        (QOS_2, pub_comp(1)),
    ] {
        let mut script = Script::open(Version::V5);
        script.deliver(delivery(qos, 100));
        let effects = script.input(answer);
        check_violation(&effects, Version::V5, ReasonCode::ProtocolError);
    }
}

#[test]
fn acknowledgement_of_an_unknown_identifier_is_tolerated() {
    let mut script = Script::open(Version::V5);
    script.check(pub_ack(9), &[]);
    script.check(pub_comp(9), &[]);
    let not_found = ack(9, ReasonCode::PacketIdentifierNotFound);
    script.check(pub_rec(9), &[send(Packet::PubRel(not_found))]);
    let mut script = Script::open(Version::V311);
    script.check(pub_rec(9), &[send(pub_rel(9))]);
}

#[test]
fn delivery_larger_than_the_client_accepts_is_dropped_and_said_so() {
    let sent_len = 2 + 2 + "plant/press/force".len() + 2 + 1 + "17.5".len();
    for (limit, is_sent) in [(sent_len, true), (sent_len - 1, false)] {
        let limit = u32::try_from(limit).expect("small");
        let mut packet = connect(Version::V5);
        packet.properties.maximum_packet_size = NonZeroU32::new(limit);
        let mut script = Script::open_with(config(), packet, AcceptSession::default());
        let effects = script.deliver(delivery(QOS_1, 100));
        if is_sent {
            assert_eq!(effects, [delivered(QOS_1, 1, false)]);
            continue;
        }
        let reason = DropReason::TooLarge {
            size: sent_len,
            limit,
        };
        let cursor = cursor(100);
        assert_eq!(effects, [Effect::DropDelivery { cursor, reason }]);
        assert_eq!(script.connection.inflight(), []);
        assert_eq!(script.connection.can_deliver(), 3);
    }
}

#[test]
fn properties_are_left_out_for_3_1_1_and_a_foreign_alias_is_never_sent() {
    let with_alias = || Delivery {
        properties: PublishProperties {
            topic_alias: TopicAlias::new(3),
            content_type: Some(crate::harness::text("t")),
            ..PublishProperties::default()
        },
        ..delivery(QOS_1, 100)
    };
    for (version, content_type) in [(Version::V311, None), (Version::V5, Some("t"))] {
        let mut script = Script::open(version);
        let effects = script.deliver(with_alias());
        let [Effect::SendPacket(Packet::Publish(publish))] = &effects[..] else {
            panic!("expected a PUBLISH, found {effects:?}");
        };
        assert_eq!(publish.properties.topic_alias, None);
        assert_eq!(publish.properties.content_type.as_deref(), content_type);
    }
}

#[test]
fn delivery_that_cannot_be_written_is_dropped() {
    let mut script = Script::open(Version::V5);
    let mut unwritable = delivery(QOS_1, 100);
    unwritable.properties.correlation_data = Some(Bytes::from(vec![0; 65_536]));
    let cursor = cursor(100);
    let reason = DropReason::Unencodable;
    assert_eq!(
        script.deliver(unwritable),
        [Effect::DropDelivery { cursor, reason }]
    );
}

#[test]
fn snapshot_lists_what_is_in_flight_in_the_order_of_sending() {
    let mut script = Script::open(Version::V311);
    script.deliver(delivery(QOS_2, 100));
    script.deliver(delivery(QOS_1, 101));
    received_token(&mut script, 100, 1);
    let inflight = |packet_id, position, stage| Inflight {
        packet_id: id(packet_id),
        cursor: cursor(position),
        stage,
    };
    let expected = [
        inflight(1, 100, InflightStage::Received),
        inflight(2, 101, InflightStage::Published(QOS_1)),
    ];
    assert_eq!(script.connection.inflight(), expected);
    script.connection.handle_connection_lost(script.now);
    assert_eq!(script.connection.inflight(), expected);
}

fn resumed(packet_id: u16, delivery: Delivery) -> ResumedDelivery {
    ResumedDelivery {
        packet_id: id(packet_id),
        stage: ResumedStage::Publish(delivery),
    }
}

#[test]
fn resumed_deliveries_are_repeated_under_their_identifiers() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let release = ResumedDelivery {
            packet_id: id(1),
            stage: ResumedStage::Release {
                cursor: cursor(100),
            },
        };
        let deliveries = vec![
            release,
            resumed(7, delivery(QOS_1, 101)),
            resumed(2, delivery(QOS_2, 102)),
        ];
        script.connection.resume(script.now, deliveries);
        let expected = [
            send(pub_rel(1)),
            delivered(QOS_1, 7, true),
            delivered(QOS_2, 2, true),
        ];
        assert_eq!(script.effects(), expected);
        assert_eq!(script.connection.can_deliver(), 0);
        script.check(pub_comp(1), &[done(100, 1)]);
        script.check(pub_ack(7), &[done(101, 7)]);
        // Identifier 2 is in use, so the next new ones are 1 and 3.
        assert_eq!(
            script.deliver(delivery(QOS_1, 103)),
            [delivered(QOS_1, 1, false)]
        );
        assert_eq!(
            script.deliver(delivery(QOS_1, 104)),
            [delivered(QOS_1, 3, false)]
        );
    }
}

#[test]
fn resumed_deliveries_obey_the_receive_maximum_of_the_new_connection() {
    let mut packet = connect(Version::V5);
    packet.properties.receive_maximum = NonZeroU16::new(1);
    let mut script = Script::open_with(config(), packet, AcceptSession::default());
    let deliveries = vec![
        resumed(5, delivery(QOS_1, 100)),
        resumed(6, delivery(QOS_1, 101)),
    ];
    script.connection.resume(script.now, deliveries);
    assert_eq!(script.effects(), [delivered(QOS_1, 5, true)]);
    assert_eq!(script.connection.inflight().len(), 2);
    script.check(pub_ack(5), &[done(100, 5), delivered(QOS_1, 6, true)]);
    assert_eq!(script.connection.can_deliver(), 0);
    script.check(pub_ack(6), &[done(101, 6)]);
    assert_eq!(script.connection.can_deliver(), 1);
}

#[test]
fn identifiers_wrap_and_skip_the_ones_in_use() {
    let mut script = Script::open(Version::V311);
    assert_eq!(
        script.deliver(delivery(QOS_1, 0)),
        [delivered(QOS_1, 1, false)]
    );
    for number in 2..=65_535u16 {
        let position = u64::from(number);
        assert_eq!(
            script.deliver(delivery(QOS_1, position)),
            [delivered(QOS_1, number, false)]
        );
        script.check(pub_ack(number), &[done(position, number)]);
    }
    assert_eq!(
        script.deliver(delivery(QOS_1, 1)),
        [delivered(QOS_1, 2, false)]
    );
}

#[test]
fn nothing_is_delivered_without_an_open_session() {
    let mut script = Script::new(config());
    let refused = script.connection.deliver(script.now, delivery(QOS_1, 1));
    assert_eq!(refused, Err(DeliverError::NotOpen));
    assert_eq!(script.connection.can_deliver(), 0);
    let mut script = Script::open(Version::V5);
    script.connection.handle_connection_lost(script.now);
    assert!(sent_and_closed(&script.effects()).1);
    let refused = script.connection.deliver(script.now, delivery(QOS_1, 1));
    assert_eq!(refused, Err(DeliverError::NotOpen));
}
