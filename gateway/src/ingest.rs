//! From a path to a place in the log.
//!
//! [`Ingest`] maps a path by the [`routes`] to a partition and keeps the
//! answer, so that the usual publish costs one lookup. It does not append: the
//! caller decides between a plain append and a transaction.

pub mod batches;
pub mod routes;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use forebay_storage::{CreateTopicError, Partition, Storage, Topic, TopicConfig};
use parking_lot::Mutex;
use thiserror::Error;

use routes::{Routes, partition_for_key};

/// Locks of the path cache. Connections run on a few threads; sixteen makes a
/// collision rare.
const SHARDS: usize = 16;

/// Cached paths per lock, so 65,536 in all, about 10 MB when full. A full shard
/// is emptied: paths beyond that number are either hostile or so many that a
/// lookup is a small part of their cost.
const PATHS_PER_SHARD_MAX: usize = 4096;

/// Most topics of a node that routes may create. A named level of a route
/// takes its text from devices, so something must bound it.
const TOPICS_MAX: usize = 1024;

/// Where the records of one path go.
#[derive(Clone)]
pub struct Target {
    /// The partition to append to.
    pub partition: Partition,
    /// The record key when it is not the path.
    pub key: Option<Arc<str>>,
    topic: Arc<Topic>,
    partition_count: u32,
}

impl Target {
    /// Whether the topic still has the partitions among which this one was
    /// chosen.
    pub fn is_current(&self) -> bool {
        self.partition_count == self.topic.partition_count()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic.name(), self.partition.index())
    }
}

/// A topic that a route names and that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTopic {
    /// Its name.
    pub name: String,
    /// The partitions its route asks for.
    pub partitions: u32,
}

/// Why a routed topic could not be created.
#[derive(Debug, Error)]
pub enum CreateRoutedTopicError {
    /// The node has as many topics as routes may create.
    #[error("topic {name} not created: {TOPICS_MAX} topics exist, the most that routes may create")]
    TooMany {
        /// The topic's name.
        name: String,
    },
    /// The storage refused.
    #[error("topic {name} not created: {source}")]
    Storage {
        /// The topic's name.
        name: String,
        /// The storage's reason.
        source: CreateTopicError,
    },
}

/// Routes with a cache of what they answered.
pub struct Ingest {
    storage: Storage,
    routes: Arc<Routes>,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<Box<str>, Target>>>,
}

impl Ingest {
    /// An empty cache over `routes`.
    pub fn new(storage: Storage, routes: Arc<Routes>) -> Self {
        Self {
            storage,
            routes,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The target of `path`, a valid topic name.
    ///
    /// # Errors
    /// The topic that has to be created first, see [`Ingest::create`].
    pub fn target(&self, path: &str) -> Result<Target, MissingTopic> {
        let shard = &self.shards[self.hasher.hash_one(path) as usize % SHARDS];
        if let Some(target) = shard.lock().get(path)
            && target.is_current()
        {
            return Ok(target.clone());
        }
        let target = self.resolve(path)?;
        let mut cached = shard.lock();
        if cached.len() >= PATHS_PER_SHARD_MAX {
            cached.clear();
        }
        cached.insert(path.into(), target.clone());
        Ok(target)
    }

    /// Forgets `path`: its partition said that its topic was deleted.
    pub fn forget(&self, path: &str) {
        let shard = &self.shards[self.hasher.hash_one(path) as usize % SHARDS];
        shard.lock().remove(path);
    }

    /// Creates a routed topic; durable on return. Blocks on the disk.
    ///
    /// # Errors
    /// When the storage refuses or too many topics exist. A topic that someone
    /// else created in between is a success.
    pub fn create(&self, missing: &MissingTopic) -> Result<(), CreateRoutedTopicError> {
        if self.storage.topic(&missing.name).is_some() {
            return Ok(());
        }
        if self.storage.topics().len() >= TOPICS_MAX {
            return Err(CreateRoutedTopicError::TooMany {
                name: missing.name.clone(),
            });
        }
        let config = TopicConfig {
            partitions: missing.partitions,
            ..TopicConfig::default()
        };
        match self.storage.create_topic(&missing.name, config) {
            Ok(_) | Err(CreateTopicError::Exists { .. }) => Ok(()),
            Err(source) => Err(CreateRoutedTopicError::Storage {
                name: missing.name.clone(),
                source,
            }),
        }
    }

    /// The routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The target of `path` by the routes, past the cache.
    ///
    /// # Errors
    /// The topic that has to be created first, see [`Ingest::create`].
    pub fn resolve(&self, path: &str) -> Result<Target, MissingTopic> {
        let destination = self.routes.resolve(path);
        let missing = || MissingTopic {
            name: destination.topic.clone(),
            partitions: destination.partitions,
        };
        let topic = self.storage.topic(&destination.topic).ok_or_else(missing)?;
        let partition_count = topic.partition_count();
        let key = destination.key.as_deref().unwrap_or(path);
        let index = partition_for_key(key.as_bytes(), partition_count);
        let partition = topic.partition(index).ok_or_else(missing)?;
        Ok(Target {
            partition,
            key: destination.key.map(Arc::from),
            topic,
            partition_count,
        })
    }
}
