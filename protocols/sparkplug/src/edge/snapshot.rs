//! What outlives a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;
use super::{Device, EdgeNode, EdgeSettings, Incoming, Message, Rebirth, Scope, Session};
use crate::payload::Payload;
use crate::topic::MessageKind;

/// What has to be kept of an edge node. Births and held messages are kept by
/// the places they were handed in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeSnapshot {
    bd_seq: Option<u64>,
    birth_place: u64,
    birth_hash: u64,
    next: u8,
    missing: [u64; 4],
    deadline_ms: Option<i64>,
    /// Places of the messages that wait for missing ones.
    held: Vec<u64>,
    /// The devices, which change less often and are left out when this is
    /// written: they are to be kept on their own.
    #[serde(skip)]
    pub devices: Vec<DeviceSnapshot>,
}

/// What has to be kept of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSnapshot {
    name: String,
    birth_place: u64,
    awaits_birth_until_ms: Option<i64>,
}

/// A message that is needed again after a restart, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// The birth of the edge node.
    NodeBirth {
        /// Its place.
        place: u64,
    },
    /// The birth of a device.
    DeviceBirth {
        /// The device.
        device: &'a str,
        /// Its place.
        place: u64,
    },
    /// A message that waits for missing ones.
    Held {
        /// Its place.
        place: u64,
    },
}

/// A message that waits for missing ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub seq: u8,
    /// Where the owner finds it.
    pub place: u64,
    /// When it arrived.
    pub received_ms: i64,
    /// What it says.
    pub kind: MessageKind,
    /// The device it is about.
    pub device: Option<String>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl EdgeNode {
    /// What has to be kept; `None` while the edge node is not there.
    pub fn snapshot(&self) -> Option<EdgeSnapshot> {
        let session = self.session.as_ref()?;
        let device = |(name, device): (&Arc<str>, &Device)| DeviceSnapshot {
            name: name.to_string(),
            birth_place: device.birth_place,
            awaits_birth_until_ms: device.awaits_birth_until_ms,
        };
        Some(EdgeSnapshot {
            bd_seq: session.bd_seq,
            birth_place: session.birth_place,
            birth_hash: session.birth_hash,
            next: session.sequence.next,
            missing: session.sequence.missing,
            deadline_ms: session.sequence.deadline_ms,
            held: session
                .sequence
                .held
                .iter()
                .map(|held| held.place)
                .collect(),
            devices: self.devices.iter().map(device).collect(),
        })
    }

    /// The edge node as it was. It is given up at `silent_until_ms` if nothing
    /// is heard of it before. `read` hands over what is wanted
    /// once more. A birth that cannot be read leaves its metrics unknown until
    /// the next one.
    pub fn restore(
        group: &str,
        edge: &str,
        settings: EdgeSettings,
        snapshot: &EdgeSnapshot,
        silent_until_ms: Option<i64>,
        mut read: impl FnMut(Wanted<'_>) -> Option<Held>,
    ) -> Self {
        let mut restored = Self::new(group, edge, settings);
        restored.session = Some(Session {
            bd_seq: snapshot.bd_seq,
            birth_place: snapshot.birth_place,
            birth_hash: snapshot.birth_hash,
            sequence: Sequence {
                next: snapshot.next,
                missing: snapshot.missing,
                held: Vec::new(),
                deadline_ms: snapshot.deadline_ms,
            },
            silent_until_ms,
        });
        restored.rebirth = Rebirth::default();
        restored.node = {
            let place = snapshot.birth_place;
            restored.reborn(read(Wanted::NodeBirth { place }), None)
        };
        for kept in &snapshot.devices {
            let wanted = Wanted::DeviceBirth {
                device: &kept.name,
                place: kept.birth_place,
            };
            let mut scope = restored.reborn(read(wanted), Some(&kept.name));
            if kept.awaits_birth_until_ms.is_some() {
                scope.close();
            }
            let device = Device {
                scope,
                birth_place: kept.birth_place,
                awaits_birth_until_ms: kept.awaits_birth_until_ms,
            };
            restored.devices.insert(kept.name.as_str().into(), device);
        }
        if let Some(session) = &mut restored.session {
            let held = snapshot.held.iter();
            let held = held.filter_map(|place| read(Wanted::Held { place: *place }));
            session.sequence.held = held.collect();
            if session.sequence.held.is_empty() {
                session.sequence.deadline_ms = None;
            }
        }
        restored
    }

    /// The metrics of a birth that was applied before.
    fn reborn(&mut self, birth: Option<Held>, device: Option<&str>) -> Scope {
        let Some(birth) = birth else {
            return Scope::new(&self.group, &self.edge, device, super::DEFINITIONS_MAX);
        };
        let Ok(payload) = Payload::decode(&birth.payload) else {
            return Scope::default();
        };
        let mut scope = self.announce(Message {
            kind: birth.kind,
            device,
            payload: &payload,
            received_ms: birth.received_ms,
            place: birth.place,
        });
        for metric in &payload.metrics {
            if let Some(definition) = scope.find(metric) {
                scope.announce_members(&definition, metric);
            }
        }
        scope
    }
}

impl Held {
    /// A message that waits, with its number.
    pub(super) fn new(seq: u8, incoming: &Incoming<'_>) -> Self {
        Self {
            seq,
            place: incoming.place,
            received_ms: incoming.received_ms,
            kind: incoming.kind,
            device: incoming.device.map(str::to_owned),
            payload: incoming.payload.to_vec(),
        }
    }

    /// A message that is handed in again; `None` when its payload is none.
    pub fn read(incoming: &Incoming<'_>) -> Option<Self> {
        let payload = Payload::decode(incoming.payload).ok()?;
        Some(Self::new(payload.seq.unwrap_or(0) as u8, incoming))
    }
}

/// FNV-1a of 64 bits: tells a repeated birth from another one, and is the same
/// after a restart.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
