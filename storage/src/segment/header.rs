//! The first block of a segment.

use crate::frame::{u32_at, u64_at};

/// Bytes before the first frame: one page and one block of every common disk.
pub(crate) const HEADER_BLOCK_LEN: usize = 4096;
/// The header is stored twice so that one torn sector does not hide the salt.
const COPY_AT: usize = 2048;
const ENCODED_LEN: usize = 128;
const MAGIC: [u8; 8] = *b"FBAYSEG1";

/// What the file before this one held when this one was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Previous {
    pub base_offset: u64,
    pub end_offset: u64,
    pub length: u64,
    pub max_timestamp: i64,
}

/// Who a segment belongs to and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub topic_id: [u8; 16],
    pub partition: u32,
    pub base_offset: u64,
    pub first_index: u64,
    /// Mixed into every frame checksum, so that stale frames of a reused block
    /// are not taken for frames of this segment.
    pub salt: u64,
    pub created_ms: i64,
    pub previous: Option<Previous>,
}

impl SegmentHeader {
    /// Encodes the whole header block.
    pub fn encode(&self) -> Vec<u8> {
        let mut one = [0u8; ENCODED_LEN];
        one[0..8].copy_from_slice(&MAGIC);
        one[8..24].copy_from_slice(&self.topic_id);
        one[24..28].copy_from_slice(&self.partition.to_le_bytes());
        one[28..32].copy_from_slice(&u32::from(self.previous.is_some()).to_le_bytes());
        one[32..40].copy_from_slice(&self.base_offset.to_le_bytes());
        one[40..48].copy_from_slice(&self.first_index.to_le_bytes());
        one[48..56].copy_from_slice(&self.salt.to_le_bytes());
        one[56..64].copy_from_slice(&self.created_ms.to_le_bytes());
        if let Some(previous) = self.previous {
            one[64..72].copy_from_slice(&previous.base_offset.to_le_bytes());
            one[72..80].copy_from_slice(&previous.end_offset.to_le_bytes());
            one[80..88].copy_from_slice(&previous.length.to_le_bytes());
            one[88..96].copy_from_slice(&previous.max_timestamp.to_le_bytes());
        }
        let crc = crc32c::crc32c(&one[..ENCODED_LEN - 4]);
        one[ENCODED_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        let mut block = vec![0u8; HEADER_BLOCK_LEN];
        block[..ENCODED_LEN].copy_from_slice(&one);
        block[COPY_AT..COPY_AT + ENCODED_LEN].copy_from_slice(&one);
        block
    }

    /// Decodes whichever copy in the block is intact.
    pub fn decode(block: &[u8]) -> Option<Self> {
        Self::decode_copy(block.get(..ENCODED_LEN)?)
            .or_else(|| Self::decode_copy(block.get(COPY_AT..COPY_AT + ENCODED_LEN)?))
    }

    fn decode_copy(one: &[u8]) -> Option<Self> {
        let crc_at = ENCODED_LEN - 4;
        if one[..8] != MAGIC || crc32c::crc32c(&one[..crc_at]) != u32_at(one, crc_at) {
            return None;
        }
        let mut topic_id = [0u8; 16];
        topic_id.copy_from_slice(&one[8..24]);
        let previous = (u32_at(one, 28) == 1).then(|| Previous {
            base_offset: u64_at(one, 64),
            end_offset: u64_at(one, 72),
            length: u64_at(one, 80),
            max_timestamp: u64_at(one, 88) as i64,
        });
        Some(SegmentHeader {
            topic_id,
            partition: u32_at(one, 24),
            base_offset: u64_at(one, 32),
            first_index: u64_at(one, 40),
            salt: u64_at(one, 48),
            created_ms: u64_at(one, 56) as i64,
            previous,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_of_the_header_suffices_and_none_is_refused() {
        let header = SegmentHeader {
            topic_id: [3; 16],
            partition: 9,
            base_offset: 100,
            first_index: 50,
            salt: 0xfeed,
            created_ms: 1_700_000_000_000,
            previous: Some(Previous {
                base_offset: 10,
                end_offset: 100,
                length: 8192,
                max_timestamp: -1,
            }),
        };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Some(header));
        for at in 0..ENCODED_LEN {
            let mut one_bad = block.clone();
            one_bad[at] ^= 0x80;
            assert_eq!(SegmentHeader::decode(&one_bad), Some(header), "byte {at}");
            one_bad[COPY_AT + at] ^= 0x80;
            assert_eq!(SegmentHeader::decode(&one_bad), None, "byte {at}");
        }
    }
}
