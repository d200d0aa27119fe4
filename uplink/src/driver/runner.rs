//! The loop that owns the links.

mod connecting;
mod inbox;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use forebay_storage::{Partition, Storage, Ticket, Transaction};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep_until;

use self::connecting::{Cluster, Established, Opened};
use super::connection::{ANSWER_TIMEOUT, ConnectionError, Wire};
use super::handshake::Prepared;
use super::report::Meter;
use super::session::{Session, SessionError};
use super::source::{self, Found, SourceError};
use super::{HOLD, UplinkConfig};
use crate::backoff::Backoff;
use crate::link::{Effect, Link, LinkConfig, Send};
use crate::planner::Cut;
use crate::rules::priority_of;
use crate::schedule::{Schedule, TokenBucket};
use crate::state::{self, PartitionState};
use crate::status::UplinkStatus;

/// A source topic and a partition of it.
pub type Key = (String, u32);

/// Reads under way at once. Two keep one core busy with compression while the
/// disk serves the other; four cover partitions with small batches.
const MAX_READS: usize = 4;

/// Results of reads that wait for the loop. A thread with one more waits, and
/// holds its batch meanwhile: 64 of 1 MiB is what a small gateway can spare.
const MAX_EVENTS: usize = 64;

/// Responses that wait for the loop; the socket is not read beyond them.
const MAX_RESPONSES: usize = 64;

/// Pause after a read or a commit that failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often topics are looked up and the status is renewed.
const TICK: Duration = Duration::from_secs(1);

/// Shortest time between two renewals of the status, so that a busy link does
/// not spend its time on it.
const STATUS_PAUSE: Duration = Duration::from_millis(100);

/// A question about a partition, with its topic at the destination: for the
/// tail (true) or for a producer id.
type Ask = (Key, String, bool);

/// One partition.
pub struct Entry {
    pub partition: Partition,
    pub topic_id: [u8; 16],
    pub link: Link<Bytes>,
    /// Topic name at the destination.
    pub target: String,
    /// Node that leads it and that it is connected to.
    pub node: Option<i32>,
    read_after: Option<Instant>,
}

/// What blocking threads and connection attempts bring back.
enum Event {
    Read(Key, u64, Result<Found, SourceError>),
    Reread(Key, u64, u64, Result<Option<Bytes>, SourceError>),
    Lineage(Key, u64, Result<Option<u32>, SourceError>),
    Established(Box<Result<Established, ConnectionError>>),
    Prepared(u64, Result<Prepared, ConnectionError>),
    Opened(u64, i32, Box<Result<Opened, ConnectionError>>),
}

/// A topic that the destination does not take.
pub struct Refused {
    /// Its words.
    pub words: String,
    backoff: Backoff,
    retry_at: Instant,
}

/// Owns the links and everything they need.
pub struct Runner {
    storage: Storage,
    config: UplinkConfig,
    pub entries: BTreeMap<Key, Entry>,
    schedule: Schedule<Key>,
    bucket: Option<TokenBucket>,
    cluster: Option<Cluster>,
    sessions: BTreeMap<i32, Session>,
    generation: u64,
    establishing: bool,
    preparing: bool,
    /// By name at the destination.
    pub refused: BTreeMap<String, Refused>,
    retry_at: Instant,
    backoff: Backoff,
    next_address: usize,
    reads: usize,
    /// States that no commit took yet.
    unpersisted: Vec<(Key, u64, Vec<u8>)>,
    /// Commits under way, oldest first.
    persisting: VecDeque<(Ticket, Vec<(Key, u64)>)>,
    events: mpsc::Sender<Event>,
    wire: mpsc::Sender<Wire>,
    inbox: Option<(mpsc::Receiver<Event>, mpsc::Receiver<Wire>)>,
    committed: Arc<Notify>,
    status: Arc<Mutex<UplinkStatus>>,
    meter: Meter,
    pub connected_since: Option<SystemTime>,
    pub last_error: Option<String>,
    rng: fastrand::Rng,
}

impl Runner {
    pub fn new(storage: Storage, config: UplinkConfig, status: Arc<Mutex<UplinkStatus>>) -> Self {
        let now = Instant::now();
        let (events, event_inbox) = mpsc::channel(MAX_EVENTS);
        let (wire, wire_inbox) = mpsc::channel(MAX_RESPONSES);
        Runner {
            bucket: config.max_rate.map(|rate| TokenBucket::new(rate, now)),
            storage,
            config,
            entries: BTreeMap::new(),
            schedule: Schedule::default(),
            cluster: None,
            sessions: BTreeMap::new(),
            generation: 0,
            establishing: false,
            preparing: false,
            refused: BTreeMap::new(),
            retry_at: now,
            backoff: Backoff::default(),
            next_address: 0,
            reads: 0,
            unpersisted: Vec::new(),
            persisting: VecDeque::new(),
            events,
            wire,
            inbox: Some((event_inbox, wire_inbox)),
            committed: Arc::default(),
            status,
            meter: Meter::new(),
            connected_since: None,
            last_error: None,
            rng: fastrand::Rng::new(),
        }
    }

    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let Some((mut events, mut wire)) = self.inbox.take() else {
            return;
        };
        let committed = Arc::clone(&self.committed);
        let wake = Arc::clone(&committed);
        self.storage.on_commit(Arc::new(move |_| wake.notify_one()));
        let mut tick_at = Instant::now();
        let mut status_at = tick_at;
        while !*shutdown.borrow() {
            let now = Instant::now();
            if now >= tick_at {
                tick_at = now + TICK;
                self.tick(now);
            }
            self.work(now);
            if now >= status_at {
                status_at = now + STATUS_PAUSE;
                self.publish_status();
            }
            let deadline = self.deadline().map_or(tick_at, |at| at.min(tick_at));
            tokio::select! {
                biased;
                changed = shutdown.changed() => if changed.is_err() { break },
                Some(wire) = wire.recv() => self.handle_wire(Instant::now(), wire),
                Some(event) = events.recv() => self.handle_event(Instant::now(), event),
                () = committed.notified() => {}
                () = sleep_until(deadline.into()) => {}
            }
            // What arrived meanwhile is taken in one go, so that one turn of
            // effects serves it; the links bound how much that is.
            while let Ok(wire) = wire.try_recv() {
                self.handle_wire(Instant::now(), wire);
            }
            while let Ok(event) = events.try_recv() {
                self.handle_event(Instant::now(), event);
            }
        }
        self.leave_cluster(Instant::now(), "the uplink is shutting down".into());
        self.publish_status();
    }

    fn tick(&mut self, now: Instant) {
        self.find_topics();
        self.meter.sample(now, &self.entries);
        let hangs = |session: &Session| {
            let since = session.waiting_since();
            since.is_some_and(|since| now.duration_since(since) > ANSWER_TIMEOUT)
        };
        let hanging = self.sessions.iter().filter(|(_, session)| hangs(session));
        for node in hanging.map(|(node, _)| *node).collect::<Vec<_>>() {
            let seconds = ANSWER_TIMEOUT.as_secs();
            self.disconnect(now, node, format!("no answer within {seconds} s"));
        }
    }

    /// Effects first, then reads, until there is nothing more to do.
    fn work(&mut self, now: Instant) {
        self.connect(now);
        loop {
            let released = self.release_durable();
            let executed = self.execute(now);
            if !released && !executed {
                break;
            }
        }
        self.start_reads(now);
    }

    fn find_topics(&mut self) {
        let mut present = std::collections::BTreeSet::new();
        for topic in self.storage.topics() {
            let Some(priority) = priority_of(&self.config.topics, topic.name()) else {
                continue;
            };
            for index in 0..topic.partition_count() {
                let key = (topic.name().to_owned(), index);
                let same = |entry: &Entry| entry.topic_id == topic.id();
                if !self.entries.get(&key).is_some_and(same) {
                    let Some(partition) = topic.partition(index) else {
                        continue;
                    };
                    let entry = self.load(&key, topic.id(), partition);
                    self.entries.insert(key.clone(), entry);
                }
                self.schedule.insert(key.clone(), priority);
                present.insert(key);
            }
        }
        let gone = self.entries.keys().filter(|key| !present.contains(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            self.entries.remove(&key);
            self.schedule.remove(&key);
        }
    }

    fn load(&mut self, key: &Key, topic_id: [u8; 16], partition: Partition) -> Entry {
        let stored = self.storage.get(&self.state_key(key));
        let stored = stored.and_then(|bytes| match PartitionState::decode(&bytes) {
            Ok(state) => Some(state),
            Err(error) => {
                // The destination's tail is compared with the log, so the
                // cursor can be found again.
                tracing::error!(topic = key.0, partition = key.1, %error, "cursor is unreadable");
                self.last_error = Some(error.to_string());
                None
            }
        });
        let config = LinkConfig {
            incarnation: self.config.incarnation,
            source_topic_id: topic_id,
            batch_bytes: self.config.batch_bytes,
        };
        Entry {
            partition,
            topic_id,
            link: Link::new(config, stored, self.rng.fork()),
            target: format!("{}.{}", self.config.site, key.0),
            node: None,
            read_after: None,
        }
    }

    fn state_key(&self, key: &Key) -> Vec<u8> {
        state::key(&self.config.site, &key.0, key.1)
    }

    /// Tells the links whose states are durable. Returns whether any is.
    fn release_durable(&mut self) -> bool {
        let mut released = false;
        loop {
            let storage = &self.storage;
            let durable = |commit: &mut (Ticket, _)| storage.is_durable(commit.0);
            let Some((_, states)) = self.persisting.pop_front_if(durable) else {
                break;
            };
            for (key, version) in states {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.link.handle_persisted(version);
                }
            }
            released = true;
        }
        released
    }

    /// Executes the effects of all links. Returns whether there were any.
    fn execute(&mut self, now: Instant) -> bool {
        let mut any = false;
        let mut sends = Vec::new();
        let mut asks: Vec<Ask> = Vec::new();
        let mut reads = Vec::new();
        for (key, entry) in &mut self.entries {
            let due = entry.link.timeout().is_some_and(|at| at <= now);
            if due {
                entry.link.handle_timeout(now);
            }
            while let Some(effect) = entry.link.next_effect() {
                any = true;
                match effect {
                    Effect::FetchTail => asks.push((key.clone(), entry.target.clone(), true)),
                    Effect::InitProducerId => {
                        asks.push((key.clone(), entry.target.clone(), false));
                    }
                    Effect::PersistPlan { version, bytes } => {
                        self.unpersisted.push((key.clone(), version, bytes));
                    }
                    Effect::SendProduce(send) => {
                        sends.push((key.clone(), entry.target.clone(), send));
                    }
                    Effect::ReadLineage { offset } => reads.push((key.clone(), offset, None)),
                    Effect::ReadSource { from, end } => reads.push((key.clone(), from, Some(end))),
                    Effect::Hold { offset } => entry.partition.hold(HOLD, Some(offset)),
                    Effect::Stop { explanation } => {
                        tracing::error!(topic = key.0, partition = key.1, explanation, "stopped");
                    }
                }
            }
        }
        for (key, offset, end) in reads {
            self.read_again(key, offset, end);
        }
        self.persist();
        self.ask(now, asks, sends);
        any
    }

    /// Hands the questions and batches to the sessions of their leaders.
    fn ask(&mut self, now: Instant, asks: Vec<Ask>, sends: Vec<(Key, String, Box<Send<Bytes>>)>) {
        let mut failed: Vec<(i32, SessionError)> = Vec::new();
        let node_of = |entries: &BTreeMap<Key, Entry>, key: &Key| entries.get(key)?.node;
        for (key, target, tail) in asks {
            // Without a session the link heard of it in `disconnect`.
            let Some(node) = node_of(&self.entries, &key) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(&node) else {
                continue;
            };
            let asked = match tail {
                true => session.fetch_tail(now, key, target),
                false => session.init_producer(now, key),
            };
            failed.extend(asked.err().map(|error| (node, error)));
        }
        let mut batches: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for send in sends {
            if let Some(node) = node_of(&self.entries, &send.0) {
                batches.entry(node).or_default().push(send);
            }
        }
        for (node, sends) in batches {
            let Some(session) = self.sessions.get_mut(&node) else {
                continue;
            };
            if let Some(bucket) = &mut self.bucket {
                let bytes = sends.iter().map(|(_, _, send)| send.payload.len() as u64);
                bucket.take(bytes.sum());
            }
            let produced = session.produce(now, sends);
            failed.extend(produced.err().map(|error| (node, error)));
        }
        for (node, error) in failed {
            self.disconnect(now, node, error.to_string());
        }
    }

    /// One commit for the states of all links that changed.
    fn persist(&mut self) {
        if self.unpersisted.is_empty() {
            return;
        }
        let mut transaction = Transaction::new();
        for (key, _, bytes) in &self.unpersisted {
            transaction.put(&self.state_key(key), bytes);
        }
        match self.storage.commit(transaction) {
            Ok(committed) => {
                let states = self.unpersisted.drain(..);
                let states = states.map(|(key, version, _)| (key, version)).collect();
                self.persisting.push_back((committed.ticket, states));
            }
            // Tried again with the next wake-up, a tick away at most.
            Err(error) => self.last_error = Some(format!("cursor cannot be stored: {error}")),
        }
    }

    fn read_again(&self, key: Key, from: u64, end: Option<u64>) {
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        let partition = entry.partition.clone();
        let (bytes, compression) = (self.config.batch_bytes, self.config.compression);
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let event = match end {
                Some(end) => {
                    let same = source::same_batch(&partition, from, end, bytes, compression);
                    Event::Reread(key, from, end, same)
                }
                None => Event::Lineage(key, from, source::lineage(&partition, from)),
            };
            let _ = events.blocking_send(event);
        });
    }

    fn start_reads(&mut self, now: Instant) {
        for (key, entry) in &self.entries {
            let log_end = entry.partition.offsets().high_watermark;
            let paused = entry.read_after.is_some_and(|at| now < at);
            let wants = !paused && entry.link.wants_source(log_end).is_some();
            self.schedule.set_wants(key, wants);
        }
        while self.reads < MAX_READS {
            if self
                .bucket
                .as_mut()
                .is_some_and(|bucket| !bucket.allows(now))
            {
                return;
            }
            let Some(key) = self.schedule.next() else {
                return;
            };
            self.schedule.set_wants(&key, false);
            let Some(entry) = self.entries.get_mut(&key) else {
                return;
            };
            let log_end = entry.partition.offsets().high_watermark;
            let Some(request) = entry.link.wants_source(log_end) else {
                continue;
            };
            entry.link.begin_read();
            self.reads += 1;
            let partition = entry.partition.clone();
            let compression = self.config.compression;
            let events = self.events.clone();
            let cut = Cut {
                from: request.from,
                end: None,
                max_bytes: request.max_bytes,
                max_records: request.max_records,
            };
            tokio::task::spawn_blocking(move || {
                let read = source::next_batch(&partition, cut, compression);
                let _ = events.blocking_send(Event::Read(key, cut.from, read));
            });
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let links = self.entries.values().filter_map(|e| e.link.timeout());
        let rests = self.entries.values().filter_map(|e| e.read_after);
        let now = Instant::now();
        let rests = rests.filter(|at| *at > now);
        let bucket = self.bucket.as_ref().and_then(TokenBucket::ready_at);
        let connecting = self.is_connecting();
        let retry = (connecting && !self.entries.is_empty()).then_some(self.retry_at);
        links.chain(rests).chain(bucket).chain(retry).min()
    }

    fn publish_status(&mut self) {
        let status = self.meter.status(self, &self.storage.stats());
        *self.status.lock() = status;
    }

    /// Bytes that retention lets the log grow to.
    pub fn retention_bytes(&self) -> Option<u64> {
        self.config.retention_bytes
    }

    /// Bytes of the disk that the log leaves free.
    pub fn keep_free(&self) -> u64 {
        self.config.keep_free
    }
}

/// An error with its causes on one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    words
}
