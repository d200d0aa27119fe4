//! `$SYS` topics.

use std::time::Duration;

use forebay_gateway::mqtt::MqttConfig;
use forebay_mqtt::packet::Disconnect;
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, id, pair, publish, retained, success, will, words};
use super::server::Server;

async fn often(dir: &std::path::Path) -> Server {
    let config = MqttConfig {
        sys_interval: Duration::from_millis(10),
        ..MqttConfig::default()
    };
    Server::with(dir, true, config).await
}

#[tokio::test]
async fn sys_greets_as_retained_and_goes_on_live() {
    let dir = tempfile::tempdir().unwrap();
    let server = often(dir.path()).await;
    for version in [Version::V311, Version::V5] {
        let mut tool = Client::clean(server.address, version, "tool").await;
        tool.subscribe("$SYS/broker/version", Qos::AtMostOnce).await;
        let greeting = tool.message().await;
        assert!(greeting.retain);
        assert!(words(&greeting).1.starts_with("forebay version "));
        tool.subscribe("$SYS/broker/publish/messages/received", Qos::AtLeastOnce)
            .await;
        let greeting = tool.message().await;
        assert_eq!((greeting.retain, greeting.qos), (true, Qos::AtMostOnce));
        let before: u64 = words(&greeting).1.parse().unwrap();
        let mut sender = Client::clean(server.address, version, "sender").await;
        sender.publish("a", "1").await;
        let live = tool.message().await;
        assert!(!live.retain);
        assert_eq!(words(&live).1, (before + 1).to_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn sys_has_the_names_that_tools_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = often(dir.path()).await;
    let mut tool = Client::clean(server.address, Version::V5, "tool").await;
    for (name, expected) in [
        ("clients/connected", Some("1")),
        ("clients/total", Some("1")),
        ("clients/disconnected", Some("0")),
        ("retained messages/count", Some("0")),
        ("uptime", None),
        ("messages/received", None),
        ("messages/sent", None),
        ("publish/messages/sent", None),
        ("publish/bytes/received", None),
        ("bytes/received", None),
        ("bytes/sent", None),
        ("subscriptions/count", None),
        ("load/messages/received/1min", None),
        ("load/bytes/sent/15min", None),
        ("heap/current", None),
    ] {
        let filter = format!("$SYS/broker/{name}");
        tool.subscribe(&filter, Qos::AtMostOnce).await;
        loop {
            let (path, value) = words(&tool.message().await);
            // A gauge may be one interval old.
            if path == filter && expected.is_none_or(|expected| value == expected) {
                break;
            }
        }
        unsubscribe(&mut tool, &filter).await;
    }
    server.stop().await;
}

/// Ends a subscription; values may come until it has.
async fn unsubscribe(client: &mut Client, filter: &str) {
    let filter = forebay_mqtt::TopicFilter::try_from(filter).unwrap();
    client
        .send(Packet::Unsubscribe(forebay_mqtt::packet::Unsubscribe {
            packet_id: id(9),
            properties: Default::default(),
            filters: vec![filter],
        }))
        .await;
    while !matches!(client.receive().await, Packet::UnsubAck(_)) {}
}

#[tokio::test]
async fn wildcards_at_the_front_do_not_see_sys() {
    let dir = tempfile::tempdir().unwrap();
    let server = often(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "reader").await;
    reader.subscribe("#", Qos::AtMostOnce).await;
    reader.subscribe("+/broker/#", Qos::AtMostOnce).await;
    // A watcher sees two updates, so the reader had its chance.
    let mut watcher = Client::clean(server.address, Version::V5, "watcher").await;
    watcher
        .subscribe("$SYS/broker/bytes/sent", Qos::AtMostOnce)
        .await;
    for _ in 0..3 {
        watcher.message().await;
    }
    watcher.publish("a", "1").await;
    assert_eq!(reader.take().await, pair("a", "1"));
    server.stop().await;
}

#[tokio::test]
async fn clients_cannot_publish_to_sys() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let path = "$SYS/broker/version";
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.send(publish(path, "x", Qos::AtMostOnce, 0)).await;
    client.send(retained(path, "x", 1)).await;
    let Packet::PubAck(refused) = client.receive().await else {
        panic!("expected PUBACK");
    };
    assert_eq!(refused.packet_id, id(1));
    assert_eq!(refused.reason, ReasonCode::NotAuthorized);
    client.publish("a", "1").await;
    // 3.1.1 has no word for it: the connection ends without an answer.
    let mut older = Client::clean(server.address, Version::V311, "older").await;
    older.send(publish(path, "x", Qos::AtLeastOnce, 1)).await;
    assert_eq!(older.receive_or_end().await, None);
    // Nor by a will.
    let mut dying = Client::open(server.address, Version::V5).await;
    let mut connect = forebay_mqtt::packet::Connect::new(Version::V5, super::client::text("dying"));
    connect.will = Some(will(path, "x"));
    dying.connect(connect).await;
    let mut goodbye = Disconnect::new(ReasonCode::Success);
    goodbye.reason = ReasonCode::DisconnectWithWill;
    dying.send(Packet::Disconnect(goodbye)).await;
    assert_eq!(dying.receive_or_end().await, None);
    client.send(publish("b", "2", Qos::AtLeastOnce, 2)).await;
    assert_eq!(client.receive().await, Packet::PubAck(success(id(2))));
    assert_eq!(server.log("readings"), [pair("a", "1"), pair("b", "2")]);
    assert_eq!(server.stats.snapshot().refused.reserved, 4);
    server.stop().await;
}

#[tokio::test]
async fn without_an_interval_there_is_no_sys() {
    let dir = tempfile::tempdir().unwrap();
    let config = MqttConfig {
        sys_interval: Duration::ZERO,
        ..MqttConfig::default()
    };
    let server = Server::with(dir.path(), true, config).await;
    let mut tool = Client::clean(server.address, Version::V5, "tool").await;
    tool.subscribe("$SYS/#", Qos::AtMostOnce).await;
    tool.ping().await;
    server.stop().await;
}
