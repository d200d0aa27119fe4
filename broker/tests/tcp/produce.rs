use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use forebay_kafka::error_code;
use forebay_kafka::messages::{MetadataRequest, MetadataRequestTopic, ProduceRequest};
use forebay_records::{BatchHeader, Compression, crc_is_valid};
use tokio::task::spawn_blocking;

use crate::client::{batch, batch_with, fetch_request, only_partition, produce_request, values};
use crate::hub::Hub;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_a_restart() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    for (n, acks) in [1, -1].into_iter().enumerate() {
        let response = client
            .call(9, &produce_request("t", acks, batch(&["a", "b"])))
            .await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (0, 2 * n as i64)
        );
    }
    let hub = hub.restart().await;
    let fetched = hub.client().await.fetch("t", 0).await;
    let expected = [(0, "a"), (1, "b"), (2, "a"), (3, "b")].map(|(o, v)| (o, v.to_owned()));
    assert_eq!(values(&fetched), expected);
    assert_eq!(fetched.high_watermark, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_batches_pass_through_unchanged() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let text = "abc".repeat(1000);
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let sent = batch_with(&[&text, "x"], codec, None);
        let placed = client.produce("t", sent.clone()).await;
        assert_eq!(placed.error_code, 0, "{codec:?}");
        let fetched = client.fetch("t", placed.base_offset).await.records.unwrap();
        assert_eq!(fetched.slice(16..), sent.slice(16..), "{codec:?}");
        assert_eq!(
            BatchHeader::parse(&fetched).unwrap().base_offset,
            placed.base_offset
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_zero_is_never_answered() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    client
        .send(9, &produce_request("t", 0, batch(&["quiet"])))
        .await;
    let asked = client
        .send(9, &produce_request("t", -1, batch(&["loud"])))
        .await;
    let (answered, response) = client.receive::<ProduceRequest>(9).await;
    assert_eq!(
        answered, asked,
        "the first response belongs to the second request"
    );
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_acks_zero_closes_the_connection() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client
        .send(9, &produce_request("absent", 0, batch(&["x"])))
        .await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let mut sent = Vec::new();
    for n in 0..40 {
        sent.push(
            client
                .send(9, &produce_request("t", -1, batch(&[&n.to_string()])))
                .await,
        );
    }
    for (n, sent) in sent.into_iter().enumerate() {
        let (correlation, response) = client.receive::<ProduceRequest>(9).await;
        let base_offset = response.responses[0].partition_responses[0].base_offset;
        assert_eq!((correlation, base_offset), (sent, n as i64));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_batches_get_their_own_error_code_and_change_nothing() {
    let hub = Hub::start_with(|_| {}, |broker| broker.max_message_bytes = 2000).await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let two = [&batch(&["a"])[..], &batch(&["b"])[..]].concat();
    let cases: [(&str, &str, Bytes, i16); 7] = [
        ("corrupt", "t", corrupt.into(), error_code::CORRUPT_MESSAGE),
        (
            "truncated",
            "t",
            batch(&["x"]).slice(..40),
            error_code::CORRUPT_MESSAGE,
        ),
        ("two batches", "t", two.into(), error_code::CORRUPT_MESSAGE),
        (
            "too large",
            "t",
            batch(&[&"x".repeat(3000)]),
            error_code::MESSAGE_TOO_LARGE,
        ),
        (
            "unknown topic",
            "absent",
            batch(&["x"]),
            error_code::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (
            "internal topic",
            "__state",
            batch(&["x"]),
            error_code::INVALID_TOPIC_EXCEPTION,
        ),
        ("nothing", "t", Bytes::new(), error_code::INVALID_REQUEST),
    ];
    for (name, topic, records, expected) in cases {
        let response = client.produce(topic, records).await;
        assert_eq!(
            response.error_code, expected,
            "{name}: {:?}",
            response.error_message
        );
    }
    let response = client
        .call(9, &produce_request("t", 2, batch(&["x"])))
        .await;
    let refused = response.responses[0].partition_responses[0].error_code;
    assert_eq!(refused, error_code::INVALID_REQUIRED_ACKS);
    assert_eq!(client.list_offset("t", -1).await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_a_storage_error() {
    let hub = Hub::start().await;
    hub.client().await.create_topic("t", 1).await;
    let full = Hub::start_with(|config| config.retention.keep_free = u64::MAX / 2, |_| {}).await;
    let mut client = full.client().await;
    let asked = MetadataRequestTopic {
        name: Some("t".into()),
        ..MetadataRequestTopic::default()
    };
    client
        .call(
            9,
            &MetadataRequest {
                topics: Some(vec![asked]),
                ..MetadataRequest::default()
            },
        )
        .await;
    let response = client.produce("t", batch(&["x"])).await;
    assert_eq!(response.error_code, error_code::KAFKA_STORAGE_ERROR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_append_time_topics_get_the_brokers_clock() {
    use forebay_kafka::messages::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let config = CreatableTopicConfig {
        name: "message.timestamp.type".into(),
        value: Some("LogAppendTime".into()),
        ..CreatableTopicConfig::default()
    };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: -1,
        configs: vec![config],
        ..CreatableTopic::default()
    };
    client
        .call(
            7,
            &CreateTopicsRequest {
                topics: vec![topic],
                ..CreateTopicsRequest::default()
            },
        )
        .await;
    let response = client.produce("t", batch(&["x"])).await;
    assert!(response.log_append_time_ms > 1_700_000_000_000);
    let fetched = client.fetch("t", 0).await.records.unwrap();
    let header = BatchHeader::parse(&fetched).unwrap();
    assert!(crc_is_valid(&fetched) && header.uses_log_append_time());
    assert_eq!(header.max_timestamp, response.log_append_time_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_may_span_partitions_with_mixed_results() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 2).await;
    let mut request = produce_request("t", -1, batch(&["zero"]));
    let template = request.topic_data[0].partition_data[0].clone();
    for index in [1, 7] {
        let mut partition = template.clone();
        partition.index = index;
        request.topic_data[0].partition_data.push(partition);
    }
    let response = client.call(8, &request).await;
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| (p.index, p.error_code))
        .collect();
    assert_eq!(
        codes,
        [(0, 0), (1, 0), (7, error_code::UNKNOWN_TOPIC_OR_PARTITION)]
    );
    let mut fetch = fetch_request("t", 0);
    fetch.topics[0].partitions[0].partition = 1;
    let fetched = only_partition(client.call(11, &fetch).await);
    assert_eq!(values(&fetched), [(0, "zero".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_waits_for_its_commit_and_so_does_a_consumer() {
    let hub = Hub::start_with(|config| config.threads = false, |_| {}).await;
    let mut client = hub.client().await;
    let committing = Arc::new(AtomicBool::new(true));
    let (storage, goes_on) = (hub.storage.clone(), Arc::clone(&committing));
    let committer = spawn_blocking(move || {
        while goes_on.load(Ordering::SeqCst) {
            storage.run_commit();
            std::thread::yield_now();
        }
    });
    client.create_topic("t", 1).await;
    committing.store(false, Ordering::SeqCst);
    committer.await.unwrap();

    client
        .send(9, &produce_request("t", 1, batch(&["x"])))
        .await;
    let partition = hub.storage.topic("t").unwrap().partition(0).unwrap();
    while partition.offsets().log_end == 0 {
        tokio::task::yield_now().await;
    }
    let fetched = hub.client().await.fetch("t", 0).await;
    assert_eq!((fetched.high_watermark, values(&fetched).len()), (0, 0));
    let early = client
        .stream
        .try_read(&mut [0; 1])
        .map_err(|error| error.kind());
    assert_eq!(
        early,
        Err(std::io::ErrorKind::WouldBlock),
        "nothing is acknowledged yet"
    );

    assert!(hub.storage.run_commit());
    let (_, response) = client.receive::<ProduceRequest>(9).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(
        values(&hub.client().await.fetch("t", 0).await),
        [(0, "x".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_slows_producers_down_and_fails_none() {
    let hub = Hub::start_with(
        |config| {
            config.threads = false;
            config.max_pending_bytes = 256 * 1024;
        },
        |_| {},
    )
    .await;
    let commit_while = |goes_on: &Arc<AtomicBool>| {
        let (storage, goes_on) = (hub.storage.clone(), Arc::clone(goes_on));
        spawn_blocking(move || {
            while goes_on.load(Ordering::SeqCst) {
                storage.run_commit();
                std::thread::yield_now();
            }
        })
    };
    let committing = Arc::new(AtomicBool::new(true));
    let committer = commit_while(&committing);
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    committing.store(false, Ordering::SeqCst);
    committer.await.unwrap();

    let sent = batch(&[&"x".repeat(100_000)]);
    for _ in 0..5 {
        client
            .send(9, &produce_request("t", -1, sent.clone()))
            .await;
    }
    let partition = hub.storage.topic("t").unwrap().partition(0).unwrap();
    while partition.offsets().log_end < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        partition.offsets().log_end,
        2,
        "two batches fill the log's queue"
    );
    committing.store(true, Ordering::SeqCst);
    let committer = commit_while(&committing);
    for expected in 0..5 {
        let (_, response) = client.receive::<ProduceRequest>(9).await;
        let placed = &response.responses[0].partition_responses[0];
        assert_eq!((placed.error_code, placed.base_offset), (0, expected));
    }
    committing.store(false, Ordering::SeqCst);
    committer.await.unwrap();
}
