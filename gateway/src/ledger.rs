//! Topics that the node itself writes: audit records and corrections.
//!
//! A ledger is a log topic of one partition, made when the first record comes.
//! Consumers read it as any topic and the uplink forwards it; it is not part
//! of the MQTT namespace unless a route leads there.

use std::time::Duration;

use forebay_records::RecordRef;
use forebay_storage::{
    AppendError, CreateTopicError, Partition, Storage, Ticket, TopicConfig, Transaction,
};
use thiserror::Error;

/// Pause before a record that the storage pushed back is tried again. A commit
/// takes milliseconds.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Times that the topic is made anew because it was deleted under the append.
const RECREATIONS_MAX: usize = 3;

/// Why a record was not written.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The topic cannot be made.
    #[error("topic {topic} not created: {source}")]
    Topic {
        /// Its name.
        topic: &'static str,
        /// The storage's reason.
        source: CreateTopicError,
    },
    /// The storage refuses the record.
    #[error("record of topic {topic} not stored: {source}")]
    Append {
        /// The topic.
        topic: &'static str,
        /// The storage's reason.
        source: AppendError,
    },
    /// The node stops.
    #[error("the log is closing")]
    Closing,
}

/// A topic of the node's own.
#[derive(Clone)]
pub struct Ledger {
    storage: Storage,
    topic: &'static str,
}

/// A change of the state that belongs to a record: a key and its value, or
/// `None` to delete it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

impl Ledger {
    /// The ledger in the topic of that name.
    pub fn new(storage: Storage, topic: &'static str) -> Self {
        Self { storage, topic }
    }

    /// The log.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Appends a record together with changes of the state; both are durable
    /// with the ticket or neither is. Waits while the disk is behind.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing was written.
    pub async fn write(
        &self,
        key: &str,
        json: &[u8],
        timestamp: i64,
        changes: &[Change],
    ) -> Result<Ticket, LedgerError> {
        let record = RecordRef {
            timestamp,
            key: Some(key.as_bytes()),
            value: Some(json),
            headers: &[],
        };
        self.commit(Some(&record), changes).await
    }

    /// Changes the state only; durable with the ticket. Waits while the disk
    /// is behind.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing was written.
    pub async fn change(&self, changes: &[Change]) -> Result<Ticket, LedgerError> {
        self.commit(None, changes).await
    }

    async fn commit(
        &self,
        record: Option<&RecordRef<'_>>,
        changes: &[Change],
    ) -> Result<Ticket, LedgerError> {
        let mut recreations = 0;
        loop {
            let mut transaction = Transaction::new();
            if let Some(record) = record {
                transaction.append_record(&self.partition().await?, record);
            }
            for (key, value) in changes {
                match value {
                    Some(value) => transaction.put(key, value),
                    None => transaction.delete(key),
                }
            }
            match self.storage.commit(transaction) {
                Ok(committed) => return Ok(committed.ticket),
                Err(AppendError::Backpressure { .. }) => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(AppendError::Deleted) if recreations < RECREATIONS_MAX => recreations += 1,
                Err(AppendError::ShuttingDown) => return Err(LedgerError::Closing),
                Err(source) => {
                    let topic = self.topic;
                    return Err(LedgerError::Append { topic, source });
                }
            }
        }
    }

    async fn partition(&self) -> Result<Partition, LedgerError> {
        loop {
            let topic = self.storage.topic(self.topic);
            if let Some(partition) = topic.and_then(|topic| topic.partition(0)) {
                return Ok(partition);
            }
            let (storage, name) = (self.storage.clone(), self.topic);
            let creating = tokio::task::spawn_blocking(move || {
                storage.create_topic(name, TopicConfig::with_partitions(1))
            });
            match creating.await {
                Ok(Ok(_) | Err(CreateTopicError::Exists { .. })) => {}
                Ok(Err(source)) => {
                    let topic = self.topic;
                    return Err(LedgerError::Topic { topic, source });
                }
                Err(_) => return Err(LedgerError::Closing),
            }
        }
    }
}
