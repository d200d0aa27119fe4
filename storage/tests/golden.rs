//! Pins the bytes that `docs/log-format.md` describes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use forebay_records::RecordRef;
use forebay_storage::disk::{Disk, SimDisk};
use forebay_storage::{Config, GapReason, Preallocation, Storage, TopicConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment-v1.bin");

fn config() -> Config {
    let mut config = Config::new("/data");
    config.threads = false;
    config.ballast_bytes = 0;
    config.preallocation = Preallocation::None;
    config.clock = Arc::new(|| 1_700_000_000_000);
    config
}

fn segment_of(disk: &SimDisk) -> PathBuf {
    let is_data = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.contains("/golden-") && text.ends_with(".log")
    };
    disk.files_below(Path::new("/data/topics"))
        .into_iter()
        .find(is_data)
        .unwrap()
}

#[test]
fn a_segment_has_the_bytes_of_the_golden_file() {
    let disk = SimDisk::new(42);
    let (storage, _) = Storage::open(config(), Arc::new(disk.clone())).unwrap();
    let topic = storage
        .create_topic("golden", TopicConfig::with_partitions(1))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    for at in 0..3 {
        let record = RecordRef {
            timestamp: 1_700_000_000_000 + at,
            key: Some(b"press/1/force"),
            value: Some(b"17.5"),
            headers: &[],
        };
        let appended = partition.append_record(&record).unwrap();
        assert!(storage.wait(appended.ticket));
    }
    let gap = partition.append_gap(10, GapReason::Source).unwrap();
    assert!(storage.wait(gap.ticket));
    let file = disk.open(&segment_of(&disk)).unwrap();
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    if std::env::var_os("FOREBAY_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &bytes).unwrap();
    }
    let golden = std::fs::read(GOLDEN).unwrap();
    assert!(
        bytes == golden,
        "the format changed: docs/log-format.md and its version have to follow"
    );
    assert_eq!(&bytes[..8], b"FBAYSEG1");
    assert_eq!(bytes[..128], bytes[2048..2176]);
}
