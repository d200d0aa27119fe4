//! From the first byte to CONNACK (sections 3.1 and 3.2).

use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_mqtt::packet::{
    ConnAck, ConnAckProperties, ConnectProperties, DecodeError, Packet, Qos, Version, Will,
    WillProperties,
};
use forebay_mqtt::session::{
    AcceptSession, CloseReason, Config, Effect, Input, OpenSession, SessionExpiry,
};
use forebay_mqtt::{ReasonCode, Text, TopicName};

use crate::harness::{
    Script, check_violation, config, conn_ack, connect, pub_comp, pub_rel, publish, send,
    sent_and_closed, text,
};

fn bytes_in(script: &mut Script, bytes: &[u8]) -> (Input, Vec<Effect>) {
    let mut input = BytesMut::from(bytes);
    let outcome = script.connection.handle_input(script.now, &mut input);
    (outcome, script.effects())
}

fn open_session(version: Version) -> OpenSession {
    OpenSession {
        version,
        client_id: text("press-1"),
        clean_start: true,
        session_expiry: SessionExpiry::AtClose,
        user_name: None,
        password: None,
        will: None,
        user_properties: vec![],
    }
}

#[test]
fn connect_opens_a_session_and_conn_ack_waits_for_the_application() {
    let mut script = Script::new(config());
    let expected = Effect::OpenSession(Box::new(open_session(Version::V311)));
    script.check(
        Packet::Connect(Box::new(connect(Version::V311))),
        &[expected],
    );
    assert!(!script.connection.accepts_input());
    assert_eq!(bytes_in(&mut script, b"\xC0\x00"), (Input::Paused, vec![]));
    let accept = AcceptSession {
        session_present: true,
        ..AcceptSession::default()
    };
    script.connection.accept_session(script.now, accept);
    assert_eq!(script.effects(), [conn_ack(true, ReasonCode::Success)]);
    let pong = vec![send(Packet::PingResp)];
    assert_eq!(bytes_in(&mut script, b"\xC0\x00"), (Input::Handled, pong));
}

#[test]
fn conn_ack_announces_limits_and_what_the_server_changed() {
    let config = Config {
        keep_alive_max: NonZeroU16::new(30),
        session_expiry_max: Some(600),
        ..config()
    };
    let mut script = Script::new(config.clone());
    let mut packet = connect(Version::V5);
    packet.client_id = Text::new();
    packet.keep_alive = 60;
    packet.properties.session_expiry_interval = Some(u32::MAX);
    let expected = OpenSession {
        client_id: Text::new(),
        session_expiry: SessionExpiry::After(Duration::from_secs(600)),
        ..open_session(Version::V5)
    };
    let expected = Effect::OpenSession(Box::new(expected));
    script.check(Packet::Connect(Box::new(packet)), &[expected]);
    let accept = AcceptSession {
        assigned_client_id: Some(text("auto-1")),
        ..AcceptSession::default()
    };
    script.connection.accept_session(script.now, accept);
    let properties = ConnAckProperties {
        session_expiry_interval: Some(600),
        receive_maximum: Some(config.receive_maximum),
        maximum_packet_size: Some(config.packet_size_max),
        assigned_client_identifier: Some(text("auto-1")),
        topic_alias_maximum: Some(config.topic_alias_maximum),
        server_keep_alive: Some(30),
        ..ConnAckProperties::default()
    };
    let expected = ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties,
    };
    assert_eq!(
        script.effects(),
        [send(Packet::ConnAck(Box::new(expected)))]
    );
    assert_eq!(script.connection.client_id(), &text("auto-1"));
    let silence = script.connection.next_timeout().expect("a keep alive") - script.now;
    assert_eq!(silence, Duration::from_secs(45));
}

#[test]
fn refused_connect_gets_the_code_of_its_version() {
    for (version, reason) in [
        (Version::V311, ReasonCode::NotAuthorized),
        (Version::V5, ReasonCode::Banned),
    ] {
        let mut script = Script::new(config());
        script.input(Packet::Connect(Box::new(connect(version))));
        script.connection.refuse_connect(script.now, reason);
        let close = Effect::Close {
            reason: CloseReason::Server(reason),
            session_expiry: SessionExpiry::AtClose,
        };
        assert_eq!(script.effects(), [conn_ack(false, reason), close]);
        assert!(script.connection.is_closed());
    }
}

#[test]
fn first_packet_that_is_not_connect_closes_without_an_answer() {
    for bytes in [
        &b"\x30\x05\x00\x01axx"[..],
        b"\xC0\x00",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03",
    ] {
        let mut script = Script::new(config());
        let (_, effects) = bytes_in(&mut script, bytes);
        let error = DecodeError::NotConnect {
            first_byte: bytes[0],
        };
        let close = Effect::Close {
            reason: CloseReason::Decode(error),
            session_expiry: SessionExpiry::AtClose,
        };
        assert_eq!(effects, [close]);
        assert_eq!(bytes_in(&mut script, b"\xC0\x00").0, Input::Closed);
    }
}

/// The version and reason of a CONNACK; `None` when nothing is sent.
type Answer = Option<(Version, ReasonCode)>;

#[test]
fn refused_first_packets_are_answered_in_the_version_of_the_client() {
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    let malformed = ReasonCode::MalformedPacket;
    let protocol = ReasonCode::ProtocolError;
    let cases: [(&[u8], Answer); 7] = [
        (
            b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x01c",
            Some((Version::V311, unsupported)),
        ),
        (
            b"\x10\x0E\x00\x04MQTT\x06\x02\x00\x3C\x00\x00\x01c",
            Some((Version::V5, unsupported)),
        ),
        (
            b"\x10\x0E\x00\x04MQTT\x05\x03\x00\x3C\x00\x00\x01c",
            Some((Version::V5, malformed)),
        ),
        (
            b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3C\x03\x21\x00\x00\x00\x01c",
            Some((Version::V5, protocol)),
        ),
        (b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x3C\x00\x01c", None),
        (b"\x10\x0D\x00\x04mqtt\x04\x02\x00\x3C\x00\x01c", None),
        (b"\x11\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c", None),
    ];
    for (bytes, answer) in cases {
        let mut script = Script::new(config());
        let (_, effects) = bytes_in(&mut script, bytes);
        match answer {
            Some((version, reason)) => {
                assert_eq!(effects[0], conn_ack(false, reason), "{bytes:?}");
                assert_eq!(script.connection.version(), version);
                assert_eq!(effects.len(), 2);
            }
            None => assert_eq!(effects.len(), 1, "{effects:?}"),
        }
        assert!(sent_and_closed(&effects).1);
    }
}

#[test]
fn client_without_identifier_needs_a_clean_session_in_3_1_1() {
    let mut packet = connect(Version::V311);
    packet.client_id = Text::new();
    packet.clean_start = false;
    let mut script = Script::new(config());
    let effects = script.input(Packet::Connect(Box::new(packet)));
    assert_eq!(
        effects[0],
        conn_ack(false, ReasonCode::ClientIdentifierNotValid)
    );
    assert!(sent_and_closed(&effects).1);
}

#[test]
fn extended_authentication_and_unavailable_retain_are_refused() {
    let mut packet = connect(Version::V5);
    packet.properties.authentication_method = Some(text("SCRAM"));
    let effects = Script::new(config()).input(Packet::Connect(Box::new(packet)));
    assert_eq!(
        effects[0],
        conn_ack(false, ReasonCode::BadAuthenticationMethod)
    );

    let mut packet = connect(Version::V5);
    packet.will = Some(Will {
        topic: TopicName::try_from("w").expect("valid name"),
        payload: Bytes::new(),
        qos: Qos::AtMostOnce,
        retain: true,
        properties: WillProperties::default(),
    });
    let config = Config {
        retain_available: false,
        ..config()
    };
    let effects = Script::new(config).input(Packet::Connect(Box::new(packet)));
    assert_eq!(effects[0], conn_ack(false, ReasonCode::RetainNotSupported));
}

#[test]
fn second_connect_is_a_protocol_error() {
    for version in [Version::V311, Version::V5] {
        let mut script = Script::open(version);
        let effects = script.input(Packet::Connect(Box::new(connect(version))));
        check_violation(&effects, version, ReasonCode::ProtocolError);
    }
}

#[test]
fn connect_that_does_not_come_in_time_closes_without_an_answer() {
    let mut script = Script::new(config());
    assert_eq!(script.pass(Duration::from_millis(9_999)), []);
    let close = Effect::Close {
        reason: CloseReason::ConnectTimeout,
        session_expiry: SessionExpiry::AtClose,
    };
    assert_eq!(script.pass(Duration::from_millis(1)), [close]);
    assert_eq!(script.connection.next_timeout(), None);
}

#[test]
fn packets_before_the_conn_ack_are_handled_after_it() {
    let mut script = Script::new(config());
    script.input(Packet::Connect(Box::new(connect(Version::V311))));
    script.check(Packet::PingReq, &[]);
    script.check(pub_rel(5), &[]);
    script
        .connection
        .accept_session(script.now, AcceptSession::default());
    let expected = [
        conn_ack(false, ReasonCode::Success),
        send(Packet::PingResp),
        send(pub_comp(5)),
    ];
    assert_eq!(script.effects(), expected);

    let mut script = Script::new(config());
    script.input(Packet::Connect(Box::new(connect(Version::V5))));
    let flood = (0..100).flat_map(|_| script.input(Packet::Publish(publish(Qos::AtMostOnce, 0))));
    let flood: Vec<Effect> = flood.collect();
    assert_eq!(flood[0], conn_ack(false, ReasonCode::QuotaExceeded));
    assert_eq!(flood.len(), 2);
}

#[test]
fn session_of_3_1_1_without_clean_session_never_expires_unless_capped() {
    for (cap, expected) in [
        (None, SessionExpiry::Never),
        (Some(60), SessionExpiry::After(Duration::from_secs(60))),
    ] {
        let config = Config {
            session_expiry_max: cap,
            ..config()
        };
        let mut packet = connect(Version::V311);
        packet.clean_start = false;
        packet.properties = ConnectProperties::default();
        let effects = Script::new(config).input(Packet::Connect(Box::new(packet)));
        let [Effect::OpenSession(open)] = &effects[..] else {
            panic!("expected an OpenSession, found {effects:?}");
        };
        assert_eq!(open.session_expiry, expected);
    }
}
