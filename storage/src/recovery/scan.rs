//! Walks the last segment of a partition and tells a torn tail from damage.

use crate::disk::DiskFile;
use crate::frame::{FRAME_ALIGNMENT, FRAME_HEADER_LEN, FrameKind, MAX_PAYLOAD, frame_len, u32_at};
use crate::index::Index;
use crate::partition::frame_end;
use crate::preallocate::write_zeros;
use crate::segment::header::{HEADER_BLOCK_LEN, SegmentHeader};
use crate::segment::scanner::{Frame, Scanner, Step};
use crate::segment::{Extent, NO_TIMESTAMP};
use forebay_records::{BatchHeader, crc_is_valid};
use std::io;

/// Bytes per read when looking for bytes that are not zero.
const CHUNK: usize = 256 << 10;

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub extent: Extent,
    pub next_index: u64,
    pub index: Index,
    /// Offset ranges that were acknowledged and are not readable.
    pub damage: Vec<(u64, u64)>,
    /// Where an interrupted commit begins, if one does.
    pub torn_at: Option<u64>,
    /// The newest group among the frames kept.
    pub last_group: u64,
    /// Whether a group is kept that the journal does not close.
    pub lacks_journal: bool,
}

/// What recovery knows about a segment from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    /// Groups above this one are not closed by the journal.
    pub closed: u64,
    /// Position that was durable, by the mark.
    pub durable_position: u64,
    /// End offset that was durable, by the mark.
    pub durable_offset: u64,
    pub is_journal: bool,
}

/// A good frame in the file, in order.
struct Seen {
    position: u64,
    end_position: u64,
    base_offset: u64,
    end_offset: u64,
    index: u64,
    group: u64,
    closes: bool,
    durable_upto: u64,
    max_timestamp: i64,
}

/// Scans a segment from its first frame.
pub(super) fn scan(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    file_len: u64,
    expect: Expectation,
) -> io::Result<Scan> {
    let frames = good_frames(file, header.salt, file_len)?;
    // Everything below this position was acknowledged.
    let durable = frames
        .iter()
        .map(|frame| frame.durable_upto)
        .chain([expect.durable_position])
        .max()
        .unwrap_or(0);
    let closed = if expect.is_journal {
        frames
            .iter()
            .filter(|frame| frame.closes)
            .map(|frame| frame.group)
            .max()
            .unwrap_or(0)
    } else {
        expect.closed
    };
    let mut scan = Scan {
        extent: Extent {
            length: HEADER_BLOCK_LEN as u64,
            end_offset: header.base_offset,
            max_timestamp: NO_TIMESTAMP,
        },
        next_index: header.first_index,
        index: Index::default(),
        damage: Vec::new(),
        torn_at: None,
        last_group: 0,
        lacks_journal: false,
    };
    for frame in &frames {
        let follows = frame.position == scan.extent.length
            && frame.index == scan.next_index
            && frame.base_offset == scan.extent.end_offset;
        let is_open = frame.group > closed;
        if (!follows || is_open) && durable <= scan.extent.length {
            break;
        }
        scan.lacks_journal |= is_open;
        if frame.base_offset > scan.extent.end_offset {
            scan.damage
                .push((scan.extent.end_offset, frame.base_offset));
        } else if frame.base_offset < scan.extent.end_offset {
            // A stale frame of an interrupted commit in between.
            continue;
        }
        scan.index
            .note(frame.base_offset, frame.position, frame.max_timestamp);
        scan.next_index = frame.index + 1;
        scan.last_group = scan.last_group.max(frame.group);
        scan.extent.length = frame.end_position;
        scan.extent.end_offset = frame.end_offset;
        scan.extent.max_timestamp = scan.extent.max_timestamp.max(frame.max_timestamp);
    }
    if scan.extent.end_offset < expect.durable_offset {
        scan.damage
            .push((scan.extent.end_offset, expect.durable_offset));
    } else if let Some(last) = last_nonzero(file, scan.extent.length, file_len)? {
        scan.torn_at = Some(scan.extent.length);
        if scan.damage.is_empty() {
            write_zeros(file, scan.extent.length, last + 1)?;
            file.fdatasync()?;
        }
    }
    Ok(scan)
}

fn good_frames(file: &dyn DiskFile, salt: u64, file_len: u64) -> io::Result<Vec<Seen>> {
    let mut scanner = Scanner::new(file, salt, HEADER_BLOCK_LEN as u64, file_len);
    let mut frames = Vec::new();
    loop {
        match scanner.step()? {
            Step::End => return Ok(frames),
            Step::Frame(frame) => frames.push(seen(&frame)),
            Step::Blank { .. } | Step::Bad { .. } => {
                if scanner.resync()?.is_none() {
                    return Ok(frames);
                }
            }
        }
    }
}

/// Returns the newest group that a frame of this journal segment closes.
pub(super) fn newest_closed_group(file: &dyn DiskFile, salt: u64, length: u64) -> io::Result<u64> {
    let frames = good_frames(file, salt, length)?;
    Ok(frames
        .iter()
        .filter(|frame| frame.closes)
        .map(|frame| frame.group)
        .max()
        .unwrap_or(0))
}

fn seen(frame: &Frame) -> Seen {
    let max_timestamp = match frame.header.kind {
        FrameKind::Gap => NO_TIMESTAMP,
        FrameKind::Batch | FrameKind::Snapshot => {
            BatchHeader::parse(&frame.payload).map_or(NO_TIMESTAMP, |batch| batch.max_timestamp)
        }
    };
    Seen {
        position: frame.position,
        end_position: frame.position + frame.header.frame_len() as u64,
        base_offset: frame.header.base_offset,
        end_offset: frame_end(frame),
        index: frame.header.index,
        group: frame.header.group,
        closes: frame.header.closes,
        durable_upto: frame.header.durable_upto,
        max_timestamp,
    }
}

/// Returns the position of the last byte that is not zero.
pub(super) fn last_nonzero(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0u8; CHUNK];
    let mut position = from;
    let mut last = None;
    while position < to {
        let wanted = (to - position).min(CHUNK as u64) as usize;
        let read = file.read_at(&mut buffer[..wanted], position)?;
        if read == 0 {
            break;
        }
        if let Some(at) = buffer[..read].iter().rposition(|byte| *byte != 0) {
            last = Some(position + at as u64);
        }
        position += read as u64;
    }
    Ok(last)
}

/// Returns the end of the batches in a segment whose salt is unknown, judged by
/// their own checksums, so that their offsets are not used twice.
pub(super) fn unsalted_end(file: &dyn DiskFile, file_len: u64) -> io::Result<u64> {
    let mut head = [0u8; FRAME_HEADER_LEN];
    let mut position = HEADER_BLOCK_LEN as u64;
    let mut end = 0;
    while position + (FRAME_HEADER_LEN as u64) < file_len {
        let read = file.read_at(&mut head, position)?;
        let payload_len = u32_at(&head, 40) as usize;
        let is_plausible = read == head.len()
            && payload_len <= MAX_PAYLOAD
            && u32_at(&head, 0) as usize == frame_len(payload_len)
            && position + frame_len(payload_len) as u64 <= file_len;
        if is_plausible && payload_len > 0 {
            let mut payload = vec![0u8; payload_len];
            file.read_at(&mut payload, position + FRAME_HEADER_LEN as u64)?;
            if let Ok(batch) = BatchHeader::parse(&payload)
                && crc_is_valid(&payload)
            {
                end = end.max(u64::try_from(batch.next_offset()).unwrap_or(0));
                position += frame_len(payload_len) as u64;
                continue;
            }
        }
        position += FRAME_ALIGNMENT as u64;
    }
    Ok(end)
}
