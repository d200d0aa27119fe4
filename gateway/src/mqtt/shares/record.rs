//! What of a group is kept in the state, and under which keys.
//!
//! | key | value |
//! |---|---|
//! | `m/g/<filter>` | [`GroupRecord`] as JSON |
//! | `m/t/<filter>\0<topic id, partition, offset>` | empty: a QoS 2 message was taken by a member |
//!
//! The filter is the one that clients write, `$share/name/filter`; it cannot
//! contain U+0000. Topic id, partition and offset take 16, 4 and 8 bytes, big
//! endian.
//!
//! The record may lag behind what the members have, never lead; then messages
//! of QoS 1 are delivered again after a crash. Those of QoS 2 are not, because
//! a message is written down as taken before it is sent.

use forebay_mqtt::TopicFilter;
use forebay_storage::{Storage, Transaction};
use serde::{Deserialize, Serialize};

use crate::mqtt::feeds::FeedKey;
use crate::mqtt::sessions::record::PlaceRecord;

const GROUP_PREFIX: &[u8] = b"m/g/";
const TAKEN_PREFIX: &[u8] = b"m/t/";

/// Where a group reads on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The next offset per partition.
    pub cursors: Vec<PlaceRecord>,
    /// Messages below the cursors that no member has finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<PlaceRecord>,
    /// Messages that a member has taken for good, each from a key of its own.
    #[serde(skip)]
    pub taken: Vec<PlaceRecord>,
}

/// Key of the [`GroupRecord`].
pub fn group_key(filter: &TopicFilter) -> Vec<u8> {
    [GROUP_PREFIX, filter.text().as_bytes()].concat()
}

/// Key of a QoS 2 message that was taken.
pub fn taken_key(filter: &TopicFilter, key: &FeedKey, offset: u64) -> Vec<u8> {
    let partition = key.partition.to_be_bytes();
    let offset = offset.to_be_bytes();
    let filter = filter.text().as_bytes();
    [TAKEN_PREFIX, filter, b"\0", &key.topic, &partition, &offset].concat()
}

/// The filter behind the share name.
pub fn inner(filter: &TopicFilter) -> TopicFilter {
    let text = filter.as_str();
    let inner = text.splitn(3, '/').nth(2).unwrap_or(text);
    TopicFilter::try_from(inner).expect("what is behind a share name is a valid filter")
}

/// Reads the records of all groups. Blocks on the state.
pub fn load_all(storage: &Storage) -> Vec<(TopicFilter, GroupRecord)> {
    let mut found = Vec::new();
    for (key, value) in storage.scan_prefix(GROUP_PREFIX) {
        let filter = std::str::from_utf8(&key[GROUP_PREFIX.len()..]).ok();
        let Some(filter) = filter.and_then(|text| TopicFilter::try_from(text).ok()) else {
            continue;
        };
        let Ok(mut record) = serde_json::from_slice::<GroupRecord>(&value) else {
            tracing::warn!(filter = filter.as_str(), "record of a group does not parse");
            continue;
        };
        let prefix = [TAKEN_PREFIX, filter.text().as_bytes(), b"\0"].concat();
        let taken = storage.scan_prefix(&prefix);
        let places = taken.into_iter();
        record.taken = places
            .filter_map(|(key, _)| place(key.get(prefix.len()..)?))
            .collect();
        found.push((filter, record));
    }
    found
}

/// Adds the removal of a group.
pub fn delete(filter: &TopicFilter, record: &GroupRecord, transaction: &mut Transaction) {
    transaction.delete(&group_key(filter));
    for place in &record.taken {
        if let Some(key) = place.key() {
            transaction.delete(&taken_key(filter, &key, place.offset));
        }
    }
}

fn place(bytes: &[u8]) -> Option<PlaceRecord> {
    let (topic, rest) = bytes.split_first_chunk::<16>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let key = FeedKey {
        topic: *topic,
        partition: u32::from_be_bytes(*partition),
    };
    let offset = u64::from_be_bytes(rest.try_into().ok()?);
    Some(PlaceRecord::new(&key, offset))
}
