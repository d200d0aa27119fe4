//! A running query: records and watermark events in, rows and alerts out.
//!
//! The shell reads records of the log and calls [`Query::push`]; when a source
//! is silent for longer than [`Query::idle_after_ms`] it writes an advance to
//! the log and calls [`Query::advance`] with it, so that a replay is told the
//! same. Both return an [`Output`]. Rows, input offsets and
//! [`Query::encode_state`] belong into one commit. After a restart a query of
//! the same text takes the state with [`Query::decode_state`] and goes on with
//! the records after those offsets; what comes out does not depend on how
//! records are cut into calls, except for EMIT CHANGES, for rows that a full
//! memory budget refuses, for the order in which the branches of a UNION ALL
//! alternate, and for the order in which an outer interval join hands on rows
//! without a match.

mod advance;
mod json;
mod output;
mod progress;

#[cfg(test)]
mod tests;

pub use json::{write_alert, write_row};
pub use output::{Budget, Counts, Output};

use std::collections::BTreeMap;

use crate::alerts::AlertRule;
use crate::bind;
use crate::decode::{Decoded, Record, Router, ScanDecoder};
use crate::operators::{self, Chunk, Context, Operator, Refusal};
use crate::plan::Plan;
use crate::state::{Decoder, Encoder, StateError};
use crate::syntax::{Emit, SqlError};
use crate::value::DataType;
use crate::watermark::{END_OF_TIME_MS, Tracker};
use progress::Progress;

const VERSION: u8 = 2;

/// What a query may use unless it is told otherwise: fifty queries of this size
/// would need more than a small gateway has, and few need a tenth of it.
pub const MEMORY_BYTES: usize = 64 << 20;
/// The share of the budget that may remember which paths are wanted; it is
/// forgotten and looked up again beyond.
const PATHS_SHARE: usize = 8;
/// The budget counts as kept again when less than this share is in use, in
/// percent, so that an alarm does not come and go with each call.
const RELIEVED_PERCENT: usize = 70;
/// After so many attempts to give something up, new keys are refused instead.
const SHED_ROUNDS_MAX: usize = 64;

/// An advance of event time that the shell decided and wrote to the log.
///
/// Silence is the one thing that records do not tell, so it has to become a
/// record. When every record of the log was handed in and [`Query::silent`]
/// answers with advances, the shell appends [`Advance::to_bytes`] of each to a
/// topic of its own together with the offset up to which each input partition
/// was handed in, and only then calls [`Query::advance`]. A replay hands in the
/// records before those offsets, then the advance, then the rest: the same
/// windows close with the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advance {
    /// One partition of one stream.
    Source {
        /// The place of the stream in [`Plan::scans`].
        stream: u32,
        /// The log topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The time in milliseconds.
        time_ms: i64,
    },
    /// No source has rows older than this any more, in milliseconds.
    All(i64),
    /// The same for one partition.
    Partition {
        /// The log topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The time in milliseconds.
        time_ms: i64,
    },
    /// The input has ended: every window closes.
    End,
}

/// A running query.
///
/// # Restarts
/// [`Query::encode_state`] is exact: what follows [`Query::decode_state`] is what
/// would have followed without the restart. It need not be written with each
/// commit. A commit holds the result rows and the input offsets; a snapshot is
/// written when the records since the last one are more bytes than a restart may
/// read. After a restart the shell decodes the newest snapshot, hands in what
/// came after it, drops what comes out up to the offsets of the last commit, and
/// goes on. For that the records have to come in the same order again, which is
/// given if one commit is one call of [`Query::push`] with the partitions in
/// ascending order, and logged advances come between the calls between which
/// they came.
pub struct Query {
    plan: Plan,
    router: Router,
    decoders: Vec<ScanDecoder>,
    trackers: Vec<Tracker>,
    root: Box<dyn Operator>,
    alerts: Vec<AlertRule>,
    /// The last row of each key, for EMIT ON CHANGE.
    last_rows: BTreeMap<Box<[u8]>, Box<[u8]>>,
    last_bytes: usize,
    progress: Progress,
    budget_bytes: usize,
    full: bool,
    /// Whether the budget was reached and is not relieved yet.
    strained: bool,
    counts: Counts,
}

impl Query {
    /// Binds the text of a program.
    ///
    /// # Errors
    /// The first mistake in the text, with its place.
    pub fn new(text: &str, budget_bytes: usize) -> Result<Self, SqlError> {
        Ok(Self::from_plan(bind::plan(text)?, budget_bytes))
    }

    /// The running form of a plan.
    pub fn from_plan(plan: Plan, budget_bytes: usize) -> Self {
        Self {
            router: Router::new(&plan.scans).limited(budget_bytes / PATHS_SHARE),
            decoders: plan.scans.iter().map(ScanDecoder::new).collect(),
            trackers: plan
                .scans
                .iter()
                .map(|scan| Tracker::new(scan.watermark.clone()))
                .collect(),
            root: operators::build(&plan.root, &plan.scans),
            alerts: plan
                .alerts
                .iter()
                .map(|alert| AlertRule::new(alert, &plan.output))
                .collect(),
            last_rows: BTreeMap::new(),
            last_bytes: 0,
            progress: Progress::default(),
            budget_bytes,
            full: false,
            strained: false,
            counts: Counts::default(),
            plan,
        }
    }

    /// Makes a partition known before its first record, so that it holds the
    /// watermark until it has rows or is advanced.
    pub fn assign(&mut self, topic: &str, partition: i32) {
        for (tracker, scan) in self.trackers.iter_mut().zip(&self.plan.scans) {
            if scan.topics.is_empty() || scan.topics.iter().any(|known| known == topic) {
                tracker.assign(topic, partition);
            }
        }
    }

    /// Takes records; those of one partition in the order of their offsets.
    pub fn push(&mut self, records: &[Record<'_>]) -> Output {
        self.router.begin();
        let paths: Vec<u32> = records
            .iter()
            .map(|record| self.router.place(record.path))
            .collect();
        let mut context = Context {
            full: self.full,
            ..Context::default()
        };
        for scan in 0..self.decoders.len() {
            let chosen: Vec<u32> = (0..records.len() as u32)
                .filter(|index| {
                    let topic = records[*index as usize].topic;
                    self.router.wants(scan, paths[*index as usize], topic)
                })
                .collect();
            let decoded = self.decoders[scan].decode(records, &chosen, &paths, self.router.words());
            let chunk = self.mark_rows(scan, decoded, records, &mut context);
            context.scans.push(Some(chunk));
        }
        let newest = self
            .trackers
            .iter()
            .map(Tracker::newest)
            .max()
            .unwrap_or(i64::MIN);
        self.progress.note(records, newest);
        self.run(context)
    }

    /// Takes an advance of event time.
    pub fn advance(&mut self, advance: &Advance) -> Output {
        for (place, tracker) in self.trackers.iter_mut().enumerate() {
            match advance {
                Advance::Source {
                    stream,
                    topic,
                    partition,
                    time_ms,
                } => {
                    if *stream as usize == place {
                        tracker.advance(topic, *partition, *time_ms);
                    }
                }
                Advance::All(time) => tracker.advance_all(*time),
                Advance::End => tracker.advance_all(END_OF_TIME_MS),
                Advance::Partition {
                    topic,
                    partition,
                    time_ms,
                } => tracker.advance(topic, *partition, *time_ms),
            }
        }
        let context = Context {
            full: self.full,
            scans: self.plan.scans.iter().map(|_| None).collect(),
            ..Context::default()
        };
        self.run(context)
    }

    /// Gives each row the watermark that it met, and leaves out rows that are
    /// too far ahead.
    fn mark_rows(
        &mut self,
        scan: usize,
        decoded: Decoded,
        records: &[Record<'_>],
        context: &mut Context,
    ) -> Chunk {
        let tracker = &mut self.trackers[scan];
        let mut marks = Vec::with_capacity(decoded.times.len());
        let mut refused = Vec::new();
        let mut behind = false;
        for (row, time) in decoded.times.iter().enumerate() {
            let mark = tracker.mark();
            marks.push(mark);
            let record = &records[decoded.records[row] as usize];
            match tracker.row(record.topic, record.partition, *time, record.timestamp_ms) {
                Ok(()) => behind |= *time < mark,
                Err(reason) => refused.push((row, reason)),
            }
        }
        let mut chunk = Chunk {
            batch: decoded.batch,
            times: decoded.times,
            marks: behind.then_some(marks),
            records: decoded.records,
        };
        if !refused.is_empty() {
            for (row, reason) in &refused {
                context.refuse(&chunk, *row, *reason);
            }
            let kept: Vec<u32> = (0..chunk.rows() as u32)
                .filter(|row| {
                    refused
                        .binary_search_by_key(&(*row as usize), |(row, _)| *row)
                        .is_err()
                })
                .collect();
            chunk = chunk.take(&kept);
        }
        chunk
    }

    fn run(&mut self, mut context: Context) -> Output {
        context.marks = self.trackers.iter().map(Tracker::mark).collect();
        let mut chunks = Vec::new();
        self.root.feed(&mut context, &mut chunks);
        self.root.advance(&mut context, &mut chunks);
        self.keep_budget(&mut context, &mut chunks);
        let mut output = Output::default();
        for chunk in chunks {
            for rule in &mut self.alerts {
                rule.limit(self.full);
                rule.rows(&chunk, &mut output.alerts);
            }
            let chunk = if self.plan.emit == Emit::OnChange {
                self.changed(chunk)
            } else {
                chunk
            };
            if chunk.rows() > 0 {
                self.counts.rows_out += chunk.rows() as u64;
                output.rows.push(chunk);
            }
        }
        for refused in &context.refused {
            match refused.reason {
                Refusal::Late => self.counts.late += 1,
                Refusal::Ahead => self.counts.ahead += 1,
                Refusal::Memory => self.counts.no_memory += 1,
            }
        }
        self.counts.shed += context.shed;
        self.counts.unanswered += context.unanswered;
        output.budget = self.judge_budget(&context);
        output.refused = context.refused;
        output
    }

    fn judge_budget(&mut self, context: &Context) -> Option<Budget> {
        let refused = context
            .refused
            .iter()
            .any(|refused| refused.reason == Refusal::Memory);
        let strained = self.full || refused || context.shed > 0;
        let relieved = self.memory_bytes() < self.budget_bytes / 100 * RELIEVED_PERCENT;
        let before = self.strained;
        if strained {
            self.strained = true;
        } else if relieved {
            self.strained = false;
        }
        match (before, self.strained) {
            (false, true) => Some(Budget::Reached),
            (true, false) => Some(Budget::Relieved),
            _ => None,
        }
    }

    fn keep_budget(&mut self, context: &mut Context, chunks: &mut Vec<Chunk>) {
        let own = Self::memory_bytes;
        // A tenth of room is for the rows of the next call.
        let limit = self.budget_bytes / 10 * 9;
        let mut rounds = 0;
        while own(self) > limit && rounds < SHED_ROUNDS_MAX {
            let before = context.shed;
            context.scans = self.plan.scans.iter().map(|_| None).collect();
            self.root.shed(context, chunks);
            rounds += 1;
            if context.shed == before {
                break;
            }
        }
        self.full = own(self) > limit;
    }

    /// The rows that differ from the last one of their key. Times do not count.
    fn changed(&mut self, chunk: Chunk) -> Chunk {
        let shown = self.plan.output.len() - self.plan.hidden;
        let mut kept = Vec::new();
        for row in 0..chunk.rows() {
            let (mut key, mut rest) = (Encoder::new(), Encoder::new());
            for (index, column) in chunk.batch.columns()[..shown].iter().enumerate() {
                if self.plan.key.contains(&index) {
                    column.value(row).encode(&mut key);
                } else if column.data_type() != DataType::Timestamp {
                    column.value(row).encode(&mut rest);
                }
            }
            if self
                .last_rows
                .get(key.bytes())
                .is_some_and(|last| **last == *rest.bytes())
            {
                continue;
            }
            kept.push(row as u32);
            // Without memory for the key its rows come whether they changed or not.
            if !self.full || self.last_rows.contains_key(key.bytes()) {
                self.remember(key.into_bytes().into(), rest.into_bytes().into());
            }
        }
        chunk.take(&kept)
    }

    fn remember(&mut self, key: Box<[u8]>, row: Box<[u8]>) {
        /// What an entry takes beside its bytes.
        const ENTRY: usize = 64;
        let length = key.len();
        self.last_bytes += row.len();
        match self.last_rows.insert(key, row) {
            Some(before) => self.last_bytes -= before.len(),
            None => self.last_bytes += length + ENTRY,
        }
    }

    /// The advances that are due because sources are silent: those that close
    /// something. `now_ms` is the time of the gateway's clock; every record that
    /// is in the log has to be handed in before, or a backlog is taken for
    /// silence. Cheap enough to ask each second. See [`Advance`] for what to do
    /// with the answer.
    pub fn silent(&mut self, now_ms: i64) -> Vec<Advance> {
        let due = self.root.due();
        let mut advances = Vec::new();
        let mut closes = false;
        for (stream, tracker) in (0..).zip(&mut self.trackers) {
            let before = tracker.mark();
            let (silent, mark) = tracker.silent(now_ms);
            closes |= mark > before && mark >= due;
            advances.extend(silent.into_iter().map(|silence| Advance::Source {
                stream,
                topic: silence.topic,
                partition: silence.partition,
                time_ms: silence.time_ms,
            }));
        }
        if closes { advances } else { Vec::new() }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The longest silence of a source before the shell advances it, the
    /// shortest of all streams, in milliseconds.
    pub fn idle_after_ms(&self) -> i64 {
        self.plan
            .scans
            .iter()
            .map(|scan| scan.watermark.idle_ms)
            .min()
            .unwrap_or(crate::syntax::IDLE_AFTER_MS)
    }

    /// The watermark of the slowest stream in milliseconds; `i64::MIN` before
    /// anything is known.
    pub fn watermark_ms(&self) -> i64 {
        self.trackers
            .iter()
            .map(Tracker::mark)
            .min()
            .unwrap_or(i64::MIN)
    }

    /// The newest event time in milliseconds; `i64::MIN` before the first row.
    pub fn newest_ms(&self) -> i64 {
        self.trackers
            .iter()
            .map(Tracker::newest)
            .max()
            .unwrap_or(i64::MIN)
    }

    /// For each partition the lowest offset whose record still feeds an open
    /// window: what a snapshot of now stands for, and which records a rebuild
    /// from nothing would read. `None` if every record since the beginning may
    /// matter, so that only an encoded state can replace them: sessions, windows
    /// that follow arrival, windows per key, joins, functions that look back,
    /// standing alerts, and the rows that EMIT ON CHANGE compares with.
    ///
    /// A rebuild from these records alone has the rows of the open windows, but
    /// not the advances that closed others; an exact restart takes a snapshot.
    pub fn lowest_offsets(&mut self) -> Option<Vec<(String, i32, i64)>> {
        let more = !self.last_rows.is_empty() || self.alerts.iter().any(|rule| !rule.is_idle());
        match self.root.horizon() {
            _ if more => None,
            i64::MIN => None,
            horizon => Some(self.progress.lowest(horizon)),
        }
    }

    /// Bytes of memory that count against the budget.
    pub fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
            + self.router.memory_bytes()
            + self
                .alerts
                .iter()
                .map(AlertRule::memory_bytes)
                .sum::<usize>()
            + self.last_bytes
    }

    /// Counters since the query was made.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        for decoder in &self.decoders {
            counts.decode.add(&decoder.counts);
        }
        counts.untracked = self.alerts.iter().map(AlertRule::untracked).sum();
        counts
    }

    /// The number of alerts that are active.
    pub fn active_alerts(&self) -> usize {
        self.alerts.iter().map(AlertRule::active).sum()
    }

    /// Everything that the next output depends on.
    pub fn encode_state(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.put_u64(self.plan.identity);
        out.section(VERSION, |out| {
            self.trackers.iter().for_each(|tracker| tracker.encode(out));
            self.root.encode(out);
            self.alerts.iter().for_each(|rule| rule.encode(out));
            self.progress.encode(out);
            out.put_bool(self.full);
            out.put_bool(self.strained);
            out.put_count(self.last_rows.len());
            for (key, row) in &self.last_rows {
                out.put_bytes(key);
                out.put_bytes(row);
            }
        });
        out.into_bytes()
    }

    /// Takes what [`Query::encode_state`] wrote. The query must be new.
    ///
    /// # Errors
    /// [`StateError`], among them state of another query; the query is unusable
    /// then.
    pub fn decode_state(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut input = Decoder::new(bytes);
        let found = input.take_u64()?;
        if found != self.plan.identity {
            return Err(StateError::Identity {
                found,
                expected: self.plan.identity,
            });
        }
        input.section("query", VERSION, |input| {
            self.trackers
                .iter_mut()
                .try_for_each(|tracker| tracker.decode(input))?;
            self.root.decode(input)?;
            self.alerts
                .iter_mut()
                .try_for_each(|rule| rule.decode(input))?;
            self.progress.decode(input)?;
            self.full = input.take_bool()?;
            self.strained = input.take_bool()?;
            for _ in 0..input.take_count(8)? {
                let key = input.take_bytes()?;
                let row = input.take_bytes()?;
                self.remember(key.into(), row.into());
            }
            Ok(())
        })
    }
}
