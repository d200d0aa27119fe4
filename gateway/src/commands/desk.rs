//! The way of a command: judged, written down, handed to its device, answered.
//!
//! One task takes commands in the order in which they came. It judges each by
//! the [`Gate`] and appends the intent to the log. A second task hands them to
//! the devices in the same order, each when its intent is durable, and a task
//! per command waits for the outcome. Nothing here reads the log, so nothing is
//! carried out again after a restart; a command whose outcome was not written
//! down when the process ended is told to have failed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_mqtt::{Text, TopicName};
use forebay_storage::{Storage, Ticket};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::gate::{Accepted, Attempt, Gate, Moment};
use super::journal::{self, Answer, Entry, Stage};
use super::{CommandOutcome, CommandRequest, Commands, Sender};
use crate::config;
use crate::ledger::{Change, Ledger, LedgerError};
use crate::mqtt::message::{Message, MessageProperties};
use crate::readings::Publisher;

/// What a path ends with at which a tag is written.
const SET: &str = "/set";

/// What is added to the path of a command for its answer.
const RESULT: &str = "/result";

/// Commands that wait to be judged. Beyond it the connection that brings one
/// is not read, which slows its client down by TCP.
const WAITING_MAX: usize = 256;

/// Commands that devices have. Beyond it they are refused: a device that hangs
/// must not hold up those of others.
const UNDER_WAY_MAX: usize = 256;

/// How long after its expiry a command's outcome is waited for. A device that
/// began in time needs a write, a read-back and their repetitions.
const GRACE: Duration = Duration::from_secs(15);

/// How long outcomes are waited for when the node stops. The devices have
/// stopped by then, and writing takes a commit.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// A publish to the `/set` of a writable tag.
#[derive(Debug)]
pub struct Incoming {
    /// The tag's path.
    pub path: String,
    /// What was published.
    pub payload: Bytes,
    /// Whether it was to be retained.
    pub is_retained: bool,
    /// Who published it.
    pub sender: Sender,
}

/// Where commands are handed in. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Incoming>,
}

struct Shared {
    gate: Mutex<Gate>,
    commands: Commands,
    publisher: Publisher,
    ledger: Ledger,
    started: Instant,
    under_way: Arc<Semaphore>,
}

/// The tasks behind a [`Desk`].
pub struct Clerk {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Incoming>,
}

/// A command that is accepted and in the log.
struct Recorded {
    path: String,
    sender: Sender,
    accepted: Accepted,
    intent: Ticket,
    device: mpsc::OwnedPermit<CommandRequest>,
    place: OwnedSemaphorePermit,
}

impl Desk {
    /// A desk for the writable tags of `commands`, and what has to run for it.
    pub fn new(
        policy: config::Commands,
        commands: Commands,
        publisher: Publisher,
        storage: Storage,
    ) -> (Self, Clerk) {
        let shared = Arc::new(Shared {
            gate: Mutex::new(Gate::new(policy)),
            commands,
            publisher,
            ledger: Ledger::new(storage, journal::TOPIC),
            started: Instant::now(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        });
        let (sender, incoming) = mpsc::channel(WAITING_MAX);
        let desk = Self {
            shared: Arc::clone(&shared),
            incoming: sender,
        };
        (desk, Clerk { shared, incoming })
    }

    /// The tag that a publish to `path` commands. `None` when it is a publish
    /// like any other: no device has such a writable tag.
    pub fn commanded<'a>(&self, path: &'a str) -> Option<&'a str> {
        let tag = path.strip_suffix(SET)?;
        self.shared.commands.writable(tag).map(|_| tag)
    }

    /// Hands a command in. It is answered at `<path>/set/result` and, when the
    /// sender gave one, at its response topic.
    pub async fn submit(&self, incoming: Incoming) {
        if self.incoming.send(incoming).await.is_err() {
            tracing::debug!("a command came while the node stops");
        }
    }

    /// Goes by another `[commands]` section from here on.
    pub fn set_policy(&self, policy: config::Commands) {
        self.shared.gate.lock().set_policy(policy);
    }
}

impl Clerk {
    /// Works until `stop` becomes true and every outcome is written down, or
    /// a second has passed.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if let Err(error) = self.shared.recall().await {
            tracing::error!(%error, "commands of before the restart are not settled");
        }
        let (recorded, dispatched) = mpsc::channel(UNDER_WAY_MAX);
        let dispatching = tokio::spawn(dispatch(Arc::clone(&self.shared), dispatched));
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(incoming) = self.incoming.recv() => {
                    let taken = self.shared.take(incoming).await;
                    // Room for all that may be under way: this does not wait.
                    if let Some(taken) = taken && recorded.send(taken).await.is_err() {
                        break;
                    }
                }
            }
        }
        drop(recorded);
        if timeout(STOP_LIMIT, dispatching).await.is_err() {
            tracing::warn!("outcomes of commands are written down at the next start");
        }
    }
}

/// Completes when the node is to stop. What the channel lends stays in here,
/// because a task that holds it across an await cannot move between threads.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Shared {
    /// Judges a command and writes its intent down.
    async fn take(&self, incoming: Incoming) -> Option<Recorded> {
        let Incoming {
            path,
            payload,
            is_retained,
            sender,
        } = incoming;
        // The device may have stopped between the publish and here.
        let (rule, device) = self.commands.writable(&path)?;
        let now = self.moment();
        let attempt = Attempt {
            path: &path,
            payload: &payload,
            client: &sender.client,
            is_retained,
            rule,
        };
        let (gone, judged) = {
            let mut gate = self.gate.lock();
            (gate.forget_expired(now.wall_ms), gate.judge(attempt, now))
        };
        let mut changes: Vec<Change> = gone.iter().map(journal::forgotten).collect();
        let accepted = match judged {
            Ok(accepted) => accepted,
            Err(refused) => {
                let id = refused.id.as_deref();
                self.refuse(&path, id, &sender, refused.reason, &changes)
                    .await;
                return None;
            }
        };
        let id = accepted.id.as_str();
        let place = Arc::clone(&self.under_way).try_acquire_owned();
        let (place, device) = match (place, device.try_reserve_owned()) {
            (Ok(place), Ok(device)) => (place, device),
            (place, device) => {
                let reason = match device {
                    Err(mpsc::error::TrySendError::Closed(_)) => "device-stopped",
                    Err(mpsc::error::TrySendError::Full(_)) if place.is_ok() => "device-queue-full",
                    _ => "busy",
                };
                let expires_ms = accepted.expires_ms;
                changes.push(journal::remembered(&path, id, expires_ms, Stage::Settled));
                self.refuse(&path, Some(id), &sender, reason, &changes)
                    .await;
                return None;
            }
        };
        changes.push(journal::remembered(
            &path,
            id,
            accepted.expires_ms,
            Stage::Pending,
        ));
        let entry = Entry {
            value: Some(journal::Json(&accepted.value)),
            expires: Some(accepted.expires_ms),
            ..Entry::new("intent", &path, Some(id), now.wall_ms).from(&sender)
        };
        match self
            .ledger
            .write(&path, &entry.to_json(), now.wall_ms, &changes)
            .await
        {
            Ok(intent) => Some(Recorded {
                path,
                sender,
                accepted,
                intent,
                device,
                place,
            }),
            Err(error) => {
                tracing::error!(path, %error, "command refused: it cannot be written down");
                let reason = "not-recorded".to_owned();
                let outcome = CommandOutcome::Refused { reason };
                self.answer(&path, Some(id), Some(&sender), &outcome).await;
                None
            }
        }
    }

    async fn refuse(
        &self,
        path: &str,
        id: Option<&str>,
        sender: &Sender,
        reason: &'static str,
        changes: &[Change],
    ) {
        let outcome = CommandOutcome::Refused {
            reason: reason.to_owned(),
        };
        let now = self.publisher.clock().now_ms();
        let entry = Entry::new("refused", path, id, now)
            .from(sender)
            .with(&outcome);
        tracing::warn!(path, id, client = sender.client, reason, "command refused");
        if let Err(error) = self
            .ledger
            .write(path, &entry.to_json(), now, changes)
            .await
        {
            tracing::error!(path, %error, "a refusal is not written down");
        }
        self.answer(path, id, Some(sender), &outcome).await;
    }

    /// Writes down what became of a command, and answers it.
    async fn settle(
        &self,
        path: &str,
        id: &str,
        expires_ms: i64,
        sender: Option<&Sender>,
        outcome: &CommandOutcome,
    ) -> Result<(), LedgerError> {
        let now = self.publisher.clock().now_ms();
        let entry = Entry::new("outcome", path, Some(id), now).with(outcome);
        let entry = match sender {
            Some(sender) => entry.from(sender),
            None => entry,
        };
        let change = journal::remembered(path, id, expires_ms, Stage::Settled);
        self.ledger
            .write(path, &entry.to_json(), now, &[change])
            .await?;
        self.answer(path, Some(id), sender, outcome).await;
        Ok(())
    }

    async fn answer(
        &self,
        path: &str,
        id: Option<&str>,
        sender: Option<&Sender>,
        outcome: &CommandOutcome,
    ) {
        counter!("forebay_commands_total", "outcome" => outcome.name()).increment(1);
        let now = self.publisher.clock().now_ms();
        let payload = Bytes::from(Answer::new(id, outcome, now).to_json());
        let correlation = sender.and_then(|sender| sender.correlation.clone());
        let own = Text::from_bytes(format!("{path}{SET}{RESULT}").into_bytes().into());
        let own = own.ok().and_then(|text| TopicName::new(text).ok());
        let asked = sender.and_then(|sender| sender.response_topic.clone());
        let asked =
            asked.filter(|asked| !asked.as_str().starts_with('$') && own.as_ref() != Some(asked));
        for path in own.into_iter().chain(asked) {
            let message = Message {
                path,
                payload: payload.clone(),
                qos: 1,
                timestamp_ms: now,
                properties: correlation.clone().map(|correlation_data| {
                    Box::new(MessageProperties {
                        correlation_data: Some(correlation_data),
                        ..MessageProperties::default()
                    })
                }),
                ..Message::default()
            };
            if let Err(error) = self.publisher.publish_message(&message).await {
                tracing::error!(path = message.path.as_str(), %error, "result not published");
            }
        }
    }

    /// Remembers the commands of before the restart, and tells those without
    /// an outcome that they failed: nobody knows whether they were carried out.
    async fn recall(&self) -> Result<(), LedgerError> {
        let storage = self.ledger.storage().clone();
        let reading = tokio::task::spawn_blocking(move || storage.scan_prefix(journal::PREFIX));
        let found = reading.await.map_err(|_| LedgerError::Closing)?;
        let found = found.iter();
        let found: Vec<_> = found
            .filter_map(|(key, value)| journal::recall(key, value))
            .collect();
        for (path, id, expires_ms, _) in &found {
            self.gate.lock().remember(path, id, *expires_ms);
        }
        for (path, id, expires_ms, stage) in &found {
            if *stage == Stage::Pending {
                let status = "gateway-restarted".to_owned();
                let outcome = CommandOutcome::Failed { status };
                self.settle(path, id, *expires_ms, None, &outcome).await?;
            }
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        let clock = self.publisher.clock();
        Moment {
            wall_ms: clock.now_ms(),
            elapsed: self.started.elapsed(),
            is_trusted: clock.is_trusted(),
        }
    }
}

/// Hands commands to their devices in their order, each when its intent is
/// durable.
async fn dispatch(shared: Arc<Shared>, mut recorded: mpsc::Receiver<Recorded>) {
    let mut waiting = JoinSet::new();
    loop {
        let command = tokio::select! {
            command = recorded.recv() => command,
            Some(_) = waiting.join_next(), if !waiting.is_empty() => continue,
        };
        let Some(command) = command else { break };
        shared.publisher.durable(command.intent).await;
        let left = command.accepted.expires_ms - shared.publisher.clock().now_ms();
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let (reply, outcome) = oneshot::channel();
        let Recorded {
            path,
            sender,
            accepted,
            device,
            place,
            ..
        } = command;
        let Accepted {
            id,
            value,
            expires_ms,
        } = accepted;
        if left.is_zero() {
            // The disk took longer than the command may wait.
            let reason = "expired".to_owned();
            // The receiver is right here.
            let _ = reply.send(CommandOutcome::Refused { reason });
        } else {
            let id = id.clone();
            device.send(CommandRequest { value, id, reply });
        }
        let shared = Arc::clone(&shared);
        waiting.spawn(async move {
            let outcome = outcome_of(outcome, left + GRACE).await;
            let settled = shared.settle(&path, &id, expires_ms, Some(&sender), &outcome);
            if let Err(error) = settled.await {
                tracing::error!(path, id, %error, "the outcome of a command is not written down");
            }
            drop(place);
        });
    }
    while waiting.join_next().await.is_some() {}
}

async fn outcome_of(outcome: oneshot::Receiver<CommandOutcome>, limit: Duration) -> CommandOutcome {
    let failed = |status: &str| CommandOutcome::Failed {
        status: status.to_owned(),
    };
    match timeout(limit, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => failed("device-stopped"),
        Err(_) => failed("no-answer"),
    }
}
