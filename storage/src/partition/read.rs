//! The reader's side of a partition.

use super::{Chunk, Log};
use crate::core::Core;
use crate::error::ReadError;
use crate::frame::FrameKind;
use crate::gap::{Gap, GapReason};
use crate::segment::header::HEADER_BLOCK_LEN;
use crate::segment::scanner::{Frame, Scanner, Step};
use crate::segment::{NO_TIMESTAMP, Segment};
use forebay_records::{BatchHeader, records};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The smallest and the largest read from a file: a page-cache read below the
/// first costs the same, and above the second a slow card blocks too long.
const MIN_READ: usize = 16 << 10;
const MAX_READ: usize = 1 << 20;

/// The records of a batch are decompressed to find one by its time; a batch
/// that grows beyond this is answered with its first offset.
const MAX_DECOMPRESSED: usize = 64 << 20;

/// What the reader of one segment collects.
struct Collected {
    chunk: Chunk,
    bytes: usize,
    is_full: bool,
}

/// Where checking a segment goes on: a position and the offset that belongs there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckPlace {
    pub position: u64,
    offset: u64,
}

impl CheckPlace {
    /// Returns the place of the first frame.
    pub fn start_of(segment: &Segment) -> Self {
        CheckPlace {
            position: HEADER_BLOCK_LEN as u64,
            offset: segment.header.base_offset,
        }
    }
}

impl Log {
    /// See [`Partition::read`](super::Partition::read).
    pub fn read(
        &self,
        core: &Core,
        from: u64,
        max_bytes: usize,
        min_one: bool,
    ) -> Result<Chunk, ReadError> {
        if self.is_deleted.load(Ordering::Acquire) {
            return Err(ReadError::Deleted);
        }
        let log_start = self.log_start();
        let high_watermark = self.visible();
        if from < log_start || from > high_watermark {
            return Err(ReadError::OffsetOutOfRange {
                requested: from,
                log_start,
                high_watermark,
            });
        }
        let chunk = Chunk {
            batches: Vec::new(),
            next_offset: from,
            high_watermark,
            log_start,
        };
        let mut collected = Collected {
            chunk,
            bytes: 0,
            is_full: false,
        };
        let segments = self.segments_from(from);
        let log_start = self.log_start();
        if from < log_start {
            // Retention went past `from` meanwhile; what is left begins later.
            return Err(ReadError::OffsetOutOfRange {
                requested: from,
                log_start,
                high_watermark,
            });
        }
        for segment in segments {
            if collected.is_full || collected.chunk.next_offset >= high_watermark {
                break;
            }
            match self.read_segment(core, &segment, &mut collected, max_bytes, min_one) {
                Ok(()) => {}
                // Retention removed the file between the look and the read.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && from < self.log_start() =>
                {
                    return Err(ReadError::OffsetOutOfRange {
                        requested: from,
                        log_start: self.log_start(),
                        high_watermark,
                    });
                }
                Err(source) => {
                    return Err(ReadError::Io {
                        path: segment.path.clone(),
                        source,
                    });
                }
            }
        }
        if !collected.is_full {
            // All segments were walked, so whatever is left up to here is a gap.
            collected.chunk.next_offset = collected.chunk.next_offset.max(high_watermark);
        }
        Ok(collected.chunk)
    }

    fn read_segment(
        &self,
        core: &Core,
        segment: &Segment,
        collected: &mut Collected,
        max_bytes: usize,
        min_one: bool,
    ) -> io::Result<()> {
        let disk = &*core.disk;
        let length = segment.length();
        let wanted = collected.chunk.next_offset;
        let start = segment.position_of(disk, wanted)?;
        let file = segment.file(disk)?;
        let rest = max_bytes.saturating_sub(collected.bytes);
        let mut scanner = Scanner::new(&*file, segment.header.salt, start, length)
            .with_chunk(rest.clamp(MIN_READ, MAX_READ));
        let mut expected = None;
        loop {
            match scanner.step()? {
                Step::End => {
                    collected.chunk.next_offset = collected
                        .chunk
                        .next_offset
                        .max(segment.end_offset().min(collected.chunk.high_watermark));
                    return Ok(());
                }
                Step::Frame(frame) => {
                    expected = Some(frame_end(&frame));
                    collect(collected, frame, max_bytes, min_one);
                    if collected.is_full {
                        return Ok(());
                    }
                }
                Step::Blank { position } | Step::Bad { position } => {
                    let from = expected.unwrap_or_else(|| wanted.max(segment.header.base_offset));
                    let (to, resumed) =
                        self.skip_damage(core, segment, &mut scanner, position, from)?;
                    expected = Some(to);
                    collected.chunk.next_offset = collected
                        .chunk
                        .next_offset
                        .max(to.min(collected.chunk.high_watermark));
                    if !resumed {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Checks about `bytes` of a segment from `place` on; damage is recorded as
    /// by a read. Returns where to go on, or `None` at the end.
    pub fn check_segment(
        &self,
        core: &Core,
        segment: &Segment,
        place: CheckPlace,
        bytes: u64,
    ) -> io::Result<Option<CheckPlace>> {
        let file = core.disk.open(&segment.path)?;
        let salt = segment.header.salt;
        let mut scanner = Scanner::new(&*file, salt, place.position, segment.length());
        let mut offset = place.offset;
        loop {
            let position = match scanner.step()? {
                Step::End => return Ok(None),
                Step::Frame(frame) => {
                    offset = frame_end(&frame);
                    frame.position + frame.header.frame_len() as u64
                }
                Step::Blank { position } | Step::Bad { position } => {
                    let (to, resumed) =
                        self.skip_damage(core, segment, &mut scanner, position, offset)?;
                    if !resumed {
                        return Ok(None);
                    }
                    offset = to;
                    position
                }
            };
            if position >= place.position.saturating_add(bytes) {
                return Ok(Some(CheckPlace { position, offset }));
            }
        }
    }

    /// Records the damage at `position`, which begins at offset `from`, and
    /// moves to the next good frame. Returns where the damage ends and whether
    /// there is such a frame.
    fn skip_damage(
        &self,
        core: &Core,
        segment: &Segment,
        scanner: &mut Scanner<'_>,
        position: u64,
        from: u64,
    ) -> io::Result<(u64, bool)> {
        let resumed = scanner.resync()?.is_some();
        let to = if resumed {
            self.next_base(scanner)?
        } else {
            segment.end_offset()
        };
        self.report_damage(core, segment, position, from, to);
        Ok((to, resumed))
    }

    /// Returns the base offset of the good frame that the scanner stands before.
    fn next_base(&self, scanner: &mut Scanner<'_>) -> io::Result<u64> {
        scanner
            .peek_base()
            .map(|base| base.unwrap_or_else(|| self.visible()))
    }

    fn report_damage(&self, core: &Core, segment: &Segment, position: u64, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let gap = Gap {
            from,
            to,
            reason: GapReason::Damage,
        };
        if self
            .gaps
            .lock()
            .iter()
            .any(|known| known.from <= from && to <= known.to)
        {
            return;
        }
        self.note_gap(gap);
        core.alarm(format!(
            "topic {} partition {}: offsets {from} to {} are damaged on disk ({} at byte {position})",
            self.topic.name,
            self.index,
            to - 1,
            segment.path.display(),
        ));
        // The journal is replaced by a snapshot and has no gaps to remember.
        if !self.is_journal {
            core.record_gap(self, gap);
        }
    }

    fn segments_from(&self, offset: u64) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.header.base_offset <= offset);
        segments[after.saturating_sub(1)..].to_vec()
    }

    /// See [`Partition::offset_for_time`](super::Partition::offset_for_time).
    pub fn offset_for_time(
        &self,
        core: &Core,
        timestamp: i64,
    ) -> Result<Option<(u64, i64)>, ReadError> {
        for segment in self.segments_from(self.log_start()) {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            let found = self
                .find_time(core, &segment, timestamp)
                .map_err(|source| ReadError::Io {
                    path: segment.path.clone(),
                    source,
                })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn find_time(
        &self,
        core: &Core,
        segment: &Segment,
        timestamp: i64,
    ) -> io::Result<Option<(u64, i64)>> {
        let disk = &*core.disk;
        let Some(start) = segment.position_of_time(disk, timestamp)? else {
            return Ok(None);
        };
        let file = segment.file(disk)?;
        let log_start = self.log_start();
        let mut scanner = Scanner::new(&*file, segment.header.salt, start, segment.length());
        loop {
            match scanner.step()? {
                Step::End => return Ok(None),
                Step::Frame(frame) => {
                    if let Some(found) = first_at_or_after(&frame, timestamp, log_start) {
                        return Ok(Some(found));
                    }
                }
                Step::Blank { .. } | Step::Bad { .. } => {
                    if scanner.resync()?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// See [`Partition::max_timestamp`](super::Partition::max_timestamp).
    pub fn newest(&self, core: &Core) -> Option<(u64, i64)> {
        let newest = self
            .segments
            .read()
            .iter()
            .map(|segment| segment.max_timestamp())
            .max()?;
        if newest == NO_TIMESTAMP {
            return None;
        }
        self.offset_for_time(core, newest).ok().flatten()
    }
}

/// Returns the offset behind a frame.
pub(crate) fn frame_end(frame: &Frame) -> u64 {
    match frame.header.kind {
        FrameKind::Gap => {
            crate::gap::decode_gap(&frame.payload).map_or(frame.header.base_offset, |(to, _)| to)
        }
        FrameKind::Batch | FrameKind::Snapshot => BatchHeader::parse(&frame.payload)
            .map_or(frame.header.base_offset, |batch| {
                batch.next_offset().max(0) as u64
            }),
    }
}

fn collect(collected: &mut Collected, frame: Frame, max_bytes: usize, min_one: bool) {
    let end = frame_end(&frame);
    if end <= collected.chunk.next_offset {
        return;
    }
    if end > collected.chunk.high_watermark {
        collected.is_full = true;
        return;
    }
    if frame.header.kind == FrameKind::Gap {
        collected.chunk.next_offset = end;
        return;
    }
    let is_first = collected.chunk.batches.is_empty();
    if collected.bytes + frame.payload.len() > max_bytes && !(is_first && min_one) {
        collected.is_full = true;
        return;
    }
    collected.bytes += frame.payload.len();
    collected.chunk.next_offset = end;
    collected.chunk.batches.push(frame.payload);
    collected.is_full = collected.bytes >= max_bytes;
}

fn first_at_or_after(frame: &Frame, timestamp: i64, log_start: u64) -> Option<(u64, i64)> {
    if frame.header.kind != FrameKind::Batch {
        return None;
    }
    let batch = BatchHeader::parse(&frame.payload).ok()?;
    if batch.max_timestamp < timestamp || batch.next_offset() as u64 <= log_start {
        return None;
    }
    let Ok(found) = records(&frame.payload, MAX_DECOMPRESSED) else {
        return Some((frame.header.base_offset, batch.max_timestamp));
    };
    found
        .map_while(Result::ok)
        .find(|record| record.timestamp >= timestamp && record.offset as u64 >= log_start)
        .map(|record| (record.offset as u64, record.timestamp))
}
