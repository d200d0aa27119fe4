//! The view in a sled tree.
//!
//! sled's `flush` does not reach the disk on Linux and its files may not open
//! after a power cut, so the files are trusted only when the last process
//! closed them in order: a marker file with the journal's end is written after
//! the files were synced through descriptors of our own, and removed before
//! the next process touches them.

use super::{Entry, View, ViewError};
use crate::state::Op;
use std::fs;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The page cache of the tree; its default of 1 GiB is more than many gateways have.
const CACHE_BYTES: u64 = 8 << 20;
/// A tree that does not open in this time loops; healthy ones take milliseconds.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read at once when comparing the files.
const CHECK_CHUNK: usize = 256 << 10;
const MARKER: &str = "CLEAN";
/// Changes after which replaced nodes are freed. A change copies a node, a
/// kilobyte or two, and sled frees none while a batch is applied and few before
/// it is used again: 50,000 sessions left 300 MB.
const OPS_PER_COLLECTION: usize = 64;
/// A node is freed two epochs after it was replaced, and one collection begins
/// one epoch at most; the rest is for what the batches left over.
const LAST_COLLECTIONS: usize = 8;

/// A state view on disk.
pub(crate) struct SledView {
    dir: PathBuf,
    db: ::sled::Db,
}

impl SledView {
    /// Opens the tree of a process that closed in order at `journal_end`.
    pub fn open_clean(dir: &Path, journal_end: u64) -> Option<Self> {
        let marker = dir.join(MARKER);
        let text = fs::read_to_string(&marker).ok()?;
        // sled takes a damaged file for an empty one, so the bytes are compared.
        if text != marker_text(journal_end, checksum(dir).ok()?) {
            return None;
        }
        remove_marker(dir).ok()?;
        open(dir)
            .inspect_err(|reason| tracing::warn!(%reason, "state view refused"))
            .ok()
    }

    /// Removes what is there and opens an empty tree.
    pub fn create(dir: &Path) -> Result<Self, String> {
        let removed = match fs::remove_dir_all(dir) {
            // A view is a cache: whatever stands in its place may go.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(dir),
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        open(dir)
    }
}

fn open(dir: &Path) -> Result<SledView, String> {
    // A leftover of an interrupted snapshot keeps sled from opening.
    for entry in fs::read_dir(dir)
        .map_err(|error| error.to_string())?
        .flatten()
    {
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
        }
    }
    let (sender, receiver) = sync_channel(1);
    let path = dir.to_owned();
    std::thread::Builder::new()
        .name("forebay-view".into())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| {
                ::sled::Config::new()
                    .path(&path)
                    .cache_capacity(CACHE_BYTES)
                    .flush_every_ms(None)
                    .open()
            }));
            // The receiver is gone after the timeout.
            let _ = sender.send(opened);
        })
        .map_err(|error| error.to_string())?;
    match receiver.recv_timeout(OPEN_TIMEOUT) {
        Ok(Ok(Ok(db))) => Ok(SledView {
            dir: dir.to_owned(),
            db,
        }),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) => Err("panic while opening".into()),
        Err(_) => Err(format!("not open after {} s", OPEN_TIMEOUT.as_secs())),
    }
}

/// Frees nodes that sled has replaced and nobody reads any more. sled leaves them
/// to the collector of `crossbeam-epoch` that a process has one of.
fn collect_garbage(times: usize) {
    for _ in 0..times {
        crossbeam_epoch::pin().flush();
    }
}

fn remove_marker(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(MARKER))?;
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(&fs::File::open(path)?)?)
}

/// Calls sled, whose answers to a damaged file are errors and panics.
fn guarded<T>(action: &str, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, ViewError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| ViewError(error.to_string())),
        Err(_) => Err(ViewError(format!("panic while {action}"))),
    }
}

impl View for SledView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let found = guarded("reading", || self.db.get(key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<Entry>, ViewError> {
        guarded("reading", || {
            self.db
                .scan_prefix(prefix)
                .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect()
        })
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), ViewError> {
        // Nobody sees the tree between two parts, and its files do not count
        // until the end of the process.
        for part in ops.chunks(OPS_PER_COLLECTION) {
            let mut batch = ::sled::Batch::default();
            for op in part {
                match &op.value {
                    Some(value) => batch.insert(op.key.as_slice(), value.as_slice()),
                    None => batch.remove(op.key.as_slice()),
                }
            }
            guarded("applying", || self.db.apply_batch(batch))?;
            collect_garbage(1);
        }
        collect_garbage(LAST_COLLECTIONS);
        Ok(())
    }

    fn close(self: Box<Self>, journal_end: u64) -> Result<(), ViewError> {
        let SledView { dir, db } = *self;
        guarded("flushing", || db.flush())?;
        // The last handle writes the rest of the tree's files.
        drop(db);
        sync_all_and_mark(&dir, journal_end).map_err(|error| ViewError(error.to_string()))
    }
}

fn sync_all_and_mark(dir: &Path, journal_end: u64) -> io::Result<()> {
    for path in files(dir)? {
        sync(&path)?;
    }
    for below in dirs(dir)? {
        sync(&below)?;
    }
    sync(dir)?;
    let marker = dir.join(MARKER);
    fs::write(&marker, marker_text(journal_end, checksum(dir)?))?;
    sync(&marker)?;
    sync(dir)
}

fn marker_text(journal_end: u64, checksum: u32) -> String {
    format!("{journal_end} {checksum:08x}\n")
}

/// Returns the files of the tree by path, without the marker: those in the
/// directory and those below it, which hold large values.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != MARKER) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns the directories below the tree's own.
fn dirs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            dirs.push(path);
        }
    }
    Ok(dirs)
}

/// Computes the CRC32C of the names and bytes of all files.
fn checksum(dir: &Path) -> io::Result<u32> {
    let mut buffer = vec![0u8; CHECK_CHUNK];
    let mut crc = 0;
    for path in files(dir)? {
        crc = crc32c::crc32c_append(crc, path.file_name().unwrap_or_default().as_encoded_bytes());
        let mut file = fs::File::open(&path)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &buffer[..read]);
        }
    }
    Ok(crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_the_view_gives_way() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("state");
        fs::write(&dir, b"not a view").unwrap();
        SledView::create(&dir).unwrap();
        assert!(dir.is_dir());
    }
}
