//! Torn tails against damage, without marks; a full disk in the middle of a commit.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use forebay_records::RecordRef;
use forebay_storage::disk::{Fault, SimDisk};
use forebay_storage::{Config, Partition, Preallocation, RecoveryReport, Storage, TopicConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> Config {
    let mut config = Config::new("/data");
    config.threads = false;
    config.preallocation = Preallocation::None;
    config.ballast_bytes = 0;
    config.on_fatal = Arc::new(|_| {});
    config
}

fn open(disk: &SimDisk) -> (Storage, RecoveryReport) {
    Storage::open(config(), Arc::new(disk.clone())).unwrap()
}

fn append(storage: &Storage, partition: &Partition) -> u64 {
    let record = RecordRef {
        timestamp: 1,
        key: None,
        value: Some(&[1; 60]),
        headers: &[],
    };
    let appended = partition.append_record(&record).unwrap();
    assert!(storage.wait(appended.ticket));
    appended.base_offset
}

fn segment(disk: &SimDisk) -> PathBuf {
    let is_data = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.contains("/t-") && text.ends_with(".log")
    };
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .find(is_data)
        .unwrap()
}

/// Returns a disk as a crash leaves it after four windows of one frame each,
/// and the length of a frame.
fn crashed() -> (SimDisk, usize) {
    let disk = SimDisk::new(1);
    let (storage, _) = open(&disk);
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    for _ in 0..4 {
        append(&storage, &partition);
    }
    let crashed = disk.crash(1);
    let mut length = 0;
    crashed.edit(&segment(&crashed), |bytes| {
        length = (bytes.len() - 4096) / 4
    });
    (crashed, length)
}

#[test]
fn a_bad_frame_before_an_acknowledged_one_is_damage_with_its_exact_range() {
    let (disk, frame) = crashed();
    for bad in 0..3u64 {
        let copy = disk.copy();
        let at = 4096 + frame * bad as usize + 60;
        copy.edit(&segment(&copy), |bytes| bytes[at] ^= 4);
        let (storage, report) = open(&copy);
        assert_eq!(report.damage.len(), 1, "frame {bad}");
        let gap = report.damage[0].gap;
        assert_eq!((gap.from, gap.to), (bad, bad + 1));
        let partition = storage.topic("t").unwrap().partition(0).unwrap();
        assert_eq!(partition.damage(), [gap]);
        assert_eq!(append(&storage, &partition), 4);
        let chunk = partition.read(0, 1 << 20, true).unwrap();
        assert_eq!(chunk.batches.len(), 4);
        let alarms = storage.stats().alarms;
        let range = format!("acknowledged offsets {bad} to {bad} are damaged");
        assert!(
            alarms.iter().any(|alarm| alarm.contains(&range)),
            "{alarms:?}"
        );
        let mut kept = 0;
        copy.edit(&segment(&copy), |bytes| kept = bytes.len());
        assert_eq!(kept, 4096 + 4 * frame);
    }
}

#[test]
fn a_bad_last_frame_is_a_torn_tail_and_its_bytes_are_zeroed() {
    let (disk, frame) = crashed();
    for bit in 0..frame {
        let copy = disk.copy();
        copy.edit(&segment(&copy), |bytes| {
            bytes[4096 + 3 * frame + bit] ^= 0x40
        });
        let (storage, report) = open(&copy);
        assert_eq!(report.damage, [], "byte {bit}");
        let partition = storage.topic("t").unwrap().partition(0).unwrap();
        let end = partition.offsets().log_end;
        // The padding of a frame is under no checksum and holds nothing.
        assert!(
            end == 3 && report.torn.len() == 1 || end == 4 && bit >= frame - 8,
            "byte {bit}"
        );
        if end == 3 {
            copy.edit(&segment(&copy), |bytes| {
                assert!(bytes[4096 + 3 * frame..].iter().all(|byte| *byte == 0));
            });
            assert_eq!(append(&storage, &partition), 3);
        }
    }
}

#[test]
fn a_full_disk_in_a_commit_frees_the_ballast_and_the_commit_succeeds() {
    let disk = SimDisk::new(2);
    let mut with_ballast = config();
    with_ballast.ballast_bytes = 8192;
    let (storage, _) = Storage::open(with_ballast, Arc::new(disk.clone())).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    append(&storage, &partition);
    storage.run_maintenance();
    while storage.run_commit() {}
    assert!(
        disk.files_below(Path::new("/data"))
            .contains(&PathBuf::from("/data/ballast"))
    );
    disk.fail_nth(1, Fault::Full);
    append(&storage, &partition);
    assert!(disk.has_failed());
    assert!(
        !disk
            .files_below(Path::new("/data"))
            .contains(&PathBuf::from("/data/ballast"))
    );
    assert!(storage.stats().full);
    assert_eq!(partition.read(0, 1 << 20, true).unwrap().batches.len(), 2);
}
