//! What is on its way to the broker, and how far each partition is done.
//!
//! Messages leave in the order of the log. The cursor of a partition is the
//! offset of its oldest message that the broker has not acknowledged; it is
//! what survives a restart. When a connection ends, everything behind the
//! cursors is forgotten and read again: no client library's queue is trusted
//! with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::mqtt::feeds::FeedId;

/// The window of one bridge.
#[derive(Debug, Default)]
pub struct Window {
    places: BTreeMap<FeedId, Place>,
    /// In the order in which they were handed to the client.
    sent: VecDeque<Sent>,
    limit: usize,
}

#[derive(Debug)]
struct Place {
    /// Everything below was looked at.
    scanned: u64,
    /// Looked at, to be carried, and not acknowledged.
    outstanding: BTreeSet<u64>,
}

#[derive(Debug)]
struct Sent {
    feed: FeedId,
    offset: u64,
    /// Known when the client has written the packet.
    packet_id: Option<u16>,
    is_acknowledged: bool,
}

impl Window {
    /// Starts or resumes a partition at its cursor.
    pub fn add(&mut self, feed: FeedId, cursor: u64) {
        self.places.entry(feed).or_insert(Place {
            scanned: cursor,
            outstanding: BTreeSet::new(),
        });
    }

    /// A new connection, with at most `limit` messages on their way. Nothing
    /// behind the cursors counts as sent.
    pub fn rewind(&mut self, limit: usize) {
        self.limit = limit;
        self.sent.clear();
        for place in self.places.values_mut() {
            place.scanned = place.cursor();
            place.outstanding.clear();
        }
    }

    /// The offset to read a partition from.
    pub fn next(&self, feed: FeedId) -> Option<u64> {
        Some(self.places.get(&feed)?.scanned)
    }

    /// Takes note that a partition was looked at up to `next`, and which
    /// offsets are to be carried.
    pub fn scanned(&mut self, feed: FeedId, next: u64, wanted: impl IntoIterator<Item = u64>) {
        if let Some(place) = self.places.get_mut(&feed) {
            place.outstanding.extend(wanted);
            place.scanned = place.scanned.max(next);
        }
    }

    /// Whether another message may be sent. Messages that were acknowledged
    /// out of order count as long as an older one does, so packet identifiers
    /// do not collide.
    pub fn has_room(&self) -> bool {
        self.sent.len() < self.limit
    }

    /// A message was handed to the client.
    pub fn send(&mut self, feed: FeedId, offset: u64) {
        self.sent.push_back(Sent {
            feed,
            offset,
            packet_id: None,
            is_acknowledged: false,
        });
    }

    /// The client wrote the next message; 0 is the packet id of QoS 0, which
    /// nobody acknowledges.
    pub fn written(&mut self, packet_id: u16) {
        let mut waiting = self.sent.iter_mut();
        if let Some(sent) = waiting.find(|sent| sent.packet_id.is_none()) {
            sent.packet_id = Some(packet_id);
            sent.is_acknowledged = packet_id == 0;
        }
        self.settle();
    }

    /// The broker has a message. False when it was not sent.
    pub fn acknowledged(&mut self, packet_id: u16) -> bool {
        let mut written = self.sent.iter_mut();
        let sent = written.find(|sent| sent.packet_id == Some(packet_id) && !sent.is_acknowledged);
        let is_known = sent.is_some();
        if let Some(sent) = sent {
            sent.is_acknowledged = true;
        }
        self.settle();
        is_known
    }

    /// A message that is to be carried is not carried after all.
    pub fn drop_message(&mut self, feed: FeedId, offset: u64) {
        if let Some(place) = self.places.get_mut(&feed) {
            place.outstanding.remove(&offset);
        }
    }

    /// The cursors: what is to survive a restart.
    pub fn cursors(&self) -> impl Iterator<Item = (FeedId, u64)> + '_ {
        self.places
            .iter()
            .map(|(feed, place)| (*feed, place.cursor()))
    }

    fn settle(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.is_acknowledged) {
            if let Some(sent) = self.sent.pop_front() {
                self.drop_message(sent.feed, sent.offset);
            }
        }
    }
}

impl Place {
    fn cursor(&self) -> u64 {
        self.outstanding.first().copied().unwrap_or(self.scanned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: FeedId = FeedId(0);
    const B: FeedId = FeedId(1);

    fn cursor(window: &Window, feed: FeedId) -> u64 {
        window.cursors().find(|(id, _)| *id == feed).unwrap().1
    }

    #[test]
    fn the_cursor_is_the_oldest_message_without_an_acknowledgement() {
        let mut window = Window::default();
        window.add(A, 10);
        window.add(B, 0);
        window.rewind(3);
        window.scanned(A, 20, [12, 15]);
        window.scanned(B, 5, [4]);
        assert_eq!((cursor(&window, A), cursor(&window, B)), (12, 4));
        for (feed, offset, packet_id) in [(A, 12, 1), (B, 4, 2), (A, 15, 3)] {
            assert!(window.has_room());
            window.send(feed, offset);
            window.written(packet_id);
        }
        assert!(!window.has_room());
        // Out of order: nothing moves, and no identifier becomes free.
        assert!(window.acknowledged(3));
        assert!(window.acknowledged(2));
        assert_eq!((cursor(&window, A), cursor(&window, B)), (12, 4));
        assert!(!window.has_room());
        assert!(window.acknowledged(1));
        assert_eq!((cursor(&window, A), cursor(&window, B)), (20, 5));
        assert!(window.has_room());
    }

    #[test]
    fn a_lost_connection_rewinds_to_the_cursors() {
        let mut window = Window::default();
        window.add(A, 0);
        window.rewind(9);
        window.scanned(A, 8, [1, 3, 5]);
        for (offset, packet_id) in [(1, 1), (3, 2)] {
            window.send(A, offset);
            window.written(packet_id);
        }
        window.acknowledged(1);
        window.rewind(9);
        assert_eq!(window.next(A), Some(3));
        // The old identifiers mean nothing any more.
        assert!(!window.acknowledged(2));
        assert_eq!(cursor(&window, A), 3);
    }

    #[test]
    fn qos_0_is_done_when_it_is_written() {
        let mut window = Window::default();
        window.add(A, 0);
        window.rewind(1);
        window.scanned(A, 2, [0, 1]);
        window.send(A, 0);
        assert_eq!(cursor(&window, A), 0);
        window.written(0);
        assert_eq!(cursor(&window, A), 1);
        window.drop_message(A, 1);
        assert_eq!(cursor(&window, A), 2);
    }
}
