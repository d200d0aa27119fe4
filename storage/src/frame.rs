//! The envelope of one batch on disk; see `docs/log-format.md`, section Frame.

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_LEN: usize = 56;
/// Payload bytes that the header checksum covers: those stamped at append.
pub(crate) const STAMPED_LEN: usize = 16;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGNMENT: usize = 8;
/// The largest payload. Batches of clients are far smaller; the bound exists for
/// snapshots of the state, whose size is that of all live keys and values.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A Kafka v2 record batch.
    Batch,
    /// A range of offsets without records.
    Gap,
    /// A batch of all keys and values of the state at this point of its journal.
    Snapshot,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Batch => 1,
            FrameKind::Gap => 2,
            FrameKind::Snapshot => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(FrameKind::Batch),
            2 => Some(FrameKind::Gap),
            3 => Some(FrameKind::Snapshot),
            _ => None,
        }
    }
}

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Number of the frame in its partition.
    pub index: u64,
    /// Leader epoch of the batch.
    pub epoch: i32,
    pub kind: FrameKind,
    /// First offset of the batch or the gap.
    pub base_offset: u64,
    /// Position in the segment that was durable when the frame was written.
    pub durable_upto: u64,
    pub payload_len: u32,
    /// CRC32C of the payload from byte 16 on.
    pub payload_crc: u32,
    /// The commit group that the frame belongs to, or zero.
    pub group: u64,
    /// Whether this is the journal's last frame of the group, which closes it.
    pub closes: bool,
}

const FLAG_CLOSES: u8 = 1;

/// The bytes that a frame takes in its segment.
pub(crate) fn frame_len(payload_len: usize) -> usize {
    (FRAME_HEADER_LEN + payload_len).next_multiple_of(FRAME_ALIGNMENT)
}

/// Computes the checksum of the payload part that the header does not cover.
pub(crate) fn payload_crc(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload.get(STAMPED_LEN..).unwrap_or(&[]))
}

impl FrameHeader {
    /// Appends the header and the stamped payload bytes to `out`.
    pub fn encode(&self, salt: u64, stamped: &[u8], out: &mut Vec<u8>) {
        let mut bytes = [0u8; FRAME_HEADER_LEN];
        let length = frame_len(self.payload_len as usize) as u32;
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20] = self.kind.code();
        bytes[21] = if self.closes { FLAG_CLOSES } else { 0 };
        bytes[24..32].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable_upto.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.group.to_le_bytes());
        let crc = header_crc(salt, &bytes, stamped);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&bytes);
        out.extend_from_slice(stamped);
    }

    /// Decodes the header at the start of `bytes`, which hold at least the
    /// stamped payload bytes too, or returns `None` when it is not a frame of
    /// a segment with this salt.
    pub fn decode(salt: u64, bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_LEN)?;
        let payload_len = u32_at(header, 40);
        if payload_len as usize > MAX_PAYLOAD
            || u32_at(header, 0) as usize != frame_len(payload_len as usize)
        {
            return None;
        }
        let stamped_len = STAMPED_LEN.min(payload_len as usize);
        let stamped = bytes.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + stamped_len)?;
        if header_crc(salt, header, stamped) != u32_at(header, 4) {
            return None;
        }
        Some(FrameHeader {
            index: u64_at(header, 8),
            epoch: u32_at(header, 16) as i32,
            kind: FrameKind::from_code(header[20])?,
            base_offset: u64_at(header, 24),
            durable_upto: u64_at(header, 32),
            payload_len,
            payload_crc: u32_at(header, 44),
            group: u64_at(header, 48),
            closes: header[21] & FLAG_CLOSES != 0,
        })
    }

    /// Returns the bytes that the frame takes in its segment.
    pub fn frame_len(&self) -> usize {
        frame_len(self.payload_len as usize)
    }
}

fn header_crc(salt: u64, header: &[u8], stamped: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header[0..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..FRAME_HEADER_LEN]);
    crc32c::crc32c_append(crc, stamped)
}

/// Reads a little-endian u32; the caller guarantees the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0u8; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Reads a little-endian u64; the caller guarantees the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
