//! Whole brokers on both sides.

use std::collections::BTreeSet;

use forebay_gateway::config::{BridgeTopic, BridgeVersion, Direction};
use forebay_gateway::mqtt::MqttConfig;
use forebay_mqtt::{Qos, Version};

use crate::broker::{Running, config, topic};
use crate::client::Client;
use crate::server::Server;

fn prefixed(filter: &str, direction: Direction, local: &str, remote: &str) -> BridgeTopic {
    BridgeTopic {
        local_prefix: local.to_owned(),
        remote_prefix: remote.to_owned(),
        ..topic(filter, direction)
    }
}

fn payloads(server: &Server, path: &str) -> BTreeSet<String> {
    let log = server.log("readings").into_iter();
    log.filter(|(at, _)| at == path)
        .map(|(_, payload)| payload)
        .collect()
}

#[tokio::test]
async fn no_message_is_lost_when_either_side_crashes_in_the_middle() {
    const ROUND: usize = 50;
    for version in [BridgeVersion::V311, BridgeVersion::V5] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut local = Server::start(here.path()).await;
        let mut remote = Server::start(there.path()).await;
        let address = remote.address;
        let topics = vec![
            prefixed("#", Direction::Out, "up/", "site/"),
            prefixed("#", Direction::In, "down/", "center/"),
        ];
        let settings = config(address, version, topics);
        let mut bridge = Running::start(settings.clone(), &local.publisher, here.path());
        let mut watcher = Client::clean(address, Version::V5, "watcher").await;
        watcher.subscribe("site/#", Qos::AtMostOnce).await;
        let mut expected = BTreeSet::new();
        for round in 0..3 {
            let mut sender = Client::clean(local.address, Version::V5, "sender").await;
            let mut center = Client::clean(remote.address, Version::V5, "center").await;
            // The bridge has subscribed before anything is sent down to it.
            if round == 0 {
                sender.publish("up/x", "first").await;
                expected.insert("first".to_owned());
                watcher.message().await;
            }
            for number in 0..ROUND {
                let payload = format!("{round}-{number}");
                sender.publish("up/x", &payload).await;
                center.publish("center/x", &payload).await;
                expected.insert(payload);
            }
            match round {
                0 => {
                    remote.crash().await;
                    sender.publish("up/x", "while away").await;
                    expected.insert("while away".to_owned());
                    remote = Server::at(address, there.path(), true, MqttConfig::default()).await;
                }
                1 => {
                    bridge.crash().await;
                    local.crash().await;
                    local = Server::start(here.path()).await;
                    bridge = Running::start(settings.clone(), &local.publisher, here.path());
                }
                _ => {}
            }
        }
        let down: BTreeSet<String> = expected
            .iter()
            .filter(|payload| payload.contains('-'))
            .cloned()
            .collect();
        let mut beat = Client::clean(remote.address, Version::V5, "beat").await;
        while payloads(&remote, "site/x") != expected || payloads(&local, "down/x") != down {
            beat.ping().await;
        }
        bridge.stop().await;
        local.stop().await;
        remote.stop().await;
    }
}

#[tokio::test]
async fn a_topic_that_goes_both_ways_does_not_go_in_circles() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = Server::start(here.path()).await;
    let remote = Server::start(there.path()).await;
    let settings = config(
        remote.address,
        BridgeVersion::V5,
        vec![topic("#", Direction::Both)],
    );
    let bridge = Running::start(settings, &local.publisher, here.path());
    let mut far = Client::clean(remote.address, Version::V5, "far").await;
    far.subscribe("#", Qos::AtLeastOnce).await;
    let mut near = Client::clean(local.address, Version::V5, "near").await;
    near.subscribe("#", Qos::AtLeastOnce).await;
    for number in 0..10 {
        let (ours, theirs) = (format!("ours {number}"), format!("theirs {number}"));
        near.publish("a", &ours).await;
        assert_eq!(near.take().await.1, ours);
        assert_eq!(far.take().await.1, ours);
        far.publish("b", &theirs).await;
        assert_eq!(far.take().await.1, theirs);
        assert_eq!(near.take().await.1, theirs);
    }
    assert_eq!(local.log("readings").len(), 20);
    assert_eq!(remote.log("readings").len(), 20);
    bridge.stop().await;
    local.stop().await;
    remote.stop().await;
}

#[tokio::test]
async fn retained_messages_and_properties_are_carried() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = Server::start(here.path()).await;
    let remote = Server::start(there.path()).await;
    let mut far = Client::clean(remote.address, Version::V5, "far").await;
    far.send(crate::client::retained("down/state", "on", 1))
        .await;
    far.receive().await;
    let settings = config(
        remote.address,
        BridgeVersion::V5,
        vec![
            topic("up/#", Direction::Out),
            topic("down/#", Direction::In),
        ],
    );
    let bridge = Running::start(settings, &local.publisher, here.path());
    let mut near = Client::clean(local.address, Version::V5, "near").await;
    near.subscribe("down/#", Qos::AtLeastOnce).await;
    assert_eq!(near.take().await.1, "on");
    let mut late = Client::clean(local.address, Version::V5, "late").await;
    late.subscribe("down/#", Qos::AtLeastOnce).await;
    let greeting = late.message().await;
    assert!(greeting.retain);
    assert_eq!(greeting.properties.user_properties, []);

    far.subscribe("up/#", Qos::AtLeastOnce).await;
    let forebay_mqtt::Packet::Publish(mut publish) =
        crate::client::publish("up/x", "1", Qos::AtLeastOnce, 3)
    else {
        unreachable!("publish makes a PUBLISH");
    };
    publish.properties.content_type = Some(crate::client::text("text/plain"));
    near.send(forebay_mqtt::Packet::Publish(publish)).await;
    let carried = far.message().await;
    assert_eq!(
        carried.properties.content_type.as_ref().map(|t| t.as_str()),
        Some("text/plain")
    );
    bridge.stop().await;
    local.stop().await;
    remote.stop().await;
}
