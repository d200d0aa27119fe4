//! Commands: writes to tags of devices that were declared writable.
//!
//! A device registers each writable tag with the rule that a value has to keep.
//! A publish to `<path>/set` of such a tag is a command: the [`desk`] judges it
//! by the [`gate`], writes it down in the [`journal`], hands it to the device's
//! queue, at most once, and publishes the outcome at `<path>/set/result`.

pub mod desk;
pub mod gate;
pub mod journal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_mqtt::TopicName;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::readings::Value;

/// What a written value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// True or false.
    Bool,
    /// A whole number.
    Integer,
    /// Any finite number, as a double.
    Float,
    /// Any finite number; whole ones stay whole. For devices that know the type
    /// themselves.
    Number,
    /// A text.
    Text,
    /// True, false, a number or a text. For devices that know the type
    /// themselves.
    Any,
}

/// What a value has to keep to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteRule {
    /// What it is.
    pub kind: WriteKind,
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Time between two writes at least.
    pub min_interval: Duration,
}

/// A command on its way to a device. The value keeps the tag's rule.
#[derive(Debug)]
pub struct CommandRequest {
    /// What to write.
    pub value: Value,
    /// The sender's name for it.
    pub id: String,
    /// Takes the outcome. Dropping it is an outcome too: the device stopped.
    /// A closed one says that the command expired in the queue: it must not be
    /// carried out any more.
    pub reply: oneshot::Sender<CommandOutcome>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandOutcome {
    /// Written, and this was read back.
    Done {
        /// The value at the device.
        read_back: Value,
    },
    /// Not tried.
    Refused {
        /// Why.
        reason: String,
    },
    /// Tried, and the device did not take it or did not answer.
    Failed {
        /// Machine-readable cause, as in a reading's status.
        status: String,
    },
}

impl CommandOutcome {
    /// The word in records and results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Who sent a command, and where the answer is wanted.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The client identifier.
    pub client: String,
    /// `mqtt-3.1.1` or `mqtt-5`.
    pub protocol: &'static str,
    /// Where MQTT 5 clients want the answer, besides `<path>/set/result`.
    pub response_topic: Option<TopicName>,
    /// What the answer carries back.
    pub correlation: Option<Bytes>,
}

/// The writable tags of all devices. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    writable: Arc<Mutex<BTreeMap<Box<str>, Writable>>>,
    registrations: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Writable {
    registration: u64,
    rule: WriteRule,
    device: mpsc::Sender<CommandRequest>,
}

/// Keeps a tag writable for as long as it lives.
#[derive(Debug)]
pub struct Registration {
    commands: Commands,
    path: Box<str>,
    number: u64,
}

impl Commands {
    /// Makes the tag at `path` writable. A later registration of the same path
    /// replaces this one.
    #[must_use]
    pub fn register(
        &self,
        path: &str,
        rule: WriteRule,
        device: mpsc::Sender<CommandRequest>,
    ) -> Registration {
        let number = self.registrations.fetch_add(1, Ordering::Relaxed);
        let writable = Writable {
            registration: number,
            rule,
            device,
        };
        self.writable.lock().insert(path.into(), writable);
        Registration {
            commands: self.clone(),
            path: path.into(),
            number,
        }
    }

    /// The rule and the queue of a writable tag.
    pub fn writable(&self, path: &str) -> Option<(WriteRule, mpsc::Sender<CommandRequest>)> {
        let writable = self.writable.lock();
        let found = writable.get(path)?;
        Some((found.rule, found.device.clone()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut writable = self.commands.writable.lock();
        if writable
            .get(&self.path)
            .is_some_and(|one| one.registration == self.number)
        {
            writable.remove(&self.path);
        }
    }
}
