//! Hands newly durable messages to connected sessions.
//!
//! One thread reads each partition of the namespace once per commit, matches
//! the subscriptions and puts every message into the bounded queue of each
//! session that wants it. A session whose queue is full falls *behind* on that
//! partition: from that offset on it reads the log itself, at its own pace, and
//! rejoins when it has reached the position of this thread. So a slow reader
//! costs neither memory nor anybody else's time.
//!
//! Positions only cover what is durable, because partitions are read up to
//! their high watermark.

mod folding;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_mqtt::{SubscriptionTree, TopicFilter};
use forebay_storage::{ReadError, Storage};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, mpsc};

pub use folding::{Delivery, Folded, Grant};

use super::feeds::{Feed, FeedId, FeedKey, Feeds, detach, read_page};
use super::live::LiveQueue;
use super::message::Message;
use crate::ingest::routes::Routes;

/// Messages that wait for one connected session: enough to cover a commit of a
/// busy node, little enough that a stuck reader pins kilobytes.
pub const QUEUE_LEN_MAX: usize = 256;

/// Bytes read from a partition in one step.
const READ_LEN: usize = 256 << 10;

/// The feed of a message that is in no log: a retained one or one of `$SYS`.
pub const UNLOGGED_FEED: FeedId = FeedId(u32::MAX);

/// How often new topics are looked for after commits. A message to a topic that Kafka
/// clients created just before waits this long at most.
const REFRESH_INTERVAL: Duration = Duration::from_millis(50);

/// Names a connected session.
pub type SubscriberId = u64;

/// Where a session takes its messages from.
pub struct Reader {
    /// The client identifier; empty for a group.
    pub client: Arc<str>,
    /// Takes messages of the log.
    pub queue: mpsc::Sender<Delivery>,
    /// Takes messages of memory topics. `None` for a group, which takes
    /// everything from its queue.
    pub live: Option<Arc<LiveQueue>>,
    /// Notified when the session has to read by itself.
    pub wake: Arc<Notify>,
}

struct Subscriber {
    reader: Reader,
    filters: BTreeMap<TopicFilter, Grant>,
    /// The partitions that its filters reach.
    places: BTreeMap<FeedId, Place>,
}

/// Where a session stands in one partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Nothing below is handed out.
    floor: u64,
    /// The session reads by itself from here.
    behind: Option<u64>,
}

/// A subscription as it is handed to [`Dispatch`].
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The filter.
    pub filter: TopicFilter,
    /// What it asks for.
    pub grant: Grant,
}

#[derive(Default)]
struct State {
    feeds: Feeds,
    /// Per feed: everything below was handed out or is in `behind`.
    positions: Vec<u64>,
    /// Per feed: how many subscriptions may find something there.
    interest: Vec<usize>,
    tree: SubscriptionTree<Grant>,
    subscribers: HashMap<SubscriberId, Subscriber>,
    /// Messages of memory topics so far; tells them apart.
    live_count: u64,
}

struct Signal {
    committed: Mutex<bool>,
    changed: Condvar,
    /// Whether anybody subscribes. Without it a commit does not wake the
    /// thread: a node that only takes readings in would pay for two context
    /// switches per commit.
    wanted: AtomicBool,
    stop: AtomicBool,
}

/// Handle to the dispatching thread. Dropping the last one does not stop it;
/// [`Dispatch::stop`] does.
pub struct Dispatch {
    storage: Storage,
    routes: Arc<Routes>,
    state: Mutex<State>,
    signal: Arc<Signal>,
}

impl Dispatch {
    /// Starts the thread. What is in the log already is not handed out.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(storage: Storage, routes: Arc<Routes>) -> std::io::Result<Arc<Self>> {
        let signal = Arc::new(Signal {
            committed: Mutex::new(false),
            changed: Condvar::new(),
            wanted: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut state = State::default();
        state.refresh(&storage, &routes);
        for id in state.feeds.ids() {
            let end = state.feeds.feed(id).partition.offsets().high_watermark;
            state.positions[id.0 as usize] = end;
        }
        let dispatch = Arc::new(Self {
            storage,
            routes,
            state: Mutex::new(state),
            signal: Arc::clone(&signal),
        });
        dispatch.storage.on_commit(Arc::new(move |_| {
            if signal.wanted.load(Ordering::SeqCst) {
                *signal.committed.lock() = true;
                signal.changed.notify_one();
            }
        }));
        let worker = Arc::clone(&dispatch);
        std::thread::Builder::new()
            .name("mqtt-dispatch".to_owned())
            .spawn(move || worker.run())?;
        Ok(dispatch)
    }

    /// Ends the thread soon.
    pub fn stop(&self) {
        self.signal.stop.store(true, Ordering::Release);
        *self.signal.committed.lock() = true;
        self.signal.changed.notify_one();
    }

    /// Adds a connected session. It reads on at `cursors`; a partition that
    /// its filters reach and that has no cursor appeared while it was away and
    /// is read from its start.
    pub fn attach(
        &self,
        id: SubscriberId,
        reader: Reader,
        subscriptions: Vec<Subscription>,
        cursors: &HashMap<FeedKey, u64>,
    ) {
        let mut state = self.state.lock();
        self.want(true);
        state.refresh(&self.storage, &self.routes);
        let subscriber = Subscriber {
            reader,
            filters: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        state.subscribers.insert(id, subscriber);
        for subscription in subscriptions {
            state.subscribe(&self.routes, id, subscription, |feed| {
                let cursor = cursors.get(&feed.key).copied();
                cursor.unwrap_or_else(|| feed.partition.offsets().log_start)
            });
        }
        self.want(!state.tree.is_empty());
    }

    /// Removes a session and its subscriptions.
    pub fn detach(&self, id: SubscriberId) {
        let mut state = self.state.lock();
        let filters: Vec<TopicFilter> = match state.subscribers.get(&id) {
            Some(subscriber) => subscriber.filters.keys().cloned().collect(),
            None => return,
        };
        for filter in filters {
            state.unsubscribe(&self.routes, id, &filter);
        }
        state.subscribers.remove(&id);
        self.want(!state.tree.is_empty());
    }

    /// Adds or replaces a subscription. It begins at the high watermark of
    /// every partition that the session does not read yet. Returned are the
    /// partitions where the session is behind, with the offset from which this
    /// subscription counts there.
    pub fn subscribe(&self, id: SubscriberId, subscription: Subscription) -> Vec<(FeedId, u64)> {
        let mut state = self.state.lock();
        self.want(true);
        state.refresh(&self.storage, &self.routes);
        state.subscribe(&self.routes, id, subscription, |feed| {
            feed.partition.offsets().high_watermark
        })
    }

    /// Removes a subscription.
    pub fn unsubscribe(&self, id: SubscriberId, filter: &TopicFilter) {
        let mut state = self.state.lock();
        state.unsubscribe(&self.routes, id, filter);
        self.want(!state.tree.is_empty());
    }

    /// Says whether commits wake the thread. The state is locked by the caller,
    /// and it is said before a high watermark is read: what is committed behind
    /// that is seen by the thread then.
    fn want(&self, wanted: bool) {
        self.signal.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Where the session would read on in each partition of its filters, if it
    /// had handled all that is in its queue by the end of this call.
    pub fn cursors(&self, id: SubscriberId) -> Vec<(FeedId, FeedKey, u64)> {
        let state = self.state.lock();
        let Some(subscriber) = state.subscribers.get(&id) else {
            return Vec::new();
        };
        let cursor = |(feed, place): (&FeedId, &Place)| {
            let position = state.positions[feed.0 as usize];
            let offset = place.behind.unwrap_or(position.max(place.floor));
            (*feed, state.feeds.feed(*feed).key, offset)
        };
        subscriber.places.iter().map(cursor).collect()
    }

    /// Where the session has to read by itself.
    pub fn behind(&self, id: SubscriberId) -> Vec<(FeedId, u64)> {
        let state = self.state.lock();
        let Some(subscriber) = state.subscribers.get(&id) else {
            return Vec::new();
        };
        let behind = |(feed, place): (&FeedId, &Place)| Some((*feed, place.behind?));
        subscriber.places.iter().filter_map(behind).collect()
    }

    /// Tells how far a session that is behind has read. True when it has caught
    /// up and gets what follows through its queue.
    pub fn advance(&self, id: SubscriberId, feed: FeedId, cursor: u64) -> bool {
        let mut state = self.state.lock();
        let position = state.positions[feed.0 as usize];
        let subscriber = state.subscribers.get_mut(&id);
        let Some(place) = subscriber.and_then(|s| s.places.get_mut(&feed)) else {
            return true;
        };
        place.floor = place.floor.max(cursor);
        place.behind = (cursor < position).then_some(cursor);
        place.behind.is_none()
    }

    /// The partition of a number.
    pub fn feed(&self, id: FeedId) -> Feed {
        self.state.lock().feeds.feed(id).clone()
    }

    /// The number of a partition by its lasting name; `None` when its topic is
    /// gone.
    pub fn find(&self, key: &FeedKey) -> Option<FeedId> {
        self.state.lock().feeds.find(key)
    }

    /// Hands a message that is in no log to the sessions that want it now. One
    /// whose queue is full misses it.
    pub fn broadcast(&self, message: &Message) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let shared = Arc::new(message.clone());
        for (id, folded) in state.matching(message) {
            if let Some(subscriber) = state.subscribers.get(&id) {
                let delivery = folded.delivery(UNLOGGED_FEED, 0, Arc::clone(&shared));
                let _ = subscriber.reader.queue.try_send(delivery);
            }
        }
    }

    /// Hands a message of a memory topic to the sessions that want it now, and
    /// returns how many messages were missed by one that does not keep up.
    pub fn publish_live(&self, message: &Message) -> u64 {
        let mut state = self.state.lock();
        let state = &mut *state;
        let found = state.matching(message);
        if found.is_empty() {
            return 0;
        }
        let shared = Arc::new(detach(message));
        state.live_count += 1;
        let mut missed = 0;
        for (id, folded) in found {
            let Some(subscriber) = state.subscribers.get(&id) else {
                continue;
            };
            let delivery = folded.delivery(UNLOGGED_FEED, state.live_count, Arc::clone(&shared));
            missed += match &subscriber.reader.live {
                Some(live) => live.push(delivery),
                None => u64::from(subscriber.reader.queue.try_send(delivery).is_err()),
            };
        }
        missed
    }

    /// Number of subscriptions of connected sessions.
    pub fn subscriptions(&self) -> usize {
        self.state.lock().tree.len()
    }

    fn run(&self) {
        let mut refreshed = Instant::now();
        // Whether there may be topics or messages that were not looked at.
        let mut is_stale = true;
        loop {
            {
                let mut committed = self.signal.committed.lock();
                while !*committed {
                    if !is_stale {
                        // Nothing appears without a commit.
                        self.signal.changed.wait(&mut committed);
                        continue;
                    }
                    let due = refreshed + REFRESH_INTERVAL;
                    if self
                        .signal
                        .changed
                        .wait_until(&mut committed, due)
                        .timed_out()
                    {
                        break;
                    }
                }
                is_stale |= *committed;
                *committed = false;
            }
            if self.signal.stop.load(Ordering::Acquire) {
                return;
            }
            if is_stale && refreshed.elapsed() >= REFRESH_INTERVAL {
                self.state.lock().refresh(&self.storage, &self.routes);
                refreshed = Instant::now();
                is_stale = false;
            }
            let due = self.state.lock().due();
            for (id, feed, position) in due {
                is_stale |= !self.hand_out(id, &feed, position);
            }
        }
    }

    /// Reads one partition up to its high watermark and hands it out. False
    /// when the disk refused.
    fn hand_out(&self, id: FeedId, feed: &Feed, mut position: u64) -> bool {
        while position < feed.partition.offsets().high_watermark {
            let page = match read_page(&feed.partition, position, READ_LEN) {
                Ok(page) => page,
                // A deleted topic has no more messages.
                Err(ReadError::Deleted) => return true,
                Err(error) => {
                    tracing::debug!(topic = feed.partition.topic_name(), %error, "not dispatched");
                    return false;
                }
            };
            if page.next_offset <= position {
                return true;
            }
            let mut state = self.state.lock();
            for (offset, message) in &page.messages {
                state.hand_out(id, *offset, message);
            }
            position = page.next_offset;
            state.positions[id.0 as usize] = position;
        }
        true
    }
}

impl State {
    fn refresh(&mut self, storage: &Storage, routes: &Routes) {
        for id in self.feeds.refresh(storage, routes) {
            let name = self.feeds.feed(id).partition.topic_name();
            let mut interest = 0;
            for subscriber in self.subscribers.values_mut() {
                let reaches = |f: &&TopicFilter| routes.topic_may_match(name, f.as_str());
                let reaching = subscriber.filters.keys().filter(reaches).count();
                if reaching > 0 {
                    let place = Place {
                        floor: 0,
                        behind: None,
                    };
                    subscriber.places.insert(id, place);
                }
                interest += reaching;
            }
            self.positions.push(0);
            self.interest.push(interest);
        }
    }

    /// The partitions to read. Those that nobody asks for are passed over.
    fn due(&mut self) -> Vec<(FeedId, Feed, u64)> {
        let mut due = Vec::new();
        for id in self.feeds.ids() {
            let index = id.0 as usize;
            let feed = self.feeds.feed(id);
            let end = feed.partition.offsets().high_watermark;
            if end <= self.positions[index] {
                continue;
            }
            if self.interest[index] == 0 {
                self.positions[index] = end;
            } else {
                due.push((id, feed.clone(), self.positions[index]));
            }
        }
        due
    }

    fn matching(&self, message: &Message) -> BTreeMap<SubscriberId, Folded> {
        let mut found: BTreeMap<SubscriberId, Folded> = BTreeMap::new();
        let subscribers = &self.subscribers;
        self.tree.for_each_match(&message.path, |grant| {
            let subscriber = subscribers.get(&grant.subscriber);
            if grant.no_local
                && subscriber.is_some_and(|s| !grant.admits(message, &s.reader.client))
            {
                return;
            }
            found
                .entry(grant.subscriber)
                .or_default()
                .add(grant, message);
        });
        found
    }

    fn hand_out(&mut self, feed: FeedId, offset: u64, message: &Message) {
        let found = self.matching(message);
        if found.is_empty() {
            return;
        }
        let shared = Arc::new(detach(message));
        for (id, folded) in found {
            let Some(subscriber) = self.subscribers.get_mut(&id) else {
                continue;
            };
            let Some(place) = subscriber.places.get_mut(&feed) else {
                continue;
            };
            if place.behind.is_some() || offset < place.floor {
                continue;
            }
            let delivery = folded.delivery(feed, offset, Arc::clone(&shared));
            if subscriber.reader.queue.try_send(delivery).is_err() {
                place.behind = Some(offset);
                subscriber.reader.wake.notify_one();
            }
        }
    }

    fn subscribe(
        &mut self,
        routes: &Routes,
        id: SubscriberId,
        subscription: Subscription,
        start: impl Fn(&Feed) -> u64,
    ) -> Vec<(FeedId, u64)> {
        let Subscription { filter, grant } = subscription;
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return Vec::new();
        };
        let mut starts = Vec::new();
        let known = subscriber.filters.insert(filter.clone(), grant);
        if let Some(known) = &known {
            self.tree.remove(&filter, known);
        }
        for feed in self.feeds.ids() {
            let log = self.feeds.feed(feed);
            if !routes.topic_may_match(log.partition.topic_name(), filter.as_str()) {
                continue;
            }
            let index = feed.0 as usize;
            if self.interest[index] == 0 {
                // Nobody cared, so nobody looked how far it is.
                let end = log.partition.offsets().high_watermark;
                self.positions[index] = end.max(self.positions[index]);
            }
            if known.is_none() {
                self.interest[index] += 1;
            }
            let position = self.positions[index];
            let place = subscriber.places.entry(feed).or_insert_with(|| {
                let floor = start(log);
                let behind = (floor < position).then_some(floor);
                Place { floor, behind }
            });
            let end = log.partition.offsets().high_watermark;
            if grant.no_local && position < end {
                // What is on its way to the subscribers may be its own: it
                // was published before there was a reason to say by whom.
                place.behind.get_or_insert(position.max(place.floor));
            }
            if place.behind.is_some() {
                starts.push((feed, end));
                subscriber.reader.wake.notify_one();
            }
        }
        self.tree.insert(&filter, grant);
        starts
    }

    fn unsubscribe(&mut self, routes: &Routes, id: SubscriberId, filter: &TopicFilter) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return;
        };
        let Some(grant) = subscriber.filters.remove(filter) else {
            return;
        };
        self.tree.remove(filter, &grant);
        for feed in self.feeds.ids() {
            let name = self.feeds.feed(feed).partition.topic_name();
            if !routes.topic_may_match(name, filter.as_str()) {
                continue;
            }
            self.interest[feed.0 as usize] -= 1;
            let reaches = |f: &TopicFilter| routes.topic_may_match(name, f.as_str());
            if !subscriber.filters.keys().any(reaches) {
                subscriber.places.remove(&feed);
            }
        }
    }
}
