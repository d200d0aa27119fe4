//! A client sends any bytes while the application answers in any order: the
//! session machine does not panic, sends only what can be written and read,
//! and is silent after its close.
#![no_main]

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use forebay_mqtt::packet::{PACKET_SIZE_MAX, PacketId, PublishProperties, Qos, decode};
use forebay_mqtt::session::{
    AcceptSession, Config, Connection, Cursor, Delivery, Effect, Input, Outcome, Token,
};
use forebay_mqtt::{ReasonCode, TopicName};
use libfuzzer_sys::fuzz_target;

/// Carries out effects without doing anything, and remembers what to answer.
#[derive(Default)]
struct Application {
    tokens: Vec<Token>,
    is_closed: bool,
    position: u64,
}

impl Application {
    fn carry_out(&mut self, now: Instant, connection: &mut Connection) {
        while let Some(effect) = connection.poll_effect() {
            assert!(!self.is_closed, "an effect follows the close");
            match effect {
                Effect::SendPacket(packet) => {
                    let mut out = BytesMut::new();
                    packet
                        .encode(connection.version(), &mut out)
                        .expect("the machine sends valid packets");
                    let again = decode(&mut out, connection.version(), PACKET_SIZE_MAX);
                    assert_eq!(again, Ok(Some(packet)));
                }
                Effect::OpenSession(_) => {
                    let accept = AcceptSession {
                        session_present: true,
                        received_qos2: PacketId::new(1).into_iter().collect(),
                        ..AcceptSession::default()
                    };
                    connection.accept_session(now, accept);
                }
                Effect::Publish { token, .. } => self.tokens.extend(token),
                Effect::ReleaseQos2 { token, .. }
                | Effect::Subscribe { token, .. }
                | Effect::Unsubscribe { token, .. }
                | Effect::RecordQos2Received { token, .. } => self.tokens.push(token),
                Effect::Close { .. } => self.is_closed = true,
                _ => {}
            }
        }
    }

    /// One step that the application takes of its own accord.
    fn act(&mut self, choice: u8, now: Instant, connection: &mut Connection) {
        match choice {
            0..=99 if !self.tokens.is_empty() => {
                let index = usize::from(choice) % self.tokens.len();
                let token = self.tokens.swap_remove(index);
                connection.acknowledge(now, token, Outcome::Durable);
            }
            100..=109 if !self.tokens.is_empty() => {
                let token = self.tokens.swap_remove(0);
                let reason = ReasonCode::QuotaExceeded;
                connection.acknowledge(now, token, Outcome::Refused { reason });
            }
            110..=219 if connection.can_deliver() > 0 => {
                self.position += 1;
                let delivery = Delivery {
                    topic: TopicName::try_from("a/b").expect("a valid name"),
                    payload: Bytes::from_static(b"1"),
                    qos: Qos::from_bits(choice % 3).expect("a valid QoS"),
                    retain: false,
                    properties: PublishProperties::default(),
                    cursor: Cursor {
                        stream: 0,
                        position: self.position,
                    },
                };
                connection
                    .deliver(now, delivery)
                    .expect("there is credit for a delivery");
            }
            220 => connection.take_over(now),
            _ => connection.handle_timeout(now),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let config = Config {
        receive_maximum: NonZeroU16::new(4).expect("not zero"),
        ..Config::default()
    };
    let mut connection = Connection::new(now, Arc::new(config));
    let mut application = Application::default();
    let mut input = BytesMut::new();
    // Each piece is a length, a choice of the application, and bytes.
    let mut rest = data;
    while let [len, choice, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        input.extend_from_slice(piece);
        while connection.handle_input(now, &mut input) == Input::Handled {
            application.carry_out(now, &mut connection);
        }
        application.act(*choice, now, &mut connection);
        application.carry_out(now, &mut connection);
        assert_eq!(application.is_closed, connection.is_closed());
        now += Duration::from_millis(u64::from(*choice));
    }
    connection.handle_connection_lost(now);
    application.carry_out(now, &mut connection);
    assert!(application.is_closed);
});
