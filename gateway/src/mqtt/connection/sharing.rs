//! The connection as a member of groups (section 4.8.2).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use forebay_mqtt::packet::{Subscription as Request, SubscriptionId};
use forebay_mqtt::session::{Cursor, InflightStage};
use forebay_mqtt::{Qos, ReasonCode, TopicFilter};
use tokio::sync::mpsc;

use super::Connection;
use crate::mqtt::dispatch::{Delivery, Folded, Grant, UNLOGGED_FEED};
use crate::mqtt::feeds::FeedId;
use crate::mqtt::message::Message;
use crate::mqtt::sessions::record::{Changes, SubscriptionRecord};
use crate::mqtt::shares::{Group, Member, MemberGrant};
use crate::mqtt::stats::count;
use crate::mqtt::stream::ByteStream;

/// The group of a QoS 2 delivery that an earlier connection began: the group
/// has given it to this session for good.
pub(super) const FORMER_GROUP: u32 = u32::MAX;

/// The connection's groups.
pub(super) struct Sharing {
    member: Arc<Member>,
    queue: mpsc::Receiver<Delivery>,
    /// By number, left ones included as long as the connection lives: it may
    /// still have messages of theirs.
    groups: HashMap<u32, Arc<Group>>,
    limit: usize,
}

impl Sharing {
    /// Moves what the groups gave into the list.
    pub fn drain(&mut self, pending: &mut VecDeque<Delivery>) {
        while let Ok(delivery) = self.queue.try_recv() {
            pending.push_back(delivery);
        }
    }
}

/// Waits for a message of a group.
pub(super) async fn shared_arrives(sharing: Option<&mut Sharing>) -> Option<Delivery> {
    match sharing {
        Some(sharing) => sharing.queue.recv().await,
        None => std::future::pending().await,
    }
}

/// The machine's cursor of a message: the partition in the low half of the
/// stream's number, the group in the high half.
pub(super) fn cursor(group: u32, feed: FeedId, offset: u64) -> Cursor {
    Cursor {
        stream: u64::from(group) << 32 | u64::from(feed.0),
        position: offset,
    }
}

/// The group in a cursor, 0 for none.
pub(super) fn group_of(cursor: Cursor) -> u32 {
    (cursor.stream >> 32) as u32
}

/// The partition in a cursor.
pub(super) fn feed_of(cursor: Cursor) -> FeedId {
    FeedId(cursor.stream as u32)
}

impl<S: ByteStream> Connection<S> {
    /// Makes a shared subscription, or tells why not.
    pub(super) fn share(
        &mut self,
        request: &Request,
        identifier: Option<SubscriptionId>,
    ) -> Result<(), ReasonCode> {
        let limit = self.node.config.subscriptions_per_session_max;
        let opened = self.opened.as_ref().ok_or(ReasonCode::UnspecifiedError)?;
        // A copy, because the request's filter holds on to its read buffer.
        let filter = TopicFilter::try_from(request.filter.as_str())
            .map_err(|_| ReasonCode::TopicFilterInvalid)?;
        if !opened.shares.contains_key(&filter) && opened.subscription_count() >= limit {
            return Err(ReasonCode::QuotaExceeded);
        }
        let grant = MemberGrant {
            qos: request.options.qos as u8,
            identifier: identifier.map(SubscriptionId::value),
            retain_as_published: request.options.retain_as_published,
        };
        self.join(filter, grant)
    }

    /// Becomes a member of the groups of a resumed session again.
    pub(super) fn rejoin(&mut self, records: &[SubscriptionRecord]) {
        for record in records {
            let Ok(filter) = TopicFilter::try_from(record.filter.as_str()) else {
                continue;
            };
            let grant = MemberGrant {
                qos: record.qos,
                identifier: record.identifier,
                retain_as_published: record.retain_as_published,
            };
            if let Err(reason) = self.join(filter, grant) {
                tracing::warn!(%reason, filter = record.filter, "shared subscription not resumed");
            }
        }
    }

    fn join(&mut self, filter: TopicFilter, grant: MemberGrant) -> Result<(), ReasonCode> {
        let limit = self.machine.inflight_limit();
        let Some(opened) = &mut self.opened else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let id = opened.claim.number();
        let sharing = self.outbound.sharing.get_or_insert_with(|| {
            let (sender, queue) = mpsc::channel(limit.max(1));
            Box::new(Sharing {
                member: Member::new(id, limit, sender),
                queue,
                groups: HashMap::new(),
                limit,
            })
        });
        let client = opened.claim.client();
        let persistent = opened.is_persistent();
        let group = self
            .node
            .shares
            .join(&filter, client, persistent, grant, &sharing.member)
            .map_err(|error| {
                tracing::warn!(%error, "shared subscription refused");
                ReasonCode::QuotaExceeded
            })?;
        sharing.groups.insert(group.number, group);
        opened.shares.insert(filter, grant);
        Ok(())
    }

    /// Adds the records of groups that this session makes persistent.
    pub(super) fn stage_groups(&self, changes: &mut Changes) {
        for group in self.own_groups() {
            group.stage(&self.node.dispatch, changes);
        }
    }

    /// Takes note that they were committed.
    pub(super) fn groups_are_recorded(&self) {
        for group in self.own_groups() {
            group.is_now_recorded();
        }
    }

    fn own_groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let groups = self.outbound.sharing.iter().flat_map(|s| s.groups.values());
        groups.filter(|group| {
            let opened = self.opened.as_ref();
            opened.is_some_and(|opened| opened.shares.contains_key(&group.filter))
        })
    }

    /// The machine took a message, or it had expired.
    pub(super) fn shared_taken(&mut self, delivery: &Delivery, is_expired: bool) {
        if is_expired {
            count(&self.node.stats.deliveries_expired);
        }
        let Some(sharing) = &self.outbound.sharing else {
            return;
        };
        let inflight = sharing.limit.saturating_sub(self.machine.can_deliver());
        sharing.member.set_inflight(inflight);
        if delivery.group == 0 {
            return;
        }
        sharing.member.dequeued();
        if let Some(group) = sharing.groups.get(&delivery.group)
            && (is_expired || delivery.qos == 0)
        {
            group.finish(delivery.feed, delivery.offset);
        }
        sharing.groups.values().for_each(|group| group.notify());
    }

    /// The client is done with a message, which makes room for another.
    pub(super) fn finish_shared(&mut self, cursor: Cursor) {
        let Some(sharing) = &self.outbound.sharing else {
            return;
        };
        let inflight = sharing.limit.saturating_sub(self.machine.can_deliver());
        sharing.member.set_inflight(inflight);
        if let Some(group) = sharing.groups.get(&group_of(cursor)) {
            group.finish(feed_of(cursor), cursor.position);
        }
        sharing.groups.values().for_each(|group| group.notify());
    }

    /// The state key that makes a QoS 2 message of a group this client's.
    pub(super) fn taken_key(&self, cursor: Cursor) -> Option<Vec<u8>> {
        let sharing = self.outbound.sharing.as_ref()?;
        let group = sharing.groups.get(&group_of(cursor))?;
        let feed = feed_of(cursor);
        if feed == UNLOGGED_FEED {
            return None;
        }
        let key = self.node.dispatch.feed(feed).key;
        group.take(feed, &key, cursor.position)
    }

    /// Gives back what other members can have and keeps QoS 2 messages that
    /// were sent \[MQTT-4.8.2-4\].
    pub(super) fn leave_groups(&mut self) {
        let Some(sharing) = self.outbound.sharing.take() else {
            return;
        };
        self.outbound.pending.retain(|delivery| delivery.group == 0);
        let inflight = self.machine.inflight();
        for (number, group) in &sharing.groups {
            let sent = inflight.iter().filter(|one| {
                group_of(one.cursor) == *number
                    && one.stage != InflightStage::Published(Qos::AtLeastOnce)
            });
            let kept: Vec<_> = sent
                .map(|one| (feed_of(one.cursor), one.cursor.position))
                .collect();
            group.depart(sharing.member.id, &kept);
        }
    }

    /// How a message of a former group is sent again: as the session's shared
    /// subscriptions ask for.
    pub(super) fn shared_fold(&self, message: &Message) -> Folded {
        let mut folded = Folded::default();
        let shares = self.opened.iter().flat_map(|opened| &opened.shares);
        let matching = shares.filter(|(filter, _)| filter.matches(&message.path));
        if let Some((_, grant)) = matching.last() {
            let grant = Grant {
                subscriber: 0,
                qos: grant.qos,
                identifier: grant.identifier,
                retain_as_published: grant.retain_as_published,
                no_local: false,
            };
            folded.add(&grant, message);
        }
        folded
    }
}
