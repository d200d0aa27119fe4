//! From a client into the log.

use forebay_mqtt::{Packet, Qos, Version};

use super::client::{Client, id, pair, publish, success};
use super::server::Server;

#[tokio::test]
async fn every_qos_reaches_the_log_in_order() {
    for version in [Version::V311, Version::V5] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await;
        let mut client = Client::clean(server.address, version, "c").await;
        client.send(publish("a", "0", Qos::AtMostOnce, 0)).await;
        client.send(publish("a", "1", Qos::AtLeastOnce, 7)).await;
        assert_eq!(client.receive().await, Packet::PubAck(success(id(7))));
        client.send(publish("a", "2", Qos::ExactlyOnce, 7)).await;
        assert_eq!(client.receive().await, Packet::PubRec(success(id(7))));
        client.send(Packet::PubRel(success(id(7)))).await;
        assert_eq!(client.receive().await, Packet::PubComp(success(id(7))));
        let expected = ["0", "1", "2"].map(|payload| pair("a", payload));
        assert_eq!(server.log("readings"), expected);
        server.stop().await;
    }
}

#[tokio::test]
async fn no_acknowledgement_leaves_before_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.send(publish("a", "1", Qos::AtLeastOnce, 1)).await;
    client.send(publish("a", "2", Qos::ExactlyOnce, 2)).await;
    client.send(publish("a", "3", Qos::AtLeastOnce, 3)).await;
    // The answer to the ping is behind what the publishes could have caused.
    client.ping().await;
    assert_eq!(server.log("readings"), []);
    server.storage.run_commit();
    assert_eq!(client.receive().await, Packet::PubAck(success(id(1))));
    assert_eq!(client.receive().await, Packet::PubRec(success(id(2))));
    assert_eq!(client.receive().await, Packet::PubAck(success(id(3))));
    assert_eq!(server.log("readings").len(), 3);
}

#[tokio::test]
async fn a_persistent_session_s_release_waits_for_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let connect = super::client::persistent_connect(Version::V5, "c");
    client.send(Packet::Connect(Box::new(connect))).await;
    let connack = commit_until(&server, &mut client).await;
    assert!(matches!(connack, Packet::ConnAck(_)), "{connack:?}");
    client.send(publish("a", "1", Qos::ExactlyOnce, 9)).await;
    client.ping().await;
    server.storage.run_commit();
    assert_eq!(client.receive().await, Packet::PubRec(success(id(9))));
    client.send(Packet::PubRel(success(id(9)))).await;
    client.ping().await;
    server.storage.run_commit();
    assert_eq!(client.receive().await, Packet::PubComp(success(id(9))));
}

/// Commits until the client has a packet: when the server appends is its own
/// affair.
async fn commit_until(server: &Server, client: &mut Client) -> Packet {
    let mut packet = std::pin::pin!(client.receive());
    loop {
        tokio::select! {
            biased;
            packet = &mut packet => return packet,
            () = tokio::task::yield_now() => { server.storage.run_commit(); }
        }
    }
}

#[tokio::test]
async fn a_qos_2_message_repeated_after_a_crash_is_not_appended_twice() {
    let dir = tempfile::tempdir().unwrap();
    for version in [Version::V311, Version::V5] {
        let name = format!("{version:?}");
        let server = Server::start(dir.path()).await;
        let before = server
            .storage
            .topic("readings")
            .map_or(0, |_| server.log("readings").len());
        let (mut client, _) = Client::persistent(server.address, version, &name).await;
        client.send(publish("a", &name, Qos::ExactlyOnce, 5)).await;
        assert_eq!(client.receive().await, Packet::PubRec(success(id(5))));
        server.crash().await;

        let server = Server::start(dir.path()).await;
        let (mut client, present) = Client::persistent(server.address, version, &name).await;
        assert!(present);
        let Packet::Publish(mut again) = publish("a", &name, Qos::ExactlyOnce, 5) else {
            unreachable!("publish makes a PUBLISH");
        };
        again.dup = true;
        client.send(Packet::Publish(again)).await;
        assert_eq!(client.receive().await, Packet::PubRec(success(id(5))));
        client.send(Packet::PubRel(success(id(5)))).await;
        assert_eq!(client.receive().await, Packet::PubComp(success(id(5))));
        assert_eq!(server.log("readings").len(), before + 1);
        // The identifier is free again: the same packet is a new message.
        client.send(publish("a", &name, Qos::ExactlyOnce, 5)).await;
        assert_eq!(client.receive().await, Packet::PubRec(success(id(5))));
        assert_eq!(server.log("readings").len(), before + 2);
        server.crash().await;
    }
}

#[tokio::test]
async fn routes_make_topics_and_keep_a_path_in_one_partition() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    for payload in ["1", "2", "3"] {
        client.publish("plant/ulm/press", payload).await;
    }
    client.publish("plant/bonn/press", "4").await;
    let expected = ["1", "2", "3"].map(|payload| pair("plant/ulm/press", payload));
    assert_eq!(server.log("plant.ulm"), expected);
    assert_eq!(server.log("plant.bonn"), [pair("plant/bonn/press", "4")]);
    assert_eq!(
        server.storage.topic("plant.ulm").unwrap().partition_count(),
        4
    );
    assert_eq!(server.stats.snapshot().publishes_in, [0, 4, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_publishes_in_one_write_are_all_acknowledged_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V311, "c").await;
    let mut bytes = bytes::BytesMut::new();
    for number in 1..=2_000 {
        let packet = publish("a", &number.to_string(), Qos::AtLeastOnce, number);
        packet.encode(Version::V311, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes).await;
    for number in 1..=2_000 {
        assert_eq!(client.receive().await, Packet::PubAck(success(id(number))));
    }
    assert_eq!(server.log("readings").len(), 2_000);
    server.stop().await;
}
