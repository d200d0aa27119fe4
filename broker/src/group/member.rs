//! One member of a group.

use bytes::Bytes;

use super::{MemberDescription, Waiter};

/// A JoinGroup request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Group to join.
    pub group_id: String,
    /// Member id, empty on the first join.
    pub member_id: String,
    /// Static instance id (KIP-345).
    pub instance_id: Option<String>,
    /// Client id of the connection.
    pub client_id: String,
    /// Host of the connection.
    pub client_host: String,
    /// Silence after which the member is dropped.
    pub session_timeout_ms: u64,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout_ms: u64,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// Offered assignors with their metadata, preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// The client rejoins with the id it is given (JoinGroup v4, KIP-394).
    pub requires_member_id: bool,
    /// The client understands `skip_assignment` (JoinGroup v9, KIP-814).
    pub can_skip_assignment: bool,
}

impl JoinRequest {
    /// Bytes of all metadata offered.
    pub fn metadata_bytes(&self) -> usize {
        self.protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum()
    }
}

/// A member in the list that the leader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Its metadata for the assignor that was voted for.
    pub metadata: Bytes,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) join_waiter: Option<Waiter>,
    pub(super) sync_waiter: Option<Waiter>,
    pub(super) session_deadline_ms: u64,
}

impl Member {
    pub(super) fn new(now_ms: u64, request: JoinRequest) -> Self {
        Self {
            session_deadline_ms: now_ms.saturating_add(request.session_timeout_ms),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            join_waiter: None,
            sync_waiter: None,
        }
    }

    pub(super) fn update(&mut self, now_ms: u64, request: JoinRequest) {
        let assignment = std::mem::take(&mut self.assignment);
        let waiters = (self.join_waiter, self.sync_waiter);
        *self = Self::new(now_ms, request);
        self.assignment = assignment;
        (self.join_waiter, self.sync_waiter) = waiters;
    }

    pub(super) fn touch(&mut self, now_ms: u64) {
        self.session_deadline_ms = now_ms.saturating_add(self.session_timeout_ms);
    }

    /// A member whose request waits cannot send heartbeats, so its session
    /// does not run.
    pub(super) fn session_runs(&self) -> bool {
        self.join_waiter.is_none() && self.sync_waiter.is_none()
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        let offered: usize = self
            .protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        offered + self.assignment.len()
    }

    pub(super) fn describe(&self, member_id: &str, protocol: &str) -> MemberDescription {
        MemberDescription {
            member_id: member_id.to_owned(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}
