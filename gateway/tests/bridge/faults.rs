//! What a broker may do to a bridge.

use forebay_gateway::config::{BridgeVersion, Direction};
use forebay_mqtt::packet::Ack;
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use crate::broker::{Broker, Running, config, topic};
use crate::client::{Client, id, pair, publish, success, text};
use crate::server::Server;

fn names(payloads: &[(forebay_mqtt::PacketId, String)]) -> Vec<&str> {
    payloads
        .iter()
        .map(|(_, payload)| payload.as_str())
        .collect()
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order() {
    for (version, spoken) in [
        (BridgeVersion::V311, Version::V311),
        (BridgeVersion::V5, Version::V5),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await;
        let broker = Broker::start(spoken).await;
        let settings = config(broker.address, version, vec![topic("a/#", Direction::Out)]);
        let bridge = Running::start(settings, &server.publisher, dir.path());
        let mut session = broker.accept(false).await;
        assert!(!session.connect.clean_start);
        let mut client = Client::clean(server.address, Version::V5, "c").await;
        for number in ["1", "2", "3"] {
            client.publish("a/x", number).await;
        }
        let sent = session.payloads(3).await;
        assert_eq!(names(&sent), ["1", "2", "3"]);
        // The first and, out of order, the third.
        for index in [0, 2] {
            session.send(Packet::PubAck(success(sent[index].0))).await;
        }
        client.publish("a/x", "4").await;
        let fourth = session.payloads(1).await;
        drop(session);
        // The broker forgot the session; the log did not.
        let mut session = broker.accept(false).await;
        let sent = session.payloads(3).await;
        assert_eq!(names(&sent), ["2", "3", "4"]);
        assert_eq!(names(&fourth), ["4"]);
        bridge.stop().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn the_window_is_the_smaller_of_ours_and_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V5).await;
    let settings = config(
        broker.address,
        BridgeVersion::V5,
        vec![topic("#", Direction::Out)],
    );
    let bridge = Running::start(settings, &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    for number in 0..20 {
        client.publish("a", &number.to_string()).await;
    }
    // Eight may be on their way; identifiers never collide, in whichever order
    // they are acknowledged.
    let mut sent = session.payloads(8).await;
    let mut seen: Vec<String> = sent.iter().map(|(_, payload)| payload.clone()).collect();
    while seen.len() < 20 {
        sent.reverse();
        let free = sent.len();
        for (packet_id, _) in sent {
            session.send(Packet::PubAck(success(packet_id))).await;
        }
        sent = session.payloads(free.min(20 - seen.len())).await;
        seen.extend(sent.iter().map(|(_, payload)| payload.clone()));
    }
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    bridge.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn cursors_survive_a_crash_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V5).await;
    let mut settings = config(
        broker.address,
        BridgeVersion::V5,
        vec![topic("#", Direction::Out)],
    );
    // With one on its way, a message says that the one before it is done.
    settings.inflight = 1;
    // What is there before the bridge is new is not carried.
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.publish("a", "before").await;
    let bridge = Running::start(settings.clone(), &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    client.publish("a", "1").await;
    let sent = session.payloads(1).await;
    assert_eq!(names(&sent), ["1"]);
    bridge.crash().await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.publish("a", "2").await;
    client.publish("plant/ulm/new-topic", "3").await;
    let bridge = Running::start(settings.clone(), &server.publisher, dir.path());
    let mut session = broker.accept(true).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.extend(session.payloads(1).await);
        let (packet_id, _) = sent[sent.len() - 1];
        session.send(Packet::PubAck(success(packet_id))).await;
    }
    sent.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(names(&sent), ["1", "2", "3"]);
    // An orderly end writes the cursors; only what comes later is carried.
    client.publish("a", "4").await;
    let fourth = session.payloads(1).await;
    session.send(Packet::PubAck(success(fourth[0].0))).await;
    client.publish("a", "5").await;
    let fifth = session.payloads(1).await;
    assert_eq!(names(&fifth), ["5"]);
    let stopping = bridge.stop();
    let watching = async { assert!(matches!(session.receive().await, Packet::Disconnect(_))) };
    tokio::join!(stopping, watching);
    let bridge = Running::start(settings, &server.publisher, dir.path());
    let mut session = broker.accept(true).await;
    let sent = session.payloads(1).await;
    assert_eq!(names(&sent), ["5"]);
    bridge.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_the_broker_is_acknowledged_when_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let broker = Broker::start(Version::V5).await;
    let settings = config(
        broker.address,
        BridgeVersion::V5,
        vec![topic("in/#", Direction::In)],
    );
    let bridge = Running::start(settings, &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    let filters = session.subscribe().await;
    assert_eq!(filters[0].filter.as_str(), "in/#");
    assert!(filters[0].options.no_local);
    session
        .send(publish("in/x", "1", Qos::AtLeastOnce, 9))
        .await;
    session
        .send(publish("elsewhere", "not asked for", Qos::AtLeastOnce, 10))
        .await;
    session
        .send(publish("in/x", "2", Qos::AtLeastOnce, 11))
        .await;
    // All three are taken; what is dropped waits for what came before it.
    bridge.taken(2).await;
    server.storage.run_commit();
    for packet_id in [9, 10, 11] {
        let acknowledged = session.receive().await;
        assert_eq!(acknowledged, Packet::PubAck(success(id(packet_id))));
    }
    bridge.crash().await;
    let expected = [pair("in/x", "1"), pair("in/x", "2")];
    assert_eq!(server.log("readings"), expected);
}

#[tokio::test]
async fn a_broker_may_send_more_at_once_than_the_client_takes() {
    for (version, spoken) in [
        (BridgeVersion::V311, Version::V311),
        (BridgeVersion::V5, Version::V5),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start_manual(dir.path()).await;
        let broker = Broker::start(spoken).await;
        let topics = vec![topic("in/#", Direction::In)];
        let settings = config(broker.address, version, topics);
        let bridge = Running::start(settings, &server.publisher, dir.path());
        let mut session = broker.accept(false).await;
        session.subscribe().await;
        for number in 1..=2_000 {
            let message = publish("in/x", &number.to_string(), Qos::AtLeastOnce, number);
            session.send(message).await;
        }
        bridge.taken(2_000).await;
        // They become durable at one moment, and the connection holds.
        server.storage.run_commit();
        for number in 1..=2_000 {
            let acknowledged = session.receive().await;
            assert_eq!(acknowledged, Packet::PubAck(success(id(number))));
        }
        bridge.crash().await;
        assert_eq!(server.log("readings").len(), 2_000);
    }
}

#[tokio::test]
async fn a_session_that_is_there_is_not_subscribed_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V311).await;
    let topics = vec![topic("in/#", Direction::In), topic("b", Direction::Out)];
    let mut settings = config(broker.address, BridgeVersion::V311, topics);
    let bridge = Running::start(settings.clone(), &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    session.subscribe().await;
    // The answer is handled before what follows it.
    session
        .send(publish("in/x", "1", Qos::AtLeastOnce, 1))
        .await;
    assert_eq!(session.receive().await, Packet::PubAck(success(id(1))));
    drop(session);
    let mut session = broker.accept(true).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.publish("b", "nothing before this").await;
    assert_eq!(names(&session.payloads(1).await), ["nothing before this"]);
    // Another configuration: the old filter ends, the new one begins.
    settings.topics[0].filter = "other/#".to_owned();
    bridge.configure(settings);
    while !matches!(session.receive().await, Packet::Disconnect(_)) {}
    let mut session = broker.accept(true).await;
    let Packet::Unsubscribe(ended) = session.receive().await else {
        panic!("expected UNSUBSCRIBE");
    };
    assert_eq!(ended.filters[0].as_str(), "in/#");
    let filters = session.subscribe().await;
    assert_eq!(filters[0].filter.as_str(), "other/#");
    bridge.crash().await;
    server.stop().await;
}

#[tokio::test]
async fn what_carries_our_mark_is_not_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V5).await;
    let settings = config(
        broker.address,
        BridgeVersion::V5,
        vec![topic("a", Direction::Both)],
    );
    let bridge = Running::start(settings, &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    session.subscribe().await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.publish("a", "ours").await;
    let out = session.publish().await;
    let mark = (text("forebay-bridge"), text("press-shop"));
    assert_eq!(out.properties.user_properties, std::slice::from_ref(&mark));
    session
        .send(Packet::PubAck(success(out.packet_id.unwrap())))
        .await;
    // It comes back, over another broker for instance.
    let Packet::Publish(mut echo) = publish("a", "ours", Qos::AtLeastOnce, 5) else {
        unreachable!("publish makes a PUBLISH");
    };
    echo.properties.user_properties = vec![mark];
    session.send(Packet::Publish(echo)).await;
    assert_eq!(session.receive().await, Packet::PubAck(success(id(5))));
    // What another node sent is taken in, and not carried back.
    session
        .send(publish("a", "theirs", Qos::AtLeastOnce, 6))
        .await;
    assert_eq!(session.receive().await, Packet::PubAck(success(id(6))));
    client.publish("a", "ours again").await;
    assert_eq!(session.publish().await.payload, "ours again");
    let expected = [
        pair("a", "ours"),
        pair("a", "theirs"),
        pair("a", "ours again"),
    ];
    assert_eq!(server.log("readings"), expected);
    bridge.crash().await;
    server.stop().await;
}

#[tokio::test]
async fn a_refused_message_is_passed_over_unless_it_may_pass_later() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V5).await;
    let settings = config(
        broker.address,
        BridgeVersion::V5,
        vec![topic("#", Direction::Out)],
    );
    let bridge = Running::start(settings, &server.publisher, dir.path());
    let mut session = broker.accept(false).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.publish("a", "forbidden").await;
    client.publish("a", "later").await;
    let sent = session.payloads(2).await;
    let refuse = |packet_id, reason| Packet::PubAck(Ack::new(packet_id, reason));
    session
        .send(refuse(sent[0].0, ReasonCode::NotAuthorized))
        .await;
    session
        .send(refuse(sent[1].0, ReasonCode::QuotaExceeded))
        .await;
    let mut session = broker.accept(true).await;
    assert_eq!(names(&session.payloads(1).await), ["later"]);
    assert!(bridge.health.snapshot().alarms.contains_key("refused"));
    bridge.crash().await;
    server.stop().await;
}

#[tokio::test]
async fn a_missing_password_file_is_said_and_nothing_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let broker = Broker::start(Version::V311).await;
    let mut settings = config(
        broker.address,
        BridgeVersion::V311,
        vec![topic("#", Direction::Out)],
    );
    settings.user = Some("forebay".to_owned());
    settings.password_file = Some("plant.password".into());
    let bridge = Running::start(settings, &server.publisher, dir.path());
    while !bridge.health.snapshot().reason.contains("plant.password") {
        tokio::task::yield_now().await;
    }
    std::fs::write(dir.path().join("plant.password"), "secret\n").unwrap();
    let session = broker.accept(false).await;
    assert_eq!(
        session.connect.password.as_deref(),
        Some(b"secret".as_slice())
    );
    bridge.crash().await;
    server.stop().await;
}
