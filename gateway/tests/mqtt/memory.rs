//! Topics with `durability = "memory"`: requests and replies at the speed of
//! memory, kept by nobody. The test server has the route `memory/#`.

use bytes::Bytes;
use forebay_mqtt::packet::{Connect, Publish};
use forebay_mqtt::{Packet, Qos, TopicName, Version};

use super::client::{Client, id, pair, publish, retained, success, text, words};
use super::server::Server;

fn name(path: &str) -> TopicName {
    TopicName::try_from(path).unwrap()
}

/// The exchange of section 4.10: response topic and
/// correlation data come through unchanged \[MQTT-3.3.2-15\] \[MQTT-3.3.2-16\].
/// No commit happens here: neither side waits for a disk.
#[tokio::test]
async fn request_and_response_need_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut responder = Client::clean(server.address, Version::V5, "responder").await;
    responder
        .subscribe("memory/request", Qos::AtLeastOnce)
        .await;
    let mut requester = Client::clean(server.address, Version::V5, "requester").await;
    requester
        .subscribe("memory/reply/requester", Qos::AtLeastOnce)
        .await;
    for round in 0..3u8 {
        let mut request = Publish::new(name("memory/request"), Bytes::from_static(b"21"));
        request.qos = Qos::AtLeastOnce;
        request.packet_id = Some(id(7));
        request.properties.response_topic = Some(name("memory/reply/requester"));
        request.properties.correlation_data = Some(Bytes::copy_from_slice(&[0, round]));
        request.properties.user_properties = vec![(text("unit"), text("°C"))];
        requester.send(Packet::Publish(request)).await;
        requester.acknowledged(Packet::PubAck(success(id(7)))).await;

        let asked = responder.message().await;
        let topic = asked.properties.response_topic.clone().unwrap();
        assert_eq!(
            asked.properties.user_properties,
            [(text("unit"), text("°C"))]
        );
        responder
            .send(Packet::PubAck(success(asked.packet_id.unwrap())))
            .await;
        let mut reply = Publish::new(topic, Bytes::from_static(b"42"));
        reply.properties.correlation_data = asked.properties.correlation_data;
        responder.send(Packet::Publish(reply)).await;

        let answer = requester.message().await;
        assert_eq!(words(&answer), pair("memory/reply/requester", "42"));
        let data = answer.properties.correlation_data.unwrap();
        assert_eq!(&data[..], [0, round]);
    }
    assert_eq!(server.log("readings"), []);
}

/// QoS 2 between connected clients is completed without a commit, in order and
/// once, also when the PUBLISH is repeated \[MQTT-4.3.3-10\].
#[tokio::test]
async fn qos_2_on_a_memory_topic_arrives_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_manual(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "r").await;
    reader.subscribe("memory/#", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for _ in 0..2 {
        sender
            .send(publish("memory/a", "1", Qos::ExactlyOnce, 3))
            .await;
        sender.acknowledged(Packet::PubRec(success(id(3)))).await;
    }
    sender.send(Packet::PubRel(success(id(3)))).await;
    sender.acknowledged(Packet::PubComp(success(id(3)))).await;
    sender.publish("memory/a", "2").await;
    assert_eq!(reader.take().await, pair("memory/a", "1"));
    assert_eq!(reader.take().await, pair("memory/a", "2"));
}

#[tokio::test]
async fn an_absent_persistent_session_gets_nothing_of_a_memory_topic() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut reader, _) = Client::persistent(server.address, Version::V5, "r").await;
    reader.subscribe("memory/#", Qos::AtLeastOnce).await;
    reader.subscribe("kept/#", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("memory/a", "unacknowledged").await;
    reader.message().await;
    drop(reader);
    sender.publish("memory/a", "away").await;
    sender.publish("kept/a", "1").await;
    let (mut reader, present) = Client::persistent(server.address, Version::V5, "r").await;
    assert!(present);
    assert_eq!(reader.take().await, pair("kept/a", "1"));
    sender.publish("memory/a", "back").await;
    assert_eq!(reader.take().await, pair("memory/a", "back"));
    server.stop().await;
}

/// A client that does not read misses the oldest messages; they are counted,
/// and the publisher is not held up.
#[tokio::test]
async fn a_session_that_does_not_keep_up_misses_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut reader = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("r"));
    connect.properties.receive_maximum = std::num::NonZeroU16::new(1);
    reader.connect(connect).await;
    reader.subscribe("memory/#", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for number in 0..1200u32 {
        sender.publish("memory/a", &number.to_string()).await;
    }
    let missed = server.stats.snapshot().deliveries_missed;
    assert!(missed > 0 && missed < 200, "{missed}");
    let mut numbers = Vec::new();
    while numbers.last() != Some(&1199) {
        numbers.push(reader.take().await.1.parse::<u64>().unwrap());
    }
    assert!(numbers.is_sorted());
    assert_eq!(numbers.len() as u64 + missed, 1200);
    server.stop().await;
}

/// \[MQTT-3.3.1-5\]: a retained message is kept also on a memory topic.
#[tokio::test]
async fn a_retained_message_of_a_memory_topic_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.send(retained("memory/a", "kept", 1)).await;
    sender.acknowledged(Packet::PubAck(success(id(1)))).await;
    server.crash().await;
    let server = Server::start(dir.path()).await;
    let mut reader = Client::clean(server.address, Version::V5, "r").await;
    reader.subscribe("memory/a", Qos::AtLeastOnce).await;
    let message = reader.message().await;
    assert_eq!(
        (message.retain, words(&message)),
        (true, pair("memory/a", "kept"))
    );
    server.stop().await;
}

/// Section 4.8.2: a group shares the messages of a memory topic too, and a
/// record of it is not disturbed by them.
#[tokio::test]
async fn a_group_shares_a_memory_topic() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (mut a, _) = Client::persistent(server.address, Version::V5, "a").await;
    a.subscribe("$share/g/memory/#", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("memory/a", "1").await;
    a.message().await;
    let mut b = Client::clean(server.address, Version::V5, "b").await;
    b.subscribe("$share/g/memory/#", Qos::ExactlyOnce).await;
    drop(a);
    assert_eq!(b.take().await, pair("memory/a", "1"));
    server.stop().await;
}
