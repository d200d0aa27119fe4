//! The edge nodes and the log: what a page of it changes, in one commit.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use forebay_sparkplug::state::StateMessage;
use forebay_sparkplug::{DeviceSnapshot, EdgeNode, EdgeSettings, Event, Incoming, Sample, Topic};
use forebay_storage::{AppendError, Partition, ReadError, Storage, Transaction};

use super::output::Renderer;
use super::{RESERVED_PREFIX, topic_name};
use crate::config::{self, defaults};
use crate::devices::Health;
use crate::ingest::Ingest;
use crate::ingest::batches::{Batches, Ready, Unplaced};
use crate::mqtt::feeds::read_page;
use crate::mqtt::message::Message;
use crate::mqtt::retained::Retained;
use crate::readings::Publisher;

/// Bytes read from the log in one step. What they become, with the births in
/// it, is one commit.
const READ_LEN: usize = 256 << 10;

/// Most edge nodes that are followed. Their names come from clients, so
/// something must bound them; a plant has some hundred.
const EDGES_MAX: usize = 4_096;

/// How often what depends on the clock is looked at while there is any.
const TICK: Duration = Duration::from_millis(250);

/// The pause while nothing depends on the clock. Commits end it.
const IDLE: Duration = Duration::from_secs(60);

/// Pause before a commit that the storage pushed back is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Times that a commit is prepared anew because a topic was missing or deleted.
const PREPARATIONS_MAX: usize = 64;

/// Cursors by topic id and partition.
const CURSOR: &[u8] = b"sparkplug/cursor/";

/// The name of the hold on what is not yet read.
const HOLD: &str = "sparkplug";

/// How a [`Host`] comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The connections of all edge nodes ended: who stays silent is gone.
    AfterRestart,
    /// Only the configuration changed.
    WhileRunning,
}

/// Why a step came to nothing. The log is read again from the same cursor.
#[derive(Debug)]
pub(super) enum StepError {
    /// The log is closing.
    Closing,
    /// The storage does not take it, with its reason.
    Refused(String),
}

/// What a step asks of its caller.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Group and name of edge nodes to ask for their births.
    pub rebirths: Vec<(String, String)>,
    /// STATE messages on the host's own topic.
    pub states: Vec<StateMessage>,
}

/// One partition of the log topic and how far it was read.
struct Feed {
    partition: Partition,
    topic: [u8; 16],
    cursor: u64,
}

struct Edge {
    machine: EdgeNode,
    partition: u32,
    /// The devices as they were kept last.
    devices: Vec<DeviceSnapshot>,
    /// What the health has been told of the machine's faults.
    faults: u64,
}

/// What a page became and was not committed yet.
#[derive(Default)]
struct Pending {
    readings: Vec<Ready>,
    certificates: Vec<Message>,
    touched: BTreeSet<(String, String)>,
    cursors: Vec<(usize, u64)>,
    newest_ms: i64,
    is_beyond_limit: bool,
    work: Work,
}

/// All edge nodes.
pub(super) struct Host {
    storage: Storage,
    ingest: Arc<Ingest>,
    retained: Arc<Retained>,
    config: Arc<config::Sparkplug>,
    settings: EdgeSettings,
    edges: BTreeMap<(String, String), Edge>,
    feeds: Vec<Feed>,
    renderer: Renderer,
    /// What could not be committed yet; nothing is read before it is.
    pending: Option<Pending>,
    opened_ms: i64,
}

impl Host {
    /// Reads the edge nodes from the state. Blocks on it and on the log.
    pub fn open(
        publisher: &Publisher,
        config: Arc<config::Sparkplug>,
        opening: Opening,
        now_ms: i64,
    ) -> Self {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let settings = EdgeSettings {
            reorder_timeout_ms: ms(config.reorder_timeout),
            rebirth_interval_ms: ms(config.rebirth_interval),
            rebirth_interval_max_ms: ms(defaults::SPARKPLUG_REBIRTH_INTERVAL_MAX),
        };
        let mut host = Self {
            storage: publisher.storage().clone(),
            ingest: Arc::clone(publisher.ingest()),
            retained: Arc::clone(publisher.retained()),
            config,
            settings,
            edges: BTreeMap::new(),
            feeds: Vec::new(),
            renderer: Renderer::default(),
            pending: None,
            opened_ms: now_ms,
        };
        host.find_feeds();
        host.restore(opening, now_ms);
        host
    }

    /// How long there is nothing to do if nothing is committed; zero when there
    /// is something to do.
    pub fn pause(&self, now_ms: i64, asks: bool) -> Duration {
        let is_behind = |feed: &Feed| feed.partition.offsets().high_watermark > feed.cursor;
        let topic = self.storage.topic(defaults::SPARKPLUG_TOPIC);
        let is_new = topic.is_some_and(|topic| {
            // A topic that was deleted and made anew has another id.
            topic.partition_count() as usize > self.feeds.len()
                || self.feeds.iter().any(|feed| feed.topic != topic.id())
        });
        if is_new || self.pending.is_some() || self.feeds.iter().any(is_behind) {
            return Duration::ZERO;
        }
        let mut pause = IDLE;
        for edge in self.edges.values() {
            match edge.machine.poll_timeout() {
                Some(at) if at <= now_ms => return Duration::ZERO,
                Some(_) => pause = TICK,
                None => {}
            }
            if asks && edge.machine.wants_rebirth() {
                if edge.machine.is_rebirth_due(now_ms) {
                    return Duration::ZERO;
                }
                pause = TICK;
            }
        }
        pause
    }

    /// Reads a page of each partition and commits what it becomes, or, at the
    /// end of the log, does what time asks for. Blocks on the log.
    pub fn step(&mut self, now_ms: i64, asks: bool, health: &Health) -> Result<Work, StepError> {
        if self.pending.is_none() {
            self.find_feeds();
            self.pending = Some(self.prepare(now_ms, asks)?);
        }
        let Some(pending) = &self.pending else {
            return Ok(Work::default());
        };
        self.commit(pending, health)?;
        let pending = self.pending.take().unwrap_or_default();
        if !pending.readings.is_empty() {
            health.add_readings(pending.readings.len() as u64, pending.newest_ms);
        }
        for (at, cursor) in &pending.cursors {
            self.feeds[*at].cursor = *cursor;
        }
        for feed in &self.feeds {
            feed.partition.hold(HOLD, Some(self.held_from(feed)));
        }
        self.tell(&pending, asks, health);
        Ok(pending.work)
    }

    /// Applies what is new to the machines.
    fn prepare(&mut self, now_ms: i64, asks: bool) -> Result<Pending, StepError> {
        let mut pending = Pending::default();
        let mut samples = Vec::new();
        for at in 0..self.feeds.len() {
            let feed = &self.feeds[at];
            if feed.partition.offsets().high_watermark <= feed.cursor {
                continue;
            }
            let page = match read_page(&feed.partition, feed.cursor, READ_LEN) {
                Ok(page) => page,
                Err(ReadError::Deleted) => continue,
                Err(error) => return Err(StepError::Refused(error.to_string())),
            };
            if page.lost > 0 {
                tracing::warn!(
                    offsets = page.lost,
                    "Sparkplug messages were removed unread"
                );
            }
            let index = feed.partition.index();
            for (offset, message) in &page.messages {
                self.take(index, *offset, message, &mut pending, &mut samples);
            }
            pending.cursors.push((at, page.next_offset));
        }
        if pending.cursors.is_empty() {
            for (name, edge) in &mut self.edges {
                let due = edge.machine.poll_timeout();
                if due.is_some_and(|at| at <= now_ms) {
                    edge.machine.handle_timeout(now_ms, &mut samples);
                    pending.touched.insert(name.clone());
                }
                if asks && edge.machine.poll_rebirth(now_ms) {
                    pending.work.rebirths.push(name.clone());
                }
            }
        }
        for sample in samples {
            pending.newest_ms = pending.newest_ms.max(sample.timestamp_ms);
            match self.renderer.render(&self.config.prefix, sample) {
                Some(ready) => pending.readings.push(ready),
                None => tracing::warn!("a metric's path is longer than a topic name can be"),
            }
        }
        Ok(pending)
    }

    /// Applies one message.
    fn take(
        &mut self,
        partition: u32,
        offset: u64,
        message: &Message,
        pending: &mut Pending,
        samples: &mut Vec<Sample>,
    ) {
        match Topic::parse(message.path.as_str()) {
            Ok(Topic::Edge {
                kind,
                group,
                edge,
                device,
            }) => {
                if kind.is_birth() {
                    pending.certificates.extend(certificate(message));
                }
                let is_wanted =
                    self.config.groups.is_empty() || self.config.groups.iter().any(|g| g == group);
                if !is_wanted {
                    return;
                }
                let name = (group.to_owned(), edge.to_owned());
                if !self.edges.contains_key(&name) && !self.has_room() {
                    pending.is_beyond_limit = true;
                    return;
                }
                let entry = self.edges.entry(name.clone()).or_insert_with(|| Edge {
                    machine: EdgeNode::new(group, edge, self.settings),
                    partition,
                    devices: Vec::new(),
                    faults: 0,
                });
                entry.partition = partition;
                let incoming = Incoming {
                    kind,
                    device,
                    payload: &message.payload,
                    received_ms: message.timestamp_ms,
                    place: offset,
                };
                entry.machine.handle(incoming, samples);
                pending.touched.insert(name);
            }
            Ok(Topic::State { host }) => {
                // What is older than this start is of a session before.
                let is_own = self.config.host_id.as_deref() == Some(host);
                if is_own && message.timestamp_ms >= self.opened_ms {
                    pending
                        .work
                        .states
                        .extend(StateMessage::parse(&message.payload));
                }
            }
            Err(_) => {}
        }
    }

    /// Whether another edge node can be followed; one that is not there makes
    /// room.
    fn has_room(&mut self) -> bool {
        if self.edges.len() < EDGES_MAX {
            return true;
        }
        let gone = self
            .edges
            .iter()
            .find(|(_, edge)| !edge.machine.is_online());
        let gone = gone.map(|(name, _)| name.clone());
        gone.is_some_and(|name| self.edges.remove(&name).is_some())
    }

    /// Commits readings, certificates, edge nodes and cursors together.
    fn commit(&self, pending: &Pending, health: &Health) -> Result<(), StepError> {
        if pending.readings.is_empty()
            && pending.certificates.is_empty()
            && pending.touched.is_empty()
        {
            // Passing over the page again would change nothing.
            return Ok(());
        }
        for _ in 0..PREPARATIONS_MAX {
            let mut transaction = Transaction::new();
            let staged = match self.stage(pending, &mut transaction, health) {
                Ok(staged) => staged,
                Err(Unplaced::Missing(missing)) => {
                    let created = self.ingest.create(&missing);
                    created.map_err(|error| StepError::Refused(error.to_string()))?;
                    continue;
                }
                Err(Unplaced::Malformed(error)) => {
                    return Err(StepError::Refused(error.to_string()));
                }
            };
            match self.storage.commit(transaction) {
                Ok(_) => {
                    for (message, staged) in staged {
                        self.retained.apply(&message.path, staged);
                    }
                    return Ok(());
                }
                Err(AppendError::ShuttingDown) => return Err(StepError::Closing),
                Err(AppendError::Backpressure { .. }) => std::thread::sleep(RETRY_PAUSE),
                Err(AppendError::Deleted) => {
                    for ready in &pending.readings {
                        self.ingest.forget(&ready.path);
                    }
                    for message in &pending.certificates {
                        self.ingest.forget(message.path.as_str());
                    }
                }
                Err(error) => return Err(StepError::Refused(error.to_string())),
            }
        }
        Err(StepError::Refused("the disk is behind".to_owned()))
    }

    fn stage<'p>(
        &self,
        pending: &'p Pending,
        transaction: &mut Transaction,
        health: &Health,
    ) -> Result<Vec<(&'p Message, crate::mqtt::retained::Staged)>, Unplaced> {
        let mut batches = Batches::default();
        for ready in &pending.readings {
            batches.add(&self.ingest, ready, &[], transaction)?;
        }
        batches.finish(transaction)?;
        let mut staged = Vec::new();
        for message in &pending.certificates {
            let path = message.path.as_str();
            let target = self.ingest.target(path).map_err(Unplaced::Missing)?;
            match self.retained.stage(message, transaction) {
                Ok(one) => staged.push((message, one)),
                Err(error) => health.alarm("certificates", &format!("{path}: {error}")),
            }
            message.with_record(target.key.as_deref(), |record| {
                transaction.append_record(&target.partition, record);
            });
        }
        for name in &pending.touched {
            self.keep(name, transaction);
        }
        for (at, cursor) in &pending.cursors {
            transaction.put(&self.feeds[*at].key(), &cursor.to_le_bytes());
        }
        Ok(staged)
    }

    /// Logs what happened and says what a person should know.
    fn tell(&mut self, pending: &Pending, asks: bool, health: &Health) {
        if pending.is_beyond_limit {
            health.alarm(
                "edge-nodes",
                &format!("more than {EDGES_MAX} edge nodes are there; the others are not followed"),
            );
        }
        for name in &pending.touched {
            let Some(edge) = self.edges.get_mut(name) else {
                continue;
            };
            let snapshot = edge.machine.snapshot();
            edge.devices = snapshot.map(|kept| kept.devices).unwrap_or_default();
            let (group, id) = name;
            for event in edge.machine.take_events() {
                match event {
                    Event::Born => tracing::info!(group, edge = id, "edge node born"),
                    Event::Died => tracing::info!(group, edge = id, "edge node gone"),
                    Event::Gap { missing } => {
                        tracing::warn!(group, edge = id, missing, "sequence numbers are missing");
                    }
                }
            }
            let faults = edge.machine.counts().faults();
            health.add_errors(faults.saturating_sub(edge.faults));
            edge.faults = faults;
            let alarm = format!("births {group}/{id}");
            if !edge.machine.wants_rebirth() {
                health.clear_alarm(&alarm);
            } else if !asks {
                health.alarm(
                    &alarm,
                    "messages or births are missing; ask the edge node for a rebirth, or set sparkplug.rebirth",
                );
            }
        }
        health.set_tags(
            self.edges
                .values()
                .map(|edge| edge.machine.metric_count() as u64)
                .sum(),
        );
    }

    /// The first offset of a feed that is needed again.
    fn held_from(&self, feed: &Feed) -> u64 {
        let index = feed.partition.index();
        let held = self.edges.values().filter(|edge| edge.partition == index);
        let held = held.filter_map(|edge| edge.machine.first_held_place());
        held.fold(feed.cursor, u64::min)
    }

    /// Finds the partitions of the topic, with their cursors. A topic that was
    /// made anew begins anew.
    fn find_feeds(&mut self) {
        let Some(topic) = self.storage.topic(defaults::SPARKPLUG_TOPIC) else {
            self.feeds.clear();
            return;
        };
        self.feeds.retain(|feed| feed.topic == topic.id());
        for index in self.feeds.len() as u32..topic.partition_count() {
            let Some(partition) = topic.partition(index) else {
                continue;
            };
            let mut feed = Feed {
                topic: topic.id(),
                cursor: partition.offsets().log_start,
                partition,
            };
            let kept = self.storage.get(&feed.key());
            let kept = kept.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
            feed.cursor = kept.unwrap_or(feed.cursor);
            feed.partition.hold(HOLD, Some(feed.cursor));
            self.feeds.push(feed);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for feed in &self.feeds {
            feed.partition.hold(HOLD, None);
        }
    }
}

impl Feed {
    fn key(&self) -> Vec<u8> {
        [CURSOR, &self.topic, &self.partition.index().to_be_bytes()].concat()
    }
}

fn certificate_path(topic: &str) -> String {
    format!("{RESERVED_PREFIX}certificates/{topic}")
}

/// The retained copy of a birth.
fn certificate(birth: &Message) -> Option<Message> {
    Some(Message {
        path: topic_name(&certificate_path(birth.path.as_str()))?,
        payload: birth.payload.clone(),
        qos: 1,
        retain: true,
        timestamp_ms: birth.timestamp_ms,
        properties: None,
    })
}
