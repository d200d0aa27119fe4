//! Offset ranges that hold no records, and why.

/// Why a range of offsets holds no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Acknowledged bytes were found damaged or missing.
    Damage,
    /// The disk was full and the oldest segments were dropped.
    DroppedWhenFull,
    /// The source of a forwarded partition has no records there.
    Source,
}

impl GapReason {
    pub(crate) fn code(self) -> u8 {
        match self {
            GapReason::Damage => 1,
            GapReason::DroppedWhenFull => 2,
            GapReason::Source => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(GapReason::Damage),
            2 => Some(GapReason::DroppedWhenFull),
            3 => Some(GapReason::Source),
            _ => None,
        }
    }
}

/// A half-open range of offsets without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First missing offset.
    pub from: u64,
    /// First offset after the gap.
    pub to: u64,
    /// Why the records are missing.
    pub reason: GapReason,
}

/// The length of a gap frame's payload: end offset, reason, seven zero bytes.
pub(crate) const GAP_PAYLOAD_LEN: usize = 16;

/// Encodes the payload of a gap frame.
pub(crate) fn encode_gap(to: u64, reason: GapReason) -> [u8; GAP_PAYLOAD_LEN] {
    let mut payload = [0u8; GAP_PAYLOAD_LEN];
    payload[..8].copy_from_slice(&to.to_le_bytes());
    payload[8] = reason.code();
    payload
}

/// Decodes the payload of a gap frame.
pub(crate) fn decode_gap(payload: &[u8]) -> Option<(u64, GapReason)> {
    let to = payload.get(..8)?.try_into().ok()?;
    Some((
        u64::from_le_bytes(to),
        GapReason::from_code(*payload.get(8)?)?,
    ))
}

/// Adds `gap` to a list sorted by `from`, merging what overlaps with the same reason.
pub(crate) fn insert_gap(gaps: &mut Vec<Gap>, gap: Gap) {
    if gaps
        .iter()
        .any(|known| known.from <= gap.from && gap.to <= known.to && known.reason == gap.reason)
    {
        return;
    }
    let at = gaps.partition_point(|known| known.from <= gap.from);
    gaps.insert(at, gap);
}
