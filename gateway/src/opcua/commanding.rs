//! Commands: from the queue of a tag to its node, and their outcome back.

use std::sync::Arc;

use forebay_opcua::client::{Client, WriteError};
use forebay_opcua::value::Value as NodeValue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::value_of;
use crate::commands::{CommandOutcome, CommandRequest, Commands, Registration, WriteRule};
use crate::config;
use crate::readings::Value;

/// Commands of one tag that wait for the session. Their rate is limited per tag,
/// so a second one waits only while the first is written.
const WAITING_PER_TAG_MAX: usize = 4;

/// Commands of all tags that wait for the session, as many as it queues itself.
const WAITING_MAX: usize = 64;

/// A command and the name of its node.
pub(super) type Command = (Arc<str>, CommandRequest);

/// The commands of one server.
pub(super) struct Commanding {
    waiting: mpsc::Receiver<Command>,
    /// One task per writable node moves its commands into `waiting`, and one per
    /// write waits for its end. They end with this.
    forwarding: JoinSet<()>,
    writing: JoinSet<()>,
    registrations: Vec<Registration>,
    /// Keeps `waiting` open while nothing is writable.
    _open: mpsc::Sender<Command>,
}

impl Commanding {
    /// Makes the server's nodes writable.
    pub(super) fn new(commands: &Commands, wanted: &config::OpcUa) -> Self {
        let (open, waiting) = mpsc::channel(WAITING_MAX);
        let mut commanding = Self {
            waiting,
            forwarding: JoinSet::new(),
            writing: JoinSet::new(),
            registrations: Vec::new(),
            _open: open,
        };
        commanding.register(commands, wanted);
        commanding
    }

    /// Makes these nodes writable instead of those of before.
    pub(super) fn register(&mut self, commands: &Commands, wanted: &config::OpcUa) {
        let (open, waiting) = mpsc::channel(WAITING_MAX);
        self.forwarding = JoinSet::new();
        self.registrations.clear();
        for (name, write) in &wanted.writes {
            let (device, mut requests) = mpsc::channel(WAITING_PER_TAG_MAX);
            let path = format!("{}/{name}", wanted.name);
            let rule = WriteRule {
                kind: write.kind,
                min: write.limits.min,
                max: write.limits.max,
                min_interval: write.limits.min_interval,
            };
            self.registrations
                .push(commands.register(&path, rule, device));
            let (name, waiting) = (Arc::<str>::from(name.as_str()), open.clone());
            self.forwarding.spawn(async move {
                while let Some(request) = requests.recv().await {
                    if waiting.send((Arc::clone(&name), request)).await.is_err() {
                        return;
                    }
                }
            });
        }
        self.waiting = waiting;
        self._open = open;
    }

    /// Waits for a command. Safe to cancel.
    pub(super) async fn next(&mut self) -> Command {
        loop {
            tokio::select! {
                Some(command) = self.waiting.recv() => return command,
                Some(_) = self.writing.join_next() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Hands a command to the session.
    pub(super) fn start(&mut self, client: &Client, (name, request): Command) {
        if request.reply.is_closed() {
            return;
        }
        let Some(value) = node_value(&request.value) else {
            let reason = "expected true, false, a number or a text".to_owned();
            // Nobody who waits is no failure.
            let _ = request.reply.send(CommandOutcome::Refused { reason });
            return;
        };
        let written = client.write(name, value);
        self.writing.spawn(async move {
            let outcome = match written.await {
                Ok(Ok(value)) => CommandOutcome::Done {
                    read_back: value_of(&value),
                },
                Ok(Err(error)) => failure(&error),
                // The session ended with the write on its way.
                Err(_) => CommandOutcome::Failed {
                    status: "disconnected".to_owned(),
                },
            };
            let _ = request.reply.send(outcome);
        });
    }
}

fn failure(error: &WriteError) -> CommandOutcome {
    let status = match error {
        WriteError::Misfit(_) => {
            return CommandOutcome::Refused {
                reason: "wrong-type".to_owned(),
            };
        }
        WriteError::NotWritable => "BadNotWritable".to_owned(),
        WriteError::Type => "BadTypeMismatch".to_owned(),
        WriteError::NotConnected => "disconnected".to_owned(),
        WriteError::Refused(status) => (*status).to_owned(),
        WriteError::NotReadBack(status) => format!("not-read-back-{status}"),
    };
    CommandOutcome::Failed { status }
}

/// A value as nodes hold values; `None` for lists and nothing.
fn node_value(value: &Value) -> Option<NodeValue> {
    Some(match value {
        Value::Bool(on) => NodeValue::Bool(*on),
        Value::Signed(number) => NodeValue::Signed(*number),
        Value::Unsigned(number) => NodeValue::Unsigned(*number),
        Value::Float(number) => NodeValue::Float(*number),
        Value::Text(text) => NodeValue::Text(Arc::clone(text)),
        Value::Null | Value::List(_) => return None,
    })
}
