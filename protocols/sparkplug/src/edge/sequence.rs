//! The sequence numbers of an edge node's messages: 0 to 255, round and round.

use super::snapshot::Held;

/// Messages that wait for missing ones. Reordering swaps neighbours; more than
/// this waiting means that the missing ones are lost.
pub const HELD_MAX: usize = 32;

/// Numbers up to this far ahead are of the future, the others of the past.
const AHEAD_MAX: u8 = 127;

/// Where a message stands in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is the next.
    Next,
    /// Others are missing in front of it.
    Ahead,
    /// It was given up as missing.
    Late,
    /// It was there before.
    Duplicate,
}

#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) next: u8,
    /// A bit per number that was given up and has not been passed again.
    pub(super) missing: [u64; 4],
    pub(super) held: Vec<Held>,
    pub(super) deadline_ms: Option<i64>,
}

impl Sequence {
    /// The sequence behind a birth with this number.
    pub fn after(seq: u8) -> Self {
        Self {
            next: seq.wrapping_add(1),
            missing: [0; 4],
            held: Vec::new(),
            deadline_ms: None,
        }
    }

    /// Places a number; a next or late one is taken.
    pub fn place(&mut self, seq: u8) -> Order {
        let distance = seq.wrapping_sub(self.next);
        if distance == 0 {
            self.take(seq);
            return Order::Next;
        }
        if distance <= AHEAD_MAX {
            return match self.held.iter().any(|held| held.seq == seq) {
                true => Order::Duplicate,
                false => Order::Ahead,
            };
        }
        if self.is_missing(seq) {
            self.set_missing(seq, false);
            return Order::Late;
        }
        Order::Duplicate
    }

    /// Holds a message that is ahead. True when no more can be held.
    pub fn hold(&mut self, held: Held, timeout_ms: i64) -> bool {
        let deadline = held.received_ms.saturating_add(timeout_ms);
        self.deadline_ms.get_or_insert(deadline);
        let next = self.next;
        let distance = |held: &Held| held.seq.wrapping_sub(next);
        let at = self
            .held
            .partition_point(|other| distance(other) < distance(&held));
        self.held.insert(at, held);
        self.held.len() >= HELD_MAX
    }

    /// The held message that has become the next. The wait for numbers that
    /// are missing behind it begins with what arrived first of the rest.
    pub fn release(&mut self, timeout_ms: i64) -> Option<Held> {
        if self.held.first()?.seq != self.next {
            return None;
        }
        let held = self.held.remove(0);
        self.take(held.seq);
        let oldest = self.held.iter().map(|held| held.received_ms).min();
        self.deadline_ms = oldest.map(|oldest| oldest.saturating_add(timeout_ms));
        Some(held)
    }

    /// Gives up the numbers in front of the first held message; `None` when
    /// none is held.
    pub fn skip(&mut self) -> Option<u8> {
        let first = self.held.first()?.seq;
        let skipped = first.wrapping_sub(self.next);
        for _ in 0..skipped {
            self.set_missing(self.next, true);
            self.next = self.next.wrapping_add(1);
        }
        Some(skipped)
    }

    /// Whether the wait for missing numbers is over. A deadline further away
    /// than the timeout is from before a step of the clock, and is over too.
    pub fn is_due(&self, now_ms: i64, timeout_ms: i64) -> bool {
        self.deadline_ms
            .is_some_and(|at| at <= now_ms || at > now_ms.saturating_add(timeout_ms))
    }

    /// When the wait for missing numbers is over.
    pub fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }

    fn take(&mut self, seq: u8) {
        self.set_missing(seq, false);
        self.next = seq.wrapping_add(1);
    }

    fn is_missing(&self, seq: u8) -> bool {
        self.missing[usize::from(seq / 64)] >> (seq % 64) & 1 == 1
    }

    fn set_missing(&mut self, seq: u8, is_missing: bool) {
        let word = &mut self.missing[usize::from(seq / 64)];
        let bit = 1 << (seq % 64);
        if is_missing {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }
}
