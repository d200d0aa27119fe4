//! The edge nodes in the state, and how they come back.

use forebay_sparkplug::{EdgeNode, EdgeSnapshot, Held, Incoming, RESTART_GRACE_MS, Topic, Wanted};
use forebay_storage::Transaction;
use serde::{Deserialize, Serialize};

use super::{Edge, Host, Opening, certificate_path};
use crate::mqtt::feeds::read_page;
use crate::mqtt::message::Message;
use crate::sparkplug::topic_name;

/// Edge nodes and their devices by group and name. The devices are apart
/// because they change with births only, the rest with every message.
const EDGE: &[u8] = b"sparkplug/edge/";
const DEVICES: &[u8] = b"sparkplug/devices/";

/// The state of an edge node as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    partition: u32,
    snapshot: EdgeSnapshot,
}

impl Host {
    /// Adds what changed of an edge node to a transaction.
    pub(super) fn keep(&self, name: &(String, String), transaction: &mut Transaction) {
        let Some(edge) = self.edges.get(name) else {
            return;
        };
        let Some(snapshot) = edge.machine.snapshot() else {
            transaction.delete(&key(EDGE, name));
            transaction.delete(&key(DEVICES, name));
            return;
        };
        if snapshot.devices != edge.devices
            && let Ok(devices) = serde_json::to_vec(&snapshot.devices)
        {
            transaction.put(&key(DEVICES, name), &devices);
        }
        let kept = Kept {
            partition: edge.partition,
            snapshot,
        };
        if let Ok(kept) = serde_json::to_vec(&kept) {
            transaction.put(&key(EDGE, name), &kept);
        }
    }

    /// Restores the edge nodes that were there.
    pub(super) fn restore(&mut self, opening: Opening, now_ms: i64) {
        let silent_until_ms = match opening {
            Opening::AfterRestart => Some(now_ms.saturating_add(RESTART_GRACE_MS)),
            Opening::WhileRunning => None,
        };
        for (kept_key, value) in self.storage.scan_prefix(EDGE) {
            let name = std::str::from_utf8(&kept_key[EDGE.len()..]).ok();
            let name = name.and_then(|name| name.split_once('/'));
            let kept = serde_json::from_slice::<Kept>(&value).ok();
            let (Some((group, id)), Some(kept)) = (name, kept) else {
                tracing::warn!("an edge node's state does not read and is left out");
                continue;
            };
            let name = (group.to_owned(), id.to_owned());
            let devices = self.storage.get(&key(DEVICES, &name));
            let devices = devices.and_then(|json| serde_json::from_slice(&json).ok());
            let mut snapshot = kept.snapshot;
            snapshot.devices = devices.unwrap_or_default();
            let read = |wanted: Wanted<'_>| self.read_again(kept.partition, group, id, wanted);
            let machine =
                EdgeNode::restore(group, id, self.settings, &snapshot, silent_until_ms, read);
            let edge = Edge {
                machine,
                partition: kept.partition,
                devices: snapshot.devices,
                faults: 0,
            };
            self.edges.insert(name, edge);
        }
    }

    /// A message that was read before: from the log, or, when retention has
    /// removed it, a birth from its certificate.
    fn read_again(
        &self,
        partition: u32,
        group: &str,
        id: &str,
        wanted: Wanted<'_>,
    ) -> Option<Held> {
        let (birth, place) = match wanted {
            Wanted::NodeBirth { place } => (Some(format!("spBv1.0/{group}/NBIRTH/{id}")), place),
            Wanted::DeviceBirth { device, place } => {
                (Some(format!("spBv1.0/{group}/DBIRTH/{id}/{device}")), place)
            }
            Wanted::Held { place } => (None, place),
        };
        let feed = self
            .feeds
            .iter()
            .find(|feed| feed.partition.index() == partition);
        let page = feed.and_then(|feed| read_page(&feed.partition, place, 1).ok());
        let found = page.and_then(|page| page.messages.into_iter().find(|(at, _)| *at == place));
        if let Some((_, message)) = found
            && birth
                .as_deref()
                .is_none_or(|path| path == message.path.as_str())
        {
            return held(&message, group, id, place);
        }
        let path = birth?;
        let mut message = self.retained.read(&topic_name(&certificate_path(&path))?)?;
        message.path = topic_name(&path)?;
        held(&message, group, id, place)
    }
}

fn key(prefix: &[u8], (group, edge): &(String, String)) -> Vec<u8> {
    [prefix, group.as_bytes(), b"/", edge.as_bytes()].concat()
}

fn held(message: &Message, group: &str, id: &str, place: u64) -> Option<Held> {
    match Topic::parse(message.path.as_str()) {
        Ok(Topic::Edge {
            kind,
            group: its_group,
            edge,
            device,
        }) if its_group == group && edge == id => Held::read(&Incoming {
            kind,
            device,
            payload: &message.payload,
            received_ms: message.timestamp_ms,
            place,
        }),
        _ => None,
    }
}
