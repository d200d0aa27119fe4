//! Limits per client.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use forebay_gateway::mqtt::{Limits, MqttConfig};
use forebay_mqtt::packet::Connect;
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, id, publish, success, text};
use super::server::Server;

async fn limited(dir: &std::path::Path, limits: Limits) -> Server {
    let config = MqttConfig {
        limits,
        ..MqttConfig::default()
    };
    Server::with(dir, true, config).await
}

#[tokio::test]
async fn a_publisher_over_its_rate_is_not_read_and_loses_nothing() {
    const COUNT: u16 = 30;
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        publish_rate: NonZeroU32::new(20),
        ..Limits::default()
    };
    let server = limited(dir.path(), limits).await;
    let mut client = Client::clean(server.address, Version::V5, "fast").await;
    let mut bytes = BytesMut::new();
    for number in 1..=COUNT {
        let packet = publish("a", "x", Qos::AtLeastOnce, number);
        packet.encode(Version::V5, &mut bytes).unwrap();
    }
    Packet::PingReq.encode(Version::V5, &mut bytes).unwrap();
    let started = Instant::now();
    client.send_bytes(&bytes).await;
    for number in 1..=COUNT {
        assert_eq!(client.receive().await, Packet::PubAck(success(id(number))));
    }
    // The ping waited behind the publishes, it did not overtake them.
    assert_eq!(client.receive().await, Packet::PingResp);
    // A second's worth passes at once, the other ten take half a second; the
    // clock can only make it longer.
    assert!(started.elapsed() >= Duration::from_millis(450));
    assert!(server.stats.snapshot().throttled >= 1);
    server.stop().await;
}

#[tokio::test]
async fn a_paused_publisher_outlives_its_keep_alive() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        publish_bytes_rate: NonZeroU64::new(1_000),
        ..Limits::default()
    };
    let server = limited(dir.path(), limits).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("c"));
    connect.keep_alive = 1;
    client.connect(connect).await;
    // Paid for by two seconds of pause, longer than one and a half keep alives.
    client.publish("a", &"x".repeat(3_000)).await;
    client.ping().await;
    server.stop().await;
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        connections_per_address: NonZeroU32::new(2),
        ..Limits::default()
    };
    let server = limited(dir.path(), limits).await;
    let first = Client::clean(server.address, Version::V5, "1").await;
    let mut second = Client::clean(server.address, Version::V5, "2").await;
    let mut third = Client::open(server.address, Version::V5).await;
    assert_eq!(third.receive_or_end().await, None);
    assert_eq!(server.stats.snapshot().addresses_refused, 1);
    first.disconnect().await;
    // The slot is free when the connection's task has ended, shortly after its
    // socket; a refused attempt is one more try.
    loop {
        let mut again = Client::open(server.address, Version::V5).await;
        let connect = Connect::new(Version::V5, text("3"));
        again.try_send(Packet::Connect(Box::new(connect))).await;
        if again.receive_or_end().await.is_some() {
            break;
        }
    }
    second.ping().await;
    server.stop().await;
}

#[tokio::test]
async fn connects_over_the_rate_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        // The test's connections come faster than one a second unless the
        // machine stands still, so it asks until one is refused.
        connect_rate: NonZeroU32::new(1),
        ..Limits::default()
    };
    let server = limited(dir.path(), limits).await;
    for (version, expected) in [
        (Version::V5, ReasonCode::ConnectionRateExceeded),
        (Version::V311, ReasonCode::ServerUnavailable),
    ] {
        loop {
            let mut client = Client::open(server.address, version).await;
            let mut connect = Connect::new(version, text("c"));
            connect.clean_start = true;
            client.send(Packet::Connect(Box::new(connect))).await;
            let Packet::ConnAck(ack) = client.receive().await else {
                panic!("expected CONNACK");
            };
            if ack.reason != ReasonCode::Success {
                assert_eq!(ack.reason, expected);
                assert_eq!(client.receive_or_end().await, None);
                break;
            }
        }
    }
    assert!(server.stats.snapshot().connects_refused >= 2);
    server.stop().await;
}

#[tokio::test]
async fn deliveries_in_flight_stop_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = MqttConfig::default();
    config.protocol.inflight_maximum = NonZeroU16::new(2).unwrap();
    let server = Server::with(dir.path(), true, config).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    for number in ["1", "2", "3"] {
        sender.publish("a", number).await;
    }
    let first = reader.message().await;
    reader.message().await;
    reader.ping().await;
    let packet_id = first.packet_id.unwrap();
    reader.send(Packet::PubAck(success(packet_id))).await;
    assert_eq!(reader.message().await.payload, "3");
    server.stop().await;
}

#[tokio::test]
async fn a_full_queue_in_memory_loses_nothing() {
    const COUNT: u16 = 500;
    let dir = tempfile::tempdir().unwrap();
    let config = MqttConfig {
        queue_len_max: 1,
        ..MqttConfig::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    for number in 0..COUNT {
        let packet = publish("a", &number.to_string(), Qos::AtLeastOnce, number + 1);
        sender.send(packet).await;
    }
    for number in 0..COUNT {
        assert_eq!(reader.take().await.1, number.to_string());
    }
    assert_eq!(server.stats.snapshot().deliveries_lost, 0);
    server.stop().await;
}
