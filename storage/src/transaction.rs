//! The one multi-partition commit: appends and state changes that become
//! durable together or not at all.

use crate::core::Core;
use crate::error::AppendError;
use crate::frame::payload_crc;
use crate::gap::{Gap, GapReason};
use crate::keys;
use crate::partition::{
    AppendOptions, AppendState, Appended, Log, Partition, batch_frame, check_end, checked_batch,
    gap_frame, record_size,
};
use crate::state::Op;
use crate::ticket::Ticket;
use bytes::Bytes;
use forebay_records::{BatchBuilder, BatchHeader, Compression, RecordRef};
use parking_lot::MutexGuard;
use std::collections::BTreeMap;
use std::sync::Arc;

enum Body {
    Batch {
        batch: Bytes,
        header: BatchHeader,
        options: AppendOptions,
    },
    Gap {
        to: u64,
        reason: GapReason,
    },
}

struct Part {
    log: Arc<Log>,
    body: Body,
}

/// A set of appends and state changes. Readers see all of it or nothing, and
/// so does recovery.
#[derive(Default)]
pub struct Transaction {
    parts: Vec<Part>,
    ops: Vec<Op>,
    bytes: usize,
    malformed: Option<AppendError>,
}

/// Where a transaction went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// One per append, in the order of the calls.
    pub appended: Vec<Appended>,
    /// The commit window.
    pub ticket: Ticket,
}

impl Transaction {
    /// Returns an empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one record, which becomes a batch of its own.
    pub fn append_record(&mut self, partition: &Partition, record: &RecordRef<'_>) {
        let size = record_size(record);
        if size > crate::partition::MAX_BATCH_BYTES {
            self.malformed.get_or_insert(AppendError::TooLarge {
                size,
                limit: crate::partition::MAX_BATCH_BYTES,
            });
            return;
        }
        let mut builder = BatchBuilder::new();
        builder.push(record);
        match builder.finish(Compression::None) {
            Ok(batch) => self.append_batch(partition, batch, AppendOptions::default()),
            Err(error) => {
                self.malformed.get_or_insert(AppendError::Malformed {
                    reason: error.to_string(),
                });
            }
        }
    }

    /// Adds one validated v2 batch.
    pub fn append_batch(&mut self, partition: &Partition, batch: Bytes, options: AppendOptions) {
        match checked_batch(&batch) {
            Ok(header) => {
                self.bytes += batch.len();
                self.parts.push(Part {
                    log: Arc::clone(&partition.log),
                    body: Body::Batch {
                        batch,
                        header,
                        options,
                    },
                });
            }
            Err(error) => {
                self.malformed.get_or_insert(error);
            }
        }
    }

    /// Moves the log end of a partition to `to_offset` and records the range as a gap.
    pub fn append_gap(&mut self, partition: &Partition, to_offset: u64, reason: GapReason) {
        self.parts.push(Part {
            log: Arc::clone(&partition.log),
            body: Body::Gap {
                to: to_offset,
                reason,
            },
        });
    }

    /// Sets a key of the state. Keys that begin with a zero byte are the storage's own.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.ops.push(Op {
            key: key.to_vec(),
            value: Some(value.to_vec()),
        });
    }

    /// Removes a key of the state.
    pub fn delete(&mut self, key: &[u8]) {
        self.bytes += key.len();
        self.ops.push(Op {
            key: key.to_vec(),
            value: None,
        });
    }

    /// Returns whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.ops.is_empty()
    }

    /// Appends everything in one window.
    pub(crate) fn commit(self, core: &Core) -> Result<Committed, AppendError> {
        if let Some(error) = self.malformed {
            return Err(error);
        }
        if self.is_empty() {
            return Ok(Committed {
                appended: Vec::new(),
                ticket: core.fence(),
            });
        }
        if self
            .parts
            .iter()
            .any(|part| matches!(part.body, Body::Batch { .. }))
        {
            core.admit_space()?;
        }
        core.admit_internal(self.bytes)?;
        let bytes = self.bytes;
        self.place(core).inspect_err(|_| core.release(bytes))
    }

    /// The reservation of all parts goes with the journal's part.
    fn place(mut self, core: &Core) -> Result<Committed, AppendError> {
        let _gate = core.gate.read();
        // Locked in one order by all transactions, and before the state.
        let logs: BTreeMap<*const Log, Arc<Log>> = self
            .parts
            .iter()
            .map(|part| (Arc::as_ptr(&part.log), Arc::clone(&part.log)))
            .collect();
        let mut states: BTreeMap<*const Log, MutexGuard<'_, AppendState>> =
            logs.iter().map(|(id, log)| (*id, log.lock())).collect();
        self.check(&states)?;
        let mut appended = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let Some(state) = states.get_mut(&Arc::as_ptr(&part.log)) else {
                continue;
            };
            let frame = match part.body {
                Body::Batch {
                    batch,
                    header,
                    options,
                } => {
                    let crc = payload_crc(&batch);
                    batch_frame(
                        batch,
                        &header,
                        crc,
                        state.next_offset,
                        options.leader_epoch,
                        true,
                    )
                }
                Body::Gap { to, reason } => {
                    let gap = Gap {
                        from: state.next_offset,
                        to,
                        reason,
                    };
                    self.ops.push(Op {
                        key: keys::gap_key(&part.log.topic.id, part.log.index, gap.from),
                        value: Some(keys::encode_gap_value(gap)),
                    });
                    part.log.note_gap(gap);
                    gap_frame(gap.from, to, reason)
                }
            };
            appended.push(part.log.push_bytes(core, state, frame, 0));
        }
        let ticket = core.state.append(core, self.ops, self.bytes);
        Ok(Committed { appended, ticket })
    }

    fn check(
        &self,
        states: &BTreeMap<*const Log, MutexGuard<'_, AppendState>>,
    ) -> Result<(), AppendError> {
        // Where each partition will end after the parts before.
        let mut ends: BTreeMap<*const Log, u64> = BTreeMap::new();
        for part in &self.parts {
            let id = Arc::as_ptr(&part.log);
            let Some(state) = states.get(&id) else {
                continue;
            };
            check_end(state, None)?;
            let end = ends.entry(id).or_insert(state.next_offset);
            match &part.body {
                Body::Batch {
                    header, options, ..
                } => {
                    if let Some(expected) = options.expected_offset
                        && expected != *end
                    {
                        return Err(AppendError::OffsetMismatch {
                            expected,
                            actual: *end,
                        });
                    }
                    *end += header.last_offset_delta as u64 + 1;
                }
                Body::Gap { to, .. } => {
                    if *to <= *end {
                        return Err(AppendError::OffsetMismatch {
                            expected: *to,
                            actual: *end,
                        });
                    }
                    *end = *to;
                }
            }
        }
        Ok(())
    }
}
