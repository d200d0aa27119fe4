use super::*;
use forebay_records::{BatchHeader, crc_is_valid, stamp};

/// A stored batch with one record per offset in `offsets`.
fn stored(offsets: std::ops::Range<u64>, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    for offset in offsets.clone() {
        builder.push(&RecordRef {
            timestamp: 1000 + offset as i64,
            key: Some(format!("key-{offset}").as_bytes()),
            value: (offset % 5 != 0).then_some(b"value"),
            headers: &[(b"h", Some(b"1")), (b"n", None)],
        });
    }
    let mut batch = BytesMut::from(&builder.finish(compression).unwrap()[..]);
    stamp(&mut batch, offsets.start as i64, 3);
    batch.freeze()
}

fn cut(from: u64) -> Cut {
    Cut {
        from,
        end: None,
        max_bytes: 1 << 20,
        max_records: u64::MAX,
    }
}

fn span(batches: &[Bytes], cut: Cut) -> (u64, u64) {
    let span = merge(batches, cut, Compression::Zstd).unwrap().unwrap();
    (span.start, span.end)
}

#[test]
fn small_batches_become_one_with_the_same_records() {
    let batches = [
        stored(0..3, Compression::None),
        stored(3..4, Compression::Zstd),
        stored(4..9, Compression::Lz4),
    ];
    let merged = merge(&batches, cut(1), Compression::Zstd).unwrap().unwrap();
    assert_eq!((merged.start, merged.end), (1, 9));
    let header = BatchHeader::parse(&merged.payload).unwrap();
    assert_eq!((header.record_count, header.last_offset_delta), (8, 7));
    let sent: Vec<_> = records(&merged.payload, 1 << 20)
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            (
                record.offset as u64 + 1,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
        })
        .collect();
    let kept: Vec<_> = batches
        .iter()
        .flat_map(|batch| records(batch, 1 << 20).unwrap())
        .map(|record| {
            let record = record.unwrap();
            (
                record.offset as u64,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
        })
        .filter(|record| record.0 >= 1)
        .collect();
    assert_eq!(sent, kept);
    assert_eq!(lineage_at(&batches, 8).unwrap(), Some(merged.lineage_last));
}

#[test]
fn a_batch_ends_before_a_gap_and_starts_behind_one() {
    let batches = [
        stored(0..3, Compression::None),
        stored(7..9, Compression::None),
    ];
    assert_eq!(span(&batches, cut(0)), (0, 3));
    assert_eq!(span(&batches, cut(3)), (7, 9));
}

#[test]
fn planned_boundaries_are_kept() {
    let batches = [stored(0..30, Compression::None)];
    let planned = Cut {
        end: Some(12),
        ..cut(4)
    };
    assert_eq!(span(&batches, planned), (4, 12));
}

#[test]
fn limits_hold_and_one_record_always_passes() {
    let batches = [stored(0..100, Compression::None)];
    let records = Cut {
        max_records: 10,
        ..cut(0)
    };
    assert_eq!(span(&batches, records), (0, 10));
    let one = Cut {
        max_bytes: 1,
        ..cut(5)
    };
    assert_eq!(span(&batches, one), (5, 6));
    let some = Cut {
        max_bytes: 1000,
        ..cut(0)
    };
    let merged = merge(&batches, some, Compression::None).unwrap().unwrap();
    assert!(merged.payload.len() <= 1000 && merged.end > 10);
}

#[test]
fn nothing_to_merge_is_none() {
    let batches = [stored(0..3, Compression::None)];
    assert_eq!(merge(&batches, cut(3), Compression::None).unwrap(), None);
    assert_eq!(lineage_at(&batches, 3).unwrap(), None);
}

#[test]
fn the_producer_stamp_equals_a_batch_built_with_it() {
    let mut built = BatchBuilder::new();
    let mut plain = BatchBuilder::new();
    for builder in [&mut built, &mut plain] {
        builder.push(&RecordRef {
            timestamp: 5,
            key: None,
            value: Some(b"v"),
            headers: &[],
        });
    }
    built.producer(77, 3, 2_000_000_000);
    let built = built.finish(Compression::None).unwrap();
    let plain = plain.finish(Compression::None).unwrap();
    let stamped = stamp_producer(&plain, 77, 3, 2_000_000_000);
    assert_eq!(stamped, built);
    assert!(crc_is_valid(&stamped));
}
