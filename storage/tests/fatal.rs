//! What ends the process ends it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use forebay_records::RecordRef;
use forebay_storage::disk::{Fault, SimDisk};
use forebay_storage::{Config, Storage, TopicConfig};
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Set in the process that is expected to die.
const CHILD: &str = "FOREBAY_TEST_FATAL_CHILD";

#[test]
fn a_failed_sync_ends_the_process_even_when_standard_error_is_on_a_full_disk() {
    if std::env::var_os(CHILD).is_some() {
        fail_a_sync();
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "a_failed_sync_ends_the_process_even_when_standard_error_is_on_a_full_disk",
        ])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(File::create("/dev/full").unwrap())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
}

fn fail_a_sync() {
    let disk = SimDisk::new(1);
    let (storage, _) = Storage::open(Config::new("/data"), Arc::new(disk.clone())).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    disk.fail_nth(1, Fault::Io);
    loop {
        let record = RecordRef {
            timestamp: 1,
            key: None,
            value: Some(b"reading"),
            headers: &[],
        };
        match partition.append_record(&record) {
            Ok(appended) if storage.wait(appended.ticket) => {}
            _ => return,
        }
    }
}
