//! Compare-and-append, as an uplink uses it.

use bytes::Bytes;
use forebay_kafka::append_condition::{
    AppendCondition, REFUSED_LINEAGE, REFUSED_OFFSET, TAG, lineage,
};
use forebay_kafka::error_code;
use forebay_kafka::messages::PartitionProduceResponse;
use forebay_records::Compression;

use crate::client::{Client, batch_with, produce_request, values};
use crate::hub::Hub;

const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

fn condition(expected_offset: i64, lineage: u32) -> AppendCondition {
    AppendCondition {
        expected_offset,
        incarnation: [1; 16],
        lineage,
        gap_to: None,
    }
}

/// Digest of a record that the test client sent as the only one of its batch.
fn lineage_of(offset: i64, value: &str) -> u32 {
    lineage(
        crc32c::crc32c_append,
        offset,
        FIRST_TIMESTAMP,
        None,
        Some(value.as_bytes()),
    )
}

async fn send(
    client: &mut Client,
    sent: Bytes,
    condition: AppendCondition,
) -> PartitionProduceResponse {
    let mut request = produce_request("t", -1, sent);
    request.topic_data[0].partition_data[0].unknown_tagged_fields =
        vec![(TAG, condition.encode().into())];
    client.call(9, &request).await.responses[0].partition_responses[0].clone()
}

fn numbered(sequence: i32, value: &str) -> Bytes {
    batch_with(&[value], Compression::None, Some((9_000, 0, sequence)))
}

fn assert_refused(response: &PartitionProduceResponse, word: &str, log_end: i64) {
    assert_eq!(
        (response.error_code, response.log_start_offset),
        (error_code::INVALID_RECORD, log_end)
    );
    let message = response.error_message.as_deref().unwrap_or_default();
    assert!(message.starts_with(word), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_batches_is_appended_only_where_it_belongs() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    assert_eq!(
        send(&mut client, numbered(0, "v0"), condition(0, 0))
            .await
            .base_offset,
        0
    );
    let next = condition(1, lineage_of(0, "v0"));
    assert_eq!(
        send(&mut client, numbered(1, "v1"), next).await.base_offset,
        1
    );
    assert_refused(
        &send(&mut client, numbered(2, "v2"), condition(5, 0)).await,
        REFUSED_OFFSET,
        2,
    );
    let foreign = condition(2, lineage_of(1, "other"));
    assert_refused(
        &send(&mut client, numbered(2, "v2"), foreign).await,
        REFUSED_LINEAGE,
        2,
    );
    let hub = hub.restart().await;
    let mut client = hub.client().await;
    assert_refused(
        &send(&mut client, numbered(2, "v2"), foreign).await,
        REFUSED_LINEAGE,
        2,
    );
    let right = condition(2, lineage_of(1, "v1"));
    assert_eq!(
        send(&mut client, numbered(2, "v2"), right)
            .await
            .base_offset,
        2
    );
    assert_eq!(values(&client.fetch("t", 0).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_a_duplicate_and_a_clones_batch_is_not() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    assert_eq!(
        send(&mut client, numbered(0, "v0"), condition(0, 0))
            .await
            .error_code,
        0
    );
    let retried = send(&mut client, numbered(0, "v0"), condition(0, 0)).await;
    assert_eq!((retried.error_code, retried.base_offset), (0, 0));
    assert_refused(
        &send(&mut client, numbered(0, "clone"), condition(0, 0)).await,
        REFUSED_LINEAGE,
        1,
    );
    let recompressed = batch_with(&["v0"], Compression::Zstd, Some((9_000, 0, 0)));
    let retried = send(&mut client, recompressed, condition(0, 0)).await;
    assert_eq!((retried.error_code, retried.base_offset), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_gap_keeps_offsets_equal() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    send(&mut client, numbered(0, "v0"), condition(0, 0)).await;
    let over_gap = AppendCondition {
        gap_to: Some(10),
        ..condition(1, lineage_of(0, "v0"))
    };
    assert_eq!(
        send(&mut client, numbered(10, "v10"), over_gap)
            .await
            .error_code,
        error_code::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    let bumped = batch_with(&["v10"], Compression::None, Some((9_000, 1, 0)));
    assert_eq!(
        send(&mut client, bumped.clone(), over_gap)
            .await
            .base_offset,
        10
    );
    assert_eq!(
        send(&mut client, bumped, over_gap).await.base_offset,
        10,
        "a retry finds its batch"
    );
    let found = values(&client.fetch("t", 0).await);
    assert_eq!(found, [(0, "v0".to_owned()), (10, "v10".to_owned())]);
    let gaps = hub.storage.topic("t").unwrap().partition(0).unwrap().gaps();
    assert_eq!(
        gaps.iter()
            .map(|gap| (gap.from, gap.to))
            .collect::<Vec<_>>(),
        [(1, 10)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_may_come_without_a_batch_and_twice() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let gap = AppendCondition {
        gap_to: Some(7),
        ..condition(0, 0)
    };
    for _ in 0..2 {
        let response = send(&mut client, Bytes::new(), gap).await;
        assert_eq!(
            (response.error_code, response.base_offset),
            (0, 7),
            "{:?}",
            response.error_message
        );
    }
    assert_eq!(
        send(&mut client, numbered(0, "v7"), condition(7, 0))
            .await
            .base_offset,
        7
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_condition_is_refused() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let mut request = produce_request("t", -1, numbered(0, "v0"));
    request.topic_data[0].partition_data[0].unknown_tagged_fields =
        vec![(TAG, Bytes::from_static(b"?"))];
    let response = client.call(9, &request).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        error_code::INVALID_RECORD
    );
    assert_eq!(client.list_offset("t", -1).await.0, 0);
}
