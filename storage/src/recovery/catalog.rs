//! Which topics there are: by the state, and by the directories.

use super::io_error;
use super::log::{self, Found, Known};
use crate::config::Config;
use crate::core::Core;
use crate::disk::{DirEntry, Disk};
use crate::error::OpenError;
use crate::gap::insert_gap;
use crate::keys;
use crate::partition::{Log, TopicIdentity};
use crate::segment::header::HEADER_BLOCK_LEN;
use crate::segment::parse_segment_name;
use crate::topic::{MAX_PARTITIONS, Topic, TopicConfig, parse_topic_dir, topic_dir};
use crate::view::{View, ViewError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Partitions recovered at once: recovery waits for reads more than for the CPU.
const RECOVERY_THREADS: usize = 4;

struct Entry {
    identity: Arc<TopicIdentity>,
    config: TopicConfig,
    logs: Vec<Arc<Log>>,
}

/// The topics of a data directory.
pub(super) struct Catalog {
    entries: Vec<Entry>,
    pub notes: Vec<String>,
}

/// Joins the state's topics with the directories.
pub(super) fn load(
    config: &Config,
    disk: &dyn Disk,
    view: &dyn View,
    journal: &Log,
) -> Result<Catalog, OpenError> {
    let mut catalog = Catalog {
        entries: Vec::new(),
        notes: Vec::new(),
    };
    let mut ids = BTreeSet::from([journal.topic.id]);
    let known = view
        .scan_prefix(keys::topic_prefix())
        .map_err(view_error(config))?;
    for (key, value) in known {
        match keys::topic_name_of(&key).zip(keys::decode_topic(&value)) {
            Some((name, (id, topic_config))) => {
                ids.insert(id);
                catalog.add(config, name, id, topic_config);
            }
            None => catalog
                .notes
                .push(format!("topic entry {key:02x?} of the state is unreadable")),
        }
    }
    let topics = config.data_dir.join("topics");
    let listed = disk.list(&topics).map_err(io_error("list", &topics))?;
    for entry in listed {
        if let Some((name, id)) = parse_topic_dir(&entry.name)
            && !ids.contains(&id)
        {
            let dir = topics.join(&entry.name);
            catalog
                .adopt(config, disk, view, &dir, name, id)
                .map_err(io_error("read", &dir))?;
        }
    }
    Ok(catalog)
}

impl Catalog {
    fn add(&mut self, config: &Config, name: &str, id: [u8; 16], topic_config: TopicConfig) {
        let identity = Arc::new(TopicIdentity {
            name: name.to_owned(),
            id,
        });
        let dir = topic_dir(&config.data_dir, name, &id);
        let size = topic_config.segment_size(config.segment_size);
        let logs = (0..topic_config.partitions)
            .map(|index| {
                Arc::new(Log::new(
                    Arc::clone(&identity),
                    index,
                    dir.join(index.to_string()),
                    size,
                    false,
                ))
            })
            .collect();
        self.entries.push(Entry {
            identity,
            config: topic_config,
            logs,
        });
    }

    /// Decides about a directory that the state does not know: the rest of a
    /// deletion or of an interrupted creation goes, data stays.
    fn adopt(
        &mut self,
        config: &Config,
        disk: &dyn Disk,
        view: &dyn View,
        dir: &Path,
        name: &str,
        id: [u8; 16],
    ) -> io::Result<()> {
        let tombstone = view.get(&keys::tombstone_key(&id));
        let is_deleted = tombstone.map_err(io::Error::other)?.is_some();
        let partitions = if is_deleted {
            0
        } else {
            partitions_with_data(disk, dir)?
        };
        if partitions == 0 {
            disk.remove_dir_all(dir)?;
            // The tombstone is removed behind this, so the files must be gone for certain.
            return match dir.parent() {
                Some(topics) => disk.fsync_dir(topics),
                None => Ok(()),
            };
        }
        if self.entries.iter().any(|entry| entry.identity.name == name) {
            self.notes.push(format!(
                "directory {} holds another topic of the same name and was left alone",
                dir.display()
            ));
            return Ok(());
        }
        self.notes.push(format!("topic {name} is missing in the state and was restored from its directory without its configs"));
        self.add(
            config,
            name,
            id,
            TopicConfig::with_partitions(partitions.min(MAX_PARTITIONS)),
        );
        Ok(())
    }

    pub fn into_topics(self, core: &Arc<Core>) -> BTreeMap<String, Arc<Topic>> {
        self.entries
            .into_iter()
            .map(|entry| {
                let name = entry.identity.name.clone();
                let topic = Topic::new(Arc::clone(core), entry.identity, entry.config, entry.logs);
                (name, Arc::new(topic))
            })
            .collect()
    }
}

fn partitions_with_data(disk: &dyn Disk, dir: &Path) -> io::Result<u32> {
    let mut partitions = 0;
    for DirEntry { name, is_dir } in disk.list(dir)? {
        let Ok(index) = name.parse::<u32>() else {
            continue;
        };
        if !is_dir {
            continue;
        }
        for file in disk.list(&dir.join(&name))? {
            let path = dir.join(&name).join(&file.name);
            if parse_segment_name(&file.name).is_some()
                && disk.open(&path)?.length()? > HEADER_BLOCK_LEN as u64
            {
                partitions = partitions.max(index.saturating_add(1));
            }
        }
    }
    Ok(partitions)
}

/// Wraps the error of a view that opened and does not answer.
fn view_error(config: &Config) -> impl Fn(ViewError) -> OpenError {
    let dir = config.data_dir.join("state");
    move |error| io_error("read", &dir)(io::Error::other(error))
}

fn known(view: &dyn View, log: &Log) -> Result<Known, ViewError> {
    let id = &log.topic.id;
    let mut gaps = Vec::new();
    for (key, value) in view.scan_prefix(&keys::gap_prefix(id, log.index))? {
        if let Some(gap) = keys::decode_gap_entry(&key, &value) {
            insert_gap(&mut gaps, gap);
        }
    }
    Ok(Known {
        mark: view
            .get(&keys::mark_key(id, log.index))?
            .and_then(|value| keys::decode_mark(&value)),
        log_start: view
            .get(&keys::log_start_key(id, log.index))?
            .and_then(|value| keys::decode_u64(&value))
            .unwrap_or(0),
        gaps,
    })
}

/// Recovers all partitions of all topics.
pub(super) fn recover_all(
    config: &Config,
    disk: &dyn Disk,
    catalog: &Catalog,
    view: &dyn View,
    closed: u64,
) -> Result<Vec<(Arc<Log>, Found)>, OpenError> {
    let work: Vec<(Arc<Log>, Known)> = catalog
        .entries
        .iter()
        .flat_map(|entry| &entry.logs)
        .map(|log| Ok((Arc::clone(log), known(view, log)?)))
        .collect::<Result<_, ViewError>>()
        .map_err(view_error(config))?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(work.len()));
    let run = || {
        while let Some((log, known)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found =
                log::recover(disk, log, known, closed).map_err(io_error("recover", &log.dir));
            results
                .lock()
                .push(found.map(|found| (Arc::clone(log), found)));
        }
    };
    if config.threads && work.len() > 1 {
        std::thread::scope(|scope| {
            for _ in 0..RECOVERY_THREADS.min(work.len()) {
                scope.spawn(run);
            }
        });
    } else {
        run();
    }
    results.into_inner().into_iter().collect()
}
