//! Which node of the destination each partition is connected to.
//!
//! A bootstrap address leads to the cluster: its topics, and who leads which
//! partition. A destination of one node is spoken to on that same connection,
//! so that a hub behind a forwarded port works whatever it advertises. With
//! several nodes each leader gets a connection to the address it advertises.
//! When one of them fails, only its partitions start over: their leaders are
//! looked up again.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use forebay_kafka::error_code;

use super::{Entry, Event, Key, RETRY, Runner};
use crate::driver::connection::{Calls, ConnectionError};
use crate::driver::handshake::{self, Prepared, Target, Versions};
use crate::driver::session::Session;
use crate::driver::{UplinkConfig, login};

/// Nodes that are connected to at once. Kafka clusters beyond that exist; the
/// partitions of one gateway do not spread over more.
const NODES_MAX: usize = 64;

/// What is known of the destination.
pub(super) struct Cluster {
    /// Number of the cluster contact; answers to older ones are dropped.
    pub(super) epoch: u64,
    /// The address that answered.
    address: String,
    /// Destination topics that are ready, by destination name.
    pub(super) targets: BTreeMap<String, Target>,
    /// Where the nodes want to be reached.
    pub(super) nodes: BTreeMap<i32, String>,
    /// Nodes to which a connection is being opened.
    pub(super) opening: Vec<i32>,
}

/// A connection that passed the handshake, and what it told.
pub(super) struct Established {
    calls: Calls,
    versions: Versions,
    pub(super) prepared: Prepared,
}

/// A connection to one more node.
pub(super) struct Opened {
    calls: Calls,
    versions: Versions,
}

impl Cluster {
    /// The node that serves a partition; `None` while nobody leads it.
    fn node_of(&self, target: &Target, partition: u32) -> Option<i32> {
        match self.nodes.len() {
            // One node leads everything, and what it calls itself does not
            // matter.
            0 | 1 => Some(self.only_node()),
            _ => {
                let leader = target.leaders.get(&partition).copied();
                leader.filter(|node| self.nodes.contains_key(node))
            }
        }
    }

    fn only_node(&self) -> i32 {
        self.nodes.keys().next().copied().unwrap_or_default()
    }

    /// The node that the bootstrap connection leads to, if that is sure.
    fn bootstrap_node(&self) -> Option<i32> {
        if self.nodes.len() <= 1 {
            return Some(self.only_node());
        }
        let mut same = self.nodes.iter().filter(|(_, at)| **at == self.address);
        same.next().map(|(node, _)| *node)
    }

    /// Forgets who leads the partitions of a node.
    fn forget_leader(&mut self, node: i32) {
        if self.nodes.len() > 1 {
            self.targets
                .retain(|_, target| !target.leaders.values().any(|leader| *leader == node));
        }
    }
}

impl Runner {
    /// Whether the next thing is an attempt to reach the cluster.
    pub(super) fn is_connecting(&self) -> bool {
        self.cluster.is_none() && !self.establishing
    }

    /// Starts connection attempts, connects partitions whose node is reached,
    /// and asks for topics that are new or have lost their leader.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.cluster.is_none() {
            if self.is_connecting() && now >= self.retry_at && !self.entries.is_empty() {
                self.establish();
            }
            return;
        }
        for (node, address) in self.connect_entries() {
            self.open(node, address);
        }
        if !self.preparing && now >= self.retry_at {
            self.prepare(now);
        }
    }

    fn establish(&mut self) {
        self.establishing = true;
        let address = self.next_bootstrap();
        let topics = self.wanted_topics(|_, _| true);
        let events = self.events.clone();
        let config = self.config.clone();
        tokio::spawn(async move {
            let result = establish(&address, &config, &topics).await;
            let _ = events.send(Event::Established(Box::new(result))).await;
        });
    }

    fn next_bootstrap(&mut self) -> String {
        let index = self.next_address % self.config.bootstrap.len();
        self.next_address = self.next_address.wrapping_add(1);
        self.config.bootstrap[index].clone()
    }

    /// Connects the partitions whose node is reached. Returns the nodes that
    /// are needed and not reached yet, with their addresses.
    fn connect_entries(&mut self) -> BTreeMap<i32, String> {
        let mut needed = BTreeMap::new();
        let Some(cluster) = &mut self.cluster else {
            return needed;
        };
        let waiting = self.entries.iter_mut().filter(|(_, e)| e.node.is_none());
        for (key, entry) in waiting {
            let target = cluster.targets.get(&entry.target);
            let Some(target) = target.filter(|target| key.1 < target.partitions) else {
                continue;
            };
            let Some(node) = cluster.node_of(target, key.1) else {
                continue;
            };
            let reached = self.sessions.len() + cluster.opening.len() + needed.len();
            if let Some(session) = self.sessions.get(&node) {
                entry.node = Some(node);
                let destination = target.destination.clone();
                let compares = session.versions.compares;
                entry.link.handle_connected(destination, compares);
            } else if !cluster.opening.contains(&node)
                && reached < NODES_MAX
                && let Some(address) = cluster.nodes.get(&node)
            {
                needed.insert(node, address.clone());
            }
        }
        cluster.opening.extend(needed.keys());
        needed
    }

    fn open(&self, node: i32, address: String) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let epoch = cluster.epoch;
        let events = self.events.clone();
        let config = self.config.clone();
        tokio::spawn(async move {
            let result = open(&address, &config).await;
            let event = Event::Opened(epoch, node, Box::new(result));
            let _ = events.send(event).await;
        });
    }

    /// Asks for topics that are new, too small or without a known leader.
    fn prepare(&mut self, now: Instant) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let unknown = |target: &str, partition: u32| {
            let known = cluster.targets.get(target);
            let known = known.filter(|known| partition < known.partitions);
            known.is_none_or(|known| cluster.node_of(known, partition).is_none())
        };
        let due = |name: &str| {
            let refused = self.refused.get(name);
            refused.is_none_or(|refused| now >= refused.retry_at)
        };
        let topics = self.wanted_topics(|key, entry| {
            entry.node.is_none() && unknown(&entry.target, key.1) && due(&entry.target)
        });
        if topics.is_empty() {
            return;
        }
        let (epoch, several) = (cluster.epoch, cluster.nodes.len() > 1);
        // The node that answered before may be the one that is gone.
        let address = match several {
            true => self.next_bootstrap(),
            false => cluster.address.clone(),
        };
        let events = self.events.clone();
        self.preparing = true;
        let config = self.config.clone();
        tokio::spawn(async move {
            let result = establish(&address, &config, &topics).await;
            let prepared = result.map(|established| established.prepared);
            let _ = events.send(Event::Prepared(epoch, prepared)).await;
        });
    }

    /// Destination topics and the partitions that they need for the entries
    /// that `include` picks.
    fn wanted_topics(&self, include: impl Fn(&Key, &Entry) -> bool) -> BTreeMap<String, u32> {
        let mut topics = BTreeMap::new();
        for (key, entry) in self
            .entries
            .iter()
            .filter(|(key, entry)| include(key, entry))
        {
            let partitions = topics.entry(entry.target.clone()).or_insert(0);
            *partitions = (key.1 + 1).max(*partitions);
        }
        topics
    }

    /// Takes the cluster over from a bootstrap connection.
    pub(super) fn join_cluster(&mut self, now: Instant, established: Established) {
        let Established {
            calls,
            versions,
            mut prepared,
        } = established;
        self.generation += 1;
        let cluster = Cluster {
            epoch: self.generation,
            address: calls.address.clone(),
            targets: prepared.targets.clone(),
            nodes: std::mem::take(&mut prepared.nodes),
            opening: Vec::new(),
        };
        tracing::info!(
            address = calls.address,
            nodes = cluster.nodes.len().max(1),
            compares = versions.compares,
            "uplink connected"
        );
        let node = cluster.bootstrap_node();
        self.cluster = Some(cluster);
        self.connected_since = Some(SystemTime::now());
        self.last_error = None;
        if let Some(node) = node {
            self.add_session(node, calls, versions);
        }
        self.note_refused(now, prepared);
    }

    /// Takes what a later look at the cluster found.
    pub(super) fn renew_cluster(&mut self, now: Instant, epoch: u64, mut prepared: Prepared) {
        let Some(cluster) = self.cluster.as_mut().filter(|one| one.epoch == epoch) else {
            return;
        };
        cluster.targets.extend(prepared.targets.clone());
        // One node that became several keeps its name and its connection.
        cluster.nodes = std::mem::take(&mut prepared.nodes);
        let unled =
            |target: &Target| (0..target.partitions).any(|p| !target.leaders.contains_key(&p));
        if cluster.nodes.len() > 1 && prepared.targets.values().any(unled) {
            self.retry_at = now + RETRY;
        }
        self.note_refused(now, prepared);
    }

    /// Takes the connection to one more node, or notes that there is none.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        epoch: u64,
        node: i32,
        result: Result<Opened, ConnectionError>,
    ) {
        let Some(cluster) = self.cluster.as_mut().filter(|one| one.epoch == epoch) else {
            return;
        };
        cluster.opening.retain(|opening| *opening != node);
        match result {
            Ok(Opened { calls, versions }) => self.add_session(node, calls, versions),
            Err(error) => self.disconnect(now, node, super::describe(&error)),
        }
    }

    fn add_session(&mut self, node: i32, calls: Calls, versions: Versions) {
        self.generation += 1;
        let pipeline = calls.into_pipeline(self.generation, self.wire.clone());
        let session = Session::new(self.generation, pipeline, versions);
        self.sessions.insert(node, session);
    }

    /// The partitions of one node lose their connection. When it was the last
    /// node, the cluster is looked for anew.
    pub(super) fn disconnect(&mut self, now: Instant, node: i32, error: String) {
        self.sessions.remove(&node);
        if let Some(cluster) = &mut self.cluster {
            cluster.forget_leader(node);
        }
        let is_reached = self.cluster.as_ref().is_some_and(|c| !c.opening.is_empty());
        if self.sessions.is_empty() && !is_reached {
            return self.leave_cluster(now, error);
        }
        tracing::warn!(node, %error, "uplink connection lost");
        self.last_error = Some(error);
        self.retry_at = now + self.backoff.fail(self.rng.u64(..));
        let of_node = self.entries.values_mut().filter(|e| e.node == Some(node));
        for entry in of_node {
            entry.node = None;
            entry.link.handle_disconnected();
        }
    }

    /// All partitions lose their connection.
    pub(super) fn leave_cluster(&mut self, now: Instant, error: String) {
        tracing::warn!(%error, "uplink connection lost");
        self.last_error = Some(error);
        self.cluster = None;
        self.sessions.clear();
        self.connected_since = None;
        self.retry_at = now + self.backoff.fail(self.rng.u64(..));
        for entry in self.entries.values_mut() {
            entry.node = None;
            entry.link.handle_disconnected();
        }
    }
}

async fn open(address: &str, config: &UplinkConfig) -> Result<Opened, ConnectionError> {
    let mut calls = Calls::connect(address, config.secure.as_deref()).await?;
    let versions = handshake::versions(&mut calls).await?;
    if let Some(key) = handshake::lacks(&versions) {
        return Err(ConnectionError::Refused {
            address: address.to_owned(),
            what: format!("{key:?}"),
            code: error_code::UNSUPPORTED_VERSION,
            name: error_code::name(error_code::UNSUPPORTED_VERSION),
        });
    }
    if let Some(credentials) = config.credentials.as_deref() {
        login::log_in(&mut calls, &versions, credentials).await?;
    }
    Ok(Opened { calls, versions })
}

async fn establish(
    address: &str,
    config: &UplinkConfig,
    topics: &BTreeMap<String, u32>,
) -> Result<Established, ConnectionError> {
    let Opened {
        mut calls,
        versions,
    } = open(address, config).await?;
    let prepared = handshake::prepare(&mut calls, &versions, topics).await?;
    Ok(Established {
        calls,
        versions,
        prepared,
    })
}
