//! Committed offsets of consumer groups in the state journal.
//!
//! Key: `b/g/<group>/<topic>/<partition>`, with `%` and `/` of the group id
//! written as `%25` and `%2F`; topic names contain neither. Value, big endian:
//!
//! ```text
//! layout u8 = 1, offset i64, leader epoch i32, commit time i64 (ms), metadata
//! ```

mod expiry;

pub use expiry::sweep;

/// Longest metadata string of a commit: Kafka's default of
/// `offset.metadata.max.bytes`.
pub const MAX_METADATA_BYTES: usize = 4096;

/// Prefix of all keys of this file.
pub const PREFIX: &[u8] = b"b/g/";

const LAYOUT: u8 = 1;

/// Why one partition of an OffsetCommit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The metadata string is too long.
    #[error("metadata has {len} bytes, at most {MAX_METADATA_BYTES} are allowed")]
    MetadataTooLarge {
        /// Length found, in bytes.
        len: usize,
    },
    /// The offset is negative.
    #[error("offset {offset} is negative")]
    Negative {
        /// Offset found.
        offset: i64,
    },
    /// No such partition.
    #[error("topic or partition is unknown")]
    UnknownPartition,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// When it was committed, milliseconds since 1970.
    pub committed_ms: i64,
    /// The client's own text.
    pub metadata: String,
}

impl CommittedOffset {
    /// Checks what a client may commit.
    ///
    /// # Errors
    /// [`CommitError`] for a negative offset or long metadata.
    pub fn check(&self) -> Result<(), CommitError> {
        if self.offset < 0 {
            return Err(CommitError::Negative {
                offset: self.offset,
            });
        }
        if self.metadata.len() > MAX_METADATA_BYTES {
            return Err(CommitError::MetadataTooLarge {
                len: self.metadata.len(),
            });
        }
        Ok(())
    }

    /// Returns the state value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![LAYOUT];
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&self.committed_ms.to_be_bytes());
        out.extend_from_slice(self.metadata.as_bytes());
        out
    }

    /// Reads a state value; bytes of another layout yield nothing.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[layout], rest) = bytes.split_first_chunk::<1>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (leader_epoch, rest) = rest.split_first_chunk::<4>()?;
        let (committed_ms, rest) = rest.split_first_chunk::<8>()?;
        (layout == LAYOUT).then_some(Self {
            offset: i64::from_be_bytes(*offset),
            leader_epoch: i32::from_be_bytes(*leader_epoch),
            committed_ms: i64::from_be_bytes(*committed_ms),
            metadata: String::from_utf8(rest.to_vec()).ok()?,
        })
    }
}

/// Key prefix of all offsets of a group.
pub fn group_prefix(group_id: &str) -> Vec<u8> {
    let escaped = group_id.replace('%', "%25").replace('/', "%2F");
    [PREFIX, escaped.as_bytes(), b"/"].concat()
}

/// Key of one committed offset.
pub fn key(group_id: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = group_prefix(group_id);
    key.extend_from_slice(format!("{topic}/{partition}").as_bytes());
    key
}

/// Reads group id, topic and partition back from a key.
pub fn parse_key(key: &[u8]) -> Option<(String, String, i32)> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
    let mut parts = text.split('/');
    let (group, topic, partition) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let group_id = group.replace("%2F", "/").replace("%25", "%");
    Some((group_id, topic.to_owned(), partition.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_every_group_id() {
        for group in ["g", "a/b", "50%/x", "%2F", "ü"] {
            let parsed = parse_key(&key(group, "t.x-1", 12));
            assert_eq!(parsed, Some((group.to_owned(), "t.x-1".to_owned(), 12)));
        }
        assert_eq!(parse_key(b"b/g/only-two/parts"), None);
    }

    #[test]
    fn a_groups_prefix_matches_no_other_group() {
        assert!(!key("a/b", "t", 0).starts_with(&group_prefix("a")));
        assert!(key("a", "t", 0).starts_with(&group_prefix("a")));
    }

    #[test]
    fn values_survive_and_truncation_is_noticed() {
        let value = CommittedOffset {
            offset: 7,
            leader_epoch: -1,
            committed_ms: 99,
            metadata: "m".into(),
        };
        let bytes = value.encode();
        assert_eq!(CommittedOffset::decode(&bytes), Some(value));
        for len in 0..21 {
            assert_eq!(CommittedOffset::decode(&bytes[..len]), None);
        }
    }

    #[test]
    fn negative_offsets_and_long_metadata_are_refused() {
        let value = |offset, len| CommittedOffset {
            offset,
            leader_epoch: -1,
            committed_ms: 0,
            metadata: "x".repeat(len),
        };
        assert_eq!(value(0, MAX_METADATA_BYTES).check(), Ok(()));
        assert_eq!(
            value(0, 4097).check(),
            Err(CommitError::MetadataTooLarge { len: 4097 })
        );
        assert_eq!(
            value(-1, 0).check(),
            Err(CommitError::Negative { offset: -1 })
        );
    }
}
