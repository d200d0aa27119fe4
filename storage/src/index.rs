//! The sparse index of a segment: a cache that is rebuilt when missing or bad.

use crate::frame::{u32_at, u64_at};

/// Bytes of segment per index entry: one page, the least that a read fetches.
const INDEX_INTERVAL: u64 = 4096;
const MAGIC: [u8; 8] = *b"FBAYIDX1";
const PREFIX_LEN: usize = 32;
const ENTRY_LEN: usize = 24;
/// The largest index file: that of a segment of 16 GiB.
pub(crate) const MAX_INDEX_BYTES: u64 = (PREFIX_LEN + ENTRY_LEN * (4 << 20) + 4) as u64;

/// Where a stretch of frames begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub offset: u64,
    pub position: u64,
    /// The newest timestamp of all frames up to the end of this stretch.
    pub max_timestamp: i64,
}

/// Offsets and times of a segment, one entry per [`INDEX_INTERVAL`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
}

impl Index {
    /// Takes note of a frame; frames arrive in order.
    pub fn note(&mut self, offset: u64, position: u64, max_timestamp: i64) {
        if let Some(last) = self.entries.last_mut() {
            if position < last.position + INDEX_INTERVAL {
                last.max_timestamp = last.max_timestamp.max(max_timestamp);
                return;
            }
            let max_timestamp = last.max_timestamp.max(max_timestamp);
            self.entries.push(IndexEntry {
                offset,
                position,
                max_timestamp,
            });
        } else {
            self.entries.push(IndexEntry {
                offset,
                position,
                max_timestamp,
            });
        }
    }

    /// Returns where to begin looking for `offset`.
    pub fn position_of(&self, offset: u64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        Some(self.entries.get(after.checked_sub(1)?)?.position)
    }

    /// Returns where to begin looking for a record at or after `timestamp`.
    pub fn position_of_time(&self, timestamp: i64) -> Option<u64> {
        let at = self
            .entries
            .partition_point(|entry| entry.max_timestamp < timestamp);
        Some(self.entries.get(at)?.position)
    }

    /// Encodes the index file of the first `covered` bytes of a segment.
    pub fn encode(&self, salt: u64, covered: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_LEN + ENTRY_LEN * self.entries.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&salt.to_le_bytes());
        out.extend_from_slice(&covered.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.max_timestamp.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes an index file, or returns `None` when it is not that of the
    /// first `covered` bytes of the segment with this salt.
    pub fn decode(bytes: &[u8], salt: u64, covered: u64) -> Option<Self> {
        let body = bytes.len().checked_sub(4)?;
        if body < PREFIX_LEN
            || bytes[..8] != MAGIC
            || crc32c::crc32c(&bytes[..body]) != u32_at(bytes, body)
            || u64_at(bytes, 8) != salt
            || u64_at(bytes, 16) != covered
            || u64_at(bytes, 24) != ((body - PREFIX_LEN) / ENTRY_LEN) as u64
        {
            return None;
        }
        let entries = bytes[PREFIX_LEN..body]
            .chunks_exact(ENTRY_LEN)
            .map(|entry| IndexEntry {
                offset: u64_at(entry, 0),
                position: u64_at(entry, 8),
                max_timestamp: u64_at(entry, 16) as i64,
            })
            .collect();
        Some(Index { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_file_is_refused_when_any_byte_differs() {
        let mut index = Index::default();
        for frame in 0..10u64 {
            index.note(frame, 4096 + frame * 2048, frame as i64);
        }
        let bytes = index.encode(7, 24_576);
        assert_eq!(Index::decode(&bytes, 7, 24_576), Some(index));
        assert_eq!(Index::decode(&bytes, 8, 24_576), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Index::decode(&bad, 7, 24_576), None, "byte {at}");
        }
    }

    #[test]
    fn a_lookup_starts_at_or_before_the_wanted_frame() {
        let mut index = Index::default();
        for frame in 0..100u64 {
            index.note(frame * 10, 4096 + frame * 1000, frame as i64);
        }
        let position = index.position_of(555).unwrap();
        assert!(position <= 4096 + 55 * 1000 && position + 5000 > 4096 + 55 * 1000);
        let position = index.position_of_time(60).unwrap();
        assert!(position <= 4096 + 60 * 1000);
        assert_eq!(index.position_of_time(100), None);
    }
}
