//! Messages and requests from the client.

use bytes::BytesMut;
use forebay_mqtt::packet::{
    Packet, Qos, SubscriptionId, TopicAlias, Unsubscribe, UnsubscribeProperties, Version,
};
use forebay_mqtt::session::{AcceptSession, Config, Effect, Input, Outcome, Token};
use forebay_mqtt::{ReasonCode, TopicFilter};

use crate::harness::{
    Script, ack, check_violation, config, connect, disconnect, id, pub_ack, pub_comp, pub_rec,
    pub_rel, publish, send, sent_and_closed, sub_ack, subscribe, unsub_ack,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const DURABLE: Outcome = Outcome::Durable;
const FULL: Outcome = Outcome::Refused {
    reason: ReasonCode::QuotaExceeded,
};

#[test]
fn qos_0_is_handed_out_without_a_token() {
    let mut script = Script::open(Version::V311);
    let publish = publish(Qos::AtMostOnce, 0);
    let token = None;
    let expected = Effect::Publish {
        token,
        publish: publish.clone(),
    };
    script.check(Packet::Publish(publish), &[expected]);
}

#[test]
fn pub_ack_waits_for_the_disk_and_for_the_ones_before_it() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let first = script.publish(publish(Qos::AtLeastOnce, 10));
        let second = script.publish(publish(Qos::AtLeastOnce, 11));
        script.check_acknowledge(second, DURABLE, &[]);
        let expected = [send(pub_ack(10)), send(pub_ack(11))];
        script.check_acknowledge(first, DURABLE, &expected);
        script.check_acknowledge(first, DURABLE, &[]);
    }
}

#[test]
fn acknowledgements_of_both_levels_share_one_order() {
    let mut script = Script::open(Version::V311);
    let first = script.publish(publish(Qos::ExactlyOnce, 1));
    let second = script.publish(publish(Qos::AtLeastOnce, 2));
    script.check_acknowledge(second, DURABLE, &[]);
    let expected = [send(pub_rec(1)), send(pub_ack(2))];
    script.check_acknowledge(first, DURABLE, &expected);
}

#[test]
fn qos_2_goes_through_its_four_steps_each_durable() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let token = script.publish(publish(Qos::ExactlyOnce, 1));
        script.check_acknowledge(token, DURABLE, &[send(pub_rec(1))]);
        let token = release_token(&mut script, 1);
        script.check(pub_rel(1), &[]);
        script.check_acknowledge(token, DURABLE, &[send(pub_comp(1))]);
        script.publish(publish(Qos::ExactlyOnce, 1));
    }
}

#[track_caller]
fn release_token(script: &mut Script, packet_id: u16) -> Token {
    match script.input(pub_rel(packet_id))[..] {
        [
            Effect::ReleaseQos2 {
                token,
                packet_id: released,
            },
        ] if released == id(packet_id) => token,
        ref other => panic!("expected a release, found {other:?}"),
    }
}

#[test]
fn repeated_qos_2_publish_is_not_handed_out_again() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let token = script.publish(publish(Qos::ExactlyOnce, 1));
        let mut again = publish(Qos::ExactlyOnce, 1);
        again.dup = true;
        script.check(Packet::Publish(again.clone()), &[]);
        script.check_acknowledge(token, DURABLE, &[send(pub_rec(1))]);
        script.check(Packet::Publish(again), &[send(pub_rec(1))]);
    }
}

#[test]
fn received_qos_2_identifiers_of_a_resumed_session_are_known() {
    let accept = AcceptSession {
        session_present: true,
        received_qos2: vec![id(4), id(9)],
        ..AcceptSession::default()
    };
    let mut script = Script::open_with(config(), connect(Version::V5), accept);
    script.check(
        Packet::Publish(publish(Qos::ExactlyOnce, 4)),
        &[send(pub_rec(4))],
    );
    let token = release_token(&mut script, 9);
    script.check_acknowledge(token, DURABLE, &[send(pub_comp(9))]);
}

#[test]
fn pub_rel_for_an_unknown_identifier_is_completed() {
    let mut script = Script::open(Version::V311);
    script.check(pub_rel(3), &[send(pub_comp(3))]);
    let mut script = Script::open(Version::V5);
    let not_found = ack(3, ReasonCode::PacketIdentifierNotFound);
    script.check(pub_rel(3), &[send(Packet::PubComp(not_found))]);
}

#[test]
fn pub_rel_before_its_pub_rec_and_reuse_before_pub_comp_are_violations() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        script.publish(publish(Qos::ExactlyOnce, 1));
        let effects = script.input(pub_rel(1));
        check_violation(&effects, version, ReasonCode::ProtocolError);

        let mut script = Script::open(version);
        let token = script.publish(publish(Qos::ExactlyOnce, 1));
        script.check_acknowledge(token, DURABLE, &[send(pub_rec(1))]);
        release_token(&mut script, 1);
        let effects = script.input(Packet::Publish(publish(Qos::ExactlyOnce, 1)));
        check_violation(&effects, version, ReasonCode::ProtocolError);
    }
}

#[test]
fn refused_publish_says_why_in_5_and_closes_in_3_1_1() {
    for (qos, refusal) in [
        (
            Qos::AtLeastOnce,
            Packet::PubAck(ack(1, ReasonCode::QuotaExceeded)),
        ),
        (
            Qos::ExactlyOnce,
            Packet::PubRec(ack(1, ReasonCode::QuotaExceeded)),
        ),
    ] {
        let mut script = Script::open(Version::V5);
        let token = script.publish(publish(qos, 1));
        script.check_acknowledge(token, FULL, &[send(refusal)]);
        // The identifier is free for a new message.
        script.publish(publish(qos, 1));

        let mut script = Script::open(Version::V311);
        let token = script.publish(publish(qos, 1));
        script.connection.acknowledge(script.now, token, FULL);
        assert_eq!(sent_and_closed(&script.effects()), (vec![], true));
    }
}

#[test]
fn refusal_that_the_acknowledgement_cannot_carry_disconnects() {
    let mut script = Script::open(Version::V5);
    let token = script.publish(publish(Qos::AtLeastOnce, 1));
    let reason = ReasonCode::ServerShuttingDown;
    script
        .connection
        .acknowledge(script.now, token, Outcome::Refused { reason });
    let effects = script.effects();
    assert_eq!(effects[0], disconnect(reason));
    assert!(sent_and_closed(&effects).1);
}

#[test]
fn receive_maximum_is_enforced_in_5() {
    let mut script = Script::open(Version::V5);
    let first = script.publish(publish(Qos::AtLeastOnce, 1));
    script.publish(publish(Qos::ExactlyOnce, 2));
    script.check_acknowledge(first, DURABLE, &[send(pub_ack(1))]);
    script.publish(publish(Qos::AtLeastOnce, 3));
    let effects = script.input(Packet::Publish(publish(Qos::AtLeastOnce, 4)));
    check_violation(&effects, Version::V5, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn qos_2_counts_against_the_receive_maximum_until_pub_comp() {
    let mut script = Script::open(Version::V5);
    for packet_id in [1, 2] {
        let token = script.publish(publish(Qos::ExactlyOnce, packet_id));
        script.check_acknowledge(token, DURABLE, &[send(pub_rec(packet_id))]);
    }
    let token = release_token(&mut script, 1);
    script.check_acknowledge(token, DURABLE, &[send(pub_comp(1))]);
    script.publish(publish(Qos::AtLeastOnce, 3));
    let effects = script.input(Packet::Publish(publish(Qos::AtLeastOnce, 4)));
    check_violation(&effects, Version::V5, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn client_of_3_1_1_is_not_read_from_while_its_window_waits_for_the_disk() {
    let mut script = Script::open(Version::V311);
    let first = script.publish(publish(Qos::AtLeastOnce, 1));
    script.publish(publish(Qos::AtLeastOnce, 2));
    assert!(!script.connection.accepts_input());
    let mut input = BytesMut::from(&b"\xC0\x00"[..]);
    assert_eq!(
        script.connection.handle_input(script.now, &mut input),
        Input::Paused
    );
    assert_eq!(input.len(), 2);
    script.check_acknowledge(first, DURABLE, &[send(pub_ack(1))]);
    assert_eq!(
        script.connection.handle_input(script.now, &mut input),
        Input::Handled
    );
    assert_eq!(script.effects(), [send(Packet::PingResp)]);
}

/// Waiting for PUBREL must not stop the reading, or it could never come.
#[test]
fn client_of_3_1_1_is_read_from_while_its_pub_rels_are_awaited() {
    let mut script = Script::open(Version::V311);
    for packet_id in 1..=5 {
        let token = script.publish(publish(Qos::ExactlyOnce, packet_id));
        script.check_acknowledge(token, DURABLE, &[send(pub_rec(packet_id))]);
        assert!(script.connection.accepts_input());
    }
}

#[test]
fn sub_ack_waits_and_carries_the_results_in_order() {
    let mut script = Script::open(Version::V5);
    let mut packet = subscribe(
        5,
        &[
            ("a/#", Qos::ExactlyOnce),
            ("$share/g/b", Qos::AtLeastOnce),
            ("c", Qos::AtLeastOnce),
        ],
    );
    packet.properties.subscription_identifier = SubscriptionId::new(9);
    let expected = packet.subscriptions.clone();
    let effects = script.input(Packet::Subscribe(packet));
    let [
        Effect::Subscribe {
            token,
            subscriptions,
            identifier,
        },
    ] = &effects[..]
    else {
        panic!("expected a Subscribe, found {effects:?}");
    };
    assert_eq!(
        (subscriptions, *identifier),
        (&expected, SubscriptionId::new(9))
    );
    let reasons = [
        ReasonCode::GrantedQos2,
        ReasonCode::QuotaExceeded,
        ReasonCode::NotAuthorized,
    ];
    script
        .connection
        .acknowledge_subscribe(script.now, *token, &reasons);
    assert_eq!(script.effects(), [sub_ack(5, &reasons)]);
}

#[test]
fn durable_grants_what_was_asked_and_missing_results_are_failures() {
    let mut script = Script::open(Version::V311);
    let filters = [("a", Qos::AtMostOnce), ("b", Qos::AtLeastOnce)];
    let token = subscribe_token(&mut script, 6, &filters);
    let reasons = [ReasonCode::Success, ReasonCode::GrantedQos1];
    script.check_acknowledge(token, DURABLE, &[sub_ack(6, &reasons)]);

    let token = subscribe_token(&mut script, 7, &filters);
    script
        .connection
        .acknowledge_subscribe(script.now, token, &[ReasonCode::Success]);
    let reasons = [ReasonCode::Success, ReasonCode::UnspecifiedError];
    assert_eq!(script.effects(), [sub_ack(7, &reasons)]);
}

#[track_caller]
fn subscribe_token(script: &mut Script, packet_id: u16, filters: &[(&str, Qos)]) -> Token {
    match script.input(Packet::Subscribe(subscribe(packet_id, filters)))[..] {
        [Effect::Subscribe { token, .. }] => token,
        ref other => panic!("expected a Subscribe, found {other:?}"),
    }
}

/// \[MQTT-3.8.3-4\]: no local on a shared subscription is a protocol error.
#[test]
fn a_shared_subscription_with_no_local_is_a_protocol_error() {
    let mut script = Script::open(Version::V5);
    let mut packet = subscribe(8, &[("$share/g/#", Qos::AtLeastOnce)]);
    packet.subscriptions[0].options.no_local = true;
    let mut bytes = BytesMut::new();
    Packet::Subscribe(packet)
        .encode(Version::V5, &mut bytes)
        .expect("a packet");
    let handled = script.connection.handle_input(script.now, &mut bytes);
    assert_eq!(handled, Input::Handled);
    let effects = script.effects();
    check_violation(&effects, Version::V5, ReasonCode::ProtocolError);
}

#[test]
fn unsub_ack_waits_and_carries_the_results() {
    let mut script = Script::open(Version::V5);
    let filter = |text| TopicFilter::try_from(text).expect("valid filter");
    let filters = vec![filter("a"), filter("b/#")];
    let packet = Unsubscribe {
        packet_id: id(4),
        properties: UnsubscribeProperties::default(),
        filters: filters.clone(),
    };
    let effects = script.input(Packet::Unsubscribe(packet));
    let [
        Effect::Unsubscribe {
            token,
            filters: asked,
        },
    ] = &effects[..]
    else {
        panic!("expected an Unsubscribe, found {effects:?}");
    };
    assert_eq!(asked, &filters);
    let results = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    script
        .connection
        .acknowledge_unsubscribe(script.now, *token, &results);
    assert_eq!(script.effects(), [unsub_ack(4, &results)]);
}

#[test]
fn topic_alias_subscription_identifier_and_unavailable_retain_are_violations() {
    let mut alias = publish(Qos::AtMostOnce, 0);
    alias.properties.topic_alias = TopicAlias::new(3);
    let mut identifier = publish(Qos::AtMostOnce, 0);
    identifier.properties.subscription_identifiers = SubscriptionId::new(1).into_iter().collect();
    let mut retained = publish(Qos::AtMostOnce, 0);
    retained.retain = true;
    for (packet, reason) in [
        (alias, ReasonCode::TopicAliasInvalid),
        (identifier, ReasonCode::ProtocolError),
        (retained, ReasonCode::RetainNotSupported),
    ] {
        let config = Config {
            retain_available: false,
            topic_alias_maximum: 2,
            ..config()
        };
        let mut script = Script::open_with(config, connect(Version::V5), AcceptSession::default());
        let effects = script.input(Packet::Publish(packet));
        check_violation(&effects, Version::V5, reason);
    }
}

#[test]
fn packets_that_only_servers_send_are_protocol_errors() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        let effects = script.input(Packet::PingResp);
        check_violation(&effects, version, ReasonCode::ProtocolError);
    }
    let mut script = Script::open(Version::V5);
    let effects = script.input(Packet::Auth(Default::default()));
    check_violation(&effects, Version::V5, ReasonCode::ProtocolError);
}

#[test]
fn malformed_bytes_are_answered_with_their_reason() {
    for (bytes, reason) in [
        (&b"\x60\x02\x00\x01"[..], ReasonCode::MalformedPacket),
        (b"\x30\x04\x00\x01#\x00", ReasonCode::TopicNameInvalid),
        (b"\x30\xFF\xFF\x03", ReasonCode::PacketTooLarge),
        (
            b"\x82\x07\x00\x01\x00\x00\x01a\x30",
            ReasonCode::ProtocolError,
        ),
        (
            b"\x82\x08\x00\x01\x00\x00\x02a#\x00",
            ReasonCode::TopicFilterInvalid,
        ),
    ] {
        let mut script = Script::open(Version::V5);
        let mut input = BytesMut::from(bytes);
        let _ = script.connection.handle_input(script.now, &mut input);
        check_violation(&script.effects(), Version::V5, reason);
    }
}
