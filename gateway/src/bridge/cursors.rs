//! What a bridge keeps in the state: its cursors and its subscriptions.
//!
//! `b/b/<bridge>` exists once the bridge has begun; its value lists the
//! subscriptions that the broker has confirmed, a line each. `b/c/<bridge>/`
//! with the topic's id (16 bytes) and the partition (4) has the offset of the
//! next message to carry, 8 bytes. All numbers are big endian.

use forebay_storage::{AppendError, Storage, Transaction};

use crate::mqtt::feeds::FeedKey;

/// The state of one bridge.
#[derive(Clone)]
pub struct Cursors {
    storage: Storage,
    begun: Vec<u8>,
    prefix: Vec<u8>,
}

impl Cursors {
    /// The state of the bridge of that name.
    pub fn new(storage: Storage, bridge: &str) -> Self {
        Self {
            storage,
            begun: [b"b/b/", bridge.as_bytes()].concat(),
            prefix: [b"b/c/", bridge.as_bytes(), b"/"].concat(),
        }
    }

    /// Whether the bridge ran before.
    pub fn has_begun(&self) -> bool {
        self.storage.get(&self.begun).is_some()
    }

    /// The subscriptions that the broker confirmed, sorted.
    pub fn subscriptions(&self) -> Vec<String> {
        let value = self.storage.get(&self.begun).unwrap_or_default();
        let text = String::from_utf8(value).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The cursor of a partition.
    pub fn cursor(&self, feed: &FeedKey) -> Option<u64> {
        let value = self.storage.get(&self.key(feed))?;
        Some(u64::from_be_bytes(value.try_into().ok()?))
    }

    /// Writes down that the bridge begins, with its first cursors. It is
    /// durable with the next commit; a crash before begins anew.
    ///
    /// # Errors
    /// When the storage refuses; nothing was written.
    pub fn begin(&self, cursors: &[(FeedKey, u64)]) -> Result<(), AppendError> {
        let mut transaction = Transaction::new();
        transaction.put(&self.begun, b"");
        for (feed, offset) in cursors {
            transaction.put(&self.key(feed), &offset.to_be_bytes());
        }
        self.storage.commit(transaction).map(|_| ())
    }

    /// Writes cursors. A crash before the commit carries messages twice.
    ///
    /// # Errors
    /// When the storage refuses; nothing was written.
    pub fn write(&self, cursors: &[(FeedKey, u64)]) -> Result<(), AppendError> {
        let mut transaction = Transaction::new();
        for (feed, offset) in cursors {
            transaction.put(&self.key(feed), &offset.to_be_bytes());
        }
        self.storage.commit(transaction).map(|_| ())
    }

    /// Writes the subscriptions that the broker confirmed.
    ///
    /// # Errors
    /// When the storage refuses; they are then made again next time.
    pub fn subscribed(&self, subscriptions: &[String]) -> Result<(), AppendError> {
        let mut transaction = Transaction::new();
        transaction.put(&self.begun, subscriptions.join("\n").as_bytes());
        self.storage.commit(transaction).map(|_| ())
    }

    fn key(&self, feed: &FeedKey) -> Vec<u8> {
        let partition = feed.partition.to_be_bytes();
        [self.prefix.as_slice(), &feed.topic, &partition].concat()
    }
}
