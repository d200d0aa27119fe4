//! Getting to know the destination: versions, identity, topics.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_kafka::append_condition::FEATURE_NAME;
use forebay_kafka::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatableTopic, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, MetadataRequest, MetadataRequestTopic,
    MetadataResponse,
};
use forebay_kafka::{ApiKey, KStr, Request, decode_response, error_code};
use tokio::time::sleep;

use super::connection::{Calls, ConnectionError};
use crate::state::Destination;

/// Times that the metadata of a freshly created topic is asked for again.
const METADATA_ATTEMPTS: u32 = 10;
/// Pause between those, so that a cluster gets two seconds for an election.
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
    refused(calls, "ApiVersions", response.error_code)?;
    Ok(Versions::new(&response))
}

/// Makes sure that each topic exists with at least the given number of
/// partitions, and returns what is known about each.
///
/// # Errors
/// [`ConnectionError`] when the broker does not answer or refuses.
pub async fn prepare(
    calls: &mut Calls,
    versions: &Versions,
    topics: &BTreeMap<String, u32>,
) -> Result<BTreeMap<String, Target>, ConnectionError> {
    let mut targets = BTreeMap::new();
    for attempt in 1..=METADATA_ATTEMPTS {
        let metadata = metadata(calls, versions, topics).await?;
        let cluster_id = metadata
            .cluster_id
            .as_deref()
            .unwrap_or("(none)")
            .to_owned();
        let mut missing = Vec::new();
        let mut small = Vec::new();
        let mut unsettled = None;
        for topic in &metadata.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            let Some(wanted) = topics.get(name) else {
                continue;
            };
            let found = topic.partitions.len() as u32;
            match topic.error_code {
                error_code::NONE if found < *wanted => small.push((name, *wanted)),
                error_code::NONE => {
                    let destination = Destination {
                        cluster_id: cluster_id.clone(),
                        topic_id: topic.topic_id,
                    };
                    let partitions = found;
                    let target = Target {
                        destination,
                        partitions,
                    };
                    targets.insert(name.to_owned(), target);
                }
                error_code::UNKNOWN_TOPIC_OR_PARTITION => missing.push((name, *wanted)),
                code => unsettled = Some((name.to_owned(), code)),
            }
        }
        if targets.len() == topics.len() {
            break;
        }
        if attempt == METADATA_ATTEMPTS {
            let (name, code) = unsettled.unwrap_or_else(|| {
                let absent = topics.keys().find(|name| !targets.contains_key(*name));
                let absent = absent.cloned().unwrap_or_default();
                (absent, error_code::UNKNOWN_TOPIC_OR_PARTITION)
            });
            refused(calls, &format!("topic {name}"), code)?;
        }
        create(calls, versions, &missing).await?;
        grow(calls, versions, &small).await?;
        if attempt > 1 {
            sleep(METADATA_PAUSE).await;
        }
    }
    Ok(targets)
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
    topics: &[(&str, u32)],
) -> Result<(), ConnectionError> {
    if topics.is_empty() {
        return Ok(());
    }
    let version = versions.pick::<CreateTopicsRequest>(7);
    // Minus one is the broker's default, from version 4 on (KIP-464).
    let replication_factor = if version >= 4 { -1 } else { 1 };
    let topic = |(name, partitions): &(&str, u32)| CreatableTopic {
        name: KStr::from(*name),
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
        if topic.error_code != error_code::TOPIC_ALREADY_EXISTS {
            refused(calls, &format!("topic {}", &*topic.name), topic.error_code)?;
        }
    }
    Ok(())
}

async fn grow(
    calls: &mut Calls,
    versions: &Versions,
    topics: &[(&str, u32)],
) -> Result<(), ConnectionError> {
    if topics.is_empty() {
        return Ok(());
    }
    let topic = |(name, partitions): &(&str, u32)| CreatePartitionsTopic {
        name: KStr::from(*name),
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
        refused(
            calls,
            &format!("partitions of {}", &*topic.name),
            topic.error_code,
        )?;
    }
    Ok(())
}

fn refused(calls: &Calls, what: &str, code: i16) -> Result<(), ConnectionError> {
    if code == error_code::NONE {
        return Ok(());
    }
    Err(ConnectionError::Refused {
        address: calls.address.clone(),
        what: what.to_owned(),
        code,
        name: error_code::name(code),
    })
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
