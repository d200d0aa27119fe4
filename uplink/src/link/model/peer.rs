//! The destination of the model.

use super::*;
use forebay_kafka::append_condition::{REFUSED_LINEAGE, REFUSED_OFFSET};

#[derive(Debug, Clone)]
pub struct Request {
    pub batch: PlannedBatch,
    pub producer: Producer,
    pub sequence: i32,
    pub condition: AppendCondition,
    pub payload: Payload,
}

#[derive(Debug, Clone)]
pub struct StoredBatch {
    pub base: i64,
    pub gap_from: i64,
    pub records: Payload,
    pub producer: (i64, i16),
    pub sequence: i32,
}

impl StoredBatch {
    pub fn end(&self) -> i64 {
        self.base + self.records.len() as i64
    }

    fn last_sequence(&self) -> i32 {
        (self.sequence as u32).wrapping_add(self.records.len() as u32 - 1) as i32 & i32::MAX
    }
}

/// The destination, by the facts of `docs/uplink.md`: sequence checks per
/// producer, exact matches among the last five batches answered with the
/// original offset, contents not compared.
#[derive(Debug, Default)]
pub struct Peer {
    pub hub: bool,
    pub log: Vec<StoredBatch>,
    pub visible: usize,
    pub next_producer: i64,
}

impl Peer {
    pub fn end(&self) -> i64 {
        self.log.last().map_or(0, StoredBatch::end)
    }

    pub fn produce(&mut self, request: &Request) -> Result<i64, Refusal> {
        let refuse = |code, message: Option<&str>| {
            Err(Refusal {
                code,
                message: message.map(str::to_owned),
            })
        };
        if request.payload.is_empty() {
            return self.record_gap(request).ok_or(Refusal {
                code: error_code::INVALID_RECORD,
                message: Some(REFUSED_OFFSET.to_owned()),
            });
        }
        let producer = request.producer;
        let same_id = self.log.iter().rev();
        let of_producer: Vec<_> = same_id
            .filter(|batch| batch.producer.0 == producer.id)
            .collect();
        if let Some(newest) = of_producer.first() {
            let epoch = newest.producer.1;
            let last = (request.sequence as u32).wrapping_add(request.payload.len() as u32 - 1)
                as i32
                & i32::MAX;
            if producer.epoch < epoch {
                return refuse(error_code::INVALID_PRODUCER_EPOCH, None);
            } else if producer.epoch > epoch {
                if request.sequence != 0 {
                    return refuse(error_code::OUT_OF_ORDER_SEQUENCE_NUMBER, None);
                }
            } else {
                let same_epoch = of_producer.iter().filter(|b| b.producer.1 == epoch);
                let repeated = same_epoch
                    .take(5)
                    .find(|b| (b.sequence, b.last_sequence()) == (request.sequence, last));
                if let Some(batch) = repeated {
                    return Ok(batch.base);
                }
                if request.sequence != (newest.last_sequence() as u32 + 1) as i32 & i32::MAX {
                    return refuse(error_code::OUT_OF_ORDER_SEQUENCE_NUMBER, None);
                }
            }
        }
        let mut base = self.end();
        let gap_from = base;
        if self.hub {
            let condition = request.condition;
            if condition.expected_offset != base {
                return refuse(error_code::INVALID_RECORD, Some(REFUSED_OFFSET));
            }
            let before = self.log.last().and_then(|b| b.records.last());
            let lineage = before.map_or(0, |id| lineage(*id));
            if condition.lineage != 0 && lineage != 0 && condition.lineage != lineage {
                return refuse(error_code::INVALID_RECORD, Some(REFUSED_LINEAGE));
            }
            base = condition.gap_to.unwrap_or(base);
        }
        self.log.push(StoredBatch {
            base,
            gap_from,
            records: request.payload.clone(),
            producer: (producer.id, producer.epoch),
            sequence: request.sequence,
        });
        Ok(base)
    }

    /// A gap alone; recording it again changes nothing.
    fn record_gap(&mut self, request: &Request) -> Option<i64> {
        assert!(self.hub, "only a hub gets a gap without records");
        let condition = request.condition;
        let base = condition.gap_to.expect("no records and no gap");
        let newest = self.log.last();
        let is_recorded =
            newest.is_some_and(|newest| newest.records.is_empty() && newest.base == base);
        if is_recorded {
            return Some(base);
        }
        if self.end() != condition.expected_offset {
            return None;
        }
        self.log.push(StoredBatch {
            base,
            gap_from: condition.expected_offset,
            records: request.payload.clone(),
            producer: (-1, -1),
            sequence: -1,
        });
        Some(base)
    }

    pub fn tail(&self) -> Tail {
        let newest = self.log[..self.visible].last();
        Tail {
            log_start: 0,
            log_end: newest.map_or(0, StoredBatch::end),
            last: newest.and_then(|batch| {
                let id = *batch.records.last()?;
                Some(TailRecord {
                    offset: batch.end() - 1,
                    timestamp: timestamp(id),
                    key: None,
                    value: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
                })
            }),
        }
    }
}
