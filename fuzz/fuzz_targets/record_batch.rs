//! Record batches: splitting, reading and the check before an append. The
//! checksum is made to fit, or nothing would get past it.
#![no_main]

use bytes::{Bytes, BytesMut};
use forebay_records::{
    BatchBuilder, BatchHeader, Compression, HEADER_LEN, RecordRef, ValidateLimits, crc_is_valid,
    records, split_batches, validate_for_append,
};
use libfuzzer_sys::fuzz_target;

/// Enough for every input of the fuzzer, small enough to find a missing limit.
const DECOMPRESSED_MAX: usize = 1 << 20;

const LIMITS: ValidateLimits = ValidateLimits {
    max_batch_bytes: 1 << 20,
    max_decompressed_bytes: DECOMPRESSED_MAX,
    now_ms: 1_700_000_000_000,
    timestamp_before_max_ms: None,
    timestamp_after_max_ms: Some(3_600_000),
};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for batch in split_batches(&bytes).flatten() {
        let _ = crc_is_valid(&batch);
    }
    let Some(batch) = made_whole(data) else {
        return;
    };
    let read: Vec<_> = match records(&batch, DECOMPRESSED_MAX) {
        Ok(iter) => iter.collect(),
        Err(_) => Vec::new(),
    };
    let Ok(header) = validate_for_append(&batch, &LIMITS) else {
        return;
    };
    assert_eq!(read.len(), header.record_count as usize);
    let mut builder = BatchBuilder::new();
    for record in read
        .iter()
        .map(|record| record.as_ref().expect("a valid batch reads"))
    {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|header| (&header.key[..], header.value.as_deref()))
            .collect();
        builder.push(&RecordRef {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
    }
    let again = builder.finish(Compression::None).expect("it has records");
    let again = records(&again, DECOMPRESSED_MAX).expect("it is a batch");
    for (first, second) in read.into_iter().zip(again) {
        let (first, mut second) = (first.expect("checked"), second.expect("built"));
        second.offset = first.offset;
        assert_eq!(first, second);
    }
});

/// Corrects magic, length and checksum of an input that is long enough.
fn made_whole(data: &[u8]) -> Option<Bytes> {
    let mut batch = BytesMut::from(data.get(..)?);
    if batch.len() < HEADER_LEN {
        return None;
    }
    batch[16] = 2;
    let length = i32::try_from(batch.len() - 12).ok()?;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    BatchHeader::parse(&batch).ok()?;
    Some(batch.freeze())
}
