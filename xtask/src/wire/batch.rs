//! Kafka record batches of magic 2, uncompressed, written from the message
//! format page of the Kafka documentation.

/// Bytes before the first record.
const HEADER_SIZE: usize = 61;

/// Where the checksummed part begins.
const CHECKED_FROM: usize = 21;

/// Who produces: id, epoch and the sequence number of the first record. `-1`
/// everywhere means not idempotent.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the first record.
    pub sequence: i32,
}

impl Producer {
    /// A producer without idempotence.
    pub const NONE: Self = Self {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its time, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The key; empty when there is none.
    pub key: Vec<u8>,
    /// The value; empty when there is none.
    pub value: Vec<u8>,
    /// Names and values of its headers.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Encodes one batch of values without keys.
#[must_use]
pub fn encode(producer: Producer, timestamp_ms: i64, values: &[Vec<u8>]) -> Vec<u8> {
    let records: Vec<(Option<&[u8]>, &[u8])> =
        values.iter().map(|value| (None, &value[..])).collect();
    encode_keyed(producer, timestamp_ms, &records)
}

/// Encodes one batch of keys and values.
#[must_use]
pub fn encode_keyed(
    producer: Producer,
    timestamp_ms: i64,
    records: &[(Option<&[u8]>, &[u8])],
) -> Vec<u8> {
    let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
    let size = |(key, value): &(Option<&[u8]>, &[u8])| key.map_or(0, <[u8]>::len) + value.len();
    let size: usize = records.iter().map(|record| size(record) + 16).sum();
    let mut out = Vec::with_capacity(HEADER_SIZE + size);
    out.extend(0i64.to_be_bytes());
    out.extend(0i32.to_be_bytes());
    out.extend((-1i32).to_be_bytes());
    out.push(2);
    out.extend(0u32.to_be_bytes());
    out.extend(0i16.to_be_bytes());
    out.extend((count - 1).to_be_bytes());
    out.extend(timestamp_ms.to_be_bytes());
    out.extend(timestamp_ms.to_be_bytes());
    out.extend(producer.id.to_be_bytes());
    out.extend(producer.epoch.to_be_bytes());
    out.extend(producer.sequence.to_be_bytes());
    out.extend(count.to_be_bytes());
    let mut body = Vec::new();
    for (delta, (key, value)) in (0i64..).zip(records) {
        body.clear();
        body.push(0);
        varint(&mut body, 0);
        varint(&mut body, delta);
        match key {
            Some(key) => {
                varint(&mut body, i64::try_from(key.len()).unwrap_or_default());
                body.extend_from_slice(key);
            }
            None => varint(&mut body, -1),
        }
        varint(&mut body, i64::try_from(value.len()).unwrap_or_default());
        body.extend_from_slice(value);
        varint(&mut body, 0);
        varint(&mut out, i64::try_from(body.len()).unwrap_or_default());
        out.extend_from_slice(&body);
    }
    let length = u32::try_from(out.len() - 12).unwrap_or(u32::MAX);
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&out[CHECKED_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Decodes all whole batches in `bytes`; a cut batch at the end is left out,
/// as Fetch allows.
///
/// # Errors
/// Says what is wrong with which batch.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 12 {
        let base = i64::from_be_bytes(array(&rest[..8]));
        let length = u32::from_be_bytes(array(&rest[8..12])) as usize;
        let Some(batch) = rest.get(..12 + length) else {
            break;
        };
        one(batch, base, &mut records).map_err(|why| format!("batch at offset {base}: {why}"))?;
        rest = &rest[12 + length..];
    }
    Ok(records)
}

/// The offset behind the last whole batch in `bytes`.
#[must_use]
pub fn next_offset(bytes: &[u8]) -> Option<i64> {
    let mut next = None;
    let mut rest = bytes;
    while rest.len() >= HEADER_SIZE {
        let length = u32::from_be_bytes(array(&rest[8..12])) as usize;
        if rest.len() < 12 + length {
            break;
        }
        let base = i64::from_be_bytes(array(&rest[..8]));
        next = Some(base + i64::from(i32::from_be_bytes(array(&rest[23..27]))) + 1);
        rest = &rest[12 + length..];
    }
    next
}

fn one(batch: &[u8], base: i64, records: &mut Vec<Record>) -> Result<(), String> {
    if batch.len() < HEADER_SIZE {
        return Err(format!(
            "{} bytes, expected at least {HEADER_SIZE}",
            batch.len()
        ));
    }
    if batch[16] != 2 {
        return Err(format!("magic {}, expected 2", batch[16]));
    }
    let crc = u32::from_be_bytes(array(&batch[17..21]));
    if crc != crc32c::crc32c(&batch[CHECKED_FROM..]) {
        return Err("the checksum does not match".to_owned());
    }
    if batch[22] & 7 != 0 {
        return Err(format!("compressed with codec {}", batch[22] & 7));
    }
    let first = i64::from_be_bytes(array(&batch[27..35]));
    let count = i32::from_be_bytes(array(&batch[57..61]));
    let mut at = HEADER_SIZE;
    for _ in 0..count {
        let record = record(batch, &mut at, (base, first)).ok_or("a record is cut off")?;
        records.push(record);
    }
    if at == batch.len() {
        Ok(())
    } else {
        Err(format!("{} bytes behind the last record", batch.len() - at))
    }
}

/// The record at `at` of a batch that begins with this offset and time.
fn record(batch: &[u8], at: &mut usize, (base, first): (i64, i64)) -> Option<Record> {
    let length = usize::try_from(read_varint(batch, at)?).ok()?;
    let end = at.checked_add(length)?;
    if end > batch.len() {
        return None;
    }
    *at += 1;
    let timestamp_ms = first + read_varint(batch, at)?;
    let offset = base + read_varint(batch, at)?;
    let key = field(batch, at)?;
    let value = field(batch, at)?;
    let count = read_varint(batch, at)?;
    let headers = (0..count).map(|_| Some((field(batch, at)?, field(batch, at)?)));
    let headers = headers.collect::<Option<_>>()?;
    *at = end;
    Some(Record {
        offset,
        timestamp_ms,
        key,
        value,
        headers,
    })
}

fn field(batch: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let Ok(length) = usize::try_from(read_varint(batch, at)?) else {
        return Some(Vec::new());
    };
    let bytes = batch.get(*at..at.checked_add(length)?)?.to_vec();
    *at += length;
    Some(bytes)
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

#[cfg(test)]
mod tests {
    use super::{Producer, Record, decode, encode, next_offset};

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let values = vec![b"one".to_vec(), Vec::new(), vec![7; 300]];
        let mut bytes = encode(Producer::NONE, 5, &values);
        bytes[..8].copy_from_slice(&40i64.to_be_bytes());
        let expected: Vec<Record> = (40..)
            .zip(values)
            .map(|(offset, value)| Record {
                offset,
                timestamp_ms: 5,
                key: Vec::new(),
                value,
                headers: Vec::new(),
            })
            .collect();
        assert_eq!(decode(&bytes).unwrap(), expected);
        assert_eq!(next_offset(&bytes), Some(43));
        assert_eq!(next_offset(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut bytes = encode(Producer::NONE, 5, &[b"reading".to_vec()]);
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        assert!(decode(&bytes).is_err());
    }
}
