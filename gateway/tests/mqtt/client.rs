//! A client that does exactly what a test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Publish, SubAck, Subscribe, SubscribeProperties,
    Subscription, SubscriptionOptions, Will, decode,
};
use forebay_mqtt::{Packet, PacketId, Qos, ReasonCode, Text, TopicFilter, TopicName, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

const PACKET_MAX: u32 = 4 << 20;

pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    version: Version,
    /// Messages that came before an acknowledgement that a test waited for.
    messages: VecDeque<Publish>,
}

impl Client {
    /// Opens a network connection without a word.
    pub async fn open(address: SocketAddr, version: Version) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            input: BytesMut::new(),
            version,
            messages: VecDeque::new(),
        }
    }

    /// Connects with a clean session that ends with the connection.
    pub async fn clean(address: SocketAddr, version: Version, id: &str) -> Self {
        let mut client = Self::open(address, version).await;
        let mut connect = Connect::new(version, text(id));
        connect.clean_start = true;
        let ack = client.connect(connect).await;
        assert!(!ack.session_present, "a clean session is new");
        client
    }

    /// Connects to a persistent session. Says whether it was there.
    pub async fn persistent(address: SocketAddr, version: Version, id: &str) -> (Self, bool) {
        let mut client = Self::open(address, version).await;
        let ack = client.connect(persistent_connect(version, id)).await;
        (client, ack.session_present)
    }

    pub async fn connect(&mut self, connect: Connect) -> ConnAck {
        self.send(Packet::Connect(Box::new(connect))).await;
        let Packet::ConnAck(ack) = self.receive().await else {
            panic!("expected CONNACK");
        };
        assert_eq!(ack.reason, ReasonCode::Success);
        *ack
    }

    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends to a server that may have closed the connection.
    pub async fn try_send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes).unwrap();
        let _ = self.stream.write_all(&bytes).await;
    }

    pub async fn receive(&mut self) -> Packet {
        self.receive_or_end().await.expect("connection ended")
    }

    /// The next packet, `None` at the end of the connection.
    pub async fn receive_or_end(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = decode(&mut self.input, self.version, PACKET_MAX).unwrap() {
                return Some(packet);
            }
            let read = self.stream.read_buf(&mut self.input);
            match tokio::time::timeout(PATIENCE, read)
                .await
                .expect("nothing came in time")
            {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for an acknowledgement; messages may come before it.
    pub async fn acknowledged(&mut self, expected: Packet) {
        loop {
            match self.receive().await {
                Packet::Publish(publish) => self.messages.push_back(publish),
                packet => return assert_eq!(packet, expected),
            }
        }
    }

    /// Messages that came while an acknowledgement was waited for.
    pub fn arrived(&mut self) -> Vec<Publish> {
        self.messages.drain(..).collect()
    }

    /// The next message; acknowledgements are not expected.
    pub async fn message(&mut self) -> Publish {
        if let Some(message) = self.messages.pop_front() {
            return message;
        }
        match self.receive().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// Takes a message and acknowledges it as its QoS asks.
    pub async fn take(&mut self) -> (String, String) {
        let publish = self.message().await;
        match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => self.send(Packet::PubAck(success(id))).await,
            (Qos::ExactlyOnce, Some(id)) => {
                self.send(Packet::PubRec(success(id))).await;
                self.acknowledged(Packet::PubRel(success(id))).await;
                self.send(Packet::PubComp(success(id))).await;
            }
            _ => {}
        }
        words(&publish)
    }

    pub async fn ping(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.receive().await, Packet::PingResp);
    }

    pub async fn subscribe(&mut self, filter: &str, qos: Qos) {
        let SubAck { reasons, .. } = self.subscribe_with(filter, options(qos)).await;
        assert_eq!(reasons, vec![ReasonCode::from_byte(qos as u8).unwrap()]);
    }

    pub async fn subscribe_with(&mut self, filter: &str, options: SubscriptionOptions) -> SubAck {
        self.send_subscribe(filter, options).await;
        match self.receive().await {
            Packet::SubAck(ack) => ack,
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub async fn send_subscribe(&mut self, filter: &str, options: SubscriptionOptions) {
        let subscription = Subscription {
            filter: TopicFilter::try_from(filter).unwrap(),
            options,
        };
        self.send(Packet::Subscribe(Subscribe {
            packet_id: id(60_000),
            properties: SubscribeProperties::default(),
            subscriptions: vec![subscription],
        }))
        .await;
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub async fn publish(&mut self, path: &str, payload: &str) {
        self.send(publish(path, payload, Qos::AtLeastOnce, 1)).await;
        self.acknowledged(Packet::PubAck(success(id(1)))).await;
    }

    pub async fn disconnect(mut self) {
        self.send(Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
            .await;
        assert_eq!(self.receive_or_end().await, None);
    }
}

pub fn persistent_connect(version: Version, client_id: &str) -> Connect {
    let mut connect = Connect::new(version, text(client_id));
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry_interval = Some(3600);
    }
    connect
}

pub fn publish(path: &str, payload: &str, qos: Qos, packet_id: u16) -> Packet {
    let topic = TopicName::try_from(path).unwrap();
    let mut publish = Publish::new(topic, Bytes::copy_from_slice(payload.as_bytes()));
    publish.qos = qos;
    publish.packet_id = (qos != Qos::AtMostOnce).then(|| id(packet_id));
    Packet::Publish(publish)
}

pub fn retained(path: &str, payload: &str, packet_id: u16) -> Packet {
    let Packet::Publish(mut publish) = publish(path, payload, Qos::AtLeastOnce, packet_id) else {
        unreachable!("publish makes a PUBLISH");
    };
    publish.retain = true;
    Packet::Publish(publish)
}

pub fn will(path: &str, payload: &str) -> Will {
    Will {
        topic: TopicName::try_from(path).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Default::default(),
    }
}

pub fn words(publish: &Publish) -> (String, String) {
    let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
    (publish.topic.as_str().to_owned(), payload)
}

pub fn pair(path: &str, payload: &str) -> (String, String) {
    (path.to_owned(), payload.to_owned())
}

pub fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}

pub fn success(packet_id: PacketId) -> Ack {
    Ack::new(packet_id, ReasonCode::Success)
}

pub fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

pub fn text(text: &str) -> Text {
    Text::try_from(text).unwrap()
}
