//! Compressed batches that claim or hold more than the limit, in bounded memory.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use bytes::Bytes;
use forebay_records::{
    BatchBuilder, BatchError, BatchHeader, Compression, HEADER_LEN, RecordRef, ValidateError,
    ValidateLimits, records, validate_for_append,
};

const LIMITS: ValidateLimits = ValidateLimits {
    max_batch_bytes: 1 << 20,
    max_decompressed_bytes: 1 << 20,
    now_ms: 0,
    timestamp_before_max_ms: None,
    timestamp_after_max_ms: None,
};

/// A batch around `packed`, with a valid checksum.
fn around(codec: Compression, packed: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(&RecordRef {
        timestamp: 0,
        key: None,
        value: None,
        headers: &[],
    });
    let mut batch = builder.finish(codec).unwrap().to_vec();
    batch.truncate(HEADER_LEN);
    batch.extend_from_slice(packed);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

fn refuses_as_too_large(codec: Compression, packed: &[u8]) {
    assert!(packed.len() < 1 << 20, "the input itself is small");
    let batch = around(codec, packed);
    let expected = BatchError::TooLarge { limit: 1 << 20 };
    assert_eq!(
        records(&batch, 1 << 20).map(|_| ()).unwrap_err(),
        expected,
        "{codec:?}"
    );
    assert_eq!(
        validate_for_append(&batch, &LIMITS),
        Err(ValidateError::Batch(expected)),
        "{codec:?}"
    );
}

#[test]
fn a_gzip_bomb_stops_at_the_limit() {
    let level = flate2::Compression::best();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    refuses_as_too_large(Compression::Gzip, &encoder.finish().unwrap());
}

#[test]
fn a_zstd_bomb_stops_at_the_limit() {
    let packed = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    refuses_as_too_large(Compression::Zstd, &packed);
}

#[test]
fn an_lz4_bomb_stops_at_the_limit() {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    refuses_as_too_large(Compression::Lz4, &encoder.finish().unwrap());
}

#[test]
fn a_snappy_bomb_stops_at_the_limit_in_both_shapes() {
    let raw = snap::raw::Encoder::new()
        .compress_vec(&vec![0; 8 << 20])
        .unwrap();
    refuses_as_too_large(Compression::Snappy, &raw);
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    let block = snap::raw::Encoder::new()
        .compress_vec(&vec![0; 64 << 10])
        .unwrap();
    for _ in 0..128 {
        framed.extend_from_slice(&(block.len() as u32).to_be_bytes());
        framed.extend_from_slice(&block);
    }
    refuses_as_too_large(Compression::Snappy, &framed);
}

#[test]
fn a_snappy_block_that_claims_gigabytes_is_corrupt() {
    // A varint of 2^32-1 and nothing behind it, below and above the limit.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let batch = around(Compression::Snappy, &claim);
    assert!(matches!(
        records(&batch, 1 << 20).map(|_| ()),
        Err(BatchError::TooLarge { .. })
    ));
    assert!(matches!(
        records(&batch, usize::MAX).map(|_| ()),
        Err(BatchError::Corrupt { .. })
    ));
}

#[test]
fn a_snappy_stream_with_a_claimed_block_of_gigabytes_is_corrupt() {
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    framed.extend_from_slice(&[0xff; 4]);
    let batch = around(Compression::Snappy, &framed);
    assert!(matches!(
        records(&batch, 1 << 20).map(|_| ()),
        Err(BatchError::Corrupt { .. })
    ));
}

#[test]
fn a_raw_snappy_block_is_read_like_a_framed_one() {
    let mut builder = BatchBuilder::new();
    builder.push(&RecordRef {
        timestamp: 0,
        key: Some(b"key"),
        value: Some(&[9; 100]),
        headers: &[],
    });
    let plain = builder.clone().finish(Compression::None).unwrap();
    let raw = snap::raw::Encoder::new()
        .compress_vec(&plain[HEADER_LEN..])
        .unwrap();
    let from_raw: Vec<_> = records(&around(Compression::Snappy, &raw), 1 << 20)
        .unwrap()
        .collect();
    let framed = builder.finish(Compression::Snappy).unwrap();
    let from_framed: Vec<_> = records(&framed, 1 << 20).unwrap().collect();
    assert_eq!(from_raw, from_framed);
    assert!(from_raw[0].is_ok());
}

#[test]
fn a_limit_that_is_exactly_met_is_enough() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new();
        builder.push(&RecordRef {
            timestamp: 0,
            key: None,
            value: Some(&[1; 5000]),
            headers: &[],
        });
        let plain = builder.bytes() - HEADER_LEN;
        let batch = builder.finish(codec).unwrap();
        assert!(records(&batch, plain).is_ok(), "{codec:?}");
        assert_eq!(
            records(&batch, plain - 1).map(|_| ()).unwrap_err(),
            BatchError::TooLarge { limit: plain - 1 },
            "{codec:?}"
        );
    }
}

#[test]
fn compressed_data_cut_at_every_byte_never_reads_as_a_whole_batch() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new();
        for index in 0..20u8 {
            builder.push(&RecordRef {
                timestamp: 0,
                key: None,
                value: Some(&[index; 40]),
                headers: &[],
            });
        }
        let batch = builder.finish(codec).unwrap();
        let count = BatchHeader::parse(&batch).unwrap().record_count;
        let packed = &batch[HEADER_LEN..];
        for length in 0..packed.len() {
            let mut cut = around(codec, &packed[..length]).to_vec();
            cut[57..61].copy_from_slice(&count.to_be_bytes());
            let whole = match records(&Bytes::from(cut), 1 << 20) {
                Ok(iter) => iter.filter(Result::is_ok).count() == count as usize,
                Err(_) => false,
            };
            // A trailer (end mark, checksum) may be cut without losing records.
            assert!(!whole || length + 12 >= packed.len(), "{codec:?} {length}");
        }
    }
}

/// The largest address space the process had, in bytes; under an emulator that of
/// the emulator, which may have more than a `usize` can say.
fn peak_address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[test]
fn a_claim_of_two_billion_reserves_no_address_space() {
    let before = peak_address_space();
    let mut batch = around(Compression::None, &[0; 7]).to_vec();
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let _ = records(&Bytes::from(batch), usize::MAX).map(Iterator::count);
    for codec in [Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let batch = around(codec, &[0xff; 40]);
        assert!(records(&batch, usize::MAX).is_err(), "{codec:?}");
    }
    // 2^31 elements of even one word would take 16 GiB.
    assert!(peak_address_space() - before < 4 << 30);
}
