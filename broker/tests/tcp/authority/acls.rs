//! Permissions that clients list and change.

use std::sync::Arc;

use super::{Doorkeeper, hub, logged_in};
use crate::client::Client;
use crate::hub::Hub;
use forebay_access::acls::{Acls, Binding, Filter, Operation, ResourceType};
use forebay_kafka::error_code;
use forebay_kafka::messages::{
    AclCreation, CreateAclsRequest, DeleteAclsFilter, DeleteAclsRequest, DescribeAclsRequest,
    DescribeClusterRequest, DescribeGroupsRequest, MetadataRequest, MetadataRequestTopic,
};

/// The number of "any" in a filter.
const ANY: i8 = 1;

fn creation(name: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: name.into(),
        principal: "User:mia".into(),
        host: "*".into(),
        operation,
        permission_type: 3,
        ..AclCreation::default()
    }
}

async fn create(client: &mut Client, creations: Vec<AclCreation>) -> Vec<(i16, String)> {
    let request = CreateAclsRequest {
        creations,
        ..CreateAclsRequest::default()
    };
    let answer = client.call(3, &request).await;
    let results = answer.results.iter().map(|result| {
        let text = result.error_message.as_deref().unwrap_or_default();
        (result.error_code, text.to_owned())
    });
    results.collect()
}

/// A filter for all, of a resource type.
fn all(resource_type: i8) -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: resource_type,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        ..DescribeAclsRequest::default()
    }
}

/// The code, and each permission as one line.
async fn describe(client: &mut Client, request: &DescribeAclsRequest) -> (i16, Vec<String>) {
    let mut found = Vec::new();
    let answer = client.call(3, request).await;
    for resource in &answer.resources {
        for acl in &resource.acls {
            found.push(format!(
                "{} {} {} {} {} {} {}",
                resource.resource_type,
                resource.resource_name,
                resource.pattern_type,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type
            ));
        }
    }
    (answer.error_code, found)
}

async fn delete(client: &mut Client, filters: Vec<DeleteAclsFilter>) -> Vec<(i16, Vec<String>)> {
    let request = DeleteAclsRequest {
        filters,
        ..DeleteAclsRequest::default()
    };
    let answer = client.call(3, &request).await;
    let results = answer.filter_results.iter().map(|result| {
        let acls = result.matching_acls.iter().map(|acl| {
            let text = acl.error_message.as_deref().unwrap_or("removed");
            format!("{} {} {text}", acl.resource_name, acl.error_code)
        });
        (result.error_code, acls.collect())
    });
    results.collect()
}

fn named(name: &str) -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: Some(name.into()),
        operation: ANY,
        permission_type: ANY,
        ..DeleteAclsFilter::default()
    }
}

#[tokio::test]
async fn permissions_are_added_listed_and_removed() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let mut chief = logged_in(&hub, "chief").await;
    let creations = vec![
        creation("a", 3),
        creation("b", 4),
        AclCreation {
            resource_pattern_type: 4,
            permission_type: 2,
            host: "192.0.2.7".into(),
            ..creation("c", 2)
        },
        AclCreation {
            resource_type: 3,
            ..creation("g", 3)
        },
    ];
    let added = create(&mut chief, creations).await;
    assert_eq!(added, vec![(0, String::new()); 4]);
    let (code, found) = describe(&mut chief, &all(ANY)).await;
    assert_eq!(code, 0);
    assert_eq!(
        found,
        [
            "2 a 3 User:mia * 3 3",
            "2 b 3 User:mia * 4 3",
            "2 c 4 User:mia 192.0.2.7 2 2",
            "3 g 3 User:mia * 3 3",
        ]
    );
    let narrow = DescribeAclsRequest {
        resource_name_filter: Some("cc".into()),
        pattern_type_filter: 2,
        ..all(2)
    };
    assert_eq!(describe(&mut chief, &narrow).await.1.len(), 1);

    doorkeeper
        .configured
        .lock()
        .add(binding("allow User:mia * read topic literal a"))
        .unwrap();
    let removed = delete(&mut chief, vec![named("a"), named("x")]).await;
    let kept = "a 44 granted by the stone tablet; change it there".to_owned();
    let expected = [(0, vec![kept, "a 0 removed".to_owned()]), (0, vec![])];
    assert_eq!(removed, expected);
    assert_eq!(describe(&mut chief, &all(ANY)).await.1.len(), 3);
}

fn binding(line: &str) -> Binding {
    let acls = Acls::parse(&format!("forebay-acls 1\n{line}\n")).unwrap();
    let all = Filter::all();
    acls.selected(&all).next().unwrap().clone()
}

/// What is wrong with one says nothing of the others.
#[tokio::test]
async fn what_cannot_be_is_refused_one_by_one() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let mut chief = logged_in(&hub, "chief").await;
    let odd = |change: fn(&mut AclCreation)| {
        let mut creation = creation("a", 3);
        change(&mut creation);
        creation
    };
    let creations = vec![
        creation("fine", 3),
        odd(|acl| acl.principal = "mia".into()),
        odd(|acl| acl.host = "press-1.plant".into()),
        odd(|acl| acl.operation = 9),
        odd(|acl| acl.operation = 1),
        odd(|acl| acl.resource_type = 6),
        odd(|acl| acl.resource_pattern_type = 2),
        odd(|acl| acl.permission_type = 1),
        odd(|acl| acl.resource_name = "".into()),
    ];
    let count = creations.len();
    let results = create(&mut chief, creations).await;
    assert_eq!(results[0], (0, String::new()));
    for (code, text) in &results[1..] {
        assert_eq!(*code, error_code::INVALID_REQUEST, "{text}");
        assert!(!text.is_empty());
    }
    assert_eq!(results.len(), count);
    assert!(
        results[1].1.contains("principal \"mia\""),
        "{}",
        results[1].1
    );
    assert_eq!(describe(&mut chief, &all(ANY)).await.1.len(), 1);

    let full = create(&mut chief, vec![creation("more", 3), creation("full", 3)]).await;
    assert!(
        full.iter()
            .all(|(code, _)| *code == error_code::POLICY_VIOLATION)
    );
    // Kinds that Kafka has and this broker does not keep are not there.
    assert_eq!(describe(&mut chief, &all(7)).await, (0, vec![]));
    for meaningless in [0, 8, -1] {
        let (code, _) = describe(&mut chief, &all(meaningless)).await;
        assert_eq!(code, error_code::INVALID_REQUEST, "{meaningless}");
    }
    let mut odd = named("fine");
    odd.pattern_type_filter = 0;
    let mut tokens = named("fine");
    tokens.operation = 13;
    let removed = delete(&mut chief, vec![odd, tokens, named("fine")]).await;
    let gone = vec!["fine 0 removed".to_owned()];
    assert_eq!(
        removed,
        [
            (error_code::INVALID_REQUEST, vec![]),
            (0, vec![]),
            (0, gone)
        ]
    );
    let many = delete(&mut chief, vec![named("x"); 1001]).await;
    assert_eq!(many, vec![(error_code::INVALID_REQUEST, vec![]); 1001]);
}

#[tokio::test]
async fn a_broker_that_asks_nobody_has_no_permissions() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let (code, _) = describe(&mut client, &all(ANY)).await;
    assert_eq!(code, error_code::SECURITY_DISABLED);
    let added = create(&mut client, vec![creation("a", 3)]).await;
    assert_eq!(added[0].0, error_code::SECURITY_DISABLED);
    let removed = delete(&mut client, vec![named("a")]).await;
    assert_eq!(removed[0].0, error_code::SECURITY_DISABLED);
}

/// A bit for each operation by its number.
fn bits(operations: &[Operation]) -> i32 {
    let bits = operations.iter().map(|operation| 1 << *operation as i32);
    bits.sum()
}

#[tokio::test]
async fn who_asks_is_told_what_it_may_do() {
    use Operation::{Create, Describe, DescribeConfigs, Read, Write};
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let all: Vec<Operation> = ResourceType::Topic.operations().collect();
    for (user, expected) in [
        ("reader", vec![Read, Describe, DescribeConfigs]),
        ("writer", vec![Write, Create, Describe, DescribeConfigs]),
        ("chief", all),
    ] {
        let mut client = logged_in(&hub, user).await;
        let mut request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some("open".into()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let unasked = client.call(10, &request).await;
        assert_eq!(unasked.topics[0].topic_authorized_operations, i32::MIN);
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = true;
        let answer = client.call(10, &request).await;
        let found = answer.topics[0].topic_authorized_operations;
        assert_eq!(found, bits(&expected), "{user}");
        let cluster: Vec<Operation> = ResourceType::Cluster.operations().collect();
        let of_cluster = if user == "chief" { bits(&cluster) } else { 0 };
        assert_eq!(answer.cluster_authorized_operations, of_cluster);
        let describe = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..DescribeClusterRequest::default()
        };
        let answer = client.call(0, &describe).await;
        assert_eq!(answer.cluster_authorized_operations, of_cluster);
    }
    let mut reader = logged_in(&hub, "reader").await;
    let describe = DescribeGroupsRequest {
        groups: vec!["readers".into()],
        include_authorized_operations: true,
        ..DescribeGroupsRequest::default()
    };
    let answer = reader.call(4, &describe).await;
    let found = answer.groups[0].authorized_operations;
    assert_eq!(found, bits(&[Read, Describe, DescribeConfigs]));
}
