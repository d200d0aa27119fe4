//! The demo's last word: what was sent, acknowledged and found at the hub.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bearing::Finding;
use crate::queries::{ALERTS_PREFIX, RESULTS_PREFIX};

/// A record as the audit read it from the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Hub topic.
    pub topic: String,
    /// Partition of the topic.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    /// Record key: the MQTT path.
    pub path: String,
    /// Sequence number that the sensor put into its payload; `None` for a
    /// reading that was polled.
    pub sequence: Option<u64>,
}

/// The numbers a script checks. `gaps` and `duplicates` count readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Audit {
    /// Readings that the sensors published.
    pub sent: u64,
    /// Readings that the gateway, or the old broker, acknowledged.
    pub acknowledged: u64,
    /// Published readings found at the hub, duplicates included.
    pub arrived: u64,
    /// Polled readings found at the hub. That none is missing is seen from the
    /// offsets: the hub's are the gateway's.
    pub polled: u64,
    /// Rows and alerts of the gateway's query found at the hub.
    pub results: u64,
    /// Acknowledged readings that are missing at the hub.
    pub gaps: u64,
    /// Readings found more than once at the hub.
    pub duplicates: u64,
    /// Readings of one path found behind a later reading of that path.
    pub out_of_order: u64,
    /// Offsets missing between the first and the last of a hub partition.
    pub offset_gaps: u64,
    /// Bearings that the query found to fail.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Compares what was sent per path with what arrived. `arrivals` of one
    /// partition must be in log order.
    ///
    /// Every reading of a path counts as acknowledged when `acknowledged`
    /// equals `sent`; otherwise the unacknowledged ones are the newest, and a
    /// missing newest reading of a path is not a gap.
    pub fn new(
        sent_per_path: &BTreeMap<String, u64>,
        acknowledged: u64,
        arrivals: &[Arrival],
    ) -> Audit {
        let sent: u64 = sent_per_path.values().sum();
        let mut audit = Audit {
            sent,
            acknowledged,
            ..Audit::default()
        };
        audit.count_offset_gaps(arrivals);
        let mut sequences: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for arrival in arrivals {
            if arrival.path.starts_with(RESULTS_PREFIX) || arrival.path.starts_with(ALERTS_PREFIX) {
                audit.results += 1;
                continue;
            }
            let Some(sequence) = arrival.sequence else {
                audit.polled += 1;
                continue;
            };
            audit.arrived += 1;
            sequences.entry(&arrival.path).or_default().push(sequence);
        }
        let mut missing = 0;
        for (path, &count) in sent_per_path {
            let seen = sequences.get(path.as_str()).map_or(&[][..], Vec::as_slice);
            missing += audit.count_path(seen, count);
        }
        audit.gaps = missing.saturating_sub(sent.saturating_sub(acknowledged));
        audit
    }

    /// True when every acknowledged reading arrived once and in order.
    pub fn is_clean(&self) -> bool {
        self.gaps == 0 && self.duplicates == 0 && self.out_of_order == 0 && self.offset_gaps == 0
    }

    /// Counts duplicates and disorder of one path; returns its missing readings.
    fn count_path(&mut self, seen: &[u64], sent: u64) -> u64 {
        let mut sorted = seen.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        self.duplicates += (seen.len() - sorted.len()) as u64;
        self.out_of_order += seen.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        sent.saturating_sub(sorted.len() as u64)
    }

    fn count_offset_gaps(&mut self, arrivals: &[Arrival]) {
        let mut next: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        for arrival in arrivals {
            let key = (arrival.topic.as_str(), arrival.partition);
            let expected = next
                .insert(key, arrival.offset + 1)
                .unwrap_or(arrival.offset);
            self.offset_gaps += arrival.offset.saturating_sub(expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(sequences: &[u64]) -> Vec<Arrival> {
        sequences
            .iter()
            .enumerate()
            .map(|(offset, &sequence)| Arrival {
                topic: "t".into(),
                partition: 0,
                offset: offset as u64,
                path: "a".into(),
                sequence: Some(sequence),
            })
            .collect()
    }

    fn audit(sent: u64, acknowledged: u64, sequences: &[u64]) -> Audit {
        Audit::new(
            &BTreeMap::from([("a".to_owned(), sent)]),
            acknowledged,
            &arrivals(sequences),
        )
    }

    #[test]
    fn every_reading_once_and_in_order_is_clean() {
        let audit = audit(3, 3, &[0, 1, 2]);
        assert!(audit.is_clean());
        assert_eq!((audit.sent, audit.acknowledged, audit.arrived), (3, 3, 3));
    }

    #[test]
    fn a_missing_acknowledged_reading_is_a_gap() {
        assert_eq!(audit(3, 3, &[0, 2]).gaps, 1);
        assert_eq!(audit(3, 3, &[]).gaps, 3);
    }

    #[test]
    fn a_missing_reading_that_nobody_acknowledged_is_no_gap() {
        assert!(audit(3, 2, &[0, 1]).is_clean());
    }

    #[test]
    fn a_second_copy_is_a_duplicate_and_a_late_one_is_out_of_order() {
        let audit = audit(3, 3, &[0, 1, 1, 2, 0]);
        assert_eq!((audit.duplicates, audit.out_of_order), (2, 1));
    }

    #[test]
    fn a_polled_reading_counts_by_its_offset_alone() {
        let mut found = arrivals(&[0, 1, 1]);
        found[1].sequence = None;
        let audit = Audit::new(&BTreeMap::from([("a".to_owned(), 2)]), 2, &found);
        assert!(audit.is_clean());
        assert_eq!((audit.arrived, audit.polled), (2, 1));
    }

    #[test]
    fn a_hole_between_offsets_is_counted() {
        let mut found = arrivals(&[0, 1]);
        found[1].offset = 5;
        let audit = Audit::new(&BTreeMap::from([("a".to_owned(), 2)]), 2, &found);
        assert_eq!(audit.offset_gaps, 4);
    }
}
