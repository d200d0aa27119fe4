//! The client: rumqttc in either version, behind one face.
//!
//! A link lives as long as its connection. rumqttc would reconnect by itself
//! and resend from its own queue, which it clears when the broker lost the
//! session and fills in packet id order when it did not; so a link that fails
//! is dropped whole, and the next one begins from the cursors. Its window is
//! smaller than the client's by one, so identifiers never collide, and
//! acknowledgements are manual. See the research that led there in decision
//! 0016.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_mqtt::{Text, TopicName};
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, PubAckReason, PublishProperties, RetainForwardRule,
    SubscribeReasonCode,
};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::receipts::UNWRITTEN_MAX;
use crate::config::defaults::BRIDGE_TOPICS_MAX;
use crate::config::{Bridge, BridgeVersion};
use crate::mqtt::message::{Message, MessageProperties};
use crate::tls::ClientTls;

/// Events that wait for the bridge. When it is behind, the connection is not
/// read.
const EVENTS_MAX: usize = 64;

/// Messages that a broker with MQTT 5 may have on their way; one with MQTT
/// 3.1.1 asks nobody.
const INCOMING_MAX: u16 = 256;

/// Requests beside messages and acknowledgements: an UNSUBSCRIBE for each
/// topic of an earlier configuration, one SUBSCRIBE, one DISCONNECT.
const CONTROL_MAX: usize = BRIDGE_TOPICS_MAX + 2;

/// Largest packet that is taken from the broker. The log refuses what is
/// larger than a batch anyway.
const PACKET_LEN_MAX: u32 = 16 << 20;

/// Time for the connection and its CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens on the connection.
#[derive(Debug)]
pub enum Event {
    /// CONNACK.
    Connected {
        /// Whether the broker kept the session.
        session_present: bool,
        /// Messages that it takes at once.
        receive_maximum: Option<u16>,
        /// Bytes of a packet that it takes.
        packet_max: Option<u32>,
    },
    /// A message of the broker.
    Message(Box<Incoming>),
    /// The next message that was handed over is written.
    Written(u16),
    /// An acknowledgement that was handed over is written.
    ReceiptWritten,
    /// The broker has a message, or refuses it.
    Acknowledged {
        /// Which one.
        packet_id: u16,
        /// Why it was refused.
        refused: Option<Refused>,
    },
    /// The answer to the subscriptions: how many were refused.
    Subscribed(usize),
    /// The goodbye is written.
    Disconnected,
    /// The connection is lost, with the reason. Nothing follows.
    Lost(String),
}

/// A broker's refusal of a message.
#[derive(Debug)]
pub struct Refused {
    /// The reason code's name.
    pub reason: String,
    /// Whether the same message may pass later.
    pub is_temporary: bool,
}

/// A message of the broker.
#[derive(Debug)]
pub struct Incoming {
    /// The message, on the broker's topic. `None` when the topic is no name
    /// that MQTT allows.
    pub message: Option<Message>,
    /// Hands back the acknowledgement.
    pub receipt: Receipt,
}

/// What acknowledges a message of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's packet identifier.
    pub packet_id: u16,
    /// Its quality of service; nobody acknowledges 0.
    pub qos: u8,
}

/// A request that the client did not take: its connection has ended, or it
/// does not write what it was given.
#[derive(Debug, thiserror::Error)]
#[error("the client takes nothing more")]
pub struct Gone;

/// What a connection over TLS needs.
pub struct Secured {
    /// Tells what went wrong.
    pub tls: Arc<ClientTls>,
    /// What the library needs.
    pub config: Arc<ClientConfig>,
}

/// Finds words for the end of a connection.
struct Why {
    address: String,
    tls: Option<Arc<ClientTls>>,
}

impl Why {
    fn tell(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let mut cause = Some(error);
        while let Some(one) = cause {
            let io = one.downcast_ref::<std::io::Error>();
            let told = io.zip(self.tls.as_ref());
            if let Some(reason) = told.and_then(|(io, tls)| tls.explain(&self.address, io)) {
                return reason;
            }
            cause = one.source();
        }
        error.to_string()
    }
}

enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// A connection to the broker, or an attempt at one.
pub struct Link {
    client: Client,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Begins to connect.
    pub fn open(config: &Bridge, password: Option<String>, secured: Option<Secured>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // Never full: the window, the acknowledgements and the rest are each
        // counted, so nothing that is handed over has to wait here.
        let capacity = usize::from(config.inflight) + UNWRITTEN_MAX + CONTROL_MAX;
        let transport = secured.as_ref().map(|secured| {
            let config = TlsConfiguration::Rustls(Arc::clone(&secured.config));
            Transport::tls_with_config(config)
        });
        let why = Why {
            address: config.address.to_string(),
            tls: secured.map(|secured| secured.tls),
        };
        match config.version {
            BridgeVersion::V311 => {
                let mut options = options_v311(config, password);
                transport.map(|transport| options.set_transport(transport));
                let (client, events_of) = rumqttc::AsyncClient::new(options, capacity);
                Self {
                    client: Client::V311(client),
                    events,
                    task: tokio::spawn(drive_v311(events_of, sender, why)),
                }
            }
            BridgeVersion::V5 => {
                let mut options = options_v5(config, password);
                transport.map(|transport| options.set_transport(transport));
                let (client, events_of) = v5::AsyncClient::new(options, capacity);
                Self {
                    client: Client::V5(client),
                    events,
                    task: tokio::spawn(drive_v5(events_of, sender, why)),
                }
            }
        }
    }

    /// The next event. Cancelling loses none.
    pub async fn event(&mut self) -> Event {
        let ended = || Event::Lost("the client ended".to_owned());
        self.events.recv().await.unwrap_or_else(ended)
    }

    /// Why the connection ended, after [`Gone`]. What the broker sent before is
    /// dropped: it was not acknowledged and comes again.
    pub async fn last_words(&mut self) -> String {
        loop {
            if let Event::Lost(reason) = self.event().await {
                return reason;
            }
        }
    }

    /// Hands a message over, under the broker's topic.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn publish(
        &self,
        topic: &TopicName,
        message: &Message,
        qos: u8,
        extra: (&str, &str),
        now_ms: i64,
    ) -> Result<(), Gone> {
        let topic = topic.as_str();
        let payload = message.payload.clone();
        match &self.client {
            Client::V311(client) => {
                let qos = match qos {
                    0 => rumqttc::QoS::AtMostOnce,
                    _ => rumqttc::QoS::AtLeastOnce,
                };
                let sent = client.try_publish(topic, qos, message.retain, payload);
                sent.map_err(|_| Gone)
            }
            Client::V5(client) => {
                let properties = outgoing_properties(message, extra, now_ms);
                let qos = match qos {
                    0 => v5::mqttbytes::QoS::AtMostOnce,
                    _ => v5::mqttbytes::QoS::AtLeastOnce,
                };
                let sent = client.try_publish_with_properties(
                    topic,
                    qos,
                    message.retain,
                    payload,
                    properties,
                );
                sent.map_err(|_| Gone)
            }
        }
    }

    /// Acknowledges a message of the broker.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn acknowledge(&self, receipt: Receipt) -> Result<(), Gone> {
        // The client looks at the identifier and the quality of service only.
        match &self.client {
            Client::V311(client) => {
                let qos = match receipt.qos {
                    0 => rumqttc::QoS::AtMostOnce,
                    1 => rumqttc::QoS::AtLeastOnce,
                    _ => rumqttc::QoS::ExactlyOnce,
                };
                let mut publish = rumqttc::Publish::new("", qos, Vec::new());
                publish.pkid = receipt.packet_id;
                client.try_ack(&publish).map_err(|_| Gone)
            }
            Client::V5(client) => {
                let publish = v5::mqttbytes::v5::Publish {
                    qos: match receipt.qos {
                        0 => v5::mqttbytes::QoS::AtMostOnce,
                        1 => v5::mqttbytes::QoS::AtLeastOnce,
                        _ => v5::mqttbytes::QoS::ExactlyOnce,
                    },
                    pkid: receipt.packet_id,
                    ..Default::default()
                };
                client.try_ack(&publish).map_err(|_| Gone)
            }
        }
    }

    /// Subscribes to all filters with one packet.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn subscribe(&self, filters: &[(String, u8)]) -> Result<(), Gone> {
        match &self.client {
            Client::V311(client) => {
                let filters = filters.iter().map(|(filter, qos)| {
                    let qos = match qos {
                        0 => rumqttc::QoS::AtMostOnce,
                        _ => rumqttc::QoS::AtLeastOnce,
                    };
                    rumqttc::SubscribeFilter::new(filter.clone(), qos)
                });
                client.try_subscribe_many(filters).map_err(|_| Gone)
            }
            Client::V5(client) => {
                let filters = filters.iter().map(|(filter, qos)| Filter {
                    path: filter.clone(),
                    qos: match qos {
                        0 => v5::mqttbytes::QoS::AtMostOnce,
                        _ => v5::mqttbytes::QoS::AtLeastOnce,
                    },
                    nolocal: true,
                    preserve_retain: true,
                    retain_forward_rule: RetainForwardRule::OnNewSubscribe,
                });
                client.try_subscribe_many(filters).map_err(|_| Gone)
            }
        }
    }

    /// Ends a subscription of an earlier configuration.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn unsubscribe(&self, filter: &str) -> Result<(), Gone> {
        match &self.client {
            Client::V311(client) => client.try_unsubscribe(filter).map_err(|_| Gone),
            Client::V5(client) => client.try_unsubscribe(filter).map_err(|_| Gone),
        }
    }

    /// Says goodbye; [`Event::Disconnected`] follows.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn disconnect(&self) -> Result<(), Gone> {
        match &self.client {
            Client::V311(client) => client.try_disconnect().map_err(|_| Gone),
            Client::V5(client) => client.try_disconnect().map_err(|_| Gone),
        }
    }
}

fn options_v311(config: &Bridge, password: Option<String>) -> rumqttc::MqttOptions {
    let address = &config.address;
    let mut options = rumqttc::MqttOptions::new(&config.client_id, &address.host, address.port);
    options.set_keep_alive(config.keep_alive);
    options.set_clean_session(config.session_expiry.is_zero());
    options.set_manual_acks(true);
    options.set_inflight(config.inflight.saturating_add(1));
    options.set_max_packet_size(PACKET_LEN_MAX as usize, PACKET_LEN_MAX as usize);
    if let Some(user) = &config.user {
        options.set_credentials(user, password.unwrap_or_default());
    }
    options
}

fn options_v5(config: &Bridge, password: Option<String>) -> v5::MqttOptions {
    let address = &config.address;
    let mut options = v5::MqttOptions::new(&config.client_id, &address.host, address.port);
    let expiry = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: Some(expiry),
        receive_maximum: Some(INCOMING_MAX),
        max_packet_size: Some(PACKET_LEN_MAX),
        ..ConnectProperties::new()
    });
    options.set_keep_alive(config.keep_alive);
    options.set_clean_start(config.session_expiry.is_zero());
    options.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    options.set_manual_acks(true);
    options.set_outgoing_inflight_upper_limit(config.inflight.saturating_add(1));
    if let Some(user) = &config.user {
        options.set_credentials(user, password.unwrap_or_default());
    }
    options
}

async fn drive_v311(mut client: rumqttc::EventLoop, events: mpsc::Sender<Event>, why: Why) {
    use rumqttc::{Outgoing, Packet, SubscribeReasonCode};
    client
        .network_options
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    loop {
        let event = match client.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(ack))) => Event::Connected {
                session_present: ack.session_present,
                receive_maximum: None,
                packet_max: None,
            },
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => {
                let message = incoming(publish.topic.as_bytes(), &publish.payload, None);
                let message = message.map(|message| Message {
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    ..message
                });
                let receipt = Receipt {
                    packet_id: publish.pkid,
                    qos: publish.qos as u8,
                };
                Event::Message(Box::new(Incoming { message, receipt }))
            }
            Ok(rumqttc::Event::Incoming(Packet::PubAck(ack))) => Event::Acknowledged {
                packet_id: ack.pkid,
                refused: None,
            },
            Ok(rumqttc::Event::Incoming(Packet::SubAck(ack))) => {
                let failed = |code: &&SubscribeReasonCode| **code == SubscribeReasonCode::Failure;
                Event::Subscribed(ack.return_codes.iter().filter(failed).count())
            }
            Ok(rumqttc::Event::Outgoing(Outgoing::Publish(id))) => Event::Written(id),
            Ok(rumqttc::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_))) => {
                Event::ReceiptWritten
            }
            Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) => Event::Disconnected,
            Ok(_) => continue,
            Err(error) => Event::Lost(why.tell(&error)),
        };
        let is_last = matches!(event, Event::Lost(_));
        if events.send(event).await.is_err() || is_last {
            return;
        }
    }
}

async fn drive_v5(mut client: v5::EventLoop, events: mpsc::Sender<Event>, why: Why) {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::Packet;
    loop {
        let event = match client.poll().await {
            Ok(v5::Event::Incoming(Packet::ConnAck(ack))) => {
                let properties = ack.properties.as_ref();
                Event::Connected {
                    session_present: ack.session_present,
                    receive_maximum: properties.and_then(|p| p.receive_max),
                    packet_max: properties.and_then(|p| p.max_packet_size),
                }
            }
            Ok(v5::Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.as_ref();
                let message = incoming(&publish.topic, &publish.payload, properties);
                let message = message.map(|message| Message {
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    ..message
                });
                let receipt = Receipt {
                    packet_id: publish.pkid,
                    qos: publish.qos as u8,
                };
                Event::Message(Box::new(Incoming { message, receipt }))
            }
            Ok(v5::Event::Incoming(Packet::PubAck(ack))) => Event::Acknowledged {
                packet_id: ack.pkid,
                refused: refused(ack.reason),
            },
            Ok(v5::Event::Incoming(Packet::SubAck(ack))) => {
                let failed =
                    |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                Event::Subscribed(ack.return_codes.iter().filter(failed).count())
            }
            Ok(v5::Event::Outgoing(Outgoing::Publish(id))) => Event::Written(id),
            Ok(v5::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_))) => {
                Event::ReceiptWritten
            }
            Ok(v5::Event::Outgoing(Outgoing::Disconnect)) => Event::Disconnected,
            Ok(_) => continue,
            Err(error) => Event::Lost(why.tell(&error)),
        };
        let is_last = matches!(event, Event::Lost(_));
        if events.send(event).await.is_err() || is_last {
            return;
        }
    }
}

fn refused(reason: PubAckReason) -> Option<Refused> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        reason => Some(Refused {
            reason: format!("{reason:?}"),
            is_temporary: matches!(
                reason,
                PubAckReason::QuotaExceeded
                    | PubAckReason::UnspecifiedError
                    | PubAckReason::ImplementationSpecificError
            ),
        }),
    }
}

/// A message as the log takes it, still on the broker's topic.
fn incoming(topic: &[u8], payload: &Bytes, from: Option<&PublishProperties>) -> Option<Message> {
    let name = |text: &str| TopicName::try_from(text).ok();
    let text = |text: &String| Text::try_from(text.as_str()).ok();
    let properties = from.map(|from| {
        let user = from.user_properties.iter();
        Box::new(MessageProperties {
            payload_is_utf8: from.payload_format_indicator == Some(1),
            expiry_seconds: from.message_expiry_interval,
            content_type: from.content_type.as_ref().and_then(text),
            response_topic: from.response_topic.as_deref().and_then(name),
            correlation_data: from.correlation_data.clone(),
            user: user.filter_map(|(n, v)| text(n).zip(text(v))).collect(),
            ..MessageProperties::default()
        })
    });
    Some(Message {
        path: name(std::str::from_utf8(topic).ok()?)?,
        payload: payload.clone(),
        properties,
        ..Message::default()
    })
}

fn outgoing_properties(message: &Message, extra: (&str, &str), now_ms: i64) -> PublishProperties {
    let mut properties = PublishProperties::default();
    if let Some(from) = &message.properties {
        let text = |text: &Text| text.as_str().to_owned();
        properties.payload_format_indicator = from.payload_is_utf8.then_some(1);
        properties.message_expiry_interval = message.remaining_seconds(now_ms);
        properties.content_type = from.content_type.as_ref().map(text);
        let response = from.response_topic.as_ref();
        properties.response_topic = response.map(|name| text(name.text()));
        properties.correlation_data = from.correlation_data.clone();
        let user = from.user.iter();
        properties.user_properties = user.map(|(n, v)| (text(n), text(v))).collect();
    }
    let (name, value) = extra;
    properties
        .user_properties
        .push((name.to_owned(), value.to_owned()));
    properties
}
