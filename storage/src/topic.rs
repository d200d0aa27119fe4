//! Topics: names, identities, configuration, partitions.

use crate::core::Core;
use crate::partition::{Log, Partition, TopicIdentity};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Kafka's own limit of a topic name.
const MAX_NAME_LEN: usize = 249;
/// Partitions of one topic. A gateway's disk holds some thousands of files
/// before its directory walks take seconds.
pub(crate) const MAX_PARTITIONS: u32 = 4096;

/// What a topic is created with. The keys are Kafka's topic configs; the
/// storage obeys `retention.ms`, `retention.bytes` and `segment.bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicConfig {
    /// Number of partitions.
    pub partitions: u32,
    /// Kafka config keys and values.
    pub configs: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Returns a config with defaults for everything but the partitions.
    pub fn with_partitions(partitions: u32) -> Self {
        TopicConfig {
            partitions,
            configs: BTreeMap::new(),
        }
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.configs.get(key)?.parse().ok()
    }

    /// The topic's own limit of age: `None` when it has none of its own,
    /// `Some(None)` when it keeps records forever.
    pub(crate) fn retention_time(&self) -> Option<Option<Duration>> {
        let ms = self.number("retention.ms")?;
        Some(u64::try_from(ms).ok().map(Duration::from_millis))
    }

    pub(crate) fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.number("retention.bytes")?).ok()
    }

    pub(crate) fn segment_size(&self, default: u64) -> u64 {
        self.number("segment.bytes")
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(default)
    }
}

/// A topic. Handles stay valid after its deletion; their appends are refused.
pub struct Topic {
    core: Arc<Core>,
    identity: Arc<TopicIdentity>,
    config: RwLock<TopicConfig>,
    logs: RwLock<Vec<Arc<Log>>>,
}

impl Topic {
    pub(crate) fn new(
        core: Arc<Core>,
        identity: Arc<TopicIdentity>,
        config: TopicConfig,
        logs: Vec<Arc<Log>>,
    ) -> Self {
        let topic = Topic {
            core,
            identity,
            config: RwLock::default(),
            logs: RwLock::new(logs),
        };
        topic.set_config(config);
        topic
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Returns the identity, which a recreated topic does not share.
    pub fn id(&self) -> [u8; 16] {
        self.identity.id
    }

    /// Returns the configuration.
    pub fn config(&self) -> TopicConfig {
        self.config.read().clone()
    }

    /// Returns the number of partitions.
    pub fn partition_count(&self) -> u32 {
        self.logs.read().len() as u32
    }

    /// Returns a handle to a partition.
    pub fn partition(&self, index: u32) -> Option<Partition> {
        let log = Arc::clone(self.logs.read().get(index as usize)?);
        Some(Partition {
            core: Arc::clone(&self.core),
            log,
        })
    }

    pub(crate) fn identity(&self) -> &Arc<TopicIdentity> {
        &self.identity
    }

    pub(crate) fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().clone()
    }

    pub(crate) fn add_logs(&self, more: Vec<Arc<Log>>) {
        let mut logs = self.logs.write();
        logs.extend(more);
        self.config.write().partitions = logs.len() as u32;
    }

    pub(crate) fn set_config(&self, config: TopicConfig) {
        let size = config.segment_size(self.core.config.segment_size);
        for log in self.logs.read().iter() {
            log.segment_size.store(size, Ordering::Relaxed);
        }
        *self.config.write() = config;
    }
}

/// Returns whether Kafka would accept the name.
pub(crate) fn is_legal_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Formats the directory of a topic.
pub(crate) fn topic_dir(data_dir: &Path, name: &str, id: &[u8; 16]) -> PathBuf {
    let mut dir = String::with_capacity(name.len() + 33);
    dir.push_str(name);
    dir.push('-');
    for byte in id {
        dir.push_str(&format!("{byte:02x}"));
    }
    data_dir.join("topics").join(dir)
}

/// Parses the name of a topic directory.
pub(crate) fn parse_topic_dir(dir: &str) -> Option<(&str, [u8; 16])> {
    let (name, hex) = dir.rsplit_once('-')?;
    if hex.len() != 32 || !hex.is_ascii() || !is_legal_name(name) {
        return None;
    }
    let mut id = [0u8; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some((name, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_directory_names_the_topic() {
        let id = [0xab; 16];
        let dir = topic_dir(Path::new("/d"), "press-1.raw", &id);
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse_topic_dir(name), Some(("press-1.raw", id)));
        assert_eq!(parse_topic_dir("press-1"), None);
    }
}
