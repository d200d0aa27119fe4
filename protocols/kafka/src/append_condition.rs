//! The private tagged field that turns a Produce into a compare-and-append.
//!
//! A gateway's uplink attaches it to `PartitionProduceData` (tag 10100). A hub
//! that announces the supported feature [`FEATURE_NAME`] in ApiVersions
//! appends the batch only at the offset the gateway expects and only behind
//! the record the gateway expects. An unmodified Kafka ignores unknown tagged
//! fields (KIP-482), so the same request is an ordinary Produce there.
//!
//! Body, big endian, 37 bytes:
//!
//! ```text
//! layout          u8    1
//! expected_offset i64   the destination's log end before this append
//! incarnation     16 B  random identity of the gateway's data directory
//! lineage         u32   digest of the record before expected_offset, 0 = none
//! gap_to          i64   first offset behind a source gap, -1 = no gap
//! ```
//!
//! A refusal carries error 87 (INVALID_RECORD), the destination's log end in
//! `log_start_offset`, and an `error_message` that begins with one of the
//! `REFUSED_*` words below.

/// Tag of the field inside `PartitionProduceData`; private tags start at 10000.
pub const TAG: u32 = 10100;

/// Supported feature that announces compare-and-append, version 1 to 1.
pub const FEATURE_NAME: &str = "forebay.append";

/// The only version of [`FEATURE_NAME`].
pub const FEATURE_VERSION: i16 = 1;

/// First word of the error message when the destination's log end differs.
pub const REFUSED_OFFSET: &str = "offset-mismatch";

/// First word of the error message when the record before the expected offset
/// is not the one the gateway sent, or a retry has other content.
pub const REFUSED_LINEAGE: &str = "lineage-mismatch";

/// Lineage of a gateway that has no record before the expected offset (start
/// of the log, a gap, or removed by retention): the comparison is skipped.
pub const LINEAGE_NONE: u32 = 0;

const LAYOUT: u8 = 1;
const ENCODED_LEN: usize = 1 + 8 + 16 + 4 + 8;

/// What must hold at the destination for the batch to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendCondition {
    /// Log end offset that the destination must have before the append.
    pub expected_offset: i64,
    /// Identity of the sending data directory.
    pub incarnation: [u8; 16],
    /// [`lineage`] of the record before `expected_offset`, or [`LINEAGE_NONE`].
    pub lineage: u32,
    /// When set, the source lost `expected_offset..gap_to`; the destination
    /// records the same gap and appends the batch at `gap_to`.
    pub gap_to: Option<i64>,
}

/// Why a tagged field is not an [`AppendCondition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendConditionError {
    /// The body has another length than the layout says.
    #[error("append condition has {actual} bytes, expected {ENCODED_LEN}")]
    Length {
        /// Length found.
        actual: usize,
    },
    /// The first byte names a layout that this build does not know.
    #[error("append condition has layout {actual}, expected {LAYOUT}")]
    Layout {
        /// Layout found.
        actual: u8,
    },
    /// An offset is negative, or the gap does not lead forward.
    #[error("append condition expects offset {expected_offset} with gap to {gap_to}")]
    Offsets {
        /// Expected offset found.
        expected_offset: i64,
        /// Gap end found.
        gap_to: i64,
    },
}

impl AppendCondition {
    /// Returns the body of the tagged field.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(ENCODED_LEN);
        body.push(LAYOUT);
        body.extend_from_slice(&self.expected_offset.to_be_bytes());
        body.extend_from_slice(&self.incarnation);
        body.extend_from_slice(&self.lineage.to_be_bytes());
        body.extend_from_slice(&self.gap_to.unwrap_or(-1).to_be_bytes());
        body
    }

    /// Reads the body of the tagged field.
    ///
    /// # Errors
    /// [`AppendConditionError`] when length, layout or offsets are impossible.
    pub fn decode(body: &[u8]) -> Result<Self, AppendConditionError> {
        if body.len() != ENCODED_LEN {
            return Err(AppendConditionError::Length { actual: body.len() });
        }
        if body[0] != LAYOUT {
            return Err(AppendConditionError::Layout { actual: body[0] });
        }
        let expected_offset = i64::from_be_bytes(array(&body[1..9]));
        let incarnation = array(&body[9..25]);
        let lineage = u32::from_be_bytes(array(&body[25..29]));
        let gap_to = i64::from_be_bytes(array(&body[29..37]));
        if expected_offset < 0 || gap_to < -1 || (gap_to >= 0 && gap_to <= expected_offset) {
            return Err(AppendConditionError::Offsets {
                expected_offset,
                gap_to,
            });
        }
        Ok(Self {
            expected_offset,
            incarnation,
            lineage,
            gap_to: (gap_to >= 0).then_some(gap_to),
        })
    }
}

/// Computes the lineage digest of one record.
///
/// `crc32c_append` continues a CRC32C over more bytes (`crc32c::crc32c_append`);
/// it is an argument so that this crate needs no checksum dependency. The
/// input is offset and timestamp (i64, big endian), then key and value, each
/// as a u32 length (`u32::MAX` for null) and its bytes. A digest of 0 becomes
/// 1, because 0 means [`LINEAGE_NONE`].
pub fn lineage(
    mut crc32c_append: impl FnMut(u32, &[u8]) -> u32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> u32 {
    let mut crc = crc32c_append(0, &offset.to_be_bytes());
    crc = crc32c_append(crc, &timestamp_ms.to_be_bytes());
    for field in [key, value] {
        let len = field.map_or(u32::MAX, |bytes| bytes.len() as u32);
        crc = crc32c_append(crc, &len.to_be_bytes());
        crc = crc32c_append(crc, field.unwrap_or_default());
    }
    crc.max(1)
}

fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    slice
        .try_into()
        .expect("the slice bounds above have the array's length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONDITION: AppendCondition = AppendCondition {
        expected_offset: 41,
        incarnation: [7; 16],
        lineage: 99,
        gap_to: Some(50),
    };

    #[test]
    fn a_condition_survives_the_wire() {
        for gap_to in [None, Some(50)] {
            let condition = AppendCondition {
                gap_to,
                ..CONDITION
            };
            assert_eq!(AppendCondition::decode(&condition.encode()), Ok(condition));
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let body = CONDITION.encode();
        for len in 0..body.len() {
            assert_eq!(
                AppendCondition::decode(&body[..len]),
                Err(AppendConditionError::Length { actual: len })
            );
        }
    }

    #[test]
    fn a_gap_that_does_not_lead_forward_is_refused() {
        let backwards = AppendCondition {
            gap_to: Some(41),
            ..CONDITION
        };
        assert_eq!(
            AppendCondition::decode(&backwards.encode()),
            Err(AppendConditionError::Offsets {
                expected_offset: 41,
                gap_to: 41
            })
        );
    }

    #[test]
    fn lineage_tells_null_from_empty_and_is_never_none() {
        let sum = |crc: u32, bytes: &[u8]| {
            bytes.iter().fold(crc, |crc, byte| {
                crc.wrapping_mul(31).wrapping_add(u32::from(*byte))
            })
        };
        let null = lineage(sum, 1, 2, None, Some(b"v"));
        let empty = lineage(sum, 1, 2, Some(b""), Some(b"v"));
        assert_ne!(null, empty);
        assert_eq!(lineage(|_, _| 0, 1, 2, None, None), 1);
    }
}
