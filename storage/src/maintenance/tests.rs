#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::Upkeep;
use crate::config::{Config, Preallocation};
use crate::disk::SimDisk;
use crate::segment::header::HEADER_BLOCK_LEN;
use crate::storage::Storage;
use crate::topic::TopicConfig;
use forebay_records::RecordRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn config() -> Config {
    let mut config = Config::new("/data");
    config.threads = false;
    config.preallocation = Preallocation::None;
    config.ballast_bytes = 0;
    config.on_fatal = Arc::new(|_| {});
    config.clock = Arc::new(|| 1_000_000);
    config
}

const RECORD: RecordRef<'_> = RecordRef {
    timestamp: 1,
    key: None,
    value: Some(b"reading"),
    headers: &[],
};

#[test]
fn a_mark_taken_while_a_window_is_published_describes_one_moment() {
    const WINDOWS: u64 = 4000;
    let (storage, _) = Storage::open(config(), Arc::new(SimDisk::new(1))).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    let is_done = AtomicBool::new(false);
    let marks = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut marks = Vec::new();
            while !is_done.load(Ordering::Acquire) {
                let mark = partition.log.mark();
                if mark.position > 0 && marks.last() != Some(&mark) {
                    marks.push(mark);
                }
            }
            marks
        });
        for _ in 0..WINDOWS {
            let appended = partition.append_record(&RECORD).unwrap();
            assert!(storage.wait(appended.ticket));
        }
        is_done.store(true, Ordering::Release);
        watching.join().unwrap()
    });
    assert!(!marks.is_empty());
    let last = partition.log.mark();
    let frame_len = (last.position - HEADER_BLOCK_LEN as u64) / WINDOWS;
    for mark in marks {
        let frames = (mark.position - HEADER_BLOCK_LEN as u64) / frame_len;
        assert_eq!(
            (frames, mark.next_index),
            (mark.end_offset, mark.end_offset)
        );
    }
}

#[test]
fn an_idle_storage_hardly_wakes_up_and_a_window_wakes_its_upkeep() {
    let mut threaded = config();
    threaded.threads = true;
    threaded.preallocation = Preallocation::ZeroFill;
    let (storage, _) = Storage::open(threaded, Arc::new(SimDisk::new(1))).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let core = &storage.inner.core;
    let wakes = || core.meters.upkeep_wakes.load(Ordering::Acquire);
    // The idle wait is what is measured; the creation settles within it.
    let before = wakes();
    std::thread::sleep(Duration::from_millis(4500));
    assert!(wakes() - before <= 8, "{} wakes", wakes() - before);
    assert!(core.upkeep_idles.load(Ordering::Acquire));
    let before = wakes();
    let started = Instant::now();
    let partition = topic.partition(0).unwrap();
    let appended = partition.append_record(&RECORD).unwrap();
    assert!(storage.wait(appended.ticket));
    while wakes() == before {
        assert!(started.elapsed() < Duration::from_secs(5));
        std::thread::yield_now();
    }
}

#[test]
fn retention_waits_after_the_start_until_holds_can_be_taken() {
    let mut timed = config();
    timed.segment_size = 5000;
    timed.retention.time = Some(Duration::from_millis(1));
    let (storage, _) = Storage::open(timed, Arc::new(SimDisk::new(1))).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    for _ in 0..50 {
        let appended = partition.append_record(&RECORD).unwrap();
        assert!(storage.wait(appended.ticket));
    }
    let mut upkeep = Upkeep::new();
    storage.inner.upkeep(&mut upkeep);
    assert_eq!(partition.offsets().log_start, 0);
    upkeep.opened -= super::RETENTION_GRACE;
    storage.inner.upkeep(&mut upkeep);
    assert!(partition.offsets().log_start > 0);
}

#[test]
fn who_waits_for_an_append_that_the_close_overtook_is_told() {
    let mut threaded = config();
    threaded.threads = true;
    let (storage, _) = Storage::open(threaded, Arc::new(SimDisk::new(1))).unwrap();
    let topic = storage
        .create_topic("t", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    storage.close();
    // An append that was admitted before the close and placed after it.
    let core = &storage.inner.core;
    let mut state = partition.log.lock();
    let appended = partition
        .log
        .push_record(core, &mut state, &RECORD, false, 0);
    drop(state);
    assert!(!storage.wait(appended.ticket));
}
