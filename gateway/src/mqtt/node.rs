//! What all connections of a node share, and the append of one message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_mqtt::{ReasonCode, TopicName};
use forebay_storage::{AppendError, Storage, Ticket, Transaction};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::MqttConfig;
use super::commits::Commits;
use super::dispatch::Dispatch;
use super::limits::Bucket;
use super::message::Message;
use super::retained::{RetainError, Retained};
use super::sessions::Sessions;
use super::sessions::record::Changes;
use super::shares::Shares;
use super::stats::{Stats, count};
use super::sys::{self, Sys};
use super::wills::Wills;
use crate::access::Access;
use crate::clock::Clock;
use crate::commands::desk::Desk;
use crate::ingest::{Ingest, MissingTopic, Target};
use crate::queries;
use crate::sparkplug;

/// Paths that only the node publishes to.
const RESERVED_PREFIXES: [&str; 4] = [
    sys::PREFIX,
    sparkplug::RESERVED_PREFIX,
    queries::RESULTS_PREFIX,
    queries::ALERTS_PREFIX,
];

/// Retry of a commit that the storage pushed back.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Shared by all connections.
pub struct Node {
    /// The log.
    pub storage: Storage,
    /// Takes the publishes that are commands.
    pub commands: Option<Desk>,
    /// Who may come in, and what for.
    pub access: Access,
    /// Marks messages while it is not right.
    pub clock: Clock,
    /// Paths to partitions.
    pub ingest: Arc<Ingest>,
    /// Messages to connected sessions.
    pub dispatch: Arc<Dispatch>,
    /// Sessions by client.
    pub sessions: Arc<Sessions>,
    /// Shared subscriptions.
    pub shares: Arc<Shares>,
    /// Wills that wait.
    pub wills: Wills,
    /// Retained messages.
    pub retained: Arc<Retained>,
    /// The present values of `$SYS`.
    pub sys: Sys,
    /// CONNECT packets per second.
    pub connect_rate: Option<Mutex<Bucket>>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Limits.
    pub config: MqttConfig,
    /// What the protocol machine offers.
    pub protocol: Arc<forebay_mqtt::Config>,
    /// Wakes who waits for a certain commit.
    pub commits: Arc<Commits>,
    /// The last durable commit, for who waits for any.
    pub committed: watch::Receiver<Ticket>,
}

/// Why a message was not appended.
#[derive(Debug)]
pub enum Refusal {
    /// Its topic has to be created first.
    Missing(MissingTopic),
    /// The disk is behind; try again after the next commit.
    Later,
    /// It is refused for good, with this reason for the client.
    Reason(ReasonCode),
    /// The storage is closing.
    Closing,
}

impl Node {
    /// Appends a message and what belongs to it: the retained copy and, when
    /// `received` is given, that state key, the QoS 2 packet id. All of it is
    /// durable with the ticket or none of it is.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was appended.
    pub fn append(&self, message: &Message, received: Option<&[u8]>) -> Result<Ticket, Refusal> {
        self.append_with(message, received.map(StateChange::Put))
    }

    /// Publishes a will, and removes its key in the same commit.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was published.
    pub fn publish_last(&self, message: &Message, key: &[u8]) -> Result<(), Refusal> {
        if !self.ingest.routes().is_memory(message.path.as_str()) {
            return self
                .append_with(message, Some(StateChange::Delete(key)))
                .map(|_| ());
        }
        let mut transaction = Transaction::new();
        transaction.delete(key);
        let committed = self.storage.commit(transaction);
        committed.map_err(|error| self.refuse(&error))?;
        self.publish_live(message).map(|_| ())
    }

    fn append_with(
        &self,
        message: &Message,
        change: Option<StateChange<'_>>,
    ) -> Result<Ticket, Refusal> {
        let path = message.path.as_str();
        let is_reserved = |prefix| path.starts_with(prefix);
        if RESERVED_PREFIXES.into_iter().any(is_reserved) {
            count(&self.stats.refused_reserved);
            return Err(Refusal::Reason(ReasonCode::NotAuthorized));
        }
        for _ in 0..2 {
            let target = self.ingest.target(path).map_err(Refusal::Missing)?;
            match self.append_to(&target, message, change) {
                Ok(ticket) => {
                    count(&self.stats.publishes_in[usize::from(message.qos.min(2))]);
                    return Ok(ticket);
                }
                // The topic was deleted: the route makes it anew.
                Err(Attempt::Append(AppendError::Deleted)) => self.ingest.forget(path),
                Err(Attempt::Append(error)) => return Err(self.refuse(&error)),
                Err(Attempt::Retain(error)) => return Err(self.not_retained(&error)),
            }
        }
        Err(Refusal::Reason(ReasonCode::UnspecifiedError))
    }

    /// The message that greets a subscription. Blocks on the state.
    pub fn retained_message(&self, path: &TopicName) -> Option<Message> {
        if path.as_str().starts_with(sys::PREFIX) {
            return self.sys.read(path);
        }
        self.retained.read(path)
    }

    /// Counts a CONNECT. False when too many came.
    pub fn may_connect(&self, now: Instant) -> bool {
        let Some(bucket) = &self.connect_rate else {
            return true;
        };
        let mut bucket = bucket.lock();
        let may = bucket.wait_until(now).is_none();
        if may {
            bucket.take(now, 1);
        }
        may
    }

    /// Publishes on a memory topic: to the sessions that are connected, and to
    /// no log. A retained message is kept in the state all the same
    /// \[MQTT-3.3.1-5\]; then the ticket is what its acknowledgement waits for.
    ///
    /// # Errors
    /// Only for a retained message, see [`Refusal`]; nothing was published.
    pub fn publish_live(&self, message: &Message) -> Result<Option<Ticket>, Refusal> {
        let mut ticket = None;
        if message.retain {
            let mut transaction = Transaction::new();
            let staged = self.retained.stage(message, &mut transaction);
            let staged = staged.map_err(|error| self.not_retained(&error))?;
            let committed = self.storage.commit(transaction);
            ticket = Some(committed.map_err(|error| self.refuse(&error))?.ticket);
            self.retained.apply(&message.path, staged);
        }
        count(&self.stats.publishes_in[usize::from(message.qos.min(2))]);
        let missed = self.dispatch.publish_live(message);
        if missed > 0 {
            let counter = &self.stats.deliveries_missed;
            counter.fetch_add(missed, Ordering::Relaxed);
        }
        Ok(ticket)
    }

    fn not_retained(&self, error: &RetainError) -> Refusal {
        count(&self.stats.refused_quota);
        tracing::warn!(%error, "retained publish refused");
        Refusal::Reason(ReasonCode::QuotaExceeded)
    }

    /// Creates a topic that a route names, off the async threads. False when it
    /// cannot be had.
    pub async fn create(self: &Arc<Self>, missing: MissingTopic) -> bool {
        let node = Arc::clone(self);
        let created = tokio::task::spawn_blocking(move || node.ingest.create(&missing)).await;
        match created {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                count(&self.stats.refused_topic);
                tracing::warn!(%error, "publish refused");
                false
            }
            Err(_) => false,
        }
    }

    /// Commits changes of the state, trying again while the disk is behind.
    ///
    /// # Errors
    /// When the storage refuses for another reason, or for `patience`.
    pub async fn commit_soon(
        &self,
        changes: &Changes,
        patience: Duration,
    ) -> Result<Ticket, AppendError> {
        let until = Instant::now() + patience;
        loop {
            match self.storage.commit(changes.transaction()) {
                Err(AppendError::Backpressure { .. }) if Instant::now() < until => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                result => return result.map(|committed| committed.ticket),
            }
        }
    }

    fn append_to(
        &self,
        target: &Target,
        message: &Message,
        change: Option<StateChange<'_>>,
    ) -> Result<Ticket, Attempt> {
        let mark = self.clock.stamp(message.timestamp_ms).header;
        message.with_marked_record(target.key.as_deref(), mark.as_deref(), |record| {
            if change.is_none() && !message.retain {
                return Ok(target.partition.append_record(record)?.ticket);
            }
            let mut transaction = Transaction::new();
            transaction.append_record(&target.partition, record);
            match change {
                Some(StateChange::Put(key)) => {
                    transaction.put(key, b"");
                }
                Some(StateChange::Delete(key)) => {
                    transaction.delete(key);
                }
                None => {}
            }
            let staged = match message.retain {
                true => Some(self.retained.stage(message, &mut transaction)?),
                false => None,
            };
            let committed = self.storage.commit(transaction)?;
            if let Some(staged) = staged {
                self.retained.apply(&message.path, staged);
            }
            Ok(committed.ticket)
        })
    }

    fn refuse(&self, error: &AppendError) -> Refusal {
        match error {
            AppendError::Backpressure { .. } => {
                count(&self.stats.backpressure);
                Refusal::Later
            }
            AppendError::Full { .. } => {
                count(&self.stats.refused_full);
                Refusal::Reason(ReasonCode::QuotaExceeded)
            }
            AppendError::TooLarge { .. } => {
                count(&self.stats.refused_too_large);
                Refusal::Reason(ReasonCode::ImplementationSpecificError)
            }
            AppendError::ShuttingDown => Refusal::Closing,
            _ => Refusal::Reason(ReasonCode::UnspecifiedError),
        }
    }
}

/// A change of the state that belongs to a message.
#[derive(Clone, Copy)]
enum StateChange<'a> {
    /// The key is set, to nothing.
    Put(&'a [u8]),
    /// The key is removed.
    Delete(&'a [u8]),
}

enum Attempt {
    Append(AppendError),
    Retain(RetainError),
}

impl From<AppendError> for Attempt {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

impl From<RetainError> for Attempt {
    fn from(error: RetainError) -> Self {
        Self::Retain(error)
    }
}

/// The wall clock in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
