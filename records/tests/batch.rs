//! Rules of the batch format: round trip, truncation, checksum, splitting.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use forebay_records::{
    BatchBuilder, BatchError, BatchHeader, Compression, HEADER_LEN, Header, Record, RecordRef,
    crc_is_valid, records, split_batches, stamp,
};
use proptest::prelude::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const LIMIT: usize = 1 << 20;

/// The records of a batch that was built by hand from the specification:
/// key "k", value "v", header "h" = null, timestamps 1000 and 1005.
const GOLDEN: &str = concat!(
    "0000000000000000", // base offset
    "00000044",         // length 68
    "ffffffff",         // leader epoch
    "02",               // magic
    "GOLDCRC0",         // crc, compared apart
    "0000",             // attributes
    "00000001",         // last offset delta
    "00000000000003e8", // base timestamp
    "00000000000003ed", // max timestamp
    "ffffffffffffffff", // producer id
    "ffff",             // producer epoch
    "ffffffff",         // base sequence
    "00000002",         // record count
    "16",               // record 0: 11 bytes
    "00",               // attributes
    "00",               // timestamp delta 0
    "00",               // offset delta 0
    "026b",             // key "k"
    "0276",             // value "v"
    "02",               // one header
    "0268",             // "h"
    "01",               // null
    "0c",               // record 1: 6 bytes
    "00",               // attributes
    "0a",               // timestamp delta 5
    "02",               // offset delta 1
    "01",               // key null
    "01",               // value null
    "00",               // no headers
);

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn small(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(&RecordRef {
        timestamp: 1000,
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[(b"h", None)],
    });
    builder.push(&RecordRef {
        timestamp: 1005,
        key: None,
        value: None,
        headers: &[],
    });
    builder.finish(codec).unwrap()
}

#[test]
fn a_built_batch_has_the_bytes_of_the_specification() {
    let batch = small(Compression::None);
    let golden = GOLDEN.replace("GOLDCRC0", "00000000");
    let mut without_crc = batch.to_vec();
    without_crc[17..21].fill(0);
    assert_eq!(without_crc, hex(&golden));
    assert!(crc_is_valid(&batch));
}

#[test]
fn a_truncated_batch_is_an_error_at_every_length() {
    for codec in CODECS {
        let batch = small(codec);
        for length in 0..batch.len() {
            let cut = batch.slice(..length);
            assert!(!crc_is_valid(&cut), "{codec:?} cut at {length}");
            assert!(
                matches!(
                    records(&cut, LIMIT).map(|_| ()),
                    Err(BatchError::Truncated { .. })
                ),
                "{codec:?} cut at {length}"
            );
        }
    }
}

#[test]
fn records_cut_at_every_byte_end_in_an_error() {
    let batch = small(Compression::None);
    for length in HEADER_LEN..batch.len() {
        let mut cut = BytesMut::from(&batch[..length]);
        cut[8..12].copy_from_slice(&((length - 12) as i32).to_be_bytes());
        let cut = cut.freeze();
        let read: Vec<_> = records(&cut, LIMIT).unwrap().collect();
        assert!(read.last().unwrap().is_err(), "cut at {length}");
        assert!(read[..read.len() - 1].iter().all(Result::is_ok));
    }
}

#[test]
fn bytes_behind_the_last_record_are_an_error() {
    let mut batch = BytesMut::from(&small(Compression::None)[..]);
    batch[57..61].copy_from_slice(&1i32.to_be_bytes());
    let read: Vec<_> = records(&batch.freeze(), LIMIT).unwrap().collect();
    assert!(read[0].is_ok());
    assert_eq!(read[1], Err(BatchError::RecordsTrailing { extra: 7 }));
    assert_eq!(read.len(), 2);
}

#[test]
fn any_flipped_byte_from_the_attributes_on_breaks_the_checksum() {
    let batch = small(Compression::None);
    for at in 21..batch.len() {
        let mut flipped = batch.to_vec();
        flipped[at] ^= 0x10;
        assert!(!crc_is_valid(&flipped), "byte {at}");
    }
}

#[test]
fn a_stamp_changes_offset_and_epoch_and_keeps_the_checksum() {
    let mut batch = BytesMut::from(&small(Compression::Zstd)[..]);
    let before = BatchHeader::parse(&batch).unwrap();
    stamp(&mut batch, 7_000_000_000, 42);
    let after = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        after,
        BatchHeader {
            base_offset: 7_000_000_000,
            leader_epoch: 42,
            ..before
        }
    );
    assert!(crc_is_valid(&batch));
    assert_eq!(after.next_offset(), 7_000_000_002);
    let offsets: Vec<i64> = records(&batch.freeze(), LIMIT)
        .unwrap()
        .map(|record| record.unwrap().offset)
        .collect();
    assert_eq!(offsets, [7_000_000_000, 7_000_000_001]);
}

#[test]
fn log_append_time_overrides_each_records_timestamp() {
    let mut batch = BytesMut::from(&small(Compression::None)[..]);
    batch[22] |= 1 << 3;
    let times: Vec<i64> = records(&batch.freeze(), LIMIT)
        .unwrap()
        .map(|record| record.unwrap().timestamp)
        .collect();
    assert_eq!(times, [1005, 1005]);
}

#[test]
fn an_uncompressed_record_shares_the_memory_of_the_batch() {
    let batch = small(Compression::None);
    let record = records(&batch, LIMIT).unwrap().next().unwrap().unwrap();
    let range = batch.as_ptr_range();
    assert!(range.contains(&record.value.unwrap().as_ptr()));
}

#[test]
fn concatenated_batches_split_and_a_partial_tail_is_reported() {
    let (first, second) = (small(Compression::None), small(Compression::Gzip));
    let mut joined = BytesMut::new();
    joined.extend_from_slice(&first);
    joined.extend_from_slice(&second);
    let whole = joined.len();
    joined.extend_from_slice(&first[..20]);
    let joined = joined.freeze();
    let split: Vec<_> = split_batches(&joined).collect();
    assert_eq!(split[..2], [Ok(first.clone()), Ok(second)]);
    assert!(matches!(split[2], Err(BatchError::Truncated { .. })));
    assert_eq!(split.len(), 3);
    assert_eq!(split_batches(&joined.slice(..whole)).count(), 2);
    assert_eq!(split_batches(&Bytes::new()).count(), 0);
}

#[test]
fn another_magic_and_a_short_length_are_refused() {
    let mut batch = small(Compression::None).to_vec();
    batch[16] = 1;
    assert_eq!(
        BatchHeader::parse(&batch),
        Err(BatchError::Magic { magic: 1 })
    );
    batch[16] = 2;
    batch[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(
        BatchHeader::parse(&batch),
        Err(BatchError::Length { length: 48 })
    );
    batch[8..12].copy_from_slice(&i32::MIN.to_be_bytes());
    assert!(BatchHeader::parse(&batch).is_err());
}

#[test]
fn a_claimed_header_count_of_two_billion_is_an_error_at_once() {
    // Length 10, attributes, deltas, null key, null value, header count 2^31-1.
    let mut batch = small(Compression::None).to_vec();
    batch.truncate(HEADER_LEN);
    batch.extend_from_slice(&hex("140000000101feffffff0f"));
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let first = records(&Bytes::from(batch), LIMIT).unwrap().next().unwrap();
    assert!(matches!(first, Err(BatchError::RecordTruncated { .. })));
}

#[test]
fn a_claimed_record_count_of_two_billion_reserves_nothing() {
    let mut batch = BytesMut::from(&small(Compression::None)[..]);
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let iter = records(&batch.clone().freeze(), LIMIT).unwrap();
    assert_eq!(iter.size_hint().0, 0);
    assert_eq!(iter.count(), 3, "two records and one error");
    batch[57..61].copy_from_slice(&(-1i32).to_be_bytes());
    assert!(matches!(
        records(&batch.freeze(), LIMIT).map(|_| ()),
        Err(BatchError::RecordCount { count: -1 })
    ));
}

#[test]
fn an_empty_batch_is_not_built() {
    assert_eq!(
        BatchBuilder::new().finish(Compression::None),
        Err(BatchError::Empty)
    );
}

#[test]
fn the_announced_size_is_the_uncompressed_size() {
    let mut builder = BatchBuilder::new();
    assert_eq!((builder.len(), builder.bytes()), (0, HEADER_LEN));
    builder.push(&RecordRef {
        timestamp: 5,
        key: None,
        value: Some(&[7; 300]),
        headers: &[],
    });
    builder.producer(9, 3, 100);
    assert_eq!(builder.len(), 1);
    let announced = builder.bytes();
    let batch = builder.finish(Compression::None).unwrap();
    assert_eq!(batch.len(), announced);
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence
        ),
        (9, 3, 100)
    );
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
}

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<OwnedHeader>);

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let header = (prop::collection::vec(any::<u8>(), 0..20), any_bytes());
    (
        any::<i64>(),
        any_bytes(),
        any_bytes(),
        prop::collection::vec(header, 0..4),
    )
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(
        input in prop::collection::vec(any_record(), 1..40),
        codec in prop::sample::select(&CODECS[..]),
    ) {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in &input {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
            builder.push(&RecordRef {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            });
        }
        let batch = builder.finish(codec).unwrap();
        prop_assert!(crc_is_valid(&batch));
        let expected: Vec<Record> = input
            .into_iter()
            .enumerate()
            .map(|(index, (timestamp, key, value, headers))| Record {
                offset: index as i64,
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers
                    .into_iter()
                    .map(|(key, value)| Header { key: key.into(), value: value.map(Bytes::from) })
                    .collect(),
            })
            .collect();
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert_eq!(header.compression(), Ok(codec));
        prop_assert_eq!(header.max_timestamp, expected.iter().map(|r| r.timestamp).max().unwrap());
        let read: Vec<Record> = records(&batch, LIMIT).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn random_records_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        attributes in 0i16..64,
        count in any::<i32>(),
    ) {
        let mut batch = small(Compression::None).to_vec();
        batch.truncate(HEADER_LEN);
        batch.extend_from_slice(&body);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        if let Ok(iter) = records(&Bytes::from(batch), 4096) {
            prop_assert!(iter.count() <= 4096 / 7 + 2);
        }
    }
}
