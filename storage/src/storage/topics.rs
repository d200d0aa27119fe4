//! Creating, deleting, altering and finding topics.

use super::{Inner, Storage};
use crate::disk::Disk;
use crate::error::{AlterTopicError, AppendError, CreateTopicError, DeleteTopicError};
use crate::keys;
use crate::partition::{Log, TopicIdentity};
use crate::state::Op;
use crate::topic::{MAX_PARTITIONS, Topic, TopicConfig, is_legal_name, topic_dir};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Topics with this prefix are the storage's and the broker's own and not listed.
const INTERNAL_PREFIX: &str = "__";

impl Storage {
    /// Creates a topic; it is durable on return. Blocks.
    ///
    /// # Errors
    /// When the name is taken or illegal, the number of partitions is
    /// impossible, or the disk refuses.
    pub fn create_topic(
        &self,
        name: &str,
        config: TopicConfig,
    ) -> Result<Arc<Topic>, CreateTopicError> {
        let inner = &self.inner;
        if !is_legal_name(name) {
            return Err(CreateTopicError::Name {
                name: name.to_owned(),
            });
        }
        if config.partitions == 0 || config.partitions > MAX_PARTITIONS {
            return Err(CreateTopicError::Partitions {
                name: name.to_owned(),
                partitions: config.partitions,
                limit: MAX_PARTITIONS,
            });
        }
        let _catalog = inner.catalog.lock();
        if inner.topics.read().contains_key(name) {
            return Err(CreateTopicError::Exists {
                name: name.to_owned(),
            });
        }
        let identity = Arc::new(TopicIdentity {
            name: name.to_owned(),
            id: inner.new_id(),
        });
        let logs = inner
            .make_logs(&identity, 0..config.partitions)
            .map_err(|(path, source)| CreateTopicError::Io { path, source })?;
        inner.change(vec![Op {
            key: keys::topic_key(name),
            value: Some(keys::encode_topic(&identity.id, &config)),
        }])?;
        let topic = Arc::new(Topic::new(Arc::clone(&inner.core), identity, config, logs));
        inner
            .topics
            .write()
            .insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Deletes a topic and its files; the deletion is durable on return. Blocks.
    ///
    /// # Errors
    /// When there is no such topic or the state journal does not accept the change.
    pub fn delete_topic(&self, name: &str) -> Result<(), DeleteTopicError> {
        let inner = &self.inner;
        let _catalog = inner.catalog.lock();
        let Some(topic) = self.topic(name) else {
            return Err(DeleteTopicError::Unknown {
                name: name.to_owned(),
            });
        };
        let id = topic.id();
        let mut ops = vec![
            Op {
                key: keys::topic_key(name),
                value: None,
            },
            Op {
                key: keys::tombstone_key(&id),
                value: Some(Vec::new()),
            },
        ];
        for prefix in keys::prefixes_of_topic(&id) {
            let entries = inner.core.state.scan_prefix(&inner.core, &prefix);
            ops.extend(entries.into_iter().map(|(key, _)| Op { key, value: None }));
        }
        inner.change(ops)?;
        inner.topics.write().remove(name);
        for log in topic.logs() {
            log.lock().is_deleted = true;
            log.is_deleted.store(true, Ordering::Release);
        }
        // What gathered before the deletion still goes to files that exist.
        inner.core.wait(inner.core.fence());
        inner.remove_topic_files(name, &id);
        Ok(())
    }

    /// Raises the number of partitions; durable on return. Blocks.
    ///
    /// # Errors
    /// When there is no such topic, the number does not grow, or the disk refuses.
    pub fn add_partitions(&self, name: &str, total: u32) -> Result<Arc<Topic>, AlterTopicError> {
        let inner = &self.inner;
        let _catalog = inner.catalog.lock();
        let topic = self.topic(name).ok_or_else(|| AlterTopicError::Unknown {
            name: name.to_owned(),
        })?;
        let actual = topic.partition_count();
        if total <= actual || total > MAX_PARTITIONS {
            return Err(AlterTopicError::Partitions {
                name: name.to_owned(),
                actual,
                requested: total,
                limit: MAX_PARTITIONS,
            });
        }
        let mut config = topic.config();
        config.partitions = total;
        let logs = inner
            .make_logs(topic.identity(), actual..total)
            .map_err(|(path, source)| AlterTopicError::Io { path, source })?;
        inner.change(vec![Op {
            key: keys::topic_key(name),
            value: Some(keys::encode_topic(&topic.id(), &config)),
        }])?;
        topic.add_logs(logs);
        topic.set_config(config);
        Ok(topic)
    }

    /// Replaces the configs of a topic; durable on return. Blocks.
    ///
    /// # Errors
    /// When there is no such topic or the state journal does not accept the change.
    pub fn alter_topic(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
    ) -> Result<(), AlterTopicError> {
        let inner = &self.inner;
        let _catalog = inner.catalog.lock();
        let topic = self.topic(name).ok_or_else(|| AlterTopicError::Unknown {
            name: name.to_owned(),
        })?;
        let config = TopicConfig {
            partitions: topic.partition_count(),
            configs,
        };
        inner.change(vec![Op {
            key: keys::topic_key(name),
            value: Some(keys::encode_topic(&topic.id(), &config)),
        }])?;
        topic.set_config(config);
        Ok(())
    }

    /// Finds a topic by name, internal ones too.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.inner.topics.read().get(name).cloned()
    }

    /// Finds a topic by identity.
    pub fn topic_by_id(&self, id: &[u8; 16]) -> Option<Arc<Topic>> {
        self.inner
            .topics
            .read()
            .values()
            .find(|topic| topic.id() == *id)
            .cloned()
    }

    /// Returns all topics by name, without those that begin with two underscores.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let topics = self.inner.topics.read();
        topics
            .values()
            .filter(|topic| !topic.name().starts_with(INTERNAL_PREFIX))
            .cloned()
            .collect()
    }
}

impl Inner {
    /// Journals storage's own changes and waits until they are durable.
    pub fn change(&self, ops: Vec<Op>) -> Result<(), AppendError> {
        let ticket = self.core.journal_ops(ops)?;
        if self.core.wait(ticket) {
            Ok(())
        } else {
            Err(AppendError::ShuttingDown)
        }
    }

    /// Removes the files of a deleted topic, then its tombstone.
    pub fn remove_topic_files(&self, name: &str, id: &[u8; 16]) {
        let core = &self.core;
        let dir = topic_dir(&core.config.data_dir, name, id);
        // The tombstone goes after the files for certain: files that come back
        // without it are taken for a topic that the state lost.
        let removed = match core.disk.remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => core.disk.fsync_dir(&core.config.data_dir.join("topics")),
        };
        match removed {
            Err(error) => {
                core.alarm(format!(
                    "directory {} of a deleted topic cannot be removed: {error}",
                    dir.display()
                ));
            }
            Ok(()) => {
                let removed = core.journal_ops(vec![Op {
                    key: keys::tombstone_key(id),
                    value: None,
                }]);
                if let Err(error) = removed {
                    tracing::debug!(%error, "tombstone stays until the next start");
                }
            }
        }
    }

    fn new_id(&self) -> [u8; 16] {
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&self.core.disk.entropy().to_le_bytes());
        id[8..].copy_from_slice(&self.core.disk.entropy().to_le_bytes());
        // A random UUID, RFC 9562 section 5.4.
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        id
    }

    fn make_logs(
        &self,
        identity: &Arc<TopicIdentity>,
        range: Range<u32>,
    ) -> Result<Vec<Arc<Log>>, (PathBuf, io::Error)> {
        let core = &self.core;
        let dir = topic_dir(&core.config.data_dir, &identity.name, &identity.id);
        let mut logs = Vec::with_capacity(range.len());
        for index in range {
            let path = dir.join(index.to_string());
            core.disk
                .create_dir_all(&path)
                .map_err(|error| (path.clone(), error))?;
            logs.push(Arc::new(Log::new(
                Arc::clone(identity),
                index,
                path,
                core.config.segment_size,
                false,
            )));
        }
        sync_names(&*core.disk, &dir).map_err(|error| (dir, error))?;
        Ok(logs)
    }
}

fn sync_names(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.fsync_dir(dir)?;
    match dir.parent() {
        Some(parent) => disk.fsync_dir(parent),
        None => Ok(()),
    }
}
