#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::config::Config;
use crate::config::Preallocation;
use crate::disk::SimDisk;
use crate::segment::header::HEADER_BLOCK_LEN;
use crate::storage::Storage;
use crate::topic::TopicConfig;
use forebay_records::RecordRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
