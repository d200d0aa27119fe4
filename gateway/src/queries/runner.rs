//! One query over the log: what is handed in, what comes out, and the commit
//! of both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_analytics::plan::{ColumnSource, Plan};
use forebay_analytics::query::{Advance, Budget, Output, Query};
use forebay_analytics::syntax::SqlError;
use forebay_storage::{AppendError, ReadError, Storage, Ticket, Transaction};

use super::board::{Board, Lease, Meter};
use super::kept::{self, Event, Head, Keeper, KeptError, Prepared, Restored};
use super::results::{Change, QUERY_HEADER, REASON_HEADER, Results, SOURCE_HEADER, Writer};
use super::sources::{Portion, ReplayError, Sources};
use super::{alerts, handing};
use crate::config::{self, Beginning};
use crate::devices::Health;
use crate::ingest::Ingest;
use crate::ingest::batches::{Batches, Unplaced};
use crate::mqtt::retained::Retained;
use crate::readings::Publisher;

/// Bytes that are handed in without a commit at most, when nothing comes out: a
/// restart hands them in again.
const UNCOMMITTED_BYTES: usize = 4 << 20;
/// What was handed in is committed after this long at the latest, so that the
/// status after a restart is not far behind. It costs a commit of some hundred
/// bytes while there is traffic.
const COMMIT_EVERY_MS: i64 = 10_000;
/// Pause before a commit that the storage pushed back is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Times that a commit is prepared anew because a topic was missing or deleted.
const PREPARATIONS_MAX: usize = 64;

/// The alarm of a query that had to give something up.
const BUDGET_ALARM: &str = "memory";
/// The alarm of a query whose records were removed unread.
const LOST_ALARM: &str = "records-lost";
/// The alarm of a query whose state is gone.
const STATE_ALARM: &str = "state-lost";

/// Why a query does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Its text has a mistake; the configuration was checked, so this is another
    /// version's text.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first commit was refused.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Why a step came to nothing. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The log is closing.
    #[error("the log is closing")]
    Closing,
    /// The storage does not take it, with its reason.
    #[error("{0}")]
    Refused(String),
}

/// What a runner works on.
#[derive(Clone)]
pub struct Workplace {
    /// The log, the routes, the retained messages and the clock.
    pub publisher: Publisher,
    /// Where figures and alerts are seen.
    pub board: Board,
    /// How the query is.
    pub health: Health,
}

/// A running query.
pub struct Runner {
    storage: Storage,
    ingest: Arc<Ingest>,
    retained: Arc<Retained>,
    board: Board,
    health: Health,
    meter: Arc<Meter>,
    settings: Arc<config::Query>,
    query: Query,
    sources: Sources,
    keeper: Keeper,
    writer: Writer,
    /// What came out and is not committed yet; nothing is handed in before it is.
    results: Results,
    /// What was handed in since the last commit.
    events: Vec<Event>,
    events_bytes: usize,
    committed_ms: i64,
    /// The next commit is the first: what another query of this name left
    /// behind goes with it.
    is_beginning: bool,
    wants_headers: bool,
    hold: String,
    /// Returned when everything else is dropped.
    _lease: Lease,
}

impl Runner {
    /// Restores a query, or begins it. Blocks on the log, and on a runner of the
    /// same query that is not dropped yet.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn open(
        place: &Workplace,
        settings: Arc<config::Query>,
        now_ms: i64,
    ) -> Result<Self, BeginError> {
        let lease = place.board.lease(&settings.name);
        let storage = place.publisher.storage().clone();
        let query = Query::new(&settings.text, settings.memory)?;
        let identity = query.plan().identity;
        let meter = place.board.meter(&settings.name);
        meter.topic.lock().clone_from(&settings.topic);
        let mut runner = Self {
            sources: Sources::new(storage.clone(), query.plan()),
            keeper: Keeper::begin(&settings.name, identity, now_ms.unsigned_abs()),
            writer: Writer::new(&settings.name, &settings.topic),
            ingest: Arc::clone(place.publisher.ingest()),
            retained: Arc::clone(place.publisher.retained()),
            board: place.board.clone(),
            health: place.health.clone(),
            hold: format!("query {}", settings.name),
            results: Results::default(),
            events: Vec::new(),
            events_bytes: 0,
            committed_ms: now_ms,
            is_beginning: false,
            wants_headers: wants_headers(query.plan()),
            _lease: lease,
            storage,
            meter,
            query,
            settings,
        };
        runner.restore(identity)?;
        runner.note();
        Ok(runner)
    }

    /// Takes up what is kept, if it is of this very query.
    fn restore(&mut self, identity: u64) -> Result<(), BeginError> {
        let name = self.settings.name.clone();
        let head = match Keeper::head(&self.storage, &name) {
            Ok(Some(head)) if head.identity == identity => head,
            Ok(Some(_)) => {
                tracing::info!(query = name, "the text has changed: it begins anew");
                return Ok(self.begin(self.settings.from)?);
            }
            Ok(None) => return Ok(self.begin(self.settings.from)?),
            Err(error) => {
                self.tell_loss(&error);
                return Ok(self.begin(Beginning::Latest)?);
            }
        };
        self.sources
            .refresh(self.ingest.routes(), Beginning::Earliest);
        let restored = Keeper::restore(&self.storage, &name, &head);
        let restored = restored.map_err(|error| ReplayFailure::Lost(error.to_string()));
        let outcome = restored.and_then(|restored| self.replay(&head, &restored));
        self.sources.set_cursors(&head.cursors);
        match outcome {
            Ok(()) => {
                self.keeper = Keeper::resume(&name, head);
                self.sources
                    .hold(&self.hold, self.keeper.snapshot_cursors());
                Ok(())
            }
            Err(ReplayFailure::Read(error)) => Err(error.into()),
            Err(ReplayFailure::Lost(reason)) => {
                self.tell_loss(&reason);
                self.query = Query::new(&self.settings.text, self.settings.memory)?;
                Ok(self.commit_beginning()?)
            }
        }
    }

    /// Hands in what is behind the snapshot. What comes out is in the log.
    fn replay(&mut self, head: &Head, restored: &Restored) -> Result<(), ReplayFailure> {
        if let Some(state) = &restored.snapshot {
            let decoded = self.query.decode_state(state);
            decoded.map_err(|error| ReplayFailure::Lost(error.to_string()))?;
        }
        self.sources.set_cursors(&head.snapshot_cursors);
        for event in restored.steps.iter().flatten() {
            match event {
                Event::Records(spans) => {
                    let portion = self.sources.take_again(spans)?;
                    self.hand_in(&portion);
                }
                Event::Advance(bytes) => {
                    let advance = Advance::from_bytes(bytes);
                    let advance =
                        advance.map_err(|error| ReplayFailure::Lost(error.to_string()))?;
                    self.query.advance(&advance);
                }
            }
        }
        Ok(())
    }

    fn tell_loss(&self, reason: &dyn std::fmt::Display) {
        let text = format!(
            "the state is lost: {reason}; windows that were open begin anew and lack what came before"
        );
        self.health.alarm(STATE_ALARM, &text);
    }

    /// A query without a past. What another query of its name left behind is
    /// forgotten, its alerts end.
    fn begin(&mut self, from: Beginning) -> Result<(), StepError> {
        self.sources.refresh(self.ingest.routes(), from);
        self.commit_beginning()
    }

    fn commit_beginning(&mut self) -> Result<(), StepError> {
        self.is_beginning = true;
        // From here on "latest" is a place.
        self.commit(true)
    }

    /// Its figures.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Whether [`Runner::step`] has something to do.
    pub fn is_due(&self) -> bool {
        !self.results.is_empty() || self.sources.has_changed() || self.sources.is_behind()
    }

    /// Whether silence closes windows now.
    pub fn is_silence_due(&mut self, now_ms: i64) -> bool {
        self.has_old_events(now_ms) || !self.query.silent(now_ms).is_empty()
    }

    fn has_old_events(&self, now_ms: i64) -> bool {
        !self.events.is_empty() && now_ms.saturating_sub(self.committed_ms) >= COMMIT_EVERY_MS
    }

    /// Hands in what comes next, and commits what comes out. Blocks on the log.
    ///
    /// # Errors
    /// [`StepError`]; what came out waits for the next call.
    pub fn step(&mut self, now_ms: i64) -> Result<(), StepError> {
        if !self.results.is_empty() {
            return self.commit(false);
        }
        if self.sources.has_changed() {
            self.sources
                .refresh(self.ingest.routes(), Beginning::Earliest);
        }
        let portion = match self.sources.take() {
            Ok(portion) => portion,
            Err(ReadError::Deleted) => return Ok(()),
            Err(error) => return Err(StepError::Refused(error.to_string())),
        };
        if portion.lost > 0 {
            let text = format!(
                "{} records were removed before the query read them; results are without them",
                portion.lost
            );
            self.health.alarm(LOST_ALARM, &text);
        }
        if portion.records.is_empty() && !self.sources.is_behind() {
            for advance in self.query.silent(now_ms) {
                let output = self.query.advance(&advance);
                self.take_output(&output, &Portion::default());
                self.events.push(Event::Advance(advance.to_bytes()));
            }
        } else if !portion.records.is_empty() {
            let output = self.hand_in(&portion);
            self.take_output(&output, &portion);
            self.events_bytes += portion.bytes;
            self.events.push(Event::Records(portion.spans));
        }
        self.note();
        let is_large = self.events_bytes >= UNCOMMITTED_BYTES;
        if !self.results.is_empty() || is_large || self.has_old_events(now_ms) {
            self.commit(false)?;
            self.committed_ms = now_ms;
        }
        Ok(())
    }

    /// Commits what was handed in, so that the next start has little to do.
    pub fn close(&mut self) {
        if !self.events.is_empty()
            && let Err(error) = self.commit(true)
        {
            // It is handed in again then.
            tracing::debug!(query = self.settings.name, %error, "not committed at the end");
        }
    }

    fn hand_in(&mut self, portion: &Portion) -> Output {
        handing::hand_in(&mut self.query, portion, &self.sources, self.wants_headers)
    }

    fn take_output(&mut self, output: &Output, portion: &Portion) {
        match output.budget {
            Some(Budget::Reached) => self.health.alarm(
                BUDGET_ALARM,
                "the memory budget is used up: windows end early or keys are refused; raise query.memory or group by less",
            ),
            Some(Budget::Relieved) => self.health.clear_alarm(BUDGET_ALARM),
            None => {}
        }
        let plan = self.query.plan();
        self.writer
            .write(plan, output, portion, &self.sources, &mut self.results);
    }

    fn note(&self) {
        let meter = &self.meter;
        meter.set_counts(self.query.counts());
        meter.lag.store(self.sources.lag(), Ordering::Relaxed);
        let newest = self.query.newest_ms();
        meter
            .watermark_ms
            .store(self.query.watermark_ms(), Ordering::Relaxed);
        meter.newest_ms.store(newest, Ordering::Relaxed);
        let bytes = self.query.memory_bytes() as u64;
        meter.state_bytes.store(bytes, Ordering::Relaxed);
    }

    /// One transaction of results, cursors, and a step or a snapshot.
    fn commit(&mut self, whole: bool) -> Result<(), StepError> {
        // The estimate saves encoding a large state in vain.
        let wants = |len| self.keeper.wants_snapshot(self.events_bytes, len);
        let state = if whole || wants(self.query.memory_bytes() / 2) {
            let state = self.query.encode_state();
            (whole || wants(state.len())).then_some(state)
        } else {
            None
        };
        for _ in 0..PREPARATIONS_MAX {
            match self.try_commit(state.as_deref())? {
                Attempt::Done => return Ok(()),
                Attempt::Again => {}
                Attempt::Later => std::thread::sleep(RETRY_PAUSE),
            }
        }
        Err(StepError::Refused("the disk is behind".to_owned()))
    }

    fn try_commit(&mut self, state: Option<&[u8]>) -> Result<Attempt, StepError> {
        let mut transaction = Transaction::new();
        if let Err(unplaced) = self.stage_rows(&mut transaction) {
            return self.make_room(unplaced);
        }
        let name = &self.settings.name;
        if self.is_beginning {
            kept::forget(&self.storage, name, &mut transaction);
        }
        // Before the board is locked: a large snapshot is a file to sync.
        let prepared = prepare(
            &self.storage,
            &self.keeper,
            &self.query,
            state,
            (&self.events, self.events_bytes),
            &self.sources,
            &mut transaction,
        )?;
        let mut board = self.board.stage();
        let ended = match self.is_beginning {
            true => alerts::ended(&board, name),
            false => Vec::new(),
        };
        let changes: Vec<&Change> = ended.iter().chain(&self.results.alerts).collect();
        let staging = alerts::stage(
            &self.ingest,
            &self.retained,
            &mut board,
            (name, &changes),
            &mut transaction,
        );
        let staged = match staging {
            Ok(staged) => staged,
            Err(missing) => {
                drop(board);
                return self.make_room(Unplaced::Missing(missing));
            }
        };
        match self.storage.commit(transaction) {
            Ok(committed) => {
                board.apply();
                for (path, one) in staged {
                    self.retained.apply(&path, one);
                }
                self.finish(prepared, committed.ticket);
                Ok(Attempt::Done)
            }
            Err(AppendError::ShuttingDown) => Err(StepError::Closing),
            Err(AppendError::Backpressure { .. }) => Ok(Attempt::Later),
            Err(AppendError::Deleted) => {
                let rows = self.results.rows.iter().map(|row| &row.path);
                let late = self.results.late.iter().map(|late| &late.copy.path);
                rows.chain(late).for_each(|path| self.ingest.forget(path));
                let alerts = self.results.alerts.iter();
                alerts.for_each(|alert| self.ingest.forget(alert.message.path.as_str()));
                Ok(Attempt::Again)
            }
            Err(error) => Err(StepError::Refused(error.to_string())),
        }
    }

    fn stage_rows(&self, transaction: &mut Transaction) -> Result<(), Unplaced> {
        let mut batches = Batches::default();
        let name = self.settings.name.as_bytes();
        for row in &self.results.rows {
            let headers = [(QUERY_HEADER, Some(name))];
            batches.add(&self.ingest, row, &headers, transaction)?;
        }
        for late in &self.results.late {
            let headers = [
                (QUERY_HEADER, Some(name)),
                (REASON_HEADER, Some(late.reason.as_bytes())),
                (SOURCE_HEADER, Some(late.source.as_bytes())),
            ];
            batches.add(&self.ingest, &late.copy, &headers, transaction)?;
        }
        batches.finish(transaction)
    }

    fn make_room(&self, unplaced: Unplaced) -> Result<Attempt, StepError> {
        match unplaced {
            Unplaced::Missing(missing) => {
                let created = self.ingest.create(&missing);
                created.map_err(|error| StepError::Refused(error.to_string()))?;
                Ok(Attempt::Again)
            }
            Unplaced::Malformed(error) => Err(StepError::Refused(error.to_string())),
        }
    }

    fn finish(&mut self, prepared: Prepared, ticket: Ticket) {
        let rows = self.results.rows.len() as u64;
        if rows > 0 {
            let newest = self.results.rows.iter().map(|row| row.timestamp_ms).max();
            self.health.add_readings(rows, newest.unwrap_or(i64::MIN));
        }
        self.is_beginning = false;
        self.results = Results::default();
        self.events.clear();
        self.events_bytes = 0;
        self.keeper.committed(prepared, ticket);
        self.keeper.tidy(&self.storage);
        self.sources
            .hold(&self.hold, self.keeper.snapshot_cursors());
    }
}

impl Drop for Runner {
    /// Retention waits for no query that is gone, however it ended.
    fn drop(&mut self) {
        self.sources.release(&self.hold);
    }
}

/// What an attempt to commit came to.
enum Attempt {
    Done,
    /// Something that was in the way is gone.
    Again,
    /// The disk is behind.
    Later,
}

/// Why the past of a query cannot be handed in again.
enum ReplayFailure {
    Read(ReadError),
    Lost(String),
}

impl From<ReplayError> for ReplayFailure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Read(error) => Self::Read(error),
            lost @ ReplayError::Lost { .. } => Self::Lost(lost.to_string()),
        }
    }
}

impl From<KeptError> for StepError {
    fn from(error: KeptError) -> Self {
        Self::Refused(error.to_string())
    }
}

fn prepare(
    storage: &Storage,
    keeper: &Keeper,
    query: &Query,
    state: Option<&[u8]>,
    (events, bytes): (&[Event], usize),
    sources: &Sources,
    transaction: &mut Transaction,
) -> Result<Prepared, StepError> {
    let cursors = sources.cursors();
    Ok(match state {
        Some(state) => {
            keeper.snapshot(storage, query.plan().identity, state, cursors, transaction)?
        }
        None => keeper.step(events, bytes, cursors, transaction),
    })
}

/// Whether any column of the query is a header.
fn wants_headers(plan: &Plan) -> bool {
    let mut columns = plan.scans.iter().flat_map(|scan| &scan.columns);
    columns.any(|column| matches!(column.source, ColumnSource::Header(_)))
}
