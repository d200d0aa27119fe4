//! Clients that mean harm or are broken.

use std::time::Duration;

use forebay_gateway::mqtt::MqttConfig;
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, id, pair, publish, success};
use super::server::Server;

#[tokio::test]
async fn a_malformed_packet_closes_only_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut good = Client::clean(server.address, Version::V5, "good").await;
    good.subscribe("#", Qos::AtMostOnce).await;
    let mut bad = Client::clean(server.address, Version::V5, "bad").await;
    // PUBLISH with both QoS bits.
    bad.send_bytes(&[0x36, 0x03, 0x00, 0x01, b'a']).await;
    let Packet::Disconnect(goodbye) = bad.receive().await else {
        panic!("expected DISCONNECT");
    };
    assert_eq!(goodbye.reason, ReasonCode::MalformedPacket);
    assert_eq!(bad.receive_or_end().await, None);
    good.publish("a", "1").await;
    assert_eq!(super::client::words(&good.message().await), pair("a", "1"));
    server.stop().await;
}

#[tokio::test]
async fn a_non_ascii_path_is_a_path_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.subscribe("é/#", Qos::AtLeastOnce).await;
    client.publish("é/x", "1").await;
    assert_eq!(client.take().await, pair("é/x", "1"));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_sender_and_idle_connections_disturb_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut idle = Vec::new();
    for number in 0..200 {
        idle.push(Client::clean(server.address, Version::V5, &format!("idle{number}")).await);
    }
    let mut slow = Client::clean(server.address, Version::V311, "slow").await;
    let mut bytes = bytes::BytesMut::new();
    let packet = publish("slow", "drop by drop", Qos::AtLeastOnce, 1);
    packet.encode(Version::V311, &mut bytes).unwrap();
    let mut fast = Client::clean(server.address, Version::V5, "fast").await;
    for byte in &bytes {
        slow.send_bytes(&[*byte]).await;
        fast.publish("fast", "x").await;
    }
    assert_eq!(slow.receive().await, Packet::PubAck(success(id(1))));
    for client in &mut idle {
        client.ping().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = MqttConfig::default();
    config.protocol.connect_timeout = Duration::from_millis(50);
    let server = Server::with(dir.path(), true, config).await;
    let mut silent = Client::open(server.address, Version::V5).await;
    assert_eq!(silent.receive_or_end().await, None);
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = MqttConfig {
        connections_max: 1,
        ..MqttConfig::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let mut first = Client::clean(server.address, Version::V5, "first").await;
    let mut second = Client::open(server.address, Version::V5).await;
    assert_eq!(second.receive_or_end().await, None);
    first.ping().await;
    assert_eq!(server.stats.snapshot().connections_refused, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_loses_nothing() {
    const COUNT: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let config = MqttConfig {
        write_timeout: Duration::from_millis(200),
        ..MqttConfig::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let (mut deaf, _) = Client::persistent(server.address, Version::V5, "deaf").await;
    deaf.subscribe("big", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    let payload = "x".repeat(200_000);
    for _ in 0..COUNT {
        sender.publish("big", &payload).await;
    }
    // Its socket buffers are full by now; the server closes its side.
    let closed = async {
        while server.stats.snapshot().connections != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed)
        .await
        .unwrap();
    drop(deaf);
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "deaf").await;
    assert!(present);
    for _ in 0..COUNT {
        assert_eq!(reader.take().await.1.len(), payload.len());
    }
    server.stop().await;
}
