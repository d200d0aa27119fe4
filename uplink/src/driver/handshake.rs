//! Getting to know the destination: versions, identity, topics.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_kafka::append_condition::FEATURE_NAME;
use forebay_kafka::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatableTopic, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, MetadataRequest, MetadataRequestTopic,
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use forebay_kafka::{ApiKey, KStr, Request, decode_response, error_code};
use tokio::time::sleep;

use super::connection::{Calls, ConnectionError};
use crate::state::Destination;

/// Times that the metadata of a freshly created topic is asked for again.
const METADATA_ATTEMPTS: u32 = 10;
/// Pause between those, so that a cluster gets two seconds for an election,
/// which is also the longest that such a topic delays the others.
const METADATA_PAUSE: Duration = Duration::from_millis(200);

/// Limit that the broker gets for creating topics.
const CREATE_TIMEOUT_MS: i32 = 10_000;

/// The versions in which the broker is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    ranges: BTreeMap<i16, (i16, i16)>,
    /// The broker announces compare-and-append.
    pub compares: bool,
}

impl Versions {
    fn new(response: &ApiVersionsResponse) -> Self {
        let keys = response.api_keys.iter();
        let features = &response.supported_features;
        Versions {
            ranges: keys
                .map(|key| (key.api_key, (key.min_version, key.max_version)))
                .collect(),
            compares: features
                .iter()
                .any(|feature| &*feature.name == FEATURE_NAME),
        }
    }

    /// The highest version of an API that both sides know, at most `ours`.
    pub fn pick<R: Request>(&self, ours: i16) -> i16 {
        let codec = *R::KEY.versions().end();
        let theirs = self.ranges.get(&(R::KEY as i16)).map_or(0, |range| range.1);
        ours.min(codec).min(theirs).max(*R::KEY.versions().start())
    }
}

/// A destination topic that exists and has enough partitions.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which topic on which cluster.
    pub destination: Destination,
    /// Number of partitions there.
    pub partitions: u32,
    /// Node that leads each partition, for those that have a leader.
    pub leaders: BTreeMap<u32, i32>,
}

/// Asks for the versions.
///
/// # Errors
/// [`ConnectionError`] when the broker does not answer in any known way.
pub async fn versions(calls: &mut Calls) -> Result<Versions, ConnectionError> {
    let request = ApiVersionsRequest {
        client_software_name: KStr::from(env!("CARGO_PKG_NAME")),
        client_software_version: KStr::from(env!("CARGO_PKG_VERSION")),
        ..ApiVersionsRequest::default()
    };
    let frame = calls.call_raw(&request, 3).await?;
    if let Ok((_, response)) = decode_response::<ApiVersionsRequest>(frame, 3)
        && response.error_code == error_code::NONE
    {
        return Ok(Versions::new(&response));
    }
    // A broker that does not know version 3 answers in version 0 (KIP-511).
    let response = calls.call(&request, 0).await?;
    if response.error_code == error_code::NONE {
        return Ok(Versions::new(&response));
    }
    Err(ConnectionError::Refused {
        address: calls.address.clone(),
        what: "ApiVersions".to_owned(),
        code: response.error_code,
        name: error_code::name(response.error_code),
    })
}

/// What became of the topics.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Topics that exist, possibly with fewer partitions than wanted.
    pub targets: BTreeMap<String, Target>,
    /// Topics that are missing or too small, with the destination's words.
    pub refused: BTreeMap<String, String>,
    /// The nodes of the cluster, each with the `host:port` that it wants to be
    /// reached at.
    pub nodes: BTreeMap<i32, String>,
}

/// Makes sure that each topic exists with at least the given number of
/// partitions, and returns what became of each. A topic that is refused does
/// not hold up the others.
///
/// # Errors
/// [`ConnectionError`] when the broker does not answer.
pub async fn prepare(
    calls: &mut Calls,
    versions: &Versions,
    topics: &BTreeMap<String, u32>,
) -> Result<Prepared, ConnectionError> {
    let mut prepared = Prepared::default();
    let mut open = topics.clone();
    for attempt in 1..=METADATA_ATTEMPTS {
        let found = survey(calls, versions, &open, &mut prepared).await?;
        create(calls, versions, &found.missing, &mut prepared.refused).await?;
        grow(calls, versions, &found.small, &mut prepared.refused).await?;
        let enough = |name: &str, wanted: u32| {
            let target = prepared.targets.get(name);
            target.is_some_and(|target| target.partitions >= wanted)
        };
        open.retain(|name, wanted| !prepared.refused.contains_key(name) && !enough(name, *wanted));
        if open.is_empty() {
            return Ok(prepared);
        }
        if attempt > 1 {
            sleep(METADATA_PAUSE).await;
        }
    }
    for name in open.into_keys() {
        let words = format!("the destination does not show topic {name} with all its partitions");
        prepared.refused.insert(name, words);
    }
    Ok(prepared)
}

/// Topics that need something before they can be used.
#[derive(Debug, Default)]
struct Found {
    missing: Vec<(String, u32)>,
    small: Vec<(String, u32)>,
}

async fn survey(
    calls: &mut Calls,
    versions: &Versions,
    topics: &BTreeMap<String, u32>,
    prepared: &mut Prepared,
) -> Result<Found, ConnectionError> {
    let metadata = metadata(calls, versions, topics).await?;
    let cluster_id = metadata.cluster_id.as_deref().unwrap_or("(none)");
    let node = |broker: &MetadataResponseBroker| {
        let (host, port) = (&*broker.host, broker.port);
        let address = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        (broker.node_id, address)
    };
    prepared.nodes = metadata.brokers.iter().map(node).collect();
    let mut found = Found::default();
    for topic in &metadata.topics {
        let name = topic.name.as_deref().unwrap_or_default().to_owned();
        let Some(wanted) = topics.get(&name).copied() else {
            continue;
        };
        match topic.error_code {
            error_code::NONE => {
                let destination = Destination {
                    cluster_id: cluster_id.to_owned(),
                    topic_id: topic.topic_id,
                };
                let partitions = topic.partitions.len() as u32;
                let target = Target {
                    destination,
                    partitions,
                    leaders: leaders(topic),
                };
                prepared.targets.insert(name.clone(), target);
                if partitions < wanted {
                    found.small.push((name, wanted));
                }
            }
            error_code::UNKNOWN_TOPIC_OR_PARTITION => found.missing.push((name, wanted)),
            // An election is under way; the next look may find a leader.
            error_code::LEADER_NOT_AVAILABLE => {}
            code => {
                let words = refusal(&format!("topic {name}"), code, None);
                prepared.refused.insert(name, words);
            }
        }
    }
    Ok(found)
}

/// Who leads which partition. A partition without a leader is left out.
fn leaders(topic: &MetadataResponseTopic) -> BTreeMap<u32, i32> {
    let led = topic.partitions.iter().filter(|one| one.leader_id >= 0);
    let leader = |one: &MetadataResponsePartition| {
        let index = u32::try_from(one.partition_index).ok()?;
        Some((index, one.leader_id))
    };
    led.filter_map(leader).collect()
}

async fn metadata(
    calls: &mut Calls,
    versions: &Versions,
    topics: &BTreeMap<String, u32>,
) -> Result<MetadataResponse, ConnectionError> {
    let topic = |name: &String| MetadataRequestTopic {
        name: Some(KStr::from(name.as_str())),
        ..MetadataRequestTopic::default()
    };
    let request = MetadataRequest {
        topics: Some(topics.keys().map(topic).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let version = versions.pick::<MetadataRequest>(12);
    calls.call(&request, version).await
}

async fn create(
    calls: &mut Calls,
    versions: &Versions,
    topics: &[(String, u32)],
    refused: &mut BTreeMap<String, String>,
) -> Result<(), ConnectionError> {
    if topics.is_empty() {
        return Ok(());
    }
    let version = versions.pick::<CreateTopicsRequest>(7);
    // Minus one is the broker's default, from version 4 on (KIP-464).
    let replication_factor = if version >= 4 { -1 } else { 1 };
    let topic = |(name, partitions): &(String, u32)| CreatableTopic {
        name: KStr::from(name.as_str()),
        num_partitions: *partitions as i32,
        replication_factor,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: topics.iter().map(topic).collect(),
        timeout_ms: CREATE_TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let response = calls.call(&request, version).await?;
    for topic in &response.topics {
        let code = topic.error_code;
        if code != error_code::NONE && code != error_code::TOPIC_ALREADY_EXISTS {
            let message = topic.error_message.as_deref();
            let words = refusal(&format!("topic {}", &*topic.name), code, message);
            refused.insert(topic.name.to_string(), words);
        }
    }
    Ok(())
}

async fn grow(
    calls: &mut Calls,
    versions: &Versions,
    topics: &[(String, u32)],
    refused: &mut BTreeMap<String, String>,
) -> Result<(), ConnectionError> {
    if topics.is_empty() {
        return Ok(());
    }
    let topic = |(name, partitions): &(String, u32)| CreatePartitionsTopic {
        name: KStr::from(name.as_str()),
        count: *partitions as i32,
        ..CreatePartitionsTopic::default()
    };
    let request = CreatePartitionsRequest {
        topics: topics.iter().map(topic).collect(),
        timeout_ms: CREATE_TIMEOUT_MS,
        ..CreatePartitionsRequest::default()
    };
    let version = versions.pick::<CreatePartitionsRequest>(3);
    let response = calls.call(&request, version).await?;
    for topic in &response.results {
        if topic.error_code != error_code::NONE {
            let message = topic.error_message.as_deref();
            let what = format!("more partitions of topic {}", &*topic.name);
            let words = refusal(&what, topic.error_code, message);
            refused.insert(topic.name.to_string(), words);
        }
    }
    Ok(())
}

/// The destination's refusal, for the status.
fn refusal(what: &str, code: i16, message: Option<&str>) -> String {
    let name = error_code::name(code);
    match message {
        Some(message) if !message.is_empty() => {
            format!("the destination refused {what}: {message} ({name}, {code})")
        }
        _ => format!("the destination refused {what}: {name} ({code})"),
    }
}

/// Whether the broker serves everything that the uplink needs.
pub fn lacks(versions: &Versions) -> Option<ApiKey> {
    let needed = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::InitProducerId,
    ];
    let mut needed = needed.into_iter();
    needed.find(|key| !versions.ranges.contains_key(&(*key as i16)))
}
