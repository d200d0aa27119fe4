//! Why a link stops for good, in words for an operator.

use thiserror::Error;

/// A reason not to go on: sending more would lose, repeat or mix records.
/// The text says what was found, and what to do is in `docs/uplink.md`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StopReason {
    /// The bootstrap address leads to another cluster.
    #[error(
        "the destination is another cluster: cluster id is {found}, expected {expected}; \
         check the bootstrap address, or reset this link to start over there"
    )]
    ClusterChanged {
        /// Cluster id that the destination tells.
        found: String,
        /// Cluster id in the cursor.
        expected: String,
    },
    /// The destination topic was deleted and created again.
    #[error(
        "the destination topic was recreated: topic id is {}, expected {}; \
         reset this link to send again everything that is still stored here",
        hex(.found), hex(.expected)
    )]
    TopicRecreated {
        /// Topic id that the destination tells.
        found: [u8; 16],
        /// Topic id in the cursor.
        expected: [u8; 16],
    },
    /// The local topic was deleted and created again.
    #[error(
        "the local topic was recreated: topic id is {}, expected {}; \
         its offsets start over, so rename it or delete the destination topic and reset this link",
        hex(.found), hex(.expected)
    )]
    SourceRecreated {
        /// Local topic id.
        found: [u8; 16],
        /// Topic id in the cursor.
        expected: [u8; 16],
    },
    /// The data directory was moved to another device.
    #[error(
        "this data belongs to another gateway: incarnation is {}, the cursor was written by {}; \
         if the device was cloned, give this one its own site name, \
         if it was replaced, reset this link",
        hex(.found), hex(.expected)
    )]
    IncarnationChanged {
        /// Incarnation of this gateway.
        found: [u8; 16],
        /// Incarnation in the cursor.
        expected: [u8; 16],
    },
    /// The newest record at the destination is not ours.
    #[error(
        "the destination holds another record than this gateway at source offset {offset} \
         (destination offset {destination_offset}); another writer or a cloned gateway \
         writes to the same topic"
    )]
    Diverged {
        /// Source offset of the record.
        offset: u64,
        /// Destination offset of the record.
        destination_offset: i64,
    },
    /// The destination has more than this gateway ever had.
    #[error(
        "the destination ends at source offset {destination}, this gateway at {source_end}; \
         the gateway was restored from an older copy, or another writer is at work"
    )]
    SourceBehind {
        /// Destination end as a source offset.
        destination: i64,
        /// Local log end.
        source_end: u64,
    },
    /// The destination lost records that are gone here too.
    #[error(
        "the destination ends at source offset {destination}, {acked} was acknowledged, \
         and this gateway keeps records from {log_start} only; records between are lost, \
         restore the destination or reset this link"
    )]
    LostAtDestination {
        /// Destination end as a source offset.
        destination: i64,
        /// What the destination had acknowledged.
        acked: u64,
        /// Local log start.
        log_start: u64,
    },
    /// The destination holds something that cannot be compared.
    #[error(
        "the destination ends at offset {destination_end} and its newest record cannot be \
         compared with this log; the topic was not empty when the link started, \
         use an empty topic or reset this link"
    )]
    Unverifiable {
        /// Destination log end.
        destination_end: i64,
    },
    /// An acknowledgement named another offset than expected.
    #[error(
        "source offset {offset} was stored at destination offset {found}, expected {expected}; \
         another writer writes to the same topic"
    )]
    OffsetMismatch {
        /// Source offset of the first record of the batch.
        offset: u64,
        /// Offset in the acknowledgement.
        found: i64,
        /// Offset that was expected.
        expected: i64,
    },
    /// The destination refuses the sequence although its tail is ours.
    #[error(
        "the destination refused source offset {offset} as out of order {attempts} times in a row \
         although its newest record is ours; another gateway uses the same producer identity"
    )]
    SequenceRefused {
        /// Source offset of the first record of the batch.
        offset: u64,
        /// Number of refusals.
        attempts: u32,
    },
    /// The destination knows a newer epoch of our producer.
    #[error(
        "the destination refused the producer identity (error code {code}): a newer instance \
         with the same identity has written, so this gateway is probably a clone"
    )]
    Fenced {
        /// Kafka error code.
        code: i16,
    },
    /// One record is too large for the destination.
    #[error(
        "the record at source offset {offset} is larger than the destination accepts; \
         raise max.message.bytes of the destination topic"
    )]
    RecordTooLarge {
        /// Source offset of the record.
        offset: u64,
    },
    /// The destination will never take this batch.
    #[error(
        "the destination refused the records from source offset {start} to {end} \
         (error code {code}: {meaning})"
    )]
    Refused {
        /// Source offset of the first record.
        start: u64,
        /// Source offset after the last record.
        end: u64,
        /// Kafka error code.
        code: i16,
        /// What the code says.
        meaning: &'static str,
    },
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
