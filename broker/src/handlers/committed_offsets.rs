//! OffsetCommit, OffsetFetch and OffsetDelete: positions of groups in the state
//! journal. A commit is answered when it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_kafka::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use forebay_kafka::{KStr, error_code};
use forebay_storage::{AppendError, Transaction};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::group::{Identity, check_group_id};
use crate::offsets::{CommitError, CommittedOffset, group_prefix, key, parse_key};
use crate::reply::Reply;

/// First OffsetFetch version that asks for several groups.
const BATCHED_FETCH_FROM: i16 = 8;

/// A topic with the partitions asked for.
type Asked<'a> = (&'a KStr, &'a [i32]);

/// A topic with what was found per partition.
type FoundTopic = (KStr, Vec<(i32, Option<CommittedOffset>)>);

impl Broker {
    pub(crate) fn offset_commit(
        self: &Arc<Self>,
        call: &Call,
        request: OffsetCommitRequest,
    ) -> Reply {
        if let Err(refusal) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
            return call.ready(&commit_response(&request, |_, _| refusal.kafka_code()));
        }
        let identity = Identity {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
        };
        let generation = request.generation_id_or_member_epoch;
        let now_ms = self.clock.monotonic_ms();
        let allowed = self.groups.lock().coordinator.handle_commit(
            now_ms,
            &request.group_id,
            generation,
            identity,
        );
        if let Err(error) = allowed {
            return call.ready(&commit_response(&request, |_, _| error.kafka_code()));
        }
        self.store_commit(call, request)
    }

    fn store_commit(self: &Arc<Self>, call: &Call, request: OffsetCommitRequest) -> Reply {
        let mut transaction = Transaction::new();
        let mut codes = BTreeMap::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let allowed = call.check(Operation::Read, Resource::Topic(&topic.name));
                let stored = allowed
                    .map_err(|refusal| refusal.kafka_code())
                    .and_then(|()| {
                        let stored = self.check_commit(&topic.name, partition);
                        stored.map_err(|error| error.kafka_code())
                    });
                if let Ok(committed) = &stored {
                    let key = key(&request.group_id, &topic.name, partition.partition_index);
                    transaction.put(&key, &committed.encode());
                }
                let code = stored.err().unwrap_or(error_code::NONE);
                codes.insert((topic.name.clone(), partition.partition_index), code);
            }
        }
        let code_of = |topic: &KStr, index: i32| {
            codes
                .get(&(topic.clone(), index))
                .copied()
                .unwrap_or(error_code::NONE)
        };
        match self.storage.commit(transaction) {
            Ok(committed) => {
                call.after_commit(committed.ticket, &commit_response(&request, code_of))
            }
            Err(AppendError::Backpressure { .. }) => {
                let (broker, call) = (Arc::clone(self), call.clone());
                Reply::Stalled(Box::new(move || broker.store_commit(&call, request)))
            }
            Err(error) => call.ready(&commit_response(&request, |_, _| error.kafka_code())),
        }
    }

    fn check_commit(
        &self,
        topic: &str,
        asked: &OffsetCommitRequestPartition,
    ) -> Result<CommittedOffset, CommitError> {
        self.partition(topic, asked.partition_index)
            .map_err(|_| CommitError::UnknownPartition)?;
        let committed = CommittedOffset {
            offset: asked.committed_offset,
            leader_epoch: asked.committed_leader_epoch,
            committed_ms: self.clock.wall_ms(),
            metadata: asked
                .committed_metadata
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        };
        committed.check()?;
        Ok(committed)
    }

    pub(crate) fn offset_fetch(
        self: &Arc<Self>,
        call: &Call,
        request: OffsetFetchRequest,
    ) -> Reply {
        // A position that is appended but not durable yet must not be shown:
        // a consumer would start behind it and a crash would take it back.
        let fence = self.storage.fence();
        if call.version >= BATCHED_FETCH_FROM {
            let groups = request.groups.iter().map(|group| {
                let asked = group.topics.as_ref().map(|topics| {
                    topics
                        .iter()
                        .map(|t| (&t.name, &t.partition_indexes[..]))
                        .collect::<Vec<_>>()
                });
                self.group_offsets(call, &group.group_id, asked.as_deref())
            });
            let response = OffsetFetchResponse {
                groups: groups.collect(),
                ..OffsetFetchResponse::default()
            };
            return call.after_commit(fence, &response);
        }
        let asked = request
            .topics
            .as_ref()
            .filter(|topics| call.version >= 2 || !topics.is_empty())
            .map(|topics| {
                topics
                    .iter()
                    .map(|t| (&t.name, &t.partition_indexes[..]))
                    .collect::<Vec<_>>()
            });
        let group = self.group_offsets(call, &request.group_id, asked.as_deref());
        let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(single_group_partition)
                .collect(),
            ..OffsetFetchResponseTopic::default()
        };
        let response = OffsetFetchResponse {
            error_code: group.error_code,
            topics: group.topics.into_iter().map(topic).collect(),
            ..OffsetFetchResponse::default()
        };
        call.after_commit(fence, &response)
    }

    fn group_offsets(
        &self,
        call: &Call,
        group_id: &KStr,
        asked: Option<&[Asked<'_>]>,
    ) -> OffsetFetchResponseGroup {
        let group = OffsetFetchResponseGroup {
            group_id: group_id.clone(),
            ..OffsetFetchResponseGroup::default()
        };
        if let Err(error) = check_group_id(group_id) {
            return OffsetFetchResponseGroup {
                error_code: error.kafka_code(),
                ..group
            };
        }
        if let Err(refusal) = call.check(Operation::Describe, Resource::Group(group_id)) {
            return OffsetFetchResponseGroup {
                error_code: refusal.kafka_code(),
                ..group
            };
        }
        let sees = |topic: &str| call.sees(Operation::Describe, Resource::Topic(topic));
        let found = match asked {
            Some(asked) => self.asked_offsets(group_id, asked),
            None => {
                let mut all = self.all_offsets(group_id);
                all.retain(|(topic, _)| sees(topic));
                all
            }
        };
        let topics = found.into_iter().map(|(name, partitions)| {
            let refused = call
                .check(Operation::Describe, Resource::Topic(&name))
                .err();
            let partition = |(index, offset)| match &refused {
                None => found_partition(index, offset),
                Some(refusal) => OffsetFetchResponsePartitions {
                    error_code: refusal.kafka_code(),
                    ..found_partition(index, None)
                },
            };
            OffsetFetchResponseTopics {
                partitions: partitions.into_iter().map(partition).collect(),
                name,
                ..OffsetFetchResponseTopics::default()
            }
        });
        OffsetFetchResponseGroup {
            topics: topics.collect(),
            ..group
        }
    }

    fn asked_offsets(&self, group_id: &str, asked: &[Asked<'_>]) -> Vec<FoundTopic> {
        let one = |topic: &str, index: i32| {
            self.storage
                .get(&key(group_id, topic, index))
                .and_then(|bytes| CommittedOffset::decode(&bytes))
        };
        let topic = |(name, indexes): &Asked<'_>| {
            (
                (*name).clone(),
                indexes
                    .iter()
                    .map(|index| (*index, one(name, *index)))
                    .collect(),
            )
        };
        asked.iter().map(topic).collect()
    }

    fn all_offsets(&self, group_id: &str) -> Vec<FoundTopic> {
        let mut topics: BTreeMap<String, Vec<(i32, Option<CommittedOffset>)>> = BTreeMap::new();
        for (key, value) in self.storage.scan_prefix(&group_prefix(group_id)) {
            if let (Some((_, topic, index)), Some(offset)) =
                (parse_key(&key), CommittedOffset::decode(&value))
            {
                topics.entry(topic).or_default().push((index, Some(offset)));
            }
        }
        topics
            .into_iter()
            .map(|(name, partitions)| (name.into(), partitions))
            .collect()
    }

    pub(crate) fn offset_delete(
        self: &Arc<Self>,
        call: &Call,
        request: OffsetDeleteRequest,
    ) -> Reply {
        let refuse = |error_code| {
            call.ready(&OffsetDeleteResponse {
                error_code,
                ..OffsetDeleteResponse::default()
            })
        };
        if let Err(error) = check_group_id(&request.group_id) {
            return refuse(error.kafka_code());
        }
        if let Err(refusal) = call.check(Operation::Delete, Resource::Group(&request.group_id)) {
            return refuse(refusal.kafka_code());
        }
        let (is_known, subscribed) = {
            let desk = self.groups.lock();
            let is_known = desk.coordinator.describe(&request.group_id).is_some();
            (is_known, desk.coordinator.subscriptions(&request.group_id))
        };
        if !is_known
            && self
                .storage
                .scan_prefix(&group_prefix(&request.group_id))
                .is_empty()
        {
            return refuse(error_code::GROUP_ID_NOT_FOUND);
        }
        let mut transaction = Transaction::new();
        let mut delete = |topic: &str, index: i32| {
            if subscribed.iter().any(|name| name == topic) {
                return error_code::GROUP_SUBSCRIBED_TO_TOPIC;
            }
            if self.partition(topic, index).is_err() {
                return Refusal::UnknownPartition.kafka_code();
            }
            transaction.delete(&key(&request.group_id, topic, index));
            error_code::NONE
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| OffsetDeleteResponsePartition {
                        partition_index: p.partition_index,
                        error_code: delete(&topic.name, p.partition_index),
                    })
                    .collect(),
            });
        let response = OffsetDeleteResponse {
            topics: topics.collect(),
            ..OffsetDeleteResponse::default()
        };
        match self.storage.commit(transaction) {
            Ok(committed) => call.after_commit(committed.ticket, &response),
            Err(error) => refuse(error.kafka_code()),
        }
    }
}

fn commit_response(
    request: &OffsetCommitRequest,
    code_of: impl Fn(&KStr, i32) -> i16,
) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code_of(&topic.name, partition.partition_index),
                    ..OffsetCommitResponsePartition::default()
                })
                .collect(),
            ..OffsetCommitResponseTopic::default()
        });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}

fn found_partition(index: i32, found: Option<CommittedOffset>) -> OffsetFetchResponsePartitions {
    // No position is offset -1 without an error.
    let (offset, leader_epoch, metadata) = found.map_or((-1, -1, String::new()), |found| {
        (found.offset, found.leader_epoch, found.metadata)
    });
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset,
        committed_leader_epoch: leader_epoch,
        metadata: Some(metadata.into()),
        ..OffsetFetchResponsePartitions::default()
    }
}

fn single_group_partition(
    partition: OffsetFetchResponsePartitions,
) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..OffsetFetchResponsePartition::default()
    }
}
