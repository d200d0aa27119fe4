//! Sessions that outlive their connection, and the end of connections.

use forebay_mqtt::packet::Connect;
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, id, pair, persistent_connect, publish, success, text, will, words};
use super::server::Server;

#[tokio::test]
async fn a_persistent_session_misses_nothing_across_restarts() {
    for version in [Version::V311, Version::V5] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await;
        let (mut reader, present) = Client::persistent(server.address, version, "r").await;
        assert!(!present);
        reader.subscribe("a/#", Qos::AtLeastOnce).await;
        let mut sender = Client::clean(server.address, version, "s").await;
        sender.publish("a/1", "1").await;
        assert_eq!(reader.take().await, pair("a/1", "1"));
        reader.disconnect().await;
        sender.publish("a/2", "2").await;
        sender.publish("b", "no").await;
        server.stop().await;

        let server = Server::start(dir.path()).await;
        let mut sender = Client::clean(server.address, version, "s").await;
        sender.publish("a/3", "3").await;
        let (mut reader, present) = Client::persistent(server.address, version, "r").await;
        assert!(present);
        assert_eq!(reader.take().await, pair("a/2", "2"));
        assert_eq!(reader.take().await, pair("a/3", "3"));
        sender.publish("a/4", "4").await;
        assert_eq!(reader.take().await, pair("a/4", "4"));
        server.stop().await;
    }
}

#[tokio::test]
async fn after_a_crash_everything_acknowledged_behind_the_suback_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("a", "before").await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::AtLeastOnce).await;
    sender.publish("a", "1").await;
    sender.publish("a", "2").await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    assert_eq!(reader.take().await, pair("a", "1"));
    assert_eq!(reader.take().await, pair("a", "2"));
    server.stop().await;
}

#[tokio::test]
async fn an_unacknowledged_delivery_is_repeated_with_its_packet_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("a", "1").await;
    sender.send(publish("a", "2", Qos::ExactlyOnce, 2)).await;
    let first = [reader.message().await, reader.message().await];
    drop(reader);

    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    for sent in first {
        let again = reader.message().await;
        assert!(again.dup);
        assert_eq!(
            (again.packet_id, words(&again)),
            (sent.packet_id, words(&sent))
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_qos_2_delivery_is_completed_after_a_crash_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("a", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for (number, payload) in [(1, "complete"), (2, "received"), (3, "published")] {
        sender
            .send(publish("a", payload, Qos::ExactlyOnce, number))
            .await;
        assert_eq!(sender.receive().await, Packet::PubRec(success(id(number))));
    }
    assert_eq!(reader.take().await, pair("a", "complete"));
    let received = reader.message().await.packet_id.unwrap();
    let published = reader.message().await;
    reader.send(Packet::PubRec(success(received))).await;
    reader.acknowledged(Packet::PubRel(success(received))).await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("a", "last").await;
    let mut messages = Vec::new();
    let mut released = false;
    while messages.last() != Some(&pair("a", "last")) {
        match reader.receive().await {
            Packet::Publish(publish) => {
                if publish.packet_id == published.packet_id {
                    assert!(publish.dup);
                }
                messages.push(words(&publish));
            }
            Packet::PubRel(ack) => {
                released |= ack == success(received);
                reader.send(Packet::PubComp(success(ack.packet_id))).await;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(released);
    assert_eq!(messages, [pair("a", "published"), pair("a", "last")]);
    server.stop().await;
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut first, _) = Client::persistent(server.address, Version::V5, "c").await;
    first.subscribe("a", Qos::AtLeastOnce).await;
    let (mut second, present) = Client::persistent(server.address, Version::V5, "c").await;
    assert!(present);
    let Packet::Disconnect(goodbye) = first.receive().await else {
        panic!("expected DISCONNECT");
    };
    assert_eq!(goodbye.reason, ReasonCode::SessionTakenOver);
    assert_eq!(first.receive_or_end().await, None);
    second.publish("a", "1").await;
    assert_eq!(second.take().await, pair("a", "1"));
    server.stop().await;
}

#[tokio::test]
async fn a_clean_start_forgets_the_session_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut client, _) = Client::persistent(server.address, Version::V5, "c").await;
    client.subscribe("a", Qos::AtLeastOnce).await;
    client.disconnect().await;
    Client::clean(server.address, Version::V5, "c")
        .await
        .disconnect()
        .await;
    let (_, present) = Client::persistent(server.address, Version::V5, "c").await;
    assert!(!present);
    server.stop().await;
    let server = Server::start(dir.path()).await;
    let (mut client, present) = Client::persistent(server.address, Version::V5, "c").await;
    assert!(present);
    client.publish("a", "1").await;
    // No subscription came back: the ping is answered first.
    client.ping().await;
    server.stop().await;
}

#[tokio::test]
async fn unsubscribing_ends_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.subscribe("a", Qos::AtMostOnce).await;
    client.subscribe("b", Qos::AtMostOnce).await;
    let filters = ["a", "never"].map(|f| forebay_mqtt::TopicFilter::try_from(f).unwrap());
    client
        .send(Packet::Unsubscribe(forebay_mqtt::packet::Unsubscribe {
            packet_id: id(4),
            properties: Default::default(),
            filters: filters.to_vec(),
        }))
        .await;
    let Packet::UnsubAck(ack) = client.receive().await else {
        panic!("expected UNSUBACK");
    };
    assert_eq!(
        ack.reasons,
        [ReasonCode::Success, ReasonCode::NoSubscriptionExisted]
    );
    client.publish("a", "no").await;
    client.publish("b", "yes").await;
    assert_eq!(words(&client.message().await), pair("b", "yes"));
    server.stop().await;
}

#[tokio::test]
async fn a_will_is_published_when_the_connection_breaks_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut watcher = Client::clean(server.address, Version::V5, "w").await;
    watcher.subscribe("state/#", Qos::AtLeastOnce).await;
    for (path, breaks) in [("state/polite", false), ("state/broken", true)] {
        let mut client = Client::open(server.address, Version::V311).await;
        let mut connect = Connect::new(Version::V311, text(path));
        connect.clean_start = true;
        connect.will = Some(will(path, "gone"));
        client.connect(connect).await;
        if breaks {
            drop(client);
        } else {
            client.disconnect().await;
        }
    }
    assert_eq!(watcher.take().await, pair("state/broken", "gone"));
    server.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_disconnected_after_its_keep_alive() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let mut connect = persistent_connect(Version::V5, "c");
    connect.keep_alive = 1;
    client.connect(connect).await;
    let Packet::Disconnect(goodbye) = client.receive().await else {
        panic!("expected DISCONNECT");
    };
    assert_eq!(goodbye.reason, ReasonCode::KeepAliveTimeout);
    assert_eq!(client.receive_or_end().await, None);
    server.stop().await;
}

#[tokio::test]
async fn an_expired_session_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let mut connect = persistent_connect(Version::V5, "c");
    connect.properties.session_expiry_interval = Some(1);
    client.connect(connect).await;
    client.subscribe("a", Qos::AtLeastOnce).await;
    client.disconnect().await;
    // The statistics count sessions once a second.
    let waiting = async {
        while server.stats.snapshot().sessions != 0 || server.storage.get(b"m/s/c").is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting)
        .await
        .unwrap();
    let (_, present) = Client::persistent(server.address, Version::V5, "c").await;
    assert!(!present);
    server.stop().await;
}
