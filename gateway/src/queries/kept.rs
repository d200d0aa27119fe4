//! What is kept of a query: how far it read, and its state.
//!
//! A commit of a query is one transaction: its results, how far the sources
//! were handed in, and either its whole state, the *snapshot*, or a *step*: what
//! was handed in since the commit before, in which pieces. A restart takes the
//! snapshot and hands in the steps again, dropping what comes out, which is in
//! the log already. The same pieces in the same order lead to the same state,
//! whatever the query is.
//!
//! A snapshot is written when the bytes to hand in again have grown to
//! [`REPLAY_FACTOR`] times its size, so snapshots cost at most that share of
//! what the query reads, and a restart hands in at most that much. Small ones
//! are in the state of the node; larger ones are blobs, durable before the
//! commit that names them.

use std::io;

use forebay_storage::{Storage, Ticket, Transaction};
use serde::{Deserialize, Serialize};

use super::sources::Span;

/// Snapshots are written when this many times their size would have to be read
/// again.
pub const REPLAY_FACTOR: usize = 4;
/// Steps between snapshots at most; each is a key of the node's state.
const STEPS_MAX: u64 = 4_096;
/// Larger snapshots are blobs: the node's state is rewritten now and then.
const INLINE_LEN_MAX: usize = 64 << 10;
/// Keys of the node's state.
const PREFIX: &str = "query/";
/// How the names of snapshots end.
const SUFFIX: &str = ".state";

/// One thing that was handed to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Records, in one call.
    Records(Vec<Span>),
    /// An advance of event time, as it is written.
    Advance(Vec<u8>),
}

/// Events as they are kept. What is handed in follows what was handed in before,
/// so a few digits say how far it goes; there are fifty calls a second.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Step {
    /// Where stretches of partitions begin.
    #[serde(rename = "s")]
    stretches: Vec<Span>,
    /// The events.
    #[serde(rename = "e")]
    events: Vec<Handed>,
}

/// An [`Event`] within a [`Step`].
#[derive(Debug, Serialize, Deserialize)]
enum Handed {
    /// Which stretches go on, and by how many offsets.
    #[serde(rename = "r")]
    Records(Vec<(usize, u64)>),
    #[serde(rename = "a")]
    Advance(Vec<u8>),
}

impl Step {
    fn of(events: &[Event]) -> Self {
        let mut step = Self::default();
        for event in events {
            let handed = match event {
                Event::Advance(bytes) => Handed::Advance(bytes.clone()),
                Event::Records(spans) => {
                    let parts = spans.iter().map(|span| step.go_on(span));
                    Handed::Records(parts.collect())
                }
            };
            step.events.push(handed);
        }
        step
    }

    /// Makes a stretch longer by a span that follows it, or begins one.
    fn go_on(&mut self, span: &Span) -> (usize, u64) {
        let follows = |stretch: &Span| {
            stretch.to == span.from && stretch.id == span.id && stretch.partition == span.partition
        };
        let place = match self.stretches.iter().position(follows) {
            Some(place) => place,
            None => {
                self.stretches.push(Span {
                    to: span.from,
                    ..span.clone()
                });
                self.stretches.len() - 1
            }
        };
        self.stretches[place].to = span.to;
        (place, span.to - span.from)
    }

    /// The events; none if they are not of these stretches.
    fn into_events(mut self) -> Option<Vec<Event>> {
        for stretch in &mut self.stretches {
            stretch.to = stretch.from;
        }
        let stretches = &mut self.stretches;
        let mut span = |(place, length): (usize, u64)| {
            let stretch = stretches.get_mut(place)?;
            stretch.from = stretch.to;
            stretch.to = stretch.from.checked_add(length)?;
            Some(stretch.clone())
        };
        let events = self.events.into_iter().map(|handed| match handed {
            Handed::Advance(bytes) => Some(Event::Advance(bytes)),
            Handed::Records(parts) => {
                let spans: Option<_> = parts.into_iter().map(&mut span).collect();
                spans.map(Event::Records)
            }
        });
        events.collect()
    }
}

/// Where the snapshot is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Snapshot {
    /// The query begins without one.
    #[default]
    None,
    /// Beside the head.
    Inline,
    /// In a blob of this name, with this checksum (CRC-32C).
    Blob { name: String, crc: u32 },
}

/// How far a query has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The identity of its plan.
    pub identity: u64,
    /// How far the sources were handed in.
    pub cursors: Vec<Span>,
    /// How far they were when the snapshot was taken.
    pub snapshot_cursors: Vec<Span>,
    snapshot: Snapshot,
    /// The number of the first step behind the snapshot.
    first_step: u64,
    /// The number of the next step.
    next_step: u64,
    /// Bytes that the steps hand in.
    replay_bytes: u64,
}

/// What a restart needs.
pub struct Restored {
    /// The state at the snapshot; none if it was the beginning.
    pub snapshot: Option<Vec<u8>>,
    /// What was handed in behind it.
    pub steps: Vec<Vec<Event>>,
}

/// Why the state of a query cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A part is missing or is not what it should be.
    #[error("{what} of query {name} is missing or damaged")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// The query.
        name: String,
    },
    /// The blob of the snapshot.
    #[error("snapshot {blob}: {source}")]
    Io {
        /// Its name.
        blob: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The keeper of one query's state.
pub struct Keeper {
    name: String,
    head: Head,
    /// Blobs that nobody needs once these commits are durable.
    obsolete: Vec<(Ticket, String)>,
}

/// A commit that is prepared and becomes the truth with its transaction.
pub struct Prepared {
    head: Head,
    replaced: Option<String>,
}

impl Keeper {
    /// Finds how far the query of a name has come.
    ///
    /// # Errors
    /// Something is kept and cannot be read.
    pub fn head(storage: &Storage, name: &str) -> Result<Option<Head>, KeptError> {
        let Some(head) = storage.get(&key(name, "head")) else {
            return Ok(None);
        };
        let head = serde_json::from_slice(&head).map_err(|_| KeptError::Damaged {
            what: "the head",
            name: name.to_owned(),
        })?;
        Ok(Some(head))
    }

    /// Reads what a restart needs behind a head.
    ///
    /// # Errors
    /// A part of it cannot be read.
    pub fn restore(storage: &Storage, name: &str, head: &Head) -> Result<Restored, KeptError> {
        let damaged = |what| KeptError::Damaged {
            what,
            name: name.to_owned(),
        };
        let snapshot = match &head.snapshot {
            Snapshot::None => None,
            Snapshot::Inline => {
                let state = storage.get(&key(name, "state"));
                Some(state.ok_or_else(|| damaged("the snapshot"))?)
            }
            Snapshot::Blob { name: blob, crc } => {
                let bytes = storage.read_blob(blob).map_err(|source| KeptError::Io {
                    blob: blob.clone(),
                    source,
                })?;
                if crc32c::crc32c(&bytes) != *crc {
                    return Err(damaged("the snapshot"));
                }
                Some(bytes)
            }
        };
        let mut steps = Vec::new();
        for number in head.first_step..head.next_step {
            let step = storage.get(&step_key(name, number));
            let step = step.and_then(|bytes| serde_json::from_slice::<Step>(&bytes).ok());
            let events = step.and_then(Step::into_events);
            steps.push(events.ok_or_else(|| damaged("a step"))?);
        }
        Ok(Restored { snapshot, steps })
    }

    /// The keeper of a query that begins. `first` is larger than all numbers
    /// that were used under its name before, such as the time in milliseconds: a
    /// snapshot that the durable head names is never written over.
    pub fn begin(name: &str, identity: u64, first: u64) -> Self {
        let head = Head {
            identity,
            cursors: Vec::new(),
            snapshot_cursors: Vec::new(),
            snapshot: Snapshot::None,
            first_step: first,
            next_step: first,
            replay_bytes: 0,
        };
        Self::resume(name, head)
    }

    /// The keeper of a query that goes on.
    pub fn resume(name: &str, head: Head) -> Self {
        Self {
            name: name.to_owned(),
            head,
            obsolete: Vec::new(),
        }
    }

    /// How far the sources were when the snapshot was taken: what follows is
    /// needed again.
    pub fn snapshot_cursors(&self) -> &[Span] {
        &self.head.snapshot_cursors
    }

    /// Whether the next commit should take a snapshot, when a restart would
    /// hand in `bytes` more and the state takes about `state_len`.
    pub fn wants_snapshot(&self, bytes: usize, state_len: usize) -> bool {
        let replay = self.head.replay_bytes + bytes as u64;
        replay >= (state_len * REPLAY_FACTOR) as u64
            || self.head.next_step - self.head.first_step >= STEPS_MAX
    }

    /// Adds what was handed in to a transaction.
    pub fn step(
        &self,
        events: &[Event],
        bytes: usize,
        cursors: Vec<Span>,
        transaction: &mut Transaction,
    ) -> Prepared {
        let mut head = self.head.clone();
        let step = json(&Step::of(events));
        transaction.put(&step_key(&self.name, head.next_step), &step);
        head.next_step += 1;
        head.replay_bytes += bytes as u64;
        head.cursors = cursors;
        transaction.put(&key(&self.name, "head"), &json(&head));
        Prepared {
            head,
            replaced: None,
        }
    }

    /// Adds the whole state to a transaction. A large one is a blob that is
    /// durable on return.
    ///
    /// # Errors
    /// The blob cannot be written; nothing was added.
    pub fn snapshot(
        &self,
        storage: &Storage,
        identity: u64,
        state: &[u8],
        cursors: Vec<Span>,
        transaction: &mut Transaction,
    ) -> Result<Prepared, KeptError> {
        let mut head = self.head.clone();
        let replaced = self.blob();
        head.snapshot = if state.len() <= INLINE_LEN_MAX {
            transaction.put(&key(&self.name, "state"), state);
            Snapshot::Inline
        } else {
            if head.snapshot == Snapshot::Inline {
                transaction.delete(&key(&self.name, "state"));
            }
            let name = format!("{}.{}{SUFFIX}", self.name, head.next_step);
            let written = storage.write_blob(&name, state);
            written.map_err(|source| KeptError::Io {
                blob: name.clone(),
                source,
            })?;
            Snapshot::Blob {
                name,
                crc: crc32c::crc32c(state),
            }
        };
        for number in head.first_step..head.next_step {
            transaction.delete(&step_key(&self.name, number));
        }
        // A number is never used again, so no blob is written twice.
        head.next_step += 1;
        head.first_step = head.next_step;
        head.replay_bytes = 0;
        head.identity = identity;
        head.snapshot_cursors.clone_from(&cursors);
        head.cursors = cursors;
        transaction.put(&key(&self.name, "head"), &json(&head));
        Ok(Prepared { head, replaced })
    }

    /// Takes note of a commit.
    pub fn committed(&mut self, prepared: Prepared, ticket: Ticket) {
        if let Some(blob) = prepared.replaced {
            self.obsolete.push((ticket, blob));
        }
        self.head = prepared.head;
    }

    /// Removes blobs that no durable commit needs.
    pub fn tidy(&mut self, storage: &Storage) {
        self.obsolete.retain(|(ticket, blob)| {
            let is_needed = !storage.is_durable(*ticket);
            if !is_needed {
                // What stays is removed at the next start.
                let _ = storage.remove_blob(blob);
            }
            is_needed
        });
    }

    fn blob(&self) -> Option<String> {
        match &self.head.snapshot {
            Snapshot::Blob { name, .. } => Some(name.clone()),
            _ => None,
        }
    }
}

/// Adds to a transaction what makes the node forget the query of a name.
pub fn forget(storage: &Storage, name: &str, transaction: &mut Transaction) {
    let prefix = [PREFIX, name, "/"].concat();
    for (found, _) in storage.scan_prefix(prefix.as_bytes()) {
        transaction.delete(&found);
    }
}

/// The names of all queries that something is kept of.
pub fn names(storage: &Storage) -> Vec<String> {
    let entries = storage.scan_prefix(PREFIX.as_bytes());
    let names = entries.iter().filter_map(|(key, _)| {
        let name = std::str::from_utf8(&key[PREFIX.len()..]).ok()?;
        Some(name.strip_suffix("/head")?.to_owned())
    });
    names.collect()
}

/// Removes snapshots that no query needs: of commits that a power cut took, and
/// of queries that are gone.
pub fn remove_strays(storage: &Storage) {
    let needed: Vec<String> = names(storage)
        .iter()
        .filter_map(|name| {
            let head: Head = serde_json::from_slice(&storage.get(&key(name, "head"))?).ok()?;
            match head.snapshot {
                Snapshot::Blob { name, .. } => Some(name),
                _ => None,
            }
        })
        .collect();
    for blob in storage.blobs() {
        if blob.ends_with(SUFFIX) && !needed.contains(&blob) {
            // It is tried again at the next start.
            let _ = storage.remove_blob(&blob);
        }
    }
}

fn key(name: &str, part: &str) -> Vec<u8> {
    [PREFIX, name, "/", part].concat().into_bytes()
}

fn step_key(name: &str, number: u64) -> Vec<u8> {
    key(name, &format!("step/{number:020}"))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers, texts and lists have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(topic: &str, partition: u32, from: u64, to: u64) -> Span {
        Span {
            topic: topic.to_owned(),
            id: [partition as u8; 16],
            partition,
            from,
            to,
        }
    }

    #[test]
    fn a_step_takes_a_few_bytes_per_call_and_is_read_back() {
        let mut events = Vec::new();
        for call in 0..100 {
            let mut spans = vec![span("t", 0, call * 7, call * 7 + 7)];
            if call % 3 == 0 {
                // Offsets that nobody read lie between.
                spans.push(span("t", 1, call * 10, call * 10 + 30));
            }
            if call == 50 {
                spans.push(span("u", 2, 5_000_000, 5_000_001));
                events.push(Event::Advance(vec![1, 2, 3]));
            }
            events.push(Event::Records(spans));
        }
        // A gap between two calls.
        events.push(Event::Records(vec![span("t", 0, 900, 901)]));
        let json = json(&Step::of(&events));
        assert!(json.len() < 3_000, "{}", json.len());
        let step: Step = serde_json::from_slice(&json).unwrap();
        assert_eq!(step.into_events().unwrap(), events);
        let wrong = Step {
            events: vec![Handed::Records(vec![(0, 1)])],
            ..Step::default()
        };
        assert_eq!(wrong.into_events(), None);
    }
}
