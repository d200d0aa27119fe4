//! The bytes of a producer snapshot in the state journal.
//!
//! ```text
//! layout u8 = 1, through_offset i64, producer count u32, then per producer:
//!   producer id i64, epoch i16, last seen i64 (ms), batch count u8, then per
//!   batch: first sequence i32, last sequence i32, base offset i64, crc u32,
//!   append time i64
//! ```
//! All numbers are big endian. `through_offset` is the log end the snapshot
//! covers; batches from there on are replayed.

use std::collections::{HashMap, VecDeque};

use super::{KnownBatch, MAX_PRODUCERS, Producer, Producers, WINDOW_BATCHES};

const LAYOUT: u8 = 1;

/// Why stored bytes are not a producer snapshot. The caller then replays the
/// whole partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end inside a field.
    #[error("producer snapshot ends early")]
    Truncated,
    /// The first byte names an unknown layout.
    #[error("producer snapshot has layout {found}, expected {LAYOUT}")]
    Layout {
        /// Layout found.
        found: u8,
    },
    /// A count is above its limit or bytes follow the last producer.
    #[error("producer snapshot has {found} {what}, which is impossible")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The count.
        found: usize,
    },
}

impl<T: Copy> Producers<T> {
    /// Returns the snapshot bytes; `through_offset` is the log end covered.
    pub fn snapshot(&self, through_offset: i64) -> Vec<u8> {
        let mut out = vec![LAYOUT];
        out.extend_from_slice(&through_offset.to_be_bytes());
        out.extend_from_slice(&(self.by_id.len() as u32).to_be_bytes());
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let producer = &self.by_id[&id];
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.last_seen_ms.to_be_bytes());
            out.push(producer.window.len() as u8);
            for batch in &producer.window {
                out.extend_from_slice(&batch.first_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_be_bytes());
                out.extend_from_slice(&batch.crc.to_be_bytes());
                out.extend_from_slice(&batch.append_time_ms.to_be_bytes());
            }
        }
        out
    }

    /// Reads snapshot bytes and the log end that they cover.
    ///
    /// # Errors
    /// [`SnapshotError`]; the state is then rebuilt from the log alone.
    pub fn restore(bytes: &[u8]) -> Result<(Self, i64), SnapshotError> {
        let mut cursor = Cursor(bytes);
        let [layout] = cursor.take::<1>()?;
        if layout != LAYOUT {
            return Err(SnapshotError::Layout { found: layout });
        }
        let through_offset = i64::from_be_bytes(cursor.take()?);
        let count = u32::from_be_bytes(cursor.take()?) as usize;
        if count > MAX_PRODUCERS {
            return Err(SnapshotError::Count {
                what: "producers",
                found: count,
            });
        }
        let mut by_id = HashMap::new();
        for _ in 0..count {
            let id = i64::from_be_bytes(cursor.take()?);
            by_id.insert(id, cursor.producer()?);
        }
        if !cursor.0.is_empty() {
            return Err(SnapshotError::Count {
                what: "bytes too many",
                found: cursor.0.len(),
            });
        }
        Ok((Self { by_id }, through_offset))
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(SnapshotError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn producer<T>(&mut self) -> Result<Producer<T>, SnapshotError> {
        let epoch = i16::from_be_bytes(self.take()?);
        let last_seen_ms = i64::from_be_bytes(self.take()?);
        let [batches] = self.take::<1>()?;
        if usize::from(batches) > WINDOW_BATCHES {
            return Err(SnapshotError::Count {
                what: "batches",
                found: batches.into(),
            });
        }
        let mut window = VecDeque::with_capacity(WINDOW_BATCHES);
        for _ in 0..batches {
            window.push_back(KnownBatch {
                first_sequence: i32::from_be_bytes(self.take()?),
                last_sequence: i32::from_be_bytes(self.take()?),
                base_offset: i64::from_be_bytes(self.take()?),
                crc: u32::from_be_bytes(self.take()?),
                append_time_ms: i64::from_be_bytes(self.take()?),
                ticket: None,
            });
        }
        Ok(Producer {
            epoch,
            last_seen_ms,
            window,
        })
    }
}
