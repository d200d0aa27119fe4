use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_broker::DEFAULT_OFFSETS_RETENTION;
use forebay_broker::{Broker, BrokerConfig};
use forebay_kafka::error_code;
use forebay_kafka::messages::{
    DeleteGroupsRequest, DeleteTopicState, DeleteTopicsRequest, DescribeGroupsRequest,
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, MemberIdentity, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetDeleteRequest,
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestGroup, SyncGroupRequest, SyncGroupRequestAssignment,
};

use crate::client::Client;
use crate::hub::Hub;

fn join(member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        ..JoinGroupRequestProtocol::default()
    };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// Joins as a client does that is told its member id first.
async fn join_new(client: &mut Client) -> JoinGroupResponse {
    let refused = client.call(9, &join("")).await;
    assert_eq!(refused.error_code, error_code::MEMBER_ID_REQUIRED);
    client.call(9, &join(&refused.member_id)).await
}

fn sync(joined: &JoinGroupResponse, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let assignment = |(member, bytes): &(&str, &'static [u8])| SyncGroupRequestAssignment {
        member_id: (*member).into(),
        assignment: Bytes::from_static(bytes),
        ..SyncGroupRequestAssignment::default()
    };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.iter().map(assignment).collect(),
        ..SyncGroupRequest::default()
    }
}

fn commit(group: &str, generation: i32, member: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

async fn committed(client: &mut Client, group: &str) -> Vec<(String, i64, String)> {
    let asked = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![asked],
        ..OffsetFetchRequest::default()
    };
    let response = client.call(8, &request).await;
    let topics = response.groups[0].topics.iter();
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|p| {
                (
                    topic.name.to_string(),
                    p.committed_offset,
                    p.metadata.as_ref().unwrap().to_string(),
                )
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_a_group_and_resume_after_a_restart() {
    let hub = Hub::start().await;
    let mut first = hub.client().await;
    let mut second = hub.client().await;
    first.create_topic("t", 2).await;
    let alone = join_new(&mut first).await;
    assert_eq!(
        (alone.error_code, alone.generation_id, alone.members.len()),
        (0, 1, 1)
    );
    let synced = first
        .call(5, &sync(&alone, &[(&alone.member_id, b"all")]))
        .await;
    assert_eq!(synced.assignment, "all");

    let refused = second.call(9, &join("")).await;
    second.send(9, &join(&refused.member_id)).await;
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: alone.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    while first.call(4, &beat).await.error_code != error_code::REBALANCE_IN_PROGRESS {}
    let leader = first.call(9, &join(&alone.member_id)).await;
    let (_, follower) = second.receive::<JoinGroupRequest>(9).await;
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(follower.leader, leader.member_id);

    second.send(5, &sync(&follower, &[])).await;
    let assignments: [(&str, &'static [u8]); 2] =
        [(&leader.member_id, b"p0"), (&follower.member_id, b"p1")];
    assert_eq!(
        first.call(5, &sync(&leader, &assignments)).await.assignment,
        "p0"
    );
    assert_eq!(
        second.receive::<SyncGroupRequest>(5).await.1.assignment,
        "p1"
    );

    let stale = first.call(8, &commit("g", 1, &leader.member_id, 5)).await;
    assert_eq!(
        stale.topics[0].partitions[0].error_code,
        error_code::ILLEGAL_GENERATION
    );
    let stored = first.call(8, &commit("g", 2, &leader.member_id, 7)).await;
    assert_eq!(stored.topics[0].partitions[0].error_code, 0);

    let hub = hub.restart().await;
    let mut client = hub.client().await;
    assert_eq!(
        committed(&mut client, "g").await,
        [("t".to_owned(), 7, "note".to_owned())]
    );
    assert_eq!(
        client.call(4, &beat).await.error_code,
        error_code::UNKNOWN_MEMBER_ID
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_described_listed_and_deleted() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let joined = join_new(&mut client).await;
    client
        .call(5, &sync(&joined, &[(&joined.member_id, b"all")]))
        .await;
    client.call(8, &commit("offsets/only", -1, "", 3)).await;

    let listed = client.call(4, &ListGroupsRequest::default()).await;
    let listed: Vec<_> = listed
        .groups
        .iter()
        .map(|g| (g.group_id.to_string(), g.group_state.to_string()))
        .collect();
    let expected =
        [("g", "Stable"), ("offsets/only", "Empty")].map(|(g, s)| (g.to_owned(), s.to_owned()));
    assert_eq!(listed, expected);

    let request = DescribeGroupsRequest {
        groups: vec!["g".into(), "offsets/only".into(), "absent".into()],
        ..DescribeGroupsRequest::default()
    };
    let described = client.call(5, &request).await;
    let states: Vec<_> = described
        .groups
        .iter()
        .map(|g| (g.group_state.to_string(), g.members.len()))
        .collect();
    let expected = [("Stable", 1), ("Empty", 0), ("Dead", 0)].map(|(s, n)| (s.to_owned(), n));
    assert_eq!(states, expected);
    assert_eq!(described.groups[0].members[0].client_id, "test");
    assert_eq!(described.groups[0].members[0].member_assignment, "all");

    let delete = DeleteGroupsRequest {
        groups_names: vec!["g".into(), "offsets/only".into(), "absent".into()],
        ..DeleteGroupsRequest::default()
    };
    let results = client.call(2, &delete).await.results;
    let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(
        codes,
        [
            error_code::NON_EMPTY_GROUP,
            0,
            error_code::GROUP_ID_NOT_FOUND
        ]
    );
    assert!(committed(&mut client, "offsets/only").await.is_empty());

    let member = MemberIdentity {
        member_id: joined.member_id.clone(),
        ..MemberIdentity::default()
    };
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![member],
        ..LeaveGroupRequest::default()
    };
    assert_eq!(client.call(5, &leave).await.members[0].error_code, 0);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_deleted_unless_the_group_consumes_the_topic() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    client.call(8, &commit("g", -1, "", 3)).await;
    let topic = OffsetDeleteRequestTopic {
        name: "t".into(),
        partitions: vec![OffsetDeleteRequestPartition::default()],
    };
    let delete = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![topic],
    };
    let joined = join_new(&mut client).await;
    let response = client.call(0, &delete).await;
    assert_eq!(
        response.topics[0].partitions[0].error_code,
        error_code::GROUP_SUBSCRIBED_TO_TOPIC
    );
    let member = MemberIdentity {
        member_id: joined.member_id.clone(),
        ..MemberIdentity::default()
    };
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![member],
        ..LeaveGroupRequest::default()
    };
    client.call(5, &leave).await;
    let response = client.call(0, &delete).await;
    assert_eq!(
        (
            response.error_code,
            response.topics[0].partitions[0].error_code
        ),
        (0, 0)
    );
    assert!(committed(&mut client, "g").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_is_expired_by_the_servers_timer() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let mut request = join("");
    request.session_timeout_ms = 1_000;
    let id = client.call(9, &request).await.member_id;
    request.member_id = id;
    let joined = client.call(9, &request).await;
    client
        .call(5, &sync(&joined, &[(&joined.member_id, b"all")]))
        .await;
    let describe = DescribeGroupsRequest {
        groups: vec!["g".into()],
        ..DescribeGroupsRequest::default()
    };
    let emptied = async {
        while client.call(5, &describe).await.groups[0].group_state != "Empty" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(15), emptied)
        .await
        .expect("the session expires");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_go_with_their_topic_and_with_a_group_that_is_long_gone() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    for group in ["one", "other"] {
        client.call(8, &commit(group, -1, "", 3)).await;
        assert_eq!(committed(&mut client, group).await.len(), 1);
    }

    let state = DeleteTopicState {
        name: Some("t".into()),
        ..DeleteTopicState::default()
    };
    let delete = DeleteTopicsRequest {
        topics: vec![state],
        ..DeleteTopicsRequest::default()
    };
    client.call(6, &delete).await;
    client.create_topic("t", 1).await;
    assert_eq!(committed(&mut client, "one").await, []);

    client.call(8, &commit("one", -1, "", 4)).await;
    let retention = DEFAULT_OFFSETS_RETENTION.as_millis() as i64;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = since.as_millis() as i64;
    let broker = Broker::new(hub.storage.clone(), BrokerConfig::new("c", "h", 1));
    broker.sweep_offsets(now_ms + retention - 60_000);
    assert_eq!(committed(&mut client, "one").await.len(), 1);
    broker.sweep_offsets(now_ms + retention + 60_000);
    assert_eq!(committed(&mut client, "one").await, []);
}
