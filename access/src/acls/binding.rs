//! One permission, and what selects it.

use std::net::IpAddr;

use super::{ANONYMOUS_PRINCIPAL, ANY, CLUSTER_NAME, Resource, USER_PREFIX};

/// Longest name of a topic or a group in a binding.
const NAME_LEN_MAX: usize = 255;
/// Longest name of a user, or of a pattern of users.
const PRINCIPAL_LEN_MAX: usize = 64;

/// An enumeration with the number that Kafka's protocol has for each value, and
/// the word of the file.
macro_rules! coded {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $code:literal $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i8)]
        pub enum $name {
            $($(#[$doc])* $value = $code,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$value,)*];

            /// The value with a number of Kafka's protocol.
            #[must_use]
            pub fn from_code(code: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| *value as i8 == code)
            }

            /// The value with a word.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }

            /// The word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                }
            }
        }
    };
}

coded! {
    /// What a binding is about.
    ResourceType {
        /// A topic.
        Topic = 2 "topic",
        /// A consumer group.
        Group = 3 "group",
        /// The broker as such.
        Cluster = 4 "cluster",
        /// A transactional producer. Kept for clients that set it; transactions
        /// are not served.
        TransactionalId = 5 "transactional-id",
    }
}

coded! {
    /// How a name in a binding is read.
    NamePattern {
        /// As it stands; `*` is every name.
        Literal = 3 "literal",
        /// As the beginning of a name.
        Prefixed = 4 "prefixed",
    }
}

coded! {
    /// Whether a binding allows or denies.
    Permission {
        /// Denies.
        Deny = 2 "deny",
        /// Allows.
        Allow = 3 "allow",
    }
}

coded! {
    /// What somebody wants to do.
    Operation {
        /// Everything.
        All = 2 "all",
        /// Fetch records, or be a member of a group and commit its offsets.
        Read = 3 "read",
        /// Append records.
        Write = 4 "write",
        /// Create a topic.
        Create = 5 "create",
        /// Delete a topic, its records or a group.
        Delete = 6 "delete",
        /// Change something otherwise.
        Alter = 7 "alter",
        /// See that something is there and its size.
        Describe = 8 "describe",
        /// What brokers do among themselves.
        ClusterAction = 9 "cluster-action",
        /// See settings.
        DescribeConfigs = 10 "describe-configs",
        /// Change settings.
        AlterConfigs = 11 "alter-configs",
        /// Produce with sequence numbers, to any topic.
        IdempotentWrite = 12 "idempotent-write",
    }
}

impl ResourceType {
    /// The single operations there are on it.
    pub fn operations(self) -> impl Iterator<Item = Operation> {
        let all = Operation::ALL.iter().copied();
        all.filter(move |one| *one != Operation::All && has_operation(self, *one))
    }
}

/// Which operations there are on what.
fn has_operation(resource: ResourceType, operation: Operation) -> bool {
    use Operation as O;
    match resource {
        ResourceType::Topic => !matches!(operation, O::ClusterAction | O::IdempotentWrite),
        ResourceType::Group => matches!(
            operation,
            O::All | O::Read | O::Describe | O::Delete | O::DescribeConfigs | O::AlterConfigs
        ),
        ResourceType::Cluster => !matches!(operation, O::Read | O::Write | O::Delete),
        ResourceType::TransactionalId => {
            matches!(operation, O::All | O::Describe | O::Write)
        }
    }
}

/// A permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// `User:` and a name, `User:*` for all, [`ANONYMOUS_PRINCIPAL`] for whoever
    /// has not logged in.
    pub principal: String,
    /// The kind of what it is about.
    pub resource: ResourceType,
    /// The name of what it is about.
    pub name: String,
    /// How the name is read.
    pub pattern: NamePattern,
    /// What it is about.
    pub operation: Operation,
    /// An address, or `*` for all.
    pub host: String,
    /// Whether it allows or denies.
    pub permission: Permission,
}

/// What is wrong with a binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The principal.
    #[error(
        "principal {0:?}: expected \"User:\" and a name of at most {PRINCIPAL_LEN_MAX} letters, digits or . _ @ -, or \"User:*\""
    )]
    Principal(String),
    /// The host.
    #[error("host {0:?}: expected an IP address, or \"*\"")]
    Host(String),
    /// The name of a topic, a group or the cluster.
    #[error(
        "{} name {name:?}: expected 1 to {NAME_LEN_MAX} characters without line breaks{}",
        resource.word(), cluster_hint(*resource)
    )]
    Name {
        /// The kind.
        resource: ResourceType,
        /// The name.
        name: String,
    },
    /// There is no such operation on such a thing.
    #[error("there is no {} on a {}", operation.word(), resource.word())]
    Operation {
        /// The kind.
        resource: ResourceType,
        /// The operation.
        operation: Operation,
    },
}

fn cluster_hint(resource: ResourceType) -> &'static str {
    match resource {
        ResourceType::Cluster => ", and here \"kafka-cluster\"",
        _ => "",
    }
}

impl Binding {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`BindingError`].
    pub fn check(&self) -> Result<(), BindingError> {
        let user = self.principal.strip_prefix(USER_PREFIX);
        let is_legal = |letter: char| letter.is_alphanumeric() || "._@-".contains(letter);
        let is_user = user.is_some_and(|user| {
            user == ANY
                || (!user.is_empty()
                    && user.len() <= PRINCIPAL_LEN_MAX
                    && user.chars().all(is_legal))
        });
        if !is_user {
            return Err(BindingError::Principal(self.principal.clone()));
        }
        if self.host != ANY && self.host.parse::<IpAddr>().is_err() {
            return Err(BindingError::Host(self.host.clone()));
        }
        let is_cluster = self.resource == ResourceType::Cluster;
        let is_name = !self.name.is_empty()
            && self.name.len() <= NAME_LEN_MAX
            && !self.name.contains(char::is_control)
            && (!is_cluster || (self.name == CLUSTER_NAME && self.pattern == NamePattern::Literal));
        if !is_name {
            return Err(BindingError::Name {
                resource: self.resource,
                name: self.name.clone(),
            });
        }
        if !has_operation(self.resource, self.operation) {
            return Err(BindingError::Operation {
                resource: self.resource,
                operation: self.operation,
            });
        }
        Ok(())
    }

    /// Whether it is about somebody.
    pub(super) fn is_of(&self, user: Option<&str>, host: IpAddr) -> bool {
        let is_principal = match (self.principal.strip_prefix(USER_PREFIX), user) {
            (Some(ANY), _) => true,
            (Some(name), Some(user)) => name == user,
            (_, None) => self.principal == ANONYMOUS_PRINCIPAL,
            (None, _) => false,
        };
        let is_host = || {
            let own = self.host.parse::<IpAddr>();
            own.is_ok_and(|own| own.to_canonical() == host.to_canonical())
        };
        is_principal && (self.host == ANY || is_host())
    }

    /// Whether it is about all resources of its kind.
    pub(super) fn is_of_all(&self) -> bool {
        self.pattern == NamePattern::Literal && self.name == ANY
    }

    /// Whether its names include one.
    fn fits(&self, name: &str) -> bool {
        match self.pattern {
            NamePattern::Literal => self.name == name || self.name == ANY,
            NamePattern::Prefixed => name.starts_with(&self.name),
        }
    }

    /// Whether it is about a request.
    pub(super) fn is_about(&self, operation: Operation, resource: Resource<'_>) -> bool {
        use Operation as O;
        let is_either = |one| self.operation == one || self.operation == O::All;
        let allows = self.permission == Permission::Allow;
        match (self.resource, resource) {
            (ResourceType::Topic, Resource::Topic(name))
            | (ResourceType::Group, Resource::Group(name)) => {
                self.fits(name) && self.covers(operation)
            }
            (ResourceType::Topic, Resource::AnyTopic)
            | (ResourceType::Cluster, Resource::Cluster) => self.covers(operation),
            // Who may create anything, or number appends anywhere, may do it with
            // each topic; who may not may still be allowed to with some.
            (ResourceType::Cluster, Resource::Topic(_)) => {
                allows && operation == O::Create && is_either(O::Create)
            }
            (ResourceType::Cluster, Resource::AnyTopic) => {
                allows && operation == O::Write && is_either(O::IdempotentWrite)
            }
            _ => false,
        }
    }

    /// Whether it is about an operation. Some imply others, but only where they are
    /// allowed: who may not read may describe.
    fn covers(&self, operation: Operation) -> bool {
        use Operation as O;
        let own = self.operation;
        let is_implied = match operation {
            O::Describe => matches!(own, O::Read | O::Write | O::Delete | O::Alter),
            O::DescribeConfigs => own == O::AlterConfigs,
            _ => false,
        };
        own == O::All || own == operation || (is_implied && self.permission == Permission::Allow)
    }
}

/// Which names a filter selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternFilter {
    /// Bindings with this very name, however it is read.
    Any,
    /// Bindings that are about this name.
    Match,
    /// Bindings with this very name, read so.
    Only(NamePattern),
}

impl PatternFilter {
    /// The filter with a number of Kafka's protocol.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            1 => Some(Self::Any),
            2 => Some(Self::Match),
            _ => NamePattern::from_code(code).map(Self::Only),
        }
    }
}

/// Selects bindings; `None` is all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The kind of what they are about.
    pub resource: Option<ResourceType>,
    /// A name, read as `pattern` says.
    pub name: Option<String>,
    /// How the name selects.
    pub pattern: PatternFilter,
    /// The principal.
    pub principal: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The operation.
    pub operation: Option<Operation>,
    /// Allowing or denying ones.
    pub permission: Option<Permission>,
}

impl Filter {
    /// Selects all.
    #[must_use]
    pub fn all() -> Self {
        Self {
            resource: None,
            name: None,
            pattern: PatternFilter::Any,
            principal: None,
            host: None,
            operation: None,
            permission: None,
        }
    }

    /// Whether it selects a binding.
    #[must_use]
    pub fn selects(&self, binding: &Binding) -> bool {
        let is_pattern = match self.pattern {
            PatternFilter::Only(pattern) => pattern == binding.pattern,
            PatternFilter::Any | PatternFilter::Match => true,
        };
        let is_name = self.name.as_ref().is_none_or(|name| match self.pattern {
            PatternFilter::Match => binding.fits(name),
            PatternFilter::Any | PatternFilter::Only(_) => *name == binding.name,
        });
        is_pattern
            && is_name
            && self.resource.is_none_or(|own| own == binding.resource)
            && self
                .principal
                .as_ref()
                .is_none_or(|own| *own == binding.principal)
            && self.host.as_ref().is_none_or(|own| *own == binding.host)
            && self.operation.is_none_or(|own| own == binding.operation)
            && self.permission.is_none_or(|own| own == binding.permission)
    }
}
