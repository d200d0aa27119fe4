//! One file of a partition; see `docs/log-format.md`, section Segment.

pub(crate) mod header;
pub(crate) mod scanner;

use crate::disk::{Disk, DiskFile, read_file, write_all_at};
use crate::index::{Index, MAX_INDEX_BYTES};
use crate::preallocate::Room;
use forebay_records::BatchHeader;
use header::{HEADER_BLOCK_LEN, SegmentHeader};
use parking_lot::Mutex;
use scanner::{Scanner, Step};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The timestamp of a segment without records.
pub(crate) const NO_TIMESTAMP: i64 = -1;

/// A segment file with what is known about its durable part.
pub(crate) struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    /// End of the durable frames.
    length: AtomicU64,
    /// First offset after the durable frames.
    end_offset: AtomicU64,
    max_timestamp: AtomicI64,
    /// Where zeros end, and who is writing them.
    pub room: Room,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    index: Mutex<Option<Index>>,
    touched: AtomicBool,
    index_saved: AtomicBool,
}

/// What a segment holds, as found by recovery or by its successor's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub length: u64,
    pub end_offset: u64,
    pub max_timestamp: i64,
}

/// Formats the path of a segment file.
pub(crate) fn segment_path(dir: &Path, base_offset: u64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

/// Parses the name of a segment file.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 {
        return None;
    }
    digits.parse().ok()
}

impl Segment {
    /// Creates the file with its header; name and header are durable on return,
    /// so that frames behind an unreadable header are damage for certain.
    pub fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader) -> io::Result<Self> {
        let path = segment_path(dir, header.base_offset);
        let file = disk.create(&path)?;
        write_all_at(&*file, &header.encode(), 0)?;
        file.fdatasync()?;
        disk.fsync_dir(dir)?;
        let extent = Extent {
            length: HEADER_BLOCK_LEN as u64,
            end_offset: header.base_offset,
            max_timestamp: NO_TIMESTAMP,
        };
        let segment = Segment::known(header, path, extent, HEADER_BLOCK_LEN as u64);
        *segment.file.lock() = Some(file);
        *segment.index.lock() = Some(Index::default());
        Ok(segment)
    }

    /// Describes an existing file; `allocated` is where its zeros end.
    pub fn known(header: SegmentHeader, path: PathBuf, extent: Extent, allocated: u64) -> Self {
        Segment {
            header,
            path,
            length: AtomicU64::new(extent.length),
            end_offset: AtomicU64::new(extent.end_offset),
            max_timestamp: AtomicI64::new(extent.max_timestamp),
            room: Room::new(allocated),
            file: Mutex::new(None),
            index: Mutex::new(None),
            touched: AtomicBool::new(true),
            index_saved: AtomicBool::new(false),
        }
    }

    /// Advances the durable end. `frames` are `(offset, position, max timestamp)`.
    pub fn extend(&self, extent: Extent, frames: impl Iterator<Item = (u64, u64, i64)>) {
        let mut index = self.index.lock();
        if let Some(index) = index.as_mut() {
            for (offset, position, timestamp) in frames {
                index.note(offset, position, timestamp);
            }
        }
        self.max_timestamp
            .fetch_max(extent.max_timestamp, Ordering::AcqRel);
        self.end_offset.store(extent.end_offset, Ordering::Release);
        self.length.store(extent.length, Ordering::Release);
    }

    /// Gives the segment an index built elsewhere.
    pub fn set_index(&self, index: Index) {
        *self.index.lock() = Some(index);
    }

    /// Returns the open file.
    pub fn file(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.touched.store(true, Ordering::Relaxed);
        let mut file = self.file.lock();
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = disk.open(&self.path)?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Returns where to begin reading for `offset`.
    pub fn position_of(&self, disk: &dyn Disk, offset: u64) -> io::Result<u64> {
        let found = self.with_index(disk, |index| index.position_of(offset))?;
        Ok(found.unwrap_or(HEADER_BLOCK_LEN as u64))
    }

    /// Returns where to begin reading for a record at or after `timestamp`.
    pub fn position_of_time(&self, disk: &dyn Disk, timestamp: i64) -> io::Result<Option<u64>> {
        self.with_index(disk, |index| index.position_of_time(timestamp))
    }

    fn with_index<T>(&self, disk: &dyn Disk, look: impl FnOnce(&Index) -> T) -> io::Result<T> {
        let mut index = self.index.lock();
        if let Some(index) = &*index {
            return Ok(look(index));
        }
        let length = self.length();
        let saved = read_file(disk, &self.index_path(), MAX_INDEX_BYTES)
            .ok()
            .and_then(|bytes| Index::decode(&bytes, self.header.salt, length));
        let loaded = match saved {
            Some(loaded) => loaded,
            None => self.build_index(&*self.file(disk)?, length)?,
        };
        Ok(look(index.insert(loaded)))
    }

    fn build_index(&self, file: &dyn DiskFile, length: u64) -> io::Result<Index> {
        let mut index = Index::default();
        let start = HEADER_BLOCK_LEN as u64;
        let mut scanner = Scanner::new(file, self.header.salt, start, length);
        loop {
            match scanner.step()? {
                Step::Frame(frame) => {
                    let timestamp = BatchHeader::parse(&frame.payload)
                        .map_or(NO_TIMESTAMP, |batch| batch.max_timestamp);
                    index.note(frame.header.base_offset, frame.position, timestamp);
                }
                Step::End => return Ok(index),
                Step::Blank { .. } | Step::Bad { .. } => {
                    if scanner.resync()?.is_none() {
                        return Ok(index);
                    }
                }
            }
        }
    }

    /// Writes the index file unless it is there; failure only costs time later.
    pub fn save_index(&self, disk: &dyn Disk) {
        if self.index_saved.swap(true, Ordering::AcqRel) {
            return;
        }
        let index = self.index.lock();
        let Some(index) = &*index else { return };
        let bytes = index.encode(self.header.salt, self.length());
        let written = disk
            .create(&self.index_path())
            .and_then(|file| write_all_at(&*file, &bytes, 0));
        if let Err(error) = written {
            tracing::debug!(path = %self.index_path().display(), %error, "index not saved");
        }
    }

    /// Closes the file and drops the index when nobody used them since the last call.
    pub fn rest(&self, is_active: bool) {
        if self.touched.swap(false, Ordering::Relaxed) || is_active {
            return;
        }
        *self.file.lock() = None;
        *self.index.lock() = None;
    }

    /// Returns the path of the index file.
    pub fn index_path(&self) -> PathBuf {
        self.path.with_extension("idx")
    }

    /// Returns the end of the durable frames.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Returns whether there are no durable frames.
    pub fn is_empty(&self) -> bool {
        self.length() == HEADER_BLOCK_LEN as u64
    }

    /// Returns the time of the newest record, or the creation of a segment
    /// without one, in milliseconds since 1970.
    pub fn newest_ms(&self) -> i64 {
        match self.max_timestamp() {
            timestamp if timestamp < 0 => self.header.created_ms,
            timestamp => timestamp,
        }
    }

    /// Returns the first offset after the durable frames.
    pub fn end_offset(&self) -> u64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Returns the newest timestamp, or [`NO_TIMESTAMP`].
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }
}
