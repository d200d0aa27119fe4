//! What bounds a quiet partition, one topic, and all topics together.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use forebay_records::RecordRef;
use forebay_storage::disk::{RealDisk, SimDisk};
use forebay_storage::{Config, Partition, Preallocation, Storage, TopicConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR: i64 = 3_600_000;

fn config(clock: &Arc<AtomicI64>) -> Config {
    let clock = Arc::clone(clock);
    let mut config = Config::new("/data");
    config.threads = false;
    config.ballast_bytes = 0;
    config.on_fatal = Arc::new(|_| {});
    config.clock = Arc::new(move || clock.load(Ordering::Acquire));
    config
}

fn open(disk: &SimDisk, config: Config) -> Storage {
    let (storage, report) = Storage::open(config, Arc::new(disk.clone())).unwrap();
    assert_eq!(report.damage, []);
    storage
}

fn topic(storage: &Storage, name: &str, configs: &[(&str, &str)]) -> Partition {
    let mut config = TopicConfig::with_partitions(1);
    for (key, value) in configs {
        config
            .configs
            .insert((*key).to_owned(), (*value).to_owned());
    }
    let topic = storage.create_topic(name, config).unwrap();
    topic.partition(0).unwrap()
}

fn append(storage: &Storage, partition: &Partition, timestamp: i64) {
    let record = RecordRef {
        timestamp,
        key: None,
        value: Some(&[1; 900]),
        headers: &[],
    };
    let appended = partition.append_record(&record).unwrap();
    assert!(storage.wait(appended.ticket));
}

fn logs(disk: &SimDisk, topic: &str) -> Vec<PathBuf> {
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .filter(|path| {
            let text = path.to_string_lossy();
            text.contains(&format!("/{topic}-")) && text.ends_with(".log")
        })
        .collect()
}

fn first_offset(partition: &Partition) -> Option<u64> {
    let start = partition.offsets().log_start;
    let chunk = partition.read(start, 1, true).unwrap();
    let batch = chunk.batches.first()?;
    Some(u64::from_be_bytes(batch[..8].try_into().unwrap()))
}

#[test]
fn a_partition_that_went_quiet_is_empty_once_its_records_are_too_old() {
    for preallocation in [Preallocation::ZeroFill, Preallocation::Fallocate] {
        let disk = SimDisk::new(1);
        let now = Arc::new(AtomicI64::new(HOUR));
        let mut timed = config(&now);
        timed.preallocation = preallocation;
        timed.retention.time = Some(Duration::from_secs(3600));
        let storage = open(&disk, timed.clone());
        let partition = topic(&storage, "t", &[]);
        append(&storage, &partition, HOUR);
        partition.hold("uplink", Some(0));
        now.store(3 * HOUR, Ordering::Release);
        storage.run_maintenance();
        assert_eq!(partition.offsets().log_start, 0, "held");
        partition.hold("uplink", None);
        storage.run_maintenance();
        assert_eq!(partition.offsets().log_start, 1);
        assert_eq!(first_offset(&partition), None);
        assert_eq!(logs(&disk, "t").len(), 1);
        storage.run_maintenance();
        assert_eq!(logs(&disk, "t").len(), 1);
        append(&storage, &partition, 3 * HOUR);
        assert_eq!(first_offset(&partition), Some(1));
        drop(storage);
        let storage = open(&disk.crash(1), timed);
        let partition = storage.topic("t").unwrap().partition(0).unwrap();
        assert_eq!(first_offset(&partition), Some(1));
        assert_eq!(partition.offsets().log_end, 2);
    }
}

#[test]
fn a_partition_that_is_written_slowly_keeps_no_more_than_its_limit_and_an_eighth() {
    let disk = SimDisk::new(2);
    let now = Arc::new(AtomicI64::new(0));
    let mut timed = config(&now);
    timed.retention.time = Some(Duration::from_secs(24 * 3600));
    let storage = open(&disk, timed);
    let partition = topic(&storage, "t", &[]);
    for hour in 0..100 {
        now.store(hour * HOUR, Ordering::Release);
        append(&storage, &partition, hour * HOUR);
        storage.run_maintenance();
        let kept = hour as u64 - partition.offsets().log_start;
        assert!(kept <= 24 + 4, "{kept} hours at hour {hour}");
        assert!(hour < 24 || kept >= 24, "{kept} hours at hour {hour}");
        assert!(logs(&disk, "t").len() <= 10);
    }
    // What closed segments had allocated ahead is given back.
    let sizes: Vec<usize> = logs(&disk, "t")
        .iter()
        .map(|path| {
            let mut length = 0;
            disk.edit(path, |bytes| length = bytes.len());
            length
        })
        .collect();
    assert!(
        sizes.iter().rev().skip(1).all(|size| *size < 16 << 10),
        "{sizes:?}"
    );
}

#[test]
fn a_topic_keeps_about_its_retention_bytes() {
    let disk = SimDisk::new(3);
    let now = Arc::new(AtomicI64::new(0));
    let storage = open(&disk, config(&now));
    let bounded = topic(
        &storage,
        "bounded",
        &[("retention.bytes", "40000"), ("segment.bytes", "10000")],
    );
    let free = topic(&storage, "free", &[("segment.bytes", "10000")]);
    for _ in 0..100 {
        append(&storage, &bounded, 1);
        append(&storage, &free, 1);
    }
    bounded.hold("uplink", Some(20));
    storage.run_maintenance();
    let start = bounded.offsets().log_start;
    assert!(start > 0 && start <= 20, "{start}");
    bounded.hold("uplink", None);
    storage.run_maintenance();
    let size = bounded.size_bytes();
    assert!(size > 30_000 && size <= 40_000, "{size}");
    assert_eq!(first_offset(&bounded), Some(bounded.offsets().log_start));
    assert_eq!(free.offsets().log_start, 0);
}

#[test]
fn all_topics_together_keep_about_the_retention_size_and_the_oldest_goes_first() {
    let disk = SimDisk::new(4);
    let now = Arc::new(AtomicI64::new(0));
    let mut sized = config(&now);
    sized.segment_size = 10_000;
    sized.retention.size = Some(100_000);
    let storage = open(&disk, sized);
    let old = topic(&storage, "old", &[]);
    let young = topic(&storage, "young", &[]);
    for at in 0..80 {
        now.store(at, Ordering::Release);
        append(&storage, &old, at);
    }
    for at in 80..120 {
        now.store(at, Ordering::Release);
        append(&storage, &young, at);
    }
    storage.run_maintenance();
    let total = old.size_bytes() + young.size_bytes();
    assert!(total > 80_000 && total <= 100_000, "{total}");
    assert!(old.offsets().log_start > 0);
    assert_eq!(young.offsets().log_start, 0);
}

#[test]
fn with_fallocate_a_segment_has_its_size_at_once_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let mut allocated = config(&now);
    allocated.data_dir = dir.path().to_owned();
    allocated.preallocation = Preallocation::Fallocate;
    allocated.segment_size = 64 << 10;
    let open = || {
        let disk = Arc::new(RealDisk::new());
        let (storage, report) = Storage::open(allocated.clone(), disk).unwrap();
        assert_eq!(report.damage, []);
        storage
    };
    let storage = open();
    let partition = topic(&storage, "t", &[]);
    let id = storage.topic("t").unwrap().id();
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    append(&storage, &partition, 1);
    let path = dir
        .path()
        .join(format!("topics/t-{hex}/0/00000000000000000000.log"));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 64 << 10);
    for _ in 0..100 {
        append(&storage, &partition, 1);
    }
    drop((partition, storage));
    let storage = open();
    let partition = storage.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.offsets().high_watermark, 101);
    append(&storage, &partition, 1);
    let read = partition.read(0, 1 << 20, true).unwrap();
    assert_eq!(read.batches.len(), 102);
}

#[test]
fn retention_and_a_deletion_of_records_never_lower_the_log_start() {
    let disk = SimDisk::new(5);
    let now = Arc::new(AtomicI64::new(0));
    let mut sized = config(&now);
    sized.segment_size = 8000;
    sized.retention.size = Some(20_000);
    let storage = open(&disk, sized.clone());
    let partition = topic(&storage, "t", &[]);
    for _ in 0..60 {
        append(&storage, &partition, 1);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| storage.run_maintenance());
        scope.spawn(|| {
            for offset in 1..60 {
                partition.set_log_start(offset).unwrap();
            }
        });
    });
    assert!(storage.wait(storage.fence()));
    storage.run_maintenance();
    assert_eq!(partition.offsets().log_start, 59);
    drop((partition, storage));
    let storage = open(&disk.copy(), sized);
    let partition = storage.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.offsets().log_start, 59);
}
