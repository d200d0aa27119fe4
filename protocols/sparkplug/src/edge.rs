//! One edge node as a host application sees it.
//!
//! Messages go in by [`EdgeNode::handle`] in the order in which they arrived,
//! with the bytes of the payload; samples come out. A birth says which metrics
//! there are and which aliases stand for them. Data is applied in the order of
//! its sequence numbers: what comes ahead of a missing number is held for the
//! reorder timeout and then applied all the same, because each value has its
//! own time and aliases only change with births; the gap is counted and a
//! rebirth is wanted. A death makes every metric stale.
//!
//! After every [`EdgeNode::handle`], the owner asks [`EdgeNode::poll_timeout`]
//! when to call [`EdgeNode::handle_timeout`], and [`EdgeNode::poll_rebirth`]
//! whether to send a request, if it sends any. [`EdgeNode::snapshot`] is what
//! has to be kept over a restart; births and held messages are named by the
//! places they were handed in with.

mod rebirth;
mod sample;
mod scope;
mod sequence;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::payload::Payload;
use crate::topic::MessageKind;
use rebirth::Rebirth;
use sample::{emit, is_template_definition, stale, timestamp};
use scope::Scope;
use sequence::{Order, Sequence};

pub use sample::{Sample, SampleQuality};
pub use scope::Definition;
pub use sequence::HELD_MAX;
pub use snapshot::{DeviceSnapshot, EdgeSnapshot, Held, Wanted};

/// The metric that asks an edge node for its births.
pub(crate) const REBIRTH_METRIC: &str = "Node Control/Rebirth";

/// Metrics of the session itself, which are no readings.
const SESSION_METRICS: [&str; 2] = ["bdSeq", REBIRTH_METRIC];

/// Devices of an edge node: a fieldbus segment has some hundred.
const DEVICES_MAX: usize = 4_096;

/// Metrics of an edge node with its devices. At about 300 bytes each, with
/// their names twice, this bounds an edge node at 40 MB.
const DEFINITIONS_MAX: usize = 131_072;

/// How long a device of the birth before may wait for its own birth after the
/// edge node's. They follow each other within seconds.
const DEVICE_BIRTH_GRACE_MS: i64 = 30_000;

/// How long an edge node that was there before a restart may stay silent after
/// it. Clients come back within their reconnect interval, usually seconds.
pub const RESTART_GRACE_MS: i64 = 60_000;

/// What an edge node's machine is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// How long a missing message is waited for, in milliseconds.
    pub reorder_timeout_ms: i64,
    /// Least time between two rebirth requests; it doubles while they are
    /// repeated.
    pub rebirth_interval_ms: i64,
    /// Most time between two rebirth requests.
    pub rebirth_interval_max_ms: i64,
}

/// A message of an edge node as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// What it says.
    pub kind: MessageKind,
    /// The device it is about.
    pub device: Option<&'a str>,
    /// The payload.
    pub payload: &'a [u8],
    /// When it arrived, in milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// Where the owner finds it again.
    pub place: u64,
}

/// What was counted since the machine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Payloads that are none.
    pub malformed: u64,
    /// Messages in front of a birth of their edge node or device.
    pub unborn: u64,
    /// Metrics that no birth has announced.
    pub unknown_metrics: u64,
    /// Sequence numbers that did not come in time.
    pub missing: u64,
    /// Messages dropped because their number, or their birth, was seen.
    pub duplicates: u64,
    /// Deaths of earlier sessions, which change nothing.
    pub stale_deaths: u64,
    /// Births of the edge node.
    pub births: u64,
    /// Deaths of the edge node.
    pub deaths: u64,
    /// Metrics and devices beyond the limits.
    pub beyond_limits: u64,
}

impl Counts {
    /// What should not happen: all but births, deaths and what was repeated.
    pub fn faults(&self) -> u64 {
        self.malformed + self.unborn + self.unknown_metrics + self.missing + self.beyond_limits
    }
}

/// What is worth a line in a log, beside the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The edge node was born.
    Born,
    /// The edge node is gone.
    Died,
    /// Numbers did not come in time.
    Gap {
        /// How many.
        missing: u64,
    },
}

/// The session of an edge node, from a birth to its death.
#[derive(Clone, Debug)]
struct Session {
    bd_seq: Option<u64>,
    birth_place: u64,
    birth_hash: u64,
    sequence: Sequence,
    /// Since a restart nothing was heard; this is when it is given up.
    silent_until_ms: Option<i64>,
}

#[derive(Clone, Debug)]
struct Device {
    scope: Scope,
    birth_place: u64,
    /// The edge node was born again; this is when the device is given up.
    awaits_birth_until_ms: Option<i64>,
}

/// The state machine of one edge node.
#[derive(Clone, Debug)]
pub struct EdgeNode {
    group: Arc<str>,
    edge: Arc<str>,
    settings: EdgeSettings,
    session: Option<Session>,
    node: Scope,
    devices: BTreeMap<Arc<str>, Device>,
    rebirth: Rebirth,
    counts: Counts,
    events: Vec<Event>,
}

/// A message whose payload has been read, as the parts below pass it on.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: MessageKind,
    device: Option<&'a str>,
    payload: &'a Payload<'a>,
    received_ms: i64,
    place: u64,
}

impl EdgeNode {
    /// An edge node that nothing is known about.
    pub fn new(group: &str, edge: &str, settings: EdgeSettings) -> Self {
        Self {
            group: group.into(),
            edge: edge.into(),
            settings,
            session: None,
            node: Scope::default(),
            devices: BTreeMap::new(),
            rebirth: Rebirth::default(),
            counts: Counts::default(),
            events: Vec::new(),
        }
    }

    /// Takes a message and appends what it says to `samples`.
    pub fn handle(&mut self, incoming: Incoming<'_>, samples: &mut Vec<Sample>) {
        self.handle_timeout(incoming.received_ms, samples);
        let Ok(payload) = Payload::decode(incoming.payload) else {
            self.counts.malformed += 1;
            return;
        };
        let message = Message {
            kind: incoming.kind,
            device: incoming.device,
            payload: &payload,
            received_ms: incoming.received_ms,
            place: incoming.place,
        };
        match incoming.kind {
            MessageKind::NodeBirth => self.node_birth(message, incoming.payload, samples),
            MessageKind::NodeDeath => self.node_death(message, samples),
            MessageKind::NodeCommand | MessageKind::DeviceCommand => {}
            MessageKind::NodeData
            | MessageKind::DeviceBirth
            | MessageKind::DeviceData
            | MessageKind::DeviceDeath => self.numbered(message, incoming, samples),
        }
    }

    /// Gives up what was waited for until `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: i64, samples: &mut Vec<Sample>) {
        let reorder_ms = self.settings.reorder_timeout_ms;
        let Some(session) = &mut self.session else {
            return;
        };
        if session.sequence.is_due(now_ms, reorder_ms) {
            self.give_up_missing(now_ms, samples);
        }
        let late: Vec<Arc<str>> = self
            .devices
            .iter()
            .filter(|(_, device)| device.awaits_birth_until_ms.is_some_and(|at| at <= now_ms))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in late {
            self.device_gone(&name, now_ms, samples);
        }
        let silent = self.session.as_ref().and_then(|s| s.silent_until_ms);
        if silent.is_some_and(|at| at <= now_ms) {
            self.gone(now_ms, samples);
        }
    }

    /// When [`EdgeNode::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<i64> {
        let session = self.session.as_ref()?;
        let devices = self.devices.values();
        devices
            .filter_map(|device| device.awaits_birth_until_ms)
            .chain(session.sequence.deadline_ms())
            .chain(session.silent_until_ms)
            .min()
    }

    /// Whether to send a rebirth request at `now_ms`. True is counted as sent.
    pub fn poll_rebirth(&mut self, now_ms: i64) -> bool {
        self.rebirth.poll(now_ms, &self.settings)
    }

    /// Whether [`EdgeNode::poll_rebirth`] would say yes.
    pub fn is_rebirth_due(&self, now_ms: i64) -> bool {
        self.rebirth.is_due(now_ms)
    }

    /// The place of the first message that waits for missing ones.
    pub fn first_held_place(&self) -> Option<u64> {
        let held = self
            .session
            .iter()
            .flat_map(|session| &session.sequence.held);
        held.map(|held| held.place).min()
    }

    /// Metrics that are known, with those of the devices.
    pub fn metric_count(&self) -> usize {
        let devices = self.devices.values().map(|device| device.scope.len());
        self.node.len() + devices.sum::<usize>()
    }

    /// Takes what happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The group's id.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The edge node's id.
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// Whether it was born and has not died.
    pub fn is_online(&self) -> bool {
        self.session.is_some()
    }

    /// Whether a birth is missing that a request would bring.
    pub fn wants_rebirth(&self) -> bool {
        self.rebirth.is_wanted()
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Devices that are known, online or awaited.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    fn node_birth(&mut self, message: Message<'_>, bytes: &[u8], samples: &mut Vec<Sample>) {
        let hash = snapshot::fingerprint(bytes);
        if let Some(session) = &self.session
            && session.birth_hash == hash
        {
            self.counts.duplicates += 1;
            return;
        }
        // What is held belongs to the births before.
        self.release_held(samples);
        let seq = message.payload.seq.map_or(0, |seq| seq as u8);
        self.session = Some(Session {
            bd_seq: message.payload.bd_seq(),
            birth_place: message.place,
            birth_hash: hash,
            sequence: Sequence::after(seq),
            silent_until_ms: None,
        });
        for device in self.devices.values_mut() {
            device.scope.close();
            device.awaits_birth_until_ms =
                Some(message.received_ms.saturating_add(DEVICE_BIRTH_GRACE_MS));
        }
        let before = std::mem::take(&mut self.node);
        self.node = self.born(message, before, samples);
        self.rebirth.satisfy();
        self.counts.births += 1;
        self.events.push(Event::Born);
    }

    fn node_death(&mut self, message: Message<'_>, samples: &mut Vec<Sample>) {
        let bd_seq = message.payload.bd_seq();
        match &self.session {
            // Section 6.4.16: the numbers tell which birth a death belongs to.
            Some(session) if session.bd_seq == bd_seq => {
                self.release_held(samples);
                self.gone(message.received_ms, samples);
            }
            _ => self.counts.stale_deaths += 1,
        }
    }

    /// Takes a message with a sequence number.
    fn numbered(
        &mut self,
        message: Message<'_>,
        incoming: Incoming<'_>,
        samples: &mut Vec<Sample>,
    ) {
        let Some(session) = &mut self.session else {
            self.counts.unborn += 1;
            self.rebirth.want(message.received_ms, &self.settings);
            return;
        };
        session.silent_until_ms = None;
        let Some(seq) = message.payload.seq else {
            self.apply(message, samples);
            return;
        };
        let seq = seq as u8;
        let timeout_ms = self.settings.reorder_timeout_ms;
        match session.sequence.place(seq) {
            Order::Next => {
                self.apply(message, samples);
                self.apply_released(samples);
            }
            Order::Late => self.apply(message, samples),
            Order::Duplicate => self.counts.duplicates += 1,
            Order::Ahead => {
                let held = Held::new(seq, &incoming);
                let is_full = session.sequence.hold(held, timeout_ms);
                if is_full || timeout_ms <= 0 {
                    self.give_up_missing(message.received_ms, samples);
                }
            }
        }
    }

    /// Applies what is held and has become the next.
    fn apply_released(&mut self, samples: &mut Vec<Sample>) {
        let timeout_ms = self.settings.reorder_timeout_ms;
        while let Some(session) = &mut self.session {
            let Some(held) = session.sequence.release(timeout_ms) else {
                break;
            };
            self.apply_held(&held, samples);
        }
    }

    /// The missing numbers are not waited for any longer.
    fn give_up_missing(&mut self, now_ms: i64, samples: &mut Vec<Sample>) {
        let missing = self.release_held(samples);
        if missing > 0 {
            self.events.push(Event::Gap { missing });
            self.rebirth.want(now_ms, &self.settings);
        }
    }

    /// Applies all that is held and returns how many numbers are missing.
    fn release_held(&mut self, samples: &mut Vec<Sample>) -> u64 {
        let mut missing = 0;
        while let Some(session) = &mut self.session {
            let Some(skipped) = session.sequence.skip() else {
                break;
            };
            missing += u64::from(skipped);
            self.apply_released(samples);
        }
        self.counts.missing += missing;
        missing
    }

    fn apply_held(&mut self, held: &Held, samples: &mut Vec<Sample>) {
        // It was decoded once, so it decodes again.
        if let Ok(payload) = Payload::decode(&held.payload) {
            let message = Message {
                kind: held.kind,
                device: held.device.as_deref(),
                payload: &payload,
                received_ms: held.received_ms,
                place: held.place,
            };
            self.apply(message, samples);
        }
    }

    /// Carries out a message whose turn it is.
    fn apply(&mut self, message: Message<'_>, samples: &mut Vec<Sample>) {
        match message.kind {
            MessageKind::DeviceBirth => self.device_birth(message, samples),
            MessageKind::DeviceDeath => {
                let at = timestamp(message.payload.timestamp, message.received_ms);
                match message.device {
                    Some(name) if self.devices.contains_key(name) => {
                        self.device_gone(name, at, samples);
                    }
                    _ => self.counts.unborn += 1,
                }
            }
            _ => self.data(message, samples),
        }
    }

    fn device_birth(&mut self, message: Message<'_>, samples: &mut Vec<Sample>) {
        let Some(name) = message.device else { return };
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(name) {
            self.counts.beyond_limits += 1;
            return;
        }
        let before = self.devices.remove(name);
        let before = before.map(|device| device.scope).unwrap_or_default();
        let scope = self.born(message, before, samples);
        let device = Device {
            scope,
            birth_place: message.place,
            awaits_birth_until_ms: None,
        };
        self.devices.insert(name.into(), device);
    }

    /// The metrics of a birth with their first values; what was there before
    /// and is not any more becomes stale.
    fn born(&mut self, message: Message<'_>, before: Scope, samples: &mut Vec<Sample>) -> Scope {
        let mut scope = self.announce(message);
        for metric in &message.payload.metrics {
            if let Some(definition) = scope.find(metric) {
                emit(&mut scope, &definition, metric, message, samples);
            }
        }
        for definition in before.definitions() {
            if !scope.has(&definition.name) {
                samples.push(stale(definition, message.received_ms));
            }
        }
        scope
    }

    /// The metrics that a birth announces.
    fn announce(&mut self, message: Message<'_>) -> Scope {
        let others: usize = self.devices.values().map(|device| device.scope.len()).sum();
        let room = DEFINITIONS_MAX.saturating_sub(others + self.node.len());
        let mut scope = Scope::new(&self.group, &self.edge, message.device, room);
        for metric in &message.payload.metrics {
            let Some(name) = metric.name else {
                self.counts.unknown_metrics += 1;
                continue;
            };
            if SESSION_METRICS.contains(&name) || is_template_definition(metric) {
                continue;
            }
            if !scope.announce(name, metric) {
                self.counts.beyond_limits += 1;
            }
        }
        scope
    }

    fn data(&mut self, message: Message<'_>, samples: &mut Vec<Sample>) {
        let scope = match message.device {
            None => Some(&mut self.node),
            Some(name) => self
                .devices
                .get_mut(name)
                .filter(|device| device.awaits_birth_until_ms.is_none())
                .map(|device| &mut device.scope),
        };
        let Some(scope) = scope else {
            self.counts.unborn += 1;
            self.rebirth.want(message.received_ms, &self.settings);
            return;
        };
        for metric in &message.payload.metrics {
            if metric
                .name
                .is_some_and(|name| SESSION_METRICS.contains(&name))
                || is_template_definition(metric)
            {
                continue;
            }
            match scope.find(metric) {
                Some(definition) => emit(scope, &definition, metric, message, samples),
                None => {
                    self.counts.unknown_metrics += 1;
                    self.rebirth.want(message.received_ms, &self.settings);
                    // A name with a type says all that a birth would.
                    if let (Some(name), Some(_)) = (metric.name, metric.datatype)
                        && scope.announce(name, metric)
                        && let Some(definition) = scope.find(metric)
                    {
                        emit(scope, &definition, metric, message, samples);
                    }
                }
            }
        }
    }

    /// The edge node is gone: all metrics become stale.
    fn gone(&mut self, at_ms: i64, samples: &mut Vec<Sample>) {
        self.session = None;
        for definition in std::mem::take(&mut self.node).definitions() {
            samples.push(stale(definition, at_ms));
        }
        for device in std::mem::take(&mut self.devices).into_values() {
            let definitions = device.scope.definitions();
            samples.extend(definitions.map(|definition| stale(definition, at_ms)));
        }
        self.counts.deaths += 1;
        self.events.push(Event::Died);
    }

    fn device_gone(&mut self, name: &str, at_ms: i64, samples: &mut Vec<Sample>) {
        if let Some(device) = self.devices.remove(name) {
            let definitions = device.scope.definitions();
            samples.extend(definitions.map(|definition| stale(definition, at_ms)));
        }
    }
}
