//! Sparkplug: the gateway as an aware MQTT server and as a host application.
//!
//! Everything that edge nodes publish goes, by a route of its own, to one log
//! topic with the edge node as the key, so that it keeps its order. One task
//! reads that topic from a durable cursor. Births are kept as retained messages
//! below `$sparkplug/certificates/`; metrics become readings. A page of the
//! log, the readings that it became, the certificates, the state of the edge
//! nodes and the cursor behind it are one commit: nothing is lost and nothing
//! is emitted twice, whenever the power goes.
//!
//! The rules of the protocol are in `forebay_sparkplug`; [`host`] applies them
//! to the log, [`output`] makes the records.

mod host;
mod output;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_mqtt::{Text, TopicName};
use forebay_sparkplug::state::{HostState, StateMessage, state_topic};
use forebay_sparkplug::{MessageKind, Payload, Topic, with_timestamp};
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::config;
use crate::devices::{DeviceContext, DeviceState};
use crate::mqtt::message::Message;
use host::{Host, Opening, StepError, Work};

/// What clients cannot publish to.
pub const RESERVED_PREFIX: &str = "$sparkplug/";

/// Pause after the storage refused a commit for another reason than being
/// behind, a full disk for instance.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// The alarm about readings that cannot be stored.
const REFUSED: &str = "not-stored";

/// Follows the edge nodes until `stop` becomes true, or until nobody holds the
/// configuration any more.
pub async fn run(
    mut config: watch::Receiver<Arc<config::Sparkplug>>,
    context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) {
    let mut opening = Opening::AfterRestart;
    loop {
        let settings = Arc::clone(&config.borrow_and_update());
        let session = Session::open(settings, &context, opening).await;
        let mut session = match session {
            Ok(session) => session,
            Err(error) => {
                context
                    .health
                    .set_state(DeviceState::Down, &error.to_string());
                return;
            }
        };
        let end = session.follow(&mut config, &mut stop).await;
        session.close().await;
        match end {
            End::Changed => opening = Opening::WhileRunning,
            End::Stopped => return,
        }
    }
}

/// Why [`Session::follow`] returns.
enum End {
    /// The configuration is another one.
    Changed,
    /// The node stops, or the log does not go on.
    Stopped,
}

/// One run with one configuration.
struct Session {
    context: DeviceContext,
    settings: Arc<config::Sparkplug>,
    /// Away while a step runs.
    host: Option<Host>,
    state: Option<HostState>,
}

impl Session {
    async fn open(
        settings: Arc<config::Sparkplug>,
        context: &DeviceContext,
        opening: Opening,
    ) -> Result<Self, JoinError> {
        let (publisher, wanted) = (context.publisher.clone(), Arc::clone(&settings));
        let open = move || Host::open(&publisher, wanted, opening, now_ms());
        let host = tokio::task::spawn_blocking(open).await?;
        let mut session = Self {
            context: context.clone(),
            settings,
            state: None,
            host: Some(host),
        };
        if let Some(id) = session.settings.host_id.clone() {
            let last = session.retained_state(&id).await;
            let (state, birth) = HostState::start(now_ms(), last);
            session.state = Some(state);
            session.publish_state(&id, birth).await;
        }
        session.context.health.set_state(DeviceState::Connected, "");
        Ok(session)
    }

    /// Works off the log as it grows.
    async fn follow(
        &mut self,
        config: &mut watch::Receiver<Arc<config::Sparkplug>>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let mut commits = self.context.publisher.commits();
        loop {
            commits.borrow_and_update();
            let mut pause = self.host.as_ref().map_or(REFUSED_PAUSE, |host| {
                host.pause(now_ms(), self.settings.rebirth)
            });
            if pause.is_zero() {
                match self.step().await {
                    Ok(()) => {
                        self.context.health.clear_alarm(REFUSED);
                        if !*stop.borrow() && !config.has_changed().unwrap_or(true) {
                            continue;
                        }
                    }
                    Err(StepError::Closing) => return End::Stopped,
                    Err(StepError::Refused(reason)) => {
                        self.context.health.alarm(REFUSED, &reason);
                        pause = REFUSED_PAUSE;
                    }
                }
            }
            tokio::select! {
                () = stopped(stop) => return End::Stopped,
                changed = config.changed() => match changed {
                    Ok(()) => return End::Changed,
                    Err(_) => return End::Stopped,
                },
                _ = commits.changed(), if pause != REFUSED_PAUSE => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One page of the log, on a thread that may block.
    async fn step(&mut self) -> Result<(), StepError> {
        let Some(mut host) = self.host.take() else {
            return Err(StepError::Closing);
        };
        let health = self.context.health.clone();
        let asks = self.settings.rebirth;
        let step = move || {
            let work = host.step(now_ms(), asks, &health);
            (host, work)
        };
        let (host, work) = tokio::task::spawn_blocking(step)
            .await
            .map_err(|_| StepError::Closing)?;
        self.host = Some(host);
        let work: Work = work?;
        for (group, edge) in work.rebirths {
            tracing::info!(group, edge, "asking for births");
            let path = format!("spBv1.0/{group}/NCMD/{edge}");
            let request = Payload::rebirth_request(now_ms() as u64).encode();
            self.context.health.add_requests(1);
            self.publish(&path, request.into(), 0, false).await;
        }
        for seen in work.states {
            let answer = self.state.and_then(|state| state.handle(seen));
            if let (Some(answer), Some(id)) = (answer, self.settings.host_id.clone()) {
                self.publish_state(&id, answer).await;
            }
        }
        Ok(())
    }

    /// Says that the host is gone.
    async fn close(mut self) {
        if let (Some(state), Some(id)) = (&mut self.state, self.settings.host_id.clone()) {
            let death = state.stop();
            self.publish_state(&id, death).await;
        }
    }

    async fn retained_state(&self, id: &str) -> Option<StateMessage> {
        let path = TopicName::try_from(state_topic(id).as_str()).ok()?;
        let retained = Arc::clone(self.context.publisher.retained());
        let read = tokio::task::spawn_blocking(move || retained.read(&path)).await;
        StateMessage::parse(&read.ok()??.payload)
    }

    async fn publish_state(&self, id: &str, message: StateMessage) {
        let payload = Bytes::from(message.to_json());
        self.publish(&state_topic(id), payload, 1, true).await;
    }

    async fn publish(&self, path: &str, payload: Bytes, qos: u8, retain: bool) {
        let Some(path) = topic_name(path) else { return };
        let message = Message {
            path,
            payload,
            qos,
            retain,
            timestamp_ms: now_ms(),
            properties: None,
        };
        if let Err(error) = self.context.publisher.publish_message(&message).await {
            self.context.health.add_errors(1);
            tracing::warn!(%error, "Sparkplug message not published");
        }
    }
}

/// Gives an NDEATH the time of its message, which is that of its publication: a
/// will is written when its client connects. Anything else is left as it is.
pub fn stamp_death(message: &mut Message) {
    let is_death = matches!(
        Topic::parse(message.path.as_str()),
        Ok(Topic::Edge {
            kind: MessageKind::NodeDeath,
            ..
        })
    );
    if is_death
        && let Ok(now) = u64::try_from(message.timestamp_ms)
        && let Ok(stamped) = with_timestamp(&message.payload, now)
    {
        message.payload = stamped.into();
    }
}

fn topic_name(path: &str) -> Option<TopicName> {
    let text = Text::from_bytes(Bytes::copy_from_slice(path.as_bytes())).ok()?;
    TopicName::new(text).ok()
}

/// Waits until the node stops; a node that is gone stops as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
