//! From the client to the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_mqtt::packet::{Publish, PublishProperties, Will, WillProperties};
use forebay_mqtt::session::{Outcome, Token};
use forebay_mqtt::{Effect, PacketId, ReasonCode, Text, Version};
use forebay_storage::{AppendError, Ticket, Transaction};

use super::{Connection, Waiting};
use crate::commands::Sender;
use crate::commands::desk::Incoming;
use crate::mqtt::message::{Message, MessageProperties};
use crate::mqtt::node::{Refusal, now_ms};
use crate::mqtt::sessions::record;
use crate::mqtt::stats::count;
use crate::mqtt::stream::ByteStream;
use crate::mqtt::wills;

/// How long the deadline of a will is tried to be written.
const WILL_WRITE_MAX: Duration = Duration::from_secs(2);

impl<S: ByteStream> Connection<S> {
    /// Appends a publish. False when the storage pushes back.
    pub(super) async fn publish(&mut self, token: Option<Token>, publish: Publish) -> bool {
        let message = self.message(&publish);
        if !self.may_publish(message.path.as_str()) {
            // At QoS 0 nobody waits for the outcome; it is counted.
            if let Some(token) = token {
                self.refuse(token, ReasonCode::NotAuthorized);
            }
            return true;
        }
        self.count_publish(&message);
        let command = self.command(&message);
        if self.node.ingest.routes().is_memory(message.path.as_str()) {
            let published = self.node.publish_live(&message);
            let is_command = published.is_ok();
            let goes_on = self.publish_live(token, published, publish);
            if is_command {
                self.submit(command).await;
            }
            return goes_on;
        }
        let received = match (publish.packet_id, &self.opened) {
            (Some(packet_id), Some(opened)) if message.qos == 2 && opened.is_persistent() => Some(
                record::received_key(opened.claim.client(), packet_id.value()),
            ),
            _ => None,
        };
        let mut appended = self.node.append(&message, received.as_deref());
        if let Err(Refusal::Missing(missing)) = appended {
            appended = match Box::pin(self.node.create(missing)).await {
                true => self.node.append(&message, received.as_deref()),
                false => Err(Refusal::Reason(ReasonCode::QuotaExceeded)),
            };
        }
        if let Ok(ticket) = appended {
            self.last_append = ticket;
            self.submit(command).await;
        }
        match (appended, token) {
            (Ok(ticket), Some(token)) => self.wait_for(ticket, Waiting::Acknowledge(token)),
            (Err(Refusal::Later), _) => {
                self.is_repeated = true;
                self.blocked = Some(Effect::Publish { token, publish });
                return false;
            }
            (Err(Refusal::Reason(reason)), Some(token)) => {
                self.refuse(token, reason);
            }
            (Err(Refusal::Missing(_)), Some(token)) => {
                self.refuse(token, ReasonCode::UnspecifiedError);
            }
            (Err(Refusal::Closing), _) => self.machine.shut_down(Instant::now()),
            // QoS 0: nobody waits for the outcome; refusals are counted.
            (Ok(_) | Err(_), None) => {}
        }
        true
    }

    /// The command that a publish is, if it is one. Wills and what bridges
    /// bring do not come here, so they command nothing.
    fn command(&self, message: &Message) -> Option<Incoming> {
        let path = self
            .node
            .commands
            .as_ref()?
            .commanded(message.path.as_str())?;
        let properties = message.properties.as_deref();
        Some(Incoming {
            path: path.to_owned(),
            payload: message.payload.clone(),
            is_retained: message.retain,
            sender: Sender {
                client: self.machine.client_id().as_str().to_owned(),
                protocol: match self.machine.version() {
                    Version::V311 => "mqtt-3.1.1",
                    Version::V5 => "mqtt-5",
                },
                response_topic: properties.and_then(|p| p.response_topic.clone()),
                correlation: properties.and_then(|p| p.correlation_data.clone()),
            },
        })
    }

    /// Hands a published command in. Its acknowledgement does not wait for it.
    async fn submit(&self, command: Option<Incoming>) {
        if let (Some(command), Some(desk)) = (command, &self.node.commands) {
            // Boxed: an idle connection does not pay for it.
            Box::pin(desk.submit(command)).await;
        }
    }

    /// Counts a publish, once however often its append is tried.
    fn count_publish(&mut self, message: &Message) {
        if std::mem::take(&mut self.is_repeated) {
            return;
        }
        self.traffic.payload_in += message.payload.len() as u64;
        let len = message.path.as_str().len() + message.payload.len();
        if let Some(throttle) = &mut self.throttle
            && throttle.count(self.now, len)
        {
            count(&self.node.stats.throttled);
        }
    }

    /// Publishes on a memory topic. Nothing of it is on disk, so it is
    /// acknowledged at once; a QoS 2 packet id is known as long as the
    /// connection. False when a retained copy has to wait for the storage.
    fn publish_live(
        &mut self,
        token: Option<Token>,
        published: Result<Option<Ticket>, Refusal>,
        publish: Publish,
    ) -> bool {
        match (published, token) {
            (Ok(Some(ticket)), Some(token)) => {
                self.wait_for(ticket, Waiting::Acknowledge(token));
            }
            (Ok(None), Some(token)) => self.acknowledge(token),
            (Err(Refusal::Later), _) => {
                self.is_repeated = true;
                self.blocked = Some(Effect::Publish { token, publish });
                return false;
            }
            (Err(Refusal::Closing), _) => self.machine.shut_down(Instant::now()),
            (Err(Refusal::Reason(reason)), Some(token)) => self.refuse(token, reason),
            (Err(Refusal::Missing(_)), Some(token)) => {
                self.refuse(token, ReasonCode::UnspecifiedError);
            }
            (Ok(_) | Err(_), None) => {}
        }
        true
    }

    /// Forgets a received QoS 2 packet id. False when the storage pushes back.
    pub(super) fn release_qos2(&mut self, token: Token, packet_id: PacketId) -> bool {
        let mut transaction = Transaction::new();
        match &self.opened {
            Some(opened) if opened.is_persistent() => {
                let key = record::received_key(opened.claim.client(), packet_id.value());
                transaction.delete(&key);
            }
            _ => {
                self.acknowledge(token);
                return true;
            }
        }
        self.commit_for(transaction, token, Effect::ReleaseQos2 { token, packet_id })
    }

    /// Commits state and acknowledges `token` when it is durable. False, and
    /// `effect` is tried again, when the storage pushes back.
    pub(super) fn commit_for(
        &mut self,
        transaction: Transaction,
        token: Token,
        effect: Effect,
    ) -> bool {
        match self.node.storage.commit(transaction) {
            Ok(committed) => self.wait_for(committed.ticket, Waiting::Acknowledge(token)),
            Err(AppendError::Backpressure { .. }) => {
                self.blocked = Some(effect);
                return false;
            }
            Err(error) => self.give_up(&error),
        }
        true
    }

    fn message(&self, publish: &Publish) -> Message {
        let is_signed = publish.retain || self.opened.as_ref().is_some_and(|o| o.has_no_local);
        let client_id = is_signed.then(|| self.machine.client_id().clone());
        Message {
            path: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos: publish.qos as u8,
            retain: publish.retain,
            timestamp_ms: now_ms(),
            properties: properties(&publish.properties, client_id),
        }
    }

    fn refuse(&mut self, token: Token, reason: ReasonCode) {
        let refused = Outcome::Refused { reason };
        self.machine.acknowledge(Instant::now(), token, refused);
    }

    /// Publishes the will, or sees to it that it is published after its delay.
    pub(super) async fn publish_will(&mut self, will: Will, delay: Duration) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        let client = Arc::clone(opened.claim.client());
        let stored = opened.will.take();
        let node = Arc::clone(&self.node);
        if let Some(stored) = stored.filter(|_| !delay.is_zero()) {
            let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let deadline_ms = now_ms().saturating_add(delay_ms);
            let changes = node.wills.arm(&client, &stored, deadline_ms);
            if let Err(error) = node.commit_soon(&changes, WILL_WRITE_MAX).await {
                // After a restart the delay begins anew.
                tracing::debug!(%error, "deadline of a will not written");
            }
            return;
        }
        let message = will_message(&will, self.machine.client_id().clone());
        wills::publish(&node, message, &client).await;
    }

    /// Forgets the will \[MQTT-3.14.4-3\].
    pub(super) async fn discard_will(&mut self) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        if opened.will.take().is_some() {
            let client = Arc::clone(opened.claim.client());
            if let Err(error) = wills::discard(&self.node, &client).await {
                tracing::warn!(%error, client = &*client, "will not removed");
            }
        }
    }
}

fn properties(from: &PublishProperties, client_id: Option<Text>) -> Option<Box<MessageProperties>> {
    let properties = MessageProperties {
        payload_is_utf8: from.payload_is_utf8 == Some(true),
        expiry_seconds: from.message_expiry_interval,
        content_type: from.content_type.clone(),
        response_topic: from.response_topic.clone(),
        correlation_data: from.correlation_data.clone(),
        user: from.user_properties.clone(),
        client_id,
        bridge: None,
    };
    (properties != MessageProperties::default()).then(|| Box::new(properties))
}

/// The message that a will becomes.
pub(super) fn will_message(will: &Will, client_id: Text) -> Message {
    let WillProperties {
        payload_is_utf8,
        message_expiry_interval,
        content_type,
        response_topic,
        correlation_data,
        user_properties,
        ..
    } = will.properties.clone();
    let publish = PublishProperties {
        payload_is_utf8,
        message_expiry_interval,
        content_type,
        response_topic,
        correlation_data,
        user_properties,
        ..PublishProperties::default()
    };
    Message {
        path: will.topic.clone(),
        payload: will.payload.clone(),
        qos: will.qos as u8,
        retain: will.retain,
        timestamp_ms: now_ms(),
        properties: properties(&publish, Some(client_id)),
    }
}
