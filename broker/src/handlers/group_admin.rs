//! DescribeGroups, ListGroups, DeleteGroups. A group exists while it has
//! members or committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_kafka::messages::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ListGroupsRequest,
    ListGroupsResponse, ListedGroup,
};
use forebay_kafka::{KStr, error_code};
use forebay_storage::{AppendError, Ticket, Transaction};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::KafkaCode;
use crate::group::{GroupDescription, GroupError, check_group_id};
use crate::offsets::{PREFIX, group_prefix, parse_key, sweep};
use crate::reply::Reply;

/// State of a group that has offsets but no members.
const EMPTY: &str = "Empty";
/// State of a group that does not exist.
const DEAD: &str = "Dead";
/// Protocol type shown for groups that only have offsets.
const CONSUMER: &str = "consumer";

impl Broker {
    pub(crate) fn describe_groups(
        self: &Arc<Self>,
        call: &Call,
        request: DescribeGroupsRequest,
    ) -> Reply {
        let groups = request.groups.iter().map(|group_id| {
            if let Err(error) = check_group_id(group_id) {
                return DescribedGroup {
                    error_code: error.kafka_code(),
                    group_id: group_id.clone(),
                    ..DescribedGroup::default()
                };
            }
            if let Err(refusal) = call.check(Operation::Describe, Resource::Group(group_id)) {
                return DescribedGroup {
                    error_code: refusal.kafka_code(),
                    group_id: group_id.clone(),
                    ..DescribedGroup::default()
                };
            }
            let described = self.groups.lock().coordinator.describe(group_id);
            let described = described.unwrap_or_else(|| self.describe_absent(group_id));
            let mut described = DescribedGroup::from(described);
            if request.include_authorized_operations {
                described.authorized_operations = call.authorized(Resource::Group(group_id));
            }
            described
        });
        call.ready(&DescribeGroupsResponse {
            groups: groups.collect(),
            ..DescribeGroupsResponse::default()
        })
    }

    fn describe_absent(&self, group_id: &str) -> GroupDescription {
        let has_offsets = self.has_offsets(group_id);
        GroupDescription {
            group_id: group_id.to_owned(),
            state: if has_offsets { EMPTY } else { DEAD },
            protocol_type: if has_offsets {
                CONSUMER.to_owned()
            } else {
                String::new()
            },
            protocol: String::new(),
            members: Vec::new(),
        }
    }

    pub(crate) fn list_groups(self: &Arc<Self>, call: &Call, request: ListGroupsRequest) -> Reply {
        let mut groups: BTreeMap<String, ListedGroup> = BTreeMap::new();
        for (key, _) in self.storage.scan_prefix(PREFIX) {
            if let Some((group_id, _, _)) = parse_key(&key) {
                groups
                    .entry(group_id.clone())
                    .or_insert_with(|| listed(&group_id, EMPTY, CONSUMER));
            }
        }
        for group in self.groups.lock().coordinator.list() {
            groups.insert(
                group.group_id.clone(),
                listed(&group.group_id, group.state, &group.protocol_type),
            );
        }
        let is_asked = |group: &ListedGroup| {
            let wanted = |state: &KStr| state.eq_ignore_ascii_case(&group.group_state);
            request.states_filter.is_empty() || request.states_filter.iter().any(wanted)
        };
        let is_seen =
            |group: &ListedGroup| call.sees(Operation::Describe, Resource::Group(&group.group_id));
        let groups = groups
            .into_values()
            .filter(is_asked)
            .filter(is_seen)
            .collect();
        call.ready(&ListGroupsResponse {
            groups,
            ..ListGroupsResponse::default()
        })
    }

    pub(crate) fn delete_groups(
        self: &Arc<Self>,
        call: &Call,
        request: DeleteGroupsRequest,
    ) -> Reply {
        let mut ticket = None;
        let results = request.groups_names.iter().map(|group_id| {
            let allowed = call.check(Operation::Delete, Resource::Group(group_id));
            let deleted = allowed
                .map_err(|refusal| refusal.kafka_code())
                .and_then(|()| self.delete_group(group_id));
            let error_code = match deleted {
                Ok(deleted) => {
                    ticket = ticket.max(deleted);
                    error_code::NONE
                }
                Err(code) => code,
            };
            DeletableGroupResult {
                group_id: group_id.clone(),
                error_code,
                ..DeletableGroupResult::default()
            }
        });
        let response = DeleteGroupsResponse {
            results: results.collect(),
            ..DeleteGroupsResponse::default()
        };
        match ticket {
            Some(ticket) => call.after_commit(ticket, &response),
            None => call.ready(&response),
        }
    }

    /// Deletes a group with its offsets; returns the ticket of the deletion.
    fn delete_group(&self, group_id: &str) -> Result<Option<Ticket>, i16> {
        let has_offsets = check_group_id(group_id).is_ok() && self.has_offsets(group_id);
        match self.groups.lock().coordinator.handle_delete(group_id) {
            Err(GroupError::NotFound) if has_offsets => {}
            deleted => deleted.map_err(|error| error.kafka_code())?,
        }
        if !has_offsets {
            return Ok(None);
        }
        let mut transaction = Transaction::new();
        for (key, _) in self.storage.scan_prefix(&group_prefix(group_id)) {
            transaction.delete(&key);
        }
        let committed = self
            .storage
            .commit(transaction)
            .map_err(|error| error.kafka_code())?;
        Ok(Some(committed.ticket))
    }

    /// Forgets the offsets of groups that are long gone and renews those of
    /// groups that live and do not commit. Reads all offsets; durable with the
    /// next commit. What the storage does not take is left to the next sweep.
    pub fn sweep_offsets(&self, now_ms: i64) {
        let retention = self.config.offsets_retention.as_millis();
        let retention_ms = i64::try_from(retention).unwrap_or(i64::MAX);
        let has_members = |group: &str| {
            let described = self.groups.lock().coordinator.describe(group);
            described.is_some_and(|group| !group.members.is_empty())
        };
        let stored = self.storage.scan_prefix(PREFIX);
        let sweep = sweep(stored, now_ms, retention_ms, has_members);
        for (group, keys) in sweep.forget {
            let mut transaction = Transaction::new();
            for key in &keys {
                transaction.delete(key);
            }
            let offsets = keys.len();
            match self.storage.commit(transaction) {
                Ok(_) => tracing::info!(group, offsets, "offsets expired"),
                Err(error) => tracing::warn!(group, %error, "offsets not expired"),
            }
        }
        for (group, offsets) in sweep.renew {
            let mut transaction = Transaction::new();
            for (key, offset) in &offsets {
                transaction.put(key, &offset.encode());
            }
            if let Err(error) = self.storage.commit(transaction) {
                tracing::warn!(group, %error, "offsets not renewed");
            }
        }
    }

    /// Forgets what all groups committed for a topic that was deleted: a topic
    /// of the same name begins at offset 0.
    pub(crate) fn forget_topic_offsets(&self, topic: &str) -> Result<(), AppendError> {
        let mut transaction = Transaction::new();
        for (key, _) in self.storage.scan_prefix(PREFIX) {
            if parse_key(&key).is_some_and(|(_, of, _)| of == topic) {
                transaction.delete(&key);
            }
        }
        if !transaction.is_empty() {
            self.storage.commit(transaction)?;
        }
        Ok(())
    }

    fn has_offsets(&self, group_id: &str) -> bool {
        !self.storage.scan_prefix(&group_prefix(group_id)).is_empty()
    }
}

fn listed(group_id: &str, state: &str, protocol_type: &str) -> ListedGroup {
    ListedGroup {
        group_id: group_id.into(),
        protocol_type: protocol_type.into(),
        group_state: state.into(),
        ..ListedGroup::default()
    }
}

impl From<GroupDescription> for DescribedGroup {
    fn from(group: GroupDescription) -> Self {
        let members = group
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id.into(),
                group_instance_id: member.instance_id.map(KStr::from),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                member_metadata: member.metadata,
                member_assignment: member.assignment,
                ..DescribedGroupMember::default()
            });
        Self {
            group_id: group.group_id.into(),
            group_state: group.state.into(),
            protocol_type: group.protocol_type.into(),
            protocol_data: group.protocol.into(),
            members: members.collect(),
            ..Self::default()
        }
    }
}
