//! One batch on its way into one partition.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use forebay_kafka::append_condition::{
    AppendCondition, LINEAGE_NONE, REFUSED_LINEAGE, REFUSED_OFFSET,
};
use forebay_records::{BatchHeader, Compression, ValidateLimits, validate_for_append};
use forebay_storage::{
    AppendError, AppendOptions, Appended, GapReason, Partition, Storage, Ticket, Topic, Transaction,
};
use parking_lot::Mutex;

use crate::Broker;
use crate::book::{
    Book, MAX_DECOMPRESSED_BYTES, Tail, last_lineage, lineage_at, load_producers, sequenced,
};
use crate::broker::LEADER_EPOCH;
use crate::errors::Refusal;
use crate::producer_state::{KnownBatch, SequencedBatch, Verdict};
use crate::topic_config::AppendRules;
use crate::topic_name::validate_topic_name;

/// Compressed batches from this size on are validated where blocking is
/// allowed: decompression takes about a millisecond per 256 KiB, during which
/// the connections of the same thread would stand still.
const VALIDATE_INLINE_BYTES: usize = 256 * 1024;

/// Bit 3 of a batch's attributes: the timestamps are the broker's.
const LOG_APPEND_TIME_BIT: u8 = 0x08;

/// One partition of a Produce request.
#[derive(Clone, Debug)]
pub(super) struct AppendRequest {
    pub(super) topic: String,
    pub(super) index: i32,
    pub(super) records: Bytes,
    pub(super) condition: Option<AppendCondition>,
}

/// Where a batch is, or will be once the ticket is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) base_offset: i64,
    pub(super) append_time_ms: i64,
    pub(super) log_start: u64,
    /// Absent when the batch is durable.
    pub(super) ticket: Option<Ticket>,
}

/// Why an append is not done yet or never will be.
#[derive(Debug)]
pub(super) enum NotPlaced {
    /// Files have to be read first.
    MustBlock,
    /// The log takes no more bytes for the moment.
    Backpressure,
    /// The batch is refused.
    Refused(Refusal),
}

impl<E: Into<Refusal>> From<E> for NotPlaced {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Everything known about a batch before the book is locked.
struct Prepared<'a> {
    partition: &'a Partition,
    batch: Bytes,
    header: BatchHeader,
    sequenced: Option<SequencedBatch>,
    append_time_ms: i64,
    condition: Option<AppendCondition>,
    /// The last record's digest, computed outside of the lock.
    lineage_after: Option<u32>,
}

impl Broker {
    /// Validates and appends one batch.
    pub(super) fn place(
        &self,
        request: &AppendRequest,
        may_block: bool,
    ) -> Result<Placed, NotPlaced> {
        validate_topic_name(&request.topic)?;
        let (topic, partition) = self.partition(&request.topic, request.index)?;
        let book = self.books.open(topic.id(), partition.index());
        if request.records.is_empty() {
            return match request.condition {
                Some(AppendCondition {
                    gap_to: Some(_), ..
                }) => self.place_gap(request, &partition),
                _ => Err(Refusal::Invalid("produce holds no record batch").into()),
            };
        }
        let prepared = self.prepare(request, &topic, &partition, &book, may_block)?;
        if may_block {
            self.fill_book(&prepared, &topic, &book)?;
        }
        self.place_prepared(&prepared, &book, may_block)
    }

    fn prepare<'a>(
        &self,
        request: &AppendRequest,
        topic: &Arc<Topic>,
        partition: &'a Partition,
        book: &Mutex<Book>,
        may_block: bool,
    ) -> Result<Prepared<'a>, NotPlaced> {
        let batch = request.records.clone();
        let rules = self.rules(topic, book);
        let is_large =
            batch.len() > VALIDATE_INLINE_BYTES && batch.len() <= rules.max_message_bytes;
        if is_large && !may_block && is_compressed(&batch) {
            return Err(NotPlaced::MustBlock);
        }
        let now_ms = self.clock.wall_ms();
        let limits = ValidateLimits {
            max_batch_bytes: rules.max_message_bytes,
            max_decompressed_bytes: MAX_DECOMPRESSED_BYTES,
            now_ms,
            timestamp_before_max_ms: rules.timestamp_before_max_ms,
            timestamp_after_max_ms: rules.timestamp_after_max_ms,
        };
        let header = validate_for_append(&batch, &limits)?;
        let condition = request.condition;
        let lineage_after = condition.and_then(|condition| {
            let base = condition.gap_to.unwrap_or(condition.expected_offset) as u64;
            last_lineage(&batch, base + header.last_offset_delta as u64)
        });
        let sequenced = sequenced(&header);
        let append_time_ms = if rules.log_append_time { now_ms } else { -1 };
        let batch = if rules.log_append_time {
            restamp(&batch, now_ms)
        } else {
            batch
        };
        Ok(Prepared {
            partition,
            batch,
            header,
            sequenced,
            append_time_ms,
            condition,
            lineage_after,
        })
    }

    /// Reads what the book lacks for this batch. The log is read without the
    /// lock; a slower reader keeps what a faster one has put in.
    fn fill_book(
        &self,
        prepared: &Prepared<'_>,
        topic: &Topic,
        book: &Mutex<Book>,
    ) -> Result<(), NotPlaced> {
        if prepared.sequenced.is_some() && book.lock().producers.is_none() {
            let loaded = load_producers(
                &self.storage,
                topic.id(),
                prepared.partition,
                self.clock.wall_ms(),
            )?;
            book.lock().producers.get_or_insert(loaded);
        }
        if let Some(expected) = prepared.condition.map(|c| c.expected_offset as u64)
            && expected > 0
            && prepared.partition.offsets().log_end == expected
            && book
                .lock()
                .tail
                .is_none_or(|tail| tail.next_offset != expected)
        {
            let lineage = lineage_at(&self.storage, prepared.partition, expected - 1)?;
            book.lock().tail = Some(Tail {
                next_offset: expected,
                lineage,
            });
        }
        Ok(())
    }

    fn place_prepared(
        &self,
        prepared: &Prepared<'_>,
        book: &Mutex<Book>,
        may_block: bool,
    ) -> Result<Placed, NotPlaced> {
        let mut book = book.lock();
        if let Some(sequenced) = &prepared.sequenced {
            let producers = book.producers.as_ref().ok_or(NotPlaced::MustBlock)?;
            if let Verdict::Duplicate(known) = producers.check(sequenced, self.clock.wall_ms())? {
                drop(book);
                return self.place_duplicate(prepared, sequenced, &known, may_block);
            }
        }
        if let Some(condition) = &prepared.condition {
            self.check_condition(prepared.partition, condition, &book, may_block)?;
        }
        let appended = append(&self.storage, prepared)?;
        if let (Some(sequenced), Some(producers)) = (&prepared.sequenced, book.producers.as_mut()) {
            let now_ms = self.clock.wall_ms();
            let base_offset = appended.base_offset as i64;
            producers.record(
                sequenced,
                base_offset,
                prepared.append_time_ms,
                now_ms,
                Some(appended.ticket),
            );
        }
        book.tail = prepared.condition.map(|_| Tail {
            next_offset: appended.next_offset,
            lineage: prepared.lineage_after,
        });
        book.appended(&self.storage, prepared.batch.len());
        Ok(Placed {
            base_offset: appended.base_offset as i64,
            append_time_ms: prepared.append_time_ms,
            log_start: prepared.partition.offsets().log_start,
            ticket: Some(appended.ticket),
        })
    }

    /// A retry is answered with the offset it has. With a condition the retry
    /// must be the same batch at the same place: two gateways with one identity
    /// would otherwise see each other's batches acknowledged as their own.
    fn place_duplicate(
        &self,
        prepared: &Prepared<'_>,
        sequenced: &SequencedBatch,
        known: &KnownBatch<Ticket>,
        may_block: bool,
    ) -> Result<Placed, NotPlaced> {
        if let Some(condition) = &prepared.condition {
            let base = condition.gap_to.unwrap_or(condition.expected_offset);
            let log_end = prepared.partition.offsets().log_end;
            if known.base_offset != base {
                let detail = format!(
                    "retry expects offset {base}, the batch is at {}",
                    known.base_offset
                );
                return Err(Refusal::Condition {
                    reason: REFUSED_OFFSET,
                    detail,
                    log_end,
                }
                .into());
            }
            if known.crc != sequenced.crc {
                if !may_block {
                    return Err(NotPlaced::MustBlock);
                }
                // A sender that compresses again may produce other bytes for
                // the same records, so the last record decides.
                let last = base as u64 + prepared.header.last_offset_delta as u64;
                let stored = lineage_at(&self.storage, prepared.partition, last)?;
                if stored.is_some() && stored != prepared.lineage_after {
                    let detail = format!("retry has another record at offset {last}");
                    return Err(Refusal::Condition {
                        reason: REFUSED_LINEAGE,
                        detail,
                        log_end,
                    }
                    .into());
                }
            }
        }
        Ok(Placed {
            base_offset: known.base_offset,
            append_time_ms: known.append_time_ms,
            log_start: prepared.partition.offsets().log_start,
            ticket: known.ticket,
        })
    }

    fn check_condition(
        &self,
        partition: &Partition,
        condition: &AppendCondition,
        book: &Book,
        may_block: bool,
    ) -> Result<(), NotPlaced> {
        let expected = condition.expected_offset as u64;
        let log_end = partition.offsets().log_end;
        if log_end != expected {
            // A retry whose gap was recorded and whose batch was not.
            if condition.gap_to == Some(log_end as i64) && has_gap(partition, expected, log_end) {
                return Ok(());
            }
            let detail = format!("expected offset {expected}");
            return Err(Refusal::Condition {
                reason: REFUSED_OFFSET,
                detail,
                log_end,
            }
            .into());
        }
        if expected == 0 || condition.lineage == LINEAGE_NONE {
            return Ok(());
        }
        match book.tail {
            Some(Tail {
                next_offset,
                lineage,
            }) if next_offset == expected => match lineage {
                Some(found) if found != condition.lineage => {
                    let detail = format!("record at offset {} differs", expected - 1);
                    Err(Refusal::Condition {
                        reason: REFUSED_LINEAGE,
                        detail,
                        log_end,
                    }
                    .into())
                }
                _ => Ok(()),
            },
            _ if may_block => {
                let detail = format!("expected offset {expected} while another append ran");
                Err(Refusal::Condition {
                    reason: REFUSED_OFFSET,
                    detail,
                    log_end,
                }
                .into())
            }
            _ => Err(NotPlaced::MustBlock),
        }
    }

    /// A gap at the source with nothing behind it yet.
    fn place_gap(
        &self,
        request: &AppendRequest,
        partition: &Partition,
    ) -> Result<Placed, NotPlaced> {
        let Some(AppendCondition {
            expected_offset,
            gap_to: Some(gap_to),
            ..
        }) = request.condition
        else {
            return Err(Refusal::Invalid("gap without a target offset").into());
        };
        let log_end = partition.offsets().log_end;
        let is_recorded =
            gap_to as u64 == log_end && has_gap(partition, expected_offset as u64, log_end);
        if log_end != expected_offset as u64 && !is_recorded {
            let detail = format!("expected offset {expected_offset}");
            return Err(Refusal::Condition {
                reason: REFUSED_OFFSET,
                detail,
                log_end,
            }
            .into());
        }
        let ticket = if is_recorded {
            self.storage.fence()
        } else {
            partition
                .append_gap(gap_to as u64, GapReason::Source)
                .map_err(refuse_append)?
                .ticket
        };
        Ok(Placed {
            base_offset: gap_to,
            append_time_ms: -1,
            log_start: partition.offsets().log_start,
            ticket: Some(ticket),
        })
    }

    fn rules(&self, topic: &Topic, book: &Mutex<Book>) -> AppendRules {
        let mut book = book.lock();
        *book.rules.get_or_insert_with(|| {
            AppendRules::resolve(&topic.config().configs, self.config.max_message_bytes)
        })
    }
}

fn append(storage: &Storage, prepared: &Prepared<'_>) -> Result<Appended, NotPlaced> {
    let partition = prepared.partition;
    let Some(condition) = prepared.condition else {
        let options = AppendOptions {
            expected_offset: None,
            leader_epoch: LEADER_EPOCH,
        };
        return partition
            .append_batch(prepared.batch.clone(), options)
            .map_err(refuse_append);
    };
    let base = condition.gap_to.unwrap_or(condition.expected_offset) as u64;
    let options = AppendOptions {
        expected_offset: Some(base),
        leader_epoch: LEADER_EPOCH,
    };
    if partition.offsets().log_end >= base {
        return partition
            .append_batch(prepared.batch.clone(), options)
            .map_err(refuse_append);
    }
    // The gap and the batch behind it land in one commit window.
    let mut transaction = Transaction::new();
    transaction.append_gap(partition, base, GapReason::Source);
    transaction.append_batch(partition, prepared.batch.clone(), options);
    let committed = storage.commit(transaction).map_err(refuse_append)?;
    let appended = committed.appended.last().copied();
    appended.ok_or_else(|| Refusal::Append(AppendError::ShuttingDown).into())
}

fn refuse_append(error: AppendError) -> NotPlaced {
    match error {
        AppendError::Backpressure { .. } => NotPlaced::Backpressure,
        AppendError::OffsetMismatch { expected, actual } => {
            let detail = format!("expected offset {expected}");
            Refusal::Condition {
                reason: REFUSED_OFFSET,
                detail,
                log_end: actual,
            }
            .into()
        }
        error => Refusal::Append(error).into(),
    }
}

fn has_gap(partition: &Partition, from: u64, to: u64) -> bool {
    partition
        .gaps()
        .iter()
        .any(|gap| gap.from <= from && to <= gap.to)
}

fn is_compressed(batch: &[u8]) -> bool {
    let codec = BatchHeader::parse(batch).map(|header| header.compression());
    !matches!(codec, Ok(Ok(Compression::None)) | Err(_))
}

/// Gives every record of a batch the broker's time, as Kafka does for
/// LogAppendTime: the attribute bit, the maximum timestamp and the checksum
/// change, the records do not.
fn restamp(batch: &Bytes, now_ms: i64) -> Bytes {
    const CRC_AT: usize = 17;
    const ATTRIBUTES_LOW_AT: usize = 22;
    const MAX_TIMESTAMP_AT: usize = 35;
    let mut stamped = BytesMut::with_capacity(batch.len());
    stamped.put_slice(batch);
    stamped[ATTRIBUTES_LOW_AT] |= LOG_APPEND_TIME_BIT;
    stamped[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&stamped[CRC_AT + 4..]);
    stamped[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    stamped.freeze()
}
