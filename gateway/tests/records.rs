//! `forebay tail` and `forebay audit` against running nodes, with records that
//! the test produces itself.

mod running;

use forebay_gateway::client::Client;
use forebay_gateway::config::names::host_port;
use forebay_kafka::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};
use forebay_records::{BatchBuilder, Compression, RecordRef};
use running::{Running, forebay};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

/// Produces one batch with acks=all.
fn produce(node: &Running, topic: &str, values: &[&str]) {
    let mut builder = BatchBuilder::new();
    for (index, value) in values.iter().enumerate() {
        builder.push(&RecordRef {
            timestamp: 1_709_209_815_250 + index as i64,
            key: Some(b"plant/press-1"),
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    let batch = builder.finish(Compression::None).expect("a small batch");
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let address = host_port(&node.address("kafka")).expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let response = runtime.block_on(async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        client.call(&request, 7).await.expect("the node answers")
    });
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn tail_prints_records_from_where_it_is_told() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    node.answer(&["topic", "create", "t"]);
    produce(&node, "t", &["1.5", "2.5"]);
    produce(&node, "t", &["3.5"]);
    let first = "2024-02-29T12:30:15.250Z t/0@0 plant/press-1 1.5\n";
    let second = "2024-02-29T12:30:15.251Z t/0@1 plant/press-1 2.5\n";
    let third = "2024-02-29T12:30:15.250Z t/0@2 plant/press-1 3.5\n";
    for (from, expected) in [
        ("earliest", [first, second, third].concat()),
        ("latest", third.to_owned()),
        ("1", [second, third].concat()),
        ("2024-02-29T12:30:15.251Z", [second, third].concat()),
        ("2030-01-01", String::new()),
    ] {
        assert_eq!(
            node.answer(&["tail", "t", "--from", from]),
            expected,
            "--from {from}"
        );
    }
    assert_eq!(
        node.answer(&["tail", "t", "--from", "2", "--json"]),
        "{\"topic\":\"t\",\"partition\":0,\"offset\":2,\"timestamp\":1709209815250,\"key\":\"plant/press-1\",\"value\":\"3.5\",\"headers\":[]}\n"
    );
}

#[test]
fn audit_is_clean_until_the_hub_differs() {
    let (gateway_dir, hub_dir) = (scratch(), scratch());
    let gateway = Running::start(gateway_dir.path(), "broker", "");
    let hub = Running::start(hub_dir.path(), "broker", "");
    gateway.answer(&["topic", "create", "t"]);
    hub.answer(&["topic", "create", "site.t"]);
    produce(&gateway, "t", &["1", "2", "3"]);
    produce(&hub, "site.t", &["1", "2"]);
    let (gateway_address, hub_address) = (gateway.address("kafka"), hub.address("kafka"));
    let audit = |more: &[&str]| {
        let asked = [
            "audit",
            "--gateway",
            &gateway_address,
            "--hub",
            &hub_address,
        ];
        forebay(&[&asked, more].concat())
    };

    let output = audit(&[]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "t/0 -> site.t/0: offsets 0..2, 2 compared, 1 pending\n\
         2 compared, 1 pending, 0 gaps, 0 duplicates, 0 differences: clean\n"
    );
    assert_eq!(output.status.code(), Some(0));

    // The same records once more: what a careless sender does.
    produce(&hub, "site.t", &["1", "2"]);
    let output = audit(&["--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    assert_eq!(report["clean"], false);
    assert_eq!(report["duplicates"], 2);
    assert_eq!(output.status.code(), Some(1));
}
