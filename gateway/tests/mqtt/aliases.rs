//! Topic aliases and response information through a real connection.

use bytes::Bytes;
use forebay_mqtt::packet::{Connect, Publish, TopicAlias};
use forebay_mqtt::{Packet, Qos, TopicName, Version};

use super::client::{Client, pair, text, words};
use super::server::Server;

/// \[MQTT-3.3.2-10\]: the log and the subscribers get the topic that the alias
/// stands for. \[MQTT-3.3.2-11\]: a subscriber that takes aliases gets the name
/// once.
#[tokio::test]
async fn topic_aliases_abbreviate_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("r"));
    connect.properties.topic_alias_maximum = Some(10);
    let ack = reader.connect(connect).await;
    assert!(ack.properties.topic_alias_maximum.unwrap() > 0);
    reader.subscribe("press/#", Qos::AtMostOnce).await;
    let mut plain = Client::clean(server.address, Version::V5, "p").await;
    plain.subscribe("press/#", Qos::AtMostOnce).await;

    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for (name, payload) in [("press/force", "1"), ("", "2"), ("press/stroke", "3")] {
        let topic = match name {
            "" => TopicName::default(),
            name => TopicName::try_from(name).unwrap(),
        };
        let mut publish = Publish::new(topic, Bytes::from_static(payload.as_bytes()));
        publish.properties.topic_alias = TopicAlias::new(4);
        sender.send(Packet::Publish(publish)).await;
    }
    for (name, alias, payload) in [
        ("press/force", 1, "1"),
        ("", 1, "2"),
        ("press/stroke", 2, "3"),
    ] {
        let message = reader.message().await;
        assert_eq!(words(&message), pair(name, payload));
        assert_eq!(message.properties.topic_alias, TopicAlias::new(alias));
    }
    for (name, payload) in [
        ("press/force", "1"),
        ("press/force", "2"),
        ("press/stroke", "3"),
    ] {
        let message = plain.message().await;
        assert_eq!(words(&message), pair(name, payload));
        assert_eq!(message.properties.topic_alias, None);
    }
    server.stop().await;
}

/// \[MQTT-3.1.2-28\]
#[tokio::test]
async fn response_information_is_told_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("press-7"));
    connect.properties.request_response_information = Some(true);
    let ack = client.connect(connect).await;
    let told = ack.properties.response_information;
    assert_eq!(told.as_deref(), Some("response/press-7"));
    server.stop().await;
}
