//! Bridges: messages to and from MQTT brokers that exist already.
//!
//! Outgoing, the log is the queue. A bridge is a cursor per partition, moved
//! when the broker has acknowledged, so what is published while the broker is
//! away, or while the node is down, is carried later. Incoming, a message is
//! acknowledged when its record is durable; until then the broker keeps it in
//! the bridge's session. Both ways that is at least once: a crash repeats
//! messages and loses none.
//!
//! Nothing goes in circles. A message that came in by a bridge has a header
//! that says so and is not carried back by it; a message that goes out carries
//! the user property `forebay-bridge` with the node's name, and one that comes
//! in with it is dropped. MQTT 3.1.1 has no user properties, so there a message
//! that goes out on a topic the bridge also takes in comes back once.

mod cursors;
mod link;
mod mapping;
mod outbox;
mod receipts;
mod window;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use forebay_mqtt::Text;
use forebay_storage::Ticket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::config::Bridge;
use crate::devices::{DeviceContext, DeviceState};
use crate::mqtt::message::Message;
use crate::mqtt::node::now_ms;
use crate::readings::PublishError;
use crate::tls::ClientTls;
use link::{Event, Gone, Incoming, Link, Secured};
use mapping::Mappings;
use outbox::{MARK, Outbox};
use receipts::{Overrun, Receipts};

/// First pause after a failure.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest pause: a broker that comes back is found within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A connection that held this long was a good one: the next failure starts
/// with the first pause again.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How often moved cursors are written. After a crash what was acknowledged
/// since is carried again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Longest password file; a password has at most 65,535 bytes.
const PASSWORD_LEN_MAX: usize = 65_535;

/// The alarm about the end of the certificate that the broker is shown. It is
/// looked at with each connection.
const CERTIFICATE_ALARM: &str = "certificate";

/// Why a connection ended.
enum End {
    /// The node stops.
    Stop,
    /// The configuration changed.
    Changed,
    /// It was lost or could not be made.
    Lost(String),
    /// The client took nothing more; its last event says why.
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Overrun> for End {
    fn from(overrun: Overrun) -> Self {
        Self::Lost(overrun.to_string())
    }
}

/// Runs a bridge until `stop` becomes true. Its cursors are written on return
/// and durable with the next commit.
pub async fn run(
    mut config: watch::Receiver<Arc<Bridge>>,
    context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) {
    let settings = Arc::clone(&config.borrow_and_update());
    let storage = context.publisher.storage().clone();
    let outbox = Outbox::open(&settings.name, &settings.node, storage);
    let mut bridge = Running {
        committed: context.publisher.commits(),
        mappings: Mappings::default(),
        settings,
        outbox,
        receipts: Receipts::default(),
        subscribing: Vec::new(),
        context,
    };
    let mut pause = RETRY_MIN;
    loop {
        bridge.configure();
        let began = Instant::now();
        let end = bridge.connect(&mut config, &mut stop).await;
        bridge.receipts.clear();
        bridge.outbox.checkpoint();
        let reason = match end {
            End::Stop => break,
            End::Changed => {
                bridge.settings = Arc::clone(&config.borrow_and_update());
                pause = RETRY_MIN;
                continue;
            }
            End::Lost(reason) => reason,
            End::Gone => Gone.to_string(),
        };
        bridge.context.health.set_state(DeviceState::Down, &reason);
        bridge.context.health.add_errors(1);
        if began.elapsed() >= STABLE_AFTER {
            pause = RETRY_MIN;
        }
        tokio::select! {
            () = stopped(&mut stop) => break,
            changed = config.changed() => {
                if changed.is_err() {
                    break;
                }
                bridge.settings = Arc::clone(&config.borrow_and_update());
            }
            () = sleep(jitter(pause)) => {}
        }
        bridge.context.health.add_reconnect();
        pause = (pause * 2).min(RETRY_MAX);
    }
    bridge.outbox.release();
}

/// A bridge between configurations and connections.
struct Running {
    settings: Arc<Bridge>,
    context: DeviceContext,
    mappings: Mappings,
    outbox: Outbox,
    committed: watch::Receiver<Ticket>,
    /// Messages of the broker that are not acknowledged.
    receipts: Receipts<Ticket>,
    /// Subscriptions that wait for the broker's answer.
    subscribing: Vec<String>,
}

impl Running {
    fn configure(&mut self) {
        let (mappings, mistakes) = Mappings::new(&self.settings.topics);
        self.mappings = mappings;
        let health = &self.context.health;
        health.set_tags(self.mappings.len() as u64);
        match mistakes.is_empty() {
            true => health.clear_alarm("topics"),
            false => health.alarm("topics", &mistakes.join("; ")),
        }
        if !self.mappings.has_out() {
            self.outbox.release();
        }
        // Also without a connection: what is published from here on is kept.
        self.refresh();
    }

    fn refresh(&mut self) {
        if self.mappings.has_out() {
            let ingest = self.context.publisher.ingest();
            self.outbox.refresh(ingest.routes());
        }
    }

    /// One connection, from its beginning to its end.
    async fn connect(
        &mut self,
        config: &mut watch::Receiver<Arc<Bridge>>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let health = self.context.health.clone();
        let address = self.settings.address.to_string();
        health.set_state(DeviceState::Connecting, &address);
        let password = match password(&self.settings, &self.context.config_dir) {
            Ok(password) => password,
            Err(reason) => return End::Lost(reason),
        };
        let tls = match self.tls().await {
            Ok(tls) => tls,
            Err(reason) => return End::Lost(reason),
        };
        let mut link = Link::open(&self.settings, password, tls);
        let mut is_open = false;
        let mut ticks = interval(CHECKPOINT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if is_open && let Err(end) = self.turn(&link).await {
                return explained(link, end).await;
            }
            let event = tokio::select! {
                () = stopped(stop) => return self.leave(link, End::Stop).await,
                changed = config.changed() => {
                    // Without a sender there is no configuration to follow.
                    let end = changed.map_or(End::Stop, |()| End::Changed);
                    return self.leave(link, end).await;
                }
                event = link.event() => event,
                Ok(()) = self.committed.changed() => continue,
                _ = ticks.tick() => {
                    self.outbox.checkpoint();
                    continue;
                }
            };
            is_open |= matches!(event, Event::Connected { .. });
            if let Err(end) = self.handle(&link, event).await {
                return explained(link, end).await;
            }
        }
    }

    /// Reads what TLS needs, and looks how long the own certificate counts.
    async fn tls(&self) -> Result<Option<Secured>, String> {
        let Some(settings) = self.settings.tls.clone() else {
            return Ok(None);
        };
        let reading = tokio::task::spawn_blocking(move || {
            let tls = ClientTls::new(settings);
            let config = tls.named_config().map_err(|error| error.to_string())?;
            let own = tls.watched("bridge");
            let alarm = own.and_then(|own| own.expiry_alarm(SystemTime::now()));
            Ok::<_, String>((Secured { tls, config }, alarm))
        });
        let read = reading.await.map_err(|error| error.to_string())?;
        let (secured, alarm) = read?;
        let health = &self.context.health;
        match alarm {
            Some(alarm) => health.alarm(CERTIFICATE_ALARM, &alarm),
            None => health.clear_alarm(CERTIFICATE_ALARM),
        }
        Ok(Some(secured))
    }

    /// Acknowledges what is durable and sends what there is.
    async fn turn(&mut self, link: &Link) -> Result<(), End> {
        let committed = *self.committed.borrow_and_update();
        while let Some(receipt) = self.receipts.next(committed) {
            link.acknowledge(receipt)?;
        }
        if self.mappings.has_out() {
            self.refresh();
            self.outbox
                .pump(link, &self.mappings, &self.context.health)
                .await?;
        }
        Ok(())
    }

    async fn handle(&mut self, link: &Link, event: Event) -> Result<(), End> {
        match event {
            Event::Connected {
                session_present,
                receive_maximum,
                packet_max,
            } => {
                let limit = receive_maximum.map_or(usize::MAX, |max| usize::from(max) - 1);
                let limit = limit.min(usize::from(self.settings.inflight)).max(1);
                self.outbox.rewind(limit, packet_max);
                if !self.subscribe(link, session_present)? {
                    self.report_connected();
                }
            }
            Event::Message(incoming) => self.take(*incoming).await?,
            Event::Written(packet_id) => self.outbox.sent(packet_id),
            Event::ReceiptWritten => self.receipts.written(),
            Event::Acknowledged { packet_id, refused } => {
                if let Some(refused) = refused {
                    let text = format!("the broker refused a message: {}", refused.reason);
                    self.context.health.add_errors(1);
                    self.context.health.alarm("refused", &text);
                    if refused.is_temporary {
                        return Err(End::Lost(text));
                    }
                }
                self.outbox.acknowledged(packet_id);
            }
            Event::Subscribed(0) => {
                self.context.health.clear_alarm("subscriptions");
                self.report_connected();
                if let Err(error) = self.outbox.cursors().subscribed(&self.subscribing) {
                    tracing::debug!(%error, "subscriptions not written down");
                }
            }
            Event::Subscribed(refused) => {
                let text = format!("the broker refused {refused} subscriptions");
                self.context.health.alarm("subscriptions", &text);
                let health = &self.context.health;
                health.set_state(DeviceState::Degraded, &text);
            }
            Event::Disconnected => {}
            Event::Lost(reason) => return Err(End::Lost(reason)),
        }
        Ok(())
    }

    /// From here on the broker keeps what it gets for this bridge.
    fn report_connected(&self) {
        let address = self.settings.address.to_string();
        let health = &self.context.health;
        health.set_state(DeviceState::Connected, &address);
    }

    /// Makes the subscriptions, unless the broker has them: making them again
    /// would bring all its retained messages again. Returns whether an answer
    /// is on its way.
    fn subscribe(&mut self, link: &Link, session_present: bool) -> Result<bool, End> {
        let wanted = self.mappings.subscriptions();
        let lines = wanted.iter().map(|(filter, qos)| format!("{qos} {filter}"));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        let known = self.outbox.cursors().subscriptions();
        if session_present && known == lines {
            return Ok(false);
        }
        if session_present {
            let filters = known.iter().filter_map(|line| line.split_once(' '));
            for (_, filter) in filters {
                if !wanted.iter().any(|(wanted, _)| wanted == filter) {
                    link.unsubscribe(filter)?;
                }
            }
        }
        self.subscribing = lines;
        if !wanted.is_empty() {
            link.subscribe(&wanted)?;
        }
        Ok(!wanted.is_empty())
    }

    /// Appends a message of the broker.
    async fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        let Incoming { message, receipt } = incoming;
        let Some(message) = message.and_then(|message| self.inward(message)) else {
            // Nothing to keep: its own echo, or on no topic that is mapped.
            return Ok(self.receipts.dropped(receipt)?);
        };
        let health = self.context.health.clone();
        match self.context.publisher.publish_message(&message).await {
            Ok(ticket) => {
                health.add_readings(1, message.timestamp_ms);
                Ok(self.receipts.kept(ticket, receipt)?)
            }
            Err(PublishError::Closing) => Err(End::Lost("the node stops".to_owned())),
            // The broker keeps it until there is room.
            Err(error @ PublishError::Full { .. }) => Err(End::Lost(error.to_string())),
            Err(error) => {
                health.add_errors(1);
                health.alarm("refused-here", &error.to_string());
                Ok(self.receipts.dropped(receipt)?)
            }
        }
    }

    /// The message as it is here. `None` when it is not to be kept.
    fn inward(&self, message: Message) -> Option<Message> {
        let mut properties = message.properties.unwrap_or_default();
        let node = self.settings.node.as_str();
        let is_own = |(name, value): &(Text, Text)| name.as_str() == MARK && value.as_str() == node;
        if properties.user.iter().any(is_own) {
            return None;
        }
        properties.bridge = Text::try_from(self.settings.name.as_str()).ok();
        Some(Message {
            path: self.mappings.to_local(&message.path)?,
            timestamp_ms: now_ms(),
            properties: Some(properties),
            ..message
        })
    }

    /// Says goodbye in an orderly way. What is not acknowledged is carried
    /// again.
    async fn leave(&mut self, mut link: Link, end: End) -> End {
        let goodbye = async {
            let mut is_open = link.disconnect().is_ok();
            while is_open {
                match link.event().await {
                    Event::Disconnected | Event::Lost(_) => is_open = false,
                    Event::Written(packet_id) => self.outbox.sent(packet_id),
                    Event::Acknowledged {
                        packet_id,
                        refused: None,
                    } => self.outbox.acknowledged(packet_id),
                    _ => {}
                }
            }
        };
        // A broker that does not take it notices the closed connection.
        let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        end
    }
}

/// Finds out why the client took nothing more.
async fn explained(mut link: Link, end: End) -> End {
    match end {
        End::Gone => match tokio::time::timeout(GOODBYE_MAX, link.last_words()).await {
            Ok(reason) => End::Lost(reason),
            Err(_) => End::Gone,
        },
        end => end,
    }
}

/// Three quarters to five quarters, so that bridges that lost one broker do
/// not come back at one moment.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

fn password(settings: &Bridge, directory: &Path) -> Result<Option<String>, String> {
    let Some(file) = &settings.password_file else {
        return Ok(None);
    };
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.len() > PASSWORD_LEN_MAX {
        return Err(format!("{} is longer than a password", path.display()));
    }
    Ok(Some(password.to_owned()))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = stop.wait_for(|stop| *stop).await;
}
