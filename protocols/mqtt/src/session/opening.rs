//! From CONNECT to CONNACK (sections 3.1 and 3.2).

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::connection::{Connection, State};
use super::effect::{AcceptSession, CloseReason, Effect, OpenSession, SessionExpiry};
use crate::packet::{
    ConnAck, ConnAckProperties, Connect, DecodeError, PACKET_SIZE_MAX, Packet, PacketType, Version,
    Will, reason_is_allowed,
};
use crate::reason::ReasonCode;
use crate::text::Text;
use crate::topic::TopicName;

/// What the CONNECT said that matters later.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: Text,
    pub(super) will: Option<Will>,
    /// Session expiry in seconds, after the server's cap.
    pub(super) session_expiry: u32,
    /// Session expiry that the client asked for in CONNECT.
    session_expiry_asked: u32,
    /// Keep alive in seconds that is enforced; 0 is none.
    keep_alive: u16,
    /// Keep alive that the CONNACK announces because it differs.
    server_keep_alive: Option<u16>,
    /// Largest packet that the client accepts.
    pub(super) packet_size_max: u32,
    /// Whether reason strings may be sent on failures (section 3.1.2.11.7).
    pub(super) wants_reasons: bool,
    /// Whether the CONNACK is to carry response information
    /// (section 3.1.2.11.6).
    wants_response_information: bool,
}

impl Client {
    pub(super) fn unknown() -> Self {
        Self {
            id: Text::new(),
            will: None,
            session_expiry: 0,
            session_expiry_asked: 0,
            keep_alive: 0,
            server_keep_alive: None,
            packet_size_max: PACKET_SIZE_MAX,
            wants_reasons: false,
            wants_response_information: false,
        }
    }

    /// Returns the silence that is allowed: one and a half times the keep
    /// alive (section 3.1.2.10).
    pub(super) fn silence_max(&self) -> Option<Duration> {
        let keep_alive_ms = u64::from(self.keep_alive) * 1000;
        (keep_alive_ms > 0).then(|| Duration::from_millis(keep_alive_ms + keep_alive_ms / 2))
    }

    /// Returns how long the will waits: the will delay, but not beyond the
    /// end of the session (section 3.1.3.2.2).
    pub(super) fn will_delay(&self, will: &Will) -> Duration {
        let delay = will.properties.will_delay_interval.unwrap_or(0);
        Duration::from_secs(u64::from(delay.min(self.session_expiry)))
    }

    /// Takes the session expiry of a DISCONNECT; `false` when it is not
    /// allowed, because the CONNECT asked for none (section 3.14.2.2.2).
    pub(super) fn change_session_expiry(&mut self, seconds: u32, cap: Option<u32>) -> bool {
        if self.session_expiry_asked == 0 && seconds != 0 {
            return false;
        }
        self.session_expiry = capped(seconds, cap);
        true
    }
}

fn capped(seconds: u32, cap: Option<u32>) -> u32 {
    cap.map_or(seconds, |cap| seconds.min(cap))
}

impl Connection {
    /// Handles the first CONNECT (section 3.1.4).
    pub(super) fn handle_connect(&mut self, connect: Connect) {
        self.version = connect.version;
        self.state = State::Opening;
        // A refusal obeys them as well.
        self.client.packet_size_max = connect
            .properties
            .maximum_packet_size
            .map_or(PACKET_SIZE_MAX, NonZeroU32::get);
        self.client.wants_reasons = connect.version == Version::V5
            && connect.properties.request_problem_information != Some(false);
        if let Some((reason, what)) = self.objection(&connect) {
            self.refuse(reason, CloseReason::Violation { reason, what });
            return;
        }
        let asked = match connect.version {
            Version::V311 if connect.clean_start => 0,
            Version::V311 => u32::MAX,
            Version::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
        };
        let session_expiry = capped(asked, self.config.session_expiry_max);
        let keep_alive_max = match connect.version {
            Version::V311 => None,
            Version::V5 => self.config.keep_alive_max,
        };
        let server_keep_alive = keep_alive_max
            .map(|max| max.get())
            .filter(|max| connect.keep_alive == 0 || connect.keep_alive > *max);
        let properties = connect.properties;
        self.outbound.set_limit(
            properties
                .receive_maximum
                .map_or(u16::MAX, |max| max.get())
                .min(self.config.inflight_maximum.get()),
        );
        self.client = Client {
            id: connect.client_id.clone(),
            will: connect.will.clone(),
            session_expiry,
            session_expiry_asked: asked,
            keep_alive: server_keep_alive.unwrap_or(connect.keep_alive),
            server_keep_alive,
            packet_size_max: self.client.packet_size_max,
            wants_reasons: self.client.wants_reasons,
            wants_response_information: properties.request_response_information == Some(true),
        };
        self.aliases_out
            .set_maximum(properties.topic_alias_maximum.unwrap_or(0));
        self.push_effect(Effect::OpenSession(Box::new(OpenSession {
            version: connect.version,
            client_id: connect.client_id,
            clean_start: connect.clean_start,
            session_expiry: SessionExpiry::from_seconds(session_expiry),
            user_name: connect.user_name,
            password: connect.password,
            will: connect.will,
            user_properties: properties.user_properties,
        })));
    }

    fn objection(&self, connect: &Connect) -> Option<(ReasonCode, &'static str)> {
        let is_v311 = connect.version == Version::V311;
        if is_v311 && connect.client_id.is_empty() && !connect.clean_start {
            return Some((
                ReasonCode::ClientIdentifierNotValid,
                "client identifier is empty and clean session is 0 (3.1.1 section 3.1.3.1)",
            ));
        }
        if connect.properties.authentication_method.is_some() {
            return Some((
                ReasonCode::BadAuthenticationMethod,
                "extended authentication is not served (section 4.12)",
            ));
        }
        let is_retained = connect.will.as_ref().is_some_and(|will| will.retain);
        if is_retained && !self.config.retain_available {
            return Some((
                ReasonCode::RetainNotSupported,
                "retained messages are not served (section 3.2.2.3.5)",
            ));
        }
        None
    }

    pub(super) fn accept_opening(&mut self, now: Instant, accept: AcceptSession) {
        self.state = State::Open;
        self.last_received = now;
        self.inbound.restore(accept.received_qos2);
        if let Some(id) = &accept.assigned_client_id {
            self.client.id = id.clone();
        }
        let properties = match self.version {
            Version::V311 => ConnAckProperties::default(),
            Version::V5 => self.announcements(accept.assigned_client_id),
        };
        let mut packet = Packet::ConnAck(Box::new(ConnAck {
            session_present: accept.session_present,
            reason: ReasonCode::Success,
            properties,
        }));
        if !self.client_takes(&packet)
            && let Packet::ConnAck(ack) = &mut packet
        {
            ack.properties.response_information = None;
        }
        if self.client_takes(&packet) {
            self.push_effect(Effect::SendPacket(packet));
            return;
        }
        // Nothing else may be sent before a CONNACK \[MQTT-3.14.0-1\].
        let reason = ReasonCode::PacketTooLarge;
        let what =
            "the CONNACK is larger than the client's maximum packet size (section 3.1.2.11.4)";
        self.close(CloseReason::Violation { reason, what });
    }

    /// Says whether the packet is within the client's maximum packet size.
    fn client_takes(&self, packet: &Packet) -> bool {
        packet.encoded_len(self.version) <= self.client.packet_size_max as usize
    }

    /// What the CONNACK tells a client of MQTT 5 (section 3.2.2.3).
    fn announcements(&self, assigned_client_identifier: Option<Text>) -> ConnAckProperties {
        let expiry = self.client.session_expiry;
        let is_capped = expiry != self.client.session_expiry_asked;
        ConnAckProperties {
            session_expiry_interval: is_capped.then_some(expiry),
            receive_maximum: Some(self.config.receive_maximum),
            retain_available: (!self.config.retain_available).then_some(false),
            maximum_packet_size: Some(self.config.packet_size_max),
            assigned_client_identifier,
            topic_alias_maximum: Some(self.config.topic_alias_maximum),
            response_information: self.response_information(),
            server_keep_alive: self.client.server_keep_alive,
            ..ConnAckProperties::default()
        }
    }

    /// The basis of response topics for a client that asked for it; none for
    /// an identifier that cannot be part of a topic name.
    fn response_information(&self) -> Option<Text> {
        let prefix = self.config.response_prefix.as_ref()?;
        let is_asked = self.client.wants_response_information;
        let topic = format!("{}/{}", prefix.as_str(), self.client.id);
        let topic = TopicName::try_from(topic.as_str()).ok()?;
        is_asked.then(|| topic.text().clone())
    }

    /// Sends a refusing CONNACK and closes (section 3.2.2.2). 3.1.1 gets a
    /// CONNACK only for what its return codes can say.
    pub(super) fn refuse(&mut self, reason: ReasonCode, close_reason: CloseReason) {
        let reason = if reason_is_allowed(PacketType::ConnAck, reason.to_byte()) {
            reason
        } else if reason == ReasonCode::ServerShuttingDown {
            ReasonCode::ServerUnavailable
        } else {
            ReasonCode::UnspecifiedError
        };
        let mut packet = Packet::ConnAck(Box::new(ConnAck {
            session_present: false,
            reason,
            properties: self.excuse(&close_reason),
        }));
        if !self.client_takes(&packet)
            && let Packet::ConnAck(ack) = &mut packet
        {
            // The words may be left out \[MQTT-3.2.2-19\].
            ack.properties.reason_string = None;
        }
        let is_sayable = self.version == Version::V5 || reason != ReasonCode::MalformedPacket;
        if is_sayable && self.client_takes(&packet) {
            self.push_effect(Effect::SendPacket(packet));
        }
        self.close(close_reason);
    }

    fn excuse(&self, close_reason: &CloseReason) -> ConnAckProperties {
        let explanation = close_reason.explanation();
        ConnAckProperties {
            reason_string: explanation.filter(|_| self.client.wants_reasons),
            ..ConnAckProperties::default()
        }
    }

    /// Answers a first packet that is not an acceptable CONNECT. What is sent
    /// depends on whether the client can read it (sections 3.1.2.2 and 4.13).
    pub(super) fn refuse_first_packet(&mut self, error: &DecodeError) {
        let close_reason = CloseReason::Decode(error.clone());
        match error {
            DecodeError::UnsupportedLevel { level } => {
                let is_older = *level < Version::V5.level();
                self.version = if is_older { Version::V311 } else { Version::V5 };
                self.refuse(ReasonCode::UnsupportedProtocolVersion, close_reason);
            }
            DecodeError::Connect {
                version: Version::V5,
                cause,
            } => {
                self.version = Version::V5;
                self.refuse(cause.reason(), close_reason);
            }
            _ => self.close(close_reason),
        }
    }
}
