//! OPC UA servers: from nodes to readings, from commands to nodes.
//!
//! One task serves one `[[opcua]]`. It drives a [`Client`], which keeps the
//! session; here its samples become readings, its notices the health of the
//! device, and commands become writes.

mod commanding;
pub mod plan;
mod trust;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use forebay_opcua::client::{Client, Event, Notice};
use forebay_opcua::run::Standing;
use forebay_opcua::sample::{self, Sample};
use forebay_opcua::value::Value as NodeValue;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::config;
use crate::devices::{DeviceContext, DeviceState};
use crate::readings::{Closing, Quality, Reading, Tag, Value};
use commanding::Commanding;
use trust::Trust;

/// How often it is looked whether a certificate ends soon: they end on a day.
const TRUST_INTERVAL: Duration = Duration::from_secs(3600);

/// The alarm about nodes that the server refuses.
const REFUSED: &str = "refused-nodes";

/// The alarm about nodes that the server does not have.
const ABSENT_NODES: &str = "absent-nodes";

/// What servers say of a node that is not there, as the status of a value when
/// they took the item all the same.
const ABSENT: [&str; 3] = [
    "BadNodeIdUnknown",
    "BadNodeIdInvalid",
    "BadAttributeIdInvalid",
];

/// The alarm about a browse that ended at a limit.
const CUT: &str = "browse-limit";

/// The alarm about values that were dropped because the storage was behind.
const DROPPED: &str = "dropped";

/// The alarm about notifications that were lost.
const LOST: &str = "lost";

/// The alarm about a connection without protection that may have one.
const UNPROTECTED: &str = "unprotected";

/// Serves one server until `stop` becomes true, or until nobody holds its
/// configuration any more. A change of nodes keeps the session.
pub async fn run(
    mut config: watch::Receiver<Arc<config::OpcUa>>,
    context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) {
    let wanted = Arc::clone(&config.borrow_and_update());
    let mut server = Server::new(&wanted, context);
    let mut looks = tokio::time::interval(TRUST_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            event = server.client.next() => {
                // A client ends only by a panic; the fleet starts this anew.
                let Some(event) = event else { return };
                if server.handle(event).await.is_err() {
                    break;
                }
            }
            command = server.commanding.next() => server.commanding.start(&server.client, command),
            changed = config.changed() => {
                if changed.is_err() {
                    break;
                }
                let wanted = Arc::clone(&config.borrow_and_update());
                server.change(&wanted);
            }
            _ = looks.tick() => server.trust.look(&server.context.health),
        }
    }
    server.client.close().await;
}

/// Waits until the node stops; a node that is gone stops as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One server at work.
struct Server {
    client: Client,
    wanted: Arc<config::OpcUa>,
    /// What readings are of, by the name of the node and whether they have a
    /// time of the server's clock.
    tags: HashMap<(Arc<str>, bool), Arc<Tag>>,
    commanding: Commanding,
    trust: Trust,
    context: DeviceContext,
    was_live: bool,
    /// Nodes that the server refuses.
    refused: usize,
    /// Nodes that it takes and does not have.
    absent: BTreeSet<Arc<str>>,
    protection: String,
}

impl Server {
    fn new(wanted: &Arc<config::OpcUa>, context: DeviceContext) -> Self {
        Self {
            client: Client::new(plan::settings(wanted, &context), fastrand::u64(..)),
            commanding: Commanding::new(&context.commands, wanted),
            wanted: Arc::clone(wanted),
            tags: HashMap::new(),
            trust: Trust::default(),
            context,
            was_live: false,
            refused: 0,
            absent: BTreeSet::new(),
            protection: String::new(),
        }
    }

    /// Takes a changed configuration over.
    fn change(&mut self, wanted: &Arc<config::OpcUa>) {
        self.wanted = Arc::clone(wanted);
        // Units and the first level may be others.
        self.tags.clear();
        self.absent.clear();
        self.context.health.clear_alarm(ABSENT_NODES);
        self.commanding.register(&self.context.commands, wanted);
        self.client
            .reconfigure(plan::settings(wanted, &self.context));
    }

    async fn handle(&mut self, event: Event) -> Result<(), Closing> {
        match event {
            Event::Samples(samples) => self.publish(samples).await,
            Event::Notice(notice) => {
                self.notice(notice);
                Ok(())
            }
        }
    }

    async fn publish(&mut self, samples: Vec<Sample>) -> Result<(), Closing> {
        let now = self.context.publisher.clock().now_ms();
        let mut good = 0;
        let mut newest = 0;
        let mut readings = Vec::with_capacity(samples.len());
        for sample in samples {
            self.note_absence(&sample);
            let Some(tag) = self.tag(&sample) else {
                continue;
            };
            let reading = reading(tag, sample, now);
            if reading.quality == Quality::Good {
                good += 1;
                newest = newest.max(reading.timestamp_ms);
            }
            readings.push(reading);
        }
        let health = &self.context.health;
        self.context
            .publisher
            .publish_each(&health.name(), &readings)
            .await?;
        if good > 0 {
            health.add_readings(good, newest);
        }
        Ok(())
    }

    fn note_absence(&mut self, sample: &Sample) {
        let status = sample.status.as_deref().unwrap_or_default();
        let is_news = if ABSENT.contains(&status) {
            // Refused ones are counted by the session.
            self.refused == 0 && self.absent.insert(Arc::clone(&sample.name))
        } else {
            sample.quality == sample::Quality::Good && self.absent.remove(&sample.name)
        };
        if !is_news {
            return;
        }
        match self.absent.first() {
            Some(first) => {
                let count = self.absent.len();
                let text = format!("the server does not have {count} nodes, such as {first}");
                self.context.health.alarm(ABSENT_NODES, &text);
            }
            None => self.context.health.clear_alarm(ABSENT_NODES),
        }
        self.say_live();
    }

    /// A time of the server's clock is not the gateway's to correct.
    fn tag(&mut self, sample: &Sample) -> Option<Arc<Tag>> {
        let has_device_time = sample.timestamp_ms.is_some();
        let key = (Arc::clone(&sample.name), has_device_time);
        if let Some(tag) = self.tags.get(&key) {
            return Some(Arc::clone(tag));
        }
        let unit = self.wanted.units.get(&*sample.name).map(String::as_str);
        let path = format!("{}/{}", self.wanted.name, sample.name);
        let tag = match has_device_time {
            true => Tag::with_device_time(&path, unit),
            false => Tag::new(&path, unit),
        };
        match tag {
            Ok(tag) => {
                self.tags.insert(key, Arc::clone(&tag));
                Some(tag)
            }
            Err(error) => {
                tracing::warn!(device = self.context.health.name(), path, "{error}");
                self.context.health.add_errors(1);
                None
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let health = &self.context.health;
        match notice {
            Notice::Standing(standing) => self.stand(standing),
            Notice::Endpoint { policy, mode } => self.protection = format!("{policy} {mode}"),
            Notice::NoServerCertificate => {
                "without protection".clone_into(&mut self.protection);
                // Whoever asks for none knows.
                let is_asked_for = plan::asks_for_none(&self.wanted);
                if !is_asked_for {
                    health.alarm(
                        UNPROTECTED,
                        "the server offers no protection, and `allow_none` accepts it: everybody on the network can read and change what it says",
                    );
                }
            }
            Notice::Certificate { whose, days_left } => {
                self.trust.note(whose, days_left);
                self.trust.look(health);
            }
            Notice::Untrusted {
                fingerprint,
                subject,
                text,
            } => self.trust.reject(health, &fingerprint, &subject, &text),
            Notice::Nodes {
                names,
                refused,
                is_cut,
            } => {
                health.set_tags(u64::try_from(names.len()).unwrap_or(u64::MAX));
                // A server that names its nodes anew at each start does not fill
                // the memory.
                let names: HashSet<&Arc<str>> = names.iter().collect();
                self.tags.retain(|(name, _), _| names.contains(name));
                self.refused = refused;
                if refused == 0 {
                    health.clear_alarm(REFUSED);
                }
                if is_cut {
                    health.alarm(
                        CUT,
                        "browsing ended at max_nodes, or after many nodes that no pattern means: expected narrower patterns",
                    );
                } else {
                    health.clear_alarm(CUT);
                }
                self.say_live();
            }
            Notice::Refused {
                first: (name, status),
                count,
                total,
            } => {
                health.add_errors(u64::try_from(count).unwrap_or(u64::MAX));
                let text = format!("the server refuses {total} nodes, such as {name}: {status}");
                health.alarm(REFUSED, &text);
            }
            Notice::Lost { messages } => {
                health.add_errors(u64::from(messages));
                let text = format!(
                    "{messages} notifications were lost on the way and the server does not have them any more; the newest value of each node was read again"
                );
                health.alarm(LOST, &text);
            }
            Notice::Dropped { total } => {
                let text = format!(
                    "{total} values were dropped since the start because the storage was behind; the newest of each node were read again"
                );
                health.alarm(DROPPED, &text);
            }
        }
    }

    fn stand(&mut self, standing: Standing) {
        let health = &self.context.health;
        match standing {
            Standing::Connecting => health.set_state(DeviceState::Connecting, ""),
            Standing::Live => {
                self.trust.accept(health);
                if self.was_live {
                    health.add_reconnect();
                }
                self.was_live = true;
                self.say_live();
            }
            Standing::Away(reason) => {
                let text = format!("reconnecting: {reason}");
                health.set_state(DeviceState::Down, &text);
            }
            Standing::Down(reason) => health.set_state(DeviceState::Down, &reason),
        }
    }

    /// The state while the session lives.
    fn say_live(&self) {
        let health = &self.context.health;
        if !self.was_live {
            return;
        }
        let without = self.refused + self.absent.len();
        if without == 0 {
            health.set_state(DeviceState::Connected, &self.protection);
        } else {
            let text = format!("{}, {without} nodes without values", self.protection);
            health.set_state(DeviceState::Degraded, &text);
        }
    }
}

/// A reading of a tag. What has no time of its own is of now.
fn reading(tag: Arc<Tag>, sample: Sample, now_ms: i64) -> Reading {
    Reading {
        tag,
        value: value_of(&sample.value),
        timestamp_ms: sample.timestamp_ms.unwrap_or(now_ms),
        quality: match sample.quality {
            sample::Quality::Good => Quality::Good,
            sample::Quality::Uncertain => Quality::Uncertain,
            sample::Quality::Bad => Quality::Bad,
        },
        status: sample.status,
    }
}

/// The value of a node as the rest of the gateway knows values.
fn value_of(value: &NodeValue) -> Value {
    match value {
        NodeValue::Null => Value::Null,
        NodeValue::Bool(on) => Value::Bool(*on),
        NodeValue::Signed(number) => Value::Signed(*number),
        NodeValue::Unsigned(number) => Value::Unsigned(*number),
        NodeValue::Single(number) => Value::from(*number),
        NodeValue::Float(number) => Value::Float(*number),
        NodeValue::Text(text) => Value::Text(Arc::clone(text)),
        NodeValue::List(list) => Value::List(list.iter().map(value_of).collect()),
    }
}
