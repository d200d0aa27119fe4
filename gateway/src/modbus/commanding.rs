//! Commands: from the queue of a tag to the bus, and their outcome back.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_modbus::bus::{WriteFailure, WriteId};
use forebay_modbus::client::Client;
use forebay_modbus::value::Value as Register;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::plan::Plan;
use super::value_of;
use crate::commands::{CommandOutcome, CommandRequest, Commands, Registration};
use crate::readings::Value;

/// A command that has not left by then is given up: whoever sent it has looked
/// at the machine by now.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Commands of one tag that wait for the bus. Their rate is limited per tag, so
/// a second one waits only while the first is written.
const WAITING_PER_TAG_MAX: usize = 4;

/// Commands of all tags that wait for the bus, as many as it queues itself.
const WAITING_MAX: usize = forebay_modbus::bus::WRITES_MAX;

/// A command and the position of its tag.
pub(super) type Command = (usize, CommandRequest);

/// The commands of one bus.
pub(super) struct Commanding {
    waiting: mpsc::Receiver<Command>,
    /// One task per writable tag moves its commands into `waiting`; they end
    /// with this.
    forwarding: JoinSet<()>,
    registrations: Vec<Registration>,
    /// Commands that the bus has. Bounded by what it queues.
    started: BTreeMap<WriteId, oneshot::Sender<CommandOutcome>>,
    /// Keeps `waiting` open while nothing is writable.
    _open: mpsc::Sender<Command>,
}

impl Commanding {
    /// Makes the plan's tags writable.
    pub(super) fn new(commands: &Commands, plan: &Plan) -> Self {
        let (open, waiting) = mpsc::channel(WAITING_MAX);
        let mut commanding = Self {
            waiting,
            forwarding: JoinSet::new(),
            registrations: Vec::new(),
            started: BTreeMap::new(),
            _open: open,
        };
        commanding.register(commands, plan);
        commanding
    }

    /// Makes the plan's tags writable instead of those of before.
    pub(super) fn register(&mut self, commands: &Commands, plan: &Plan) {
        let (open, waiting) = mpsc::channel(WAITING_MAX);
        self.forwarding = JoinSet::new();
        self.registrations.clear();
        for (tag, path, rule) in &plan.writable {
            let (device, mut requests) = mpsc::channel(WAITING_PER_TAG_MAX);
            self.registrations
                .push(commands.register(path, *rule, device));
            let (tag, waiting) = (*tag, open.clone());
            self.forwarding.spawn(async move {
                while let Some(request) = requests.recv().await {
                    if waiting.send((tag, request)).await.is_err() {
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
        match self.waiting.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }

    /// A command that waits already.
    pub(super) fn queued(&mut self) -> Option<Command> {
        self.waiting.try_recv().ok()
    }

    /// Hands a command to the bus, or answers that it cannot be tried.
    pub(super) fn start(&mut self, client: &mut Client, (tag, request): Command) {
        if request.reply.is_closed() {
            return;
        }
        let started = register_of(&request.value).map(|value| {
            let written = client.write(tag, &value, SEND_WITHIN);
            written.map_err(|error| error.to_string())
        });
        let refused = "expected true, false, a number or a text".to_owned();
        match started.unwrap_or(Err(refused)) {
            Ok(id) => {
                self.started.insert(id, request.reply);
            }
            Err(reason) => {
                // Nobody who waits is no failure.
                let _ = request.reply.send(CommandOutcome::Refused { reason });
            }
        }
    }

    /// Answers a command.
    pub(super) fn end(&mut self, id: WriteId, result: Result<Register, WriteFailure>) {
        let Some(reply) = self.started.remove(&id) else {
            return;
        };
        let outcome = match result {
            Ok(value) => CommandOutcome::Done {
                read_back: value_of(value),
            },
            Err(failure) => CommandOutcome::Failed {
                status: match failure {
                    WriteFailure::NotSent(status) | WriteFailure::NotConfirmed(status) => {
                        status.name().to_owned()
                    }
                    WriteFailure::NotReadBack(status) => {
                        format!("not-read-back-{}", status.name())
                    }
                },
            },
        };
        let _ = reply.send(outcome);
    }

    /// The bus is replaced: nothing that it has will be answered.
    pub(super) fn forget(&mut self) {
        self.started.clear();
    }
}

/// A value as registers hold values; `None` for lists and nothing.
fn register_of(value: &Value) -> Option<Register> {
    Some(match value {
        Value::Bool(on) => Register::Bool(*on),
        Value::Signed(number) => Register::Signed(*number),
        Value::Unsigned(number) => Register::Unsigned(*number),
        Value::Float(number) => Register::Float(*number),
        Value::Text(text) => Register::Text(text.as_ref().into()),
        Value::Null | Value::List(_) => return None,
    })
}
