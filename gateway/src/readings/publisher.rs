//! The way of readings into the log.

use std::sync::Arc;
use std::time::Duration;

use forebay_records::RecordRef;
use forebay_storage::{AppendError, Storage, Ticket, Transaction};
use metrics::counter;
use thiserror::Error;
use tokio::sync::watch;

use super::{Reading, Tag};
use crate::clock::{self, Clock, Stamp};
use crate::ingest::routes::Routes;
use crate::ingest::{CreateRoutedTopicError, Ingest, MissingTopic, Target};
use crate::mqtt::message::Message;
use crate::mqtt::retained::{RetainError, Retained};

/// Longest pause before an append that the storage pushed back is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Times that a topic is made anew because it was deleted under the append.
const RECREATIONS_MAX: usize = 3;

/// Why a reading or a message was not stored.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The disk is full, and the configuration says to keep the oldest.
    #[error("{path} not stored: the disk is full")]
    Full {
        /// Path of the refused reading.
        path: String,
    },
    /// The record is larger than a batch may be.
    #[error("{path} not stored: {source}")]
    Append {
        /// Path of the refused reading.
        path: String,
        /// The storage's reason.
        source: AppendError,
    },
    /// The topic of its route cannot be made.
    #[error("{path} not stored: {source}")]
    Topic {
        /// Path of the refused reading.
        path: String,
        /// Why not.
        source: CreateRoutedTopicError,
    },
    /// A retained message is beyond the limits of the node.
    #[error("{path} not retained: {source}")]
    Retain {
        /// Path of the refused message.
        path: String,
        /// The limit.
        source: RetainError,
    },
    /// The node stops.
    #[error("the log is closing")]
    Closing,
}

/// The log is closing; nothing can be published any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing;

impl PublishError {
    /// The path that it is about; none when the node stops.
    fn path(&self) -> &str {
        match self {
            Self::Full { path }
            | Self::Append { path, .. }
            | Self::Topic { path, .. }
            | Self::Retain { path, .. } => path,
            Self::Closing => "",
        }
    }

    /// The word in the metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Append { .. } => "append",
            Self::Topic { .. } => "topic",
            Self::Retain { .. } => "retain",
            Self::Closing => "closing",
        }
    }
}

struct Shared {
    storage: Storage,
    clock: Clock,
    ingest: Arc<Ingest>,
    retained: Arc<Retained>,
}

/// Appends readings and messages to the log by the routes. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    committed: watch::Receiver<Ticket>,
}

/// What an attempt ran into.
enum Obstacle {
    Missing(MissingTopic),
    Append(AppendError),
    Retain(RetainError),
}

impl Publisher {
    /// The publisher of a node whose clock is right. Reads the retained
    /// messages from the state: blocks on it.
    pub fn open(storage: Storage, routes: Arc<Routes>) -> Self {
        Self::with_clock(storage, routes, Clock::trusted())
    }

    /// The publisher of a node with this clock. Blocks as [`Publisher::open`].
    pub fn with_clock(storage: Storage, routes: Arc<Routes>, clock: Clock) -> Self {
        let (commits, committed) = watch::channel(storage.committed());
        storage.on_commit(Arc::new(move |ticket| {
            commits.send_replace(ticket);
        }));
        let shared = Shared {
            ingest: Arc::new(Ingest::new(storage.clone(), routes)),
            retained: Arc::new(Retained::load(storage.clone())),
            storage,
            clock,
        };
        Self {
            shared: Arc::new(shared),
            committed,
        }
    }

    /// The node's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The last durable commit, as it moves.
    pub(crate) fn commits(&self) -> watch::Receiver<Ticket> {
        self.committed.clone()
    }

    pub(crate) fn ingest(&self) -> &Arc<Ingest> {
        &self.shared.ingest
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.shared.storage
    }

    pub(crate) fn retained(&self) -> &Arc<Retained> {
        &self.shared.retained
    }

    /// Appends readings in their order. They are visible to subscribers and
    /// consumers, and durable, with the ticket. Waits while the disk is behind,
    /// and makes the topics that routes name.
    ///
    /// # Errors
    /// The first refusal; the readings in front of it are appended, those
    /// behind it were not tried. What is refused is counted as
    /// `forebay_readings_refused_total`, and a full disk refuses all the rest.
    pub async fn publish(&self, readings: &[Reading]) -> Result<Ticket, PublishError> {
        let mut json = Vec::with_capacity(128);
        let mut newest = self.shared.storage.committed();
        for (index, reading) in readings.iter().enumerate() {
            let path = reading.tag.path();
            let attempt = || self.append_reading(reading, &mut json);
            match self.overcome(path, attempt).await {
                Ok(ticket) => newest = newest.max(ticket),
                Err(error) => {
                    let count = match error {
                        PublishError::Full { .. } => readings.len() - index,
                        _ => 1,
                    };
                    counter!("forebay_readings_refused_total", "reason" => error.reason())
                        .increment(count as u64);
                    return Err(error);
                }
            }
        }
        Ok(newest)
    }

    /// Appends the readings of a device that goes on whatever becomes of them:
    /// what is refused is counted, logged and passed over.
    ///
    /// # Errors
    /// The log is closing.
    pub async fn publish_each(&self, device: &str, readings: &[Reading]) -> Result<(), Closing> {
        let mut rest = readings;
        while !rest.is_empty() {
            let refused = match self.publish(rest).await {
                Ok(_) => break,
                Err(PublishError::Closing) => return Err(Closing),
                // A full disk is counted and alarmed where it is met; what is
                // read while it is full has no place to go.
                Err(PublishError::Full { .. }) => return Ok(()),
                Err(error) => {
                    tracing::warn!(device, "{error}");
                    error.path().to_owned()
                }
            };
            let at = rest
                .iter()
                .position(|reading| reading.tag.path() == refused);
            rest = at.map_or(&[][..], |at| &rest[at + 1..]);
        }
        Ok(())
    }

    /// Appends one message, with its retained copy when it is to be retained.
    /// It is visible and durable with the ticket.
    ///
    /// # Errors
    /// The refusal; nothing was appended.
    pub async fn publish_message(&self, message: &Message) -> Result<Ticket, PublishError> {
        let path = message.path.as_str();
        self.overcome(path, || self.append_message(message)).await
    }

    /// Completes when everything up to `ticket` is durable, or when the log is
    /// closed.
    pub async fn durable(&self, ticket: Ticket) {
        let mut committed = self.committed.clone();
        // An error means that the log is gone, and nobody waits for it.
        let _ = committed.wait_for(|newest| *newest >= ticket).await;
    }

    /// Tries until it works or cannot work.
    async fn overcome(
        &self,
        path: &str,
        mut attempt: impl FnMut() -> Result<Ticket, Obstacle>,
    ) -> Result<Ticket, PublishError> {
        let mut recreations = 0;
        loop {
            match attempt() {
                Ok(ticket) => return Ok(ticket),
                Err(Obstacle::Missing(missing)) => self.create(path, missing).await?,
                Err(Obstacle::Append(AppendError::Backpressure { .. })) => {
                    let mut committed = self.committed.clone();
                    // Whichever comes first is the time to try again.
                    let _ = tokio::time::timeout(RETRY_INTERVAL, committed.changed()).await;
                }
                Err(Obstacle::Append(AppendError::Deleted)) if recreations < RECREATIONS_MAX => {
                    self.shared.ingest.forget(path);
                    recreations += 1;
                }
                Err(Obstacle::Append(AppendError::ShuttingDown)) => {
                    return Err(PublishError::Closing);
                }
                Err(Obstacle::Append(AppendError::Full { .. })) => {
                    let path = path.to_owned();
                    return Err(PublishError::Full { path });
                }
                Err(Obstacle::Append(source)) => {
                    let path = path.to_owned();
                    return Err(PublishError::Append { path, source });
                }
                Err(Obstacle::Retain(source)) => {
                    let path = path.to_owned();
                    return Err(PublishError::Retain { path, source });
                }
            }
        }
    }

    async fn create(&self, path: &str, missing: MissingTopic) -> Result<(), PublishError> {
        let shared = Arc::clone(&self.shared);
        let created = tokio::task::spawn_blocking(move || shared.ingest.create(&missing)).await;
        match created {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                let path = path.to_owned();
                Err(PublishError::Topic { path, source })
            }
            Err(_) => Err(PublishError::Closing),
        }
    }

    /// `json` is a buffer; each attempt writes the value anew, because the
    /// clock may have been set while the disk was behind.
    fn append_reading(&self, reading: &Reading, json: &mut Vec<u8>) -> Result<Ticket, Obstacle> {
        let tag = &*reading.tag;
        let stamp = match tag.has_device_time() {
            true => Stamp::plain(reading.timestamp_ms),
            false => self.shared.clock.stamp(reading.timestamp_ms),
        };
        json.clear();
        reading.write_json_at(stamp.timestamp_ms, json);
        let mut cached = tag.target.lock();
        let target = match &*cached {
            Some(target) if target.is_current() => target,
            _ => {
                let resolved = self.shared.ingest.resolve(tag.path());
                cached.insert(resolved.map_err(Obstacle::Missing)?)
            }
        };
        match append(target, tag, &stamp, json) {
            Ok(ticket) => Ok(ticket),
            Err(error) => {
                *cached = None;
                Err(Obstacle::Append(error))
            }
        }
    }

    fn append_message(&self, message: &Message) -> Result<Ticket, Obstacle> {
        let path = message.path.as_str();
        let target = self.shared.ingest.target(path).map_err(Obstacle::Missing)?;
        let mark = self.shared.clock.stamp(message.timestamp_ms).header;
        message.with_marked_record(target.key.as_deref(), mark.as_deref(), |record| {
            if !message.retain {
                let appended = target.partition.append_record(record);
                return appended.map(|one| one.ticket).map_err(Obstacle::Append);
            }
            let mut transaction = Transaction::new();
            transaction.append_record(&target.partition, record);
            let staged = self.shared.retained.stage(message, &mut transaction);
            let staged = staged.map_err(Obstacle::Retain)?;
            let committed = self.shared.storage.commit(transaction);
            let committed = committed.map_err(Obstacle::Append)?;
            self.shared.retained.apply(&message.path, staged);
            Ok(committed.ticket)
        })
    }
}

fn append(target: &Target, tag: &Tag, stamp: &Stamp, json: &[u8]) -> Result<Ticket, AppendError> {
    let path = tag.path().as_bytes();
    let routed = (Message::TOPIC_HEADER, Some(path));
    let clock = stamp.header.as_ref();
    let marked = clock.map_or(routed, |mark| (clock::HEADER, Some(mark.as_bytes())));
    let both = [routed, marked];
    let (key, headers) = match (&target.key, clock) {
        (None, None) => (path, &[][..]),
        (None, Some(_)) => (path, &both[1..]),
        (Some(key), None) => (key.as_bytes(), &both[..1]),
        (Some(key), Some(_)) => (key.as_bytes(), &both[..]),
    };
    let record = RecordRef {
        timestamp: stamp.timestamp_ms,
        key: Some(key),
        value: Some(json),
        headers,
    };
    Ok(target.partition.append_record(&record)?.ticket)
}
