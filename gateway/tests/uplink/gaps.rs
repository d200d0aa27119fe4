//! Records that the gateway lost before they were sent.

use forebay_gateway::client::Client;
use forebay_gateway::config::names::host_port;
use forebay_kafka::messages::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use forebay_records::Record;

use super::publisher::Publisher;
use super::relay::Weather;
use super::running::Running;
use super::site::{Site, end, records, runtime, until};

/// Removes every record of `readings`, sent or not.
fn lose_everything(gateway: &Running) {
    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset: -1,
        ..Default::default()
    };
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "readings".into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let address = host_port(&gateway.address("kafka")).expect("an address");
    let response = runtime().block_on(async {
        let mut client = Client::connect(&address).await.expect("the node listens");
        client.call(&request, 1).await.expect("the node answers")
    });
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

#[test]
fn a_gap_reaches_the_hub_while_the_gateway_is_quiet() {
    let site = Site::start();
    Publisher::start(site.mqtt.clone(), "hall", 0, 50).finish();
    site.until_equal("readings");
    let sent = end(site.hub(), "test.readings");
    site.set(Weather::Cut);
    Publisher::start(site.mqtt.clone(), "hall", 1_000, 50).finish();
    lose_everything(site.gateway());
    let lost = end(site.gateway(), "readings");
    assert!(lost >= sent + 50, "{lost} after {sent}");
    site.set(Weather::Fair);
    until("the hub has the gap", || {
        (end(site.hub(), "test.readings") == lost).then_some(())
    });
    // What comes next has the same offset on both sides.
    Publisher::start(site.mqtt.clone(), "hall", 2_000, 1).finish();
    let behind_the_gap = |node: &Running, topic: &str| -> Vec<Record> {
        let partitions = records(node, topic);
        let all = partitions.into_iter().flatten();
        all.filter(|record| record.offset >= lost).collect()
    };
    until("the hub has what came next", || {
        let here = behind_the_gap(site.gateway(), "readings");
        let there = behind_the_gap(site.hub(), "test.readings");
        (!here.is_empty() && here == there).then_some(())
    });
    let there = records(site.hub(), "test.readings");
    let before = there[0].iter().filter(|record| record.offset < lost);
    assert!(before.count() as i64 <= lost - 50);
}
