//! The connection: its verbs and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::aliases::{InboundAliases, OutboundAliases};
use super::config::Config;
use super::effect::{
    AcceptSession, CloseReason, DeliverError, Delivery, Effect, Inflight, Outcome, ResumedDelivery,
    SessionExpiry, Token,
};
use super::inbound::Inbound;
use super::opening::Client;
use super::outbound::Outbound;
use crate::packet::{
    DecodeError, Disconnect, Packet, PacketType, Version, decode, reason_is_allowed,
};
use crate::reason::ReasonCode;
use crate::text::Text;

/// Packets kept while the session is being opened. A client may send before
/// it has the CONNACK (section 3.1.4); `handle_input` leaves such packets in
/// the buffer, so this only bounds a caller of `handle_packet`.
const DEFERRED_MAX: usize = 32;

/// Type 1 and no flags (section 3.1.1).
const CONNECT_FIRST_BYTE: u8 = 0x10;

/// The server's side of one network connection (section 4).
///
/// See the [module documentation](super) for the order of calls. A closed
/// connection ignores every input and every command, so an answer that comes
/// late does no harm.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Arc<Config>,
    pub(super) state: State,
    pub(super) version: Version,
    pub(super) client: Client,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) aliases_in: InboundAliases,
    pub(super) aliases_out: OutboundAliases,
    pub(super) last_received: Instant,
    effects: VecDeque<Effect>,
    deferred: VecDeque<Packet>,
    last_token: u64,
}

/// What became of the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "bytes are left in the buffer unless it is incomplete or closed"]
pub enum Input {
    /// A packet was taken off the buffer. Poll the effects, then call again.
    Handled,
    /// The buffer holds no complete packet. Read more.
    Incomplete,
    /// No packet is taken for the time being, see
    /// [`Connection::accepts_input`]. Do not read until it is.
    Paused,
    /// The connection is closed; the buffer is of no use.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    AwaitingConnect { deadline: Instant },
    Opening,
    Open,
    Closed,
}

/// A broken rule: the code for the client and the sentence for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Violation {
    pub(super) reason: ReasonCode,
    pub(super) what: &'static str,
}

impl Connection {
    /// Makes the machine of a network connection that was just accepted.
    pub fn new(now: Instant, config: Arc<Config>) -> Self {
        let deadline = now + config.connect_timeout;
        Self {
            state: State::AwaitingConnect { deadline },
            version: Version::V5,
            client: Client::unknown(),
            inbound: Inbound::new(config.receive_maximum.get()),
            outbound: Outbound::new(),
            aliases_in: InboundAliases::default(),
            aliases_out: OutboundAliases::default(),
            last_received: now,
            effects: VecDeque::new(),
            deferred: VecDeque::new(),
            last_token: 0,
            config,
        }
    }

    // Input.

    /// Takes at most one packet off the front of `input` and handles it.
    ///
    /// One packet per call keeps the effects of a full buffer bounded: call it
    /// in a loop and poll the effects in between, until it says something else
    /// than [`Input::Handled`].
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) -> Input {
        if self.state == State::Closed {
            return Input::Closed;
        }
        if !self.accepts_input() {
            return Input::Paused;
        }
        let packet = self
            .check_first_byte(input)
            .and_then(|()| decode(input, self.version, self.config.packet_size_max.get()));
        match packet {
            Ok(None) => Input::Incomplete,
            Ok(Some(packet)) => {
                self.handle_packet(now, packet);
                Input::Handled
            }
            Err(error) => {
                self.handle_decode_error(now, &error);
                Input::Handled
            }
        }
    }

    /// Handles a packet that the caller decoded.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet) {
        match (self.state, packet) {
            (State::Closed, _) => {}
            (State::AwaitingConnect { .. }, Packet::Connect(connect)) => {
                self.last_received = now;
                self.handle_connect(*connect);
            }
            (State::AwaitingConnect { .. }, packet) => {
                let first_byte = (packet.packet_type() as u8) << 4;
                let error = DecodeError::NotConnect { first_byte };
                self.close(CloseReason::Decode(error));
            }
            (State::Opening, packet) => self.defer(packet),
            (State::Open, packet) => {
                self.last_received = now;
                if let Err(violation) = self.handle_open(packet) {
                    let Violation { reason, what } = violation;
                    self.close_with(reason, CloseReason::Violation { reason, what });
                }
            }
        }
    }

    /// Handles bytes that are not a packet: MQTT 5 is told the reason, and the
    /// connection is closed (section 4.13.1).
    pub fn handle_decode_error(&mut self, _now: Instant, error: &DecodeError) {
        match self.state {
            State::Closed => {}
            State::AwaitingConnect { .. } => self.refuse_first_packet(error),
            State::Opening | State::Open => {
                self.close_with(error.reason(), CloseReason::Decode(error.clone()));
            }
        }
    }

    /// Handles the end of the network connection without a DISCONNECT.
    pub fn handle_connection_lost(&mut self, _now: Instant) {
        self.close(CloseReason::ConnectionLost);
    }

    /// Handles the passing of [`Connection::next_timeout`]; too early a call
    /// does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::AwaitingConnect { .. } => self.close(CloseReason::ConnectTimeout),
            State::Opening | State::Closed => {}
            State::Open => {
                self.close_with(ReasonCode::KeepAliveTimeout, CloseReason::KeepAliveTimeout);
            }
        }
    }

    // Commands.

    /// Consents to [`Effect::OpenSession`]: the CONNACK leaves. For a
    /// persistent session call it when the session record is durable.
    pub fn accept_session(&mut self, now: Instant, accept: AcceptSession) {
        if self.state != State::Opening {
            return;
        }
        self.accept_opening(now, accept);
        while let Some(packet) = self.deferred.pop_front() {
            self.handle_packet(now, packet);
        }
    }

    /// Refuses [`Effect::OpenSession`] with a failure code: a refusing CONNACK
    /// leaves and the connection is closed (section 3.2.2.2).
    pub fn refuse_connect(&mut self, _now: Instant, reason: ReasonCode) {
        if self.state == State::Opening {
            self.refuse(reason, CloseReason::Server(reason));
        }
    }

    /// Answers an effect with a token. A token is answered once, in any order.
    ///
    /// [`Outcome::Durable`] grants a subscription request as it was asked.
    pub fn acknowledge(&mut self, now: Instant, token: Token, outcome: Outcome) {
        if self.state == State::Closed {
            return;
        }
        let was_paused = !self.accepts_input();
        if !self.settle_inbound(token, outcome) {
            self.settle_outbound(token, outcome);
        }
        self.restart_keep_alive(now, was_paused);
    }

    /// Answers [`Effect::Subscribe`] with one result per subscription in it:
    /// the granted QoS or a failure (section 3.9.3). For a persistent session
    /// call it when the subscriptions are durable.
    pub fn acknowledge_subscribe(&mut self, now: Instant, token: Token, results: &[ReasonCode]) {
        if self.state == State::Closed {
            return;
        }
        let was_paused = !self.accepts_input();
        self.settle_subscribe(token, results);
        self.restart_keep_alive(now, was_paused);
    }

    /// Answers [`Effect::Unsubscribe`] with one result per filter
    /// (section 3.11.3).
    pub fn acknowledge_unsubscribe(&mut self, now: Instant, token: Token, results: &[ReasonCode]) {
        if self.state == State::Closed {
            return;
        }
        let was_paused = !self.accepts_input();
        self.settle_unsubscribe(token, results);
        self.restart_keep_alive(now, was_paused);
    }

    /// Sends a message to the client. A QoS 0 message is done with it; one of
    /// QoS 1 or 2 ends with [`Effect::CompleteDelivery`]. Either may end with
    /// [`Effect::DropDelivery`].
    ///
    /// # Errors
    ///
    /// Refuses a QoS 1 or 2 message without credit, see
    /// [`Connection::can_deliver`], and any message while no session is open.
    pub fn deliver(&mut self, _now: Instant, delivery: Delivery) -> Result<(), DeliverError> {
        if self.state != State::Open {
            return Err(DeliverError::NotOpen);
        }
        self.deliver_open(delivery)
    }

    /// Repeats the unfinished deliveries of a resumed session, in the order
    /// given, under their packet identifiers: PUBLISH with DUP, or PUBREL
    /// (section 4.4). Call it once, after
    /// [`Connection::accept_session`] and before the first
    /// [`Connection::deliver`], so that identifiers do not collide. What the
    /// client's receive maximum does not let through is sent later.
    pub fn resume(&mut self, _now: Instant, deliveries: Vec<ResumedDelivery>) {
        if self.state == State::Open {
            self.resume_open(deliveries);
        }
    }

    /// Ends the connection from the server's side: a client of MQTT 5 gets
    /// DISCONNECT with the reason, or a refusing CONNACK while its session is
    /// being opened. A will is published, as only a client's DISCONNECT
    /// discards it (section 3.1.2.5).
    pub fn disconnect(&mut self, _now: Instant, reason: ReasonCode) {
        self.close_with(reason, CloseReason::Server(reason));
    }

    /// Ends the connection because another one took its session over
    /// (section 3.1.4, reason 0x8E).
    pub fn take_over(&mut self, now: Instant) {
        self.disconnect(now, ReasonCode::SessionTakenOver);
    }

    /// Ends the connection because the server stops (reason 0x8B).
    pub fn shut_down(&mut self, now: Instant) {
        self.disconnect(now, ReasonCode::ServerShuttingDown);
    }

    /// Says that the client was not read from up to `now`: its keep alive
    /// counts from here.
    pub fn rested(&mut self, now: Instant) {
        self.last_received = self.last_received.max(now);
    }

    // Effects.

    /// Returns the next effect; `None` until the next input or command.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    // Getters.

    /// Returns when [`Connection::handle_timeout`] is to be called.
    ///
    /// While input is paused the keep alive rests, because the client's
    /// packets are waiting unread.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::AwaitingConnect { deadline } => Some(deadline),
            State::Opening | State::Closed => None,
            State::Open if !self.accepts_input() => None,
            State::Open => Some(self.last_received + self.client.silence_max()?),
        }
    }

    /// Returns the version that packets are written in. Before CONNECT it is
    /// MQTT 5.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the client identifier, also the assigned one; empty before.
    pub fn client_id(&self) -> &Text {
        &self.client.id
    }

    /// Says whether the session is open: CONNACK was sent, and no end.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Says whether the connection is closed; [`Effect::Close`] may still be
    /// among the effects.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Says whether a packet would be handled: not while the session is being
    /// opened, and not while as many answers wait for the application as
    /// [`Config::receive_maximum`] allows. When it is `false`, do not read
    /// from the network: that is the back-pressure on a 3.1.1 client.
    pub fn accepts_input(&self) -> bool {
        match self.state {
            State::AwaitingConnect { .. } => true,
            State::Opening | State::Closed => false,
            State::Open => self.inbound.has_room(self.version),
        }
    }

    /// Returns how many QoS 1 and 2 messages [`Connection::deliver`] takes:
    /// the lower of the client's receive maximum and
    /// [`Config::inflight_maximum`], less what is in flight (section 4.9).
    pub fn can_deliver(&self) -> usize {
        if self.state == State::Open {
            self.outbound.credit()
        } else {
            0
        }
    }

    /// Returns how many QoS 1 and 2 messages may be in flight: the lower of
    /// the client's receive maximum and [`Config::inflight_maximum`].
    pub fn inflight_limit(&self) -> usize {
        self.outbound.limit()
    }

    /// Returns the deliveries in flight in the order in which they were sent,
    /// to be persisted with the session. Also after the connection closed.
    pub fn inflight(&self) -> Vec<Inflight> {
        self.outbound.inflight()
    }

    // Inner workings that the other parts of the machine share.

    pub(super) fn push_effect(&mut self, effect: Effect) {
        if self.state != State::Closed {
            self.effects.push_back(effect);
        }
    }

    /// Sends a packet that is not a delivery. An answer that the client cannot
    /// take ends the connection: nothing says that an answer may be left out
    /// (section 3.1.2.11.4).
    pub(super) fn send(&mut self, mut packet: Packet) {
        let limit = self.client.packet_size_max as usize;
        if packet.encoded_len(self.version) > limit
            && let Packet::PubAck(ack) | Packet::PubRec(ack) = &mut packet
        {
            // The words are the part that may be left out \[MQTT-3.4.2-2\].
            ack.properties.reason_string = None;
        }
        if packet.encoded_len(self.version) <= limit {
            self.push_effect(Effect::SendPacket(packet));
            return;
        }
        let reason = ReasonCode::PacketTooLarge;
        let what = "an answer is larger than the client's maximum packet size (section 3.1.2.11.4)";
        self.close_with(reason, CloseReason::Violation { reason, what });
    }

    pub(super) fn next_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    /// Tells a client of MQTT 5 the reason, then closes.
    pub(super) fn close_with(&mut self, reason: ReasonCode, close_reason: CloseReason) {
        match self.state {
            State::Closed => {}
            State::AwaitingConnect { .. } => self.close(close_reason),
            State::Opening => self.refuse(reason, close_reason),
            State::Open => {
                if self.version == Version::V5 {
                    self.send_disconnect(reason, &close_reason);
                }
                self.close(close_reason);
            }
        }
    }

    /// Sends DISCONNECT, with a text for a human if it fits
    /// \[MQTT-3.14.2-3\], or nothing if not even the code fits.
    fn send_disconnect(&mut self, reason: ReasonCode, close_reason: &CloseReason) {
        let is_allowed = reason_is_allowed(PacketType::Disconnect, reason.to_byte());
        let mut disconnect = Disconnect::new(if is_allowed {
            reason
        } else {
            ReasonCode::UnspecifiedError
        });
        let limit = self.client.packet_size_max as usize;
        if self.client.wants_reasons {
            disconnect.properties.reason_string = close_reason.explanation();
        }
        for _ in 0..2 {
            let packet = Packet::Disconnect(disconnect.clone());
            if packet.encoded_len(self.version) <= limit {
                self.push_effect(Effect::SendPacket(packet));
                return;
            }
            disconnect.properties.reason_string = None;
        }
    }

    /// Ends the machine: the fate of the will, then the last effect.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        if self.state == State::Open
            && let Some(will) = self.client.will.take()
        {
            let is_discarded =
                matches!(reason, CloseReason::ClientDisconnected(ReasonCode::Success));
            let delay = self.client.will_delay(&will);
            self.push_effect(if is_discarded {
                Effect::DiscardWill
            } else {
                Effect::PublishWill { will, delay }
            });
        }
        let session_expiry = SessionExpiry::from_seconds(self.client.session_expiry);
        self.push_effect(Effect::Close {
            reason,
            session_expiry,
        });
        self.state = State::Closed;
        self.deferred.clear();
    }

    /// Another first packet than CONNECT is refused by its first byte
    /// \[MQTT-3.1.0-1\], before anything is waited for.
    fn check_first_byte(&self, input: &BytesMut) -> Result<(), DecodeError> {
        let is_first = matches!(self.state, State::AwaitingConnect { .. });
        match input.first().copied() {
            Some(first_byte) if is_first && first_byte != CONNECT_FIRST_BYTE => {
                Err(DecodeError::NotConnect { first_byte })
            }
            _ => Ok(()),
        }
    }

    fn defer(&mut self, packet: Packet) {
        if self.deferred.len() < DEFERRED_MAX {
            self.deferred.push_back(packet);
            return;
        }
        let reason = ReasonCode::QuotaExceeded;
        let what = "too many packets came before the CONNACK (section 3.1.4)";
        self.refuse(reason, CloseReason::Violation { reason, what });
    }

    fn handle_open(&mut self, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Publish(publish) => self.handle_publish(publish)?,
            Packet::PubAck(ack) => self.handle_puback(&ack)?,
            Packet::PubRec(ack) => self.handle_pubrec(&ack)?,
            Packet::PubRel(ack) => self.handle_pubrel(ack.packet_id)?,
            Packet::PubComp(ack) => self.handle_pubcomp(&ack)?,
            Packet::Subscribe(subscribe) => self.handle_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe),
            Packet::PingReq => self.send(Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(&disconnect)?,
            Packet::Connect(_) => {
                return Err(protocol_error("a second CONNECT came (section 3.1)"));
            }
            Packet::Auth(_) => {
                return Err(protocol_error(
                    "AUTH came without an authentication method in CONNECT (section 4.12)",
                ));
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(protocol_error(
                    "a packet came that only servers send (section 2.1.2)",
                ));
            }
        }
        Ok(())
    }

    /// Handles DISCONNECT (section 3.14.4).
    fn handle_disconnect(&mut self, disconnect: &Disconnect) -> Result<(), Violation> {
        if let Some(seconds) = disconnect.properties.session_expiry_interval {
            let cap = self.config.session_expiry_max;
            if !self.client.change_session_expiry(seconds, cap) {
                return Err(protocol_error(
                    "session expiry is set in DISCONNECT and was 0 in CONNECT (section 3.14.2.2.2)",
                ));
            }
        }
        self.close(CloseReason::ClientDisconnected(disconnect.reason));
        Ok(())
    }

    fn restart_keep_alive(&mut self, now: Instant, was_paused: bool) {
        if was_paused && self.accepts_input() {
            self.last_received = now;
        }
    }
}

fn protocol_error(what: &'static str) -> Violation {
    Violation {
        reason: ReasonCode::ProtocolError,
        what,
    }
}
