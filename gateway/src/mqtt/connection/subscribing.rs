//! SUBSCRIBE and UNSUBSCRIBE.

use forebay_mqtt::packet::{RetainHandling, Subscription as Request, SubscriptionId};
use forebay_mqtt::session::Token;
use forebay_mqtt::{Effect, Qos, ReasonCode, TopicFilter};
use forebay_storage::AppendError;

use super::opening::Subscribed;
use super::{Connection, Waiting};
use crate::mqtt::dispatch::{Grant, Subscription};
use crate::mqtt::sessions::record::{
    self, Changes, CursorRecord, PlaceRecord, SessionRecord, SubscriptionRecord,
};
use crate::mqtt::stats::count;
use crate::mqtt::stream::ByteStream;

impl<S: ByteStream> Connection<S> {
    /// Makes subscriptions. False when the storage pushes back; making them
    /// again does no harm.
    pub(super) fn subscribe(
        &mut self,
        token: Token,
        requests: Vec<Request>,
        identifier: Option<SubscriptionId>,
    ) -> bool {
        let again = |requests| Effect::Subscribe {
            token,
            subscriptions: requests,
            identifier,
        };
        let is_no_local = requests.iter().any(|request| request.options.no_local);
        if is_no_local && self.last_append > *self.committed.borrow() {
            // What the client published before does not say by whom, so the
            // subscription has to begin behind it.
            self.blocked = Some(again(requests));
            return false;
        }
        if self.outbound.subscriber.is_none() {
            self.attach(&[], &CursorRecord::default());
        }
        let mut reasons = Vec::with_capacity(requests.len());
        let mut retained = Vec::new();
        for request in &requests {
            if !self.may_subscribe(request.filter.as_str()) {
                reasons.push(ReasonCode::NotAuthorized);
                continue;
            }
            if request.filter.is_shared() {
                reasons.push(match self.share(request, identifier) {
                    Ok(()) => granted_reason(request.options.qos),
                    Err(reason) => reason,
                });
                continue;
            }
            let granted = self.subscribe_one(request, identifier);
            if let Some((grant, is_new)) = granted
                && wants_retained(request.options.retain_handling, is_new)
            {
                let mut paths = self.node.retained.matching(&request.filter);
                paths.extend(self.node.sys.matching(&request.filter));
                retained.extend(paths.into_iter().map(|path| (path, grant)));
            }
            reasons.push(match granted {
                Some(_) => granted_reason(request.options.qos),
                None => ReasonCode::QuotaExceeded,
            });
        }
        // The session's record lists them too.
        let before = self.outbound.retained.wanted_count();
        self.outbound.retained.extend(retained);
        if !self.write_session(again(requests), Waiting::Subscribed(token, reasons)) {
            self.outbound.retained.truncate(before);
            return false;
        }
        true
    }

    /// Ends subscriptions. False when the storage pushes back.
    pub(super) fn unsubscribe(&mut self, token: Token, filters: Vec<TopicFilter>) -> bool {
        let Some(opened) = &mut self.opened else {
            return true;
        };
        let id = opened.claim.number();
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in &filters {
            if filter.is_shared() {
                let is_member = opened.shares.remove(filter).is_some();
                let client = opened.claim.client();
                self.node.shares.leave(filter, client, id);
                reasons.push(match is_member {
                    true => ReasonCode::Success,
                    false => ReasonCode::NoSubscriptionExisted,
                });
                continue;
            }
            reasons.push(match opened.subscriptions.remove(filter) {
                Some(_) => ReasonCode::Success,
                None => ReasonCode::NoSubscriptionExisted,
            });
            self.node.dispatch.unsubscribe(id, filter);
        }
        let again = Effect::Unsubscribe { token, filters };
        self.write_session(again, Waiting::Unsubscribed(token, reasons))
    }

    fn subscribe_one(
        &mut self,
        request: &Request,
        identifier: Option<SubscriptionId>,
    ) -> Option<(Grant, bool)> {
        let limit = self.node.config.subscriptions_per_session_max;
        let opened = self.opened.as_mut()?;
        // A copy, because the request's filter holds on to its read buffer.
        let filter = TopicFilter::try_from(request.filter.as_str()).ok()?;
        let known = opened.subscriptions.get(&filter);
        if known.is_none() && opened.subscription_count() >= limit {
            count(&self.node.stats.subscriptions_refused);
            return None;
        }
        let grant = Grant {
            subscriber: opened.claim.number(),
            qos: request.options.qos as u8,
            identifier: identifier.map(SubscriptionId::value),
            retain_as_published: request.options.retain_as_published,
            no_local: request.options.no_local,
        };
        let subscription = Subscription {
            filter: filter.clone(),
            grant,
        };
        let starts = self.node.dispatch.subscribe(grant.subscriber, subscription);
        let is_new = known.is_none();
        // A replaced subscription goes on where it counted from before.
        let starts = match known {
            Some(known) => known.starts.clone(),
            None => starts.into_iter().collect(),
        };
        let subscribed = Subscribed { grant, starts };
        opened.subscriptions.insert(filter, subscribed);
        opened.has_no_local |= grant.no_local;
        Some((grant, is_new))
    }

    /// Writes subscriptions and cursors in one commit, so that the first
    /// message behind a SUBACK is found again after a crash, and no older one.
    fn write_session(&mut self, again: Effect, waiting: Waiting) -> bool {
        let mut changes = Changes::default();
        match &self.opened {
            Some(opened) if opened.is_persistent() => {
                let record = self.session_record(opened.expiry_seconds);
                let key = record::session_key(opened.claim.client());
                changes.put(key, &record);
            }
            _ => {
                self.answer(waiting);
                return true;
            }
        }
        self.stage_cursors(None, &mut changes);
        self.stage_groups(&mut changes);
        match self.node.storage.commit(changes.transaction()) {
            Ok(committed) => {
                self.outbound.checkpointed();
                self.groups_are_recorded();
                self.wait_for(committed.ticket, waiting);
            }
            Err(AppendError::Backpressure { .. }) => {
                self.blocked = Some(again);
                return false;
            }
            Err(error) => self.give_up(&error),
        }
        true
    }

    /// The record of the session as it is.
    pub(super) fn session_record(&self, expiry_seconds: u32) -> SessionRecord {
        let subscriptions = self.opened.iter().flat_map(|o| &o.subscriptions);
        let record = |(filter, subscribed): (&TopicFilter, &Subscribed)| SubscriptionRecord {
            filter: filter.as_str().to_owned(),
            qos: subscribed.grant.qos,
            identifier: subscribed.grant.identifier,
            retain_as_published: subscribed.grant.retain_as_published,
            no_local: subscribed.grant.no_local,
            starts: subscribed
                .starts
                .iter()
                .map(|(feed, start)| PlaceRecord::new(&self.node.dispatch.feed(*feed).key, *start))
                .collect(),
        };
        let shares = self.opened.iter().flat_map(|o| &o.shares);
        let shares = shares.map(|(filter, grant)| SubscriptionRecord {
            filter: filter.as_str().to_owned(),
            qos: grant.qos,
            identifier: grant.identifier,
            retain_as_published: grant.retain_as_published,
            no_local: false,
            starts: Vec::new(),
        });
        SessionRecord {
            user: self.admission.claimant().user().map(ToString::to_string),
            expiry_seconds,
            subscriptions: subscriptions.map(record).chain(shares).collect(),
        }
    }
}

/// Section 3.8.3.1: retain handling.
fn wants_retained(handling: RetainHandling, is_new: bool) -> bool {
    match handling {
        RetainHandling::SendAtSubscribe => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    }
}

fn granted_reason(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::Success,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}
