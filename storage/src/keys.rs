//! The storage's own keys of the state; all begin with a zero byte.

use crate::frame::{u32_at, u64_at};
use crate::gap::{Gap, GapReason};
use crate::topic::TopicConfig;
use std::collections::BTreeMap;

const TOPIC: &[u8] = b"\0t";
const LOG_START: &[u8] = b"\0s";
const GAP: &[u8] = b"\0g";
const MARK: &[u8] = b"\0m";
const TOMBSTONE: &[u8] = b"\0x";

/// The durable end of a partition at some time; acknowledged data that recovery
/// does not find below it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub end_offset: u64,
    /// Base offset of the segment that the end lies in.
    pub segment: u64,
    /// Position of the end in that segment.
    pub position: u64,
    pub max_timestamp: i64,
    pub next_index: u64,
}

fn partition_key(prefix: &[u8], topic: &[u8; 16], partition: u32) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

pub(crate) fn topic_key(name: &str) -> Vec<u8> {
    [TOPIC, name.as_bytes()].concat()
}

pub(crate) fn topic_prefix() -> &'static [u8] {
    TOPIC
}

pub(crate) fn topic_name_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(TOPIC)?).ok()
}

pub(crate) fn tombstone_key(topic: &[u8; 16]) -> Vec<u8> {
    [TOMBSTONE, topic].concat()
}

pub(crate) fn tombstone_prefix() -> &'static [u8] {
    TOMBSTONE
}

pub(crate) fn log_start_key(topic: &[u8; 16], partition: u32) -> Vec<u8> {
    partition_key(LOG_START, topic, partition)
}

pub(crate) fn mark_key(topic: &[u8; 16], partition: u32) -> Vec<u8> {
    partition_key(MARK, topic, partition)
}

pub(crate) fn gap_key(topic: &[u8; 16], partition: u32, from: u64) -> Vec<u8> {
    let mut key = partition_key(GAP, topic, partition);
    key.extend_from_slice(&from.to_be_bytes());
    key
}

pub(crate) fn gap_prefix(topic: &[u8; 16], partition: u32) -> Vec<u8> {
    partition_key(GAP, topic, partition)
}

/// Returns the prefixes of all keys that belong to a topic besides its name.
pub(crate) fn prefixes_of_topic(topic: &[u8; 16]) -> [Vec<u8>; 3] {
    [LOG_START, GAP, MARK].map(|prefix| [prefix, topic].concat())
}

pub(crate) fn encode_u64(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(crate) fn decode_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

pub(crate) fn encode_gap_value(gap: Gap) -> Vec<u8> {
    let mut value = gap.to.to_le_bytes().to_vec();
    value.push(gap.reason.code());
    value
}

pub(crate) fn decode_gap_entry(key: &[u8], value: &[u8]) -> Option<Gap> {
    let from = key.get(key.len().checked_sub(8)?..)?.try_into().ok()?;
    Some(Gap {
        from: u64::from_be_bytes(from),
        to: decode_u64(value.get(..8)?)?,
        reason: GapReason::from_code(*value.get(8)?)?,
    })
}

pub(crate) fn encode_mark(mark: Mark) -> Vec<u8> {
    let mut value = Vec::with_capacity(40);
    value.extend_from_slice(&mark.end_offset.to_le_bytes());
    value.extend_from_slice(&mark.segment.to_le_bytes());
    value.extend_from_slice(&mark.position.to_le_bytes());
    value.extend_from_slice(&mark.max_timestamp.to_le_bytes());
    value.extend_from_slice(&mark.next_index.to_le_bytes());
    value
}

pub(crate) fn decode_mark(bytes: &[u8]) -> Option<Mark> {
    (bytes.len() == 40).then(|| Mark {
        end_offset: u64_at(bytes, 0),
        segment: u64_at(bytes, 8),
        position: u64_at(bytes, 16),
        max_timestamp: u64_at(bytes, 24) as i64,
        next_index: u64_at(bytes, 32),
    })
}

pub(crate) fn encode_topic(id: &[u8; 16], config: &TopicConfig) -> Vec<u8> {
    let mut value = id.to_vec();
    value.extend_from_slice(&config.partitions.to_le_bytes());
    value.extend_from_slice(&(config.configs.len() as u32).to_le_bytes());
    for text in config.configs.iter().flat_map(|(key, value)| [key, value]) {
        value.extend_from_slice(&(text.len() as u32).to_le_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    value
}

pub(crate) fn decode_topic(bytes: &[u8]) -> Option<([u8; 16], TopicConfig)> {
    let id = bytes.get(..16)?.try_into().ok()?;
    if bytes.len() < 24 {
        return None;
    }
    let partitions = u32_at(bytes, 16);
    let count = u32_at(bytes, 20);
    let mut rest = &bytes[24..];
    let mut configs = BTreeMap::new();
    for _ in 0..count {
        let key = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        configs.insert(key, value);
    }
    Some((
        id,
        TopicConfig {
            partitions,
            configs,
        },
    ))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let text = tail.get(..length)?;
    *rest = &tail[length..];
    String::from_utf8(text.to_vec()).ok()
}
