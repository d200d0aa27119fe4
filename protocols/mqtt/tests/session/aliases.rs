//! Topic aliases, reason strings and response information.

use bytes::Bytes;
use forebay_mqtt::packet::{
    Connect, DisconnectProperties, Packet, Publish, Qos, TopicAlias, Version,
};
use forebay_mqtt::session::{AcceptSession, Config, Delivery, Effect, Outcome};
use forebay_mqtt::{ReasonCode, TopicName};
use std::num::NonZeroU32;

use crate::harness::*;

fn with_alias(topic: &str, alias: u16) -> Publish {
    let topic = match topic {
        "" => TopicName::default(),
        topic => TopicName::try_from(topic).expect("valid name"),
    };
    let mut publish = Publish::new(topic, Bytes::from_static(b"17.5"));
    publish.properties.topic_alias = TopicAlias::new(alias);
    publish
}

fn topic_of(effects: &[Effect]) -> &str {
    match effects {
        [Effect::Publish { publish, .. }] => {
            assert_eq!(publish.properties.topic_alias, None);
            publish.topic.as_str()
        }
        other => panic!("expected one publish, found {other:?}"),
    }
}

fn open(config: Config, connect: Connect) -> Script {
    Script::open_with(config, connect, AcceptSession::default())
}

/// \[MQTT-3.3.2-10\]: every alias up to the announced maximum is taken; a new
/// name for an alias replaces the old one.
#[test]
fn an_inbound_alias_stands_for_the_topic_that_set_it_last() {
    let mut script = open(Config::default(), connect(Version::V5));
    let maximum = Config::default().topic_alias_maximum;
    for (topic, alias, expected) in [
        ("a/1", 1, "a/1"),
        ("a/2", maximum, "a/2"),
        ("", 1, "a/1"),
        ("", maximum, "a/2"),
        ("a/3", 1, "a/3"),
        ("", 1, "a/3"),
    ] {
        let effects = script.input(Packet::Publish(with_alias(topic, alias)));
        assert_eq!(topic_of(&effects), expected);
    }
}

/// \[MQTT-3.3.2-9\]: an alias above the maximum is refused with 0x94; one that
/// was never set is a protocol error, also when another connection set it
/// \[MQTT-3.3.2-7\].
#[test]
fn an_unknown_or_too_large_alias_ends_the_connection() {
    let maximum = Config::default().topic_alias_maximum;
    for (publish, reason) in [
        (
            with_alias("a/1", maximum + 1),
            ReasonCode::TopicAliasInvalid,
        ),
        (with_alias("", maximum + 1), ReasonCode::TopicAliasInvalid),
        (with_alias("", 1), ReasonCode::ProtocolError),
    ] {
        let mut script = open(Config::default(), connect(Version::V5));
        let effects = script.input(Packet::Publish(publish));
        check_violation(&effects, Version::V5, reason);
    }
}

fn sent(effects: &[Effect]) -> &Publish {
    match effects {
        [Effect::SendPacket(Packet::Publish(publish))] => publish,
        other => panic!("expected one PUBLISH, found {other:?}"),
    }
}

/// \[MQTT-3.3.2-11\]: no alias above the client's maximum is sent, and none to
/// a client that named no maximum.
#[test]
fn a_repeated_topic_is_sent_by_its_alias_within_the_clients_maximum() {
    let mut packet = connect(Version::V5);
    packet.properties.topic_alias_maximum = Some(1);
    let mut script = open(config(), packet);
    let first = script.deliver(delivery(Qos::AtMostOnce, 1));
    let first = sent(&first);
    assert_eq!(first.topic.as_str(), "plant/press/force");
    assert_eq!(first.properties.topic_alias, TopicAlias::new(1));
    let second = script.deliver(delivery(Qos::AtLeastOnce, 2));
    let second = sent(&second);
    assert!(second.topic.is_empty());
    assert_eq!(second.properties.topic_alias, TopicAlias::new(1));
    let other = Delivery {
        topic: TopicName::try_from("plant/other").expect("valid name"),
        ..delivery(Qos::AtMostOnce, 3)
    };
    let other = script.deliver(other);
    assert_eq!(sent(&other).topic.as_str(), "plant/other");
    assert_eq!(sent(&other).properties.topic_alias, None);

    let mut script = open(config(), connect(Version::V5));
    for position in 1..3 {
        let effects = script.deliver(delivery(Qos::AtMostOnce, position));
        assert_eq!(sent(&effects).properties.topic_alias, None);
    }
}

/// \[MQTT-3.1.2-24\]: a message that does not fit is not sent, and the alias
/// that it would have set is not used by a later one.
#[test]
fn a_dropped_message_sets_no_alias() {
    let mut packet = connect(Version::V5);
    packet.properties.topic_alias_maximum = Some(5);
    packet.properties.maximum_packet_size = NonZeroU32::new(60);
    let mut script = open(config(), packet);
    let large = Delivery {
        payload: Bytes::from(vec![0; 100]),
        ..delivery(Qos::AtMostOnce, 1)
    };
    let effects = script.deliver(large);
    assert!(matches!(effects[..], [Effect::DropDelivery { .. }]));
    let effects = script.deliver(delivery(Qos::AtMostOnce, 2));
    assert_eq!(sent(&effects).topic.as_str(), "plant/press/force");
}

fn goodbye(script: &mut Script) -> DisconnectProperties {
    script
        .connection
        .handle_packet(script.now, Packet::PingResp);
    let effects = script.worded_effects();
    match &effects[0] {
        Effect::SendPacket(Packet::Disconnect(disconnect)) => disconnect.properties.clone(),
        other => panic!("expected DISCONNECT, found {other:?}"),
    }
}

/// \[MQTT-3.1.2-29\] and \[MQTT-3.14.2-3\]: a reason string is sent unless the
/// client declined it or it does not fit; the DISCONNECT comes in any case.
#[test]
fn a_disconnect_explains_itself_where_the_client_lets_it() {
    let mut script = open(config(), connect(Version::V5));
    let words = goodbye(&mut script).reason_string.expect("words");
    assert!(words.contains("only servers send"), "{words}");
    let mut declined = connect(Version::V5);
    declined.properties.request_problem_information = Some(false);
    let mut small = connect(Version::V5);
    small.properties.maximum_packet_size = NonZeroU32::new(20);
    for packet in [declined, small] {
        let mut script = open(config(), packet);
        assert_eq!(goodbye(&mut script), DisconnectProperties::default());
    }
}

/// \[MQTT-3.4.2-2\], \[MQTT-3.5.2-2\] and \[MQTT-3.1.2-29\].
#[test]
fn a_refused_publish_says_its_reason_in_words_unless_declined_or_too_long() {
    for (wanted, size, words) in [
        (None, 100, Some("quota exceeded")),
        (None, 22, None),
        (Some(false), 100, None),
    ] {
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let mut packet = connect(Version::V5);
            packet.properties.maximum_packet_size = NonZeroU32::new(size);
            packet.properties.request_problem_information = wanted;
            let mut script = open(config(), packet);
            let token = script.publish(publish(qos, 7));
            let reason = ReasonCode::QuotaExceeded;
            script
                .connection
                .acknowledge(script.now, token, Outcome::Refused { reason });
            let effects = script.worded_effects();
            let [Effect::SendPacket(Packet::PubAck(ack) | Packet::PubRec(ack))] = &effects[..]
            else {
                panic!("expected an acknowledgement, found {effects:?}");
            };
            assert_eq!(ack.reason, reason);
            assert_eq!(ack.properties.reason_string.as_deref(), words);
        }
    }
}

/// \[MQTT-3.1.2-28\]: response information is sent only to a client that asks
/// for it, and only when it can be part of a topic.
#[test]
fn response_information_is_told_to_a_client_that_asks() {
    let config = || Config {
        response_prefix: Some(TopicName::try_from("response").expect("valid name")),
        ..config()
    };
    for (id, asked, expected) in [
        ("press-1", Some(true), Some("response/press-1")),
        ("press-1", Some(false), None),
        ("press-1", None, None),
        ("press+1", Some(true), None),
    ] {
        let mut packet = connect(Version::V5);
        packet.client_id = text(id);
        packet.properties.request_response_information = asked;
        let mut script = Script::new(config());
        script.input(Packet::Connect(Box::new(packet)));
        script
            .connection
            .accept_session(script.now, AcceptSession::default());
        let effects = script.effects();
        let [Effect::SendPacket(Packet::ConnAck(ack))] = &effects[..] else {
            panic!("expected CONNACK, found {effects:?}");
        };
        let told = ack.properties.response_information.as_deref();
        assert_eq!(told, expected, "{id} {asked:?}");
    }
}
