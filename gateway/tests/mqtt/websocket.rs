//! MQTT over WebSockets, with the client of another implementation.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_gateway::mqtt::MqttConfig;
use forebay_mqtt::packet::{Connect, decode};
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::client::{Client, pair, publish, success, text, words};
use super::server::Server;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that sends frames as a test says and reads the stream in them.
struct Web {
    socket: Socket,
    input: BytesMut,
    pongs: VecDeque<Bytes>,
}

fn request(server: &Server, path: &str) -> tungstenite::handshake::client::Request {
    let url = format!("ws://{}{path}", server.websocket);
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    request
}

fn bytes(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.encode(Version::V5, &mut bytes).unwrap();
    bytes.to_vec()
}

fn connect(id: &str) -> Packet {
    let mut connect = Connect::new(Version::V5, text(id));
    connect.clean_start = true;
    Packet::Connect(Box::new(connect))
}

impl Web {
    async fn open(server: &Server) -> Self {
        let (socket, response) = connect_async(request(server, "/mqtt")).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self {
            socket,
            input: BytesMut::new(),
            pongs: VecDeque::new(),
        }
    }

    async fn connected(server: &Server, id: &str) -> Self {
        let mut web = Self::open(server).await;
        web.binary(bytes(&connect(id))).await;
        assert!(matches!(web.receive().await, Packet::ConnAck(_)));
        web
    }

    async fn binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The status code with which the server closes.
    async fn closed(&mut self) -> Option<CloseCode> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return Some(frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn receive(&mut self) -> Packet {
        loop {
            if let Some(packet) = decode(&mut self.input, Version::V5, 1 << 20).unwrap() {
                return packet;
            }
            match self.socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => self.input.extend_from_slice(&bytes),
                Message::Pong(payload) => self.pongs.push_back(payload),
                other => panic!("expected a binary message, got {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn clients_of_both_transports_exchange_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut web = Web::connected(&server, "web").await;
    let mut plain = Client::clean(server.address, Version::V5, "plain").await;
    plain.subscribe("#", Qos::AtMostOnce).await;
    web.binary(bytes(&publish("a", "from the web", Qos::AtLeastOnce, 7)))
        .await;
    let id = forebay_mqtt::PacketId::new(7).unwrap();
    assert_eq!(web.receive().await, Packet::PubAck(success(id)));
    let message = plain.message().await;
    assert_eq!(words(&message), pair("a", "from the web"));
    server.stop().await;
}

#[tokio::test]
async fn packets_do_not_depend_on_frames() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut web = Web::open(&server).await;
    // [MQTT-6.0.0-2]: three packets in one frame.
    let mut many = bytes(&connect("web"));
    many.extend(bytes(&Packet::PingReq));
    many.extend(bytes(&publish("a", "1", Qos::AtLeastOnce, 1)));
    web.binary(many).await;
    assert!(matches!(web.receive().await, Packet::ConnAck(_)));
    assert_eq!(web.receive().await, Packet::PingResp);
    assert!(matches!(web.receive().await, Packet::PubAck(_)));
    // One packet over frames, fragments and a ping in between.
    let packet = bytes(&publish("a", &"x".repeat(70_000), Qos::AtLeastOnce, 2));
    web.binary(packet[..1].to_vec()).await;
    let fragment = |bytes: &[u8], data, last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(data), last))
    };
    let parts = [
        fragment(&packet[1..3], Data::Binary, false),
        Message::Ping(Bytes::from_static(b"?")),
        fragment(&[], Data::Continue, false),
        fragment(&packet[3..], Data::Continue, true),
    ];
    for part in parts {
        web.socket.send(part).await.unwrap();
    }
    assert!(matches!(web.receive().await, Packet::PubAck(_)));
    assert_eq!(web.pongs, [Bytes::from_static(b"?")]);
    server.stop().await;
}

#[tokio::test]
async fn a_large_message_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut web = Web::connected(&server, "web").await;
    let mut plain = Client::clean(server.address, Version::V5, "plain").await;
    let filter = forebay_mqtt::TopicFilter::try_from("a").unwrap();
    web.binary(bytes(&Packet::Subscribe(forebay_mqtt::packet::Subscribe {
        packet_id: forebay_mqtt::PacketId::new(1).unwrap(),
        properties: Default::default(),
        subscriptions: vec![forebay_mqtt::packet::Subscription {
            filter,
            options: Default::default(),
        }],
    })))
    .await;
    assert!(matches!(web.receive().await, Packet::SubAck(_)));
    let large = "0123456789".repeat(90_000);
    plain.publish("a", &large).await;
    let Packet::Publish(message) = web.receive().await else {
        panic!("expected PUBLISH");
    };
    assert_eq!(words(&message), pair("a", &large));
    server.stop().await;
}

#[tokio::test]
async fn a_text_frame_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut web = Web::connected(&server, "web").await;
    web.socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(web.closed().await, Some(CloseCode::Unsupported));
    assert_eq!(server.stats.snapshot().violations, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut web = Web::connected(&server, "web").await;
    // The server says so at the header and does not wait for the rest.
    let _ = web
        .socket
        .send(Message::binary(vec![0; (1 << 20) + 1]))
        .await;
    assert!(matches!(web.closed().await, Some(CloseCode::Size) | None));
    assert_eq!(server.stats.snapshot().violations, 1);
    server.stop().await;
}

#[tokio::test]
async fn both_sides_say_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut leaving = Web::connected(&server, "leaving").await;
    leaving.socket.close(None).await.unwrap();
    assert_eq!(leaving.closed().await, Some(CloseCode::Normal));
    let mut staying = Web::connected(&server, "staying").await;
    staying.binary(vec![0x36, 0x00]).await;
    assert!(
        matches!(staying.receive().await, Packet::Disconnect(d) if d.reason == ReasonCode::MalformedPacket)
    );
    assert_eq!(staying.closed().await, Some(CloseCode::Normal));
    server.stop().await;
}

#[tokio::test]
async fn a_request_without_the_sub_protocol_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for protocol in [None, Some("mqttv3.1"), Some("chat")] {
        let mut request = request(&server, "/");
        request.headers_mut().remove("Sec-WebSocket-Protocol");
        if let Some(protocol) = protocol {
            let value = HeaderValue::from_static(protocol);
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", value);
        }
        let Err(tungstenite::Error::Http(refused)) = connect_async(request).await else {
            panic!("expected a refusal of {protocol:?}");
        };
        assert_eq!(refused.status(), 400);
    }
    assert_eq!(server.stats.snapshot().websockets_refused, 3);
    server.stop().await;
}

#[tokio::test]
async fn only_pages_of_allowed_sites_are_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = MqttConfig {
        websocket_origins: vec!["https://panel.example".to_owned()],
        ..MqttConfig::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let own = format!("http://{}", server.websocket);
    for (origin, is_let_in) in [
        (own.as_str(), true),
        ("https://panel.example", true),
        ("https://evil.example", false),
    ] {
        let mut request = request(&server, "/mqtt");
        let value = HeaderValue::from_str(origin).unwrap();
        request.headers_mut().insert("Origin", value);
        assert_eq!(connect_async(request).await.is_ok(), is_let_in, "{origin}");
    }
    server.stop().await;
}

#[tokio::test]
async fn mqtt_on_the_websocket_port_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut lost = TcpStream::connect(server.websocket).await.unwrap();
    lost.write_all(&bytes(&connect("lost"))).await.unwrap();
    let mut answer = Vec::new();
    lost.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    server.stop().await;
}

#[tokio::test]
async fn a_silent_websocket_request_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = MqttConfig::default();
    config.protocol.connect_timeout = Duration::from_millis(50);
    let server = Server::with(dir.path(), true, config).await;
    let mut silent = TcpStream::connect(server.websocket).await.unwrap();
    silent.write_all(b"GET /mqtt HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
    assert_eq!(server.stats.snapshot().websockets_refused, 1);
    server.stop().await;
}
