//! Will messages, which survive the process (sections 3.1.2.5 and 3.1.3.2.2).
//!
//! A will is in the state, under `m/w/<client>`, before the CONNACK of its
//! connection leaves, and is removed in the commit that publishes it. So the
//! will of a client that was connected when the process died is published after
//! the restart, once, unless its session is resumed within the will delay.
//!
//! The value is the deadline in milliseconds since the Unix epoch, 0 while the
//! client is connected (8 bytes), the delay in seconds (4 bytes), a number that
//! tells this will from an earlier one of the client (8 bytes), all big endian,
//! and the message as a record batch of one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_records::{BatchBuilder, Compression, records};
use forebay_storage::{AppendError, Storage, Transaction};
use parking_lot::Mutex;

use super::message::Message;
use super::node::{Node, Refusal, now_ms};
use super::sessions::record::Changes;
use crate::sparkplug;

const PREFIX: &[u8] = b"m/w/";

const HEAD_LEN: usize = 20;

/// How often due wills are looked for; the delay has the unit of seconds.
const TICK: Duration = Duration::from_secs(1);

/// How long a will is tried again when the disk is behind. A commit takes
/// milliseconds; after this the disk is stuck and the process about to end.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How a will is kept for its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    delay_seconds: u32,
    number: u64,
    batch: Bytes,
}

impl StoredWill {
    /// The will of a new connection. `None` when it does not fit a record.
    pub fn new(message: &Message, delay_seconds: u32) -> Option<Self> {
        let mut builder = BatchBuilder::new();
        message.with_record(None, |record| builder.push(record));
        Some(Self {
            delay_seconds,
            number: fastrand::u64(..),
            batch: builder.finish(Compression::None).ok()?,
        })
    }

    /// The value of its key; `deadline_ms` is 0 while the client is connected.
    pub fn value(&self, deadline_ms: i64) -> Vec<u8> {
        let head = [
            &deadline_ms.to_be_bytes()[..],
            &self.delay_seconds.to_be_bytes(),
            &self.number.to_be_bytes(),
        ];
        [head.concat(), self.batch.to_vec()].concat()
    }

    fn parse(value: &[u8]) -> Option<(i64, Self)> {
        let (deadline, rest) = value.split_first_chunk::<8>()?;
        let (delay, rest) = rest.split_first_chunk::<4>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        let will = Self {
            delay_seconds: u32::from_be_bytes(*delay),
            number: u64::from_be_bytes(*number),
            batch: Bytes::copy_from_slice(&value[HEAD_LEN..]),
        };
        Some((i64::from_be_bytes(*deadline), will))
    }

    fn message(&self) -> Option<Message> {
        let record = records(&self.batch, self.batch.len()).ok()?.next()?.ok()?;
        Message::from_record(&record)
    }
}

/// The wills that wait for their deadline. At most one per session.
pub struct Wills {
    storage: Storage,
    armed: Mutex<Armed>,
}

#[derive(Default)]
struct Armed {
    /// Deadline and number by client.
    wills: HashMap<Arc<str>, (i64, u64)>,
    deadlines: BTreeSet<(i64, Arc<str>)>,
}

impl Armed {
    fn insert(&mut self, client: &Arc<str>, deadline_ms: i64, number: u64) {
        self.remove(client);
        self.wills.insert(Arc::clone(client), (deadline_ms, number));
        self.deadlines.insert((deadline_ms, Arc::clone(client)));
    }

    fn remove(&mut self, client: &Arc<str>) -> Option<u64> {
        let (deadline_ms, number) = self.wills.remove(client)?;
        self.deadlines.remove(&(deadline_ms, Arc::clone(client)));
        Some(number)
    }
}

/// Key of a client's will.
pub fn key(client: &str) -> Vec<u8> {
    [PREFIX, client.as_bytes()].concat()
}

impl Wills {
    /// Reads the wills that were not published. Blocks on the state.
    ///
    /// The delay of a client that was connected when the node stopped begins
    /// at `now_ms`.
    pub fn load(storage: Storage, now_ms: i64) -> Self {
        let mut armed = Armed::default();
        for (key, value) in storage.scan_prefix(PREFIX) {
            let client = std::str::from_utf8(&key[PREFIX.len()..]);
            let (Ok(client), Some((deadline_ms, will))) = (client, StoredWill::parse(&value))
            else {
                continue;
            };
            let delay_ms = i64::from(will.delay_seconds) * 1000;
            let deadline_ms = match deadline_ms {
                0 => now_ms.saturating_add(delay_ms),
                known => known,
            };
            armed.insert(&client.into(), deadline_ms, will.number);
        }
        Self {
            storage,
            armed: Mutex::new(armed),
        }
    }

    /// Publishes the will of a client that has gone at `deadline_ms`, also if
    /// the process ends before.
    pub fn arm(&self, client: &Arc<str>, will: &StoredWill, deadline_ms: i64) -> Changes {
        self.armed.lock().insert(client, deadline_ms, will.number);
        let mut changes = Changes::default();
        changes.put_bytes(key(client), will.value(deadline_ms));
        changes
    }

    /// Takes a will off the clock: its session is resumed or has ended. Returns
    /// whether there was one; its key is still in the state.
    pub fn disarm(&self, client: &Arc<str>) -> bool {
        self.armed.lock().remove(client).is_some()
    }

    /// The message of a client's stored will. Blocks on the state.
    pub fn read(&self, client: &str) -> Option<Message> {
        StoredWill::parse(&self.storage.get(&key(client))?)?
            .1
            .message()
    }

    fn take_due(&self, now_ms: i64) -> Option<(Arc<str>, u64)> {
        let mut armed = self.armed.lock();
        let (at, client) = armed.deadlines.first()?;
        if *at > now_ms {
            return None;
        }
        let client = Arc::clone(client);
        let number = armed.remove(&client)?;
        Some((client, number))
    }

    /// The message of a due will, unless the client has left another one since.
    fn read_due(&self, client: &str, number: u64) -> Option<Message> {
        let (_, will) = StoredWill::parse(&self.storage.get(&key(client))?)?;
        will.message().filter(|_| will.number == number)
    }
}

/// Publishes wills when they are due, until the future is dropped.
pub async fn publish_due(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        while let Some((client, number)) = node.wills.take_due(now_ms()) {
            let reader = Arc::clone(&node);
            let of = Arc::clone(&client);
            let reading = tokio::task::spawn_blocking(move || reader.wills.read_due(&of, number));
            if let Ok(Some(message)) = reading.await {
                publish(&node, message, &client).await;
            }
        }
    }
}

/// Publishes a will and removes it from the state in the same commit. One that
/// the storage does not take now is tried again at the next start.
pub async fn publish(node: &Arc<Node>, mut message: Message, client: &str) {
    message.timestamp_ms = now_ms();
    if node.config.ndeath_timestamp {
        sparkplug::stamp_death(&mut message);
    }
    let key = key(client);
    let mut committed = node.committed.clone();
    let attempts = async {
        loop {
            match node.publish_last(&message, &key) {
                Ok(()) => return,
                Err(Refusal::Missing(missing)) => {
                    if !node.create(missing).await {
                        return;
                    }
                }
                Err(Refusal::Later) => {
                    let _ = committed.changed().await;
                }
                Err(Refusal::Reason(_) | Refusal::Closing) => return,
            }
        }
    };
    if tokio::time::timeout(RETRY_MAX, attempts).await.is_err() {
        tracing::warn!(
            path = message.path.as_str(),
            "will not published, the disk is behind"
        );
    }
}

/// Removes a will that is not to be published.
///
/// # Errors
/// When the storage refuses for so long that the will may come back at the
/// next start.
pub async fn discard(node: &Node, client: &str) -> Result<(), AppendError> {
    let mut changes = Changes::default();
    changes.delete(key(client));
    node.commit_soon(&changes, RETRY_MAX).await.map(|_| ())
}

/// Adds a connection's will, or the removal of the one before, to the
/// transaction that opens its session.
pub fn stage(client: &str, will: Option<&StoredWill>, transaction: &mut Transaction) {
    match will {
        Some(will) => transaction.put(&key(client), &will.value(0)),
        None => transaction.delete(&key(client)),
    };
}
