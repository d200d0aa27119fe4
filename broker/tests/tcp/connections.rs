//! Hostile, slow and idle connections do not disturb others.

use std::time::Duration;

use forebay_kafka::messages::{ApiVersionsRequest, ProduceRequest};
use forebay_kafka::{ApiKey, encode_request};
use tokio::io::AsyncWriteExt;

use crate::client::{Client, batch, produce_request};
use crate::hub::Hub;

/// Idle connections of the test; ten thousand need more file descriptors than
/// a test may ask for, and the interop run opens those.
const IDLE_CONNECTIONS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_closes_only_its_own_connection() {
    let hub = Hub::start().await;
    let mut other = hub.client().await;
    other.create_topic("t", 1).await;
    let nonsense: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x7f\xff\xff\xff\0\0\0\x09",
        b"\0\0\0\x01x",
        b"\0\0\0\x0a\x7f\0\0\0\0\0\0\x01\xff\xff",
        b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\x7f\xff\xff\xff",
    ];
    for bytes in nonsense {
        let mut client = hub.client().await;
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.frame().await, None, "{bytes:?}");
    }
    assert_eq!(other.produce("t", batch(&["x"])).await.error_code, 0);
    // A client sees the end of its connection a little before it is counted.
    let settled = async {
        while hub.broker.stats().violations < 5 || hub.broker.stats().connections > 1 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(10), settled).await;
    let stats = hub.broker.stats();
    assert!(settled.is_ok(), "{stats:?}");
    assert_eq!((stats.violations, stats.connections_total), (5, 6));
    assert!(stats.bytes_in > 0 && stats.bytes_out > 0);
    assert!(stats.requests.contains(&(ApiKey::Produce, 1)), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_before_version_three_closes_the_connection() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client
        .stream
        .write_all(b"\0\0\0\x0a\0\0\0\x02\0\0\0\x01\xff\xff")
        .await
        .unwrap();
    assert_eq!(client.frame().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_connections_do_not_delay_others() {
    let hub = Hub::start().await;
    let mut idle = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        idle.push(hub.client().await);
    }
    let slow = encode_request(&produce_request("t", -1, batch(&["slow"])), 9, 1, None).unwrap();
    let (last, rest) = slow.split_last().unwrap();
    let mut slow_client = hub.client().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    for byte in rest.chunks(8) {
        slow_client.stream.write_all(byte).await.unwrap();
        let produced = client.produce("t", batch(&["fast"]));
        let produced = tokio::time::timeout(Duration::from_secs(10), produced).await;
        assert_eq!(produced.expect("the fast client is served").error_code, 0);
    }
    slow_client.stream.write_all(&[*last]).await.unwrap();
    let (_, response) = slow_client.receive::<ProduceRequest>(9).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    for mut client in idle {
        client.call(0, &ApiVersionsRequest::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_closed() {
    let hub = Hub::start_with(|_| {}, |broker| broker.max_connections = 2).await;
    let mut first = hub.client().await;
    let mut second = hub.client().await;
    first.call(0, &ApiVersionsRequest::default()).await;
    second.call(0, &ApiVersionsRequest::default()).await;
    assert_eq!(hub.client().await.frame().await, None);
    drop(first);
    let freed = async {
        loop {
            let mut client = Client::connect(hub.address).await;
            let frame = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap();
            if client.stream.write_all(&frame).await.is_ok() && client.frame().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed)
        .await
        .expect("a closed connection makes room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_closes_idle_connections() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.call(0, &ApiVersionsRequest::default()).await;
    let hub = hub.restart().await;
    assert_eq!(client.frame().await, None);
    hub.client()
        .await
        .call(0, &ApiVersionsRequest::default())
        .await;
}
