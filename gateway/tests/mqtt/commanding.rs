//! Commands over MQTT: publishes to the `/set` of a writable tag.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_gateway::commands::{CommandOutcome, CommandRequest, WriteKind, WriteRule};
use forebay_gateway::readings::Value;
use forebay_mqtt::packet::Connect;
use forebay_mqtt::{Packet, Qos, TopicName, Version};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::client::{Client, id, pair, publish, retained, success, text, will};
use super::server::Server;

const SET: &str = "press/speed/set";
const RESULT: &str = "press/speed/set/result";

fn command(value: Json, name: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = i64::try_from(since.as_millis()).unwrap() + 30_000;
    json!({"value": value, "id": name, "expires": expires}).to_string()
}

fn rule() -> WriteRule {
    WriteRule {
        kind: WriteKind::Float,
        min: None,
        max: Some(100.0),
        min_interval: Duration::ZERO,
    }
}

/// The next result: path, id and what became of it.
async fn result(client: &mut Client) -> (String, String, String) {
    let (path, payload) = client.take().await;
    let json: Json = serde_json::from_str(&payload).unwrap();
    let word = |key: &str| json[key].as_str().map(str::to_owned);
    let detail = word("reason").or_else(|| word("status"));
    let detail = detail.unwrap_or_else(|| json["value"].to_string());
    let outcome = format!("{} {detail}", json["outcome"].as_str().unwrap());
    (path, word("id").unwrap_or_default(), outcome)
}

fn answer(path: &str, name: &str, outcome: &str) -> (String, String, String) {
    (path.to_owned(), name.to_owned(), outcome.to_owned())
}

async fn carry_out(requests: &mut mpsc::Receiver<CommandRequest>) -> Value {
    let request = requests.recv().await.unwrap();
    let read_back = request.value.clone();
    let done = CommandOutcome::Done { read_back };
    request.reply.send(done).unwrap();
    request.value
}

#[tokio::test]
async fn a_command_reaches_its_device_and_the_answer_its_sender() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (device, mut requests) = mpsc::channel(4);
    let _tag = server.commands.register("press/speed", rule(), device);
    let mut client = Client::clean(server.address, Version::V5, "scada").await;
    client.subscribe(RESULT, Qos::AtLeastOnce).await;
    client.subscribe("reply/1", Qos::AtLeastOnce).await;
    let payload = command(json!(41.5), "a");
    let Packet::Publish(mut packet) = publish(SET, &payload, Qos::AtLeastOnce, 1) else {
        unreachable!("publish makes a PUBLISH");
    };
    packet.properties.response_topic = TopicName::try_from("reply/1").ok();
    packet.properties.correlation_data = Some(Bytes::from_static(b"7"));
    client.send(Packet::Publish(packet)).await;
    client.acknowledged(Packet::PubAck(success(id(1)))).await;
    assert_eq!(carry_out(&mut requests).await, Value::Float(41.5));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let message = client.message().await;
        assert_eq!(
            message.properties.correlation_data.as_deref(),
            Some(&b"7"[..])
        );
        client
            .send(Packet::PubAck(success(message.packet_id.unwrap())))
            .await;
        answers.push(message.topic.as_str().to_owned());
    }
    answers.sort_unstable();
    assert_eq!(answers, [RESULT, "reply/1"]);
    server.stop().await;
}

#[tokio::test]
async fn a_command_that_is_not_in_order_is_acknowledged_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (device, mut requests) = mpsc::channel(4);
    let _tag = server.commands.register("press/speed", rule(), device);
    let mut watching = Client::clean(server.address, Version::V5, "watching").await;
    watching.subscribe(RESULT, Qos::AtLeastOnce).await;
    let mut scada = Client::clean(server.address, Version::V311, "scada").await;
    let mut other = Client::clean(server.address, Version::V5, "other").await;

    other.publish(SET, &command(json!(1), "a")).await;
    let expected = answer(RESULT, "a", "refused client-not-allowed");
    assert_eq!(result(&mut watching).await, expected);
    scada.send(retained(SET, &command(json!(1), "b"), 1)).await;
    scada.acknowledged(Packet::PubAck(success(id(1)))).await;
    let expected = answer(RESULT, "b", "refused retained");
    assert_eq!(result(&mut watching).await, expected);
    scada.publish(SET, "1").await;
    let expected = answer(RESULT, "", "refused malformed");
    assert_eq!(result(&mut watching).await, expected);
    scada.publish(SET, &command(json!(101), "c")).await;
    let expected = answer(RESULT, "c", "refused out-of-range");
    assert_eq!(result(&mut watching).await, expected);

    let payload = command(json!(1), "d");
    scada.publish(SET, &payload).await;
    carry_out(&mut requests).await;
    assert_eq!(result(&mut watching).await, answer(RESULT, "d", "done 1.0"));
    scada.publish(SET, &payload).await;
    let expected = answer(RESULT, "d", "refused duplicate-id");
    assert_eq!(result(&mut watching).await, expected);
    assert!(requests.try_recv().is_err(), "nothing else was carried out");
    server.stop().await;
}

#[tokio::test]
async fn wills_and_the_set_of_unknown_tags_are_publishes_as_any() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (device, mut requests) = mpsc::channel(4);
    let _tag = server.commands.register("press/speed", rule(), device);
    let mut watching = Client::clean(server.address, Version::V5, "watching").await;
    watching.subscribe("press/#", Qos::AtLeastOnce).await;

    let payload = command(json!(1), "a");
    let mut doomed = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("scada"));
    connect.clean_start = true;
    connect.will = Some(will(SET, &payload));
    doomed.connect(connect).await;
    drop(doomed);
    assert_eq!(watching.take().await, pair(SET, &payload));
    let mut scada = Client::clean(server.address, Version::V5, "scada").await;
    scada.publish("press/feed/set", &payload).await;
    assert_eq!(watching.take().await, pair("press/feed/set", &payload));

    // The desk takes commands in order: when this one came, no other did.
    scada.publish(SET, &payload).await;
    assert_eq!(watching.take().await, pair(SET, &payload));
    carry_out(&mut requests).await;
    assert_eq!(result(&mut watching).await, answer(RESULT, "a", "done 1.0"));
    assert!(requests.try_recv().is_err());
    server.stop().await;
}
