//! The whole storage on a real directory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bytes::Bytes;
use forebay_records::{BatchBuilder, Compression, RecordRef, records};
use forebay_storage::disk::RealDisk;
use forebay_storage::{
    AppendError, AppendOptions, Config, GapReason, OpenError, Partition, RecoveryReport, Storage,
    TopicConfig, Transaction,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn open(dir: &Path) -> (Storage, RecoveryReport) {
    Storage::open(Config::new(dir), Arc::new(RealDisk::new())).unwrap()
}

fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (at, value) in values.iter().enumerate() {
        builder.push(&RecordRef {
            timestamp: 1000 + at as i64,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder.finish(Compression::None).unwrap()
}

fn record(value: &[u8], timestamp: i64) -> RecordRef<'_> {
    RecordRef {
        timestamp,
        key: Some(b"k"),
        value: Some(value),
        headers: &[],
    }
}

fn all_values(partition: &Partition) -> Vec<(i64, String)> {
    let mut from = partition.offsets().log_start;
    let mut values = Vec::new();
    loop {
        let chunk = partition.read(from, 100_000, true).unwrap();
        for batch in &chunk.batches {
            for record in records(batch, 1 << 20).unwrap() {
                let record = record.unwrap();
                values.push((
                    record.offset,
                    String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
                ));
            }
        }
        if chunk.next_offset >= chunk.high_watermark {
            return values;
        }
        from = chunk.next_offset;
    }
}

#[test]
fn what_was_durable_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<(i64, String)> = (0..300).map(|at| (at, format!("value {at}"))).collect();
    {
        let (storage, _) = open(dir.path());
        let topic = storage
            .create_topic("press", TopicConfig::with_partitions(2))
            .unwrap();
        let partition = topic.partition(1).unwrap();
        let mut last = None;
        for at in (0..300).step_by(3) {
            let values: Vec<String> = (at..at + 3).map(|at| format!("value {at}")).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let appended = partition
                .append_batch(batch(&values), AppendOptions::default())
                .unwrap();
            assert_eq!(appended.base_offset, at);
            last = Some(appended.ticket);
        }
        assert!(storage.wait(last.unwrap()));
        assert_eq!(all_values(&partition), expected);
        let mut transaction = Transaction::new();
        transaction.put(b"b/x", b"1");
        let committed = storage.commit(transaction).unwrap();
        assert!(storage.wait(committed.ticket));
        storage.close();
        assert_eq!(
            partition.append_batch(batch(&["late"]), AppendOptions::default()),
            Err(AppendError::ShuttingDown)
        );
    }
    for _ in 0..2 {
        let (storage, report) = open(dir.path());
        assert_eq!(report.damage, []);
        assert!(!report.view_rebuilt);
        let partition = storage.topic("press").unwrap().partition(1).unwrap();
        assert_eq!(all_values(&partition), expected);
        assert_eq!(storage.get(b"b/x"), Some(b"1".to_vec()));
        assert_eq!(partition.max_timestamp().unwrap().1, 1002);
        assert_eq!(partition.offset_for_time(1001).unwrap(), Some((1, 1001)));
        assert_eq!(partition.offset_for_time(5000).unwrap(), None);
    }
}

#[test]
fn records_of_one_window_share_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.threads = false;
    let (storage, _) = Storage::open(config, Arc::new(RealDisk::new())).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    for at in 0..10u8 {
        let appended = partition.append_record(&record(&[b'a' + at], 5)).unwrap();
        assert_eq!(appended.base_offset, u64::from(at));
    }
    assert_eq!(partition.offsets().high_watermark, 0);
    assert!(storage.run_commit());
    assert_eq!(partition.offsets().high_watermark, 10);
    let chunk = partition.read(3, 1 << 20, false).unwrap();
    assert_eq!(chunk.batches.len(), 1);
    assert_eq!(records(&chunk.batches[0], 1 << 20).unwrap().count(), 10);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_storage, _) = open(dir.path());
    let second = Storage::open(Config::new(dir.path()), Arc::new(RealDisk::new()));
    assert!(matches!(second, Err(OpenError::Locked { .. })));
}

#[test]
fn another_format_version_is_refused_in_a_plain_sentence() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).0.close();
    let path = dir.path().join("FORMAT");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = Storage::open(Config::new(dir.path()), Arc::new(RealDisk::new()))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("has format version 9, this program reads version 1"),
        "{error}"
    );
}

#[test]
fn topics_are_created_grown_altered_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let id = {
        let (storage, _) = open(dir.path());
        let topic = storage
            .create_topic("a", TopicConfig::with_partitions(1))
            .unwrap();
        storage
            .create_topic("b", TopicConfig::with_partitions(3))
            .unwrap();
        assert!(
            storage
                .create_topic("a", TopicConfig::with_partitions(1))
                .is_err()
        );
        assert!(
            storage
                .create_topic("a/b", TopicConfig::with_partitions(1))
                .is_err()
        );
        storage.add_partitions("a", 4).unwrap();
        assert!(storage.add_partitions("a", 4).is_err());
        storage
            .alter_topic("a", [("retention.ms".to_owned(), "5".to_owned())].into())
            .unwrap();
        let partition = storage.topic("b").unwrap().partition(0).unwrap();
        let ticket = partition.append_record(&record(b"x", 1)).unwrap().ticket;
        assert!(storage.wait(ticket));
        storage.delete_topic("b").unwrap();
        assert_eq!(
            partition.append_record(&record(b"x", 1)),
            Err(AppendError::Deleted)
        );
        topic.id()
    };
    let (storage, report) = open(dir.path());
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(storage.topics().len(), 1);
    let topic = storage.topic_by_id(&id).unwrap();
    assert_eq!((topic.name(), topic.partition_count()), ("a", 4));
    assert_eq!(topic.config().configs["retention.ms"], "5");
    assert_eq!(
        std::fs::read_dir(dir.path().join("topics"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn a_gap_moves_the_log_end_and_readers_skip_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (storage, _) = open(dir.path());
        let topic = storage
            .create_topic("t", TopicConfig::with_partitions(1))
            .unwrap();
        let partition = topic.partition(0).unwrap();
        partition.append_record(&record(b"a", 1)).unwrap();
        let gap = partition.append_gap(100, GapReason::Source).unwrap();
        assert_eq!((gap.base_offset, gap.next_offset), (1, 100));
        assert!(partition.append_gap(50, GapReason::Source).is_err());
        let last = partition.append_record(&record(b"b", 2)).unwrap();
        assert_eq!(last.base_offset, 100);
        assert!(storage.wait(last.ticket));
    }
    let (storage, report) = open(dir.path());
    assert_eq!(report.damage, []);
    let partition = storage.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(
        all_values(&partition),
        [(0, "a".to_owned()), (100, "b".to_owned())]
    );
    let chunk = partition.read(50, 1000, true).unwrap();
    assert_eq!((chunk.batches.len(), chunk.next_offset), (1, 101));
    assert_eq!(partition.gaps().len(), 1);
    assert_eq!(partition.damage(), []);
}

#[test]
fn an_expected_offset_that_is_not_the_log_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    let options = AppendOptions {
        expected_offset: Some(0),
        leader_epoch: 3,
    };
    let appended = partition.append_batch(batch(&["a", "b"]), options).unwrap();
    assert_eq!(
        partition.append_batch(batch(&["a", "b"]), options),
        Err(AppendError::OffsetMismatch {
            expected: 0,
            actual: 2
        })
    );
    assert!(storage.wait(appended.ticket));
    let chunk = partition.read(0, 1000, true).unwrap();
    assert_eq!(chunk.batches[0][12..16], 3i32.to_be_bytes());
    assert_eq!(storage.stats().pending_bytes, 0);
}

#[test]
fn many_threads_lose_nothing_and_listeners_hear_of_every_ticket() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(4))
        .unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let listener = Arc::clone(&heard);
    storage.on_commit(Arc::new(move |ticket| {
        listener.fetch_max(ticket.number(), Ordering::AcqRel);
    }));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let partition = topic.partition(thread).unwrap();
            let storage = storage.clone();
            scope.spawn(move || {
                for at in 0..2000 {
                    let ticket = partition
                        .append_record(&record(b"value", at))
                        .unwrap()
                        .ticket;
                    if at % 100 == 0 {
                        assert!(storage.wait(ticket));
                        assert!(partition.offsets().high_watermark > at as u64);
                    }
                }
            });
        }
    });
    let fence = storage.fence();
    assert!(storage.wait(fence));
    storage.close();
    assert!(heard.load(Ordering::Acquire) >= fence.number());
    for index in 0..4 {
        assert_eq!(all_values(&topic.partition(index).unwrap()).len(), 2000);
    }
}

#[test]
fn a_view_that_is_damaged_is_rebuilt_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (storage, _) = open(dir.path());
        for at in 0..50u8 {
            let mut transaction = Transaction::new();
            transaction.put(&[b'm', b'/', at], &[at; 20]);
            transaction.delete(&[b'm', b'/', at / 2]);
            storage.commit(transaction).unwrap();
        }
    }
    for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "CLEAN" {
            std::fs::write(path, b"garbage").unwrap();
        }
    }
    let (storage, report) = open(dir.path());
    assert!(report.view_rebuilt);
    let keys: Vec<u8> = storage
        .scan_prefix(b"m/")
        .iter()
        .map(|(key, _)| key[2])
        .collect();
    assert_eq!(keys, (25..50).collect::<Vec<u8>>());
}

#[test]
fn a_view_whose_files_of_large_values_changed_is_rebuilt_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (storage, _) = open(dir.path());
        let mut transaction = Transaction::new();
        transaction.put(b"m/a", b"1");
        storage.commit(transaction).unwrap();
    }
    std::fs::write(dir.path().join("state/blobs/7"), b"garbage").unwrap();
    let (storage, report) = open(dir.path());
    assert!(report.view_rebuilt);
    assert_eq!(storage.get(b"m/a").unwrap(), b"1");
}

#[test]
fn a_dropped_storage_can_be_opened_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..100 {
        let (storage, _) = open(dir.path());
        let mut transaction = Transaction::new();
        transaction.put(b"m/a", b"1");
        storage.commit(transaction).unwrap();
    }
}

#[test]
fn an_empty_directory_opens_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (storage, _) = open(dir.path());
    // The goal is 100 ms on an idle machine.
    assert!(
        started.elapsed().as_millis() < 2000,
        "{:?}",
        started.elapsed()
    );
    println!("opened in {:?}", started.elapsed());
    storage.close();
}
