use forebay_kafka::error_code;
use forebay_kafka::messages::{
    ApiVersionsRequest, CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeleteRecordsPartition, DeleteRecordsRequest,
    DeleteRecordsTopic, DeleteTopicState, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeConfigsResource, DescribeLogDirsRequest,
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, MetadataRequest, MetadataRequestTopic,
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    incremental_alter_configs_request,
};
use forebay_kafka::{ApiKey, Message, Reader, Request, RequestHeader, encode_request_header};
use tokio::io::AsyncWriteExt;

use crate::client::{Client, batch, values};
use crate::hub::Hub;

fn creatable(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..CreatableTopicConfig::default()
    };
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    }
}

async fn metadata(
    client: &mut Client,
    names: Option<&[&str]>,
    creates: bool,
) -> Vec<(i16, String, usize)> {
    let named = |name: &&str| MetadataRequestTopic {
        name: Some((*name).into()),
        ..MetadataRequestTopic::default()
    };
    let request = MetadataRequest {
        topics: names.map(|names| names.iter().map(named).collect()),
        allow_auto_topic_creation: creates,
        ..MetadataRequest::default()
    };
    let response = client.call(12, &request).await;
    assert_eq!(response.cluster_id.as_deref(), Some("test-cluster"));
    let topic = |t: &forebay_kafka::messages::MetadataResponseTopic| {
        (
            t.error_code,
            t.name.as_ref().unwrap().to_string(),
            t.partitions.len(),
        )
    };
    response.topics.iter().map(topic).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_live_from_creation_to_deletion() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let topics = vec![
        creatable("good", 3, &[("retention.ms", "60000")]),
        creatable("../evil", 1, &[]),
        creatable("__own", 1, &[]),
        creatable("many", 1_000_000, &[]),
        creatable("compacted", 1, &[("cleanup.policy", "compact")]),
        creatable("default", -1, &[]),
    ];
    let mut request = CreateTopicsRequest {
        topics,
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    let expected = [
        0,
        error_code::INVALID_TOPIC_EXCEPTION,
        error_code::INVALID_TOPIC_EXCEPTION,
        error_code::INVALID_PARTITIONS,
        error_code::INVALID_CONFIG,
        0,
    ];
    for validate_only in [true, false] {
        request.validate_only = validate_only;
        let response = client.call(7, &request).await;
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(codes, expected);
        let listed = metadata(&mut client, None, false).await;
        assert_eq!(listed.is_empty(), validate_only);
    }
    let again = client.call(2, &request).await;
    assert_eq!(again.topics[0].error_code, error_code::TOPIC_ALREADY_EXISTS);

    let grow = |count| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "good".into(),
            count,
            assignments: None,
            ..CreatePartitionsTopic::default()
        }],
        ..CreatePartitionsRequest::default()
    };
    assert_eq!(client.call(3, &grow(5)).await.results[0].error_code, 0);
    assert_eq!(
        client.call(3, &grow(4)).await.results[0].error_code,
        error_code::INVALID_PARTITIONS
    );
    let hub = hub.restart().await;
    let mut client = hub.client().await;
    let listed = metadata(&mut client, None, false).await;
    assert_eq!(
        listed,
        [(0, "default".to_owned(), 1), (0, "good".to_owned(), 5)]
    );

    let state = |name: &str| DeleteTopicState {
        name: Some(name.into()),
        ..DeleteTopicState::default()
    };
    let delete = DeleteTopicsRequest {
        topics: vec![state("good"), state("absent")],
        ..DeleteTopicsRequest::default()
    };
    let response = client.call(6, &delete).await;
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(codes, [0, error_code::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(metadata(&mut client, None, false).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_metadata_creates_a_topic_when_both_sides_allow_it() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let unknown = error_code::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        metadata(&mut client, Some(&["new"]), false).await,
        [(unknown, "new".to_owned(), 0)]
    );
    assert_eq!(
        metadata(&mut client, Some(&["new"]), true).await,
        [(0, "new".to_owned(), 1)]
    );
    let invalid = error_code::INVALID_TOPIC_EXCEPTION;
    assert_eq!(
        metadata(&mut client, Some(&["__x"]), true).await,
        [(invalid, "__x".to_owned(), 0)]
    );
    let closed = Hub::start_with(|_| {}, |broker| broker.auto_create_topics = false).await;
    let listed = metadata(&mut closed.client().await, Some(&["new"]), true).await;
    assert_eq!(listed, [(unknown, "new".to_owned(), 0)]);
}

async fn config(
    client: &mut Client,
    kind: i8,
    name: &str,
    key: Option<&str>,
) -> Vec<(String, String, i8)> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: key.map(|key| vec![key.into()]),
        ..DescribeConfigsResource::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        ..DescribeConfigsRequest::default()
    };
    let response = client.call(4, &request).await;
    assert_eq!(
        response.results[0].error_code, 0,
        "{:?}",
        response.results[0].error_message
    );
    let row = |c: &forebay_kafka::messages::DescribeConfigsResourceResult| {
        (
            c.name.to_string(),
            c.value.as_ref().unwrap().to_string(),
            c.config_source,
        )
    };
    response.results[0].configs.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_configs_are_described_altered_and_obeyed() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let all = config(&mut client, 2, "t", None).await;
    assert!(
        all.iter()
            .any(|(name, value, source)| (&name[..], &value[..], *source)
                == ("cleanup.policy", "delete", 5))
    );
    assert!(!config(&mut client, 4, "1", None).await.is_empty());

    let mut alter = async |name: &str, operation: i8, value: &str| {
        let change = incremental_alter_configs_request::AlterableConfig {
            name: name.into(),
            config_operation: operation,
            value: Some(value.into()),
            ..Default::default()
        };
        let resource = incremental_alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![change],
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..IncrementalAlterConfigsRequest::default()
        };
        client.call(1, &request).await.responses[0].error_code
    };
    assert_eq!(alter("max.message.bytes", 0, "100").await, 0);
    assert_eq!(
        alter("max.message.bytes", 0, "lots").await,
        error_code::INVALID_CONFIG
    );
    assert_eq!(
        alter("no.such.key", 0, "1").await,
        error_code::INVALID_CONFIG
    );
    let shown = config(&mut client, 2, "t", Some("max.message.bytes")).await;
    assert_eq!(
        shown,
        [("max.message.bytes".to_owned(), "100".to_owned(), 1)]
    );
    let large = batch(&[&"x".repeat(100)]);
    assert_eq!(
        client.produce("t", large).await.error_code,
        error_code::MESSAGE_TOO_LARGE
    );
    assert_eq!(client.produce("t", batch(&["x"])).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_and_the_log_start_says_so() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    for n in 0..4 {
        client.produce("t", batch(&[&format!("v{n}")])).await;
    }
    let mut delete = async |offset| {
        let partition = DeleteRecordsPartition {
            offset,
            ..DeleteRecordsPartition::default()
        };
        let topic = DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..DeleteRecordsTopic::default()
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            ..DeleteRecordsRequest::default()
        };
        let result = client.call(2, &request).await.topics[0].partitions[0].clone();
        (result.error_code, result.low_watermark)
    };
    assert_eq!(delete(2).await, (0, 2));
    assert_eq!(delete(9).await, (error_code::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(client.list_offset("t", -2).await.0, 2);
    assert_eq!(
        client.fetch("t", 1).await.error_code,
        error_code::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(values(&client.fetch("t", 2).await)[0], (2, "v2".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_the_coordinator_and_the_log_dir_are_this_node() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 2).await;
    client.produce("t", batch(&["x"])).await;
    let cluster = client
        .call(
            1,
            &DescribeClusterRequest {
                endpoint_type: 1,
                ..DescribeClusterRequest::default()
            },
        )
        .await;
    assert_eq!(
        (
            cluster.error_code,
            cluster.controller_id,
            cluster.brokers.len()
        ),
        (0, 1, 1)
    );
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["g".into()],
        ..FindCoordinatorRequest::default()
    };
    let found = client.call(4, &find).await;
    assert_eq!(
        (found.coordinators[0].node_id, found.coordinators[0].port),
        (1, i32::from(hub.address.port()))
    );
    let find = FindCoordinatorRequest {
        key: "tx".into(),
        key_type: 1,
        ..FindCoordinatorRequest::default()
    };
    assert_eq!(
        client.call(2, &find).await.error_code,
        error_code::INVALID_REQUEST
    );
    let dirs = client
        .call(
            4,
            &DescribeLogDirsRequest {
                topics: None,
                ..DescribeLogDirsRequest::default()
            },
        )
        .await;
    assert_eq!(dirs.results[0].topics[0].partitions.len(), 2);
    assert!(dirs.results[0].topics[0].partitions[0].partition_size > 0);

    let partition = OffsetForLeaderPartition {
        current_leader_epoch: -1,
        ..OffsetForLeaderPartition::default()
    };
    let topic = OffsetForLeaderTopic {
        topic: "t".into(),
        partitions: vec![partition],
        ..OffsetForLeaderTopic::default()
    };
    let request = OffsetForLeaderEpochRequest {
        topics: vec![topic],
        ..OffsetForLeaderEpochRequest::default()
    };
    let epoch = client.call(4, &request).await.topics[0].partitions[0].clone();
    assert_eq!(
        (epoch.error_code, epoch.leader_epoch, epoch.end_offset),
        (0, 0, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_versions_announces_produce_from_zero_and_the_append_feature() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let response = client.call(3, &request).await;
    let produce = response
        .api_keys
        .iter()
        .find(|api| api.api_key == ApiKey::Produce as i16)
        .unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 11));
    let feature = &response.supported_features[0];
    assert_eq!(
        (&feature.name[..], feature.min_version, feature.max_version),
        ("forebay.append", 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_api_versions_version_is_answered_in_version_zero() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let mut frame = bytes::BytesMut::new();
    let header = RequestHeader {
        api_key: 18,
        api_version: 99,
        correlation_id: 5,
        client_id: None,
    };
    encode_request_header(&mut frame, &header).unwrap();
    frame.extend_from_slice(b"whatever a newer client sends");
    client.stream.write_u32(frame.len() as u32).await.unwrap();
    client.stream.write_all(&frame).await.unwrap();
    let mut reader = Reader::new(client.frame().await.expect("an answer"));
    assert_eq!(reader.i32().unwrap(), 5);
    let response = <ApiVersionsRequest as Request>::Response::decode(&mut reader, 0).unwrap();
    assert_eq!(response.error_code, error_code::UNSUPPORTED_VERSION);
    assert!(!response.api_keys.is_empty());
    client.call(0, &ApiVersionsRequest::default()).await;
}
