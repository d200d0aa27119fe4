//! What recovery tells the operator.

use super::log::Found;
use crate::gap::{Gap, GapReason};
use crate::partition::Log;

/// Bytes of an interrupted commit that were removed; nothing of it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where in the segment the log ends.
    pub position: u64,
}

/// Acknowledged data that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The range of offsets.
    pub gap: Gap,
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Partitions recovered, the state journal included.
    pub partitions: usize,
    /// Bytes of frames that were read and checked.
    pub scanned_bytes: u64,
    /// Interrupted commits that were trimmed.
    pub torn: Vec<TornTail>,
    /// Acknowledged data that is damaged or missing.
    pub damage: Vec<DamagedRange>,
    /// Whether the state view was rebuilt from its journal.
    pub view_rebuilt: bool,
    /// Other findings, one sentence each.
    pub notes: Vec<String>,
}

impl RecoveryReport {
    pub(crate) fn add(&mut self, log: &Log, found: &Found) {
        self.partitions += 1;
        self.scanned_bytes += found.scanned_bytes;
        if let Some(position) = found.torn_at {
            self.torn.push(TornTail {
                topic: log.topic.name.clone(),
                partition: log.index,
                position,
            });
        }
        self.damage
            .extend(found.damage.iter().map(|(from, to)| DamagedRange {
                topic: log.topic.name.clone(),
                partition: log.index,
                gap: Gap {
                    from: *from,
                    to: *to,
                    reason: GapReason::Damage,
                },
            }));
        self.notes.extend(found.notes.iter().cloned());
    }

    /// Returns one sentence per damaged range.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.damage
            .iter()
            .map(|damage| {
                format!(
                    "topic {} partition {}: acknowledged offsets {} to {} are damaged or missing on disk",
                    damage.topic,
                    damage.partition,
                    damage.gap.from,
                    damage.gap.to.saturating_sub(1)
                )
            })
            .collect()
    }
}
