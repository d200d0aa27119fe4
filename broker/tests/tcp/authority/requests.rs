//! One of each request that needs a permission, and what it was answered.

use forebay_kafka::messages::{
    AclCreation, AlterConfigsRequest, CreatableTopic, CreateAclsRequest, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeleteAclsFilter, DeleteAclsRequest,
    DeleteGroupsRequest, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    DeleteTopicsRequest, DescribeAclsRequest, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeGroupsRequest, DescribeLogDirsRequest, FindCoordinatorRequest, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    SyncGroupRequest, alter_configs_request, list_offsets_request, offset_commit_request,
    offset_fetch_request, offset_for_leader_epoch_request,
};

use crate::client::{Client, batch, fetch_request, produce_request};

/// Codes of one user for a topic and a group, by the name of the request.
pub async fn codes(client: &mut Client, topic: &str, group: &str) -> Vec<(&'static str, i16)> {
    let mut codes = on_topic(client, topic).await;
    codes.extend(changing_topic(client, topic).await);
    codes.extend(on_group(client, topic, group).await);
    codes.extend(on_cluster(client, topic).await);
    codes
}

async fn on_topic(client: &mut Client, topic: &str) -> Vec<(&'static str, i16)> {
    let produced = client
        .call(9, &produce_request(topic, -1, batch(&["a"])))
        .await;
    let fetched = client.call(12, &fetch_request(topic, 0)).await;
    let listed = ListOffsetsRequest {
        topics: vec![list_offsets_request::ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![list_offsets_request::ListOffsetsPartition {
                timestamp: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..ListOffsetsRequest::default()
    };
    let listed = client.call(7, &listed).await;
    let epoch = OffsetForLeaderEpochRequest {
        topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
            topic: topic.into(),
            partitions: vec![Default::default()],
            ..Default::default()
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let epoch = client.call(4, &epoch).await;
    let configs = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: topic.into(),
            ..DescribeConfigsResource::default()
        }],
        ..DescribeConfigsRequest::default()
    };
    let configs = client.call(4, &configs).await;
    vec![
        (
            "produce",
            produced.responses[0].partition_responses[0].error_code,
        ),
        ("fetch", fetched.responses[0].partitions[0].error_code),
        ("list offsets", listed.topics[0].partitions[0].error_code),
        ("leader epoch", epoch.topics[0].partitions[0].error_code),
        ("describe configs", configs.results[0].error_code),
    ]
}

async fn changing_topic(client: &mut Client, topic: &str) -> Vec<(&'static str, i16)> {
    let alter = AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: topic.into(),
            ..Default::default()
        }],
        validate_only: true,
        ..AlterConfigsRequest::default()
    };
    let altered = client.call(2, &alter).await;
    let trim = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![DeleteRecordsPartition::default()],
            ..DeleteRecordsTopic::default()
        }],
        ..DeleteRecordsRequest::default()
    };
    let trimmed = client.call(2, &trim).await;
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.into(),
            count: 2,
            ..CreatePartitionsTopic::default()
        }],
        validate_only: true,
        ..CreatePartitionsRequest::default()
    };
    let grown = client.call(3, &grow).await;
    vec![
        ("alter configs", altered.responses[0].error_code),
        ("delete records", trimmed.topics[0].partitions[0].error_code),
        ("create partitions", grown.results[0].error_code),
    ]
}

pub async fn on_group(client: &mut Client, topic: &str, group: &str) -> Vec<(&'static str, i16)> {
    let joined = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        ..JoinGroupRequest::default()
    };
    let joined = client.call(5, &joined).await;
    let synced = SyncGroupRequest {
        group_id: group.into(),
        ..SyncGroupRequest::default()
    };
    let synced = client.call(3, &synced).await;
    let beat = HeartbeatRequest {
        group_id: group.into(),
        ..HeartbeatRequest::default()
    };
    let beat = client.call(3, &beat).await;
    let left = LeaveGroupRequest {
        group_id: group.into(),
        ..LeaveGroupRequest::default()
    };
    let left = client.call(2, &left).await;
    let mut codes = vec![
        ("join", joined.error_code),
        ("sync", synced.error_code),
        ("heartbeat", beat.error_code),
        ("leave", left.error_code),
    ];
    codes.extend(on_offsets(client, topic, group).await);
    codes
}

async fn on_offsets(client: &mut Client, topic: &str, group: &str) -> Vec<(&'static str, i16)> {
    let commit = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![offset_commit_request::OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![Default::default()],
            ..Default::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let committed = client.call(7, &commit).await;
    let fetch = OffsetFetchRequest {
        groups: vec![offset_fetch_request::OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopics {
                name: topic.into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let fetched = &client.call(8, &fetch).await.groups[0];
    let of_topic = fetched.topics.first().map(|t| t.partitions[0].error_code);
    let described = DescribeGroupsRequest {
        groups: vec![group.into()],
        ..DescribeGroupsRequest::default()
    };
    let described = client.call(5, &described).await;
    let found = FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..FindCoordinatorRequest::default()
    };
    let found = client.call(4, &found).await;
    let forget = OffsetDeleteRequest {
        group_id: group.into(),
        ..OffsetDeleteRequest::default()
    };
    let forgot = client.call(0, &forget).await;
    let delete = DeleteGroupsRequest {
        groups_names: vec![group.into()],
        ..DeleteGroupsRequest::default()
    };
    let deleted = client.call(2, &delete).await;
    vec![
        ("commit", committed.topics[0].partitions[0].error_code),
        ("offsets", fetched.error_code.max(of_topic.unwrap_or(0))),
        ("describe group", described.groups[0].error_code),
        ("coordinator", found.coordinators[0].error_code),
        ("offset delete", forgot.error_code),
        ("delete group", deleted.results[0].error_code),
    ]
}

async fn on_cluster(client: &mut Client, topic: &str) -> Vec<(&'static str, i16)> {
    let id = client.call(4, &InitProducerIdRequest::default()).await;
    let dirs = client.call(4, &DescribeLogDirsRequest::default()).await;
    let configs = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 4,
            ..DescribeConfigsResource::default()
        }],
        ..DescribeConfigsRequest::default()
    };
    let configs = client.call(4, &configs).await;
    let listed = DescribeAclsRequest {
        resource_type_filter: 2,
        operation: 3,
        permission_type: 3,
        ..DescribeAclsRequest::default()
    };
    let listed = client.call(3, &listed).await;
    let added = CreateAclsRequest {
        creations: vec![AclCreation::default()],
        ..CreateAclsRequest::default()
    };
    let added = client.call(3, &added).await;
    let removed = DeleteAclsRequest {
        filters: vec![DeleteAclsFilter::default()],
        ..DeleteAclsRequest::default()
    };
    let removed = client.call(3, &removed).await;
    let created = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    let created = client.call(6, &created).await;
    let deleted = DeleteTopicsRequest {
        topic_names: vec![topic.into()],
        ..DeleteTopicsRequest::default()
    };
    // The only one that changes something comes last.
    let deleted = client.call(5, &deleted).await;
    vec![
        ("producer id", id.error_code),
        ("log dirs", dirs.error_code),
        ("broker configs", configs.results[0].error_code),
        ("describe acls", listed.error_code),
        ("create acls", added.results[0].error_code),
        ("delete acls", removed.filter_results[0].error_code),
        ("create topic", created.topics[0].error_code),
        ("delete topic", deleted.responses[0].error_code),
    ]
}
