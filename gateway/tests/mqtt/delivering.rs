//! From the log to subscribers.

use forebay_mqtt::packet::{RetainHandling, SubscriptionOptions};
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, id, options, pair, publish, retained, success, words};
use super::server::Server;

#[tokio::test]
async fn a_delivery_has_the_lower_qos_of_publish_and_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for version in [Version::V311, Version::V5] {
        let mut sender = Client::clean(server.address, version, "sender").await;
        for granted in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let mut reader = Client::clean(server.address, version, "reader").await;
            reader.subscribe("a/+", granted).await;
            sender.send(publish("a/b", "0", Qos::AtMostOnce, 0)).await;
            sender.publish("a/b", "1").await;
            sender.send(publish("a/b", "2", Qos::ExactlyOnce, 2)).await;
            assert_eq!(sender.receive().await, Packet::PubRec(success(id(2))));
            sender.send(Packet::PubRel(success(id(2)))).await;
            assert_eq!(sender.receive().await, Packet::PubComp(success(id(2))));
            for sent in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                let message = reader.message().await;
                assert_eq!(message.qos, sent.min(granted));
                assert_eq!(words(&message), pair("a/b", &(sent as u8).to_string()));
                assert!(!message.retain);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_delivered_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.subscribe("#", Qos::AtMostOnce).await;
    client.send(publish("a", "1", Qos::AtMostOnce, 0)).await;
    client.ping().await;
    server.storage.run_commit();
    assert_eq!(words(&client.message().await), pair("a", "1"));
}

/// A session that is behind wrote a page and then waited for an event that
/// nobody had a reason to cause, up to the next cursor record.
#[tokio::test]
async fn a_reader_that_is_behind_gets_page_after_page() {
    /// More than the queue of a session holds.
    const COMMITS: usize = 20;
    const PER_COMMIT: usize = 20;
    /// Below the five seconds after which a cursor record woke the session.
    const SOON: std::time::Duration = std::time::Duration::from_secs(4);
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("#", Qos::AtMostOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    let payload = "x".repeat(50 << 10);
    for _ in 0..COMMITS {
        for _ in 0..PER_COMMIT {
            sender
                .send(publish("a", &payload, Qos::AtMostOnce, 0))
                .await;
        }
        sender.ping().await;
        server.storage.run_commit();
    }
    for _ in 0..COMMITS * PER_COMMIT {
        let message = tokio::time::timeout(SOON, reader.message()).await;
        assert_eq!(message.unwrap().payload.len(), payload.len());
    }
}

#[tokio::test]
async fn overlapping_subscriptions_deliver_once_with_the_highest_qos() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    for (filter, qos) in [
        ("a/#", Qos::AtMostOnce),
        ("a/b", Qos::ExactlyOnce),
        ("+/b", Qos::AtLeastOnce),
        ("other/#", Qos::ExactlyOnce),
    ] {
        reader.subscribe(filter, qos).await;
    }
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    sender.publish("a/b", "1").await;
    sender.publish("a/b", "2").await;
    let first = reader.message().await;
    assert_eq!(
        (first.qos, words(&first)),
        (Qos::AtLeastOnce, pair("a/b", "1"))
    );
    assert_eq!(words(&reader.message().await), pair("a/b", "2"));
    server.stop().await;
}

#[tokio::test]
async fn wildcards_see_topics_of_every_route_and_topics_that_appear_later() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("plant/+/press", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    for (path, payload) in [
        ("plant/ulm/press", "1"),
        ("plant/ulm/saw", "no"),
        ("plant/bonn/press", "2"),
        ("office", "no"),
        ("plant/kiel/press", "3"),
    ] {
        sender.publish(path, payload).await;
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(reader.take().await);
    }
    seen.sort();
    let expected = [
        pair("plant/bonn/press", "2"),
        pair("plant/kiel/press", "3"),
        pair("plant/ulm/press", "1"),
    ];
    assert_eq!(seen, expected);
    server.stop().await;
}

#[tokio::test]
async fn the_namespace_includes_records_of_kafka_producers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("#", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    sender.publish("first", "x").await;
    assert_eq!(reader.take().await, pair("first", "x"));
    let topic = server.storage.topic("readings").unwrap();
    let record = |key: &'static [u8], value: &'static [u8]| {
        let record = forebay_records::RecordRef {
            timestamp: 1,
            key: Some(key),
            value: Some(value),
            headers: &[],
        };
        topic.partition(0).unwrap().append_record(&record).unwrap();
    };
    record(b"not/a/+/name", b"no");
    record(b"line/1", b"yes");
    assert_eq!(reader.take().await, pair("line/1", "yes"));
    server.stop().await;
}

#[tokio::test]
async fn a_retained_message_greets_new_subscriptions_and_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    for (number, (path, payload)) in [("a/b", "old"), ("a/b", "new"), ("a/c", "x"), ("a/c", "")]
        .into_iter()
        .enumerate()
    {
        let packet_id = number as u16 + 1;
        sender.send(retained(path, payload, packet_id)).await;
        assert_eq!(
            sender.receive().await,
            Packet::PubAck(success(id(packet_id)))
        );
    }
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("a/#", Qos::AtMostOnce).await;
    let greeting = reader.message().await;
    assert!(greeting.retain);
    assert_eq!(
        (greeting.qos, words(&greeting)),
        (Qos::AtMostOnce, pair("a/b", "new"))
    );
    // Nothing of a/c: the next message is a live one, without the flag.
    let mut sender = Client::clean(server.address, Version::V5, "sender").await;
    sender.send(retained("a/c", "live", 9)).await;
    let live = reader.message().await;
    assert_eq!((live.retain, words(&live)), (false, pair("a/c", "live")));
    server.stop().await;
}

#[tokio::test]
async fn retain_handling_decides_about_the_greeting() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.send(retained("a", "kept", 1)).await;
    assert_eq!(client.receive().await, Packet::PubAck(success(id(1))));
    let with = |retain_handling| SubscriptionOptions {
        retain_handling,
        ..options(Qos::AtMostOnce)
    };
    client
        .subscribe_with("a", with(RetainHandling::DoNotSend))
        .await;
    client
        .subscribe_with("a", with(RetainHandling::SendIfNew))
        .await;
    client.ping().await;
    client
        .subscribe_with("a", with(RetainHandling::SendAtSubscribe))
        .await;
    assert_eq!(words(&client.message().await), pair("a", "kept"));
    client.ping().await;
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_gets_everything_in_order() {
    const COUNT: u32 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V311, "sender").await;
    let mut bytes = bytes::BytesMut::new();
    for number in 0..COUNT {
        let packet_id = u16::try_from(number % 60_000).unwrap() + 1;
        let packet = publish("a", &number.to_string(), Qos::AtLeastOnce, packet_id);
        packet.encode(Version::V311, &mut bytes).unwrap();
    }
    sender.send_bytes(&bytes).await;
    for _ in 0..COUNT {
        assert!(matches!(sender.receive().await, Packet::PubAck(_)));
    }
    // The reader has not acknowledged anything up to here, so its queue has
    // overflowed and the rest comes from the log.
    for number in 0..COUNT {
        assert_eq!(reader.take().await, pair("a", &number.to_string()));
    }
    server.stop().await;
}

#[tokio::test]
async fn subscriptions_beyond_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = forebay_gateway::mqtt::MqttConfig {
        subscriptions_per_session_max: 1,
        ..Default::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.subscribe("a", Qos::AtMostOnce).await;
    let refused = client.subscribe_with("b", options(Qos::AtMostOnce)).await;
    assert_eq!(refused.reasons, vec![ReasonCode::QuotaExceeded]);
    client.subscribe("a", Qos::AtLeastOnce).await;
    server.stop().await;
}
