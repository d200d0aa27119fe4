//! Permissions over the Kafka protocol.

use forebay_access::acls::{
    Binding, Filter, NamePattern, Operation, PatternFilter, Permission, ResourceType,
};
use forebay_kafka::messages::{
    AclCreation, CreateAclsRequest, DeleteAclsFilter, DeleteAclsRequest, DescribeAclsRequest,
};

use super::{Client, ClientError, check};

/// The first version with prefixes, and the first that Kafka 4 knows.
const VERSION: i16 = 1;
/// The number of "any" in the enumerations of a filter.
const ANY_CODE: i8 = 1;
/// The number of "all that are about this name".
const MATCH_CODE: i8 = 2;

/// A permission that was to be removed.
#[derive(Debug)]
pub struct Removal {
    /// The permission.
    pub binding: Binding,
    /// Why it is still there.
    pub kept: Option<String>,
}

impl Client {
    /// The permissions that a filter selects.
    ///
    /// # Errors
    /// The node does not answer, or refuses.
    pub async fn acls(&mut self, filter: &Filter) -> Result<Vec<Binding>, ClientError> {
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource.map_or(ANY_CODE, |known| known as i8),
            resource_name_filter: filter.name.as_deref().map(Into::into),
            pattern_type_filter: pattern_code(filter.pattern),
            principal_filter: filter.principal.as_deref().map(Into::into),
            host_filter: filter.host.as_deref().map(Into::into),
            operation: filter.operation.map_or(ANY_CODE, |known| known as i8),
            permission_type: filter.permission.map_or(ANY_CODE, |known| known as i8),
            ..DescribeAclsRequest::default()
        };
        let answer = self.call(&request, VERSION).await?;
        check(
            "permissions",
            answer.error_code,
            answer.error_message.as_deref(),
        )?;
        let mut found = Vec::new();
        for resource in &answer.resources {
            for acl in &resource.acls {
                let codes = [
                    resource.resource_type,
                    resource.pattern_type,
                    acl.operation,
                    acl.permission_type,
                ];
                let texts = [&*resource.resource_name, &*acl.principal, &*acl.host];
                found.push(self.binding(codes, texts)?);
            }
        }
        Ok(found)
    }

    /// Adds a permission.
    ///
    /// # Errors
    /// The node does not answer, or refuses.
    pub async fn add_acl(&mut self, binding: &Binding) -> Result<(), ClientError> {
        let request = CreateAclsRequest {
            creations: vec![AclCreation {
                resource_type: binding.resource as i8,
                resource_name: binding.name.as_str().into(),
                resource_pattern_type: binding.pattern as i8,
                principal: binding.principal.as_str().into(),
                host: binding.host.as_str().into(),
                operation: binding.operation as i8,
                permission_type: binding.permission as i8,
                ..AclCreation::default()
            }],
            ..CreateAclsRequest::default()
        };
        let answer = self.call(&request, VERSION).await?;
        for result in &answer.results {
            let message = result.error_message.as_deref();
            check(&binding.to_string(), result.error_code, message)?;
        }
        Ok(())
    }

    /// Removes what a filter selects.
    ///
    /// # Errors
    /// The node does not answer, or refuses.
    pub async fn remove_acls(&mut self, filter: &Filter) -> Result<Vec<Removal>, ClientError> {
        let request = DeleteAclsRequest {
            filters: vec![DeleteAclsFilter {
                resource_type_filter: filter.resource.map_or(ANY_CODE, |known| known as i8),
                resource_name_filter: filter.name.as_deref().map(Into::into),
                pattern_type_filter: pattern_code(filter.pattern),
                principal_filter: filter.principal.as_deref().map(Into::into),
                host_filter: filter.host.as_deref().map(Into::into),
                operation: filter.operation.map_or(ANY_CODE, |known| known as i8),
                permission_type: filter.permission.map_or(ANY_CODE, |known| known as i8),
                ..DeleteAclsFilter::default()
            }],
            ..DeleteAclsRequest::default()
        };
        let answer = self.call(&request, VERSION).await?;
        let mut found = Vec::new();
        for result in &answer.filter_results {
            check(
                "permissions",
                result.error_code,
                result.error_message.as_deref(),
            )?;
            for acl in &result.matching_acls {
                let codes = [
                    acl.resource_type,
                    acl.pattern_type,
                    acl.operation,
                    acl.permission_type,
                ];
                let texts = [&*acl.resource_name, &*acl.principal, &*acl.host];
                let words = acl.error_message.as_deref().unwrap_or("it stays");
                found.push(Removal {
                    binding: self.binding(codes, texts)?,
                    kept: (acl.error_code != 0).then(|| words.to_owned()),
                });
            }
        }
        Ok(found)
    }

    fn binding(
        &self,
        [resource, pattern, operation, permission]: [i8; 4],
        [name, principal, host]: [&str; 3],
    ) -> Result<Binding, ClientError> {
        let read = || {
            Some(Binding {
                principal: principal.to_owned(),
                resource: ResourceType::from_code(resource)?,
                name: name.to_owned(),
                pattern: NamePattern::from_code(pattern)?,
                operation: Operation::from_code(operation)?,
                host: host.to_owned(),
                permission: Permission::from_code(permission)?,
            })
        };
        read().ok_or_else(|| {
            self.protocol(format!(
                "a permission with the numbers {resource}, {pattern}, {operation} and {permission}"
            ))
        })
    }
}

fn pattern_code(pattern: PatternFilter) -> i8 {
    match pattern {
        PatternFilter::Any => ANY_CODE,
        PatternFilter::Match => MATCH_CODE,
        PatternFilter::Only(pattern) => pattern as i8,
    }
}
