//! Crashes, faults and damage on a simulated disk.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bytes::Bytes;
use forebay_records::{BatchBuilder, Compression, RecordRef, records};
use forebay_storage::disk::{Fault, SimDisk};
use forebay_storage::{
    AppendError, AppendOptions, Config, GapReason, Partition, Preallocation, RecoveryReport,
    Storage, TopicConfig, Transaction, WhenFull,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const MAX: usize = 1 << 20;

fn config() -> Config {
    let mut config = Config::new("/data");
    config.threads = false;
    config.ballast_bytes = 0;
    config.segment_size = 16 << 10;
    config.on_fatal = Arc::new(|_| {});
    config.clock = Arc::new(|| 1_000_000);
    config
}

fn open_with(disk: &SimDisk, config: Config) -> (Storage, RecoveryReport) {
    Storage::open(config, Arc::new(disk.clone())).unwrap()
}

fn open(disk: &SimDisk) -> (Storage, RecoveryReport) {
    open_with(disk, config())
}

fn batch(values: &[Vec<u8>]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(&RecordRef {
            timestamp: 7,
            key: None,
            value: Some(value),
            headers: &[],
        });
    }
    builder.finish(Compression::None).unwrap()
}

fn value(partition: u32, offset: u64) -> Vec<u8> {
    let mut value = format!("{partition}/{offset}/").into_bytes();
    value.resize(20 + (offset as usize * 37) % 400, b'x');
    value
}

/// Appends `count` records whose values follow from their offsets.
fn append(partition: &Partition, count: u64) -> Result<forebay_storage::Appended, AppendError> {
    let base = partition.offsets().log_end;
    let values: Vec<Vec<u8>> = (base..base + count)
        .map(|at| value(partition.index(), at))
        .collect();
    partition.append_batch(batch(&values), AppendOptions::default())
}

/// Reads everything and checks that each value is that of its offset; returns the offsets.
fn offsets_of(partition: &Partition) -> Vec<u64> {
    let mut from = partition.offsets().log_start;
    let mut offsets = Vec::new();
    loop {
        let chunk = partition.read(from, MAX, true).unwrap();
        for batch in &chunk.batches {
            for record in records(batch, MAX).unwrap() {
                let record = record.unwrap();
                assert_eq!(
                    record.value.unwrap(),
                    value(partition.index(), record.offset as u64)
                );
                offsets.push(record.offset as u64);
            }
        }
        if chunk.next_offset >= chunk.high_watermark {
            return offsets;
        }
        from = chunk.next_offset;
    }
}

fn partition(storage: &Storage, index: u32) -> Partition {
    storage.topic("t").unwrap().partition(index).unwrap()
}

fn segments(disk: &SimDisk, index: u32) -> Vec<PathBuf> {
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .filter(|path| {
            let text = path.to_string_lossy();
            text.contains("/t-") && text.contains(&format!("/{index}/")) && text.ends_with(".log")
        })
        .collect()
}

/// What a client may rely on after a run.
#[derive(Default, Debug)]
struct Promise {
    /// Acknowledged log ends of the two partitions.
    acknowledged: [u64; 2],
    /// Issued log ends.
    issued: [u64; 2],
    /// Newest acknowledged transaction, and the newest issued.
    transaction: u64,
    transaction_issued: u64,
}

/// Each of how many cases is run (CONTRIBUTING.md).
fn stride() -> u64 {
    std::env::var("FOREBAY_TEST_STRIDE").map_or(1, |text| text.parse().unwrap())
}

/// A run of appends, transactions, upkeep and a clean end, until the disk fails.
fn scenario(disk: &SimDisk, seed: u64) -> Promise {
    let mut promise = Promise::default();
    let mut random = fastrand::Rng::with_seed(seed);
    let Ok((storage, _)) = Storage::open(config(), Arc::new(disk.clone())) else {
        return promise;
    };
    if storage
        .create_topic("t", TopicConfig::with_partitions(2))
        .is_err()
    {
        return promise;
    }
    let parts = [partition(&storage, 0), partition(&storage, 1)];
    let mut number = 0;
    for _ in 0..40 {
        let mut fence = None;
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..2);
            let Ok(appended) = append(&parts[at], random.u64(1..6)) else {
                return promise;
            };
            promise.issued[at] = appended.next_offset;
            fence = Some(appended.ticket);
        }
        if random.bool() {
            number += 1;
            let mut transaction = Transaction::new();
            for part in &parts {
                let end = part.offsets().log_end;
                let values = [value(part.index(), end)];
                transaction.append_batch(part, batch(&values), AppendOptions::default());
                transaction.put(
                    format!("b/end{}", part.index()).as_bytes(),
                    &(end + 1).to_le_bytes(),
                );
            }
            transaction.put(b"b/number", &u64::to_le_bytes(number));
            let Ok(committed) = storage.commit(transaction) else {
                return promise;
            };
            promise.transaction_issued = number;
            for (at, appended) in committed.appended.iter().enumerate() {
                promise.issued[at] = appended.next_offset;
            }
            fence = Some(committed.ticket);
        }
        if !fence.is_some_and(|fence| storage.wait(fence)) {
            return promise;
        }
        promise.acknowledged = promise.issued;
        promise.transaction = number;
        if random.u8(0..4) == 0 {
            storage.run_maintenance();
        }
    }
    storage.close();
    promise
}

fn number(storage: &Storage, key: &[u8]) -> u64 {
    storage
        .get(key)
        .map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

/// Opens what is left and holds it against the promise.
fn check(disk: &SimDisk, promise: &Promise, what: &str) {
    let (storage, report) = open(disk);
    assert_eq!(report.damage, [], "{what}: {promise:?}");
    let Some(topic) = storage.topic("t") else {
        assert_eq!(promise.acknowledged, [0, 0], "{what}");
        return;
    };
    assert_eq!(report.notes, Vec::<String>::new(), "{what}");
    let transaction = number(&storage, b"b/number");
    assert!(
        (promise.transaction..=promise.transaction_issued).contains(&transaction),
        "{what}: transaction {transaction} {promise:?}"
    );
    for at in 0..2usize {
        let part = topic.partition(at as u32).unwrap();
        let offsets = offsets_of(&part);
        let end = offsets.len() as u64;
        assert_eq!(offsets, (0..end).collect::<Vec<u64>>(), "{what}");
        assert_eq!(part.offsets().log_end, end, "{what}");
        assert!(
            end >= promise.acknowledged[at] && end <= promise.issued[at],
            "{what}: {end} {promise:?}"
        );
        // The state names an end only if the records below it are there.
        assert!(
            number(&storage, format!("b/end{at}").as_bytes()) <= end,
            "{what}"
        );
        let appended = append(&part, 3).unwrap();
        assert!(storage.wait(appended.ticket));
        assert_eq!(offsets_of(&part).len() as u64, end + 3, "{what}");
    }
    storage.close();
}

#[test]
fn after_a_power_cut_at_any_operation_what_was_acknowledged_is_there() {
    for seed in 0..2 {
        let mut cut = 1;
        loop {
            let disk = SimDisk::new(seed);
            disk.cut_power_at(cut);
            let promise = scenario(&disk, seed);
            if !disk.has_failed() {
                break;
            }
            for crash in 0..2 {
                check(
                    &disk.crash(crash * 1000 + cut),
                    &promise,
                    &format!("seed {seed} cut {cut} crash {crash}"),
                );
            }
            cut += stride();
        }
        assert!(cut > 100, "the scenario has {cut} operations");
    }
}

#[test]
fn when_any_operation_fails_once_nothing_acknowledged_is_lost() {
    for fault in [Fault::Io, Fault::Full] {
        let mut n = 1;
        loop {
            let disk = SimDisk::new(9);
            disk.fail_nth(n, fault);
            let promise = scenario(&disk, 9);
            if !disk.has_failed() {
                break;
            }
            check(&disk.crash(n), &promise, &format!("{fault:?} at {n}"));
            n += stride();
        }
        assert!(n > 100);
    }
}

#[test]
fn a_failed_sync_is_fatal_and_releases_no_ticket() {
    let disk = SimDisk::new(1);
    let died = Arc::new(AtomicBool::new(false));
    let mut with_flag = config();
    let flag = Arc::clone(&died);
    with_flag.on_fatal = Arc::new(move |message| {
        assert!(message.contains("fdatasync failed"), "{message}");
        flag.store(true, Ordering::Release);
    });
    let (storage, _) = open_with(&disk, with_flag);
    storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let part = partition(&storage, 0);
    assert!(storage.wait(append(&part, 1).unwrap().ticket));
    let appended = append(&part, 1).unwrap();
    disk.fail_nth(2, Fault::Io);
    assert!(!storage.wait(appended.ticket));
    assert!(died.load(Ordering::Acquire));
    assert!(!storage.is_durable(appended.ticket));
    assert_eq!(part.offsets().high_watermark, 1);
    assert_eq!(append(&part, 1), Err(AppendError::ShuttingDown));
}

/// Returns a disk with one closed log of `windows` windows and its log end.
fn closed_log(seed: u64, windows: u64) -> (SimDisk, u64) {
    let disk = SimDisk::new(seed);
    let mut quiet = config();
    quiet.preallocation = Preallocation::None;
    let (storage, _) = open_with(&disk, quiet);
    storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let part = partition(&storage, 0);
    for _ in 0..windows {
        assert!(storage.wait(append(&part, 2).unwrap().ticket));
    }
    storage.close();
    (disk, windows * 2)
}

/// Checks that each offset below `end` is read or reported as damage, never both silent.
fn accounted(storage: &Storage, end: u64, what: &str) -> u64 {
    let part = partition(storage, 0);
    let offsets = offsets_of(&part);
    let damage = part.damage();
    for offset in 0..end {
        let is_damaged = damage
            .iter()
            .any(|gap| gap.from <= offset && offset < gap.to);
        assert!(
            offsets.contains(&offset) || is_damaged,
            "{what}: offset {offset} vanished"
        );
    }
    let next = part.offsets().log_end;
    assert!(next >= end, "{what}: offset {next} would be used twice");
    let appended = append(&part, 1).unwrap();
    assert!(storage.wait(appended.ticket));
    assert_eq!(appended.base_offset, next, "{what}");
    offsets.len() as u64
}

#[test]
fn a_flipped_bit_anywhere_in_a_segment_loses_nothing_silently() {
    let (disk, end) = closed_log(3, 4);
    let path = segments(&disk, 0).remove(0);
    let mut length = 0;
    disk.edit(&path, |bytes| length = bytes.len());
    let places = (0..160).chain(2040..2200).chain(4096..length);
    for at in places.step_by(stride() as usize) {
        let bad = disk.copy();
        bad.edit(&path, |bytes| bytes[at] ^= 0x10);
        let (storage, _) = open(&bad);
        accounted(&storage, end, &format!("byte {at}"));
    }
}

#[test]
fn a_segment_cut_at_any_length_loses_nothing_silently() {
    let (disk, end) = closed_log(4, 4);
    let path = segments(&disk, 0).remove(0);
    let mut length = 0;
    disk.edit(&path, |bytes| length = bytes.len());
    for keep in (0..length).step_by(7 * stride() as usize) {
        let bad = disk.copy();
        bad.edit(&path, |bytes| bytes.truncate(keep));
        let (storage, report) = open(&bad);
        let readable = accounted(&storage, end, &format!("length {keep}"));
        assert!(
            readable < end && (!report.damage.is_empty()),
            "length {keep}"
        );
    }
}

#[test]
fn damage_before_acknowledged_data_is_kept_reported_and_survives_restarts() {
    let (disk, end) = closed_log(5, 8);
    let path = segments(&disk, 0).remove(0);
    disk.edit(&path, |bytes| bytes[4096 + 500] ^= 1);
    for _ in 0..3 {
        let (storage, _) = open(&disk);
        let readable = accounted(&storage, end, "damaged");
        assert!(readable > 10, "{readable}");
        assert_eq!(partition(&storage, 0).damage().len(), 1);
        assert!(
            storage
                .stats()
                .alarms
                .iter()
                .any(|alarm| alarm.contains("damaged"))
                || storage.scan_prefix(b"\0g").len() == 1
        );
        storage.close();
    }
}

#[test]
fn a_removed_partition_directory_is_reported_as_damage() {
    let (disk, end) = closed_log(6, 4);
    for path in segments(&disk, 0) {
        forebay_storage::disk::Disk::unlink(&disk, &path).unwrap();
    }
    let (storage, report) = open(&disk);
    assert_eq!(report.damage.len(), 1);
    assert_eq!(
        (report.damage[0].gap.from, report.damage[0].gap.to),
        (0, end)
    );
    accounted(&storage, end, "removed");
}

#[test]
fn without_its_journal_a_topic_is_restored_from_its_directory() {
    let (disk, end) = closed_log(7, 4);
    for path in disk.files_below(Path::new("/data/topics")) {
        if path.to_string_lossy().contains("__state") {
            forebay_storage::disk::Disk::unlink(&disk, &path).unwrap();
        }
    }
    let (storage, report) = open(&disk);
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    assert_eq!(offsets_of(&partition(&storage, 0)).len() as u64, end);
}

#[test]
fn retention_by_time_removes_whole_segments_below_no_hold() {
    let disk = SimDisk::new(8);
    let now = Arc::new(AtomicI64::new(10));
    let clock = Arc::clone(&now);
    let mut timed = config();
    timed.segment_size = 8 << 10;
    timed.retention.time = Some(Duration::from_millis(1000));
    timed.clock = Arc::new(move || clock.load(Ordering::Acquire));
    let (storage, _) = open_with(&disk, timed.clone());
    storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let part = partition(&storage, 0);
    for _ in 0..60 {
        assert!(storage.wait(append(&part, 2).unwrap().ticket));
    }
    part.hold("uplink", Some(50));
    now.store(5000, Ordering::Release);
    storage.run_maintenance();
    let start = part.offsets().log_start;
    assert!(start > 0 && start <= 50, "{start}");
    part.hold("uplink", None);
    storage.run_maintenance();
    let start = part.offsets().log_start;
    assert!(start > 50);
    assert_eq!(segments(&disk, 0).len(), 1);
    storage.close();
    let (storage, report) = open_with(&disk, timed);
    assert_eq!(report.damage, []);
    let part = partition(&storage, 0);
    assert_eq!(part.offsets().log_start, start);
    assert_eq!(offsets_of(&part), (start..120).collect::<Vec<u64>>());
    assert!(part.read(start - 1, MAX, true).is_err());
}

#[test]
fn a_full_disk_rejects_or_drops_the_oldest_and_records_the_gap() {
    for when_full in [WhenFull::Reject, WhenFull::DropOldest] {
        let disk = SimDisk::new(10);
        let mut small = config();
        small.segment_size = 8 << 10;
        small.when_full = when_full;
        small.retention.keep_free = 1000;
        let (storage, _) = open_with(&disk, small.clone());
        storage
            .create_topic("t", TopicConfig::with_partitions(1))
            .unwrap();
        let part = partition(&storage, 0);
        for _ in 0..40 {
            assert!(storage.wait(append(&part, 2).unwrap().ticket));
        }
        part.hold("uplink", Some(0));
        disk.set_free(500);
        storage.run_maintenance();
        if when_full == WhenFull::Reject {
            let refused = append(&part, 1);
            assert_eq!(
                refused,
                Err(AppendError::Full {
                    free_bytes: 500,
                    keep_free: 1000
                })
            );
            let mut transaction = Transaction::new();
            transaction.put(b"u/cursor", b"1");
            let committed = storage.commit(transaction).unwrap();
            assert!(storage.wait(committed.ticket));
            disk.set_free(5000);
            storage.run_maintenance();
            assert!(storage.wait(append(&part, 1).unwrap().ticket));
            assert_eq!(part.offsets().log_start, 0);
            continue;
        }
        let start = part.offsets().log_start;
        assert!(start > 0);
        let gaps = part.gaps();
        assert_eq!(
            (gaps[0].from, gaps[0].reason),
            (0, GapReason::DroppedWhenFull)
        );
        assert_eq!(gaps.last().unwrap().to, start);
        storage.close();
        let (storage, _) = open_with(&disk, small);
        assert_eq!(partition(&storage, 0).gaps(), gaps);
    }
}

#[test]
fn the_journal_shrinks_to_a_snapshot_that_alone_suffices() {
    let disk = SimDisk::new(11);
    let (storage, _) = open(&disk);
    for round in 0..400u64 {
        let mut transaction = Transaction::new();
        for key in 0..5u8 {
            transaction.put(&[b'm', key], &[round as u8; 100]);
        }
        transaction.delete(&[b'm', (round % 5) as u8]);
        let committed = storage.commit(transaction).unwrap();
        assert!(storage.wait(committed.ticket));
        if round % 10 == 0 {
            storage.run_maintenance();
        }
    }
    storage.run_maintenance();
    let expected = storage.scan_prefix(b"m");
    assert_eq!(expected.len(), 4);
    let used = storage.stats().used_bytes;
    assert!(used < 120_000, "{used} of about 300000 bytes");
    storage.close();
    let (storage, report) = open(&disk);
    assert!(report.view_rebuilt);
    assert_eq!(storage.scan_prefix(b"m"), expected);
}

#[test]
fn delete_records_hides_at_once_and_frees_whole_segments() {
    let disk = SimDisk::new(12);
    let mut small = config();
    small.segment_size = 8 << 10;
    let (storage, _) = open_with(&disk, small);
    storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let part = partition(&storage, 0);
    for _ in 0..60 {
        assert!(storage.wait(append(&part, 2).unwrap().ticket));
    }
    let before = segments(&disk, 0).len();
    let ticket = part.set_log_start(61).unwrap();
    assert!(storage.wait(ticket));
    assert_eq!(part.offsets().log_start, 61);
    storage.run_maintenance();
    assert!(segments(&disk, 0).len() < before);
    storage.close();
    let (storage, report) = open(&disk);
    assert_eq!(report.damage, []);
    let part = partition(&storage, 0);
    assert_eq!(part.offsets().log_start, 61);
    assert!(part.read(61, MAX, true).unwrap().batches.len() > 1);
}

#[test]
fn appends_beyond_the_pending_limit_are_pushed_back() {
    let disk = SimDisk::new(13);
    let mut tight = config();
    tight.max_pending_bytes = 2000;
    let (storage, _) = open_with(&disk, tight);
    storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let part = partition(&storage, 0);
    let mut last = None;
    let error = loop {
        match append(&part, 2) {
            Ok(appended) => last = Some(appended),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, AppendError::Backpressure { limit: 2000, .. }),
        "{error}"
    );
    assert!(storage.wait(last.unwrap().ticket));
    assert!(append(&part, 1).is_ok());
}

#[test]
fn one_larger_than_the_pending_limit_waits_for_half_of_it() {
    let disk = SimDisk::new(13);
    let mut tight = config();
    tight.max_pending_bytes = 2000;
    let (storage, _) = open_with(&disk, tight);
    let commit = |size: usize| {
        let mut transaction = Transaction::new();
        transaction.put(b"key", &vec![1; size - 3]);
        storage.commit(transaction)
    };
    commit(1001).unwrap();
    assert!(matches!(
        commit(5000),
        Err(AppendError::Backpressure { .. })
    ));
    storage.run_commit();
    // Others are never done.
    commit(1000).unwrap();
    commit(5000).unwrap();
    assert!(matches!(commit(4), Err(AppendError::Backpressure { .. })));
    storage.run_commit();
    assert_eq!(storage.get(b"key").unwrap().len(), 4997);
}
