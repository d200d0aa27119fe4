//! Permissions that Kafka clients list and change: access control lists.
//!
//! They stand beside the [rules](crate::rules) of the configuration, in a file of
//! the node, one line per binding:
//!
//! ```text
//! forebay-acls 1
//! allow User:mia * read topic literal readings
//! deny User:mia 192.0.2.7 all topic prefixed analytics.
//! ```
//!
//! What an operation implies and what a pattern reaches is as in Kafka (KIP-11,
//! KIP-290): who may read, write, delete or alter may describe, and what is denied
//! is denied whatever else allows it.

mod binding;
mod text;

use std::net::IpAddr;

pub use binding::{
    Binding, BindingError, Filter, NamePattern, Operation, PatternFilter, Permission, ResourceType,
};
pub use text::{AclsError, FILE_LEN_MAX};

/// Bindings of a node: some for each of its users.
pub const BINDINGS_MAX: usize = 10_000;
/// The name of the one resource that is the cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";
/// The principal of whoever has not logged in.
pub const ANONYMOUS_PRINCIPAL: &str = "User:ANONYMOUS";
/// Fits every name, principal and host.
pub(crate) const ANY: &str = "*";
/// What the name of a principal begins with; there are no other kinds.
pub(crate) const USER_PREFIX: &str = "User:";

/// What a request of Kafka is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// Any topic: whether there is one.
    AnyTopic,
    /// The broker as such.
    Cluster,
}

/// What the bindings say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One denies it.
    Denied,
    /// One allows it, and none denies it.
    Allowed,
    /// None is about it.
    Silent,
}

/// All bindings, each once, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    bindings: std::collections::BTreeSet<Binding>,
}

impl Acls {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Whether there is a binding.
    #[must_use]
    pub fn contains(&self, binding: &Binding) -> bool {
        self.bindings.contains(binding)
    }

    /// Adds a binding; one that is there stays once.
    ///
    /// # Errors
    /// There are [`BINDINGS_MAX`].
    pub fn add(&mut self, binding: Binding) -> Result<(), AclsError> {
        if self.bindings.len() >= BINDINGS_MAX && !self.bindings.contains(&binding) {
            return Err(AclsError::TooMany);
        }
        self.bindings.insert(binding);
        Ok(())
    }

    /// Removes what a filter selects.
    pub fn remove(&mut self, filter: &Filter) {
        self.bindings.retain(|binding| !filter.selects(binding));
    }

    /// What a filter selects.
    pub fn selected<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Binding> {
        self.bindings
            .iter()
            .filter(|binding| filter.selects(binding))
    }

    /// What is said of a request of `user`, who comes from `host`.
    #[must_use]
    pub fn verdict(
        &self,
        user: Option<&str>,
        host: IpAddr,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Verdict {
        let mut verdict = Verdict::Silent;
        let about = self
            .bindings
            .iter()
            .filter(|binding| binding.is_of(user, host) && binding.is_about(operation, resource));
        for binding in about {
            match binding.permission {
                // Without one topic that is denied there may be others.
                Permission::Deny if resource == Resource::AnyTopic && !binding.is_of_all() => {}
                Permission::Deny => return Verdict::Denied,
                Permission::Allow => verdict = Verdict::Allowed,
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests;
