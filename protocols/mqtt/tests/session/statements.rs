//! Statements of the specification that no other script shows; the whole list
//! is in `docs/mqtt-conformance.md`.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use forebay_mqtt::packet::{
    ConnAck, Connect, Packet, Qos, ReasonProperties, SubAck, Unsubscribe, UnsubscribeProperties,
    Version,
};
use forebay_mqtt::session::{AcceptSession, Config, Effect, Input, Outcome};
use forebay_mqtt::{ReasonCode, TopicFilter, TopicName};

use crate::harness::{
    Script, config, conn_ack, connect, delivered, delivery, id, pub_ack, publish, send,
    sent_and_closed, sub_ack, subscribe, text, unsub_ack,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// \[MQTT-4.3.2-5\], 3.1.1 \[MQTT-4.3.2-2\]: behind its PUBACK an identifier
/// stands for a new message, whatever the DUP flag says.
#[test]
fn an_identifier_behind_its_pub_ack_is_a_new_message() {
    for version in VERSIONS {
        let mut script = Script::open(version);
        for dup in [false, true] {
            let mut message = publish(Qos::AtLeastOnce, 1);
            message.dup = dup;
            let token = script.publish(message);
            script.check_acknowledge(token, Outcome::Durable, &[send(pub_ack(1))]);
        }
    }
}

/// \[MQTT-3.3.4-10\] and \[MQTT-4.9.0-3\]: while as many messages are in
/// flight as the client allows, everything else goes on.
#[test]
fn a_spent_receive_maximum_delays_nothing_but_messages() {
    let mut packet = connect(Version::V5);
    packet.properties.receive_maximum = NonZeroU16::new(1);
    let mut script = Script::open_with(config(), packet, AcceptSession::default());
    script.deliver(delivery(Qos::AtLeastOnce, 100));
    assert_eq!(script.connection.can_deliver(), 0);

    script.check(Packet::PingReq, &[send(Packet::PingResp)]);
    let token = script.publish(publish(Qos::AtLeastOnce, 9));
    script.check_acknowledge(token, Outcome::Durable, &[send(pub_ack(9))]);
    let effects = script.input(Packet::Subscribe(subscribe(5, &[("a", Qos::AtMostOnce)])));
    let [Effect::Subscribe { token, .. }] = effects[..] else {
        panic!("expected a Subscribe, found {effects:?}");
    };
    let granted = sub_ack(5, &[ReasonCode::Success]);
    script.check_acknowledge(token, Outcome::Durable, &[granted]);
    let effects = script.input(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(6),
        properties: UnsubscribeProperties::default(),
        filters: vec![TopicFilter::try_from("a").expect("valid filter")],
    }));
    let [Effect::Unsubscribe { token, .. }] = effects[..] else {
        panic!("expected an Unsubscribe, found {effects:?}");
    };
    let done = unsub_ack(6, &[ReasonCode::Success]);
    script.check_acknowledge(token, Outcome::Durable, &[done]);
    let effects = script.deliver(delivery(Qos::AtMostOnce, 101));
    assert_eq!(effects, [delivered(Qos::AtMostOnce, 0, false)]);
}

fn limited(size: u32) -> Connect {
    let mut packet = connect(Version::V5);
    packet.properties.maximum_packet_size = NonZeroU32::new(size);
    packet
}

/// The CONNACK among the effects, words included.
fn answer(script: &mut Script) -> Option<ConnAck> {
    match &script.worded_effects()[..] {
        [
            Effect::SendPacket(Packet::ConnAck(ack)),
            Effect::Close { .. },
        ] => Some((**ack).clone()),
        [Effect::Close { .. }] => None,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// \[MQTT-3.2.2-19\] and \[MQTT-3.1.2-24\]: the words of a refusal are left out
/// where they do not fit, and the refusal where not even its code does.
#[test]
fn a_refusing_conn_ack_obeys_the_maximum_packet_size() {
    let refused_by_the_machine = |size| {
        let mut script = Script::new(config());
        let mut packet = limited(size);
        packet.properties.authentication_method = Some(text("SCRAM"));
        script
            .connection
            .handle_packet(script.now, Packet::Connect(Box::new(packet)));
        answer(&mut script)
    };
    let refused_by_the_server = |size| {
        let mut script = Script::new(config());
        script.input(Packet::Connect(Box::new(limited(size))));
        let reason = ReasonCode::BadAuthenticationMethod;
        script.connection.refuse_connect(script.now, reason);
        answer(&mut script)
    };
    // A server that refuses says nothing in words.
    for (size, words, is_sent) in [(100, true, true), (5, false, true), (4, false, false)] {
        for (ack, words) in [
            (refused_by_the_machine(size), words),
            (refused_by_the_server(size), false),
        ] {
            assert_eq!(ack.is_some(), is_sent, "{size}");
            let Some(ack) = ack else { continue };
            assert_eq!(ack.reason, ReasonCode::BadAuthenticationMethod);
            assert_eq!(ack.properties.reason_string.is_some(), words, "{size}");
        }
    }
}

/// \[MQTT-3.1.2-24\] and \[MQTT-3.14.0-1\]: response information is left out
/// where it does not fit. A client that cannot take the CONNACK at all gets
/// nothing, in particular no DISCONNECT.
#[test]
fn an_accepting_conn_ack_obeys_the_maximum_packet_size() {
    let opened = |size| {
        let config = Config {
            response_prefix: Some(TopicName::try_from("response").expect("valid name")),
            ..config()
        };
        let mut packet = limited(size);
        packet.properties.request_response_information = Some(true);
        let mut script = Script::new(config);
        script.input(Packet::Connect(Box::new(packet)));
        script
            .connection
            .accept_session(script.now, AcceptSession::default());
        let effects = script.effects();
        (script, effects)
    };
    let (_, effects) = opened(1_000);
    let [Effect::SendPacket(Packet::ConnAck(ack))] = &effects[..] else {
        panic!("expected CONNACK, found {effects:?}");
    };
    assert!(ack.properties.response_information.is_some());
    let mut without = ack.clone();
    without.properties.response_information = None;
    let len = Packet::ConnAck(without.clone()).encoded_len(Version::V5);
    let len = u32::try_from(len).expect("small");
    let (script, effects) = opened(len);
    assert_eq!(effects, [send(Packet::ConnAck(without))]);
    assert!(script.connection.is_open());
    let (script, effects) = opened(len - 1);
    assert_eq!(sent_and_closed(&effects), (vec![], true));
    assert!(script.connection.is_closed());
}

/// \[MQTT-3.1.4-6\], 3.1.1 \[MQTT-3.1.4-5\]: what a client sent behind a
/// refused CONNECT is not handled.
#[test]
fn nothing_behind_a_refused_connect_is_handled() {
    for version in VERSIONS {
        let mut script = Script::new(config());
        let mut input = BytesMut::new();
        for packet in [
            Packet::Connect(Box::new(connect(version))),
            Packet::Publish(publish(Qos::AtMostOnce, 0)),
        ] {
            packet.encode(version, &mut input).expect("a packet");
        }
        let now = script.now;
        assert_eq!(
            script.connection.handle_input(now, &mut input),
            Input::Handled
        );
        assert_eq!(script.effects().len(), 1);
        assert_eq!(
            script.connection.handle_input(now, &mut input),
            Input::Paused
        );
        let reason = ReasonCode::NotAuthorized;
        script.connection.refuse_connect(now, reason);
        assert_eq!(script.effects()[0], conn_ack(false, reason));
        assert_eq!(
            script.connection.handle_input(now, &mut input),
            Input::Closed
        );
        assert_eq!(script.effects(), []);
    }
}

/// \[MQTT-3.1.3-5\] of both versions: identifiers of 1 to 23 letters and digits
/// are taken; longer ones and other characters are, too.
#[test]
fn client_identifiers_of_every_length_are_taken() {
    const ALL: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let short = (1..=23).flat_map(|len| (0..=ALL.len() - len).map(move |at| &ALL[at..at + len]));
    for name in short.chain([ALL, "plant/press 1", "é"]) {
        for version in VERSIONS {
            let mut script = Script::new(config());
            let mut packet = connect(version);
            packet.client_id = text(name);
            let mut input = BytesMut::new();
            Packet::Connect(Box::new(packet))
                .encode(version, &mut input)
                .expect("a packet");
            let handled = script.connection.handle_input(script.now, &mut input);
            assert_eq!(handled, Input::Handled);
            match &script.effects()[..] {
                [Effect::OpenSession(open)] => assert_eq!(open.client_id, text(name)),
                other => panic!("expected an OpenSession, found {other:?}"),
            }
        }
    }
}

/// 3.1.1 \[MQTT-3.9.3-2\]: its SUBACK knows 0, 1, 2 and 0x80, so every failure
/// becomes 0x80.
#[test]
fn every_failed_subscription_is_0x80_in_3_1_1() {
    for reason in (0x80..=0xFF).filter_map(ReasonCode::from_byte) {
        let packet = Packet::SubAck(SubAck {
            packet_id: id(1),
            properties: ReasonProperties::default(),
            reasons: vec![reason, ReasonCode::GrantedQos2],
        });
        let mut bytes = BytesMut::new();
        packet.encode(Version::V311, &mut bytes).expect("a packet");
        assert_eq!(bytes[..], *b"\x90\x04\x00\x01\x80\x02", "{reason}");
    }
}

/// \[MQTT-3.2.0-2\]: a connection has one CONNACK, however often its session is
/// accepted.
#[test]
fn a_connection_has_one_conn_ack() {
    let mut script = Script::open(Version::V5);
    script
        .connection
        .accept_session(script.now, AcceptSession::default());
    script
        .connection
        .refuse_connect(script.now, ReasonCode::NotAuthorized);
    assert_eq!(script.effects(), []);
}
