//! Registrations, and the whole way of a command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_records::records;
use forebay_storage::disk::RealDisk;
use forebay_storage::{Preallocation, Storage};
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::desk::{Desk, Incoming};
use super::*;
use crate::clock::Clock;
use crate::config;
use crate::ingest::routes::Routes;
use crate::mqtt::message::{Message, topic_name};
use crate::readings::Publisher;

#[test]
fn a_tag_is_writable_while_its_newest_registration_lives() {
    let commands = Commands::default();
    let rule = WriteRule {
        kind: WriteKind::Bool,
        min: None,
        max: None,
        min_interval: Duration::ZERO,
    };
    let (device, _requests) = mpsc::channel(1);
    let first = commands.register("press/run", rule, device.clone());
    let second = commands.register("press/run", rule, device);
    drop(first);
    assert!(commands.writable("press/run").is_some());
    drop(second);
    assert!(commands.writable("press/run").is_none());
}

/// A node with one writable tag, whose device is the test.
struct Plant {
    storage: Storage,
    publisher: Publisher,
    commands: Commands,
    desk: Desk,
    stop: watch::Sender<bool>,
    clerk: JoinHandle<()>,
}

impl Plant {
    async fn start(dir: &Path) -> Self {
        let mut config = forebay_storage::Config::new(dir);
        config.preallocation = Preallocation::None;
        config.retention.keep_free = 0;
        config.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(config, Arc::new(RealDisk::new())));
        let (storage, _) = opening.await.unwrap().unwrap();
        let routes = Arc::new(Routes::default());
        let publisher = Publisher::with_clock(storage.clone(), routes, Clock::trusted());
        let commands = Commands::default();
        let policy = config::Commands {
            enabled: true,
            allow: vec!["scada".to_owned()],
            ..config::Commands::default()
        };
        let (desk, clerk) = Desk::new(policy, commands.clone(), publisher.clone(), storage.clone());
        let (stop, stopped) = watch::channel(false);
        Self {
            storage,
            publisher,
            commands,
            desk,
            stop,
            clerk: tokio::spawn(clerk.run(stopped)),
        }
    }

    fn tag(&self, queue: usize) -> (Registration, mpsc::Receiver<CommandRequest>) {
        let rule = WriteRule {
            kind: WriteKind::Integer,
            min: Some(0.0),
            max: Some(100.0),
            min_interval: Duration::ZERO,
        };
        let (device, requests) = mpsc::channel(queue);
        (
            self.commands.register("press/speed", rule, device),
            requests,
        )
    }

    async fn send(&self, value: Json, id: &str) {
        let expires = self.publisher.clock().now_ms() + 30_000;
        let payload = json!({"value": value, "id": id, "expires": expires});
        let incoming = Incoming {
            path: "press/speed".to_owned(),
            payload: Bytes::from(payload.to_string()),
            is_retained: false,
            sender: Sender {
                client: "scada".to_owned(),
                protocol: "mqtt-5",
                response_topic: topic_name(&Bytes::from_static(b"reply/scada")),
                correlation: Some(Bytes::from_static(b"\x07")),
            },
        };
        self.desk.submit(incoming).await;
    }

    /// Stops as the node does, with the devices stopped before.
    async fn stop(self) -> Vec<(String, Message)> {
        self.stop.send(true).unwrap();
        self.clerk.await.unwrap();
        let storage = self.storage;
        let reading = tokio::task::spawn_blocking(move || {
            storage.wait(storage.fence());
            let found = ["commands", "readings"].map(|topic| log(&storage, topic));
            storage.close();
            found.concat()
        });
        reading.await.unwrap()
    }
}

fn log(storage: &Storage, topic: &str) -> Vec<(String, Message)> {
    let Some(partition) = storage.topic(topic).and_then(|topic| topic.partition(0)) else {
        return Vec::new();
    };
    let chunk = partition.read(0, 1 << 20, true).unwrap();
    let batches = chunk.batches.iter();
    let records = batches.flat_map(|batch| records(batch, 1 << 20).unwrap());
    let messages = records.map(|record| Message::from_record(&record.unwrap()).unwrap());
    messages
        .map(|message| (topic.to_owned(), message))
        .collect()
}

/// The JSON of the records of a topic, without their times.
fn told(found: &[(String, Message)], topic: &str) -> Vec<Json> {
    let of_topic = found.iter().filter(|(name, _)| name == topic);
    of_topic
        .map(|(_, message)| {
            let mut json: Json = serde_json::from_slice(&message.payload).unwrap();
            let object = json.as_object_mut().unwrap();
            assert!(object.remove("timestamp").is_some_and(|at| at.is_i64()));
            object.remove("expires");
            json
        })
        .collect()
}

#[tokio::test]
async fn a_command_is_written_down_then_carried_out_then_answered() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(dir.path()).await;
    let (_tag, mut requests) = plant.tag(4);
    plant.send(json!(7), "a").await;
    let request = requests.recv().await.unwrap();
    assert_eq!(
        (request.value, request.id.as_str()),
        (Value::Signed(7), "a")
    );
    let topic = plant.storage.topic("commands").unwrap();
    let durable = topic.partition(0).unwrap().offsets().high_watermark;
    assert_eq!(durable, 1, "the intent is durable before the device has it");
    let read_back = Value::Signed(7);
    request
        .reply
        .send(CommandOutcome::Done { read_back })
        .unwrap();
    let found = plant.stop().await;
    let who = json!({"client": "scada", "protocol": "mqtt-5"});
    let entry = |event: &str, more: Json| {
        let mut entry = json!({"event": event, "id": "a", "path": "press/speed", "value": 7});
        for part in [&who, &more] {
            entry
                .as_object_mut()
                .unwrap()
                .extend(part.as_object().unwrap().clone());
        }
        entry
    };
    assert_eq!(
        told(&found, "commands"),
        [
            entry("intent", json!({})),
            entry("outcome", json!({"outcome": "done"}))
        ]
    );
    let result = json!({"id": "a", "outcome": "done", "value": 7});
    assert_eq!(told(&found, "readings"), [result.clone(), result]);
    let answers: Vec<_> = found
        .iter()
        .filter(|(topic, _)| topic == "readings")
        .collect();
    assert_eq!(answers[0].1.path.as_str(), "press/speed/set/result");
    assert_eq!(answers[1].1.path.as_str(), "reply/scada");
    for (_, answer) in answers {
        assert_eq!((answer.qos, answer.retain), (1, false));
        let correlation = answer.properties.as_ref().unwrap().correlation_data.clone();
        assert_eq!(correlation.as_deref(), Some(b"\x07".as_slice()));
    }
}

#[tokio::test]
async fn commands_of_one_tag_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(dir.path()).await;
    let (_tag, mut requests) = plant.tag(64);
    for number in 0..32 {
        plant.send(json!(number), &number.to_string()).await;
    }
    for number in 0..32 {
        assert_eq!(requests.recv().await.unwrap().value, Value::Signed(number));
    }
    plant.stop().await;
}

#[tokio::test]
async fn a_refused_command_is_written_down_and_answered_and_not_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(dir.path()).await;
    let (_tag, mut requests) = plant.tag(1);
    plant.send(json!(700), "a").await;
    plant.send(json!(7), "b").await;
    plant.send(json!(8), "c").await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.id, "b");
    drop((request, requests));
    let found = plant.stop().await;
    let outcomes: Vec<_> = told(&found, "readings").into_iter().step_by(2).collect();
    assert_eq!(
        outcomes,
        [
            json!({"id": "a", "outcome": "refused", "reason": "out-of-range"}),
            json!({"id": "c", "outcome": "refused", "reason": "device-queue-full"}),
            json!({"id": "b", "outcome": "failed", "status": "device-stopped"}),
        ]
    );
    let entries = told(&found, "commands");
    let events: Vec<_> = entries
        .iter()
        .map(|entry| (&entry["event"], &entry["id"]))
        .collect();
    assert_eq!(
        events,
        [
            (&json!("refused"), &json!("a")),
            (&json!("intent"), &json!("b")),
            (&json!("refused"), &json!("c")),
            (&json!("outcome"), &json!("b")),
        ]
    );
}

#[tokio::test]
async fn a_restart_repeats_no_command_and_knows_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(dir.path()).await;
    let (tag, mut requests) = plant.tag(1);
    plant.send(json!(7), "a").await;
    let request = requests.recv().await.unwrap();
    // The process ends before the device has answered.
    plant.clerk.abort();
    let _ = plant.clerk.await;
    let storage = plant.storage;
    tokio::task::spawn_blocking(move || storage.close())
        .await
        .unwrap();
    drop((tag, request, plant.desk, plant.publisher));

    let plant = Plant::start(dir.path()).await;
    let (_tag, mut requests) = plant.tag(1);
    plant.send(json!(7), "a").await;
    plant.send(json!(9), "b").await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.id, "b", "the first was not repeated");
    drop(request);
    let found = plant.stop().await;
    let results = told(&found, "readings");
    assert_eq!(
        results[0],
        json!({"id": "a", "outcome": "failed", "status": "gateway-restarted"})
    );
    assert_eq!(
        results[1],
        json!({"id": "a", "outcome": "refused", "reason": "duplicate-id"})
    );
}

#[tokio::test]
async fn only_the_set_of_a_writable_tag_is_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(dir.path()).await;
    let (_tag, _requests) = plant.tag(1);
    assert_eq!(plant.desk.commanded("press/speed/set"), Some("press/speed"));
    for path in [
        "press/speed",
        "press/feed/set",
        "/set",
        "press/speed/set/result",
    ] {
        assert_eq!(plant.desk.commanded(path), None, "{path}");
    }
    plant.stop().await;
}
