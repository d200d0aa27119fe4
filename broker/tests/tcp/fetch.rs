use forebay_kafka::error_code;
use forebay_kafka::messages::FetchRequest;

use crate::client::{batch, fetch_request, only_partition, values};
use crate::hub::Hub;

fn texts(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|n| (n, format!("v{n}"))).collect()
}

async fn hub_with(count: usize) -> Hub {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    for n in 0..count {
        assert_eq!(
            client
                .produce("t", batch(&[&format!("v{n}")]))
                .await
                .error_code,
            0
        );
    }
    hub
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", batch(&["v0", "v1", "v2"])).await;
    assert_eq!(values(&client.fetch("t", 1).await), texts(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ends_of_the_log_are_exact() {
    let hub = hub_with(3).await;
    let mut client = hub.client().await;
    let at_end = client.fetch("t", 3).await;
    assert_eq!(
        (
            at_end.error_code,
            values(&at_end).len(),
            at_end.high_watermark
        ),
        (0, 0, 3)
    );
    for offset in [-1, 4] {
        assert_eq!(
            client.fetch("t", offset).await.error_code,
            error_code::OFFSET_OUT_OF_RANGE
        );
    }
    assert_eq!(
        client.fetch("absent", 0).await.error_code,
        error_code::UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_batch_is_returned_however_small_the_limit() {
    let hub = hub_with(3).await;
    let mut client = hub.client().await;
    let mut request = fetch_request("t", 0);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(
        values(&only_partition(client.call(12, &request).await)),
        texts(0..1)
    );
    let mut request = fetch_request("t", 0);
    request.max_bytes = 1;
    assert_eq!(
        values(&only_partition(client.call(4, &request).await)),
        texts(0..1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_when_a_record_is_durable() {
    let hub = hub_with(1).await;
    let mut consumer = hub.client().await;
    let mut request = fetch_request("t", 1);
    request.max_wait_ms = 60_000;
    consumer.send(12, &request).await;
    hub.client().await.produce("t", batch(&["v1"])).await;
    let (_, response) = consumer.receive::<FetchRequest>(12).await;
    assert_eq!(values(&only_partition(response)), texts(1..2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_gathers_until_min_bytes() {
    let hub = hub_with(1).await;
    let mut consumer = hub.client().await;
    let mut request = fetch_request("t", 0);
    request.max_wait_ms = 60_000;
    request.min_bytes = 3 * batch(&["v0"]).len() as i32;
    consumer.send(12, &request).await;
    let mut producer = hub.client().await;
    for n in 1..5 {
        producer.produce("t", batch(&[&format!("v{n}")])).await;
    }
    let (_, response) = consumer.receive::<FetchRequest>(12).await;
    let found = values(&only_partition(response));
    assert!(found.len() >= 3, "{found:?}");
    assert_eq!(found, texts(0..found.len() as i64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_without_records_ends_empty() {
    let hub = hub_with(0).await;
    let mut request = fetch_request("t", 0);
    request.max_wait_ms = 20;
    let fetched = only_partition(hub.client().await.call(12, &request).await);
    assert_eq!((fetched.error_code, values(&fetched).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_answered_with_id_zero_and_unknown_ones_refused() {
    let hub = hub_with(1).await;
    let mut client = hub.client().await;
    let mut request = fetch_request("t", 0);
    request.session_epoch = 0;
    let response = client.call(12, &request).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    request.session_id = 77;
    let response = client.call(12, &request).await;
    assert_eq!(response.error_code, error_code::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_time_and_at_the_ends() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", batch(&["v0", "v1", "v2"])).await;
    assert_eq!(client.list_offset("t", -1).await, (3, -1));
    assert_eq!(client.list_offset("t", -2).await, (0, -1));
    assert_eq!(client.list_offset("t", -3).await, (2, 1_700_000_000_002));
    assert_eq!(
        client.list_offset("t", 1_700_000_000_001).await,
        (1, 1_700_000_000_001)
    );
    assert_eq!(client.list_offset("t", 1_800_000_000_000).await, (-1, -1));
}
