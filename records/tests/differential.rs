//! Batches against an independent implementation, in both directions.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use forebay_records::{
    BatchBuilder, Compression, RecordRef, ValidateLimits, crc_is_valid, records,
    validate_for_append,
};
use kafka_protocol::records::{
    Compression as TheirCompression, NO_PARTITION_LEADER_EPOCH, Record as TheirRecord,
    RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

const LIMITS: ValidateLimits = ValidateLimits {
    max_batch_bytes: 1 << 20,
    max_decompressed_bytes: 1 << 20,
    now_ms: 1_700_000_000_000,
    timestamp_before_max_ms: None,
    timestamp_after_max_ms: None,
};

/// Timestamps go back and forth, keys and values are null in turns.
fn their_records() -> Vec<TheirRecord> {
    (0..50i64)
        .map(|index| TheirRecord {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: 77,
            producer_epoch: 2,
            timestamp_type: TimestampType::Creation,
            offset: index,
            sequence: 1000 + index as i32,
            timestamp: 1_700_000_000_000 + (index * 37) % 101,
            key: (index % 3 != 0).then(|| Bytes::from(vec![b'k'; index as usize * 7])),
            value: (index % 5 != 0).then(|| Bytes::from(vec![index as u8; 200])),
            headers: (0..index % 4)
                .map(|header| {
                    let value = (header != 1).then(|| Bytes::from_static(b"x"));
                    (format!("header-{header}").into(), value)
                })
                .collect(),
        })
        .collect()
}

#[test]
fn a_batch_that_theirs_writes_reads_and_validates_here() {
    let input = their_records();
    let options = RecordEncodeOptions {
        version: 2,
        compression: TheirCompression::None,
    };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &input, &options).unwrap();
    let batch = out.freeze();
    assert!(crc_is_valid(&batch));
    let header = validate_for_append(&batch, &LIMITS).unwrap();
    assert_eq!((header.producer_id, header.base_sequence), (77, 1000));
    let read = records(&batch, 0).unwrap().map(Result::unwrap);
    let mut count = 0;
    for (ours, theirs) in read.zip(&input) {
        assert_eq!(
            (ours.offset, ours.timestamp),
            (theirs.offset, theirs.timestamp)
        );
        assert_eq!((&ours.key, &ours.value), (&theirs.key, &theirs.value));
        let headers: Vec<_> = ours
            .headers
            .iter()
            .map(|header| (&header.key[..], header.value.clone()))
            .collect();
        let expected: Vec<_> = theirs
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.clone()))
            .collect();
        assert_eq!(headers, expected);
        count += 1;
    }
    assert_eq!(count, input.len());
}

#[test]
fn a_batch_that_is_built_here_reads_the_same_there() {
    let input = their_records();
    let mut builder = BatchBuilder::new();
    builder.producer(77, 2, 1000);
    for record in &input {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_deref()))
            .collect();
        builder.push(&RecordRef {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
    }
    let mut batch = builder.finish(Compression::None).unwrap();
    let read = RecordBatchDecoder::decode(&mut batch).unwrap();
    assert_eq!(read.records, input);
}
