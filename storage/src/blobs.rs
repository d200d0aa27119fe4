//! Blobs: whole files beside the log, for what is too large for the state.
//!
//! A blob is written once under a name that was not used before, and named by
//! a later transaction; one that no transaction names is its writer's to remove.

use crate::disk::{read_file, write_all_at};
use crate::storage::Storage;
use std::io;
use std::path::PathBuf;

/// The folder in the data directory.
const FOLDER: &str = "blobs";

/// The largest blob that is read: what one query may remember at most.
const BLOB_BYTES_MAX: u64 = 4 << 30;

/// Longest name of a blob; file systems take 255 bytes.
const NAME_LEN_MAX: usize = 200;

impl Storage {
    /// Writes a blob, which is durable on return. Blocks on the disk. A failed
    /// sync is fatal, as it is for the log.
    ///
    /// # Errors
    /// The name is no file name, or the disk refuses.
    pub fn write_blob(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.blob_path(name)?;
        let core = &self.inner.core;
        let folder = core.config.data_dir.join(FOLDER);
        let is_new = core.disk.list(&folder).is_err();
        core.disk.create_dir_all(&folder)?;
        let file = core.disk.create(&path)?;
        write_all_at(&*file, bytes, 0)?;
        let mut synced = file.fdatasync().and_then(|()| core.disk.fsync_dir(&folder));
        if is_new {
            synced = synced.and_then(|()| core.disk.fsync_dir(&core.config.data_dir));
        }
        synced.inspect_err(|error| core.fatal(&format!("cannot sync {}: {error}", path.display())))
    }

    /// Reads a blob. Blocks on the disk.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn read_blob(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.blob_path(name)?;
        read_file(&*self.inner.core.disk, &path, BLOB_BYTES_MAX)
    }

    /// Removes a blob. It may come back with a power cut.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn remove_blob(&self, name: &str) -> io::Result<()> {
        let path = self.blob_path(name)?;
        self.inner.core.disk.unlink(&path)
    }

    /// The names of all blobs.
    pub fn blobs(&self) -> Vec<String> {
        let core = &self.inner.core;
        let entries = core.disk.list(&core.config.data_dir.join(FOLDER));
        // Before the first blob there is no folder.
        let entries = entries.unwrap_or_default().into_iter();
        let files = entries.filter(|entry| !entry.is_dir);
        files.map(|entry| entry.name).collect()
    }

    fn blob_path(&self, name: &str) -> io::Result<PathBuf> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let fits = (1..=NAME_LEN_MAX).contains(&name.len());
        if !fits || name.starts_with('.') || !name.chars().all(is_plain) {
            let expected = format!(
                "blob name is {name:?}, expected 1 to {NAME_LEN_MAX} characters of a-z, A-Z, 0-9, '.', '_' or '-'"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
        }
        Ok(self.inner.core.config.data_dir.join(FOLDER).join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::disk::{Fault, SimDisk};
    use crate::transaction::Transaction;
    use std::path::Path;
    use std::sync::Arc;

    fn open(disk: &SimDisk) -> Storage {
        let mut config = Config::new(Path::new("/data"));
        config.threads = false;
        config.on_fatal = Arc::new(|_| {});
        Storage::open(config, Arc::new(disk.clone())).unwrap().0
    }

    #[test]
    fn a_blob_that_was_written_survives_a_power_cut() {
        let disk = SimDisk::new(3);
        let storage = open(&disk);
        assert!(storage.blobs().is_empty());
        storage.write_blob("level.7.state", b"state").unwrap();
        for seed in 0..20 {
            let after = open(&disk.crash(seed));
            assert_eq!(after.read_blob("level.7.state").unwrap(), b"state");
            assert_eq!(after.blobs(), ["level.7.state"]);
        }
        storage.remove_blob("level.7.state").unwrap();
        assert!(storage.read_blob("level.7.state").is_err());
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let storage = open(&SimDisk::new(3));
        for name in ["", "..", ".x", "a/b", "a\0", &"n".repeat(201)] {
            let error = storage.write_blob(name, b"").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_sync_that_fails_ends_the_log_and_a_write_that_fails_does_not() {
        let mut ended = Vec::new();
        for nth in 1..=4 {
            let disk = SimDisk::new(3);
            let storage = open(&disk);
            storage.write_blob("a", b"state").unwrap();
            disk.fail_nth(nth, Fault::Io);
            let outcome = storage.write_blob("b", b"state");
            assert_eq!(outcome.is_err(), disk.has_failed());
            let mut transaction = Transaction::new();
            transaction.put(b"key", b"value");
            let is_over = storage.commit(transaction).is_err();
            if outcome.is_err() {
                ended.push(is_over);
            }
        }
        assert_eq!(ended.first(), Some(&false), "creating the file");
        assert_eq!(ended.last(), Some(&true), "syncing the folder");
    }
}
