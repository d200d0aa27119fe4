//! How connections end: keep alive, DISCONNECT, wills, take-over, shutdown.

use std::time::Duration;

use bytes::Bytes;
use forebay_mqtt::packet::{
    Connect, Disconnect, DisconnectProperties, Packet, Qos, Version, Will, WillProperties,
};
use forebay_mqtt::session::{AcceptSession, CloseReason, Config, Effect, Outcome, SessionExpiry};
use forebay_mqtt::{ReasonCode, TopicName};

use crate::harness::{
    Script, check_violation, config, conn_ack, connect, disconnect, pub_ack, publish, send,
};

fn will(delay: Option<u32>) -> Will {
    Will {
        topic: TopicName::try_from("plant/press/state").expect("valid name"),
        payload: Bytes::from_static(b"gone"),
        qos: Qos::AtLeastOnce,
        retain: true,
        properties: WillProperties {
            will_delay_interval: delay,
            ..WillProperties::default()
        },
    }
}

fn open(connect: Connect) -> Script {
    Script::open_with(config(), connect, AcceptSession::default())
}

fn closed(reason: CloseReason, session_expiry: SessionExpiry) -> Effect {
    Effect::Close {
        reason,
        session_expiry,
    }
}

fn disconnect_packet(reason: ReasonCode, session_expiry_interval: Option<u32>) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        properties: DisconnectProperties {
            session_expiry_interval,
            ..DisconnectProperties::default()
        },
    })
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    for version in [Version::V311, Version::V5] {
        let mut packet = connect(version);
        packet.keep_alive = 10;
        let mut script = open(packet);
        assert_eq!(script.pass(Duration::from_millis(14_999)), []);
        script.check(Packet::PingReq, &[send(Packet::PingResp)]);
        assert_eq!(script.pass(Duration::from_millis(14_999)), []);
        let effects = script.pass(Duration::from_millis(1));
        check_violation(&effects, version, ReasonCode::KeepAliveTimeout);
        let close = closed(CloseReason::KeepAliveTimeout, SessionExpiry::AtClose);
        assert_eq!(effects.last(), Some(&close));
    }
}

#[test]
fn keep_alive_0_never_times_out() {
    let mut script = open(connect(Version::V311));
    assert_eq!(script.connection.next_timeout(), None);
    assert_eq!(script.pass(Duration::from_secs(1_000_000)), []);
}

#[test]
fn keep_alive_rests_while_the_client_is_not_read_from() {
    let mut packet = connect(Version::V311);
    packet.keep_alive = 10;
    let mut script = open(packet);
    let first = script.publish(publish(Qos::AtLeastOnce, 1));
    script.publish(publish(Qos::AtLeastOnce, 2));
    assert_eq!(script.pass(Duration::from_secs(100)), []);
    script.check_acknowledge(first, Outcome::Durable, &[send(pub_ack(1))]);
    assert_eq!(script.pass(Duration::from_millis(14_999)), []);
    assert_eq!(script.pass(Duration::from_millis(1)).len(), 1);
}

#[test]
fn normal_disconnect_discards_the_will_and_others_publish_it() {
    let cases = [
        (Some(ReasonCode::Success), false),
        (Some(ReasonCode::DisconnectWithWill), true),
        (Some(ReasonCode::UnspecifiedError), true),
        (None, true),
    ];
    for (reason, is_published) in cases {
        let mut packet = connect(Version::V5);
        packet.will = Some(will(None));
        let mut script = open(packet);
        let close_reason = match reason {
            Some(reason) => {
                script
                    .connection
                    .handle_packet(script.now, disconnect_packet(reason, None));
                CloseReason::ClientDisconnected(reason)
            }
            None => {
                script.connection.handle_connection_lost(script.now);
                CloseReason::ConnectionLost
            }
        };
        let fate = if is_published {
            Effect::PublishWill {
                will: will(None),
                delay: Duration::ZERO,
            }
        } else {
            Effect::DiscardWill
        };
        let expected = [fate, closed(close_reason, SessionExpiry::AtClose)];
        assert_eq!(script.effects(), expected);
    }
}

#[test]
fn will_waits_for_its_delay_but_not_beyond_the_session() {
    for (delay, expiry, expected) in [(10, 60, 10), (100, 60, 60), (10, 0, 0)] {
        let mut packet = connect(Version::V5);
        packet.will = Some(will(Some(delay)));
        packet.properties.session_expiry_interval = Some(expiry);
        let mut script = open(packet);
        script.connection.handle_connection_lost(script.now);
        let effect = script.connection.poll_effect();
        let expected = Effect::PublishWill {
            will: will(Some(delay)),
            delay: Duration::from_secs(expected),
        };
        assert_eq!(effect, Some(expected));
    }
}

#[test]
fn violation_publishes_the_will_after_the_disconnect() {
    let mut packet = connect(Version::V5);
    packet.will = Some(will(None));
    let mut script = open(packet);
    let effects = script.input(Packet::PingResp);
    assert_eq!(effects[0], disconnect(ReasonCode::ProtocolError));
    assert!(matches!(effects[1], Effect::PublishWill { .. }));
    assert!(matches!(effects[2], Effect::Close { .. }));
    assert_eq!(effects.len(), 3);
}

#[test]
fn disconnect_changes_the_session_expiry_within_the_cap() {
    let config = Config {
        session_expiry_max: Some(100),
        ..config()
    };
    for (asked, expected) in [
        (0, SessionExpiry::AtClose),
        (5, SessionExpiry::After(Duration::from_secs(5))),
        (u32::MAX, SessionExpiry::After(Duration::from_secs(100))),
    ] {
        let mut packet = connect(Version::V5);
        packet.properties.session_expiry_interval = Some(50);
        let mut script = Script::open_with(config.clone(), packet, AcceptSession::default());
        let reason = CloseReason::ClientDisconnected(ReasonCode::Success);
        let input = disconnect_packet(ReasonCode::Success, Some(asked));
        script.check(input, &[closed(reason, expected)]);
    }
}

#[test]
fn disconnect_cannot_make_a_session_persistent() {
    let mut script = open(connect(Version::V5));
    let effects = script.input(disconnect_packet(ReasonCode::Success, Some(1)));
    check_violation(&effects, Version::V5, ReasonCode::ProtocolError);
}

#[test]
fn take_over_and_shutdown_tell_a_client_of_5() {
    for version in [Version::V311, Version::V5] {
        let mut script = open(connect(version));
        script.connection.take_over(script.now);
        check_violation(&script.effects(), version, ReasonCode::SessionTakenOver);
        let mut script = open(connect(version));
        script.connection.shut_down(script.now);
        check_violation(&script.effects(), version, ReasonCode::ServerShuttingDown);
    }
}

#[test]
fn shutdown_while_a_session_is_opened_refuses_the_connection() {
    for version in [Version::V311, Version::V5] {
        let mut script = Script::new(config());
        script.input(Packet::Connect(Box::new(connect(version))));
        script.connection.shut_down(script.now);
        let reason = CloseReason::Server(ReasonCode::ServerShuttingDown);
        let expected = [
            conn_ack(false, ReasonCode::ServerUnavailable),
            closed(reason, SessionExpiry::AtClose),
        ];
        assert_eq!(script.effects(), expected);
    }
}

#[test]
fn closed_connection_ignores_everything() {
    let mut script = open(connect(Version::V5));
    let token = script.publish(publish(Qos::AtLeastOnce, 1));
    script.connection.handle_connection_lost(script.now);
    assert_eq!(script.effects().len(), 1);
    script.check_acknowledge(token, Outcome::Durable, &[]);
    script.check(Packet::PingReq, &[]);
    script.connection.shut_down(script.now);
    script
        .connection
        .accept_session(script.now, AcceptSession::default());
    script.connection.handle_connection_lost(script.now);
    assert_eq!(script.pass(Duration::from_secs(1_000)), []);
    assert!(script.connection.is_closed());
}
