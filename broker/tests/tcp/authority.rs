//! Logins and permissions, with an authority that knows three users by a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use forebay_access::acls::{Acls, Binding, Filter};
use forebay_broker::{
    AclRefusal, Authority, ConnectionContext, Login, LoginStep, LoginStepLater, Operation,
    Principal, Resource, Selected,
};
use forebay_kafka::messages::{
    ApiVersionsRequest, DescribeClusterRequest, ListGroupsRequest, MetadataRequest,
    MetadataRequestTopic, OffsetCommitRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
    offset_commit_request,
};
use forebay_kafka::{ApiKey, error_code};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use crate::client::{Client, batch, fetch_request, produce_request};
use crate::hub::Hub;

mod acls;
mod requests;

use requests::{codes, on_group};

/// `reader` reads `open`, `writer` writes it, `chief` does everything.
#[derive(Default)]
struct Doorkeeper {
    lets_anonymous_in: bool,
    generation: AtomicU64,
    is_reader_revoked: AtomicBool,
    denied: Mutex<Vec<String>>,
    acls: Mutex<Acls>,
    /// What stays, whoever removes it.
    configured: Mutex<Acls>,
}

struct Word {
    host: std::net::IpAddr,
    user: Option<String>,
}

impl Login for Word {
    fn answer(self: Box<Self>, message: Bytes) -> LoginStepLater {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let message = String::from_utf8(message.to_vec()).unwrap();
            let Some(user) = self.user else {
                let next = Self {
                    user: Some(message),
                    ..*self
                };
                return LoginStep::Challenge(Bytes::from_static(b"word?"), Box::new(next));
            };
            if message != "open sesame" {
                return LoginStep::Refused("that is not the word".to_owned());
            }
            let principal = Principal {
                user: Some(user.into()),
                by_certificate: false,
                host: self.host,
            };
            LoginStep::LoggedIn(Bytes::from_static(b"welcome"), principal)
        })
    }
}

impl Authority for Doorkeeper {
    fn enter(&self, context: &ConnectionContext) -> Option<Principal> {
        let principal = Principal {
            user: None,
            by_certificate: false,
            host: context.client_host,
        };
        self.lets_anonymous_in.then_some(principal)
    }

    fn mechanisms(&self, _: &ConnectionContext) -> Vec<&'static str> {
        vec!["WORD"]
    }

    fn log_in(&self, context: &ConnectionContext, mechanism: &str) -> Option<Box<dyn Login>> {
        let login = Word {
            host: context.client_host,
            user: None,
        };
        (mechanism == "WORD").then(|| Box::new(login) as Box<dyn Login>)
    }

    fn refused_without_login(&self, _: &ConnectionContext) {
        self.denied.lock().push("login".to_owned());
    }

    fn is_welcome(&self, principal: &Principal) -> bool {
        principal.user.as_deref() != Some("reader")
            || !self.is_reader_revoked.load(Ordering::SeqCst)
    }

    fn may(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        use Operation::{Create, Describe, DescribeConfigs, Read, Write};
        use Resource::{AnyTopic, Group, Topic};
        matches!(
            (principal.user.as_deref(), operation, resource),
            (Some("chief"), _, _)
                | (
                    Some("reader"),
                    Read | Describe | DescribeConfigs,
                    Topic("open") | Group("readers")
                )
                | (
                    Some("writer"),
                    Write | Describe | DescribeConfigs | Create,
                    Topic("open") | AnyTopic
                )
        )
    }

    fn denied(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) {
        let user = principal.user.as_deref().unwrap_or("anonymous");
        let line = format!("{user} {operation:?} {resource:?}");
        self.denied.lock().push(line);
    }

    fn acls(&self, filter: &Filter) -> Result<Vec<Binding>, AclRefusal> {
        Ok(self.acls.lock().selected(filter).cloned().collect())
    }

    fn add_acls(&self, _: &Principal, bindings: &[Binding]) -> Result<(), AclRefusal> {
        if bindings.iter().any(|binding| binding.name == "full") {
            return Err(AclRefusal::TooMany);
        }
        let mut acls = self.acls.lock();
        bindings
            .iter()
            .try_for_each(|binding| acls.add(binding.clone()))
            .map_err(|_| AclRefusal::TooMany)
    }

    fn remove_acls(
        &self,
        _: &Principal,
        filters: &[Filter],
    ) -> Result<Vec<Vec<Selected>>, AclRefusal> {
        let (mut acls, configured) = (self.acls.lock(), self.configured.lock());
        let selected = |acls: &Acls, filter: &Filter, kept_by: Option<&str>| {
            let selected = acls.selected(filter).map(|binding| Selected {
                binding: binding.clone(),
                kept_by: kept_by.map(str::to_owned),
            });
            selected.collect::<Vec<_>>()
        };
        let found = filters.iter().map(|filter| {
            let kept = selected(&configured, filter, Some("the stone tablet"));
            let own = selected(&acls, filter, None);
            acls.remove(filter);
            [kept, own].concat()
        });
        Ok(found.collect())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

async fn hub(doorkeeper: &Arc<Doorkeeper>) -> Hub {
    let authority = Arc::clone(doorkeeper) as Arc<dyn Authority>;
    let hub = Hub::start_guarded(authority).await;
    let mut chief = logged_in(&hub, "chief").await;
    chief.create_topic("open", 1).await;
    chief.create_topic("closed", 1).await;
    hub
}

async fn handshake(client: &mut Client, mechanism: &str) -> i16 {
    let request = SaslHandshakeRequest {
        mechanism: mechanism.into(),
    };
    let response = client.call(1, &request).await;
    assert_eq!(response.mechanisms, ["WORD"]);
    response.error_code
}

async fn say(client: &mut Client, word: &str) -> (i16, Bytes) {
    let request = SaslAuthenticateRequest {
        auth_bytes: Bytes::copy_from_slice(word.as_bytes()),
        ..SaslAuthenticateRequest::default()
    };
    let response = client.call(2, &request).await;
    assert_eq!(response.error_message.is_some(), response.error_code != 0);
    (response.error_code, response.auth_bytes)
}

async fn logged_in(hub: &Hub, user: &str) -> Client {
    let mut client = hub.client().await;
    assert_eq!(handshake(&mut client, "WORD").await, 0);
    assert_eq!(say(&mut client, user).await, (0, Bytes::from("word?")));
    let answer = say(&mut client, "open sesame").await;
    assert_eq!(answer, (0, Bytes::from("welcome")));
    client
}

async fn apis(hub: &Hub) -> Vec<i16> {
    let mut client = hub.client().await;
    let served = client.call(3, &ApiVersionsRequest::default()).await;
    served.api_keys.iter().map(|api| api.api_key).collect()
}

#[tokio::test]
async fn logins_are_served_where_they_mean_something() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let guarded = hub(&doorkeeper).await;
    let logins = [17, 36];
    let served = apis(&guarded).await;
    assert!(logins.iter().all(|key| served.contains(key)), "{served:?}");
    assert_eq!(served.len(), ApiKey::ALL.len());
    let open = Hub::start().await;
    let served = apis(&open).await;
    assert!(logins.iter().all(|key| !served.contains(key)), "{served:?}");
    let mut client = open.client().await;
    client.send(1, &SaslHandshakeRequest::default()).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn nothing_but_a_login_is_served_before_it() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let mut client = hub.client().await;
    client.send(9, &MetadataRequest::default()).await;
    assert_eq!(client.frame().await, None);
    assert_eq!(*doorkeeper.denied.lock(), ["login"]);

    // Half a login is none.
    let mut client = hub.client().await;
    assert_eq!(handshake(&mut client, "WORD").await, 0);
    assert_eq!(say(&mut client, "chief").await.0, 0);
    client.send(9, &MetadataRequest::default()).await;
    assert_eq!(client.frame().await, None);

    let mut client = hub.client().await;
    client.stream.write_u32(20_000).await.unwrap();
    client.stream.write_all(&[0; 8]).await.unwrap();
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_wrong_word_ends_the_connection() {
    let hub = hub(&Arc::new(Doorkeeper::default())).await;
    let mut client = hub.client().await;
    assert_eq!(handshake(&mut client, "WORD").await, 0);
    assert_eq!(say(&mut client, "chief").await.0, 0);
    let (code, _) = say(&mut client, "open barley").await;
    assert_eq!(code, error_code::SASL_AUTHENTICATION_FAILED);
    assert_eq!(hub.broker.stats().failed_logins, 1);
    let code = handshake(&mut client, "WORD").await;
    assert_eq!(code, error_code::ILLEGAL_SASL_STATE);
    let again = SaslAuthenticateRequest::default();
    client.send(2, &again).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn the_order_of_a_login_is_kept() {
    let hub = hub(&Arc::new(Doorkeeper::default())).await;
    let mut client = hub.client().await;
    let (code, _) = say(&mut client, "chief").await;
    assert_eq!(code, error_code::ILLEGAL_SASL_STATE);
    let code = handshake(&mut client, "PLAIN").await;
    assert_eq!(code, error_code::UNSUPPORTED_SASL_MECHANISM);
    let old = SaslHandshakeRequest {
        mechanism: "WORD".into(),
    };
    let refused = client.call(0, &old).await;
    assert_eq!(refused.error_code, error_code::UNSUPPORTED_VERSION);
    assert_eq!(handshake(&mut client, "WORD").await, 0);
    let code = handshake(&mut client, "WORD").await;
    assert_eq!(code, error_code::ILLEGAL_SASL_STATE);
    assert_eq!(say(&mut client, "chief").await.0, 0);
    assert_eq!(say(&mut client, "open sesame").await.0, 0);
    let (code, _) = say(&mut client, "open sesame").await;
    assert_eq!(code, error_code::ILLEGAL_SASL_STATE);
}

#[tokio::test]
async fn a_login_replaces_who_came_in_without_one() {
    let doorkeeper = Arc::new(Doorkeeper {
        lets_anonymous_in: true,
        ..Doorkeeper::default()
    });
    let hub = hub(&doorkeeper).await;
    let mut client = hub.client().await;
    assert_eq!(names(&mut client).await, Vec::<String>::new());
    assert_eq!(handshake(&mut client, "WORD").await, 0);
    assert_eq!(say(&mut client, "reader").await.0, 0);
    assert_eq!(say(&mut client, "open sesame").await.0, 0);
    assert_eq!(names(&mut client).await, ["open"]);
}

async fn names(client: &mut Client) -> Vec<String> {
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let response = client.call(9, &all).await;
    let names = response.topics.iter().map(|topic| topic.name.as_deref());
    names.map(|name| name.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn metadata_hides_what_may_not_be_seen() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let mut chief = logged_in(&hub, "chief").await;
    assert_eq!(names(&mut chief).await, ["closed", "open"]);
    let mut reader = logged_in(&hub, "reader").await;
    assert_eq!(names(&mut reader).await, ["open"]);
    assert!(doorkeeper.denied.lock().is_empty());

    let asked = |name: &str| MetadataRequestTopic {
        name: Some(name.into()),
        ..MetadataRequestTopic::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![asked("open"), asked("closed"), asked("absent")]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let answer = reader.call(9, &request).await;
    let codes: Vec<i16> = answer.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [0, 29, 29]);
    assert!(answer.topics[1].partitions.is_empty());
    let by_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: None,
            topic_id: hub.storage.topic("closed").unwrap().id(),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    let answer = reader.call(12, &by_id).await;
    assert_eq!(answer.topics[0].error_code, error_code::UNKNOWN_TOPIC_ID);
    assert_eq!(answer.topics[0].name, None);
    assert!(hub.storage.topic("absent").is_none());
}

/// The requests that were refused for want of permission, with their codes.
fn refused(codes: &[(&'static str, i16)]) -> Vec<String> {
    let refused = codes.iter().filter(|(_, code)| matches!(code, 29..=31));
    refused
        .map(|(name, code)| format!("{name} {code}"))
        .collect()
}

#[tokio::test]
async fn every_request_asks() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    const ADMIN: [&str; 3] = [
        "alter configs 29",
        "delete records 29",
        "create partitions 29",
    ];
    const GROUP: [&str; 10] = [
        "join 30",
        "sync 30",
        "heartbeat 30",
        "leave 30",
        "commit 30",
        "offsets 30",
        "describe group 30",
        "coordinator 30",
        "offset delete 30",
        "delete group 30",
    ];
    const CLUSTER: [&str; 5] = [
        "log dirs 31",
        "broker configs 31",
        "describe acls 31",
        "create acls 31",
        "delete acls 31",
    ];

    let mut reader = logged_in(&hub, "reader").await;
    let found = refused(&codes(&mut reader, "open", "readers").await);
    let expected = [
        &["produce 29"][..],
        &ADMIN,
        &["offset delete 30", "delete group 30", "producer id 31"],
        &CLUSTER,
        &["create topic 29", "delete topic 29"],
    ];
    assert_eq!(found, expected.concat());

    let mut writer = logged_in(&hub, "writer").await;
    let found = refused(&codes(&mut writer, "open", "readers").await);
    let expected = [
        &["fetch 29"][..],
        &ADMIN,
        &GROUP,
        &CLUSTER,
        &["delete topic 29"],
    ];
    assert_eq!(found, expected.concat());

    let found = refused(&codes(&mut reader, "closed", "others").await);
    let expected = [
        &[
            "produce 29",
            "fetch 29",
            "list offsets 29",
            "leader epoch 29",
            "describe configs 29",
        ][..],
        &ADMIN,
        &GROUP,
        &["producer id 31"],
        &CLUSTER,
        &["create topic 29", "delete topic 29"],
    ];
    assert_eq!(found, expected.concat());
    // A group that may be used says nothing of a topic that may not.
    let found = refused(&on_group(&mut reader, "closed", "readers").await);
    let expected = [
        "commit 29",
        "offsets 29",
        "offset delete 30",
        "delete group 30",
    ];
    assert_eq!(found, expected);
    assert!(doorkeeper.denied.lock().len() > 40);

    let mut chief = logged_in(&hub, "chief").await;
    let found = refused(&codes(&mut chief, "open", "readers").await);
    assert_eq!(found, Vec::<String>::new());
    let cluster = reader.call(1, &DescribeClusterRequest::default()).await;
    assert_eq!(cluster.error_code, 0);
}

#[tokio::test]
async fn groups_that_may_not_be_seen_are_not_listed() {
    let hub = hub(&Arc::new(Doorkeeper::default())).await;
    let mut chief = logged_in(&hub, "chief").await;
    for group in ["readers", "others"] {
        on_group_commit(&mut chief, group).await;
    }
    let mut reader = logged_in(&hub, "reader").await;
    for (client, expected) in [(&mut chief, 2), (&mut reader, 1)] {
        let listed = client.call(4, &ListGroupsRequest::default()).await;
        assert_eq!(listed.groups.len(), expected);
    }
}

async fn on_group_commit(client: &mut Client, group: &str) {
    let commit = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![offset_commit_request::OffsetCommitRequestTopic {
            name: "open".into(),
            partitions: vec![Default::default()],
            ..Default::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let committed = client.call(7, &commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
}

#[tokio::test]
async fn an_unacknowledged_produce_that_is_refused_closes() {
    let hub = hub(&Arc::new(Doorkeeper::default())).await;
    let mut reader = logged_in(&hub, "reader").await;
    reader
        .send(9, &produce_request("open", 0, batch(&["a"])))
        .await;
    assert_eq!(reader.frame().await, None);
}

#[tokio::test]
async fn who_is_revoked_gets_no_more_records() {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let hub = hub(&doorkeeper).await;
    let mut reader = logged_in(&hub, "reader").await;
    let mut waits = fetch_request("open", 0);
    waits.max_wait_ms = 60_000;
    reader.send(12, &waits).await;
    while !hub.broker.stats().requests.contains(&(ApiKey::Fetch, 1)) {
        tokio::task::yield_now().await;
    }
    let mut second = logged_in(&hub, "reader").await;
    let _ = names(&mut second).await;
    doorkeeper.is_reader_revoked.store(true, Ordering::SeqCst);
    doorkeeper.generation.fetch_add(1, Ordering::SeqCst);
    let mut writer = logged_in(&hub, "writer").await;
    let produced = writer.produce("open", batch(&["a"])).await;
    assert_eq!(produced.error_code, 0);
    assert_eq!(reader.frame().await, None);
    second.send(9, &MetadataRequest::default()).await;
    assert_eq!(second.frame().await, None);
}
