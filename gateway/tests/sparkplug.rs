//! A gateway that is killed while an edge node publishes: what is in the log is
//! a reading exactly once.

#![allow(clippy::unwrap_used)]

#[path = "running/mod.rs"]
#[allow(dead_code, reason = "only starting and stopping is needed here")]
mod running;

use std::path::Path;
use std::sync::Arc;

use forebay_gateway::mqtt::message::Message;
use forebay_records::records;
use forebay_sparkplug::{DataType, Metric, Payload, RawValue};
use forebay_storage::disk::RealDisk;
use forebay_storage::{Config, Storage};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use running::Running;

/// Kills. Each takes a start of the process.
const ROUNDS: i64 = 4;

const SECTION: &str = "[sparkplug]\nenabled = true\n";

fn payload(seq: u64, name: Option<&str>, value: i64) -> Vec<u8> {
    let datatype = name.map(|_| DataType::Int64 as u32);
    let metric = Metric {
        name,
        alias: Some(1),
        datatype,
        value: Some(RawValue::Long(value as u64)),
        ..Metric::default()
    };
    let payload = Payload {
        timestamp: Some(1),
        seq: Some(seq),
        metrics: vec![metric],
        ..Payload::default()
    };
    payload.encode()
}

/// Publishes one birth and then data until the connection breaks, and calls
/// `on_ack` with the number of acknowledged publishes.
fn publish(address: &str, first: i64, mut on_ack: impl FnMut(i64)) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let options = MqttOptions::new("edge", host, port.parse().unwrap());
    let (client, mut connection) = Client::new(options, 64);
    let publisher = std::thread::spawn(move || {
        let send = |topic: &str, payload: Vec<u8>| {
            client
                .publish(topic, QoS::AtLeastOnce, false, payload)
                .is_ok()
        };
        let mut goes_on = send("spBv1.0/G/NBIRTH/E", payload(0, Some("n"), first));
        for step in 1..10_000i64 {
            let seq = step as u64 % 256;
            goes_on = goes_on && send("spBv1.0/G/NDATA/E", payload(seq, None, first + step));
        }
    });
    let mut acknowledged = 0;
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                acknowledged += 1;
                on_ack(acknowledged);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    drop(connection);
    publisher.join().unwrap();
}

fn messages(storage: &Storage, topic: &str) -> Vec<Message> {
    let partition = storage.topic(topic).unwrap().partition(0).unwrap();
    let offsets = partition.offsets();
    let (mut from, end) = (offsets.log_start, offsets.high_watermark);
    let mut found = Vec::new();
    while from < end {
        let chunk = partition.read(from, 1 << 20, true).unwrap();
        for batch in &chunk.batches {
            for record in records(batch, 1 << 20).unwrap().map(Result::unwrap) {
                from = record.offset as u64 + 1;
                found.extend(Message::from_record(&record));
            }
        }
    }
    found
}

fn open(dir: &Path) -> Storage {
    let config = Config::new(dir.join("data"));
    Storage::open(config, Arc::new(RealDisk::new())).unwrap().0
}

/// Waits until everything in the log has become readings: until those of a
/// birth that is behind all of it come.
fn settle(address: &str) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let options = MqttOptions::new("last", host, port.parse().unwrap());
    let (client, mut connection) = Client::new(options, 8);
    client
        .subscribe("sparkplug/G/Last/n", QoS::AtMostOnce)
        .unwrap();
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => {
                let birth = payload(0, Some("n"), -1);
                let topic = "spBv1.0/G/NBIRTH/Last";
                client
                    .publish(topic, QoS::AtLeastOnce, false, birth)
                    .unwrap();
            }
            Event::Incoming(Packet::Publish(_)) => return,
            _ => {}
        }
    }
}

#[test]
fn what_is_in_the_log_is_a_reading_once_however_often_the_gateway_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let mut node = Some(Running::start(dir.path(), "gateway", SECTION));
        let address = node.as_ref().unwrap().address("mqtt");
        let until = 40 + 67 * round;
        publish(&address, round * 100_000, |acknowledged| {
            if acknowledged == until {
                // Dropping it is a SIGKILL.
                node = None;
            }
        });
    }
    let node = Running::start(dir.path(), "gateway", SECTION);
    settle(&node.address("mqtt"));
    assert!(node.terminate().success());

    let storage = open(dir.path());
    let value = |message: &Message| {
        let payload = Payload::decode(&message.payload).unwrap();
        match payload.metrics[0].value {
            Some(RawValue::Long(value)) => value as i64,
            _ => panic!("no value"),
        }
    };
    let published: Vec<i64> = messages(&storage, "sparkplug")
        .iter()
        .filter(|message| message.path.as_str().starts_with("spBv1.0/"))
        .map(value)
        .collect();
    let read: Vec<i64> = messages(&storage, "readings")
        .iter()
        .map(|message| serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap())
        .filter_map(|json| json["value"].as_i64())
        .collect();
    storage.close();
    assert!(published.len() > 400, "{}", published.len());
    assert_eq!(read, published);
}
