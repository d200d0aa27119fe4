//! Metadata: brokers, topics, and topics created by asking for them.

use std::sync::Arc;

use forebay_kafka::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use forebay_kafka::{KStr, error_code};
use forebay_storage::{CreateTopicError, Topic, TopicConfig};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::broker::LEADER_EPOCH;
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;
use crate::topic_name::{is_internal, validate_topic_name};

const NO_ID: [u8; 16] = [0; 16];

impl Broker {
    pub(crate) fn metadata(self: &Arc<Self>, call: &Call, request: MetadataRequest) -> Reply {
        let creates = self.config.auto_create_topics && request.allow_auto_topic_creation;
        let missing = |topic: &MetadataRequestTopic| {
            let name = topic.name.as_deref().unwrap_or_default();
            validate_topic_name(name).is_ok() && self.storage.topic(name).is_none()
        };
        if creates
            && request
                .topics
                .as_ref()
                .is_some_and(|topics| topics.iter().any(missing))
        {
            let call = call.clone();
            return self.blocking(move |broker| {
                call.ready(&broker.describe_topics(&call, &request, true))
            });
        }
        call.ready(&self.describe_topics(call, &request, false))
    }

    fn describe_topics(
        &self,
        call: &Call,
        request: &MetadataRequest,
        creates: bool,
    ) -> MetadataResponse {
        let all = match &request.topics {
            None => true,
            // Before version 1 an empty list means all topics.
            Some(topics) => topics.is_empty() && call.version == 0,
        };
        let mut topics: Vec<MetadataResponseTopic> = if all {
            self.storage
                .topics()
                .iter()
                .filter(|t| !is_internal(t.name()))
                .filter(|t| call.sees(Operation::Describe, Resource::Topic(t.name())))
                .map(|t| self.describe_topic(t))
                .collect()
        } else {
            let asked = request.topics.as_deref().unwrap_or_default();
            asked
                .iter()
                .map(|topic| self.describe_asked(call, topic, creates))
                .collect()
        };
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
                let name = topic.name.as_deref().unwrap_or_default();
                topic.topic_authorized_operations = call.authorized(Resource::Topic(name));
            }
        }
        let (host, port) = call.advertised(&self.config);
        let mut response = MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: self.config.node_id,
                host,
                port,
                ..MetadataResponseBroker::default()
            }],
            cluster_id: Some(self.config.cluster_id.as_str().into()),
            controller_id: self.config.node_id,
            topics,
            ..MetadataResponse::default()
        };
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = call.authorized(Resource::Cluster);
        }
        response
    }

    fn describe_asked(
        &self,
        call: &Call,
        asked: &MetadataRequestTopic,
        creates: bool,
    ) -> MetadataResponseTopic {
        let refused = |error_code, name: Option<KStr>| MetadataResponseTopic {
            error_code,
            name,
            topic_id: asked.topic_id,
            ..MetadataResponseTopic::default()
        };
        let Some(name) = &asked.name else {
            let found = self
                .storage
                .topic_by_id(&asked.topic_id)
                .filter(|t| !is_internal(t.name()))
                .filter(|t| call.sees(Operation::Describe, Resource::Topic(t.name())));
            return match found {
                Some(topic) => self.describe_topic(&topic),
                None if asked.topic_id == NO_ID => {
                    refused(error_code::INVALID_REQUEST, Some(KStr::default()))
                }
                None => refused(Refusal::UnknownTopicId.kafka_code(), None),
            };
        };
        if let Err(error) = validate_topic_name(name) {
            return refused(Refusal::Name(error).kafka_code(), Some(name.clone()));
        }
        if let Err(refusal) = call.check(Operation::Describe, Resource::Topic(name)) {
            return refused(refusal.kafka_code(), Some(name.clone()));
        }
        if let Some(topic) = self.storage.topic(name) {
            return self.describe_topic(&topic);
        }
        if !creates {
            return refused(Refusal::UnknownPartition.kafka_code(), Some(name.clone()));
        }
        let allowed = call.check(Operation::Create, Resource::Topic(name));
        match allowed.and_then(|()| self.create_on_demand(name)) {
            Ok(topic) => self.describe_topic(&topic),
            Err(error) => refused(error.kafka_code(), Some(name.clone())),
        }
    }

    fn create_on_demand(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let config = TopicConfig {
            partitions: self.config.default_partitions,
            configs: Default::default(),
        };
        match self.storage.create_topic(name, config) {
            Ok(topic) => Ok(topic),
            // Another connection was faster.
            Err(CreateTopicError::Exists { .. }) => {
                self.storage.topic(name).ok_or(Refusal::UnknownPartition)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn describe_topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let node = self.config.node_id;
        let partition = |index: u32| MetadataResponsePartition {
            partition_index: index as i32,
            leader_id: node,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..MetadataResponsePartition::default()
        };
        MetadataResponseTopic {
            name: Some(topic.name().into()),
            topic_id: topic.id(),
            partitions: (0..topic.partition_count()).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }
    }
}
