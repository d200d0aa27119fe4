//! What a writer sent and what was acknowledged to it.

use std::collections::{BTreeMap, BTreeSet};

/// How often an acknowledged message may be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Again only when it was sent again.
    AtLeastOnce,
    /// Once, whether it was sent again or not.
    ExactlyOnce,
}

/// Where an acknowledgement said that a message lies.
pub type Position = (i32, i64);

/// The memory of one writer; it outlives every crash of the node.
#[derive(Debug)]
pub struct Ledger {
    /// The name of the writer, which begins each of its payloads.
    pub name: String,
    /// What was promised.
    pub guarantee: Guarantee,
    /// Sequence numbers that were acknowledged, with the position if the
    /// protocol tells it.
    pub acknowledged: BTreeMap<u64, Option<Position>>,
    /// Sequence numbers that were sent more than once.
    pub resent: BTreeSet<u64>,
    /// Promises seen broken while writing.
    pub violations: Vec<String>,
    next: u64,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(name: String, guarantee: Guarantee) -> Self {
        Self {
            name,
            guarantee,
            acknowledged: BTreeMap::new(),
            resent: BTreeSet::new(),
            violations: Vec::new(),
            next: 0,
        }
    }

    /// The next sequence number and its payload of at least `size` bytes.
    pub fn next_payload(&mut self, size: usize) -> (u64, Vec<u8>) {
        let sequence = self.next;
        self.next += 1;
        (sequence, self.payload(sequence, size))
    }

    /// The payload of `sequence`.
    #[must_use]
    pub fn payload(&self, sequence: u64, size: usize) -> Vec<u8> {
        let mut payload = format!("{}:{sequence}:", self.name).into_bytes();
        while payload.len() < size {
            payload.push(b'a' + u8::try_from(payload.len() % 26).unwrap_or_default());
        }
        payload
    }

    /// Notes an acknowledgement.
    pub fn acknowledge(&mut self, sequence: u64, position: Option<Position>) {
        self.acknowledged.insert(sequence, position);
    }

    /// How many sequence numbers were given out.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next
    }
}

/// Splits a payload into the writer's name and the sequence number.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<(&str, u64)> {
    let head = &payload[..payload.len().min(64)];
    // The head may be cut inside the padding, which is ASCII too.
    let text = std::str::from_utf8(head).ok()?;
    let mut parts = text.splitn(3, ':');
    let name = parts.next()?;
    let sequence = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((name, sequence))
}
