#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::{BYTES_PER_ROUND, Scrub};
use crate::config::{Config, Preallocation};
use crate::disk::SimDisk;
use crate::partition::Partition;
use crate::storage::Storage;
use crate::topic::TopicConfig;
use crate::transaction::Transaction;
use forebay_records::RecordRef;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

fn open(disk: &SimDisk) -> Storage {
    let mut config = Config::new("/data");
    config.threads = false;
    config.preallocation = Preallocation::None;
    config.ballast_bytes = 0;
    config.segment_size = 8 << 10;
    config.on_fatal = Arc::new(|_| {});
    Storage::open(config, Arc::new(disk.clone())).unwrap().0
}

/// Returns a partition of 100 records in several segments.
fn filled(storage: &Storage) -> Partition {
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    for number in 0..100u8 {
        let mut transaction = Transaction::new();
        let record = RecordRef {
            timestamp: 1,
            key: None,
            value: Some(&[number; 300]),
            headers: &[],
        };
        transaction.append_record(&partition, &record);
        transaction.put(b"b/number", &[number; 300]);
        let committed = storage.commit(transaction).unwrap();
        assert!(storage.wait(committed.ticket));
    }
    partition
}

fn segments(disk: &SimDisk, topic: &str) -> Vec<PathBuf> {
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .filter(|path| {
            let text = path.to_string_lossy();
            text.contains(&format!("/{topic}-")) && text.ends_with(".log")
        })
        .collect()
}

/// Runs a whole pass in steps of `bytes`; returns their number.
fn pass(storage: &Storage, bytes: u64) -> u32 {
    let mut scrub = Scrub::new();
    assert!(!scrub.step(&storage.inner, bytes), "not due");
    scrub.next_pass = Instant::now();
    let mut steps = 1;
    while scrub.step(&storage.inner, bytes) {
        steps += 1;
    }
    assert!(scrub.next_pass > Instant::now());
    steps
}

#[test]
fn a_pass_finds_each_flipped_bit_once_and_names_its_offsets() {
    let disk = SimDisk::new(1);
    let storage = open(&disk);
    let partition = filled(&storage);
    assert!(pass(&storage, 1000) > 40);
    assert_eq!(partition.damage(), []);
    let paths = segments(&disk, "t");
    assert!(paths.len() > 3);
    for path in [&paths[1], paths.last().unwrap()] {
        disk.edit(path, |bytes| bytes[4096 + 100] ^= 1);
    }
    for bytes in [1000, BYTES_PER_ROUND] {
        pass(&storage, bytes);
        let damage = partition.damage();
        assert_eq!(damage.len(), 2, "{damage:?}");
        for gap in damage {
            assert_eq!(gap.to - gap.from, 1);
        }
        assert_eq!(storage.stats().alarms.len(), 2);
    }
}

#[test]
fn a_damaged_journal_is_replaced_by_a_snapshot() {
    let disk = SimDisk::new(2);
    let storage = open(&disk);
    let partition = filled(&storage);
    let first = segments(&disk, "__state").remove(0);
    disk.edit(&first, |bytes| bytes[4096 + 100] ^= 1);
    pass(&storage, BYTES_PER_ROUND);
    let alarms = storage.stats().alarms;
    assert!(alarms[0].contains("topic __state"), "{alarms:?}");
    assert!(storage.wait(storage.fence()));
    storage.run_maintenance();
    assert!(!segments(&disk, "__state").contains(&first));
    drop((partition, storage));
    let storage = open(&disk.copy());
    assert_eq!(storage.stats().alarms, Vec::<String>::new());
    assert_eq!(storage.get(b"b/number").unwrap(), [99; 300]);
}
