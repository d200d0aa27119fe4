//! The join barrier, the assignment that follows it, and members that leave.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Effects, Group, State, join_refused, sync_refused};
use crate::group::member::Member;
use crate::group::{GroupError, Waiter};

impl Group {
    pub(super) fn prepare(&mut self, now_ms: u64, initial_delay_ms: u64, effects: &mut Effects) {
        for member in self.members.values_mut() {
            if let Some(waiter) = member.sync_waiter.take() {
                member.touch(now_ms);
                effects.push_back(sync_refused(waiter, GroupError::RebalanceInProgress));
            }
        }
        let deadline_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
        let not_before_ms = now_ms.saturating_add(initial_delay_ms).min(deadline_ms);
        self.state = State::Preparing {
            not_before_ms,
            deadline_ms,
        };
    }

    pub(super) fn all_wait(&self) -> bool {
        self.pending.is_empty()
            && self
                .members
                .values()
                .all(|member| member.join_waiter.is_some())
    }

    pub(super) fn try_complete(&mut self, now_ms: u64, effects: &mut Effects) {
        if let State::Preparing { not_before_ms, .. } = self.state
            && not_before_ms <= now_ms
            && self.all_wait()
        {
            self.complete_join(now_ms, effects);
        }
    }

    pub(super) fn complete_join(&mut self, now_ms: u64, effects: &mut Effects) {
        let late = |member: &Member| member.join_waiter.is_none() && member.instance_id.is_none();
        self.members.retain(|_, member| !late(member));
        if self.members.is_empty() {
            self.become_empty(now_ms);
            return;
        }
        let first_waiting = self
            .members
            .iter()
            .find(|(_, m)| m.join_waiter.is_some())
            .map(|(id, _)| id.clone());
        let Some(first_waiting) = first_waiting else {
            // Only static members are left and none came; their sessions decide.
            self.prepare(now_ms, 0, effects);
            return;
        };
        let leader_waits = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader))
            .is_some_and(|member| member.join_waiter.is_some());
        if !leader_waits {
            self.leader = Some(first_waiting);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.vote();
        let deadline_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
        self.state = State::Completing { deadline_ms };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let waiter = self.members.get_mut(&id).and_then(|member| {
                member.assignment = Bytes::new();
                member.join_waiter.take()
            });
            if let Some(waiter) = waiter {
                self.answer_join(now_ms, waiter, &id, effects);
            }
        }
    }

    /// Each member votes for the first of its protocols that all support.
    pub(super) fn vote(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|(name, _)| self.members.values().all(|m| m.supports(name)));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default()
    }

    pub(super) fn assign(
        &mut self,
        now_ms: u64,
        assignments: &[(String, Bytes)],
        effects: &mut Effects,
    ) {
        for (id, bytes) in assignments {
            if let Some(member) = self.members.get_mut(id) {
                member.assignment = bytes.clone();
            }
        }
        self.state = State::Stable;
        let waiting: Vec<(String, Waiter)> = self
            .members
            .iter_mut()
            .filter_map(|(id, member)| member.sync_waiter.take().map(|waiter| (id.clone(), waiter)))
            .collect();
        for (id, waiter) in waiting {
            self.answer_sync(now_ms, waiter, &id, effects);
        }
        // Members that have not synced yet get a whole session from here.
        self.members
            .values_mut()
            .for_each(|member| member.touch(now_ms));
    }

    pub(super) fn drop_unsynced(&mut self, now_ms: u64, effects: &mut Effects) {
        let silent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| m.sync_waiter.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &silent {
            self.remove_member(id, GroupError::UnknownMember, effects);
        }
        self.prepare(now_ms, 0, effects);
        self.after_removal(now_ms, effects);
    }

    pub(super) fn remove_member(
        &mut self,
        member_id: &str,
        reason: GroupError,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(waiter) = member.join_waiter {
            effects.push_back(join_refused(waiter, reason, member_id));
        }
        if let Some(waiter) = member.sync_waiter {
            effects.push_back(sync_refused(waiter, reason));
        }
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = None;
        }
    }

    pub(super) fn after_removal(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.members.is_empty() && !matches!(self.state, State::Empty { .. }) {
            self.become_empty(now_ms);
            return;
        }
        if matches!(self.state, State::Stable | State::Completing { .. }) {
            self.prepare(now_ms, 0, effects);
        }
        self.try_complete(now_ms, effects);
    }

    pub(super) fn become_empty(&mut self, now_ms: u64) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.state = State::Empty { since_ms: now_ms };
        self.leader = None;
        self.protocol.clear();
        self.instances.clear();
    }
}
