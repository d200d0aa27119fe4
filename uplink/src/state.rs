//! What one link keeps on disk, and the key under which it does.
//!
//! The bytes are described in `docs/uplink.md`.

use thiserror::Error;

/// Number of batches that may be without an answer. Kafka's producer state
/// remembers exactly five batches per producer and partition; a sixth could be
/// repeated without being recognised.
pub const MAX_IN_FLIGHT: usize = 5;

/// Number of source gaps that the state remembers; the oldest is forgotten
/// first. Each gap is 16 bytes and is also marked at the destination.
pub const MAX_RECORDED_GAPS: usize = 64;

/// Longest cluster id accepted, in bytes. Kafka's own are 22 characters.
pub const MAX_CLUSTER_ID: usize = 1024;

const FORMAT: u8 = 1;

/// Which topic on which cluster the records go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Cluster id from Metadata.
    pub cluster_id: String,
    /// Topic id from Metadata v10 and later; zero when the destination does
    /// not tell.
    pub topic_id: [u8; 16],
}

/// Producer identity at the destination. Sequence numbers count from
/// `sequence_base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Producer id that the destination assigned.
    pub id: i64,
    /// Epoch; raised by the link itself when the sequence starts over.
    pub epoch: i16,
    /// Source offset that has sequence 0.
    pub sequence_base: u64,
}

impl Producer {
    /// The sequence number of the record at source offset `offset`.
    pub fn sequence(&self, offset: u64) -> i32 {
        (offset.wrapping_sub(self.sequence_base) & 0x7fff_ffff) as i32
    }
}

/// A batch that was decided on: sent, about to be sent, or to be sent again.
/// All offsets are source offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedBatch {
    /// Where the log ends before this batch. Less than `start` when the source
    /// lost the records between.
    pub gap_from: u64,
    /// Offset of the first record.
    pub start: u64,
    /// Offset after the last record; equal to `start` when only the gap is
    /// forwarded.
    pub end: u64,
    /// Lineage of the record before `gap_from`; zero when there is none.
    pub lineage_before: u32,
    /// Lineage of the last record; zero when there is none.
    pub lineage_last: u32,
}

impl PlannedBatch {
    /// Number of offsets that the source lost before this batch.
    pub fn gap_len(&self) -> u64 {
        self.start - self.gap_from
    }

    /// Number of records; none when only a gap is forwarded.
    pub fn record_count(&self) -> u64 {
        self.end - self.start
    }

    /// The lineage of the record before `end`, if there is one.
    pub fn lineage_known(&self) -> Option<u32> {
        (self.record_count() > 0).then_some(self.lineage_last)
    }
}

/// The durable state of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Identity of the gateway that wrote this state.
    pub incarnation: [u8; 16],
    /// Id of the source topic, so that a recreated one is noticed.
    pub source_topic_id: [u8; 16],
    /// Where the records go.
    pub destination: Destination,
    /// `None` until the destination has assigned one.
    pub producer: Option<Producer>,
    /// Every record below this source offset is at the destination.
    pub acked: u64,
    /// Lineage of the record at `acked - 1`, if one was delivered.
    pub acked_lineage: Option<u32>,
    /// Destination offset minus source offset. Zero towards a hub; towards
    /// Apache Kafka each source gap lowers it.
    pub delta: i64,
    /// Records below this source offset may have been sent in batches that are
    /// no longer planned.
    pub given_up_to: u64,
    /// Batches that may be at the destination or on their way, in order.
    pub in_flight: Vec<PlannedBatch>,
    /// Source ranges `[from, to)` that were lost before they were sent.
    pub gaps: Vec<(u64, u64)>,
}

/// Why stored bytes are not a [`PartitionState`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// A newer or foreign format.
    #[error("uplink state has format {found}, expected {FORMAT}")]
    UnknownFormat {
        /// The first byte.
        found: u8,
    },
    /// The bytes end early.
    #[error("uplink state ends at byte {at}, expected {wanted} more")]
    Truncated {
        /// Position at which bytes are missing.
        at: usize,
        /// Number of bytes that were needed there.
        wanted: usize,
    },
    /// A field holds an impossible value.
    #[error("uplink state field {field} is {value}, expected {expected}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold.
        expected: &'static str,
    },
}

impl PartitionState {
    /// A state for a link that has sent nothing.
    pub fn new(incarnation: [u8; 16], source_topic_id: [u8; 16], to: Destination) -> Self {
        PartitionState {
            incarnation,
            source_topic_id,
            destination: to,
            producer: None,
            acked: 0,
            acked_lineage: None,
            delta: 0,
            given_up_to: 0,
            in_flight: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// The source offset that the next planned batch starts at.
    pub fn next_offset(&self) -> u64 {
        self.in_flight.last().map_or(self.acked, |batch| batch.end)
    }

    /// The lineage of the record before [`Self::next_offset`], if any.
    pub fn next_lineage(&self) -> Option<u32> {
        match self.in_flight.last() {
            Some(batch) => batch.lineage_known(),
            None => self.acked_lineage,
        }
    }

    /// Remembers that the source lost `[from, to)`.
    pub fn record_gap(&mut self, from: u64, to: u64) {
        if self.gaps.contains(&(from, to)) {
            return;
        }
        if self.gaps.len() == MAX_RECORDED_GAPS {
            self.gaps.remove(0);
        }
        self.gaps.push((from, to));
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.incarnation);
        out.extend_from_slice(&self.source_topic_id);
        let cluster = self.destination.cluster_id.as_bytes();
        out.extend_from_slice(&(cluster.len() as u16).to_be_bytes());
        out.extend_from_slice(cluster);
        out.extend_from_slice(&self.destination.topic_id);
        match self.producer {
            None => out.push(0),
            Some(producer) => {
                out.push(1);
                out.extend_from_slice(&producer.id.to_be_bytes());
                out.extend_from_slice(&producer.epoch.to_be_bytes());
                out.extend_from_slice(&producer.sequence_base.to_be_bytes());
            }
        }
        out.extend_from_slice(&self.acked.to_be_bytes());
        match self.acked_lineage {
            None => out.push(0),
            Some(lineage) => {
                out.push(1);
                out.extend_from_slice(&lineage.to_be_bytes());
            }
        }
        out.extend_from_slice(&self.delta.to_be_bytes());
        out.extend_from_slice(&self.given_up_to.to_be_bytes());
        out.push(self.in_flight.len() as u8);
        for batch in &self.in_flight {
            out.extend_from_slice(&batch.gap_from.to_be_bytes());
            out.extend_from_slice(&batch.start.to_be_bytes());
            out.extend_from_slice(&batch.end.to_be_bytes());
            out.extend_from_slice(&batch.lineage_before.to_be_bytes());
            out.extend_from_slice(&batch.lineage_last.to_be_bytes());
        }
        out.push(self.gaps.len() as u8);
        for (from, to) in &self.gaps {
            out.extend_from_slice(&from.to_be_bytes());
            out.extend_from_slice(&to.to_be_bytes());
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`StateError`] when the bytes are of another format, end early, go on
    /// after the end, or hold a plan that is not in order.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let format = cursor.u8()?;
        if format != FORMAT {
            return Err(StateError::UnknownFormat { found: format });
        }
        let incarnation = cursor.array()?;
        let source_topic_id = cursor.array()?;
        let destination = cursor.destination()?;
        let producer = if cursor.flag("producer present")? {
            Some(Producer {
                id: i64::from_be_bytes(cursor.array()?),
                epoch: i16::from_be_bytes(cursor.array()?),
                sequence_base: cursor.u64()?,
            })
        } else {
            None
        };
        let acked = cursor.u64()?;
        let acked_lineage = if cursor.flag("lineage present")? {
            Some(cursor.u32()?)
        } else {
            None
        };
        let delta = i64::from_be_bytes(cursor.array()?);
        let given_up_to = cursor.u64()?;
        let in_flight = cursor.plan(acked)?;
        let gaps = cursor.gaps()?;
        cursor.end()?;
        Ok(PartitionState {
            incarnation,
            source_topic_id,
            destination,
            producer,
            acked,
            acked_lineage,
            delta,
            given_up_to,
            in_flight,
            gaps,
        })
    }
}

/// The storage key of a link's state: `u/<destination>/<topic>/<partition>`.
pub fn key(destination: &str, topic: &str, partition: u32) -> Vec<u8> {
    format!("u/{destination}/{topic}/{partition}").into_bytes()
}

/// What the keys of all links to one destination begin with.
pub fn prefix(destination: &str) -> Vec<u8> {
    format!("u/{destination}/").into_bytes()
}

/// The topic and the partition out of a [`key`].
pub fn parse_key(key: &[u8]) -> Option<(String, u32)> {
    let text = std::str::from_utf8(key).ok()?;
    let mut parts = text.rsplitn(3, '/');
    let partition = parts.next()?.parse().ok()?;
    Some((parts.next()?.to_owned(), partition))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, wanted: usize) -> Result<&[u8], StateError> {
        let end = self.at.checked_add(wanted);
        let slice = end.and_then(|end| self.bytes.get(self.at..end));
        let at = self.at;
        self.at = self.at.saturating_add(wanted);
        slice.ok_or(StateError::Truncated { at, wanted })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(StateError::Invalid {
                field,
                value: u64::from(other),
                expected: "0 or 1",
            }),
        }
    }

    fn destination(&mut self) -> Result<Destination, StateError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        if length > MAX_CLUSTER_ID {
            return Err(StateError::Invalid {
                field: "cluster id length",
                value: length as u64,
                expected: "at most 1024",
            });
        }
        let cluster_id = String::from_utf8_lossy(self.take(length)?).into_owned();
        let topic_id = self.array()?;
        Ok(Destination {
            cluster_id,
            topic_id,
        })
    }

    fn plan(&mut self, acked: u64) -> Result<Vec<PlannedBatch>, StateError> {
        let count = usize::from(self.u8()?);
        if count > MAX_IN_FLIGHT {
            return Err(StateError::Invalid {
                field: "batches in flight",
                value: count as u64,
                expected: "at most 5",
            });
        }
        let mut plan = Vec::with_capacity(count);
        let mut next = acked;
        for _ in 0..count {
            let batch = PlannedBatch {
                gap_from: self.u64()?,
                start: self.u64()?,
                end: self.u64()?,
                lineage_before: self.u32()?,
                lineage_last: self.u32()?,
            };
            let leads_on = batch.start >= next && batch.end >= batch.start && batch.end > next;
            if batch.gap_from != next || !leads_on {
                return Err(StateError::Invalid {
                    field: "batch start",
                    value: batch.start,
                    expected: "batches that follow each other",
                });
            }
            next = batch.end;
            plan.push(batch);
        }
        Ok(plan)
    }

    fn gaps(&mut self) -> Result<Vec<(u64, u64)>, StateError> {
        let count = usize::from(self.u8()?);
        if count > MAX_RECORDED_GAPS {
            return Err(StateError::Invalid {
                field: "recorded gaps",
                value: count as u64,
                expected: "at most 64",
            });
        }
        (0..count).map(|_| Ok((self.u64()?, self.u64()?))).collect()
    }

    fn end(&self) -> Result<(), StateError> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(StateError::Invalid {
            field: "bytes after the end",
            value: (self.bytes.len() - self.at) as u64,
            expected: "none",
        })
    }
}

#[cfg(test)]
mod tests;
