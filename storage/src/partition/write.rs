//! The commit thread's side of a partition.

use super::{Log, Pending, PendingBody, Taken};
use crate::config::Preallocation;
use crate::core::Core;
use crate::disk::DiskFile;
use crate::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, STAMPED_LEN, frame_len, payload_crc};
use crate::segment::header::{Previous, SegmentHeader};
use crate::segment::{Extent, NO_TIMESTAMP, Segment};
use bytes::Bytes;
use forebay_records::{BatchHeader, Compression};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Slices per write, the limit of Linux (`UIO_MAXIOV`).
const SLICES_PER_WRITE: usize = 1024;

const PADDING: [u8; 8] = [0; 8];

/// A window's part of a partition: written, not yet synced.
pub(crate) struct Written {
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
    segment: Arc<Segment>,
    extent: Extent,
    /// Offset, position and newest timestamp of each frame.
    notes: Vec<(u64, u64, i64)>,
    next_index: u64,
}

/// A frame with everything but its place.
struct Ready {
    base_offset: u64,
    next_offset: u64,
    epoch: i32,
    grouped: bool,
    kind: FrameKind,
    payload: Bytes,
    crc: u32,
    max_timestamp: i64,
}

fn ready(frame: Pending) -> io::Result<Ready> {
    let (kind, payload, crc, max_timestamp) = match frame.body {
        PendingBody::Bytes {
            kind,
            payload,
            crc,
            max_timestamp,
        } => (kind, payload, crc, max_timestamp),
        PendingBody::Gathered(builder) => {
            let payload = builder
                .finish(Compression::None)
                .map_err(io::Error::other)?;
            let header = BatchHeader::parse(&payload).map_err(io::Error::other)?;
            let crc = payload_crc(&payload);
            (FrameKind::Batch, payload, crc, header.max_timestamp)
        }
    };
    Ok(Ready {
        base_offset: frame.base_offset,
        next_offset: frame.next_offset,
        epoch: frame.epoch,
        grouped: frame.grouped,
        kind,
        payload,
        crc,
        max_timestamp,
    })
}

impl Log {
    /// Writes what gathered behind the durable end; nothing is visible yet.
    pub fn write(&self, core: &Core, taken: Taken, window: u64) -> io::Result<Written> {
        let frames: Vec<Ready> = taken
            .frames
            .into_iter()
            .map(ready)
            .collect::<io::Result<_>>()?;
        let total: u64 = frames
            .iter()
            .map(|frame| frame_len(frame.payload.len()) as u64)
            .sum();
        let first_offset = frames.first().map_or(0, |frame| frame.base_offset);
        let segment = self.segment_for(core, total, first_offset, taken.roll)?;
        let start = segment.length();
        let file = segment.file(&*core.disk)?;
        segment.room.claim(start + total);
        if core.config.preallocation == Preallocation::ZeroFill
            && segment
                .room
                .is_short(self.segment_size.load(Ordering::Relaxed))
        {
            core.want_zeros();
        }

        let mut heads = Vec::with_capacity(frames.len() * (FRAME_HEADER_LEN + STAMPED_LEN));
        let mut head_ends = Vec::with_capacity(frames.len());
        let mut notes = Vec::with_capacity(frames.len());
        let mut position = start;
        let mut index = self.next_index.load(Ordering::Acquire);
        let last = frames.len().saturating_sub(1);
        for (at, frame) in frames.iter().enumerate() {
            let header = FrameHeader {
                index,
                epoch: frame.epoch,
                kind: frame.kind,
                base_offset: frame.base_offset,
                durable_upto: start,
                payload_len: frame.payload.len() as u32,
                payload_crc: frame.crc,
                group: if frame.grouped { window } else { 0 },
                closes: self.is_journal && at == last,
            };
            let mut stamped = [0u8; STAMPED_LEN];
            stamped.copy_from_slice(&frame.payload[..STAMPED_LEN]);
            if frame.kind != FrameKind::Gap {
                stamped[..8].copy_from_slice(&frame.base_offset.to_be_bytes());
                stamped[12..].copy_from_slice(&frame.epoch.to_be_bytes());
            }
            header.encode(segment.header.salt, &stamped, &mut heads);
            head_ends.push(heads.len());
            notes.push((frame.base_offset, position, frame.max_timestamp));
            position += header.frame_len() as u64;
            index += 1;
        }
        write_frames(core, &*file, &frames, &heads, &head_ends, start)?;
        let extent = Extent {
            length: position,
            end_offset: frames
                .last()
                .map_or(segment.end_offset(), |frame| frame.next_offset),
            max_timestamp: frames
                .iter()
                .map(|frame| frame.max_timestamp)
                .max()
                .unwrap_or(NO_TIMESTAMP),
        };
        Ok(Written {
            file,
            bytes: total,
            segment,
            extent,
            notes,
            next_index: index,
        })
    }

    /// Makes a synced part visible.
    pub fn publish(&self, written: Written) {
        let end = written.extent.end_offset;
        // A mark reads all of these under the same lock: one whose offset is
        // older than its position would hide acknowledged records after a crash.
        let _segments = self.segments.write();
        self.next_index.store(written.next_index, Ordering::Release);
        written
            .segment
            .extend(written.extent, written.notes.into_iter());
        self.visible.store(end, Ordering::Release);
    }

    /// Returns the segment for `total` more bytes, which may be a new one: a
    /// window never spans two segments, so only the last one can be torn.
    fn segment_for(
        &self,
        core: &Core,
        total: u64,
        first_offset: u64,
        roll: bool,
    ) -> io::Result<Arc<Segment>> {
        let last = self.segments.read().last().cloned();
        let limit = self.segment_size.load(Ordering::Relaxed);
        if let Some(last) = &last {
            // An empty one behind which offsets are missing is damaged and stays as it is.
            let is_fresh = last.is_empty() && last.header.base_offset == first_offset;
            if is_fresh || (!roll && last.length() + total <= limit) {
                return Ok(Arc::clone(last));
            }
        }
        self.begin_segment(core, last, first_offset)
    }

    /// Begins a segment behind `last`, which is durable to its end.
    fn begin_segment(
        &self,
        core: &Core,
        last: Option<Arc<Segment>>,
        first_offset: u64,
    ) -> io::Result<Arc<Segment>> {
        let header = SegmentHeader {
            topic_id: self.topic.id,
            partition: self.index,
            base_offset: first_offset,
            first_index: self.next_index.load(Ordering::Acquire),
            salt: core.disk.entropy(),
            created_ms: (core.config.clock)(),
            previous: last.map(|last| Previous {
                base_offset: last.header.base_offset,
                end_offset: last.end_offset(),
                length: last.length(),
                max_timestamp: last.max_timestamp(),
            }),
        };
        let create = || Segment::create(&*core.disk, &self.dir, header);
        let segment = match create() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && core.free_ballast() => {
                create()?
            }
            result => result?,
        };
        if core.config.preallocation == Preallocation::Fallocate {
            let limit = self.segment_size.load(Ordering::Relaxed);
            // Without the blocks the file grows with each commit, which is slower and right.
            let _ = segment.file(&*core.disk)?.allocate(limit);
        }
        let segment = Arc::new(segment);
        self.segments.write().push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Closes the active segment and begins an empty one, so that retention can
    /// remove it. No window is written meanwhile.
    pub fn roll(&self, core: &Core) -> io::Result<()> {
        let _committer = core.committer.lock();
        let end = self.visible();
        let Some(last) = self.segments.read().last().cloned() else {
            return Ok(());
        };
        let is_deleted = self.is_deleted.load(Ordering::Acquire);
        let has_failed = core.failed.load(Ordering::Acquire);
        if is_deleted || has_failed || last.is_empty() || last.end_offset() != end {
            return Ok(());
        }
        self.begin_segment(core, Some(Arc::clone(&last)), end)?;
        // Gives back what was allocated ahead; kept space costs nothing but space.
        if let Err(error) = last.file(&*core.disk)?.set_length(last.length()) {
            tracing::debug!(path = %last.path.display(), %error, "closed segment not cut");
        }
        Ok(())
    }
}

fn write_frames(
    core: &Core,
    file: &dyn DiskFile,
    frames: &[Ready],
    heads: &[u8],
    head_ends: &[usize],
    start: u64,
) -> io::Result<()> {
    let mut slices = Vec::with_capacity((frames.len() * 3).min(SLICES_PER_WRITE));
    let mut position = start;
    let mut queued = 0;
    let mut head_start = 0;
    for (frame, head_end) in frames.iter().zip(head_ends) {
        if slices.len() + 3 > SLICES_PER_WRITE {
            write_slices(core, file, &mut slices, position)?;
            position += queued;
            queued = 0;
        }
        let padding = frame_len(frame.payload.len()) - FRAME_HEADER_LEN - frame.payload.len();
        slices.push(IoSlice::new(&heads[head_start..*head_end]));
        slices.push(IoSlice::new(&frame.payload[STAMPED_LEN..]));
        slices.push(IoSlice::new(&PADDING[..padding]));
        queued += frame_len(frame.payload.len()) as u64;
        head_start = *head_end;
    }
    write_slices(core, file, &mut slices, position)
}

/// Writes all slices; a full disk gets the ballast once.
fn write_slices(
    core: &Core,
    file: &dyn DiskFile,
    slices: &mut Vec<IoSlice<'_>>,
    mut position: u64,
) -> io::Result<()> {
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored_at(rest, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                position += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull && core.free_ballast() => {}
            Err(error) => return Err(error),
        }
    }
    slices.clear();
    Ok(())
}
