//! The key-value state: a journal that is the truth, a view that answers.

use crate::core::Core;
use crate::frame::{FrameKind, MAX_PAYLOAD, payload_crc};
use crate::partition::{Log, Pending, PendingBody};
use crate::ticket::Ticket;
use crate::view::{ClosedView, Entry, MemoryView, View, ViewError};
use bytes::Bytes;
use forebay_records::{BatchBuilder, BatchHeader, Compression, RecordRef, records};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes that wait for the view. Beyond this the commit thread applies them
/// itself, which bounds the memory to a few megabytes of small values.
const MAX_OVERLAY: usize = 16_384;

/// The journal is rewritten as a snapshot when it has grown by this since the
/// last one: replayed in under a second, and rare enough for an SD card.
const COMPACT_BYTES: u64 = 32 << 20;
/// ... and by this many times the size of that snapshot, so that a large state
/// is not rewritten all the time.
const COMPACT_FACTOR: u64 = 4;

/// Times that the journal is read when its segments change meanwhile: each
/// compaction is minutes after the one before.
const REPLAY_TRIES: u32 = 3;

/// One change of the state; no value removes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

struct Overlaid {
    value: Option<Vec<u8>>,
    window: u64,
}

struct Layers {
    /// Changes that are in the journal and not in the view.
    overlay: BTreeMap<Vec<u8>, Overlaid>,
    view: Box<dyn View>,
}

/// The state of a node.
pub(crate) struct State {
    pub journal: Arc<Log>,
    layers: Mutex<Layers>,
    /// Size of the newest snapshot.
    pub snapshot_bytes: AtomicU64,
    /// Window and base offset of a snapshot that is not known to be durable.
    unfinished: Mutex<Option<(Ticket, u64)>>,
}

impl State {
    /// Joins a recovered journal with the view of its contents.
    pub fn new(journal: Arc<Log>, view: Box<dyn View>) -> Self {
        State {
            journal,
            layers: Mutex::new(Layers {
                overlay: BTreeMap::new(),
                view,
            }),
            snapshot_bytes: AtomicU64::new(0),
            unfinished: Mutex::new(None),
        }
    }

    /// Journals the changes. The caller holds the gate for reading and has
    /// reserved `reserved` bytes. Without changes the window is closed by an
    /// operation on the empty key, which is no key.
    pub fn append(&self, core: &Core, mut ops: Vec<Op>, reserved: usize) -> Ticket {
        if ops.is_empty() {
            ops.push(Op {
                key: Vec::new(),
                value: None,
            });
        }
        let mut layers = self.layers.lock();
        let mut state = self.journal.lock();
        let mut ticket = Ticket::default();
        for (at, op) in ops.iter().enumerate() {
            let reserved = if at == 0 { reserved } else { 0 };
            ticket = self
                .journal
                .push_record(core, &mut state, &op_record(op), true, reserved)
                .ticket;
        }
        drop(state);
        for op in ops {
            if !op.key.is_empty() {
                layers.overlay.insert(
                    op.key,
                    Overlaid {
                        value: op.value,
                        window: ticket.0,
                    },
                );
            }
        }
        ticket
    }

    /// Returns the newest value of a key.
    pub fn get(&self, core: &Core, key: &[u8]) -> Option<Vec<u8>> {
        let mut layers = self.layers.lock();
        if let Some(overlaid) = layers.overlay.get(key) {
            return overlaid.value.clone();
        }
        match layers.view.get(key) {
            Ok(value) => value,
            Err(error) => self.fall_back(core, &mut layers, &error, |view| view.get(key)),
        }
    }

    /// Returns the newest entries whose keys begin with `prefix`, by key.
    pub fn scan_prefix(&self, core: &Core, prefix: &[u8]) -> Vec<Entry> {
        let mut layers = self.layers.lock();
        self.scan_layers(core, &mut layers, prefix)
    }

    fn scan_layers(&self, core: &Core, layers: &mut Layers, prefix: &[u8]) -> Vec<Entry> {
        let entries = match layers.view.scan_prefix(prefix) {
            Ok(entries) => entries,
            Err(error) => self.fall_back(core, layers, &error, |view| view.scan_prefix(prefix)),
        };
        merge_overlay(&layers.overlay, entries, prefix)
    }

    /// Replaces a view that does not answer by the contents of the journal and
    /// asks that. A value is never taken for absent because of an error: when
    /// the journal cannot be read either, the process ends.
    fn fall_back<T: Default>(
        &self,
        core: &Core,
        layers: &mut Layers,
        error: &ViewError,
        ask: impl FnOnce(&dyn View) -> Result<T, ViewError>,
    ) -> T {
        if core.closing.load(Ordering::Acquire) {
            tracing::debug!(%error, "state is read from its journal");
        } else {
            core.alarm(format!(
                "{error}; the state is kept in memory until the next start"
            ));
        }
        let answer = self
            .replay(core)
            .map_err(|error| format!("state journal cannot be read back: {error}"))
            .and_then(|view| {
                layers.view = Box::new(view);
                ask(&*layers.view).map_err(|error| error.to_string())
            });
        answer.unwrap_or_else(|message| {
            core.fatal(&message);
            T::default()
        })
    }

    /// Reads the journal into memory, again when compaction took a segment away meanwhile.
    fn replay(&self, core: &Core) -> std::io::Result<MemoryView> {
        let mut tries = 0;
        loop {
            let mut view = MemoryView::default();
            tries += 1;
            match crate::recovery::replay(&*core.disk, &self.journal, &mut view) {
                Ok(findings) => {
                    for finding in findings {
                        core.alarm(finding);
                    }
                    return Ok(view);
                }
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && tries < REPLAY_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves durable changes into the view.
    pub fn apply(&self, core: &Core) {
        let committed = core.committed.load(Ordering::Acquire);
        let mut layers = self.layers.lock();
        let ready: Vec<Op> = layers
            .overlay
            .iter()
            .filter(|(_, overlaid)| overlaid.window <= committed)
            .map(|(key, overlaid)| Op {
                key: key.clone(),
                value: overlaid.value.clone(),
            })
            .collect();
        if ready.is_empty() {
            return;
        }
        if let Err(error) = layers.view.apply(&ready) {
            // The journal holds what was to be applied.
            self.fall_back(core, &mut layers, &error, |_| Ok(()));
            if core.failed.load(Ordering::Acquire) {
                return;
            }
        }
        for op in ready {
            layers.overlay.remove(&op.key);
        }
    }

    /// Applies when too much waits.
    pub fn apply_if_many(&self, core: &Core) {
        let many = self.layers.lock().overlay.len() > MAX_OVERLAY;
        if many {
            self.apply(core);
        }
    }

    /// Begins a snapshot when the journal is long, and removes what it replaces
    /// once it is durable.
    pub fn compact(&self, core: &Core) {
        let unfinished = *self.unfinished.lock();
        if let Some((ticket, base_offset)) = unfinished {
            if core.is_durable(ticket) {
                self.journal.raise_log_start(base_offset);
                crate::retention::remove_below_start(core, &self.journal);
                *self.unfinished.lock() = None;
            }
            return;
        }
        let snapshot = self.snapshot_bytes.load(Ordering::Relaxed);
        let limit = COMPACT_BYTES
            .min(core.config.segment_size.saturating_mul(2))
            .max(snapshot.saturating_mul(COMPACT_FACTOR));
        if self.journal.size_bytes() < limit + snapshot {
            return;
        }
        self.snapshot(core);
    }

    /// Begins a snapshot unless one is under way.
    pub fn snapshot_again(&self, core: &Core) {
        let is_under_way = self.unfinished.lock().is_some();
        if !is_under_way {
            self.snapshot(core);
        }
    }

    /// Journals all keys and values as one frame.
    pub fn snapshot(&self, core: &Core) {
        let _gate = core.gate.read();
        let mut layers = self.layers.lock();
        let mut builder = BatchBuilder::new();
        // One record at least: the empty key is no key.
        builder.push(&op_record(&Op {
            key: Vec::new(),
            value: None,
        }));
        for (key, value) in self.scan_layers(core, &mut layers, &[]) {
            builder.push(&op_record(&Op {
                key,
                value: Some(value),
            }));
        }
        let Ok(payload) = builder.finish(Compression::None) else {
            return;
        };
        let Ok(header) = BatchHeader::parse(&payload) else {
            return;
        };
        let reserved = payload.len();
        if reserved > MAX_PAYLOAD {
            core.alarm(format!(
                "the state has {reserved} bytes, a snapshot at most {MAX_PAYLOAD}: its journal is not compacted"
            ));
            return;
        }
        if core.admit_internal(reserved).is_err() {
            return;
        }
        let mut state = self.journal.lock();
        let base_offset = state.next_offset;
        let frame = Pending {
            base_offset,
            next_offset: base_offset + header.last_offset_delta as u64 + 1,
            epoch: 0,
            grouped: true,
            body: PendingBody::Bytes {
                kind: FrameKind::Snapshot,
                crc: payload_crc(&payload),
                max_timestamp: header.max_timestamp,
                payload,
            },
        };
        self.journal.roll_with_next_window(&mut state);
        let appended = self.journal.push_bytes(core, &mut state, frame, reserved);
        self.snapshot_bytes
            .store(reserved as u64, Ordering::Relaxed);
        *self.unfinished.lock() = Some((appended.ticket, base_offset));
    }

    /// Makes the view durable; the caller has applied everything.
    pub fn close(&self) -> Result<(), ViewError> {
        let view = std::mem::replace(&mut self.layers.lock().view, Box::new(ClosedView));
        view.close(self.journal.visible())
    }
}

fn merge_overlay(
    overlay: &BTreeMap<Vec<u8>, Overlaid>,
    entries: Vec<Entry>,
    prefix: &[u8],
) -> Vec<Entry> {
    let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = entries.into_iter().collect();
    let from = (Bound::Included(prefix), Bound::Unbounded);
    for (key, overlaid) in overlay.range::<[u8], _>(from) {
        if !key.starts_with(prefix) {
            break;
        }
        match &overlaid.value {
            Some(value) => merged.insert(key.clone(), value.clone()),
            None => merged.remove(key),
        };
    }
    merged.into_iter().collect()
}

fn op_record(op: &Op) -> RecordRef<'_> {
    RecordRef {
        timestamp: 0,
        key: Some(&op.key),
        value: op.value.as_deref(),
        headers: &[],
    }
}

/// Decodes the changes of a journal frame.
pub(crate) fn decode_ops(batch: &Bytes) -> Vec<Op> {
    let Ok(records) = records(batch, MAX_PAYLOAD) else {
        return Vec::new();
    };
    records
        .map_while(Result::ok)
        .filter_map(|record| {
            let key = record.key.filter(|key| !key.is_empty())?;
            Some(Op {
                key: key.to_vec(),
                value: record.value.map(|value| value.to_vec()),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
