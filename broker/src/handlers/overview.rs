//! Consumer groups as people look at them: who is behind, and by how much.

use std::collections::BTreeMap;

use crate::Broker;
use crate::offsets::{CommittedOffset, PREFIX, parse_key};

/// A group with its committed offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOverview {
    /// The group id.
    pub group_id: String,
    /// Kafka's name of its state.
    pub state: String,
    /// Client ids of its members.
    pub members: Vec<String>,
    /// What was committed, by topic and partition.
    pub offsets: Vec<GroupOffset>,
}

/// A committed offset beside the end of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that the group reads next.
    pub committed: u64,
    /// Records from there to the high watermark. `None` when the topic is gone.
    pub lag: Option<u64>,
}

impl Broker {
    /// All groups by id. Reads the state; short.
    pub fn group_overviews(&self) -> Vec<GroupOverview> {
        let mut groups: BTreeMap<String, GroupOverview> = BTreeMap::new();
        let named = |group_id: &str, state: &str| GroupOverview {
            group_id: group_id.to_owned(),
            state: state.to_owned(),
            ..GroupOverview::default()
        };
        for (key, value) in self.storage.scan_prefix(PREFIX) {
            let (Some((group_id, topic, partition)), Some(committed)) =
                (parse_key(&key), CommittedOffset::decode(&value))
            else {
                continue;
            };
            let lag = self
                .partition(&topic, partition)
                .ok()
                .map(|(_, partition)| {
                    let end = partition.offsets().high_watermark;
                    end.saturating_sub(committed.offset.unsigned_abs())
                });
            let group = groups
                .entry(group_id.clone())
                .or_insert_with(|| named(&group_id, "Empty"));
            group.offsets.push(GroupOffset {
                topic,
                partition: partition.unsigned_abs(),
                committed: committed.offset.unsigned_abs(),
                lag,
            });
        }
        let desk = self.groups.lock();
        for outline in desk.coordinator.list() {
            let group = groups
                .entry(outline.group_id.clone())
                .or_insert_with(|| named(&outline.group_id, outline.state));
            outline.state.clone_into(&mut group.state);
            let described = desk.coordinator.describe(&outline.group_id);
            let members = described.map(|group| group.members).unwrap_or_default();
            group.members = members.into_iter().map(|member| member.client_id).collect();
        }
        drop(desk);
        for group in groups.values_mut() {
            group.offsets.sort_by(|a, b| {
                (a.topic.as_str(), a.partition).cmp(&(b.topic.as_str(), b.partition))
            });
        }
        groups.into_values().collect()
    }
}
