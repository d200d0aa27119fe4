//! Records of what was read from the log.

use forebay_records::{BatchHeader, Record, records};
use forebay_storage::Chunk;

use crate::queries::path_of;

/// Largest batch that is decompressed; as for subscribers.
const DECOMPRESSED_LEN_MAX: usize = 64 << 20;

/// Hands over the records from offset `from` on that have a path and a value.
/// Batches that cannot be read are left out: the log has their checksums, and
/// says so when they are damaged.
pub fn each_reading(chunk: &Chunk, from: u64, mut take: impl FnMut(Record)) {
    for batch in &chunk.batches {
        let is_control = match BatchHeader::parse(batch) {
            Ok(header) => header.is_control(),
            Err(_) => true,
        };
        if is_control {
            continue;
        }
        let Ok(found) = records(batch, DECOMPRESSED_LEN_MAX) else {
            continue;
        };
        for record in found.map_while(Result::ok) {
            if record.offset.unsigned_abs() >= from
                && record.value.is_some()
                && path_of(&record).is_some()
            {
                take(record);
            }
        }
    }
}
