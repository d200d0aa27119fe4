//! The coordinator of classic consumer groups, without I/O.
//!
//! A group moves `Empty -> PreparingRebalance -> CompletingRebalance ->
//! Stable`. Joining members wait at a barrier until every known member has
//! rejoined or the longest rebalance timeout has passed; then each gets the
//! new generation, and the leader computes the assignment that SyncGroup hands
//! out. Subscriptions and assignments are opaque here, so every assignor works,
//! cooperative-sticky included.
//!
//! Call order: one `handle_*` with the time in milliseconds of any monotonic
//! clock, then [`Coordinator::poll_effect`] until it is empty, then
//! [`Coordinator::next_timeout_ms`]. A join or sync is answered by an effect
//! that names the [`Waiter`] of the request, perhaps at once, perhaps later.
//!
//! Membership lives in memory only. After a restart a member's heartbeat is
//! refused with an unknown member id and it joins again; committed offsets are
//! in the state journal and are not affected.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

mod machine;
mod member;
mod subscription;

use machine::Group;
pub use member::{JoinRequest, JoinedMember};
pub use subscription::subscribed_topics;

/// Groups with members at one time. A hub serves tens of consumers; the limit
/// stops a client that makes up group names.
pub const MAX_GROUPS: usize = 10_000;

/// Members of one group, pending ones included. More members than partitions
/// are idle, and a hub's topics have far fewer partitions.
pub const MAX_MEMBERS: usize = 1_000;

/// Bytes of protocol metadata one member may bring: a subscription to 2,000
/// topics with 100-byte names fits.
pub const MAX_MEMBER_METADATA_BYTES: usize = 256 * 1024;

/// Protocols (assignors) one member may offer; clients ship fewer than ten.
pub const MAX_PROTOCOLS: usize = 32;

/// Metadata and assignments of all groups together.
pub const MAX_METADATA_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of one member's assignment: 1 MiB is some 50,000 partitions.
pub const MAX_ASSIGNMENT_BYTES: usize = 1024 * 1024;

/// Longest group id: state journal keys stay short.
pub const MAX_GROUP_ID_LEN: usize = 249;

/// How long a group without members keeps its generation in memory.
pub const EMPTY_GROUP_KEPT_MS: u64 = 60_000;

/// Timing rules of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTiming {
    /// How long the first join of an empty group waits for further members.
    pub initial_delay_ms: u64,
    /// Shortest session timeout a member may ask for.
    pub session_min_ms: u64,
    /// Longest session timeout a member may ask for.
    pub session_max_ms: u64,
}

impl Default for GroupTiming {
    /// Kafka waits 3 s so that a fleet of consumers that starts together needs
    /// one rebalance. A hub's groups have a handful of members, mostly in one
    /// process, which join within some tens of milliseconds; 200 ms catches
    /// those and keeps the start of a single consumer quick. The session
    /// bounds are Kafka's, with a lower minimum for fast fail-over on a LAN.
    fn default() -> Self {
        Self {
            initial_delay_ms: 200,
            session_min_ms: 1_000,
            session_max_ms: 1_800_000,
        }
    }
}

/// Names a JoinGroup or SyncGroup request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// Why the coordinator refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group id is empty or longer than [`MAX_GROUP_ID_LEN`].
    #[error("group id is empty or longer than {MAX_GROUP_ID_LEN} bytes")]
    InvalidGroupId,
    /// The session timeout lies outside [`GroupTiming`].
    #[error("session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// The member is not in the group.
    #[error("member id is unknown")]
    UnknownMember,
    /// The member must join again with the id it was given (KIP-394).
    #[error("join again with the given member id")]
    MemberIdRequired,
    /// Another member took over the static instance id (KIP-345).
    #[error("group instance id is held by a newer member")]
    FencedInstance,
    /// The generation is not the current one.
    #[error("generation is not the current one")]
    IllegalGeneration,
    /// The group is rebalancing; the member has to rejoin.
    #[error("group is rebalancing")]
    RebalanceInProgress,
    /// No protocol is shared with the other members, or none is offered.
    #[error("protocols do not match those of the group")]
    InconsistentProtocol,
    /// The group has [`MAX_MEMBERS`] members.
    #[error("group has {MAX_MEMBERS} members")]
    GroupFull,
    /// [`MAX_GROUPS`] or [`MAX_METADATA_BYTES`] is reached.
    #[error("coordinator has no room")]
    NoRoom,
    /// Metadata or assignment is above its limit.
    #[error("metadata is too large")]
    MetadataTooLarge,
    /// The group has members, so it cannot be deleted.
    #[error("group has members")]
    NotEmpty,
    /// The group does not exist.
    #[error("group does not exist")]
    NotFound,
}

/// The answer to a completed join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Generation that begins.
    pub generation: i32,
    /// Protocol type of the group, `consumer` for consumers.
    pub protocol_type: String,
    /// Assignor that was voted for.
    pub protocol: String,
    /// Member id of the leader.
    pub leader: String,
    /// Id of the member answered.
    pub member_id: String,
    /// All members for the leader, empty for the others.
    pub members: Vec<JoinedMember>,
    /// The leader must not compute a new assignment (KIP-814).
    pub skip_assignment: bool,
}

/// The answer to a refused join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// The reason.
    pub error: GroupError,
    /// Member id to use, filled for [`GroupError::MemberIdRequired`].
    pub member_id: String,
}

/// The answer to a completed sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Protocol type of the group.
    pub protocol_type: String,
    /// Assignor in use.
    pub protocol: String,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a JoinGroup request.
    AnswerJoin {
        /// The request.
        waiter: Waiter,
        /// Its answer.
        result: Result<Joined, JoinRefused>,
    },
    /// Answer a SyncGroup request.
    AnswerSync {
        /// The request.
        waiter: Waiter,
        /// Its answer.
        result: Result<Synced, GroupError>,
    },
}

/// A SyncGroup request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// Group.
    pub group_id: String,
    /// Generation the member believes in.
    pub generation: i32,
    /// Member.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Protocol type, from version 5.
    pub protocol_type: Option<String>,
    /// Protocol name, from version 5.
    pub protocol: Option<String>,
    /// The leader's assignment per member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// Who sends a heartbeat, a commit or a leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Member id.
    pub member_id: &'a str,
    /// Static instance id.
    pub instance_id: Option<&'a str>,
}

/// A group as DescribeGroups and ListGroups show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Group id.
    pub group_id: String,
    /// Kafka's name of the state.
    pub state: &'static str,
    /// Protocol type, empty when the group never had members.
    pub protocol_type: String,
    /// Assignor in use, empty unless the group is stable or completing.
    pub protocol: String,
    /// Members with their metadata for the assignor in use.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Client id of its connection.
    pub client_id: String,
    /// Host of its connection.
    pub client_host: String,
    /// Subscription for the assignor in use.
    pub metadata: Bytes,
    /// Assignment.
    pub assignment: Bytes,
}

/// All groups of the node.
#[derive(Debug)]
pub struct Coordinator {
    timing: GroupTiming,
    groups: BTreeMap<String, Group>,
    effects: VecDeque<Effect>,
}

impl Coordinator {
    /// Starts without groups.
    pub fn new(timing: GroupTiming) -> Self {
        Self {
            timing,
            groups: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// Handles JoinGroup. `new_member_id` is a fresh unique id, used when the
    /// member has none.
    pub fn handle_join(
        &mut self,
        now_ms: u64,
        waiter: Waiter,
        request: JoinRequest,
        new_member_id: String,
    ) {
        let group_id = request.group_id.clone();
        let admitted = self.admit(now_ms, &request);
        let result = match (admitted, self.groups.get_mut(&group_id)) {
            (Err(error), _) => Err(JoinRefused {
                error,
                member_id: request.member_id.clone(),
            }),
            (Ok(()), Some(group)) => group.join(
                now_ms,
                self.timing,
                waiter,
                request,
                new_member_id,
                &mut self.effects,
            ),
            (Ok(()), None) => Err(JoinRefused {
                error: GroupError::UnknownMember,
                member_id: request.member_id,
            }),
        };
        if let Err(refused) = result {
            self.effects.push_back(Effect::AnswerJoin {
                waiter,
                result: Err(refused),
            });
        }
    }

    /// Handles SyncGroup.
    pub fn handle_sync(&mut self, now_ms: u64, waiter: Waiter, request: &SyncRequest) {
        let result = match self.groups.get_mut(&request.group_id) {
            Some(group) => group.sync(now_ms, waiter, request, &mut self.effects),
            None => Err(unknown(&request.group_id)),
        };
        if let Err(error) = result {
            self.effects.push_back(Effect::AnswerSync {
                waiter,
                result: Err(error),
            });
        }
    }

    /// Handles Heartbeat.
    ///
    /// # Errors
    /// [`GroupError`] that tells the member to rejoin or to start over.
    pub fn handle_heartbeat(
        &mut self,
        now_ms: u64,
        group_id: &str,
        generation: i32,
        identity: Identity<'_>,
    ) -> Result<(), GroupError> {
        let group = self
            .groups
            .get_mut(group_id)
            .ok_or_else(|| unknown(group_id))?;
        group.heartbeat(now_ms, generation, identity)
    }

    /// Handles one member of a LeaveGroup; a static member may be named by its
    /// instance id alone.
    ///
    /// # Errors
    /// [`GroupError`] when there is no such member.
    pub fn handle_leave(
        &mut self,
        now_ms: u64,
        group_id: &str,
        identity: Identity<'_>,
    ) -> Result<(), GroupError> {
        let group = self
            .groups
            .get_mut(group_id)
            .ok_or_else(|| unknown(group_id))?;
        group.leave(now_ms, identity, &mut self.effects)
    }

    /// Says whether a member may commit offsets, and counts it as a heartbeat.
    /// A negative generation is a consumer that assigns partitions itself; it
    /// may commit while the group has no members.
    ///
    /// # Errors
    /// [`GroupError`] for OffsetCommit's error code.
    pub fn handle_commit(
        &mut self,
        now_ms: u64,
        group_id: &str,
        generation: i32,
        identity: Identity<'_>,
    ) -> Result<(), GroupError> {
        check_group_id(group_id)?;
        match self.groups.get_mut(group_id) {
            Some(group) => group.commit(now_ms, generation, identity),
            None if generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// Forgets a group without members.
    ///
    /// # Errors
    /// [`GroupError::NotEmpty`] while it has members, [`GroupError::NotFound`]
    /// when it is not in memory.
    pub fn handle_delete(&mut self, group_id: &str) -> Result<(), GroupError> {
        check_group_id(group_id)?;
        match self.groups.get(group_id) {
            None => Err(GroupError::NotFound),
            Some(group) if !group.is_empty() => Err(GroupError::NotEmpty),
            Some(_) => {
                self.groups.remove(group_id);
                Ok(())
            }
        }
    }

    /// Expires sessions, barriers and forgotten groups.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        for group in self.groups.values_mut() {
            group.handle_timeout(now_ms, &mut self.effects);
        }
        self.groups.retain(|_, group| !group.is_forgotten(now_ms));
    }

    /// Returns the next effect, oldest first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do, at the earliest.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        self.groups
            .values()
            .filter_map(Group::next_timeout_ms)
            .min()
    }

    /// Describes one group, if it is in memory.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.groups.get(group_id).map(Group::describe)
    }

    /// Ids, states and protocol types of all groups in memory, by id.
    pub fn list(&self) -> Vec<GroupDescription> {
        self.groups.values().map(Group::outline).collect()
    }

    /// Topics that the group's members are subscribed to, when they speak the
    /// consumer protocol.
    pub fn subscriptions(&self, group_id: &str) -> Vec<String> {
        self.groups
            .get(group_id)
            .map(Group::subscriptions)
            .unwrap_or_default()
    }

    fn admit(&mut self, now_ms: u64, request: &JoinRequest) -> Result<(), GroupError> {
        check_group_id(&request.group_id)?;
        if !(self.timing.session_min_ms..=self.timing.session_max_ms)
            .contains(&request.session_timeout_ms)
        {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if request.protocols.len() > MAX_PROTOCOLS
            || request.metadata_bytes() > MAX_MEMBER_METADATA_BYTES
        {
            return Err(GroupError::MetadataTooLarge);
        }
        if self.groups.contains_key(&request.group_id) && !request.member_id.is_empty() {
            return Ok(());
        }
        if !request.member_id.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        let held: usize = self.groups.values().map(Group::metadata_bytes).sum();
        if held + request.metadata_bytes() > MAX_METADATA_BYTES {
            return Err(GroupError::NoRoom);
        }
        if !self.groups.contains_key(&request.group_id) {
            if request.protocol_type.is_empty() || request.protocols.is_empty() {
                return Err(GroupError::InconsistentProtocol);
            }
            if self.groups.len() >= MAX_GROUPS {
                return Err(GroupError::NoRoom);
            }
            self.groups.insert(
                request.group_id.clone(),
                Group::new(request.group_id.clone(), now_ms),
            );
        }
        Ok(())
    }
}

/// Checks a group id.
///
/// # Errors
/// [`GroupError::InvalidGroupId`].
pub fn check_group_id(group_id: &str) -> Result<(), GroupError> {
    if group_id.is_empty() || group_id.len() > MAX_GROUP_ID_LEN {
        return Err(GroupError::InvalidGroupId);
    }
    Ok(())
}

fn unknown(group_id: &str) -> GroupError {
    check_group_id(group_id)
        .err()
        .unwrap_or(GroupError::UnknownMember)
}

#[cfg(test)]
mod tests;
