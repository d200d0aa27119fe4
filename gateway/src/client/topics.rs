//! Topics over the Kafka protocol: list, describe, create, delete, alter.

use forebay_kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use forebay_kafka::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsTopic,
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource,
    IncrementalAlterConfigsRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    MetadataRequest, MetadataRequestTopic,
};
use serde::Serialize;

use super::{Client, ClientError, check};

/// `ListOffsets` for the first offset that is kept.
pub const EARLIEST: i64 = -2;
/// `ListOffsets` for the offset behind the last visible record.
pub const LATEST: i64 = -1;

/// How long the node may take for a change of topics.
const CHANGE_TIMEOUT_MS: i32 = 20_000;

/// `ConfigResource.Type` of a topic in the Kafka protocol.
const RESOURCE_TOPIC: i8 = 2;

/// `OpType` of IncrementalAlterConfigs: set a value.
const OPERATION_SET: i8 = 0;
/// `OpType` of IncrementalAlterConfigs: back to the default.
const OPERATION_DELETE: i8 = 1;

/// A topic with what its partitions hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicSummary {
    /// The name.
    pub name: String,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionSummary>,
}

/// The offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionSummary {
    /// The index.
    pub partition: i32,
    /// The first offset that is kept.
    pub start: i64,
    /// The offset behind the last visible record.
    pub end: i64,
}

/// One configuration entry of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicSetting {
    /// The Kafka name of the setting.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Whether the topic sets it itself.
    pub own: bool,
}

impl Client {
    /// The topics of the node, or the ones named, without offsets, as name and
    /// partition indexes. Internal topics are left out unless named.
    ///
    /// # Errors
    /// A named topic does not exist, or the node does not answer.
    pub async fn metadata(
        &mut self,
        names: Option<&[&str]>,
    ) -> Result<Vec<(String, Vec<i32>)>, ClientError> {
        const VERSION: i16 = 7;
        let topics = names.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some((*name).into()),
                    ..Default::default()
                })
                .collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        let mut all = Vec::new();
        for topic in response.topics {
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            if names.is_none() && topic.is_internal {
                continue;
            }
            check(&format!("topic {name}"), topic.error_code, None)?;
            let mut partitions: Vec<i32> = topic
                .partitions
                .iter()
                .map(|partition| partition.partition_index)
                .collect();
            partitions.sort_unstable();
            all.push((name, partitions));
        }
        all.sort();
        Ok(all)
    }

    /// The topics of the node, or the ones named, with their offsets.
    ///
    /// # Errors
    /// A named topic does not exist, or the node does not answer.
    pub async fn topics(
        &mut self,
        names: Option<&[&str]>,
    ) -> Result<Vec<TopicSummary>, ClientError> {
        let listed = self.metadata(names).await?;
        let mut topics = Vec::with_capacity(listed.len());
        for (name, partitions) in listed {
            let starts = self.offsets(&name, &partitions, EARLIEST).await?;
            let ends = self.offsets(&name, &partitions, LATEST).await?;
            let partitions = partitions
                .iter()
                .zip(starts.iter().zip(&ends))
                .map(|(&partition, (&start, &end))| PartitionSummary {
                    partition,
                    start,
                    end,
                })
                .collect();
            topics.push(TopicSummary { name, partitions });
        }
        Ok(topics)
    }

    /// The offset for a time in milliseconds, [`EARLIEST`] or [`LATEST`], one
    /// per partition asked for. It is -1 when no record is that young.
    ///
    /// # Errors
    /// A partition does not exist, or the node does not answer.
    pub async fn offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<Vec<i64>, ClientError> {
        const VERSION: i16 = 4;
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: partitions
                    .iter()
                    .map(|&partition_index| ListOffsetsPartition {
                        partition_index,
                        current_leader_epoch: -1,
                        timestamp,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        let mut offsets = vec![-1; partitions.len()];
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let subject = format!("{topic}/{}", answer.partition_index);
            check(&subject, answer.error_code, None)?;
            if let Some(place) = partitions
                .iter()
                .position(|&index| index == answer.partition_index)
            {
                offsets[place] = answer.offset;
            }
        }
        Ok(offsets)
    }

    /// Creates a topic; it is durable when this returns.
    ///
    /// # Errors
    /// The name is taken or invalid, or a setting is refused.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        settings: &[(String, String)],
    ) -> Result<(), ClientError> {
        const VERSION: i16 = 4;
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: 1,
                configs: settings
                    .iter()
                    .map(|(name, value)| CreatableTopicConfig {
                        name: name.as_str().into(),
                        value: Some(value.as_str().into()),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        for topic in &response.topics {
            check(
                &format!("topic {name}"),
                topic.error_code,
                topic.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    /// There is no such topic.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        const VERSION: i16 = 3;
        let request = DeleteTopicsRequest {
            topic_names: vec![name.into()],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        for topic in &response.responses {
            check(&format!("topic {name}"), topic.error_code, None)?;
        }
        Ok(())
    }

    /// Raises the number of partitions of a topic to `total`.
    ///
    /// # Errors
    /// The topic has that many already, or does not exist.
    pub async fn add_partitions(&mut self, name: &str, total: i32) -> Result<(), ClientError> {
        const VERSION: i16 = 1;
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count: total,
                assignments: None,
                ..Default::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        for topic in &response.results {
            check(
                &format!("topic {name}"),
                topic.error_code,
                topic.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Changes settings of a topic. A value of `None` restores the default.
    ///
    /// # Errors
    /// A setting is unknown or its value is refused; none is changed then.
    pub async fn alter_topic(
        &mut self,
        name: &str,
        settings: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        const VERSION: i16 = 0;
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: name.into(),
                configs: settings
                    .iter()
                    .map(|(name, value)| AlterableConfig {
                        name: name.as_str().into(),
                        config_operation: match value {
                            Some(_) => OPERATION_SET,
                            None => OPERATION_DELETE,
                        },
                        value: value.as_deref().map(Into::into),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        for resource in &response.responses {
            check(
                &format!("topic {name}"),
                resource.error_code,
                resource.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// The settings of a topic.
    ///
    /// # Errors
    /// There is no such topic.
    pub async fn topic_settings(&mut self, name: &str) -> Result<Vec<TopicSetting>, ClientError> {
        /// `ConfigSource` of a value that the topic sets itself.
        const SOURCE_TOPIC: i8 = 1;
        const VERSION: i16 = 2;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: name.into(),
                configuration_keys: None,
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request, VERSION).await?;
        let mut settings = Vec::new();
        for resource in &response.results {
            check(
                &format!("topic {name}"),
                resource.error_code,
                resource.error_message.as_deref(),
            )?;
            settings.extend(resource.configs.iter().map(|entry| TopicSetting {
                name: entry.name.to_string(),
                value: entry.value.as_deref().map(str::to_owned),
                own: entry.config_source == SOURCE_TOPIC,
            }));
        }
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(settings)
    }
}
