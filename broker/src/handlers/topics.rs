//! CreateTopics, DeleteTopics, CreatePartitions. Each change is durable when
//! it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_kafka::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    CreateTopicsRequest, CreateTopicsResponse, DeletableTopicResult, DeleteTopicsRequest,
    DeleteTopicsResponse,
};
use forebay_kafka::{KStr, error_code};
use forebay_storage::{Topic, TopicConfig};

use super::configs::effective_topic_configs;
use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::config::MAX_PARTITIONS_PER_TOPIC;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;
use crate::topic_config;
use crate::topic_name::{is_internal, validate_topic_name};

/// First DeleteTopics version that may name a topic by its id.
const DELETE_BY_ID_FROM: i16 = 6;

const NO_ID: [u8; 16] = [0; 16];

impl Broker {
    pub(crate) fn create_topics(
        self: &Arc<Self>,
        call: &Call,
        request: CreateTopicsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let topics = request.topics.iter().map(|asked| {
                let is_repeated = request
                    .topics
                    .iter()
                    .filter(|other| other.name == asked.name)
                    .count()
                    > 1;
                let created = if is_repeated {
                    Err(Refusal::Repeated(asked.name.to_string()))
                } else {
                    let topic = Resource::Topic(&asked.name);
                    let allowed = call.check(Operation::Create, topic);
                    allowed.and_then(|()| broker.create_topic(asked, request.validate_only))
                };
                created.unwrap_or_else(|refusal| CreatableTopicResult {
                    name: asked.name.clone(),
                    error_code: refusal.kafka_code(),
                    error_message: Some(refusal.to_string().into()),
                    ..CreatableTopicResult::default()
                })
            });
            call.ready(&CreateTopicsResponse {
                topics: topics.collect(),
                ..CreateTopicsResponse::default()
            })
        })
    }

    fn create_topic(
        &self,
        asked: &CreatableTopic,
        validate_only: bool,
    ) -> Result<CreatableTopicResult, Refusal> {
        validate_topic_name(&asked.name)?;
        if self.storage.topic(&asked.name).is_some() {
            return Err(Refusal::TopicExists(asked.name.to_string()));
        }
        let partitions = self.partitions_asked(asked)?;
        let mut configs = BTreeMap::new();
        for config in &asked.configs {
            if let Some(value) = &config.value {
                configs.insert(config.name.to_string(), value.to_string());
            }
        }
        topic_config::validate(&configs)?;
        let shown = effective_topic_configs(&configs, self.config.max_message_bytes);
        let topic_id = if validate_only {
            NO_ID
        } else {
            self.storage
                .create_topic(
                    &asked.name,
                    TopicConfig {
                        partitions,
                        configs,
                    },
                )?
                .id()
        };
        Ok(CreatableTopicResult {
            name: asked.name.clone(),
            topic_id,
            num_partitions: partitions as i32,
            replication_factor: 1,
            configs: Some(
                shown
                    .into_iter()
                    .map(|config| CreatableTopicConfigs {
                        name: config.key.name.into(),
                        value: Some(config.value.into()),
                        config_source: config.source as i8,
                        ..CreatableTopicConfigs::default()
                    })
                    .collect(),
            ),
            ..CreatableTopicResult::default()
        })
    }

    fn partitions_asked(&self, asked: &CreatableTopic) -> Result<u32, Refusal> {
        if !asked.assignments.is_empty() {
            let count = asked.assignments.len();
            let is_dense = (0..count).all(|index| {
                asked
                    .assignments
                    .iter()
                    .filter(|a| a.partition_index == index as i32)
                    .count()
                    == 1
            });
            let is_here = asked
                .assignments
                .iter()
                .all(|a| a.broker_ids == [self.config.node_id]);
            if asked.num_partitions != -1 || asked.replication_factor != -1 {
                return Err(Refusal::Invalid(
                    "with assignments, partitions and replication factor must be -1",
                ));
            }
            if !is_dense || !is_here {
                return Err(Refusal::Assignment {
                    node_id: self.config.node_id,
                });
            }
            return check_partitions(count as i32);
        }
        if !matches!(asked.replication_factor, -1 | 1) {
            return Err(Refusal::ReplicationFactor {
                found: asked.replication_factor,
            });
        }
        match asked.num_partitions {
            -1 => Ok(self.config.default_partitions),
            count => check_partitions(count),
        }
    }

    pub(crate) fn delete_topics(
        self: &Arc<Self>,
        call: &Call,
        request: DeleteTopicsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let responses = if call.version >= DELETE_BY_ID_FROM {
                let topics = request.topics.into_iter();
                topics
                    .map(|topic| broker.delete_topic(&call, topic.name, topic.topic_id))
                    .collect()
            } else {
                request
                    .topic_names
                    .into_iter()
                    .map(|name| broker.delete_topic(&call, Some(name), NO_ID))
                    .collect()
            };
            call.ready(&DeleteTopicsResponse {
                responses,
                ..DeleteTopicsResponse::default()
            })
        })
    }

    fn delete_topic(
        &self,
        call: &Call,
        name: Option<KStr>,
        topic_id: [u8; 16],
    ) -> DeletableTopicResult {
        let found = match &name {
            Some(name) => call
                .check(Operation::Delete, Resource::Topic(name))
                .and_then(|()| self.topic(name).ok_or(Refusal::UnknownPartition)),
            None => {
                let by_id = self
                    .storage
                    .topic_by_id(&topic_id)
                    .filter(|topic| !is_internal(topic.name()));
                let seen =
                    by_id.filter(|t| call.sees(Operation::Describe, Resource::Topic(t.name())));
                seen.ok_or(Refusal::UnknownTopicId).and_then(|topic| {
                    call.check(Operation::Delete, Resource::Topic(topic.name()))?;
                    Ok(topic)
                })
            }
        };
        let deleted = found.and_then(|topic| {
            self.storage.delete_topic(topic.name())?;
            if let Err(error) = self.forget_topic_offsets(topic.name()) {
                tracing::warn!(topic = topic.name(), %error, "offsets of a deleted topic are left");
            }
            self.books.forget_topic(&self.storage, topic.id());
            Ok::<Arc<Topic>, Refusal>(topic)
        });
        match deleted {
            Ok(topic) => DeletableTopicResult {
                name: Some(topic.name().into()),
                topic_id: topic.id(),
                ..DeletableTopicResult::default()
            },
            Err(refusal) => DeletableTopicResult {
                name,
                topic_id,
                error_code: refusal.kafka_code(),
                error_message: Some(refusal.to_string().into()),
                ..DeletableTopicResult::default()
            },
        }
    }

    pub(crate) fn create_partitions(
        self: &Arc<Self>,
        call: &Call,
        request: CreatePartitionsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let results = request.topics.iter().map(|asked| {
                let allowed = call.check(Operation::Alter, Resource::Topic(&asked.name));
                let added =
                    allowed.and_then(|()| broker.add_partitions(asked, request.validate_only));
                let refusal = added.err();
                CreatePartitionsTopicResult {
                    name: asked.name.clone(),
                    error_code: refusal
                        .as_ref()
                        .map_or(error_code::NONE, KafkaCode::kafka_code),
                    error_message: refusal.map(|refusal| refusal.to_string().into()),
                    ..CreatePartitionsTopicResult::default()
                }
            });
            call.ready(&CreatePartitionsResponse {
                results: results.collect(),
                ..CreatePartitionsResponse::default()
            })
        })
    }

    fn add_partitions(
        &self,
        asked: &CreatePartitionsTopic,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let topic = self.topic(&asked.name).ok_or(Refusal::UnknownPartition)?;
        let total = check_partitions(asked.count)?;
        let present = topic.partition_count();
        if total <= present {
            return Err(Refusal::Partitions {
                found: asked.count,
                limit: MAX_PARTITIONS_PER_TOPIC,
            });
        }
        if let Some(assignments) = &asked.assignments {
            let is_here = assignments
                .iter()
                .all(|assignment| assignment.broker_ids == [self.config.node_id]);
            if assignments.len() as u32 != total - present || !is_here {
                return Err(Refusal::Assignment {
                    node_id: self.config.node_id,
                });
            }
        }
        if !validate_only {
            self.storage.add_partitions(&asked.name, total)?;
        }
        Ok(())
    }
}

fn check_partitions(count: i32) -> Result<u32, Refusal> {
    let limit = MAX_PARTITIONS_PER_TOPIC;
    u32::try_from(count)
        .ok()
        .filter(|count| (1..=limit).contains(count))
        .ok_or(Refusal::Partitions {
            found: count,
            limit,
        })
}
