//! Each rule of `validate_for_append` refuses the batch that breaks it.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use forebay_records::{
    BatchBuilder, BatchError, Compression, HEADER_LEN, RecordRef, ValidateError, ValidateLimits,
    validate_for_append,
};

const NOW: i64 = 1_700_000_000_000;

fn limits() -> ValidateLimits {
    ValidateLimits {
        max_batch_bytes: 10_000,
        max_decompressed_bytes: 10_000,
        now_ms: NOW,
        timestamp_before_max_ms: Some(1000),
        timestamp_after_max_ms: Some(500),
    }
}

fn at(timestamps: &[i64]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        builder.push(&RecordRef {
            timestamp: *timestamp,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &[(b"name", Some(b"x")), (b"name", None)],
        });
    }
    builder
}

/// Builds, lets `change` edit the bytes, and makes the checksum fit again.
fn check(change: impl Fn(&mut Vec<u8>)) -> Result<(), ValidateError> {
    let mut batch = at(&[NOW, NOW + 1, NOW + 2])
        .finish(Compression::None)
        .unwrap()
        .to_vec();
    change(&mut batch);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    validate_for_append(&Bytes::from(batch), &limits()).map(|_| ())
}

#[test]
fn a_good_batch_passes_with_every_codec() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = at(&[NOW, NOW - 1000, NOW + 500]);
        builder.producer(5, 0, 0);
        let batch = builder.finish(codec).unwrap();
        let header = validate_for_append(&batch, &limits()).unwrap();
        assert_eq!((header.record_count, header.max_timestamp), (3, NOW + 500));
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut batch = at(&[NOW]).finish(Compression::None).unwrap().to_vec();
    batch[18] ^= 1;
    assert_eq!(
        validate_for_append(&Bytes::from(batch), &limits()),
        Err(ValidateError::Checksum)
    );
}

#[test]
fn a_control_batch_is_refused() {
    assert_eq!(check(|b| b[22] |= 1 << 5), Err(ValidateError::Control));
}

#[test]
fn a_clients_log_append_time_is_refused() {
    assert_eq!(
        check(|b| b[22] |= 1 << 3),
        Err(ValidateError::LogAppendTime)
    );
}

#[test]
fn an_unknown_codec_is_refused() {
    assert_eq!(
        check(|b| b[22] |= 7),
        Err(BatchError::UnknownCompression { codec: 7 }.into())
    );
}

#[test]
fn counts_that_disagree_are_refused() {
    let counts = |record_count, last_offset_delta| {
        Err(ValidateError::Counts {
            record_count,
            last_offset_delta,
        })
    };
    assert_eq!(check(|b| b[60] = 2), counts(2, 2));
    assert_eq!(check(|b| b[26] = 9), counts(3, 9));
    assert_eq!(
        check(|b| {
            b[60] = 0;
            b[23..27].copy_from_slice(&(-1i32).to_be_bytes());
        }),
        counts(0, -1)
    );
}

#[test]
fn more_or_fewer_records_than_counted_are_refused() {
    assert!(matches!(
        check(|b| (b[60], b[26]) = (2, 1)),
        Err(ValidateError::Batch(BatchError::RecordsTrailing { .. }))
    ));
    assert!(matches!(
        check(|b| (b[60], b[26]) = (4, 3)),
        Err(ValidateError::Batch(BatchError::RecordTruncated { .. }))
    ));
}

#[test]
fn a_sparse_offset_delta_is_refused() {
    assert_eq!(
        check(|b| b[HEADER_LEN + 3] = 2),
        Err(ValidateError::OffsetDelta { index: 0, delta: 1 })
    );
}

#[test]
fn a_wrong_max_timestamp_is_refused() {
    assert_eq!(
        check(|b| b[35..43].copy_from_slice(&(NOW + 3).to_be_bytes())),
        Err(ValidateError::MaxTimestamp {
            declared: NOW + 3,
            actual: NOW + 2
        })
    );
}

#[test]
fn a_producer_without_epoch_or_sequence_is_refused() {
    assert!(matches!(
        check(|b| b[43..51].copy_from_slice(&1i64.to_be_bytes())),
        Err(ValidateError::Producer { producer_id: 1, .. })
    ));
}

#[test]
fn a_timestamp_outside_the_window_is_refused_on_both_sides() {
    for (timestamp, index) in [(NOW - 1001, 0), (NOW + 501, 0)] {
        let batch = at(&[timestamp]).finish(Compression::None).unwrap();
        assert_eq!(
            validate_for_append(&batch, &limits()),
            Err(ValidateError::Timestamp {
                index,
                timestamp,
                earliest: NOW - 1000,
                latest: NOW + 500
            })
        );
    }
}

#[test]
fn a_record_without_timestamp_passes_the_window() {
    let batch = at(&[-1]).finish(Compression::None).unwrap();
    assert!(validate_for_append(&batch, &limits()).is_ok());
}

#[test]
fn a_batch_above_the_size_limit_is_refused_unread() {
    let garbage = Bytes::from(vec![0; 10_001]);
    assert_eq!(
        validate_for_append(&garbage, &limits()),
        Err(ValidateError::BatchTooLarge {
            bytes: 10_001,
            limit: 10_000
        })
    );
}

#[test]
fn a_second_batch_behind_the_first_is_refused() {
    let batch = at(&[NOW]).finish(Compression::None).unwrap();
    let twice = Bytes::from([&batch[..], &batch[..]].concat());
    assert_eq!(
        validate_for_append(&twice, &limits()),
        Err(BatchError::TrailingBytes {
            expected: batch.len(),
            extra: batch.len()
        }
        .into())
    );
}
