//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
//!
//! Topic configs are the table of [`topic_config`](crate::topic_config).
//! Broker configs are shown read-only: they come from the configuration file.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_kafka::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeConfigsSynonym, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    alter_configs_response, incremental_alter_configs_response,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;
use crate::topic_config::{self, ConfigChange, ConfigKey, ConfigType, TOPIC_CONFIGS};

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

/// Broker configs that this broker cannot have otherwise.
const FIXED_BROKER_CONFIGS: &[(&str, ConfigType, &str)] = &[
    ("compression.type", ConfigType::String, "producer"),
    ("default.replication.factor", ConfigType::Int, "1"),
    ("delete.topic.enable", ConfigType::Boolean, "true"),
    ("log.cleanup.policy", ConfigType::List, "delete"),
    ("min.insync.replicas", ConfigType::Int, "1"),
    ("offset.metadata.max.bytes", ConfigType::Int, "4096"),
];

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Source {
    Topic = 1,
    StaticBroker = 4,
    Default = 5,
}

/// One topic config with the value in force.
pub(super) struct EffectiveConfig {
    pub(super) key: &'static ConfigKey,
    pub(super) value: String,
    pub(super) source: Source,
}

/// Every topic config with the value in force.
pub(super) fn effective_topic_configs(
    own: &BTreeMap<String, String>,
    node_max_message_bytes: usize,
) -> Vec<EffectiveConfig> {
    let effective = |key: &'static ConfigKey| match own.get(key.name) {
        Some(value) => EffectiveConfig {
            key,
            value: value.clone(),
            source: Source::Topic,
        },
        None if key.name == "max.message.bytes" => EffectiveConfig {
            key,
            value: node_max_message_bytes.to_string(),
            source: Source::StaticBroker,
        },
        None => EffectiveConfig {
            key,
            value: key.default.to_owned(),
            source: Source::Default,
        },
    };
    TOPIC_CONFIGS.iter().map(effective).collect()
}

impl Broker {
    pub(crate) fn describe_configs(
        self: &Arc<Self>,
        call: &Call,
        request: DescribeConfigsRequest,
    ) -> Reply {
        let results = request.resources.iter().map(|resource| {
            let allowed = call.check(
                Operation::DescribeConfigs,
                guarded(resource.resource_type, &resource.resource_name),
            );
            let described = allowed.and_then(|()| self.describe_resource(resource));
            let (error_code, error_message, configs) = match described {
                Ok(configs) => (error_code::NONE, None, configs),
                Err(refusal) => (
                    refusal.kafka_code(),
                    Some(KStr::from(refusal.to_string())),
                    Vec::new(),
                ),
            };
            let is_asked =
                |config: &DescribeConfigsResourceResult| match &resource.configuration_keys {
                    // Version 0 clients sent an empty list for all keys as well.
                    Some(keys) if !keys.is_empty() => keys.contains(&config.name),
                    _ => true,
                };
            let trim = |mut config: DescribeConfigsResourceResult| {
                if !request.include_synonyms {
                    config.synonyms.clear();
                }
                if !request.include_documentation {
                    config.documentation = None;
                }
                config
            };
            DescribeConfigsResult {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: configs.into_iter().filter(is_asked).map(trim).collect(),
                ..DescribeConfigsResult::default()
            }
        });
        call.ready(&DescribeConfigsResponse {
            results: results.collect(),
            ..DescribeConfigsResponse::default()
        })
    }

    fn describe_resource(
        &self,
        resource: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        match resource.resource_type {
            TOPIC_RESOURCE => {
                let topic = self
                    .topic(&resource.resource_name)
                    .ok_or(Refusal::UnknownPartition)?;
                let configs =
                    effective_topic_configs(&topic.config().configs, self.config.max_message_bytes);
                Ok(configs.iter().map(describe_topic_config).collect())
            }
            BROKER_RESOURCE => {
                self.check_broker(&resource.resource_name)?;
                Ok(self.broker_configs())
            }
            resource_type => Err(unknown_resource(resource_type, &resource.resource_name)),
        }
    }

    fn broker_configs(&self) -> Vec<DescribeConfigsResourceResult> {
        let config = &self.config;
        let timing = config.group_timing;
        let (host, port) = (&config.advertised_host, config.advertised_port);
        let of_node = [
            (
                "advertised.listeners",
                ConfigType::String,
                format!("PLAINTEXT://{host}:{port}"),
            ),
            (
                "auto.create.topics.enable",
                ConfigType::Boolean,
                config.auto_create_topics.to_string(),
            ),
            ("broker.id", ConfigType::Int, config.node_id.to_string()),
            (
                "group.initial.rebalance.delay.ms",
                ConfigType::Int,
                timing.initial_delay_ms.to_string(),
            ),
            (
                "group.max.session.timeout.ms",
                ConfigType::Int,
                timing.session_max_ms.to_string(),
            ),
            (
                "group.min.session.timeout.ms",
                ConfigType::Int,
                timing.session_min_ms.to_string(),
            ),
            ("log.dirs", ConfigType::String, config.log_dir.clone()),
            (
                "max.connections",
                ConfigType::Int,
                config.max_connections.to_string(),
            ),
            (
                "message.max.bytes",
                ConfigType::Int,
                config.max_message_bytes.to_string(),
            ),
            (
                "num.partitions",
                ConfigType::Int,
                config.default_partitions.to_string(),
            ),
            (
                "offsets.retention.minutes",
                ConfigType::Int,
                (config.offsets_retention.as_secs() / 60).to_string(),
            ),
        ];
        let fixed = FIXED_BROKER_CONFIGS
            .iter()
            .map(|(name, kind, value)| (*name, *kind, (*value).to_owned()));
        let mut all: Vec<_> = of_node
            .into_iter()
            .chain(fixed)
            .map(broker_config)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn incremental_alter_configs(
        self: &Arc<Self>,
        call: &Call,
        request: IncrementalAlterConfigsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let responses = request.resources.iter().map(|resource| {
                let changes: Vec<ConfigChange> = resource
                    .configs
                    .iter()
                    .map(|config| ConfigChange {
                        name: config.name.to_string(),
                        operation: config.config_operation,
                        value: config.value.as_ref().map(KStr::to_string),
                    })
                    .collect();
                let name = &resource.resource_name;
                let refusal = broker
                    .alter(
                        &call,
                        resource.resource_type,
                        name,
                        request.validate_only,
                        |own| topic_config::apply(own, &changes),
                    )
                    .err();
                incremental_alter_configs_response::AlterConfigsResourceResponse {
                    error_code: refusal
                        .as_ref()
                        .map_or(error_code::NONE, KafkaCode::kafka_code),
                    error_message: refusal.map(|refusal| refusal.to_string().into()),
                    resource_type: resource.resource_type,
                    resource_name: name.clone(),
                    ..Default::default()
                }
            });
            call.ready(&IncrementalAlterConfigsResponse {
                responses: responses.collect(),
                ..IncrementalAlterConfigsResponse::default()
            })
        })
    }

    /// The older form replaces all configs of a topic.
    pub(crate) fn alter_configs(
        self: &Arc<Self>,
        call: &Call,
        request: AlterConfigsRequest,
    ) -> Reply {
        let call = call.clone();
        self.blocking(move |broker| {
            let responses = request.resources.iter().map(|resource| {
                let named = resource.configs.iter();
                let replaced: BTreeMap<String, String> = named
                    .filter_map(|config| {
                        Some((config.name.to_string(), config.value.as_ref()?.to_string()))
                    })
                    .collect();
                let name = &resource.resource_name;
                let refusal = broker
                    .alter(
                        &call,
                        resource.resource_type,
                        name,
                        request.validate_only,
                        |own| {
                            topic_config::validate(&replaced)?;
                            *own = replaced;
                            Ok(())
                        },
                    )
                    .err();
                alter_configs_response::AlterConfigsResourceResponse {
                    error_code: refusal
                        .as_ref()
                        .map_or(error_code::NONE, KafkaCode::kafka_code),
                    error_message: refusal.map(|refusal| refusal.to_string().into()),
                    resource_type: resource.resource_type,
                    resource_name: name.clone(),
                    ..Default::default()
                }
            });
            call.ready(&AlterConfigsResponse {
                responses: responses.collect(),
                ..AlterConfigsResponse::default()
            })
        })
    }

    fn alter(
        &self,
        call: &Call,
        resource_type: i8,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), topic_config::TopicConfigError>,
    ) -> Result<(), Refusal> {
        call.check(Operation::AlterConfigs, guarded(resource_type, name))?;
        match resource_type {
            TOPIC_RESOURCE => {}
            BROKER_RESOURCE => return Err(Refusal::BrokerConfigReadOnly),
            other => return Err(unknown_resource(other, name)),
        }
        let topic = self.topic(name).ok_or(Refusal::UnknownPartition)?;
        let mut configs = topic.config().configs;
        change(&mut configs)?;
        if !validate_only {
            self.storage.alter_topic(name, configs)?;
            self.books.forget_rules(topic.id());
        }
        Ok(())
    }

    fn check_broker(&self, name: &str) -> Result<(), Refusal> {
        // An empty name asks for cluster-wide defaults, which are the node's.
        if name.is_empty() || name.parse() == Ok(self.config.node_id) {
            Ok(())
        } else {
            Err(unknown_resource(BROKER_RESOURCE, name))
        }
    }
}

/// What permission a resource needs.
fn guarded(resource_type: i8, name: &str) -> Resource<'_> {
    match resource_type {
        TOPIC_RESOURCE => Resource::Topic(name),
        _ => Resource::Cluster,
    }
}

fn broker_config((name, kind, value): (&str, ConfigType, String)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.into()),
        read_only: true,
        config_source: Source::StaticBroker as i8,
        config_type: kind as i8,
        ..DescribeConfigsResourceResult::default()
    }
}

fn describe_topic_config(config: &EffectiveConfig) -> DescribeConfigsResourceResult {
    let synonym = |value: &str, source: Source| DescribeConfigsSynonym {
        name: config.key.name.into(),
        value: Some(value.into()),
        source: source as i8,
        ..DescribeConfigsSynonym::default()
    };
    let mut synonyms = vec![synonym(&config.value, config.source)];
    if config.source != Source::Default {
        synonyms.push(synonym(config.key.default, Source::Default));
    }
    DescribeConfigsResourceResult {
        name: config.key.name.into(),
        value: Some(config.value.as_str().into()),
        config_source: config.source as i8,
        synonyms,
        config_type: config.key.kind as i8,
        documentation: Some(config.key.documentation.into()),
        ..DescribeConfigsResourceResult::default()
    }
}

fn unknown_resource(resource_type: i8, name: &str) -> Refusal {
    Refusal::Resource {
        resource_type,
        name: name.to_owned(),
    }
}
