//! DescribeAcls, CreateAcls, DeleteAcls: permissions, which the authority keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_access::acls::{
    BINDINGS_MAX, Binding, Filter, NamePattern, Operation, PatternFilter, Permission, Resource,
    ResourceType,
};
use forebay_kafka::messages::{
    AclCreation, AclCreationResult, AclDescription, CreateAclsRequest, CreateAclsResponse,
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest,
    DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::authority::{AclRefusal, Selected, Visit};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;

/// Filters of one DeleteAcls: each is held against every permission.
const FILTERS_MAX: usize = 1_000;
/// The number of "any" in the enumerations of a filter.
const ANY_CODE: i8 = 1;
/// The largest numbers that Kafka has for types of resources and for operations.
/// What lies between is not kept here, and a filter for it selects nothing.
const RESOURCE_CODE_MAX: i8 = 7;
const OPERATION_CODE_MAX: i8 = 15;
const PERMISSION_CODE_MAX: i8 = 3;

const FILTER: &str = "a filter has a number that means nothing";
const CREATION: &str = "a permission has a resource type, a pattern type, an operation or a permission type that is not known here";

impl Broker {
    pub(crate) fn describe_acls(
        self: &Arc<Self>,
        call: &Call,
        request: DescribeAclsRequest,
    ) -> Reply {
        let filter = Wire {
            resource_type: request.resource_type_filter,
            resource_name: request.resource_name_filter.as_deref(),
            pattern_type: request.pattern_type_filter,
            principal: request.principal_filter.as_deref(),
            host: request.host_filter.as_deref(),
            operation: request.operation,
            permission_type: request.permission_type,
        };
        let found = call
            .check(Operation::Describe, Resource::Cluster)
            .and_then(|()| filter.filter())
            .and_then(|filter| {
                let visit = visit(call)?;
                let selected = filter.map(|filter| visit.authority.acls(&filter));
                Ok(selected.unwrap_or(Ok(Vec::new()))?)
            });
        call.ready(&match found {
            Ok(bindings) => DescribeAclsResponse {
                resources: grouped(bindings),
                ..DescribeAclsResponse::default()
            },
            Err(refusal) => DescribeAclsResponse {
                error_code: refusal.kafka_code(),
                error_message: text(&refusal),
                ..DescribeAclsResponse::default()
            },
        })
    }

    pub(crate) fn create_acls(self: &Arc<Self>, call: &Call, request: CreateAclsRequest) -> Reply {
        let allowed = call.check(Operation::Alter, Resource::Cluster);
        let call = call.clone();
        self.blocking(move |_| {
            let results = match allowed {
                Ok(()) => create(&call, &request.creations),
                Err(refusal) => vec![creation_error(&refusal); request.creations.len()],
            };
            call.ready(&CreateAclsResponse {
                results,
                ..CreateAclsResponse::default()
            })
        })
    }

    pub(crate) fn delete_acls(self: &Arc<Self>, call: &Call, request: DeleteAclsRequest) -> Reply {
        let allowed = call.check(Operation::Alter, Resource::Cluster);
        let call = call.clone();
        self.blocking(move |_| {
            let filter_results = match allowed {
                Ok(()) => delete(&call, &request.filters),
                Err(refusal) => vec![filter_error(&refusal); request.filters.len()],
            };
            call.ready(&DeleteAclsResponse {
                filter_results,
                ..DeleteAclsResponse::default()
            })
        })
    }
}

fn visit(call: &Call) -> Result<&Visit, Refusal> {
    let disabled = Refusal::Acl(AclRefusal::Disabled);
    call.visit.as_ref().ok_or(disabled)
}

fn text(refusal: &Refusal) -> Option<KStr> {
    Some(refusal.to_string().into())
}

/// Adds the permissions that are well formed; the others have errors of their own.
fn create(call: &Call, creations: &[AclCreation]) -> Vec<AclCreationResult> {
    if creations.len() > BINDINGS_MAX {
        let refusal = Refusal::Acl(AclRefusal::TooMany);
        return vec![creation_error(&refusal); creations.len()];
    }
    let read: Vec<Result<Binding, Refusal>> = creations.iter().map(binding).collect();
    let bindings: Vec<Binding> = read.iter().flatten().cloned().collect();
    let added =
        visit(call).and_then(|visit| Ok(visit.authority.add_acls(&visit.principal, &bindings)?));
    let result = |read: Result<Binding, Refusal>| match (read, &added) {
        (Err(refusal), _) => creation_error(&refusal),
        (Ok(_), Err(refusal)) => creation_error(refusal),
        (Ok(_), Ok(())) => AclCreationResult::default(),
    };
    read.into_iter().map(result).collect()
}

fn creation_error(refusal: &Refusal) -> AclCreationResult {
    AclCreationResult {
        error_code: refusal.kafka_code(),
        error_message: text(refusal),
        ..AclCreationResult::default()
    }
}

fn binding(creation: &AclCreation) -> Result<Binding, Refusal> {
    let unknown = || Refusal::Invalid(CREATION);
    let binding = Binding {
        principal: creation.principal.to_string(),
        resource: ResourceType::from_code(creation.resource_type).ok_or_else(unknown)?,
        name: creation.resource_name.to_string(),
        pattern: NamePattern::from_code(creation.resource_pattern_type).ok_or_else(unknown)?,
        operation: Operation::from_code(creation.operation).ok_or_else(unknown)?,
        host: creation.host.to_string(),
        permission: Permission::from_code(creation.permission_type).ok_or_else(unknown)?,
    };
    binding.check()?;
    Ok(binding)
}

/// Removes what the filters that mean something select.
fn delete(call: &Call, filters: &[DeleteAclsFilter]) -> Vec<DeleteAclsFilterResult> {
    if filters.len() > FILTERS_MAX {
        let refusal = Refusal::Invalid("expected at most 1000 filters in a request");
        return vec![filter_error(&refusal); filters.len()];
    }
    let read = filters.iter().map(|filter| {
        let wire = Wire {
            resource_type: filter.resource_type_filter,
            resource_name: filter.resource_name_filter.as_deref(),
            pattern_type: filter.pattern_type_filter,
            principal: filter.principal_filter.as_deref(),
            host: filter.host_filter.as_deref(),
            operation: filter.operation,
            permission_type: filter.permission_type,
        };
        wire.filter()
    });
    let read: Vec<Result<Option<Filter>, Refusal>> = read.collect();
    let wanted: Vec<Filter> = read.iter().flatten().flatten().cloned().collect();
    let removed =
        visit(call).and_then(|visit| Ok(visit.authority.remove_acls(&visit.principal, &wanted)?));
    let mut removed = match removed {
        Ok(removed) => removed.into_iter(),
        Err(refusal) => return vec![filter_error(&refusal); filters.len()],
    };
    let result = |read| match read {
        Err(refusal) => filter_error(&refusal),
        Ok(None) => DeleteAclsFilterResult::default(),
        Ok(Some(_)) => DeleteAclsFilterResult {
            matching_acls: removed
                .next()
                .unwrap_or_default()
                .into_iter()
                .map(matching)
                .collect(),
            ..DeleteAclsFilterResult::default()
        },
    };
    read.into_iter().map(result).collect()
}

fn filter_error(refusal: &Refusal) -> DeleteAclsFilterResult {
    DeleteAclsFilterResult {
        error_code: refusal.kafka_code(),
        error_message: text(refusal),
        ..DeleteAclsFilterResult::default()
    }
}

fn matching(selected: Selected) -> DeleteAclsMatchingAcl {
    let kept = selected.kept_by.map(Refusal::Configured);
    let binding = selected.binding;
    DeleteAclsMatchingAcl {
        error_code: kept.as_ref().map_or(error_code::NONE, Refusal::kafka_code),
        error_message: kept.as_ref().and_then(text),
        resource_type: binding.resource as i8,
        resource_name: binding.name.into(),
        pattern_type: binding.pattern as i8,
        principal: binding.principal.into(),
        host: binding.host.into(),
        operation: binding.operation as i8,
        permission_type: binding.permission as i8,
        ..DeleteAclsMatchingAcl::default()
    }
}

/// The fields that both filters have.
struct Wire<'a> {
    resource_type: i8,
    resource_name: Option<&'a str>,
    pattern_type: i8,
    principal: Option<&'a str>,
    host: Option<&'a str>,
    operation: i8,
    permission_type: i8,
}

impl Wire<'_> {
    /// The filter; `None` for one about what is not kept here.
    fn filter(&self) -> Result<Option<Filter>, Refusal> {
        let meant = |code: i8, max: i8| {
            (ANY_CODE..=max)
                .contains(&code)
                .then_some(())
                .ok_or(Refusal::Invalid(FILTER))
        };
        meant(self.resource_type, RESOURCE_CODE_MAX)?;
        meant(self.operation, OPERATION_CODE_MAX)?;
        meant(self.permission_type, PERMISSION_CODE_MAX)?;
        let pattern =
            PatternFilter::from_code(self.pattern_type).ok_or(Refusal::Invalid(FILTER))?;
        let resource = ResourceType::from_code(self.resource_type);
        let operation = Operation::from_code(self.operation);
        let is_kept = (resource.is_some() || self.resource_type == ANY_CODE)
            && (operation.is_some() || self.operation == ANY_CODE);
        Ok(is_kept.then(|| Filter {
            resource,
            name: self.resource_name.map(str::to_owned),
            pattern,
            principal: self.principal.map(str::to_owned),
            host: self.host.map(str::to_owned),
            operation,
            permission: Permission::from_code(self.permission_type),
        }))
    }
}

/// Permissions by what they are about.
fn grouped(bindings: Vec<Binding>) -> Vec<DescribeAclsResource> {
    let mut resources: BTreeMap<(ResourceType, String, NamePattern), Vec<AclDescription>> =
        BTreeMap::new();
    for binding in bindings {
        let about = (binding.resource, binding.name, binding.pattern);
        resources.entry(about).or_default().push(AclDescription {
            principal: binding.principal.into(),
            host: binding.host.into(),
            operation: binding.operation as i8,
            permission_type: binding.permission as i8,
            ..AclDescription::default()
        });
    }
    let described = resources
        .into_iter()
        .map(|((resource, name, pattern), acls)| DescribeAclsResource {
            resource_type: resource as i8,
            resource_name: name.into(),
            pattern_type: pattern as i8,
            acls,
            ..DescribeAclsResource::default()
        });
    described.collect()
}
