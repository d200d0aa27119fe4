//! Blocks for a segment before its frames arrive, off the commit path.
//!
//! A commit that grows its file pays for a filesystem journal commit, four
//! times the device bytes of a commit into blocks that hold synced zeros.

use crate::disk::{DiskFile, write_all_at};
use parking_lot::{Condvar, Mutex};
use std::io;

/// Zeros kept ahead of the write position.
pub(crate) const ZEROS_AHEAD: u64 = 256 << 10;
/// Zeros written at once. An idle partition wastes at most this much.
const ZERO_CHUNK: u64 = 512 << 10;
/// ... and under load. The sync of a commit carries whatever zeros were written
/// to its file meanwhile: of a whole chunk that is as long as several commits.
const ZERO_PIECE: u64 = 128 << 10;
/// A segment whose chunk lasted less is under load: above 0.5 MB/s.
const CHUNK_LASTS_MS: i64 = 1_000;
/// Zeros left ahead below which pieces do not keep up with the commits: a disk
/// that takes 10 ms for a sync writes 12 MB/s in pieces.
const PIECES_SUFFICE_ABOVE: u64 = ZEROS_AHEAD / 4 * 3;
/// Buffer of one write of zeros.
const ZERO_BUFFER: usize = 64 << 10;
const BLOCK: u64 = 4096;

/// The part of a segment file that has blocks, and the claim on it.
pub(crate) struct Room {
    state: Mutex<RoomState>,
    filled: Condvar,
}

struct RoomState {
    allocated: u64,
    written: u64,
    filling: bool,
    /// When zeros were written last, in milliseconds of the wall clock.
    filled_ms: Option<i64>,
}

impl Room {
    /// Starts with `allocated` bytes that have blocks.
    pub fn new(allocated: u64) -> Self {
        Room {
            state: Mutex::new(RoomState {
                allocated,
                written: 0,
                filling: false,
                filled_ms: None,
            }),
            filled: Condvar::new(),
        }
    }

    /// Claims the bytes up to `end` for frames; waits for a filler in the way.
    pub fn claim(&self, end: u64) {
        let mut state = self.state.lock();
        while state.filling && end > state.allocated {
            self.filled.wait(&mut state);
        }
        state.written = end;
        state.allocated = state.allocated.max(end);
    }

    /// Returns whether less than [`ZEROS_AHEAD`] is left before `limit`.
    pub fn is_short(&self, limit: u64) -> bool {
        let state = self.state.lock();
        state.written > 0
            && state.allocated < limit
            && state.allocated < state.written.saturating_add(ZEROS_AHEAD)
    }

    /// Writes and syncs the next zeros, never beyond `limit`: a chunk, or a
    /// piece of one soon after the last while that keeps up. The wall clock is
    /// only compared with itself; when it jumps, one fill has the wrong size.
    pub fn fill(&self, file: &dyn DiskFile, limit: u64, now_ms: i64) -> io::Result<u64> {
        let (start, end) = {
            let mut state = self.state.lock();
            let start = state.allocated;
            let is_busy = state
                .filled_ms
                .is_some_and(|last| now_ms.saturating_sub(last) < CHUNK_LASTS_MS);
            let keeps_up = start >= state.written.saturating_add(PIECES_SUFFICE_ABOVE);
            let length = if is_busy && keeps_up {
                ZERO_PIECE
            } else {
                ZERO_CHUNK
            };
            let end = (start + length)
                .next_multiple_of(BLOCK)
                .min(limit.next_multiple_of(BLOCK));
            if state.filling || start >= end {
                return Ok(0);
            }
            state.filling = true;
            (start, end)
        };
        let result = write_zeros(file, start, end).and_then(|()| file.fdatasync());
        let mut state = self.state.lock();
        state.filling = false;
        if result.is_ok() {
            state.filled_ms = Some(now_ms);
            state.allocated = state.allocated.max(end);
        }
        self.filled.notify_all();
        result.map(|()| end - start)
    }
}

/// Writes zeros from `start` to `end`.
pub(crate) fn write_zeros(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0u8; ZERO_BUFFER];
    let mut position = start;
    while position < end {
        let length = (end - position).min(ZERO_BUFFER as u64) as usize;
        write_all_at(file, &zeros[..length], position)?;
        position += length as u64;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::{Room, ZERO_CHUNK, ZERO_PIECE};
    use crate::disk::{Disk, SimDisk};
    use std::path::Path;

    #[test]
    fn a_segment_that_fills_fast_gets_its_zeros_in_pieces() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        let file = disk.create(Path::new("/data/segment")).unwrap();
        let room = Room::new(0);
        let fill = |now_ms| room.fill(&*file, u64::MAX / 2, now_ms).unwrap();
        assert_eq!(fill(0), ZERO_CHUNK);
        assert_eq!(fill(999), ZERO_PIECE);
        assert_eq!(fill(1_998), ZERO_PIECE);
        assert_eq!(fill(2_998), ZERO_CHUNK);
        // Commits have all but used the zeros up.
        room.claim(3 * ZERO_CHUNK);
        assert_eq!(fill(2_999), ZERO_CHUNK);
        assert_eq!(fill(3_000), ZERO_PIECE);
    }
}
