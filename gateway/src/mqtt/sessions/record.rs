//! What of a session is kept in the state, and under which keys.
//!
//! | key | value |
//! |---|---|
//! | `m/s/<client>` | [`SessionRecord`]: subscriptions and expiry, as JSON |
//! | `m/c/<client>` | [`CursorRecord`]: where it reads on, as JSON |
//! | `m/q/<client>\0<packet id>` | empty: a QoS 2 publish was received and not released |
//! | `m/o/<client>\0<packet id>` | [`OutgoingRecord`]: a QoS 2 delivery, as JSON |
//! | `m/w/<client>` | the will, see [`wills`](crate::mqtt::wills) |
//! | `m/r/<path>` | the retained message as a record batch of one |
//!
//! A client identifier cannot contain U+0000, so the keys of one client are
//! not a prefix of another's. Packet ids are two bytes, big endian.

use forebay_storage::{Storage, Transaction};
use serde::{Deserialize, Serialize};

use crate::mqtt::feeds::FeedKey;

/// The part of a session that changes when it subscribes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Seconds the session outlives its connection; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// The user that it belongs to, where users log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// The filter as the client wrote it.
    pub filter: String,
    /// Highest quality of service.
    pub qos: u8,
    /// Subscription identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<u32>,
    /// Whether the retain flag is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retain_as_published: bool,
    /// Whether the session's own messages are left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_local: bool,
    /// Offsets from which it counts, for partitions in which the session had a
    /// backlog when it subscribed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<PlaceRecord>,
}

/// The part of a session that changes while messages flow. It may lag behind
/// what the client has, never lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Milliseconds since the Unix epoch at which the connection ended; `None`
    /// while connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at_ms: Option<i64>,
    /// The next offset per partition.
    pub cursors: Vec<PlaceRecord>,
    /// QoS 1 messages below the cursors that the client has not acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unacknowledged: Vec<UnacknowledgedRecord>,
    /// Retained messages that the client has not got or not acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<RetainedRecord>,
}

/// A retained message that a subscription asked for and that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedRecord {
    /// Its path.
    pub path: String,
    /// When it was published, which tells it from its successor.
    pub timestamp_ms: i64,
    /// The quality of service it was sent with or may be sent with.
    pub qos: u8,
    /// The packet id that it was sent with, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_id: Option<u16>,
    /// Whether the client has answered PUBREC.
    #[serde(default, skip_serializing_if = "is_false")]
    pub received: bool,
}

/// An offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Topic id in hexadecimal.
    pub topic: String,
    /// Partition index.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
}

/// A message that was sent and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnacknowledgedRecord {
    /// The packet id it was sent with.
    pub packet_id: u16,
    /// Where it is in the log.
    pub place: PlaceRecord,
}

/// A QoS 2 delivery that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingRecord {
    /// Where the message is in the log.
    pub place: PlaceRecord,
    /// Whether the client has answered PUBREC, so that PUBREL is to be sent.
    pub received: bool,
    /// Whether it came from a shared subscription, so that the session's own
    /// cursor does not have to pass it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

impl PlaceRecord {
    /// The record of an offset.
    pub fn new(key: &FeedKey, offset: u64) -> Self {
        Self {
            topic: format!("{:032x}", u128::from_be_bytes(key.topic)),
            partition: key.partition,
            offset,
        }
    }

    /// The partition it names; `None` when the topic id is not one.
    pub fn key(&self) -> Option<FeedKey> {
        let topic = u128::from_str_radix(&self.topic, 16).ok()?;
        Some(FeedKey {
            topic: topic.to_be_bytes(),
            partition: self.partition,
        })
    }
}

/// Changes of the state that can be tried more than once.
#[derive(Clone, Debug, Default)]
pub struct Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Changes {
    /// Sets a key.
    pub fn put<T: Serialize>(&mut self, key: Vec<u8>, record: &T) {
        self.0.push((key, Some(encode(record))));
    }

    /// Sets a key to bytes.
    pub fn put_bytes(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }

    /// The transaction that makes the changes.
    pub fn transaction(&self) -> Transaction {
        let mut transaction = Transaction::new();
        for (key, value) in &self.0 {
            match value {
                Some(value) => transaction.put(key, value),
                None => transaction.delete(key),
            };
        }
        transaction
    }
}

/// Everything the state holds of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSession {
    /// Subscriptions and expiry.
    pub session: SessionRecord,
    /// Where it reads on.
    pub cursors: CursorRecord,
    /// Packet ids of QoS 2 publishes received and not released.
    pub received: Vec<u16>,
    /// QoS 2 deliveries that are not complete.
    pub outgoing: Vec<(u16, OutgoingRecord)>,
}

/// Prefix of all session records.
pub const SESSION_PREFIX: &[u8] = b"m/s/";

/// Key of the [`SessionRecord`].
pub fn session_key(client: &str) -> Vec<u8> {
    [SESSION_PREFIX, client.as_bytes()].concat()
}

/// Key of the [`CursorRecord`].
pub fn cursor_key(client: &str) -> Vec<u8> {
    [b"m/c/", client.as_bytes()].concat()
}

/// Key of a QoS 2 publish that was received and not released.
pub fn received_key(client: &str, packet_id: u16) -> Vec<u8> {
    packet_key(b"m/q/", client, packet_id)
}

/// Key of an [`OutgoingRecord`].
pub fn outgoing_key(client: &str, packet_id: u16) -> Vec<u8> {
    packet_key(b"m/o/", client, packet_id)
}

fn packet_key(prefix: &[u8], client: &str, packet_id: u16) -> Vec<u8> {
    [prefix, client.as_bytes(), b"\0", &packet_id.to_be_bytes()].concat()
}

/// The value of a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no failing serializer")
}

/// Reads a stored session; `None` when there is none or it does not parse.
/// Blocks on the state view.
pub fn load(storage: &Storage, client: &str) -> Option<StoredSession> {
    let session = parse(&storage.get(&session_key(client))?)?;
    let cursors = storage.get(&cursor_key(client));
    let outgoing = scan(storage, b"m/o/", client);
    Some(StoredSession {
        session,
        cursors: cursors.and_then(|v| parse(&v)).unwrap_or_default(),
        received: scan(storage, b"m/q/", client).map(|(id, _)| id).collect(),
        outgoing: outgoing
            .filter_map(|(id, v)| Some((id, parse(&v)?)))
            .collect(),
    })
}

/// Adds the removal of everything that the state holds of a session. Blocks on
/// the state view.
pub fn delete(storage: &Storage, client: &str, transaction: &mut Transaction) {
    transaction.delete(&session_key(client));
    transaction.delete(&cursor_key(client));
    for (id, _) in scan(storage, b"m/q/", client) {
        transaction.delete(&received_key(client, id));
    }
    for (id, _) in scan(storage, b"m/o/", client) {
        transaction.delete(&outgoing_key(client, id));
    }
}

fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn scan(
    storage: &Storage,
    prefix: &[u8],
    client: &str,
) -> impl Iterator<Item = (u16, Vec<u8>)> + use<> {
    let prefix = [prefix, client.as_bytes(), b"\0"].concat();
    let entries = storage.scan_prefix(&prefix);
    entries.into_iter().filter_map(move |(key, value)| {
        let id: [u8; 2] = key.get(prefix.len()..)?.try_into().ok()?;
        Some((u16::from_be_bytes(id), value))
    })
}

fn is_false(value: &bool) -> bool {
    !*value
}
