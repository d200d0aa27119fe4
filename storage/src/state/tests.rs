#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::config::{Config, Preallocation};
use crate::disk::{Disk, SimDisk};
use crate::state::Op;
use crate::storage::Storage;
use crate::transaction::Transaction;
use crate::view::{Entry, View, ViewError};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

struct BrokenView;

fn broken<T>() -> Result<T, ViewError> {
    Err(ViewError("the tree is corrupted".into()))
}

impl View for BrokenView {
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        broken()
    }

    fn scan_prefix(&self, _prefix: &[u8]) -> Result<Vec<Entry>, ViewError> {
        broken()
    }

    fn apply(&mut self, _ops: &[Op]) -> Result<(), ViewError> {
        broken()
    }

    fn close(self: Box<Self>, _journal_end: u64) -> Result<(), ViewError> {
        broken()
    }
}

fn put(storage: &Storage, key: &[u8], value: &[u8]) {
    let mut transaction = Transaction::new();
    transaction.put(key, value);
    let committed = storage.commit(transaction).unwrap();
    assert!(storage.wait(committed.ticket));
}

/// Returns a storage whose view broke after `m/a` was applied to it, and what
/// it said when it died.
fn with_broken_view(disk: &SimDisk) -> (Storage, Arc<Mutex<Vec<String>>>) {
    let deaths = Arc::new(Mutex::new(Vec::new()));
    let mut config = Config::new("/data");
    config.threads = false;
    config.preallocation = Preallocation::None;
    config.ballast_bytes = 0;
    let heard = Arc::clone(&deaths);
    config.on_fatal = Arc::new(move |message| heard.lock().push(message.to_owned()));
    let (storage, _) = Storage::open(config, Arc::new(disk.clone())).unwrap();
    put(&storage, b"m/a", b"1");
    storage.inner.core.state.apply(&storage.inner.core);
    put(&storage, b"m/b", b"2");
    storage.inner.core.state.layers.lock().view = Box::new(BrokenView);
    (storage, deaths)
}

#[test]
fn a_view_that_fails_is_replaced_by_the_journal() {
    for how in 0..3 {
        let (storage, deaths) = with_broken_view(&SimDisk::new(1));
        match how {
            0 => assert_eq!(storage.get(b"m/a").unwrap(), b"1"),
            1 => assert_eq!(storage.scan_prefix(b"m/").len(), 2),
            _ => storage.inner.core.state.apply(&storage.inner.core),
        }
        assert_eq!(storage.get(b"m/a").unwrap(), b"1");
        assert_eq!(storage.get(b"m/b").unwrap(), b"2");
        assert_eq!(storage.get(b"m/c"), None);
        let alarms = storage.stats().alarms;
        assert!(alarms[0].contains("the tree is corrupted"), "{alarms:?}");
        assert_eq!(*deaths.lock(), Vec::<String>::new());
    }
}

#[test]
fn without_view_and_journal_the_process_ends() {
    let disk = SimDisk::new(2);
    let (storage, deaths) = with_broken_view(&disk);
    for path in disk.files_below(Path::new("/data/topics")) {
        disk.unlink(&path).unwrap();
    }
    for segment in storage.inner.core.state.journal.segments.read().iter() {
        segment.rest(false);
        segment.rest(false);
    }
    storage.get(b"m/a");
    let deaths = deaths.lock();
    assert!(
        deaths[0].starts_with("state journal cannot be read back"),
        "{deaths:?}"
    );
}

#[test]
fn the_state_is_answered_after_the_close() {
    let (storage, _) = with_broken_view(&SimDisk::new(3));
    assert_eq!(storage.get(b"m/a").unwrap(), b"1");
    storage.close();
    assert_eq!(storage.get(b"m/a").unwrap(), b"1");
    assert_eq!(storage.scan_prefix(b"m/").len(), 2);
}
