//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the shell around the
//! coordinator. It keeps the answers that wait and turns effects into
//! responses.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use forebay_kafka::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    JoinGroupResponseMember, LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::KafkaCode;
use crate::group::{
    Coordinator, Effect, GroupError, GroupTiming, Identity, JoinRefused, JoinRequest, Joined,
    SyncRequest, Synced, Waiter,
};
use crate::reply::{Answerer, Reply, later};

/// First JoinGroup version whose client rejoins with the id it is given.
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// First JoinGroup version that knows `skip_assignment`.
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// First JoinGroup version whose protocol name may be null.
const NULLABLE_PROTOCOL_FROM: i16 = 7;
/// First LeaveGroup version with several members.
const BATCHED_LEAVE_FROM: i16 = 3;

/// The coordinator with the requests that wait for it.
pub(crate) struct GroupDesk {
    pub(super) coordinator: Coordinator,
    waiting: HashMap<Waiter, (Call, Answerer)>,
    next_waiter: u64,
}

impl GroupDesk {
    pub(crate) fn new(timing: GroupTiming) -> Self {
        Self {
            coordinator: Coordinator::new(timing),
            waiting: HashMap::new(),
            next_waiter: 0,
        }
    }

    fn wait(&mut self, call: &Call) -> (Waiter, Reply) {
        self.next_waiter += 1;
        let waiter = Waiter(self.next_waiter);
        let (answerer, answer) = later();
        self.waiting.insert(waiter, (call.clone(), answerer));
        (waiter, Reply::Later(answer))
    }

    fn answer_effects(&mut self) {
        while let Some(effect) = self.coordinator.poll_effect() {
            let waiter = match &effect {
                Effect::AnswerJoin { waiter, .. } | Effect::AnswerSync { waiter, .. } => *waiter,
            };
            let Some((call, answerer)) = self.waiting.remove(&waiter) else {
                continue;
            };
            let response = match effect {
                Effect::AnswerJoin { result, .. } => {
                    call.encode(&join_response(call.version, result))
                }
                Effect::AnswerSync { result, .. } => call.encode(&sync_response(result)),
            };
            match response {
                Ok(response) => answerer.answer(response),
                Err(reason) => tracing::error!(%reason, "group response dropped"),
            }
        }
    }
}

impl Broker {
    /// When [`Self::expire_groups`] has something to do, in milliseconds from
    /// the present; `None` while no group exists.
    pub fn group_timeout_in_ms(&self) -> Option<u64> {
        let next_ms = self.groups.lock().coordinator.next_timeout_ms()?;
        Some(next_ms.saturating_sub(self.clock.monotonic_ms()))
    }

    /// Expires group sessions and rebalance barriers that are due.
    pub fn expire_groups(&self) {
        let mut desk = self.groups.lock();
        desk.coordinator.handle_timeout(self.clock.monotonic_ms());
        desk.answer_effects();
    }

    pub(crate) fn join_group(self: &Arc<Self>, call: &Call, request: JoinGroupRequest) -> Reply {
        if let Err(refusal) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
            let refused = refused_join(call.version, refusal.kafka_code(), request.member_id);
            return call.ready(&refused);
        }
        let client_id = call.client_id.as_deref().unwrap_or_default();
        let prefix = request.group_instance_id.as_deref().unwrap_or(client_id);
        let new_member_id = format!(
            "{prefix}-{:016x}{:016x}",
            fastrand::u64(..),
            fastrand::u64(..)
        );
        let join = join_request(call, &request);
        let reply = {
            let mut desk = self.groups.lock();
            let (waiter, reply) = desk.wait(call);
            desk.coordinator
                .handle_join(self.clock.monotonic_ms(), waiter, join, new_member_id);
            desk.answer_effects();
            reply
        };
        self.groups_changed();
        reply
    }

    pub(crate) fn sync_group(self: &Arc<Self>, call: &Call, request: SyncGroupRequest) -> Reply {
        if let Err(refusal) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
            return call.ready(&SyncGroupResponse {
                error_code: refusal.kafka_code(),
                ..SyncGroupResponse::default()
            });
        }
        let assignments = request.assignments.iter();
        let sync = SyncRequest {
            group_id: request.group_id.to_string(),
            generation: request.generation_id,
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.as_ref().map(KStr::to_string),
            protocol_type: request.protocol_type.as_ref().map(KStr::to_string),
            protocol: request.protocol_name.as_ref().map(KStr::to_string),
            assignments: assignments
                .map(|a| (a.member_id.to_string(), detach(&a.assignment)))
                .collect(),
        };
        let reply = {
            let mut desk = self.groups.lock();
            let (waiter, reply) = desk.wait(call);
            desk.coordinator
                .handle_sync(self.clock.monotonic_ms(), waiter, &sync);
            desk.answer_effects();
            reply
        };
        self.groups_changed();
        reply
    }

    pub(crate) fn heartbeat(self: &Arc<Self>, call: &Call, request: HeartbeatRequest) -> Reply {
        if let Err(refusal) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
            return call.ready(&HeartbeatResponse {
                error_code: refusal.kafka_code(),
                ..HeartbeatResponse::default()
            });
        }
        let identity = Identity {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
        };
        let now_ms = self.clock.monotonic_ms();
        let mut desk = self.groups.lock();
        let beat = desk.coordinator.handle_heartbeat(
            now_ms,
            &request.group_id,
            request.generation_id,
            identity,
        );
        call.ready(&HeartbeatResponse {
            error_code: code_of(&beat),
            ..HeartbeatResponse::default()
        })
    }

    pub(crate) fn leave_group(self: &Arc<Self>, call: &Call, request: LeaveGroupRequest) -> Reply {
        if let Err(refusal) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
            return call.ready(&LeaveGroupResponse {
                error_code: refusal.kafka_code(),
                ..LeaveGroupResponse::default()
            });
        }
        let now_ms = self.clock.monotonic_ms();
        let response = {
            let mut desk = self.groups.lock();
            let mut leave = |member_id: &str, instance_id: Option<&str>| {
                let identity = Identity {
                    member_id,
                    instance_id,
                };
                code_of(
                    &desk
                        .coordinator
                        .handle_leave(now_ms, &request.group_id, identity),
                )
            };
            let response = if call.version < BATCHED_LEAVE_FROM {
                LeaveGroupResponse {
                    error_code: leave(&request.member_id, None),
                    ..LeaveGroupResponse::default()
                }
            } else {
                let members = request.members.iter().map(|member| MemberResponse {
                    error_code: leave(&member.member_id, member.group_instance_id.as_deref()),
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    ..MemberResponse::default()
                });
                LeaveGroupResponse {
                    members: members.collect(),
                    ..LeaveGroupResponse::default()
                }
            };
            desk.answer_effects();
            response
        };
        self.groups_changed();
        call.ready(&response)
    }
}

fn join_request(call: &Call, request: &JoinGroupRequest) -> JoinRequest {
    let session_timeout_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    JoinRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(KStr::to_string),
        client_id: call
            .client_id
            .as_ref()
            .map(KStr::to_string)
            .unwrap_or_default(),
        client_host: format!("/{}", call.client_host),
        session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: u64::try_from(request.rebalance_timeout_ms)
            .unwrap_or(session_timeout_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|p| (p.name.to_string(), detach(&p.metadata)))
            .collect(),
        requires_member_id: call.version >= MEMBER_ID_REQUIRED_FROM,
        can_skip_assignment: call.version >= SKIP_ASSIGNMENT_FROM,
    }
}

fn join_response(version: i16, result: Result<Joined, JoinRefused>) -> JoinGroupResponse {
    match result {
        Ok(joined) => JoinGroupResponse {
            generation_id: joined.generation,
            protocol_type: Some(joined.protocol_type.into()),
            protocol_name: Some(joined.protocol.into()),
            leader: joined.leader.into(),
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id.into(),
            members: joined
                .members
                .into_iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: member.member_id.into(),
                    group_instance_id: member.instance_id.map(KStr::from),
                    metadata: member.metadata,
                    ..JoinGroupResponseMember::default()
                })
                .collect(),
            ..JoinGroupResponse::default()
        },
        Err(refused) => {
            let code = refused.error.kafka_code();
            refused_join(version, code, refused.member_id.into())
        }
    }
}

fn refused_join(version: i16, error_code: i16, member_id: KStr) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        protocol_name: if version >= NULLABLE_PROTOCOL_FROM {
            None
        } else {
            Some(KStr::default())
        },
        member_id,
        ..JoinGroupResponse::default()
    }
}

fn sync_response(result: Result<Synced, GroupError>) -> SyncGroupResponse {
    match result {
        Ok(synced) => SyncGroupResponse {
            protocol_type: Some(synced.protocol_type.into()),
            protocol_name: Some(synced.protocol.into()),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => SyncGroupResponse {
            error_code: error.kafka_code(),
            ..SyncGroupResponse::default()
        },
    }
}

/// Copies bytes that outlive their request, so that they do not keep the whole
/// frame in memory.
fn detach(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn code_of(result: &Result<(), GroupError>) -> i16 {
    result
        .as_ref()
        .err()
        .map_or(error_code::NONE, KafkaCode::kafka_code)
}
