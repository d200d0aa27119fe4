//! Who of a group gets which message.
//!
//! A message is in one of three places: *read* and waiting for a member with
//! room, *returned* by a member that left and waiting before all others, or
//! *out* at a member. Each member has as much room as its receive maximum
//! leaves, and the one with the least under way is served next, so the fast
//! ones get more and nobody waits for the slow ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::mqtt::dispatch::{Delivery, UNLOGGED_FEED};
use crate::mqtt::feeds::FeedId;

/// Messages read ahead of the members' room.
pub const READ_LEN_MAX: usize = 256;

/// A connected client as a member of groups, shared with its connection.
pub struct Member {
    /// Unique within the process: the number of its claim.
    pub id: u64,
    /// Messages that may be under way to it: its receive maximum, within the
    /// server's own bound.
    limit: usize,
    /// Messages in its queue.
    queued: AtomicUsize,
    /// Messages of QoS 1 and 2 that it has not acknowledged, of groups or not.
    inflight: AtomicUsize,
    /// Takes `limit` messages.
    queue: mpsc::Sender<Delivery>,
}

impl Member {
    /// A member whose messages arrive at the other end of `queue`.
    pub fn new(id: u64, limit: usize, queue: mpsc::Sender<Delivery>) -> Arc<Self> {
        Arc::new(Self {
            id,
            limit: limit.max(1),
            queued: AtomicUsize::new(0),
            inflight: AtomicUsize::new(0),
            queue,
        })
    }

    /// Says how many messages it has not acknowledged.
    pub fn set_inflight(&self, inflight: usize) {
        self.inflight.store(inflight, Ordering::Release);
    }

    /// A message left its queue.
    pub fn dequeued(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    fn load(&self) -> usize {
        self.queued.load(Ordering::Acquire) + self.inflight.load(Ordering::Acquire)
    }
}

/// What a member's subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberGrant {
    /// Highest quality of service.
    pub qos: u8,
    /// MQTT 5 subscription identifier.
    pub identifier: Option<u32>,
    /// Whether the publisher's retain flag is kept.
    pub retain_as_published: bool,
}

struct Seat {
    member: Arc<Member>,
    grant: MemberGrant,
    /// When it was served last.
    turn: u64,
    /// False when it unsubscribed and only finishes what it has.
    is_served: bool,
}

struct Out {
    member: u64,
    delivery: Delivery,
}

/// The messages and members of one group.
pub struct Allotment {
    queue: mpsc::Receiver<Delivery>,
    seats: BTreeMap<u64, Seat>,
    returned: VecDeque<Delivery>,
    read: VecDeque<Delivery>,
    /// Bounded by the members' limits.
    out: BTreeMap<(FeedId, u64), Out>,
    /// QoS 2 messages that are written down as taken.
    taken: HashMap<(FeedId, u64), Vec<u8>>,
    turns: u64,
    /// Messages finished since the last record.
    unwritten: usize,
}

impl Allotment {
    /// A group without members whose messages arrive in `queue`.
    pub fn new(queue: mpsc::Receiver<Delivery>) -> Self {
        Self {
            queue,
            seats: BTreeMap::new(),
            returned: VecDeque::new(),
            read: VecDeque::new(),
            out: BTreeMap::new(),
            taken: HashMap::new(),
            turns: 0,
            unwritten: 0,
        }
    }

    /// Adds a member or changes what it asks for.
    pub fn join(&mut self, member: Arc<Member>, grant: MemberGrant) {
        self.turns += 1;
        let turn = self.turns;
        let seat = Seat {
            grant,
            turn,
            is_served: true,
            member,
        };
        self.seats.insert(seat.member.id, seat);
    }

    /// Serves a member no longer; it finishes what it has \[MQTT-3.10.4-3\].
    pub fn retire(&mut self, member: u64) {
        if let Some(seat) = self.seats.get_mut(&member) {
            seat.is_served = false;
        }
    }

    /// Removes a member. What it has not finished waits for the others, but
    /// for the `kept` messages.
    pub fn depart(&mut self, member: u64, kept: &[(FeedId, u64)]) {
        self.seats.remove(&member);
        for place in kept {
            self.out.remove(place);
        }
        let left = |(_, out): &(&(FeedId, u64), &Out)| out.member == member;
        let places: Vec<_> = self
            .out
            .iter()
            .filter(left)
            .map(|(place, _)| *place)
            .collect();
        for (feed, offset) in places {
            self.give_back(feed, offset);
        }
        self.unwritten += 1;
    }

    /// A message waits for a member again.
    pub fn give_back(&mut self, feed: FeedId, offset: u64) {
        if let Some(out) = self.out.remove(&(feed, offset)) {
            // Ascending within its partition, in front of what was not out.
            let place = |d: &Delivery| (d.feed, d.offset);
            let at = self.returned.partition_point(|d| place(d) < (feed, offset));
            self.returned.insert(at, out.delivery);
        }
    }

    /// Adds messages that wait since before the group had members.
    pub fn restore(&mut self, delivery: Delivery) {
        self.returned.push_back(delivery);
    }

    /// Adds a message that was read.
    pub fn push(&mut self, delivery: Delivery) {
        self.read.push_back(delivery);
    }

    /// Moves the whole queue into the list.
    pub fn drain_queue(&mut self) {
        while let Ok(delivery) = self.queue.try_recv() {
            self.read.push_back(delivery);
        }
    }

    /// Ready when a message came through the queue. Nothing is taken while
    /// enough waits.
    pub fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read.len() >= READ_LEN_MAX {
            return Poll::Pending;
        }
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(delivery)) => {
                self.read.push_back(delivery);
                Poll::Ready(())
            }
            // The sender lives as long as the group is attached.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Gives out what members have room for.
    pub fn hand_out(&mut self, group: u32) {
        while !(self.returned.is_empty() && self.read.is_empty()) {
            let free = self
                .seats
                .values_mut()
                .filter(|seat| seat.is_served && seat.member.load() < seat.member.limit)
                .min_by_key(|seat| (seat.member.load(), seat.turn));
            let Some(seat) = free else { return };
            let next = self.returned.pop_front().or_else(|| self.read.pop_front());
            let Some(original) = next else { return };
            self.turns += 1;
            seat.turn = self.turns;
            let place = (original.feed, original.offset);
            let delivery = Delivery {
                group,
                qos: original.qos.min(seat.grant.qos),
                retain: original.message.retain && seat.grant.retain_as_published,
                identifiers: seat.grant.identifier.into_iter().collect(),
                ..original.clone()
            };
            seat.member.queued.fetch_add(1, Ordering::AcqRel);
            // A queue that is closed belongs to a connection that is ending: it
            // says so in a moment, and the message comes back. A full one was
            // filled by another group since its load was asked for.
            let sent = seat.member.queue.try_send(delivery);
            if let Err(mpsc::error::TrySendError::Full(_)) = sent {
                seat.member.dequeued();
                self.returned.push_front(original);
                return;
            }
            let out = Out {
                member: seat.member.id,
                delivery: original,
            };
            self.out.insert(place, out);
        }
    }

    /// A member has finished a message.
    pub fn finish(&mut self, feed: FeedId, offset: u64) {
        if self.out.remove(&(feed, offset)).is_some() {
            self.unwritten += 1;
        }
    }

    /// Remembers the state key of a QoS 2 message that was taken.
    pub fn take(&mut self, feed: FeedId, offset: u64, key: Vec<u8>) {
        self.taken.insert((feed, offset), key);
    }

    /// Keys of taken messages that are finished. They can go with the first
    /// record whose cursor has passed them.
    pub fn dispensable(&self) -> Vec<((FeedId, u64), Vec<u8>)> {
        let waiting: BTreeSet<_> = self.unfinished().into_iter().collect();
        let done = |(place, _): &(&(FeedId, u64), &Vec<u8>)| !waiting.contains(*place);
        let taken = self.taken.iter().filter(done);
        taken.map(|(place, key)| (*place, key.clone())).collect()
    }

    /// Forgets keys that were removed from the state.
    pub fn dispensed(&mut self, removed: &[((FeedId, u64), Vec<u8>)]) {
        for (place, _) in removed {
            self.taken.remove(place);
        }
    }

    /// Forgets and returns all keys.
    pub fn forget_taken(&mut self) -> Vec<Vec<u8>> {
        self.taken.drain().map(|(_, key)| key).collect()
    }

    /// The first message of a partition that was read and waits.
    pub fn first_read(&self, feed: FeedId) -> Option<u64> {
        let of_feed = self.read.iter().filter(|d| d.feed == feed);
        of_feed.map(|d| d.offset).min()
    }

    /// Messages of QoS 1 and 2 that are out or returned, and in the log.
    pub fn unfinished(&self) -> Vec<(FeedId, u64)> {
        let out = self.out.values().map(|out| &out.delivery);
        let kept = self.returned.iter().chain(out);
        let kept = kept.filter(|d| d.qos > 0 && d.feed != UNLOGGED_FEED);
        kept.map(|d| (d.feed, d.offset)).collect()
    }

    /// Whether nothing waits for a member.
    pub fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.read.is_empty()
    }

    /// Whether nobody is to be served.
    pub fn is_deserted(&self) -> bool {
        !self.seats.values().any(|seat| seat.is_served)
    }

    /// Messages that are written down as taken.
    pub fn taken(&self) -> Vec<(FeedId, u64)> {
        self.taken.keys().copied().collect()
    }

    /// Messages finished since the last record.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Takes note that a record was written.
    pub fn written(&mut self) {
        self.unwritten = 0;
    }
}

#[cfg(test)]
mod tests;
