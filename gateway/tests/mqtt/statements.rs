//! Statements of the specification that no other test shows; the whole list is
//! in `docs/mqtt-conformance.md`.

use std::time::Duration;

use bytes::Bytes;
use forebay_mqtt::packet::{Connect, Publish, PublishProperties, Unsubscribe, Will};
use forebay_mqtt::{Packet, PacketId, Qos, ReasonCode, TopicFilter, TopicName, Version};

use super::client::{
    Client, id, pair, persistent_connect, publish, retained, success, text, will, words,
};
use super::server::Server;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// \[MQTT-3.1.3-6\], \[MQTT-3.1.3-7\], \[MQTT-3.2.2-16\]: each client without an
/// identifier gets one of its own, in MQTT 5 it is told.
#[tokio::test]
async fn clients_without_identifier_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut clients = Vec::new();
    let mut names = Vec::new();
    for version in VERSIONS {
        for _ in 0..3 {
            let mut client = Client::open(server.address, version).await;
            let mut connect = Connect::new(version, text(""));
            connect.clean_start = true;
            let ack = client.connect(connect).await;
            names.extend(ack.properties.assigned_client_identifier);
            clients.push(client);
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    // With one identifier each would have ended the one before.
    for client in &mut clients {
        client.ping().await;
    }
    server.stop().await;
}

/// \[MQTT-3.1.2-14\], \[MQTT-3.1.2-15\], \[MQTT-3.1.3-10\]: a will is retained
/// when it says so, and carries its properties in their order.
#[tokio::test]
async fn a_will_is_published_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut watcher, _) = Client::persistent(server.address, Version::V5, "w").await;
    watcher.subscribe("state/#", Qos::AtLeastOnce).await;
    for retain in [false, true] {
        let path = format!("state/{retain}");
        let mut given = Will {
            retain,
            ..will(&path, "gone")
        };
        given.properties.content_type = Some(text("text/plain"));
        given.properties.response_topic = Some(TopicName::try_from("ask").unwrap());
        given.properties.correlation_data = Some(Bytes::from_static(&[7]));
        let users = [("b", "1"), ("a", "2"), ("b", "3")];
        let users = users.map(|(name, value)| (text(name), text(value)));
        given.properties.user_properties = users.to_vec();
        let mut client = Client::open(server.address, Version::V5).await;
        let mut connect = Connect::new(Version::V5, text(&path));
        connect.will = Some(given.clone());
        client.connect(connect).await;
        drop(client);
        let message = watcher.message().await;
        assert_eq!(words(&message), pair(&path, "gone"));
        assert_eq!(
            message.properties.content_type,
            given.properties.content_type
        );
        assert_eq!(
            message.properties.response_topic,
            given.properties.response_topic
        );
        assert_eq!(
            message.properties.correlation_data,
            given.properties.correlation_data
        );
        assert_eq!(
            message.properties.user_properties,
            given.properties.user_properties
        );
        watcher
            .send(Packet::PubAck(success(message.packet_id.unwrap())))
            .await;
    }
    let mut later = Client::clean(server.address, Version::V5, "later").await;
    later.subscribe("state/#", Qos::AtMostOnce).await;
    let greeting = later.message().await;
    assert_eq!(
        (greeting.retain, words(&greeting)),
        (true, pair("state/true", "gone"))
    );
    later.ping().await;
    server.stop().await;
}

async fn unsubscribe(client: &mut Client, filter: &str) {
    let packet = Unsubscribe {
        packet_id: id(9),
        properties: Default::default(),
        filters: vec![TopicFilter::try_from(filter).unwrap()],
    };
    client.send(Packet::Unsubscribe(packet)).await;
    assert!(matches!(client.receive().await, Packet::UnsubAck(_)));
}

/// \[MQTT-3.10.4-3\]: what was begun before the UNSUBSCRIBE is completed: the
/// QoS 2 steps go on, and a new connection of the session gets the rest again.
#[tokio::test]
async fn deliveries_that_were_begun_outlive_their_subscription() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await;
        let mut sender = Client::clean(server.address, version, "s").await;
        sender.send(retained("a/kept", "kept", 1)).await;
        sender.acknowledged(Packet::PubAck(success(id(1)))).await;
        let (mut reader, _) = Client::persistent(server.address, version, "r").await;
        reader.subscribe("a/#", Qos::ExactlyOnce).await;
        let mut begun = vec![reader.message().await];
        for (number, qos) in [
            (1, Qos::ExactlyOnce),
            (2, Qos::ExactlyOnce),
            (3, Qos::AtLeastOnce),
        ] {
            sender
                .send(publish("a/b", &number.to_string(), qos, number))
                .await;
            sender.receive().await;
            begun.push(reader.message().await);
        }
        unsubscribe(&mut reader, "a/#").await;
        sender.publish("a/b", "unwanted").await;
        let first = begun.remove(1).packet_id.unwrap();
        reader.send(Packet::PubRec(success(first))).await;
        assert_eq!(reader.receive().await, Packet::PubRel(success(first)));
        reader.send(Packet::PubComp(success(first))).await;
        reader.ping().await;
        drop(reader);

        let (mut reader, present) = Client::persistent(server.address, version, "r").await;
        assert!(present);
        let mut again = Vec::new();
        for _ in 0..begun.len() {
            let message = reader.message().await;
            assert!(message.dup);
            again.push(facts(&message));
        }
        reader.ping().await;
        again.sort();
        let mut expected: Vec<_> = begun.iter().map(facts).collect();
        expected.sort();
        assert_eq!(again, expected);
        server.stop().await;
    }
}

type Facts = (Option<PacketId>, Qos, bool, (String, String));

fn facts(message: &Publish) -> Facts {
    (
        message.packet_id,
        message.qos,
        message.retain,
        words(message),
    )
}

/// \[MQTT-4.3.3-7\] and \[MQTT-4.4.0-1\]: a message that was
/// sent does not expire any more, it is sent again until it is acknowledged.
#[tokio::test]
async fn a_message_that_was_sent_does_not_expire() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    let mut begun = Vec::new();
    for (number, qos) in [(1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
        let Packet::Publish(mut packet) = publish("a", "x", qos, number) else {
            panic!("publish makes a PUBLISH");
        };
        packet.properties = PublishProperties {
            message_expiry_interval: Some(1),
            ..PublishProperties::default()
        };
        sender.send(Packet::Publish(packet)).await;
        sender.receive().await;
        begun.push(facts(&reader.message().await));
    }
    drop(reader);
    // The interval itself has to pass; nothing waits for anything here.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    for sent in begun {
        let message = reader.message().await;
        assert!(message.dup);
        assert_eq!(facts(&message), sent);
        assert_eq!(message.properties.message_expiry_interval, Some(0));
    }
    assert_eq!(server.stats.snapshot().deliveries_expired, 0);
    server.stop().await;
}

/// \[MQTT-3.3.1-5\] to \[MQTT-3.3.1-8\], 3.1.1 \[MQTT-3.3.1-7\] and
/// \[MQTT-3.3.1-10\] to \[MQTT-3.3.1-12\]: the last retained message counts,
/// of QoS 0 too; one without the flag changes nothing; an empty one is
/// delivered as any and leaves nothing.
#[tokio::test]
async fn only_retained_messages_change_what_is_retained() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for version in VERSIONS {
        let mut sender = Client::clean(server.address, version, "s").await;
        let mut live = Client::clean(server.address, version, "live").await;
        live.subscribe("a", Qos::AtMostOnce).await;
        for (payload, qos, retain, kept) in [
            ("1", Qos::AtLeastOnce, true, Some("1")),
            ("2", Qos::AtMostOnce, true, Some("2")),
            ("3", Qos::AtLeastOnce, false, Some("2")),
            ("", Qos::AtLeastOnce, false, Some("2")),
            ("", Qos::AtLeastOnce, true, None),
        ] {
            let Packet::Publish(mut packet) = publish("a", payload, qos, 7) else {
                panic!("publish makes a PUBLISH");
            };
            packet.retain = retain;
            sender.send(Packet::Publish(packet)).await;
            let message = live.message().await;
            assert_eq!(
                (message.retain, words(&message)),
                (false, pair("a", payload))
            );
            if qos == Qos::AtLeastOnce {
                sender.acknowledged(Packet::PubAck(success(id(7)))).await;
            }
            let mut later = Client::clean(server.address, version, "later").await;
            later.subscribe("a", Qos::AtMostOnce).await;
            if let Some(kept) = kept {
                let greeting = later.message().await;
                assert_eq!((greeting.retain, words(&greeting)), (true, pair("a", kept)));
            }
            later.ping().await;
        }
    }
    server.stop().await;
}

/// \[MQTT-4.8.2-5\]: a QoS 2 message that was sent to a member is given to no
/// other one, also when the member's session ends.
#[tokio::test]
async fn a_qos_2_message_of_a_group_ends_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut first = Client::clean(server.address, Version::V5, "first").await;
    first.subscribe("$share/g/job", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.send(publish("job", "1", Qos::ExactlyOnce, 1)).await;
    assert_eq!(sender.receive().await, Packet::PubRec(success(id(1))));
    assert_eq!(words(&first.message().await), pair("job", "1"));
    let mut second = Client::clean(server.address, Version::V5, "second").await;
    second.subscribe("$share/g/job", Qos::ExactlyOnce).await;
    drop(first);
    // The session "first" has ended when another connection may have its name.
    let (_, present) = Client::persistent(server.address, Version::V5, "first").await;
    assert!(!present);
    sender.publish("job", "2").await;
    assert_eq!(second.take().await, pair("job", "2"));
    second.ping().await;
    server.stop().await;
}

/// \[MQTT-4.1.0-1\]: a session lives while its connection is open, however
/// short its expiry.
#[tokio::test]
async fn a_session_does_not_expire_while_it_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let mut connect = persistent_connect(Version::V5, "c");
    connect.properties.session_expiry_interval = Some(1);
    client.connect(connect).await;
    client.subscribe("a", Qos::AtLeastOnce).await;
    // The expiry itself has to pass, and the sweep that would end the session.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    client.publish("a", "1").await;
    assert_eq!(client.take().await, pair("a", "1"));
    assert!(server.storage.get(b"m/s/c").is_some());
    server.stop().await;
}

/// \[MQTT-3.8.4-5\] and \[MQTT-3.8.4-6\]: each filter of a SUBSCRIBE has its own
/// result, and a failed one does not stop the others.
#[tokio::test]
async fn filters_of_one_subscribe_succeed_and_fail_one_by_one() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let config = forebay_gateway::mqtt::MqttConfig {
            subscriptions_per_session_max: 2,
            ..Default::default()
        };
        let server = Server::with(dir.path(), true, config).await;
        let mut client = Client::clean(server.address, version, "c").await;
        let subscription = |filter| forebay_mqtt::packet::Subscription {
            filter: TopicFilter::try_from(filter).unwrap(),
            options: super::client::options(Qos::AtLeastOnce),
        };
        client
            .send(Packet::Subscribe(forebay_mqtt::packet::Subscribe {
                packet_id: id(3),
                properties: Default::default(),
                subscriptions: ["a", "b", "c", "a"].map(subscription).to_vec(),
            }))
            .await;
        let Packet::SubAck(ack) = client.receive().await else {
            panic!("expected SUBACK");
        };
        let failed = match version {
            Version::V311 => ReasonCode::UnspecifiedError,
            Version::V5 => ReasonCode::QuotaExceeded,
        };
        let granted = ReasonCode::GrantedQos1;
        assert_eq!(
            (ack.packet_id, ack.reasons),
            (id(3), vec![granted, granted, failed, granted])
        );
        for path in ["c", "b", "a"] {
            client.publish(path, "x").await;
        }
        assert_eq!(client.take().await, pair("b", "x"));
        assert_eq!(client.take().await, pair("a", "x"));
        server.stop().await;
    }
}

/// \[MQTT-3.3.1-3\] of both versions: the DUP flag of a publisher goes nowhere.
#[tokio::test]
async fn a_repeated_publish_is_delivered_without_dup() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for version in VERSIONS {
        let mut reader = Client::clean(server.address, version, "r").await;
        reader.subscribe("a", Qos::AtLeastOnce).await;
        let mut sender = Client::clean(server.address, version, "s").await;
        let Packet::Publish(mut packet) = publish("a", "x", Qos::AtLeastOnce, 1) else {
            panic!("publish makes a PUBLISH");
        };
        packet.dup = true;
        sender.send(Packet::Publish(packet)).await;
        let message = reader.message().await;
        assert_eq!((message.dup, words(&message)), (false, pair("a", "x")));
    }
    server.stop().await;
}

/// \[MQTT-4.3.3-13\]: the steps of a QoS 2 publish go on when it has expired.
#[tokio::test]
async fn an_expired_publish_is_completed_with_its_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    let Packet::Publish(mut packet) = publish("a", "x", Qos::ExactlyOnce, 5) else {
        panic!("publish makes a PUBLISH");
    };
    packet.properties.message_expiry_interval = Some(0);
    sender.send(Packet::Publish(packet.clone())).await;
    assert_eq!(sender.receive().await, Packet::PubRec(success(id(5))));
    packet.dup = true;
    sender.send(Packet::Publish(packet)).await;
    assert_eq!(sender.receive().await, Packet::PubRec(success(id(5))));
    sender.send(Packet::PubRel(success(id(5)))).await;
    assert_eq!(sender.receive().await, Packet::PubComp(success(id(5))));
    server.stop().await;
}
