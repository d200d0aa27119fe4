//! The exit code of `forebay audit`, which scripts rely on.

use forebay_gateway::client::Client;
use forebay_gateway::config::names::host_port;
use forebay_kafka::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};
use forebay_records::{BatchBuilder, Compression, RecordRef};

use super::publisher::Publisher;
use super::running::Running;
use super::site::{Site, runtime};

/// Appends one record that no gateway has.
fn intrude(hub: &Running, topic: &str) {
    let mut builder = BatchBuilder::new();
    builder.push(&RecordRef {
        timestamp: 1_709_209_815_250,
        key: None,
        value: Some(b"an intruder"),
        headers: &[],
    });
    let records = builder.finish(Compression::None).expect("a small batch");
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let address = host_port(&hub.address("kafka")).expect("an address");
    let response = runtime().block_on(async {
        let mut client = Client::connect(&address).await.expect("the hub listens");
        client.call(&request, 7).await.expect("the hub answers")
    });
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn an_audit_exits_with_0_when_clean_and_with_1_after_an_intruder() {
    let site = Site::start();
    let readings = Publisher::start(site.mqtt.clone(), "plant/press", 0, 50).finish();
    site.drained(readings.len() as u64);
    let (code, answer) = site.audit();
    assert_eq!((code, &answer["clean"]), (Some(0), &true.into()));

    intrude(site.hub(), "test.vibration");
    let (code, answer) = site.audit();
    assert_eq!((code, &answer["clean"]), (Some(1), &false.into()));
    assert_eq!(answer["duplicates"], 1, "{answer}");
    assert_eq!(answer["gaps"], 0, "{answer}");
}
