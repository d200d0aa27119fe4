//! The topic configs that exist, as one table.
//!
//! Each row says type, default and which values are accepted. DescribeConfigs
//! answers every row, because user interfaces and Connect ask for keys by name
//! and break on absent ones. A key that is not in the table is refused, and a
//! key with only one supported value refuses others. The few keys that clients
//! set by habit and that change nothing here say so in their documentation.

use std::collections::BTreeMap;

/// Kafka's ConfigDef types as DescribeConfigs v3 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32-bit signed number.
    Int = 3,
    /// 64-bit signed number.
    Long = 5,
    /// 64-bit floating point number.
    Double = 6,
    /// Comma separated names.
    List = 7,
}

/// Which values of a config are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accepts {
    /// Whole numbers from `min` to `max`.
    Range {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigKey {
    /// Kafka's name of the config.
    pub name: &'static str,
    /// Type reported to clients.
    pub kind: ConfigType,
    /// Value when the topic sets none.
    pub default: &'static str,
    /// Values that may be set.
    pub accepts: Accepts,
    /// One sentence for DescribeConfigs with documentation.
    pub documentation: &'static str,
}

/// `message.timestamp.type` value that makes the broker stamp records.
pub const LOG_APPEND_TIME: &str = "LogAppendTime";

/// Default of `max.message.bytes`: Kafka's 1 MiB plus the batch overhead.
pub const DEFAULT_MAX_MESSAGE_BYTES: i64 = 1_048_588;

/// Largest `max.message.bytes` a topic may ask for. A batch is held in memory
/// a few times on its way; 16 MiB keeps that below 100 MB on a small gateway.
pub const MAX_MAX_MESSAGE_BYTES: i64 = 16 * 1024 * 1024;

const fn long(
    name: &'static str,
    default: &'static str,
    min: i64,
    documentation: &'static str,
) -> ConfigKey {
    let accepts = Accepts::Range { min, max: i64::MAX };
    ConfigKey {
        name,
        kind: ConfigType::Long,
        default,
        accepts,
        documentation,
    }
}

const fn word(
    name: &'static str,
    kind: ConfigType,
    words: &'static [&'static str],
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default: words[0],
        accepts: Accepts::OneOf(words),
        documentation,
    }
}

/// All topic configs, by name.
pub const TOPIC_CONFIGS: &[ConfigKey] = &[
    word(
        "cleanup.policy",
        ConfigType::List,
        &["delete"],
        "Old segments are deleted; compaction is not supported.",
    ),
    word(
        "compression.type",
        ConfigType::String,
        &["producer"],
        "Batches are stored as the producer compressed them.",
    ),
    long(
        "delete.retention.ms",
        "86400000",
        0,
        "Kept for clients; without compaction it has no effect.",
    ),
    long(
        "file.delete.delay.ms",
        "60000",
        0,
        "Kept for clients; segments are unlinked at once.",
    ),
    long(
        "flush.messages",
        "9223372036854775807",
        1,
        "Every append is synced before it is acknowledged.",
    ),
    long(
        "flush.ms",
        "9223372036854775807",
        0,
        "Every append is synced before it is acknowledged.",
    ),
    ConfigKey {
        name: "max.message.bytes",
        kind: ConfigType::Int,
        default: "1048588",
        accepts: Accepts::Range {
            min: 61,
            max: MAX_MAX_MESSAGE_BYTES,
        },
        documentation: "Largest record batch in bytes, as sent.",
    },
    long(
        "message.timestamp.after.max.ms",
        "9223372036854775807",
        0,
        "How far a record's timestamp may lie after the broker's clock.",
    ),
    long(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        0,
        "How far a record's timestamp may lie before the broker's clock.",
    ),
    word(
        "message.timestamp.type",
        ConfigType::String,
        &["CreateTime", LOG_APPEND_TIME],
        "Whether a record keeps its producer's timestamp or gets the broker's.",
    ),
    ConfigKey {
        name: "min.insync.replicas",
        kind: ConfigType::Int,
        default: "1",
        accepts: Accepts::Range { min: 1, max: 1 },
        documentation: "One node holds the only replica.",
    },
    word(
        "preallocate",
        ConfigType::Boolean,
        &["true"],
        "Segments are always preallocated.",
    ),
    long(
        "retention.bytes",
        "-1",
        -1,
        "Largest size of a partition in bytes, -1 = only the node's limit.",
    ),
    long(
        "retention.ms",
        "604800000",
        -1,
        "How long records are kept, -1 = only the node's limits.",
    ),
    ConfigKey {
        name: "segment.bytes",
        kind: ConfigType::Int,
        default: "16777216",
        accepts: Accepts::Range {
            min: 1024 * 1024,
            max: 1024 * 1024 * 1024,
        },
        documentation: "Size of one segment file in bytes.",
    },
    long(
        "segment.ms",
        "604800000",
        1,
        "Kept for clients; segments roll by size.",
    ),
    word(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        &["false"],
        "A replica that misses acknowledged data never leads.",
    ),
];

/// Why a topic config is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// The key is not in [`TOPIC_CONFIGS`].
    #[error("unknown topic config '{name}'")]
    Unknown {
        /// Key as given.
        name: String,
    },
    /// The value is not one that the key accepts.
    #[error("invalid value '{value}' for topic config '{name}': expected {expected}")]
    Value {
        /// Key.
        name: &'static str,
        /// Value as given.
        value: String,
        /// Accepted values in words.
        expected: String,
    },
    /// The key is not a list, so it cannot be appended to or subtracted from.
    #[error("topic config '{name}' is not a list")]
    NotAList {
        /// Key.
        name: &'static str,
    },
    /// The operation code is not 0 to 3.
    #[error("unknown config operation {operation} on '{name}'")]
    Operation {
        /// Key as given.
        name: String,
        /// Operation code as given.
        operation: i8,
    },
    /// A set needs a value.
    #[error("config '{name}' is set to null")]
    NullValue {
        /// Key as given.
        name: String,
    },
}

/// Finds the row of a key.
pub fn config_key(name: &str) -> Option<&'static ConfigKey> {
    TOPIC_CONFIGS.iter().find(|key| key.name == name)
}

impl ConfigKey {
    /// Checks one value.
    ///
    /// # Errors
    /// [`TopicConfigError::Value`] with the accepted values in words.
    pub fn check(&self, value: &str) -> Result<(), TopicConfigError> {
        let accepted = match self.accepts {
            Accepts::Range { min, max } => value
                .trim()
                .parse::<i64>()
                .is_ok_and(|n| (min..=max).contains(&n)),
            Accepts::OneOf(words) => words.contains(&value.trim()),
        };
        if accepted {
            return Ok(());
        }
        let expected = match self.accepts {
            Accepts::Range { min, max } => format!("a whole number from {min} to {max}"),
            Accepts::OneOf(words) => words.join(" or "),
        };
        Err(TopicConfigError::Value {
            name: self.name,
            value: value.to_owned(),
            expected,
        })
    }
}

/// Checks a whole set of topic configs.
///
/// # Errors
/// The first [`TopicConfigError`] in key order.
pub fn validate(configs: &BTreeMap<String, String>) -> Result<(), TopicConfigError> {
    configs.iter().try_for_each(|(name, value)| {
        config_key(name)
            .ok_or_else(|| TopicConfigError::Unknown { name: name.clone() })?
            .check(value)
    })
}

/// One change of IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Key.
    pub name: String,
    /// 0 = set, 1 = delete, 2 = append, 3 = subtract.
    pub operation: i8,
    /// Value, absent for delete.
    pub value: Option<String>,
}

/// Applies changes to a topic's own configs and checks the result.
///
/// # Errors
/// [`TopicConfigError`] of the first change that cannot be applied; `configs`
/// is then left half changed, so callers pass a copy.
pub fn apply(
    configs: &mut BTreeMap<String, String>,
    changes: &[ConfigChange],
) -> Result<(), TopicConfigError> {
    for change in changes {
        let name = &change.name;
        let key =
            config_key(name).ok_or_else(|| TopicConfigError::Unknown { name: name.clone() })?;
        let value = || {
            change
                .value
                .clone()
                .ok_or_else(|| TopicConfigError::NullValue { name: name.clone() })
        };
        let next = match change.operation {
            0 => Some(value()?),
            1 => None,
            2 | 3 if key.kind != ConfigType::List => {
                return Err(TopicConfigError::NotAList { name: key.name });
            }
            2 => Some(list_with(
                configs.get(name).map_or(key.default, String::as_str),
                &value()?,
            )),
            3 => Some(list_without(
                configs.get(name).map_or(key.default, String::as_str),
                &value()?,
            )),
            operation => {
                return Err(TopicConfigError::Operation {
                    name: name.clone(),
                    operation,
                });
            }
        };
        match next {
            Some(value) => {
                key.check(&value)?;
                configs.insert(name.clone(), value);
            }
            None => {
                configs.remove(name);
            }
        }
    }
    Ok(())
}

/// The configs that decide how a batch is accepted, resolved for one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendRules {
    /// Largest batch, in bytes as sent.
    pub max_message_bytes: usize,
    /// The broker stamps the records.
    pub log_append_time: bool,
    /// Oldest accepted timestamp relative to the clock, in milliseconds.
    pub timestamp_before_max_ms: Option<i64>,
    /// Newest accepted timestamp relative to the clock, in milliseconds.
    pub timestamp_after_max_ms: Option<i64>,
}

impl AppendRules {
    /// Resolves the rules; `node_max_message_bytes` holds where the topic sets
    /// nothing.
    pub fn resolve(configs: &BTreeMap<String, String>, node_max_message_bytes: usize) -> Self {
        let number = |name: &str| {
            configs
                .get(name)
                .and_then(|value| value.trim().parse::<i64>().ok())
        };
        let bounded = |name: &str| number(name).filter(|&ms| ms != i64::MAX);
        Self {
            max_message_bytes: number("max.message.bytes")
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(node_max_message_bytes),
            log_append_time: configs
                .get("message.timestamp.type")
                .is_some_and(|v| v.trim() == LOG_APPEND_TIME),
            timestamp_before_max_ms: bounded("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: bounded("message.timestamp.after.max.ms"),
        }
    }
}

fn list_with(list: &str, added: &str) -> String {
    let mut items: Vec<&str> = split(list).collect();
    items.extend(split(added).filter(|item| !split(list).any(|old| old == *item)));
    items.join(",")
}

fn list_without(list: &str, removed: &str) -> String {
    split(list)
        .filter(|item| !split(removed).any(|old| old == *item))
        .collect::<Vec<_>>()
        .join(",")
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
#[path = "topic_config/tests.rs"]
mod tests;
