//! Subscription options and identifiers (section 3.8.3.1).

use forebay_mqtt::packet::{
    RetainHandling, Subscribe, SubscribeProperties, Subscription, SubscriptionId,
    SubscriptionOptions,
};
use forebay_mqtt::{Packet, Qos, ReasonCode, TopicFilter, Version};

use super::client::{Client, id, options, pair, publish, retained, words};
use super::server::Server;

fn no_local(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        no_local: true,
        ..options(qos)
    }
}

async fn subscribe_identified(client: &mut Client, filters: &[&str], qos: Qos, number: u32) {
    let subscription = |filter: &&str| Subscription {
        filter: TopicFilter::try_from(*filter).unwrap(),
        options: options(qos),
    };
    client
        .send(Packet::Subscribe(Subscribe {
            packet_id: id(60_000),
            properties: SubscribeProperties {
                subscription_identifier: SubscriptionId::new(number),
                ..SubscribeProperties::default()
            },
            subscriptions: filters.iter().map(subscription).collect(),
        }))
        .await;
    assert!(matches!(client.receive().await, Packet::SubAck(_)));
}

/// \[MQTT-3.8.3-3\]: a message is not forwarded to a connection with the client
/// identifier of its publisher. Others get it, and so does another of the
/// session's own subscriptions.
#[tokio::test]
async fn no_local_leaves_out_the_own_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut other = Client::clean(server.address, Version::V5, "other").await;
    other.subscribe("a/#", Qos::AtLeastOnce).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.subscribe("elsewhere", Qos::AtMostOnce).await;
    // On its way while the subscription is made.
    client.send(publish("a/1", "own", Qos::AtMostOnce, 0)).await;
    client
        .subscribe_with("a/#", no_local(Qos::AtLeastOnce))
        .await;
    client.publish("a/2", "own").await;
    other.publish("a/3", "theirs").await;
    assert_eq!(client.take().await, pair("a/3", "theirs"));
    for expected in [
        pair("a/1", "own"),
        pair("a/2", "own"),
        pair("a/3", "theirs"),
    ] {
        assert_eq!(other.take().await, expected);
    }
    client.subscribe("a/4", Qos::AtMostOnce).await;
    client.publish("a/4", "own").await;
    assert_eq!(words(&client.message().await), pair("a/4", "own"));
    server.stop().await;
}

/// \[MQTT-3.8.3-3\] holds for what a persistent session reads from the log
/// after a restart, and for retained messages.
#[tokio::test]
async fn no_local_holds_across_a_restart_and_for_retained_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut client, _) = Client::persistent(server.address, Version::V5, "c").await;
    client
        .subscribe_with("a/#", no_local(Qos::AtLeastOnce))
        .await;
    client.publish("a/1", "own").await;
    client.send(retained("a/2", "own", 2)).await;
    client.receive().await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let mut other = Client::clean(server.address, Version::V5, "other").await;
    other.send(retained("a/3", "theirs", 1)).await;
    other.receive().await;
    let (mut client, present) = Client::persistent(server.address, Version::V5, "c").await;
    assert!(present);
    assert_eq!(client.take().await, pair("a/3", "theirs"));
    let ack = client
        .subscribe_with("a/#", no_local(Qos::AtLeastOnce))
        .await;
    assert_eq!(ack.reasons, [ReasonCode::GrantedQos1]);
    let again = client.message().await;
    assert_eq!((again.retain, words(&again)), (true, pair("a/3", "theirs")));
    client.ping().await;
    server.stop().await;
}

/// \[MQTT-3.3.4-3\] and \[MQTT-3.3.4-4\]: one copy carries the identifiers of
/// all matching subscriptions; \[MQTT-3.3.4-2\]: with the highest QoS of them.
#[tokio::test]
async fn overlapping_subscriptions_deliver_once_with_all_identifiers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    subscribe_identified(&mut reader, &["a/#"], Qos::AtMostOnce, 7).await;
    subscribe_identified(&mut reader, &["a/b", "c"], Qos::AtLeastOnce, 268_435_455).await;
    reader.subscribe("+/b", Qos::AtMostOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for round in ["live", "stored"] {
        sender.publish("a/b", round).await;
        sender.publish("c", round).await;
        if round == "stored" {
            reader = Client::persistent(server.address, Version::V5, "r").await.0;
        }
        let message = reader.message().await;
        assert_eq!(words(&message), pair("a/b", round));
        assert_eq!(message.qos, Qos::AtLeastOnce);
        let mut found: Vec<u32> = message
            .properties
            .subscription_identifiers
            .iter()
            .map(|identifier| identifier.value())
            .collect();
        found.sort_unstable();
        assert_eq!(found, [7, 268_435_455]);
        reader
            .send(Packet::PubAck(super::client::success(
                message.packet_id.unwrap(),
            )))
            .await;
        let message = reader.message().await;
        assert_eq!(words(&message), pair("c", round));
        assert_eq!(
            message.properties.subscription_identifiers,
            [SubscriptionId::new(268_435_455).unwrap()]
        );
        reader
            .send(Packet::PubAck(super::client::success(
                message.packet_id.unwrap(),
            )))
            .await;
        if round == "live" {
            // The session waits in the log for the next round.
            reader.disconnect().await;
            reader = Client::clean(server.address, Version::V5, "nobody").await;
        }
    }
    server.stop().await;
}

/// \[MQTT-3.8.4-3\] and \[MQTT-3.8.4-4\]: a subscription to a known filter
/// replaces the old one, its identifier included, and nothing is lost.
#[tokio::test]
async fn a_repeated_subscription_replaces_options_and_identifier() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    subscribe_identified(&mut client, &["a"], Qos::AtLeastOnce, 1).await;
    subscribe_identified(&mut client, &["a"], Qos::AtMostOnce, 2).await;
    client.publish("a", "1").await;
    let message = client.message().await;
    assert_eq!(message.qos, Qos::AtMostOnce);
    let identifiers = &message.properties.subscription_identifiers;
    assert_eq!(*identifiers, [SubscriptionId::new(2).unwrap()]);
    client.ping().await;
    server.stop().await;
}

/// \[MQTT-3.8.4-4\] and section 3.8.3.1: retain handling 0 sends retained
/// messages with each SUBSCRIBE, 1 only when the subscription is new, 2 never.
/// \[MQTT-3.3.1-8\]: they carry the retain flag. \[MQTT-3.3.1-12\] and
/// \[MQTT-3.3.1-13\]: a live message carries it only by retain as published.
#[tokio::test]
async fn retain_handling_and_retain_as_published_are_the_subscribers_choice() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.send(retained("a", "kept", 1)).await;
    sender.receive().await;
    let handling = [
        (RetainHandling::SendAtSubscribe, [true, true]),
        (RetainHandling::SendIfNew, [true, false]),
        (RetainHandling::DoNotSend, [false, false]),
    ];
    for (retain_handling, expected) in handling {
        for retain_as_published in [false, true] {
            let mut reader = Client::clean(server.address, Version::V5, "r").await;
            let options = SubscriptionOptions {
                retain_handling,
                retain_as_published,
                ..options(Qos::AtMostOnce)
            };
            for is_sent in expected {
                reader.subscribe_with("a", options).await;
                if is_sent {
                    let message = reader.message().await;
                    assert_eq!((message.retain, words(&message)), (true, pair("a", "kept")));
                } else {
                    reader.ping().await;
                }
            }
            sender.send(retained("a", "kept", 1)).await;
            sender.receive().await;
            let live = reader.message().await;
            assert_eq!(live.retain, retain_as_published);
        }
    }
    server.stop().await;
}
