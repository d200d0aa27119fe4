//! The state machine of one group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::member::{JoinRequest, JoinedMember, Member};
use super::{
    EMPTY_GROUP_KEPT_MS, Effect, GroupDescription, GroupError, GroupTiming, Identity, JoinRefused,
    Joined, MAX_ASSIGNMENT_BYTES, MAX_MEMBERS, SyncRequest, Synced, Waiter, subscribed_topics,
};

mod barrier;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No members.
    Empty { since_ms: u64 },
    /// The join barrier. It opens when every member waits, but not before
    /// `not_before_ms`; at `deadline_ms` it opens for those who came.
    Preparing {
        not_before_ms: u64,
        deadline_ms: u64,
    },
    /// Members have the generation, the leader's assignment is missing.
    Completing { deadline_ms: u64 },
    /// Members have their assignments.
    Stable,
}

#[derive(Debug)]
pub(super) struct Group {
    id: String,
    state: State,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Static instance id to member id.
    instances: BTreeMap<String, String>,
    /// Ids handed out by KIP-394 that have not rejoined, with their deadline.
    pending: BTreeMap<String, u64>,
}

type Effects = VecDeque<Effect>;

impl Group {
    pub(super) fn new(id: String, now_ms: u64) -> Self {
        Self {
            id,
            state: State::Empty { since_ms: now_ms },
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    pub(super) fn join(
        &mut self,
        now_ms: u64,
        timing: GroupTiming,
        waiter: Waiter,
        request: JoinRequest,
        new_member_id: String,
        effects: &mut Effects,
    ) -> Result<(), JoinRefused> {
        let given_id = request.member_id.clone();
        let refuse = |error| JoinRefused {
            error,
            member_id: given_id.clone(),
        };
        if !self.is_compatible(&request) {
            return Err(refuse(GroupError::InconsistentProtocol));
        }
        if !request.member_id.is_empty() {
            let member_id = request.member_id.clone();
            if request.instance_id.is_none() && self.pending.remove(&member_id).is_some() {
                self.add_member(now_ms, timing, waiter, member_id, request, effects);
                return Ok(());
            }
            self.check_member(Identity {
                member_id: &member_id,
                instance_id: request.instance_id.as_deref(),
            })
            .map_err(refuse)?;
            self.rejoin(now_ms, waiter, member_id, request, effects);
            return Ok(());
        }
        let replaced = request
            .instance_id
            .as_ref()
            .and_then(|instance| self.instances.get(instance).cloned());
        if let Some(old_id) = replaced {
            self.replace_static(now_ms, waiter, &old_id, new_member_id, request, effects);
            return Ok(());
        }
        if self.members.len() + self.pending.len() >= MAX_MEMBERS {
            return Err(refuse(GroupError::GroupFull));
        }
        if request.requires_member_id && request.instance_id.is_none() {
            self.pending.insert(
                new_member_id.clone(),
                now_ms.saturating_add(request.session_timeout_ms),
            );
            return Err(JoinRefused {
                error: GroupError::MemberIdRequired,
                member_id: new_member_id,
            });
        }
        self.add_member(now_ms, timing, waiter, new_member_id, request, effects);
        Ok(())
    }

    pub(super) fn sync(
        &mut self,
        now_ms: u64,
        waiter: Waiter,
        request: &SyncRequest,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let identity = Identity {
            member_id: &request.member_id,
            instance_id: request.instance_id.as_deref(),
        };
        self.check_generation(request.generation, identity)?;
        let differs =
            |given: &Option<String>, own: &str| given.as_ref().is_some_and(|given| given != own);
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty { .. } => Err(GroupError::UnknownMember),
            State::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            State::Stable => {
                self.answer_sync(now_ms, waiter, &request.member_id, effects);
                Ok(())
            }
            State::Completing { .. } => {
                if request
                    .assignments
                    .iter()
                    .any(|(_, bytes)| bytes.len() > MAX_ASSIGNMENT_BYTES)
                {
                    return Err(GroupError::MetadataTooLarge);
                }
                let member = self
                    .members
                    .get_mut(&request.member_id)
                    .ok_or(GroupError::UnknownMember)?;
                if let Some(old) = member.sync_waiter.replace(waiter) {
                    effects.push_back(sync_refused(old, GroupError::RebalanceInProgress));
                }
                if self.leader.as_deref() == Some(&request.member_id) {
                    self.assign(now_ms, &request.assignments, effects);
                }
                Ok(())
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now_ms: u64,
        generation: i32,
        identity: Identity<'_>,
    ) -> Result<(), GroupError> {
        self.check_generation(generation, identity)?;
        self.touch(now_ms, identity.member_id);
        match self.state {
            State::Empty { .. } => Err(GroupError::UnknownMember),
            State::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            State::Completing { .. } | State::Stable => Ok(()),
        }
    }

    pub(super) fn commit(
        &mut self,
        now_ms: u64,
        generation: i32,
        identity: Identity<'_>,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_generation(generation, identity)?;
        self.touch(now_ms, identity.member_id);
        match self.state {
            State::Completing { .. } => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn leave(
        &mut self,
        now_ms: u64,
        identity: Identity<'_>,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let by_instance = identity
            .instance_id
            .filter(|_| identity.member_id.is_empty());
        let member_id = match by_instance {
            Some(instance) => self
                .instances
                .get(instance)
                .cloned()
                .ok_or(GroupError::UnknownMember)?,
            None if self.pending.remove(identity.member_id).is_some() => {
                self.try_complete(now_ms, effects);
                return Ok(());
            }
            None => {
                self.check_member(identity)?;
                identity.member_id.to_owned()
            }
        };
        self.remove_member(&member_id, GroupError::UnknownMember, effects);
        self.after_removal(now_ms, effects);
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now_ms: u64, effects: &mut Effects) {
        self.pending.retain(|_, deadline_ms| *deadline_ms > now_ms);
        let lapsed: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.session_runs() && member.session_deadline_ms <= now_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &lapsed {
            self.remove_member(id, GroupError::UnknownMember, effects);
        }
        if !lapsed.is_empty() {
            self.after_removal(now_ms, effects);
        }
        match self.state {
            State::Preparing { deadline_ms, .. } if deadline_ms <= now_ms => {
                self.complete_join(now_ms, effects)
            }
            State::Preparing { .. } => self.try_complete(now_ms, effects),
            State::Completing { deadline_ms } if deadline_ms <= now_ms => {
                self.drop_unsynced(now_ms, effects)
            }
            _ => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(super) fn is_forgotten(&self, now_ms: u64) -> bool {
        match self.state {
            State::Empty { since_ms } => {
                self.is_empty() && now_ms >= since_ms.saturating_add(EMPTY_GROUP_KEPT_MS)
            }
            _ => false,
        }
    }

    pub(super) fn next_timeout_ms(&self) -> Option<u64> {
        let sessions = self
            .members
            .values()
            .filter(|m| m.session_runs())
            .map(|m| m.session_deadline_ms);
        let state = match self.state {
            State::Empty { since_ms } if self.is_empty() => {
                Some(since_ms.saturating_add(EMPTY_GROUP_KEPT_MS))
            }
            State::Preparing {
                not_before_ms,
                deadline_ms,
            } if self.all_wait() => Some(not_before_ms.min(deadline_ms)),
            State::Preparing { deadline_ms, .. } | State::Completing { deadline_ms } => {
                Some(deadline_ms)
            }
            State::Empty { .. } | State::Stable => None,
        };
        sessions
            .chain(self.pending.values().copied())
            .chain(state)
            .min()
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        self.members.values().map(Member::metadata_bytes).sum()
    }

    pub(super) fn subscriptions(&self) -> Vec<String> {
        if self.protocol_type != "consumer" {
            return Vec::new();
        }
        let of = |member: &Member| {
            let metadata = member
                .protocols
                .first()
                .map(|(_, metadata)| metadata.clone())
                .unwrap_or_default();
            subscribed_topics(&metadata)
        };
        self.members
            .values()
            .flat_map(of)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    pub(super) fn outline(&self) -> GroupDescription {
        let (state, has_protocol) = match self.state {
            State::Empty { .. } => ("Empty", false),
            State::Preparing { .. } => ("PreparingRebalance", false),
            State::Completing { .. } => ("CompletingRebalance", true),
            State::Stable => ("Stable", true),
        };
        GroupDescription {
            group_id: self.id.clone(),
            state,
            protocol_type: self.protocol_type.clone(),
            protocol: if has_protocol {
                self.protocol.clone()
            } else {
                String::new()
            },
            members: Vec::new(),
        }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        let outline = self.outline();
        let members = self
            .members
            .iter()
            .map(|(id, member)| member.describe(id, &outline.protocol))
            .collect();
        GroupDescription { members, ..outline }
    }

    // Joining.

    fn is_compatible(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let shared = |name: &str| {
            self.members
                .iter()
                .filter(|(id, _)| **id != request.member_id)
                .all(|(_, member)| member.supports(name))
        };
        request.protocol_type == self.protocol_type
            && request.protocols.iter().any(|(name, _)| shared(name))
    }

    fn add_member(
        &mut self,
        now_ms: u64,
        timing: GroupTiming,
        waiter: Waiter,
        member_id: String,
        request: JoinRequest,
        effects: &mut Effects,
    ) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&request.protocol_type);
        }
        if let Some(instance) = &request.instance_id {
            self.instances.insert(instance.clone(), member_id.clone());
        }
        let mut member = Member::new(now_ms, request);
        member.join_waiter = Some(waiter);
        self.members.insert(member_id, member);
        match &mut self.state {
            State::Empty { .. } => self.prepare(now_ms, timing.initial_delay_ms, effects),
            State::Preparing {
                not_before_ms,
                deadline_ms,
            } => {
                if *not_before_ms > now_ms {
                    *not_before_ms = (now_ms + timing.initial_delay_ms).min(*deadline_ms);
                }
            }
            State::Completing { .. } | State::Stable => self.prepare(now_ms, 0, effects),
        }
        self.try_complete(now_ms, effects);
    }

    fn rejoin(
        &mut self,
        now_ms: u64,
        waiter: Waiter,
        member_id: String,
        request: JoinRequest,
        effects: &mut Effects,
    ) {
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let Some(member) = self.members.get_mut(&member_id) else {
            return;
        };
        let unchanged = member.protocols == request.protocols;
        let current = match self.state {
            // The answer to the first join was lost; the generation stands.
            State::Completing { .. } => unchanged,
            // A leader that rejoins asks for a new assignment.
            State::Stable => unchanged && !is_leader,
            State::Empty { .. } | State::Preparing { .. } => false,
        };
        member.update(now_ms, request);
        if current {
            self.answer_join(now_ms, waiter, &member_id, effects);
            return;
        }
        if let Some(old) = member.join_waiter.replace(waiter) {
            effects.push_back(join_refused(
                old,
                GroupError::RebalanceInProgress,
                &member_id,
            ));
        }
        if !matches!(self.state, State::Preparing { .. }) {
            self.prepare(now_ms, 0, effects);
        }
        self.try_complete(now_ms, effects);
    }

    /// A restarted static member takes over the membership of its predecessor;
    /// without a change of subscription nobody else notices.
    fn replace_static(
        &mut self,
        now_ms: u64,
        waiter: Waiter,
        old_id: &str,
        new_id: String,
        request: JoinRequest,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        if let Some(old) = member.join_waiter.take() {
            effects.push_back(join_refused(old, GroupError::FencedInstance, old_id));
        }
        if let Some(old) = member.sync_waiter.take() {
            effects.push_back(sync_refused(old, GroupError::FencedInstance));
        }
        let unchanged = member.protocols == request.protocols;
        let can_skip = request.can_skip_assignment;
        if let Some(instance) = &request.instance_id {
            self.instances.insert(instance.clone(), new_id.clone());
        }
        member.update(now_ms, request);
        let was_leader = self.leader.as_deref() == Some(old_id);
        self.members.insert(new_id.clone(), member);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        if self.state == State::Stable && unchanged {
            let mut joined = self.joined(&new_id);
            if was_leader && can_skip {
                joined.skip_assignment = true;
            } else if was_leader {
                // An older client that sees itself as leader would compute an
                // assignment nobody waits for; the old id keeps it a follower.
                joined.leader = old_id.to_owned();
                joined.members.clear();
            }
            effects.push_back(Effect::AnswerJoin {
                waiter,
                result: Ok(joined),
            });
            return;
        }
        if let Some(member) = self.members.get_mut(&new_id) {
            member.join_waiter = Some(waiter);
        }
        if !matches!(self.state, State::Preparing { .. }) {
            self.prepare(now_ms, 0, effects);
        }
        self.try_complete(now_ms, effects);
    }

    // Checks and answers.

    fn check_member(&self, identity: Identity<'_>) -> Result<(), GroupError> {
        if let Some(instance) = identity.instance_id {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if holder != identity.member_id => {
                    return Err(GroupError::FencedInstance);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(identity.member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    fn check_generation(&self, generation: i32, identity: Identity<'_>) -> Result<(), GroupError> {
        self.check_member(identity)?;
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    fn touch(&mut self, now_ms: u64, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now_ms);
        }
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    fn joined(&self, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let listed = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&self.protocol),
        };
        let members = if leader == member_id {
            self.members.iter().map(listed).collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member_id: member_id.to_owned(),
            members,
            skip_assignment: false,
        }
    }

    fn answer_join(&mut self, now_ms: u64, waiter: Waiter, member_id: &str, effects: &mut Effects) {
        self.touch(now_ms, member_id);
        effects.push_back(Effect::AnswerJoin {
            waiter,
            result: Ok(self.joined(member_id)),
        });
    }

    fn answer_sync(&mut self, now_ms: u64, waiter: Waiter, member_id: &str, effects: &mut Effects) {
        self.touch(now_ms, member_id);
        let synced = Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        };
        effects.push_back(Effect::AnswerSync {
            waiter,
            result: Ok(synced),
        });
    }
}

fn join_refused(waiter: Waiter, error: GroupError, member_id: &str) -> Effect {
    Effect::AnswerJoin {
        waiter,
        result: Err(JoinRefused {
            error,
            member_id: member_id.to_owned(),
        }),
    }
}

fn sync_refused(waiter: Waiter, error: GroupError) -> Effect {
    Effect::AnswerSync {
        waiter,
        result: Err(error),
    }
}
