//! What a connection asks of the application, and the application's answers.

use std::time::Duration;

use bytes::Bytes;

use crate::packet::{DecodeError, Publish};
use crate::packet::{
    Packet, PacketId, PublishProperties, Qos, Subscription, SubscriptionId, Version, Will,
};
use crate::reason::ReasonCode;
use crate::text::Text;
use crate::topic::{TopicFilter, TopicName};

/// Names a request that the application answers, unique per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(super) u64);

/// Names the place of a message in the application's log. The connection
/// hands it back and does not look into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// Which stream of the subscription, as the application numbers them.
    pub stream: u64,
    /// Position in the stream.
    pub position: u64,
}

/// What the application has to do.
///
/// Effects with a `token` are answered: publishes, releases and receipts by
/// [`Connection::acknowledge`](super::Connection::acknowledge), subscriptions
/// by `acknowledge_subscribe` and `acknowledge_unsubscribe`. After
/// [`Effect::Close`] nothing follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Encode the packet in [`Connection::version`](super::Connection::version)
    /// and send it.
    SendPacket(Packet),
    /// Authenticate the client, end its older connection, load or make its
    /// session (section 3.1.4), then answer with `accept_session` or
    /// `refuse_connect`. CONNACK waits for the answer.
    OpenSession(Box<OpenSession>),
    /// Append the message to the log.
    ///
    /// With a token (QoS 1 and 2) acknowledge it when it is durable; for
    /// QoS 2 the packet identifier is durable with it, as a received one of
    /// the session. Without a token (QoS 0) there is nothing to answer.
    Publish {
        /// The request; `None` for QoS 0.
        token: Option<Token>,
        /// The message as received.
        publish: Publish,
    },
    /// Forget a received QoS 2 packet identifier, durably, then acknowledge;
    /// PUBCOMP waits for it (section 4.3.3).
    ReleaseQos2 {
        /// The request.
        token: Token,
        /// The identifier to forget.
        packet_id: PacketId,
    },
    /// Make the subscriptions, durably when the session is persistent, then
    /// answer with `acknowledge_subscribe` (section 3.8.4). Some may be shared
    /// ones (section 4.8.2).
    Subscribe {
        /// The request.
        token: Token,
        /// What is asked for, in order; at least one.
        subscriptions: Vec<Subscription>,
        /// Identifier for the deliveries of these subscriptions.
        identifier: Option<SubscriptionId>,
    },
    /// End the subscriptions, durably when the session is persistent, then
    /// answer with `acknowledge_unsubscribe` (section 3.10.4).
    Unsubscribe {
        /// The request.
        token: Token,
        /// The filters, in order; at least one.
        filters: Vec<TopicFilter>,
    },
    /// The client has the QoS 2 message: write down, durably, that only its
    /// release is left to do, then acknowledge; PUBREL waits for it
    /// (section 4.3.3).
    RecordQos2Received {
        /// The request.
        token: Token,
        /// Place of the message.
        cursor: Cursor,
        /// Identifier of the delivery.
        packet_id: PacketId,
    },
    /// The delivery is done with: the client acknowledged it, or refused it
    /// for good. The session's cursor may move past it.
    CompleteDelivery {
        /// Place of the message.
        cursor: Cursor,
        /// Identifier of the delivery.
        packet_id: PacketId,
        /// The client's reason code.
        reason: ReasonCode,
    },
    /// The delivery was not sent and never will be (section 3.1.2.11.4); the
    /// session's cursor may move past it.
    DropDelivery {
        /// Place of the message.
        cursor: Cursor,
        /// Why.
        reason: DropReason,
    },
    /// Publish the will after `delay`, unless the session is resumed by
    /// another connection before (section 3.1.3.2.2).
    PublishWill {
        /// The will of the CONNECT.
        will: Will,
        /// Time to wait: the will delay, or the session expiry if shorter.
        delay: Duration,
    },
    /// Forget the will, it is not to be published: the client disconnected
    /// with reason 0x00 (section 3.14.4).
    DiscardWill,
    /// Send what is still to be sent, close the network connection, and keep
    /// the session for `session_expiry`. Always the last effect.
    Close {
        /// Why the connection ends.
        reason: CloseReason,
        /// How long the session outlives the connection (section 3.1.2.11.2).
        session_expiry: SessionExpiry,
    },
}

/// What a CONNECT asks for (section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The protocol version.
    pub version: Version,
    /// Client identifier. When it is empty the application makes one up and
    /// tells it in [`AcceptSession::assigned_client_id`].
    pub client_id: Text,
    /// Whether an existing session is discarded (section 3.1.2.4).
    pub clean_start: bool,
    /// How long the session outlives the connection, after the server's cap.
    pub session_expiry: SessionExpiry,
    /// User name.
    pub user_name: Option<Text>,
    /// Password.
    pub password: Option<Bytes>,
    /// The will, to be kept with the session so that it survives a restart.
    pub will: Option<Will>,
    /// User properties of the CONNECT.
    pub user_properties: Vec<(Text, Text)>,
}

/// The application's consent to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AcceptSession {
    /// Whether a kept session is resumed; implies that its subscriptions are
    /// there (section 3.2.2.1.1).
    pub session_present: bool,
    /// The identifier for a client that came without one (section 3.1.3.1).
    pub assigned_client_id: Option<Text>,
    /// Packet identifiers of QoS 2 messages that were received and not yet
    /// released in the resumed session (section 4.1).
    pub received_qos2: Vec<PacketId>,
}

/// The application's answer to a request with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The cause is on disk and visible; the acknowledgement may leave.
    Durable,
    /// The request is refused for good and nothing was kept of it. MQTT 5
    /// acknowledges with the reason, or disconnects where the acknowledgement
    /// cannot carry it; 3.1.1 closes the connection without an answer.
    Refused {
        /// Why; a failure code.
        reason: ReasonCode,
    },
}

/// A message for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Topic.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// QoS of the delivery: the lower of the message's and the
    /// subscription's (section 3.8.4).
    pub qos: Qos,
    /// Retain flag of the delivery (section 3.3.1.3).
    pub retain: bool,
    /// Properties, subscription identifiers included; not sent to 3.1.1. The
    /// message expiry is what remains of it (section 3.3.2.3.3).
    pub properties: PublishProperties,
    /// Place of the message, handed back when the delivery is done.
    pub cursor: Cursor,
}

/// Says why a delivery was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// As many deliveries are in flight as the client takes; try again after
    /// the next [`Effect::CompleteDelivery`].
    #[error("{inflight} deliveries are in flight, the client takes {limit}")]
    NoCredit {
        /// Deliveries in flight.
        inflight: usize,
        /// Deliveries that the client takes.
        limit: usize,
    },
    /// The session is not open, or the connection is closed.
    #[error("connection has no open session")]
    NotOpen,
}

/// Why a delivery was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The packet is larger than the client accepts, or than MQTT can say.
    TooLarge {
        /// Bytes of the packet.
        size: usize,
        /// Bytes that the client accepts.
        limit: u32,
    },
    /// The message cannot be written as a packet.
    Unencodable,
}

/// A delivery that the client has not finished (section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inflight {
    /// Identifier of the delivery.
    pub packet_id: PacketId,
    /// Place of the message.
    pub cursor: Cursor,
    /// How far it is.
    pub stage: InflightStage,
}

/// How far an unfinished delivery is (section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflightStage {
    /// PUBLISH was sent with this QoS and not acknowledged.
    Published(Qos),
    /// PUBREC came; PUBREL was sent or is about to be, and not answered.
    Received,
}

/// An unfinished delivery of a resumed session, with what is needed to repeat
/// it (section 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumedDelivery {
    /// The identifier under which it was sent.
    pub packet_id: PacketId,
    /// What is to be repeated.
    pub stage: ResumedStage,
}

/// What is repeated of an unfinished delivery (section 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and there are few"
)]
pub enum ResumedStage {
    /// Send the PUBLISH again, with DUP. The QoS is 1 or 2.
    Publish(Delivery),
    /// Send the PUBREL again.
    Release {
        /// Place of the message.
        cursor: Cursor,
    },
}

impl CloseReason {
    /// Returns a sentence for the person who looks for the mistake: there is
    /// one when the client made it.
    pub(super) fn explanation(&self) -> Option<Text> {
        match self {
            Self::Decode(error) => Text::try_from(error.to_string()).ok(),
            Self::Violation { what, .. } => Some(Text::from_static(what)),
            _ => None,
        }
    }
}

/// How long a session outlives its connection (section 3.1.2.11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionExpiry {
    /// The session ends with the connection.
    AtClose,
    /// The session ends this long after the connection.
    After(Duration),
    /// The session does not end by itself.
    Never,
}

impl SessionExpiry {
    /// Returns the expiry of a session expiry interval in seconds.
    pub const fn from_seconds(seconds: u32) -> Self {
        match seconds {
            0 => Self::AtClose,
            u32::MAX => Self::Never,
            seconds => Self::After(Duration::from_secs(seconds as u64)),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent DISCONNECT with this reason code.
    ClientDisconnected(ReasonCode),
    /// The network connection ended without a DISCONNECT.
    ConnectionLost,
    /// The client sent what is not a packet.
    Decode(DecodeError),
    /// The client broke a rule of the protocol.
    Violation {
        /// The reason code that MQTT 5 sends.
        reason: ReasonCode,
        /// What it did, with the section of the specification.
        what: &'static str,
    },
    /// No complete CONNECT came in time.
    ConnectTimeout,
    /// Nothing came for one and a half times the keep alive
    /// (section 3.1.2.10).
    KeepAliveTimeout,
    /// The application ended it, or refused the connection.
    Server(ReasonCode),
}
