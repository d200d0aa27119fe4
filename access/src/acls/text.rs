//! The file of bindings.

use super::{
    Acls, BINDINGS_MAX, Binding, BindingError, NamePattern, Operation, Permission, ResourceType,
};

const HEAD: &str = "forebay-acls 1";
/// Largest file that is read: the longest lines, as many as there may be.
pub const FILE_LEN_MAX: usize = 8 << 20;

/// Why a file of bindings cannot be read, or a binding not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclsError {
    /// The first line.
    #[error("line 1: expected \"{HEAD}\"")]
    Head,
    /// Another line.
    #[error(
        "line {line}: expected allow or deny, a principal, a host, an operation, a resource type, literal or prefixed, and a name"
    )]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A binding in it.
    #[error("line {line}: {source}")]
    Binding {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        source: BindingError,
    },
    /// Too many.
    #[error("expected at most {BINDINGS_MAX} permissions")]
    TooMany,
}

impl Acls {
    /// Reads a file; an empty one has none.
    ///
    /// # Errors
    /// [`AclsError`] with the line.
    pub fn parse(text: &str) -> Result<Self, AclsError> {
        let mut acls = Self::default();
        for (at, line) in text.lines().enumerate() {
            match (at, line) {
                (0, HEAD) | (1.., "") => continue,
                (0, _) => return Err(AclsError::Head),
                (_, line) if line.starts_with('#') => continue,
                _ => {}
            }
            let line_number = at + 1;
            let binding = binding(line).ok_or(AclsError::Line { line: line_number })?;
            binding.check().map_err(|source| AclsError::Binding {
                line: line_number,
                source,
            })?;
            acls.add(binding)?;
        }
        Ok(acls)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for binding in &self.bindings {
            text.push_str(&binding.to_string());
            text.push('\n');
        }
        text
    }
}

/// One line. The name is last, because that of a group may have spaces.
fn binding(line: &str) -> Option<Binding> {
    let mut words = line.splitn(7, ' ');
    let permission = Permission::named(words.next()?)?;
    let principal = words.next()?.to_owned();
    let host = words.next()?.to_owned();
    let operation = Operation::named(words.next()?)?;
    let resource = ResourceType::named(words.next()?)?;
    let pattern = NamePattern::named(words.next()?)?;
    let name = words.next()?.to_owned();
    Some(Binding {
        principal,
        resource,
        name,
        pattern,
        operation,
        host,
        permission,
    })
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {}",
            self.permission.word(),
            self.principal,
            self.host,
            self.operation.word(),
            self.resource.word(),
            self.pattern.word(),
            self.name,
        )
    }
}
