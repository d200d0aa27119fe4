//! What the web console shows beyond the status of the node: paths with their
//! newest values, and series of numbers.
//!
//! The log is followed only while somebody looks. The first look reads the end
//! of each partition, then the past in small steps for paths that have been
//! silent, so that a page is there at once and is complete soon after.

mod paths;
mod payload;
mod series;
mod watcher;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use forebay_storage::{ReadError, Storage};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::chunks::each_reading;
use paths::Paths;
pub use paths::{Latest, PATHS_MAX};
pub use series::{POINTS_MAX, Series, Wanted};
use watcher::{Left, Watcher};

/// How often pages get news.
const TICK: Duration = Duration::from_millis(500);
/// Between two steps through the past, so that a small processor has time for
/// what it is there for.
const PAST_PAUSE: Duration = Duration::from_millis(50);
/// How long the log is followed after the last look.
const LOOK: Duration = Duration::from_secs(60);
/// Series that are read at the same time; they share threads with the log.
const SERIES_AT_ONCE: usize = 2;
/// Alerts of one answer: the newest.
const ALERTS_MAX: usize = 1_000;
/// Bytes at the end of a partition that are looked through for alerts: two
/// thousand of them.
const ALERTS_LEN_MAX: u64 = 1 << 20;

/// Why there is no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// Nobody has published there, as far as is known.
    #[error("no record of the path {path} was seen")]
    UnknownPath {
        /// The path.
        path: String,
    },
    /// The disk refuses.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The node stops.
    #[error("the node stops")]
    Closing,
}

/// An event of an alert, as it is in the log.
#[derive(Debug, Serialize)]
pub struct AlertEvent {
    /// The path that it was published on.
    pub path: String,
    /// The alert.
    pub alert: Box<RawValue>,
}

/// The paths and series of a node. A clone is another handle.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Storage,
    paths: Arc<Mutex<Paths>>,
    /// Taken while the log is followed.
    watcher: Mutex<Option<Watcher>>,
    looks: Mutex<Looks>,
    /// Turns true when the newest records have been read once.
    has_read: watch::Sender<bool>,
    revision: watch::Sender<u64>,
    series: Semaphore,
}

struct Looks {
    newest: Instant,
    is_followed: bool,
}

impl Console {
    /// A console over an open log. Nothing is read until somebody looks.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        let looks = Looks {
            newest: Instant::now(),
            is_followed: false,
        };
        let paths = Arc::default();
        let watcher = Watcher::new(storage.clone(), Arc::clone(&paths));
        Self {
            shared: Arc::new(Shared {
                storage,
                paths,
                watcher: Mutex::new(Some(watcher)),
                looks: Mutex::new(looks),
                has_read: watch::Sender::new(false),
                revision: watch::Sender::new(0),
                series: Semaphore::new(SERIES_AT_ONCE),
            }),
        }
    }

    /// Says that somebody looks. Within a runtime only.
    pub fn look(&self) {
        let mut looks = self.shared.looks.lock();
        looks.newest = Instant::now();
        if !std::mem::replace(&mut looks.is_followed, true) {
            tokio::spawn(Arc::clone(&self.shared).follow());
        }
    }

    /// Waits until the newest records have been read.
    pub async fn ready(&self) {
        self.look();
        let mut has_read = self.shared.has_read.subscribe();
        // The sender is here.
        let _ = has_read.wait_for(|has_read| *has_read).await;
    }

    /// Calls `show` with all paths in order, and says the revision to follow
    /// from and for how many records there was no room.
    pub fn each(&self, mut show: impl FnMut(&Latest)) -> (u64, u64) {
        let paths = self.shared.paths.lock();
        paths.iter().for_each(&mut show);
        (paths.revision(), paths.left_out())
    }

    /// Calls `show` with up to `limit` paths that `admits` and that changed
    /// after a revision. Returns the revision to go on from.
    pub fn since(
        &self,
        revision: u64,
        limit: usize,
        admits: impl Fn(&str) -> bool,
        show: impl FnMut(&Latest),
    ) -> u64 {
        let paths = self.shared.paths.lock();
        let (found, reached) = paths.since(revision, limit, admits);
        found.into_iter().for_each(show);
        reached
    }

    /// Turns to the newest revision when something has changed.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// A portion of a series.
    ///
    /// # Errors
    /// [`SeriesError`].
    pub async fn series(
        &self,
        path: String,
        field: String,
        wanted: Wanted<'static>,
    ) -> Result<Series, SeriesError> {
        self.ready().await;
        let place = self.shared.paths.lock().place(&path);
        let partition = place.and_then(|place| {
            let topic = self.shared.storage.topic(&place.topic)?;
            topic.partition(place.partition)
        });
        let Some(partition) = partition else {
            return Err(SeriesError::UnknownPath { path });
        };
        let permit = self.shared.series.acquire().await;
        let reading = spawn_blocking(move || {
            let wanted = Wanted {
                path: &path,
                field: &field,
                ..wanted
            };
            series::read(&partition, &wanted)
        });
        let read = reading.await.map_err(|_| SeriesError::Closing)?;
        drop(permit);
        Ok(read?)
    }

    /// The newest events of alerts from `from_ms` on, oldest first, that were
    /// published on paths that `admits`.
    ///
    /// # Errors
    /// [`SeriesError`].
    pub async fn alert_events(
        &self,
        topic: &'static str,
        from_ms: i64,
        admits: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Vec<AlertEvent>, SeriesError> {
        let Some(topic) = self.shared.storage.topic(topic) else {
            return Ok(Vec::new());
        };
        let permit = self.shared.series.acquire().await;
        let reading = spawn_blocking(move || {
            let partitions =
                (0..topic.partition_count()).filter_map(|index| topic.partition(index));
            let mut events = Vec::new();
            for partition in partitions {
                read_alerts(&partition, from_ms, &admits, &mut events)?;
            }
            Ok::<_, ReadError>(events)
        });
        let events = reading.await.map_err(|_| SeriesError::Closing)?;
        drop(permit);
        let mut events = events?;
        events.sort_by_key(|(time_ms, _)| *time_ms);
        let surplus = events.len().saturating_sub(ALERTS_MAX);
        Ok(events.drain(surplus..).map(|(_, event)| event).collect())
    }
}

impl Shared {
    /// Follows the log until nobody looks any more.
    async fn follow(self: Arc<Self>) {
        let Some(mut watcher) = self.watcher.lock().take() else {
            return;
        };
        loop {
            let step = move || (watcher.step(), watcher);
            let Ok((left, back)) = spawn_blocking(step).await else {
                // The runtime ends, or there is a mistake in here; the next look
                // begins anew, and nobody waits for this one.
                let anew = Watcher::new(self.storage.clone(), Arc::clone(&self.paths));
                *self.watcher.lock() = Some(anew);
                self.looks.lock().is_followed = false;
                self.has_read.send_replace(true);
                return;
            };
            watcher = back;
            // The first step has read the end of each partition.
            self.has_read.send_replace(true);
            let revision = self.paths.lock().revision();
            self.revision.send_if_modified(|newest| {
                let is_newer = revision > *newest;
                *newest = revision;
                is_newer
            });
            {
                let mut looks = self.looks.lock();
                if looks.newest.elapsed() > LOOK {
                    *self.watcher.lock() = Some(watcher);
                    looks.is_followed = false;
                    self.has_read.send_replace(false);
                    return;
                }
            }
            match left {
                Left::Newer => tokio::task::yield_now().await,
                Left::Older => tokio::time::sleep(PAST_PAUSE).await,
                Left::Nothing => tokio::time::sleep(TICK).await,
            }
        }
    }
}

fn read_alerts(
    partition: &forebay_storage::Partition,
    from_ms: i64,
    admits: impl Fn(&str) -> bool,
    events: &mut Vec<(i64, AlertEvent)>,
) -> Result<(), ReadError> {
    let Some((first, _)) = partition.offset_for_time(from_ms)? else {
        return Ok(());
    };
    let end = partition.offsets().high_watermark;
    let mut offset = first.max(watcher::before(partition, end, ALERTS_LEN_MAX));
    loop {
        let chunk = match partition.read(offset, 1 << 20, true) {
            Ok(chunk) => chunk,
            Err(ReadError::OffsetOutOfRange { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        each_reading(&chunk, offset, |record| {
            let path = crate::queries::path_of(&record).filter(|path| admits(path));
            let alert = record
                .value
                .as_ref()
                .and_then(|value| serde_json::from_slice::<Box<RawValue>>(value).ok());
            if let (Some(path), Some(alert)) = (path, alert) {
                let path = path.to_owned();
                events.push((record.timestamp, AlertEvent { path, alert }));
            }
        });
        if chunk.next_offset <= offset || chunk.next_offset >= chunk.high_watermark {
            return Ok(());
        }
        offset = chunk.next_offset;
    }
}
