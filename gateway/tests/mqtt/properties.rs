//! Message properties, sizes and the ends that the server tells.

use std::num::NonZeroU32;

use bytes::Bytes;
use forebay_mqtt::packet::{Connect, Publish, PublishProperties};
use forebay_mqtt::{Packet, Qos, ReasonCode, TopicName, Version};

use super::client::{Client, id, pair, publish, retained, success, text, words};
use super::server::Server;

fn with_properties(payload: &str, properties: PublishProperties) -> Packet {
    let topic = TopicName::try_from("a").unwrap();
    let mut publish = Publish::new(topic, Bytes::copy_from_slice(payload.as_bytes()));
    publish.qos = Qos::AtLeastOnce;
    publish.packet_id = Some(id(1));
    publish.properties = properties;
    Packet::Publish(publish)
}

async fn accepted(client: &mut Client, packet: Packet) {
    client.send(packet).await;
    client.acknowledged(Packet::PubAck(success(id(1)))).await;
}

/// \[MQTT-3.3.2-4\], \[MQTT-3.3.2-15\], \[MQTT-3.3.2-16\], \[MQTT-3.3.2-17\],
/// \[MQTT-3.3.2-18\], \[MQTT-3.3.2-20\]: what belongs to the message comes out
/// of the log as it went in, user properties in their order.
#[tokio::test]
async fn properties_come_out_of_the_log_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let properties = PublishProperties {
        payload_is_utf8: Some(true),
        content_type: Some(text("text/plain")),
        response_topic: Some(TopicName::try_from("b").unwrap()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: vec![
            (text("unit"), text("°C")),
            (text("b"), text("1")),
            (text("unit"), text("K")),
        ],
        ..PublishProperties::default()
    };
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    accepted(&mut sender, with_properties("live", properties.clone())).await;
    let message = reader.message().await;
    assert_eq!(message.properties, properties);
    reader
        .send(Packet::PubAck(success(message.packet_id.unwrap())))
        .await;
    reader.ping().await;
    reader.disconnect().await;
    accepted(&mut sender, with_properties("stored", properties.clone())).await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    let message = reader.message().await;
    assert_eq!(words(&message), pair("a", "stored"));
    assert_eq!(message.properties, properties);
    server.stop().await;
}

/// \[MQTT-3.3.2-5\] and \[MQTT-3.3.2-6\]: an expired message is not delivered,
/// and the interval of another says what is left.
#[tokio::test]
async fn an_expired_message_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    reader.disconnect().await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for (payload, seconds) in [("over", 0), ("left", 100)] {
        let properties = PublishProperties {
            message_expiry_interval: Some(seconds),
            ..PublishProperties::default()
        };
        accepted(&mut sender, with_properties(payload, properties)).await;
    }
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    let message = reader.message().await;
    assert_eq!(words(&message), pair("a", "left"));
    let left = message.properties.message_expiry_interval.unwrap();
    assert!((60..=100).contains(&left), "{left}");
    assert_eq!(server.stats.snapshot().deliveries_expired, 1);
    server.stop().await;
}

/// \[MQTT-3.1.2-24\] and \[MQTT-3.1.2-25\]: a message that is larger than the
/// client accepts is passed over as if it had been sent.
#[tokio::test]
async fn a_message_too_large_for_its_subscriber_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("r"));
    connect.properties.maximum_packet_size = NonZeroU32::new(100);
    reader.connect(connect).await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("a", &"x".repeat(200)).await;
    sender.publish("a", "fits").await;
    assert_eq!(reader.take().await, pair("a", "fits"));
    assert_eq!(server.stats.snapshot().deliveries_dropped, 1);
    server.stop().await;
}

/// Section 4.1: QoS 0 messages are not kept for a session that is away.
#[tokio::test]
async fn qos_0_is_not_kept_for_an_absent_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    reader.disconnect().await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.send(publish("a", "lost", Qos::AtMostOnce, 0)).await;
    sender.publish("a", "kept").await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    assert_eq!(reader.take().await, pair("a", "kept"));
    reader.ping().await;
    server.stop().await;
}

/// \[MQTT-4.4.0-1\]: retained messages that were not acknowledged are sent
/// again under their packet identifiers, and those that were not sent yet are
/// sent. One that changed in the meantime comes as it is.
#[tokio::test]
async fn unacknowledged_retained_messages_are_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for path in ["r/1", "r/2", "r/3", "r/4"] {
        accepted(&mut sender, retained(path, "old", 1)).await;
    }
    let mut reader = Client::open(server.address, Version::V5).await;
    let mut connect = super::client::persistent_connect(Version::V5, "r");
    connect.properties.receive_maximum = std::num::NonZeroU16::new(3);
    reader.connect(connect).await;
    reader.subscribe("r/+", Qos::AtLeastOnce).await;
    let first = reader.message().await;
    reader
        .send(Packet::PubAck(success(first.packet_id.unwrap())))
        .await;
    let second = reader.message().await;
    let third = reader.message().await;
    reader.message().await;
    reader.ping().await;
    drop(reader);
    accepted(&mut sender, retained("r/3", "new", 1)).await;
    server.stop().await;

    let server = Server::start(dir.path()).await;
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    let mut got = Vec::new();
    for _ in 0..4 {
        let message = reader.message().await;
        if words(&message).0 == "r/2" {
            assert_eq!((message.dup, message.packet_id), (true, second.packet_id));
        }
        if words(&message) == pair("r/3", "new") {
            assert!(!message.dup || message.packet_id != third.packet_id);
        }
        got.push((message.retain, words(&message)));
    }
    got.sort();
    // The new value of r/3 comes once as what was published and once as what
    // the subscription asked for.
    let expected = [
        (false, pair("r/3", "new")),
        (true, pair("r/2", "old")),
        (true, pair("r/3", "new")),
        (true, pair("r/4", "old")),
    ];
    assert_eq!(got, expected);
    server.stop().await;
}

async fn goodbye(client: &mut Client) -> ReasonCode {
    loop {
        match client.receive().await {
            Packet::Disconnect(disconnect) => return disconnect.reason,
            Packet::PubRec(_) => {}
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
    }
}

/// \[MQTT-3.14.0-1\], section 4.13: a client of MQTT 5 is told why its
/// connection ends: 0x93, 0x95 and 0x8B here; 0x8D and 0x8E have tests with
/// sessions.
#[tokio::test]
async fn the_server_tells_why_it_ends_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    // [MQTT-3.3.4-9]: more publishes than the announced receive maximum.
    let mut client = Client::open(server.address, Version::V5).await;
    let ack = client.connect(Connect::new(Version::V5, text("a"))).await;
    let maximum = ack.properties.receive_maximum.unwrap().get();
    for number in 1..=maximum + 1 {
        client
            .send(publish("a", "x", Qos::ExactlyOnce, number))
            .await;
    }
    assert_eq!(
        goodbye(&mut client).await,
        ReasonCode::ReceiveMaximumExceeded
    );
    // [MQTT-3.2.2-15]: a packet above the announced size. Its header is enough.
    let mut client = Client::clean(server.address, Version::V5, "b").await;
    client.send_bytes(&[0x32, 0xFF, 0xFF, 0xFF, 0x7F]).await;
    assert_eq!(goodbye(&mut client).await, ReasonCode::PacketTooLarge);
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    let stopping = server.stop();
    let (reason, ()) = tokio::join!(goodbye(&mut client), stopping);
    assert_eq!(reason, ReasonCode::ServerShuttingDown);
}
