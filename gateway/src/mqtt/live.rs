//! Messages of topics with `durability = "memory"` on their way to one session.
//!
//! They are in no log and on no disk: each connected session that wants one has
//! it in a ring of its own until it is sent. The ring is bounded; when the
//! session does not keep up, the oldest message makes room and is counted as
//! missed, because the newest command or reading is the one that matters. A
//! session that is not connected gets nothing.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dispatch::Delivery;

/// Messages in one ring: a second of a busy request and reply exchange.
pub const LIVE_LEN_MAX: usize = 1024;

/// Bytes of payloads in one ring, unless a single message is larger. A session
/// that reads nothing pins this much until it is given up.
pub const LIVE_BYTES_MAX: usize = 1 << 20;

/// The ring of one session.
#[derive(Default)]
pub struct LiveQueue {
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Default)]
struct Ring {
    /// Empty and without memory while nothing is on its way.
    deliveries: VecDeque<Delivery>,
    bytes: usize,
}

impl LiveQueue {
    /// Adds a message and returns how many others had to make room.
    pub fn push(&self, delivery: Delivery) -> u64 {
        let mut ring = self.ring.lock();
        ring.bytes += delivery.message.payload.len();
        ring.deliveries.push_back(delivery);
        let mut missed = 0;
        while ring.deliveries.len() > LIVE_LEN_MAX
            || (ring.bytes > LIVE_BYTES_MAX && ring.deliveries.len() > 1)
        {
            ring.pop();
            missed += 1;
        }
        drop(ring);
        self.arrived.notify_one();
        missed
    }

    /// Takes the oldest message.
    pub fn pop(&self) -> Option<Delivery> {
        self.ring.lock().pop()
    }

    /// Waits for a message. One that came since the last wait counts.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl Ring {
    fn pop(&mut self) -> Option<Delivery> {
        let oldest = self.deliveries.pop_front()?;
        self.bytes -= oldest.message.payload.len();
        if self.deliveries.is_empty() {
            self.deliveries = VecDeque::new();
        }
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{LIVE_BYTES_MAX, LIVE_LEN_MAX, LiveQueue};
    use crate::mqtt::dispatch::{Delivery, UNLOGGED_FEED};
    use crate::mqtt::message::Message;

    fn delivery(offset: u64, len: usize) -> Delivery {
        Delivery {
            feed: UNLOGGED_FEED,
            offset,
            group: 0,
            message: Arc::new(Message {
                payload: Bytes::from(vec![0; len]),
                ..Message::default()
            }),
            qos: 1,
            retain: false,
            identifiers: Vec::new(),
        }
    }

    fn offsets(queue: &LiveQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .map(|d| d.offset)
            .collect()
    }

    #[test]
    fn the_oldest_message_makes_room_and_is_counted() {
        let queue = LiveQueue::default();
        let count = LIVE_LEN_MAX as u64 + 2;
        let missed: u64 = (0..count)
            .map(|offset| queue.push(delivery(offset, 1)))
            .sum();
        assert_eq!(missed, 2);
        assert_eq!(offsets(&queue), (2..count).collect::<Vec<_>>());
    }

    #[test]
    fn large_messages_are_bounded_by_their_bytes_but_one_always_fits() {
        let queue = LiveQueue::default();
        let half = LIVE_BYTES_MAX / 2;
        assert_eq!(queue.push(delivery(0, half)), 0);
        assert_eq!(queue.push(delivery(1, half)), 0);
        assert_eq!(queue.push(delivery(2, 1)), 1);
        assert_eq!(queue.push(delivery(3, LIVE_BYTES_MAX * 2)), 2);
        assert_eq!(offsets(&queue), [3]);
    }
}
