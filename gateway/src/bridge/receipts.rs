//! What the broker waits for: acknowledgements of its messages.
//!
//! They leave in the order in which the messages came (MQTT 4.6), each when
//! its record is durable. A broker with MQTT 3.1.1 may have as many messages
//! on their way as there are packet identifiers, and one that starts again
//! sends all that it had; the client takes far fewer requests. So only some
//! acknowledgements are with the client at a time, and the next one is handed
//! over when one of them is written.

use std::collections::VecDeque;

use super::link::Receipt;

/// Acknowledgements that the client holds and has not written, at most.
pub const UNWRITTEN_MAX: usize = 256;

/// Messages without an acknowledgement, at most: the number of packet
/// identifiers. A broker that has more has used one twice.
const WAITING_MAX: usize = 65_535;

/// The acknowledgements of one connection. `T` orders what becomes durable.
#[derive(Debug, Default)]
pub struct Receipts<T> {
    waiting: VecDeque<(T, Receipt)>,
    unwritten: usize,
}

/// A broker that sent more than MQTT lets it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent {WAITING_MAX} messages and waits for no acknowledgement")]
pub struct Overrun;

impl<T: Copy + Ord + Default> Receipts<T> {
    /// A new connection: the broker sends again what was not acknowledged.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.unwritten = 0;
    }

    /// A message came whose record is durable with `ticket`.
    ///
    /// # Errors
    /// When there are more than a broker may have on their way.
    pub fn kept(&mut self, ticket: T, receipt: Receipt) -> Result<(), Overrun> {
        if receipt.qos == 0 {
            return Ok(());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Overrun);
        }
        self.waiting.push_back((ticket, receipt));
        Ok(())
    }

    /// A message came that is not kept. Its turn comes after those before it.
    ///
    /// # Errors
    /// When there are more than a broker may have on their way.
    pub fn dropped(&mut self, receipt: Receipt) -> Result<(), Overrun> {
        let ticket = self.waiting.back().map_or(T::default(), |last| last.0);
        self.kept(ticket, receipt)
    }

    /// The next acknowledgement to hand to the client, when everything up to
    /// `committed` is durable.
    pub fn next(&mut self, committed: T) -> Option<Receipt> {
        if self.unwritten >= UNWRITTEN_MAX {
            return None;
        }
        let is_due = |(ticket, _): &mut (T, Receipt)| *ticket <= committed;
        let (_, receipt) = self.waiting.pop_front_if(is_due)?;
        self.unwritten += 1;
        Some(receipt)
    }

    /// The client wrote one.
    pub fn written(&mut self) {
        self.unwritten = self.unwritten.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(packet_id: u16) -> Receipt {
        Receipt { packet_id, qos: 1 }
    }

    fn due(receipts: &mut Receipts<u64>, committed: u64) -> Vec<u16> {
        let next = std::iter::from_fn(|| receipts.next(committed));
        next.map(|receipt| receipt.packet_id).collect()
    }

    #[test]
    fn they_leave_in_order_and_when_they_are_durable() {
        let mut receipts = Receipts::default();
        receipts.dropped(receipt(1)).unwrap();
        receipts.kept(5, receipt(2)).unwrap();
        receipts
            .kept(
                0,
                Receipt {
                    packet_id: 0,
                    qos: 0,
                },
            )
            .unwrap();
        receipts.dropped(receipt(3)).unwrap();
        receipts.kept(6, receipt(4)).unwrap();
        assert_eq!(due(&mut receipts, 4), [1]);
        assert_eq!(due(&mut receipts, 5), [2, 3]);
        assert_eq!(due(&mut receipts, 9), [4]);
    }

    #[test]
    fn the_client_never_holds_more_than_it_takes() {
        let mut receipts = Receipts::default();
        for packet_id in 1..=1_000 {
            receipts.kept(1, receipt(packet_id)).unwrap();
        }
        let mut left = due(&mut receipts, 1);
        assert_eq!(left.len(), UNWRITTEN_MAX);
        for _ in 0..744 {
            receipts.written();
            left.extend(due(&mut receipts, 1));
        }
        assert_eq!(left, (1..=1_000).collect::<Vec<u16>>());
        // The next connection begins with a client that holds none.
        receipts.kept(1, receipt(1)).unwrap();
        receipts.clear();
        assert!(due(&mut receipts, 1).is_empty());
        for packet_id in 1..=300 {
            receipts.kept(1, receipt(packet_id)).unwrap();
        }
        assert_eq!(due(&mut receipts, 1).len(), UNWRITTEN_MAX);
    }

    #[test]
    fn there_are_no_more_than_packet_identifiers() {
        let mut receipts = Receipts::default();
        for packet_id in 1..=u16::MAX {
            receipts.kept(1, receipt(packet_id)).unwrap();
        }
        assert_eq!(receipts.dropped(receipt(1)), Err(Overrun));
    }
}
