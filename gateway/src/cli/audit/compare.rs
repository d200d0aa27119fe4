//! The comparison of two logs, record by record, without I/O.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use forebay_kafka::append_condition::lineage;
use forebay_records::Record;
use serde::Serialize;

/// Findings listed per partition. Neighbouring offsets are one finding, so
/// that this many tell the story; the sums count all of them.
const FINDINGS_MAX: usize = 100;

/// How many of the gateway's latest records are remembered to recognise a
/// record that the hub holds a second time: more than the records of the five
/// batches in flight that a careless sender would repeat.
const REMEMBERED: usize = 16_384;

/// What is wrong with a range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The gateway has records that the hub skipped.
    MissingAtHub,
    /// Neither side has records: a loss that the gateway recorded.
    RecordedGap,
    /// The hub has records that the gateway does not have.
    OnlyAtHub,
    /// The hub's records repeat earlier records of the gateway.
    Duplicate,
    /// The records differ.
    Different,
}

/// A range of offsets with one kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The first offset.
    pub from: i64,
    /// The first offset behind the range.
    pub to: i64,
    /// How many records or offsets it concerns.
    pub records: u64,
}

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The gateway's.
    Gateway,
    /// The hub's.
    Hub,
}

/// A comparison of one partition, fed in the order of offsets.
#[derive(Debug)]
pub(super) struct Comparison {
    next: i64,
    hub_next: i64,
    compared: u64,
    findings: Vec<Finding>,
    /// Content digests of the gateway's latest records, in order and counted.
    recent: VecDeque<u32>,
    recent_counts: BTreeMap<u32, u32>,
}

impl Comparison {
    /// A comparison from an offset that both sides keep.
    pub(super) fn new(from: i64) -> Self {
        Self {
            next: from,
            hub_next: from,
            compared: 0,
            findings: Vec::new(),
            recent: VecDeque::new(),
            recent_counts: BTreeMap::new(),
        }
    }

    /// Both sides have a record at one offset.
    pub(super) fn pair(&mut self, source: &Record, copy: &Record) {
        self.skip_to(source.offset);
        self.compared += 1;
        self.hub_next = copy.offset + 1;
        self.next = source.offset + 1;
        if digest(source) != digest(copy) {
            let kind = self.kind_of_stranger(copy, FindingKind::Different);
            self.find(kind, copy.offset, copy.offset + 1);
        }
        self.remember(source);
    }

    /// Only one side has a record at its offset.
    pub(super) fn lone(&mut self, side: Side, record: &Record) {
        match side {
            Side::Gateway => {
                self.skip_to(record.offset);
                self.find(FindingKind::MissingAtHub, record.offset, record.offset + 1);
                self.next = record.offset + 1;
                self.remember(record);
            }
            Side::Hub if record.offset < self.hub_next => {
                self.find(FindingKind::Duplicate, record.offset, record.offset + 1);
            }
            Side::Hub => {
                self.skip_to(record.offset);
                let kind = self.kind_of_stranger(record, FindingKind::OnlyAtHub);
                self.find(kind, record.offset, record.offset + 1);
                self.hub_next = record.offset + 1;
                self.next = self.next.max(record.offset + 1);
            }
        }
    }

    /// The number of pairs and the findings up to `to`.
    pub(super) fn finish(mut self, to: i64) -> (u64, Vec<Finding>) {
        self.skip_to(to);
        (self.compared, self.findings)
    }

    fn skip_to(&mut self, offset: i64) {
        if offset > self.next {
            self.find(FindingKind::RecordedGap, self.next, offset);
            self.next = offset;
        }
    }

    fn find(&mut self, kind: FindingKind, from: i64, to: i64) {
        let records = u64::try_from(to - from).unwrap_or(0);
        let is_full = self.findings.len() >= FINDINGS_MAX;
        if let Some(last) = self.findings.last_mut()
            && ((last.kind == kind && last.to == from) || is_full)
        {
            last.to = to;
            last.records += records;
            return;
        }
        self.findings.push(Finding {
            kind,
            from,
            to,
            records,
        });
    }

    fn kind_of_stranger(&self, copy: &Record, otherwise: FindingKind) -> FindingKind {
        if self.recent_counts.contains_key(&content(copy)) {
            FindingKind::Duplicate
        } else {
            otherwise
        }
    }

    fn remember(&mut self, source: &Record) {
        if self.recent.len() == REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.recent_counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.recent_counts.remove(&oldest);
            }
        }
        let content = content(source);
        self.recent.push_back(content);
        *self.recent_counts.entry(content).or_insert(0) += 1;
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FindingKind::MissingAtHub => "GAP: the hub skipped",
            FindingKind::RecordedGap => "GAP: neither side has",
            FindingKind::OnlyAtHub => "DUPLICATE: only the hub has",
            FindingKind::Duplicate => "DUPLICATE: the hub repeats earlier records at",
            FindingKind::Different => "DIFFERENT: the records differ at",
        };
        write!(
            f,
            "{what} offsets {}..{} ({})",
            self.from, self.to, self.records
        )
    }
}

fn digest(record: &Record) -> u32 {
    let timestamp = record.timestamp;
    let key = record.key.as_deref();
    lineage(
        crc32c::crc32c_append,
        record.offset,
        timestamp,
        key,
        record.value.as_deref(),
    )
}

/// The digest without the offset: what a repetition has in common.
fn content(record: &Record) -> u32 {
    let key = record.key.as_deref();
    lineage(
        crc32c::crc32c_append,
        0,
        record.timestamp,
        key,
        record.value.as_deref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(offset: i64, value: &'static str) -> Record {
        Record {
            offset,
            timestamp: 7,
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    fn finding(kind: FindingKind, from: i64, to: i64) -> Finding {
        let records = u64::try_from(to - from).expect("from is before to");
        Finding {
            kind,
            from,
            to,
            records,
        }
    }

    #[test]
    fn equal_logs_have_no_findings() {
        let mut comparison = Comparison::new(5);
        comparison.pair(&record(5, "a"), &record(5, "a"));
        comparison.pair(&record(6, "b"), &record(6, "b"));
        assert_eq!(comparison.finish(7), (2, vec![]));
    }

    #[test]
    fn neighbouring_missing_records_are_one_gap() {
        let mut comparison = Comparison::new(0);
        comparison.pair(&record(0, "a"), &record(0, "a"));
        comparison.lone(Side::Gateway, &record(1, "b"));
        comparison.lone(Side::Gateway, &record(2, "c"));
        comparison.pair(&record(3, "d"), &record(3, "d"));
        assert_eq!(
            comparison.finish(4),
            (2, vec![finding(FindingKind::MissingAtHub, 1, 3)])
        );
    }

    #[test]
    fn a_range_that_neither_side_has_is_a_recorded_gap() {
        let mut comparison = Comparison::new(0);
        comparison.pair(&record(4, "a"), &record(4, "a"));
        assert_eq!(
            comparison.finish(9),
            (
                1,
                vec![
                    finding(FindingKind::RecordedGap, 0, 4),
                    finding(FindingKind::RecordedGap, 5, 9)
                ]
            )
        );
    }

    #[test]
    fn a_repeated_record_is_a_duplicate_and_a_changed_one_is_not() {
        let mut comparison = Comparison::new(0);
        comparison.pair(&record(0, "a"), &record(0, "a"));
        comparison.pair(&record(1, "b"), &record(1, "a"));
        comparison.pair(&record(2, "c"), &record(2, "x"));
        comparison.lone(Side::Hub, &record(3, "c"));
        comparison.lone(Side::Hub, &record(4, "new"));
        assert_eq!(
            comparison.finish(3).1,
            [
                finding(FindingKind::Duplicate, 1, 2),
                finding(FindingKind::Different, 2, 3),
                finding(FindingKind::Duplicate, 3, 4),
                finding(FindingKind::OnlyAtHub, 4, 5),
            ]
        );
    }
}
