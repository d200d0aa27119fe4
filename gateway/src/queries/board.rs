//! What people see of queries: their figures and the alerts that are active.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use bytes::Bytes;
use forebay_analytics::query::Counts;
use forebay_storage::{AppendError, Storage, Transaction};
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::results::topic_name;
use super::{ACKNOWLEDGED_PREFIX, results};
use crate::mqtt::message::Message;
use crate::readings::{PublishError, Publisher};

/// Keys of the active alerts in the node's state.
const PREFIX: &[u8] = b"alert/";

/// Alerts that are remembered. A rule that raises more has a mistake; the log
/// and subscribers get all of them.
pub const ALERTS_MAX: usize = 10_000;

/// Bytes of a person's name in an acknowledgement.
const NAME_LEN_MAX: usize = 256;

/// An alert that is active.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Active {
    /// The query that raised it.
    pub query: String,
    /// Where it was published.
    pub path: String,
    /// The alert as it was published.
    pub alert: Box<RawValue>,
    /// Who has seen it, and when in milliseconds since the Unix epoch.
    pub acknowledged: Option<Acknowledged>,
}

/// That a person has seen an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub time: i64,
}

/// Why an alert was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AcknowledgeError {
    /// There is none.
    #[error("no alert {id:?} is active")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The name of the person.
    #[error("by is {length} bytes long, expected 1 to {NAME_LEN_MAX}")]
    Name {
        /// Its length.
        length: usize,
    },
    /// It cannot be written down.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It cannot be written down.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Figures of one query since its start.
#[derive(Debug, Default)]
pub struct Meter {
    /// The log topic of its results.
    pub topic: Mutex<String>,
    counts: Mutex<Counts>,
    /// Records that were not handed in yet.
    pub lag: AtomicU64,
    /// The watermark, in milliseconds since the Unix epoch.
    pub watermark_ms: AtomicI64,
    /// The newest event time.
    pub newest_ms: AtomicI64,
    /// Bytes of its state.
    pub state_bytes: AtomicU64,
    /// Processor time that it took, in microseconds.
    pub cpu_us: AtomicU64,
}

impl Meter {
    /// Sets the engine's counters.
    pub fn set_counts(&self, counts: Counts) {
        *self.counts.lock() = counts;
    }

    /// The engine's counters.
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }
}

/// The queries of a node and their alerts. Clones are one.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Storage,
    meters: Mutex<BTreeMap<String, Arc<Meter>>>,
    alerts: Mutex<BTreeMap<String, Active>>,
    leased: Mutex<BTreeSet<String>>,
    returned: Condvar,
}

/// The right to commit for the query of a name. A query that was cut off while
/// it stopped may have a commit under way; whoever comes next waits for it.
pub struct Lease {
    shared: Arc<Shared>,
    query: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.leased.lock().remove(&self.query);
        self.shared.returned.notify_all();
    }
}

/// The alerts, locked for a change that is being committed.
pub struct Staging<'b> {
    alerts: MutexGuard<'b, BTreeMap<String, Active>>,
    changes: Vec<(String, Option<Active>)>,
}

impl Board {
    /// Reads the active alerts from the state of a publisher's log. Blocks on it.
    pub fn open(publisher: &Publisher) -> Self {
        let storage = publisher.storage().clone();
        let mut alerts = BTreeMap::new();
        for (key, value) in storage.scan_prefix(PREFIX) {
            let id = String::from_utf8(key[PREFIX.len()..].to_vec());
            match (id, serde_json::from_slice(&value)) {
                (Ok(id), Ok(active)) => {
                    alerts.insert(id, active);
                }
                _ => tracing::warn!("an active alert in the state does not read and is left out"),
            }
        }
        Self {
            shared: Arc::new(Shared {
                storage,
                meters: Mutex::default(),
                alerts: Mutex::new(alerts),
                leased: Mutex::default(),
                returned: Condvar::new(),
            }),
        }
    }

    /// Waits until nobody else has the lease of a query, and takes it. Blocks.
    pub fn lease(&self, query: &str) -> Lease {
        let mut leased = self.shared.leased.lock();
        while !leased.insert(query.to_owned()) {
            self.shared.returned.wait(&mut leased);
        }
        Lease {
            shared: Arc::clone(&self.shared),
            query: query.to_owned(),
        }
    }

    /// Whether somebody has the lease of a query.
    pub fn is_leased(&self, query: &str) -> bool {
        self.shared.leased.lock().contains(query)
    }

    /// The meter of a query that starts.
    pub fn meter(&self, query: &str) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        let mut meters = self.shared.meters.lock();
        meters.insert(query.to_owned(), Arc::clone(&meter));
        meter
    }

    /// The meter of a query that runs.
    pub fn find_meter(&self, query: &str) -> Option<Arc<Meter>> {
        self.shared.meters.lock().get(query).cloned()
    }

    /// Active alerts by id.
    pub fn alerts(&self) -> Vec<(String, Active)> {
        let alerts = self.shared.alerts.lock();
        let alerts = alerts.iter().map(|(id, alert)| (id.clone(), alert.clone()));
        alerts.collect()
    }

    /// How many alerts of a query are active.
    pub fn active(&self, query: &str) -> usize {
        let alerts = self.shared.alerts.lock();
        alerts.values().filter(|alert| alert.query == query).count()
    }

    /// Begins a change; nobody else changes alerts until it is dropped.
    pub fn stage(&self) -> Staging<'_> {
        Staging {
            alerts: self.shared.alerts.lock(),
            changes: Vec::new(),
        }
    }

    /// Writes down that a person has seen an alert: in the alerts' topic, on the
    /// alert's path, and in the state. Durable on return.
    ///
    /// # Errors
    /// There is no such alert, or the storage refuses.
    pub async fn acknowledge(
        &self,
        publisher: &Publisher,
        id: &str,
        by: &str,
    ) -> Result<Acknowledged, AcknowledgeError> {
        if by.is_empty() || by.len() > NAME_LEN_MAX {
            return Err(AcknowledgeError::Name { length: by.len() });
        }
        let acknowledged = Acknowledged {
            by: by.to_owned(),
            time: publisher.clock().now_ms(),
        };
        // The record first: what stands on the board is in the log.
        let Some(query) = self.query_of(id) else {
            return Err(AcknowledgeError::Unknown { id: id.to_owned() });
        };
        let ticket = publisher
            .publish_message(&said(&query, id, &acknowledged))
            .await?;
        publisher.durable(ticket).await;
        let (board, own) = (self.clone(), acknowledged.clone());
        let id = id.to_owned();
        let kept = tokio::task::spawn_blocking(move || board.keep(&id, own)).await;
        match kept {
            Ok(Ok(Some(ticket))) => publisher.durable(ticket).await,
            // It ended meanwhile.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(PublishError::Closing.into()),
        }
        Ok(acknowledged)
    }

    fn query_of(&self, id: &str) -> Option<String> {
        let alerts = self.shared.alerts.lock();
        alerts.get(id).map(|alert| alert.query.clone())
    }

    fn keep(
        &self,
        id: &str,
        acknowledged: Acknowledged,
    ) -> Result<Option<forebay_storage::Ticket>, AppendError> {
        let mut staging = self.stage();
        let Some(mut active) = staging.alerts.get(id).cloned() else {
            return Ok(None);
        };
        active.acknowledged = Some(acknowledged);
        let mut transaction = Transaction::new();
        staging.put(id, active, &mut transaction);
        let committed = self.shared.storage.commit(transaction)?;
        staging.apply();
        Ok(Some(committed.ticket))
    }
}

impl Staging<'_> {
    /// Adds an alert that begins or ends.
    pub fn change(&mut self, query: &str, change: &results::Change, transaction: &mut Transaction) {
        if !change.is_raised {
            if self.alerts.contains_key(&change.id) {
                self.remove(&change.id, transaction);
            }
            return;
        }
        let text = String::from_utf8_lossy(&change.message.payload).into_owned();
        let Ok(alert) = RawValue::from_string(text) else {
            return;
        };
        if self.alerts.len() + self.changes.len() >= ALERTS_MAX {
            tracing::warn!(
                query,
                "{ALERTS_MAX} alerts are active; another one is in the log only"
            );
            return;
        }
        let active = Active {
            query: query.to_owned(),
            path: change.message.path.as_str().to_owned(),
            alert,
            acknowledged: None,
        };
        self.put(&change.id, active, transaction);
    }

    /// The active alerts of a query.
    pub fn of(&self, query: &str) -> Vec<(String, Active)> {
        let own = self.alerts.iter().filter(|(_, alert)| alert.query == query);
        own.map(|(id, alert)| (id.clone(), alert.clone())).collect()
    }

    /// Adds the end of an alert.
    pub fn remove(&mut self, id: &str, transaction: &mut Transaction) {
        transaction.delete(&key(id));
        self.changes.push((id.to_owned(), None));
    }

    fn put(&mut self, id: &str, active: Active, transaction: &mut Transaction) {
        let json = serde_json::to_vec(&active).expect("texts and numbers have a JSON form");
        transaction.put(&key(id), &json);
        self.changes.push((id.to_owned(), Some(active)));
    }

    /// Takes note of a change whose transaction was committed.
    pub fn apply(mut self) {
        for (id, change) in std::mem::take(&mut self.changes) {
            match change {
                Some(active) => self.alerts.insert(id, active),
                None => self.alerts.remove(&id),
            };
        }
    }
}

fn key(id: &str) -> Vec<u8> {
    [PREFIX, id.as_bytes()].concat()
}

/// The record of an acknowledgement.
fn said(query: &str, id: &str, acknowledged: &Acknowledged) -> Message {
    let json = serde_json::json!({
        "id": id, "query": query, "state": "acknowledged",
        "by": acknowledged.by, "time": acknowledged.time,
    });
    let path = format!("{ACKNOWLEDGED_PREFIX}{query}");
    Message {
        path: topic_name(&path).unwrap_or_default(),
        payload: Bytes::from(json.to_string()),
        qos: 1,
        retain: false,
        timestamp_ms: acknowledged.time,
        properties: None,
    }
}
