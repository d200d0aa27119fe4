//! Subscriptions of one session that match one message, folded into one
//! delivery (section 3.3.4).

use std::sync::Arc;

use super::SubscriberId;
use crate::mqtt::feeds::FeedId;
use crate::mqtt::message::Message;

/// What a subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Whose subscription it is.
    pub subscriber: SubscriberId,
    /// Highest quality of service.
    pub qos: u8,
    /// MQTT 5 subscription identifier.
    pub identifier: Option<u32>,
    /// Whether the publisher's retain flag is kept (section 3.8.3.1).
    pub retain_as_published: bool,
    /// Whether the subscriber's own messages are left out (section 3.8.3.1).
    pub no_local: bool,
}

impl Grant {
    /// Whether the subscription of `client` is for such a message.
    pub fn admits(&self, message: &Message, client: &str) -> bool {
        !(self.no_local && message.is_from(client))
    }
}

/// A message on its way to one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The partition it was read from.
    pub feed: FeedId,
    /// Its offset there.
    pub offset: u64,
    /// The group of a shared subscription that it comes from; 0 for none.
    pub group: u32,
    /// The message, shared between the sessions that get it.
    pub message: Arc<Message>,
    /// The smaller of the publish's quality of service and the largest that
    /// the matching subscriptions ask for.
    pub qos: u8,
    /// The retain flag to send.
    pub retain: bool,
    /// Identifiers of the matching subscriptions.
    pub identifiers: Vec<u32>,
}

/// The subscriptions of one session that match one message, folded into one
/// delivery (section 3.3.4: deliver once with the maximum QoS).
#[derive(Clone, Debug, Default)]
pub struct Folded {
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
}

impl Folded {
    /// Adds a matching subscription.
    pub fn add(&mut self, grant: &Grant, message: &Message) {
        self.qos = self.qos.max(grant.qos.min(message.qos));
        self.retain |= grant.retain_as_published && message.retain;
        self.identifiers.extend(grant.identifier);
    }

    /// The delivery of `message` at its place.
    pub fn delivery(self, feed: FeedId, offset: u64, message: Arc<Message>) -> Delivery {
        Delivery {
            feed,
            offset,
            group: 0,
            message,
            qos: self.qos,
            retain: self.retain,
            identifiers: self.identifiers,
        }
    }
}
