//! Shared subscriptions (section 4.8.2).
//!
//! A group is named by its filter as clients write it, `$share/name/filter`. It
//! reads the log with a cursor of its own, like a session, and gives each
//! message to one of its connected members: [`allotment`] says to which,
//! [`reader`] is the task that reads. A group with persistent members lives on
//! without any connected one and across restarts: its cursor waits in the
//! log, and [`record`] is what is kept of it.
//!
//! What becomes of a message when a member leaves before it is acknowledged:
//! QoS 0 and 1 go to another member at once, as section 4.8.2 allows. QoS 2
//! stays with the member once it was sent: it is completed when the client
//! comes back and given to nobody else \[MQTT-4.8.2-4\] \[MQTT-4.8.2-5\].

mod allotment;
mod reader;
pub mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_mqtt::TopicFilter;
use forebay_storage::{Storage, Transaction};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::dispatch::{self, Dispatch, Grant, QUEUE_LEN_MAX, SubscriberId, Subscription};
use super::feeds::{FeedId, FeedKey};
use super::sessions::record::{Changes, PlaceRecord};
use super::stats::Stats;
use allotment::Allotment;
use reader::Reader;
use record::GroupRecord;

pub use allotment::{Member, MemberGrant};

/// Most groups of a node. Each that has connected members is a task and a
/// reader of the log.
const GROUPS_MAX: usize = 1024;

/// The first subscriber number of groups; sessions count from 1.
const FIRST_NUMBER: SubscriberId = 1 << 63;

/// How long groups get to write down where they are when the server stops.
const STOP_MAX: Duration = Duration::from_secs(1);

/// Says that there are as many groups as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node has {GROUPS_MAX} shared subscriptions, the most it serves")]
pub struct TooManyGroups;

/// All groups of a node.
pub struct Shares {
    storage: Storage,
    dispatch: Arc<Dispatch>,
    stats: Arc<Stats>,
    table: Mutex<Table>,
    readers: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Table {
    groups: BTreeMap<TopicFilter, Entry>,
    last_number: u32,
}

#[derive(Default)]
struct Entry {
    /// Clients whose stored session is a member, connected or not.
    persistent: BTreeSet<Arc<str>>,
    /// While members are connected.
    active: Option<Arc<Group>>,
    /// Where it goes on while none is.
    dormant: Option<GroupRecord>,
}

/// A group with connected members.
pub struct Group {
    /// The filter as clients write it.
    pub filter: TopicFilter,
    /// Unique within the process and above 0.
    pub number: u32,
    inner: TopicFilter,
    subscriber: SubscriberId,
    allotment: Mutex<Allotment>,
    changed: Notify,
    /// Whether the state holds its record, which is then kept up to date.
    recorded: AtomicBool,
}

impl Shares {
    /// No groups yet: [`Shares::restore_member`], then
    /// [`Shares::restore_groups`].
    pub fn new(storage: Storage, dispatch: Arc<Dispatch>, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            storage,
            dispatch,
            stats,
            table: Mutex::default(),
            readers: Mutex::default(),
        })
    }

    /// Takes note of a stored session's shared subscription.
    pub fn restore_member(&self, filter: &str, client: &Arc<str>) {
        if let Ok(filter) = TopicFilter::try_from(filter) {
            let mut table = self.table.lock();
            let entry = table.groups.entry(filter).or_default();
            entry.persistent.insert(Arc::clone(client));
        }
    }

    /// Reads where the groups of stored sessions are, and removes what is kept
    /// of other groups. Blocks on the state.
    pub fn restore_groups(&self) {
        let mut table = self.table.lock();
        let mut orphaned = Transaction::new();
        let mut found = false;
        for (filter, record) in record::load_all(&self.storage) {
            match table.groups.get_mut(&filter) {
                Some(entry) => entry.dormant = Some(record),
                None => {
                    record::delete(&filter, &record, &mut orphaned);
                    found = true;
                }
            }
        }
        if found && let Err(error) = self.storage.commit(orphaned) {
            tracing::debug!(%error, "records of ended groups not removed, next time");
        }
    }

    /// Makes a connected client a member, or changes what it asks for.
    ///
    /// # Errors
    /// When the group is new and there are too many.
    pub fn join(
        self: &Arc<Self>,
        filter: &TopicFilter,
        client: &Arc<str>,
        is_persistent: bool,
        grant: MemberGrant,
        member: &Arc<Member>,
    ) -> Result<Arc<Group>, TooManyGroups> {
        let mut table = self.table.lock();
        let table = &mut *table;
        if table.groups.len() >= GROUPS_MAX && !table.groups.contains_key(filter) {
            return Err(TooManyGroups);
        }
        let entry = table.groups.entry(filter.clone()).or_default();
        if is_persistent {
            entry.persistent.insert(Arc::clone(client));
        }
        let group = match &entry.active {
            Some(group) => Arc::clone(group),
            None => {
                table.last_number = table.last_number.checked_add(1).unwrap_or(1);
                let dormant = entry.dormant.take();
                let group = self.activate(filter, table.last_number, dormant);
                entry.active = Some(Arc::clone(&group));
                group
            }
        };
        group.allotment.lock().join(Arc::clone(member), grant);
        group.changed.notify_one();
        Ok(group)
    }

    fn activate(
        self: &Arc<Self>,
        filter: &TopicFilter,
        number: u32,
        dormant: Option<GroupRecord>,
    ) -> Arc<Group> {
        let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let inner = record::inner(filter);
        let group = Arc::new(Group {
            filter: filter.clone(),
            number,
            inner: inner.clone(),
            subscriber: FIRST_NUMBER + SubscriberId::from(number),
            allotment: Mutex::new(Allotment::new(queue)),
            changed: Notify::new(),
            recorded: AtomicBool::new(dormant.is_some()),
        });
        let subscription = Subscription {
            filter: inner,
            grant: Grant {
                subscriber: group.subscriber,
                qos: 2,
                identifier: None,
                retain_as_published: true,
                no_local: false,
            },
        };
        let wake = Arc::<Notify>::default();
        let mut cursors = HashMap::new();
        let mut known = Vec::new();
        if let Some(record) = &dormant {
            let places = record.cursors.iter();
            cursors.extend(places.filter_map(|place| Some((place.key()?, place.offset))));
            known.push(subscription.clone());
        }
        let reads = dispatch::Reader {
            client: Arc::default(),
            queue: sender,
            live: None,
            wake: Arc::clone(&wake),
        };
        let id = group.subscriber;
        self.dispatch.attach(id, reads, known, &cursors);
        if dormant.is_none() {
            self.dispatch.subscribe(id, subscription);
        }
        let reader = Reader::new(Arc::clone(self), Arc::clone(&group), wake, dormant);
        let mut readers = self.readers.lock();
        while readers.try_join_next().is_some() {}
        readers.spawn(reader.run());
        group
    }

    /// Ends a client's membership for good.
    pub fn leave(&self, filter: &TopicFilter, client: &str, member: u64) {
        let mut table = self.table.lock();
        let Some(entry) = table.groups.get_mut(filter) else {
            return;
        };
        if let Some(group) = &entry.active {
            group.allotment.lock().retire(member);
            group.changed.notify_one();
        }
        self.end_membership(filter, entry, client);
        if entry.active.is_none() && entry.persistent.is_empty() {
            table.groups.remove(filter);
        }
    }

    /// Ends all memberships of a stored session that ended.
    pub fn forget(&self, client: &str) {
        let mut table = self.table.lock();
        table.groups.retain(|filter, entry| {
            self.end_membership(filter, entry, client);
            entry.active.is_some() || !entry.persistent.is_empty()
        });
    }

    /// The last persistent member takes the group's record with it.
    fn end_membership(&self, filter: &TopicFilter, entry: &mut Entry, client: &str) {
        if !entry.persistent.remove(client) || !entry.persistent.is_empty() {
            return;
        }
        let mut transaction = Transaction::new();
        let record = entry.dormant.take().unwrap_or_default();
        record::delete(filter, &record, &mut transaction);
        if let Some(group) = &entry.active {
            group.recorded.store(false, Ordering::Release);
            let taken = group.allotment.lock().forget_taken();
            for key in taken {
                transaction.delete(&key);
            }
        }
        if let Err(error) = self.storage.commit(transaction) {
            // What stays behind is removed at the next start.
            tracing::debug!(%error, "record of an ended group not removed");
        }
    }

    /// Waits until the groups, whose members have left, are written down.
    pub async fn stop(&self) {
        let mut readers = std::mem::take(&mut *self.readers.lock());
        let stopped = async { while readers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, stopped).await.is_err() {
            tracing::warn!("some shared subscriptions were not written, messages repeat");
        }
    }
}

impl Group {
    /// The group as it is to be written down. Nothing behind it is lost when
    /// the process ends: what is below its cursors is listed or finished.
    fn record(&self, dispatch: &Dispatch) -> GroupRecord {
        // Positions first, then the queue: a message below a position is in
        // the queue by then.
        let places = dispatch.cursors(self.subscriber);
        let mut allotment = self.allotment.lock();
        allotment.drain_queue();
        let cursors = places.into_iter().map(|(feed, key, cursor)| {
            let offset = allotment.first_read(feed).map_or(cursor, |f| f.min(cursor));
            PlaceRecord::new(&key, offset)
        });
        let cursors = cursors.collect();
        let unfinished = allotment.unfinished();
        let place =
            |(feed, offset): (FeedId, u64)| PlaceRecord::new(&dispatch.feed(feed).key, offset);
        GroupRecord {
            cursors,
            unfinished: unfinished.into_iter().map(place).collect(),
            taken: Vec::new(),
        }
    }

    /// Adds the group's record to the changes that make a persistent member's
    /// subscription durable; when they are committed call
    /// [`Group::is_now_recorded`].
    pub fn stage(&self, dispatch: &Dispatch, changes: &mut Changes) {
        if !self.recorded.load(Ordering::Acquire) {
            changes.put(record::group_key(&self.filter), &self.record(dispatch));
        }
    }

    /// From now on the record is kept up to date.
    pub fn is_now_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// The state key which says that a QoS 2 message belongs to its member
    /// now; `None` for a group that does not survive a crash anyway.
    pub fn take(&self, feed: FeedId, key: &FeedKey, offset: u64) -> Option<Vec<u8>> {
        if !self.recorded.load(Ordering::Acquire) {
            return None;
        }
        let state_key = record::taken_key(&self.filter, key, offset);
        self.allotment.lock().take(feed, offset, state_key.clone());
        Some(state_key)
    }

    /// A member is done with a message.
    pub fn finish(&self, feed: FeedId, offset: u64) {
        self.allotment.lock().finish(feed, offset);
        self.changed.notify_one();
    }

    /// A member has room again.
    pub fn notify(&self) {
        self.changed.notify_one();
    }

    /// A member's connection ended. `kept` are the QoS 2 messages that were
    /// sent to it; the others go to the other members.
    pub fn depart(&self, member: u64, kept: &[(FeedId, u64)]) {
        self.allotment.lock().depart(member, kept);
        self.changed.notify_one();
    }
}
