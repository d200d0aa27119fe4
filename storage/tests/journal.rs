//! The journal of the state under crashes: rolls, snapshots, deletions, damage.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use forebay_records::RecordRef;
use forebay_storage::disk::SimDisk;
use forebay_storage::{Config, Preallocation, RecoveryReport, Storage, TopicConfig, Transaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> Config {
    let mut config = Config::new("/data");
    config.threads = false;
    config.preallocation = Preallocation::None;
    config.ballast_bytes = 0;
    config.segment_size = 8 << 10;
    config.on_fatal = Arc::new(|_| {});
    config.clock = Arc::new(|| 1_000_000);
    config
}

fn open(disk: &SimDisk) -> (Storage, RecoveryReport) {
    Storage::open(config(), Arc::new(disk.clone())).unwrap()
}

fn journal_segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .filter(|path| {
            let text = path.to_string_lossy();
            text.contains("__state") && text.ends_with(".log")
        })
        .collect()
}

/// Commits transactions of one record and one key each, to two partitions in
/// turn, until the disk fails; returns how many were acknowledged.
fn transactions(storage: &Storage, count: u64) -> u64 {
    let Ok(topic) = storage.create_topic("t", TopicConfig::with_partitions(2)) else {
        return 0;
    };
    for number in 0..count {
        let partition = topic.partition((number % 2) as u32).unwrap();
        let mut transaction = Transaction::new();
        let record = RecordRef {
            timestamp: 1,
            key: None,
            value: Some(b"reading"),
            headers: &[],
        };
        transaction.append_record(&partition, &record);
        transaction.put(b"b/number", &[number as u8; 600]);
        let acknowledged = storage
            .commit(transaction)
            .is_ok_and(|committed| storage.wait(committed.ticket));
        if !acknowledged {
            return number;
        }
    }
    count
}

#[test]
fn a_power_cut_while_the_journal_rolls_keeps_the_acknowledged_parts_of_transactions() {
    const COUNT: u64 = 30;
    let mut cut = 1;
    let mut rolled = 0;
    loop {
        let disk = SimDisk::new(cut);
        disk.cut_power_at(cut);
        let acknowledged = Storage::open(config(), Arc::new(disk.clone()))
            .map_or(0, |(storage, _)| transactions(&storage, COUNT));
        if !disk.has_failed() {
            break;
        }
        for crash in 0..3 {
            let after = disk.crash(crash * 1000 + cut);
            rolled += usize::from(journal_segments(&after).len() > 1);
            // The second open finds what the first one left.
            for _ in 0..2 {
                let (storage, report) = open(&after);
                let what = format!("cut {cut} crash {crash} acknowledged {acknowledged}");
                assert_eq!(report.damage, [], "{what}");
                let Some(topic) = storage.topic("t") else {
                    assert_eq!(acknowledged, 0, "{what}");
                    break;
                };
                let end: u64 = (0..2)
                    .map(|at| topic.partition(at).unwrap().offsets().high_watermark)
                    .sum();
                assert!(
                    end >= acknowledged && end <= acknowledged + 1,
                    "{what}: {end}"
                );
                let number = storage
                    .get(b"b/number")
                    .map_or(0, |value| u64::from(value[0]) + 1);
                assert_eq!(number, end, "{what}");
                while storage.run_commit() {}
            }
        }
        cut += 1;
    }
    assert!(rolled > 100, "{rolled}");
}

#[test]
fn a_journal_that_begins_with_a_snapshot_is_not_reported_as_damaged() {
    let disk = SimDisk::new(1);
    let (storage, _) = open(&disk);
    assert_eq!(transactions(&storage, 60), 60);
    for _ in 0..3 {
        storage.run_maintenance();
        while storage.run_commit() {}
    }
    assert_eq!(journal_segments(&disk).len(), 1);
    storage.close();
    let (storage, report) = open(&disk);
    assert_eq!(report.damage, []);
    assert_eq!(storage.stats().alarms, Vec::<String>::new());
    assert_eq!(storage.get(b"b/number").unwrap(), [59; 600]);
}

#[test]
fn a_deleted_topic_does_not_come_back_after_a_power_cut() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (storage, _) = open(&disk);
        transactions(&storage, 3);
        storage.delete_topic("t").unwrap();
        assert!(storage.wait(storage.fence()));
        let after = disk.crash(seed);
        let (storage, report) = open(&after);
        assert!(
            storage.topic("t").is_none(),
            "seed {seed}: {:?}",
            report.notes
        );
    }
}

#[test]
fn damage_in_a_sealed_part_of_the_journal_is_reported() {
    let disk = SimDisk::new(1);
    let (storage, _) = open(&disk);
    transactions(&storage, 20);
    storage.close();
    let sealed = journal_segments(&disk);
    assert!(sealed.len() > 1);
    let damaged = disk.copy();
    damaged.edit(&sealed[0], |bytes| bytes[5000] ^= 1);
    let (storage, _) = open(&damaged);
    let alarms = storage.stats().alarms;
    assert!(alarms[0].contains("is damaged at byte"), "{alarms:?}");
    let headless = disk.copy();
    forebay_storage::disk::Disk::unlink(&headless, &sealed[0]).unwrap();
    let (storage, _) = open(&headless);
    let alarms = storage.stats().alarms;
    assert!(alarms[0].contains("lacks its beginning"), "{alarms:?}");
}
