//! A partition: where appends gather, and the public handle.

mod read;
mod write;

pub(crate) use read::{CheckPlace, frame_end};
pub(crate) use write::Written;

use crate::core::Core;
use crate::error::{AppendError, ReadError};
use crate::frame::{FrameKind, payload_crc};
use crate::gap::{Gap, GapReason, encode_gap, insert_gap};
use crate::segment::Segment;
use crate::ticket::Ticket;
use crate::transaction::Transaction;
use bytes::Bytes;
use forebay_records::{BatchBuilder, BatchHeader, RecordRef};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Records that arrive one by one are merged into batches of at most this size:
/// Kafka's default of `max.message.bytes`, so every consumer accepts them.
const MERGED_BATCH_BYTES: usize = 1 << 20;

/// The largest batch. Kafka's own limit is one mebibyte by default; this bounds
/// what one append may hold in memory.
pub(crate) const MAX_BATCH_BYTES: usize = 64 << 20;

/// Bytes that a record takes besides its key, value and headers, at most.
const RECORD_OVERHEAD: usize = 32;

/// The leader epoch of records that the node batches itself.
const LOCAL_EPOCH: i32 = 0;

/// How a batch is appended.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppendOptions {
    /// Refuses the append unless the log ends here.
    pub expected_offset: Option<u64>,
    /// Stamped into the batch.
    pub leader_epoch: i32,
}

/// Where an append went. It is durable when the ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: u64,
    /// First offset after the append.
    pub next_offset: u64,
    /// The commit window.
    pub ticket: Ticket,
}

/// The offsets that bound a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// First offset kept.
    pub log_start: u64,
    /// First offset that readers do not see: the durable end.
    pub high_watermark: u64,
    /// First offset that is not assigned.
    pub log_end: u64,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Stored v2 batches with their offsets; the first may begin before the
    /// wanted offset and a gap may lie before or between them.
    pub batches: Vec<Bytes>,
    /// Where the next read continues: behind the batches and any gap after them.
    pub next_offset: u64,
    /// The high watermark at the time of the read.
    pub high_watermark: u64,
    /// The log start at the time of the read.
    pub log_start: u64,
}

/// Who a partition belongs to.
pub(crate) struct TopicIdentity {
    pub name: String,
    pub id: [u8; 16],
}

/// A frame that waits for its window.
pub(crate) struct Pending {
    pub base_offset: u64,
    pub next_offset: u64,
    pub epoch: i32,
    pub grouped: bool,
    pub body: PendingBody,
}

pub(crate) enum PendingBody {
    Bytes {
        kind: FrameKind,
        payload: Bytes,
        crc: u32,
        max_timestamp: i64,
    },
    /// Records gathered one by one; finished by the commit thread.
    Gathered(BatchBuilder),
}

/// What the commit thread takes from a partition.
pub(crate) struct Taken {
    pub frames: Vec<Pending>,
    /// Bytes reserved by the appends.
    pub reserved: usize,
    pub roll: bool,
}

impl Taken {
    /// Returns whether a part of a transaction is among the frames.
    pub fn is_grouped(&self) -> bool {
        self.frames.iter().any(|frame| frame.grouped)
    }
}

/// The append side; guarded by one short lock.
#[derive(Default)]
pub(crate) struct AppendState {
    pub next_offset: u64,
    frames: Vec<Pending>,
    /// Whether the last frame takes more records.
    is_open: bool,
    reserved: usize,
    is_dirty: bool,
    /// The window that the frames go into; valid while dirty.
    window: u64,
    roll: bool,
    pub is_deleted: bool,
}

/// The log of one partition.
pub(crate) struct Log {
    pub topic: Arc<TopicIdentity>,
    pub index: u32,
    pub dir: PathBuf,
    append: Mutex<AppendState>,
    log_start: AtomicU64,
    visible: AtomicU64,
    log_end: AtomicU64,
    pub segments: RwLock<Vec<Arc<Segment>>>,
    pub next_index: AtomicU64,
    pub segment_size: AtomicU64,
    pub gaps: Mutex<Vec<Gap>>,
    pub holds: Mutex<BTreeMap<String, u64>>,
    pub is_deleted: AtomicBool,
    /// The durable end of the newest mark in the state journal.
    pub marked: AtomicU64,
    /// Whether all operations of a window form one batch of any size.
    is_journal: bool,
}

impl Log {
    /// Describes an empty partition that begins at `start`.
    pub fn new(
        topic: Arc<TopicIdentity>,
        index: u32,
        dir: PathBuf,
        segment_size: u64,
        is_journal: bool,
    ) -> Self {
        Log {
            topic,
            index,
            dir,
            append: Mutex::default(),
            log_start: AtomicU64::new(0),
            visible: AtomicU64::new(0),
            log_end: AtomicU64::new(0),
            segments: RwLock::default(),
            next_index: AtomicU64::new(0),
            segment_size: AtomicU64::new(segment_size),
            gaps: Mutex::default(),
            holds: Mutex::default(),
            is_deleted: AtomicBool::new(false),
            marked: AtomicU64::new(0),
            is_journal,
        }
    }

    /// Sets the offsets that recovery found.
    pub fn set_recovered(&self, log_start: u64, end: u64) {
        self.append.lock().next_offset = end;
        self.log_start.store(log_start, Ordering::Release);
        self.visible.store(end, Ordering::Release);
        self.log_end.store(end, Ordering::Release);
    }

    /// Locks the append side.
    pub fn lock(&self) -> MutexGuard<'_, AppendState> {
        self.append.lock()
    }

    /// Appends a frame of ready bytes; the reservation is the caller's.
    pub fn push_bytes(
        self: &Arc<Self>,
        core: &Core,
        state: &mut AppendState,
        frame: Pending,
        reserved: usize,
    ) -> Appended {
        state.is_open = false;
        let (base_offset, next_offset) = (frame.base_offset, frame.next_offset);
        state.frames.push(frame);
        self.appended(core, state, base_offset, next_offset, reserved)
    }

    /// Appends one record to the batch that gathers.
    pub fn push_record(
        self: &Arc<Self>,
        core: &Core,
        state: &mut AppendState,
        record: &RecordRef<'_>,
        grouped: bool,
        reserved: usize,
    ) -> Appended {
        let base_offset = state.next_offset;
        let limit = if self.is_journal {
            MAX_BATCH_BYTES * 8
        } else {
            MERGED_BATCH_BYTES
        };
        let fits = state.is_open
            && matches!(state.frames.last(), Some(Pending { body: PendingBody::Gathered(builder), .. })
                if builder.bytes() + reserved <= limit);
        if !fits {
            state.frames.push(Pending {
                base_offset,
                next_offset: base_offset,
                epoch: LOCAL_EPOCH,
                grouped,
                body: PendingBody::Gathered(BatchBuilder::new()),
            });
            state.is_open = true;
        }
        if let Some(frame) = state.frames.last_mut() {
            frame.next_offset = base_offset + 1;
            frame.grouped |= grouped;
            if let PendingBody::Gathered(builder) = &mut frame.body {
                builder.push(record);
            }
        }
        self.appended(core, state, base_offset, base_offset + 1, reserved)
    }

    /// Begins a new segment with the next window.
    pub fn roll_with_next_window(&self, state: &mut AppendState) {
        state.roll = true;
    }

    fn appended(
        self: &Arc<Self>,
        core: &Core,
        state: &mut AppendState,
        base_offset: u64,
        next_offset: u64,
        reserved: usize,
    ) -> Appended {
        state.next_offset = next_offset;
        state.reserved += reserved;
        self.log_end.store(next_offset, Ordering::Release);
        if !state.is_dirty {
            state.is_dirty = true;
            state.window = core.register(self);
        }
        Appended {
            base_offset,
            next_offset,
            ticket: Ticket(state.window),
        }
    }

    /// Takes what gathered; only the commit thread calls this, for a dirty partition.
    pub fn take(&self) -> Taken {
        let mut state = self.append.lock();
        state.is_dirty = false;
        state.is_open = false;
        Taken {
            frames: std::mem::take(&mut state.frames),
            reserved: std::mem::take(&mut state.reserved),
            roll: std::mem::take(&mut state.roll),
        }
    }

    /// Returns whether this is the journal of the state.
    pub fn is_journal(&self) -> bool {
        self.is_journal
    }

    /// Returns the first offset kept.
    pub fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Raises the first offset kept.
    pub fn raise_log_start(&self, offset: u64) {
        self.log_start.fetch_max(offset, Ordering::AcqRel);
    }

    /// Returns the durable end.
    pub fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// Returns the first offset that is not assigned.
    pub fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::Acquire)
    }

    /// Takes note of a gap.
    pub fn note_gap(&self, gap: Gap) {
        insert_gap(&mut self.gaps.lock(), gap);
    }

    /// Returns the bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .read()
            .iter()
            .map(|segment| segment.length())
            .sum()
    }

    /// Returns the lowest offset that someone still needs.
    pub fn held(&self) -> u64 {
        self.holds
            .lock()
            .values()
            .copied()
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// Checks the frame of a batch and returns it with its checksum, ready to be placed.
pub(crate) fn checked_batch(batch: &Bytes) -> Result<BatchHeader, AppendError> {
    if batch.len() > MAX_BATCH_BYTES {
        return Err(AppendError::TooLarge {
            size: batch.len(),
            limit: MAX_BATCH_BYTES,
        });
    }
    let header = BatchHeader::parse(batch).map_err(|error| AppendError::Malformed {
        reason: error.to_string(),
    })?;
    if header.total_len() != batch.len() || header.last_offset_delta < 0 {
        return Err(AppendError::Malformed {
            reason: format!(
                "batch of {} bytes claims {}",
                batch.len(),
                header.total_len()
            ),
        });
    }
    Ok(header)
}

/// Places a checked batch at `base_offset`.
pub(crate) fn batch_frame(
    batch: Bytes,
    header: &BatchHeader,
    crc: u32,
    base_offset: u64,
    epoch: i32,
    grouped: bool,
) -> Pending {
    Pending {
        base_offset,
        // The delta was checked not to be negative.
        next_offset: base_offset + header.last_offset_delta as u64 + 1,
        epoch,
        grouped,
        body: PendingBody::Bytes {
            kind: FrameKind::Batch,
            payload: batch,
            crc,
            max_timestamp: header.max_timestamp,
        },
    }
}

/// Places a gap.
pub(crate) fn gap_frame(from: u64, to: u64, reason: GapReason) -> Pending {
    let payload = Bytes::copy_from_slice(&encode_gap(to, reason));
    Pending {
        base_offset: from,
        next_offset: to,
        epoch: LOCAL_EPOCH,
        grouped: true,
        body: PendingBody::Bytes {
            kind: FrameKind::Gap,
            crc: payload_crc(&payload),
            payload,
            max_timestamp: crate::segment::NO_TIMESTAMP,
        },
    }
}

/// Returns the bytes to reserve for a record.
pub(crate) fn record_size(record: &RecordRef<'_>) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 10)
        .sum();
    RECORD_OVERHEAD
        + record.key.map_or(0, <[u8]>::len)
        + record.value.map_or(0, <[u8]>::len)
        + headers
}

/// A cheap handle to one partition.
#[derive(Clone)]
pub struct Partition {
    pub(crate) core: Arc<Core>,
    pub(crate) log: Arc<Log>,
}

impl Partition {
    /// Appends one record. Records appended in one commit window are merged
    /// into one batch.
    ///
    /// # Errors
    /// When the disk is full or slow, the record is too large, the topic is
    /// deleted or the storage is closing.
    pub fn append_record(&self, record: &RecordRef<'_>) -> Result<Appended, AppendError> {
        let size = record_size(record);
        if size > MAX_BATCH_BYTES {
            return Err(AppendError::TooLarge {
                size,
                limit: MAX_BATCH_BYTES,
            });
        }
        self.core.admit(size)?;
        let mut state = self.log.lock();
        if state.is_deleted {
            self.core.release(size);
            return Err(AppendError::Deleted);
        }
        Ok(self
            .log
            .push_record(&self.core, &mut state, record, false, size))
    }

    /// Appends one validated v2 batch; its base offset and leader epoch are
    /// stamped when it is written, its payload is not copied.
    ///
    /// # Errors
    /// As [`Partition::append_record`], and when the log does not end at the
    /// expected offset.
    pub fn append_batch(
        &self,
        batch: Bytes,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let header = checked_batch(&batch)?;
        let size = batch.len();
        self.core.admit(size)?;
        let crc = payload_crc(&batch);
        let mut state = self.log.lock();
        if let Err(error) = check_end(&state, options.expected_offset) {
            self.core.release(size);
            return Err(error);
        }
        let frame = batch_frame(
            batch,
            &header,
            crc,
            state.next_offset,
            options.leader_epoch,
            false,
        );
        Ok(self.log.push_bytes(&self.core, &mut state, frame, size))
    }

    /// Moves the log end to `to_offset` and records the range as a gap.
    ///
    /// # Errors
    /// As [`Partition::append_record`], and when the log already ends behind `to_offset`.
    pub fn append_gap(&self, to_offset: u64, reason: GapReason) -> Result<Appended, AppendError> {
        let mut transaction = Transaction::new();
        transaction.append_gap(self, to_offset, reason);
        let committed = transaction.commit(&self.core)?;
        committed
            .appended
            .first()
            .copied()
            .ok_or(AppendError::ShuttingDown)
    }

    /// Returns up to about `max_bytes` of stored batches from the one that
    /// contains `from`, below the high watermark. With `min_one` the first batch
    /// is returned whatever its size. Gaps are skipped. Checksums are verified;
    /// a damaged stretch is recorded as a gap, alarmed and skipped.
    ///
    /// # Errors
    /// When `from` is outside of the log or the disk refuses.
    pub fn read(&self, from: u64, max_bytes: usize, min_one: bool) -> Result<Chunk, ReadError> {
        self.log.read(&self.core, from, max_bytes, min_one)
    }

    /// Returns offset and timestamp of the first record at or after `timestamp_ms`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, ReadError> {
        self.log.offset_for_time(&self.core, timestamp_ms)
    }

    /// Returns offset and timestamp (milliseconds) of the newest record by time.
    pub fn max_timestamp(&self) -> Option<(u64, i64)> {
        self.log.newest(&self.core)
    }

    /// Removes everything below `offset` from view; whole segments are deleted
    /// once the new start is durable. Offsets beyond the high watermark are cut to it.
    ///
    /// # Errors
    /// When the state journal does not accept the change.
    pub fn set_log_start(&self, offset: u64) -> Result<Ticket, AppendError> {
        crate::retention::set_log_start(&self.core, &self.log, offset)
    }

    /// Keeps retention from removing `offset` and what follows for as long as
    /// the name holds it; `None` releases it. Holds are not durable.
    pub fn hold(&self, name: &str, offset: Option<u64>) {
        let mut holds = self.log.holds.lock();
        match offset {
            Some(offset) => holds.insert(name.to_owned(), offset),
            None => holds.remove(name),
        };
    }

    /// Returns the topic's name.
    pub fn topic_name(&self) -> &str {
        &self.log.topic.name
    }

    /// Returns the number of the partition.
    pub fn index(&self) -> u32 {
        self.log.index
    }

    /// Returns the offsets that bound the partition.
    pub fn offsets(&self) -> Offsets {
        // Read in this order the three are ordered even while they move.
        let log_start = self.log.log_start();
        let high_watermark = self.log.visible();
        Offsets {
            log_start: log_start.min(high_watermark),
            high_watermark,
            log_end: self.log.log_end().max(high_watermark),
        }
    }

    /// Returns the ranges without records, by offset.
    pub fn gaps(&self) -> Vec<Gap> {
        self.log.gaps.lock().clone()
    }

    /// Returns the ranges whose records were acknowledged and are damaged or missing.
    pub fn damage(&self) -> Vec<Gap> {
        let mut gaps = self.gaps();
        gaps.retain(|gap| gap.reason == GapReason::Damage);
        gaps
    }

    /// Returns the bytes of the segments.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }
}

/// Checks that the partition lives and ends where the caller believes.
pub(crate) fn check_end(state: &AppendState, expected: Option<u64>) -> Result<(), AppendError> {
    if state.is_deleted {
        return Err(AppendError::Deleted);
    }
    match expected {
        Some(expected) if expected != state.next_offset => Err(AppendError::OffsetMismatch {
            expected,
            actual: state.next_offset,
        }),
        _ => Ok(()),
    }
}
