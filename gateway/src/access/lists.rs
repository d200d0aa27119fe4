//! The permissions that Kafka clients list and change.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_access::acls::{Acls, Binding, Filter};
use forebay_broker::{AclRefusal, Selected};

use super::{Access, Policy, Visitor, file};

impl Access {
    /// The permissions that a filter selects: those of the configuration and those
    /// that clients have set.
    ///
    /// # Errors
    /// [`AclRefusal::Disabled`] where everybody may do everything.
    pub fn acls(&self, filter: &Filter) -> Result<Vec<Binding>, AclRefusal> {
        let policy = self.policy();
        if policy.is_open {
            return Err(AclRefusal::Disabled);
        }
        let configured = policy.permissions.of_rules().map(|(_, binding)| binding);
        let mut found: BTreeSet<Binding> = configured
            .filter(|binding| filter.selects(binding))
            .collect();
        found.extend(policy.permissions.acls.selected(filter).cloned());
        Ok(found.into_iter().collect())
    }

    /// Adds all permissions or none. Blocks; they are durable and in force on
    /// return.
    ///
    /// # Errors
    /// [`AclRefusal`].
    pub fn add_acls(&self, by: &Visitor, bindings: &[Binding]) -> Result<(), AclRefusal> {
        self.change_acls(|policy| {
            let mut acls = policy.permissions.acls.clone();
            let is_new = |binding: &&Binding| !acls.contains(binding);
            let new: Vec<&Binding> = bindings.iter().filter(is_new).collect();
            for binding in &new {
                let added = acls.add((*binding).clone());
                added.map_err(|_| AclRefusal::TooMany)?;
            }
            Ok((acls, new))
        })
        .map(|new| {
            for binding in new {
                log(by, binding, "a permission was added");
            }
        })
    }

    /// Removes what each filter selects, and returns that. Blocks; it is durable and
    /// in force on return.
    ///
    /// # Errors
    /// [`AclRefusal`]; nothing is removed.
    pub fn remove_acls(
        &self,
        by: &Visitor,
        filters: &[Filter],
    ) -> Result<Vec<Vec<Selected>>, AclRefusal> {
        let found = self.change_acls(|policy| {
            let mut acls = policy.permissions.acls.clone();
            let found: Vec<_> = filters
                .iter()
                .map(|filter| selected(policy, filter))
                .collect();
            for filter in filters {
                acls.remove(filter);
            }
            Ok((acls, found))
        })?;
        let removed = found
            .iter()
            .flatten()
            .filter(|found| found.kept_by.is_none());
        let removed: BTreeSet<&Binding> = removed.map(|found| &found.binding).collect();
        for binding in removed {
            log(by, binding, "a permission was removed");
        }
        Ok(found)
    }

    /// Writes other permissions and goes by them.
    fn change_acls<T>(
        &self,
        change: impl FnOnce(&Policy) -> Result<(Acls, T), AclRefusal>,
    ) -> Result<T, AclRefusal> {
        // Whoever comes next begins with what is written here.
        let path = self.shared.acls_file.lock();
        let before = self.policy();
        if before.is_open {
            return Err(AclRefusal::Disabled);
        }
        let (acls, changed) = change(&before)?;
        if acls == before.permissions.acls {
            return Ok(changed);
        }
        file::replace(&path, &acls.to_text())
            .map_err(|error| AclRefusal::NotWritten(error.to_string()))?;
        let mut policy = self.shared.policy.write();
        let mut next = policy.as_ref().clone();
        next.permissions.acls = acls;
        *policy = Arc::new(next);
        drop(policy);
        self.shared.changes.send_modify(|changes| *changes += 1);
        Ok(changed)
    }
}

/// What a filter selects; what the configuration grants as well stays.
fn selected(policy: &Policy, filter: &Filter) -> Vec<Selected> {
    let configured = policy.permissions.of_rules();
    let mut found: Vec<Selected> = configured
        .filter(|(_, binding)| filter.selects(binding))
        .map(|(at, binding)| Selected {
            binding,
            kept_by: Some(format!(
                "[[permission]] section {} of the configuration",
                at + 1
            )),
        })
        .collect();
    let kept: BTreeSet<Binding> = found.iter().map(|found| found.binding.clone()).collect();
    let own = policy.permissions.acls.selected(filter);
    found.extend(
        own.filter(|binding| !kept.contains(binding))
            .map(|binding| Selected {
                binding: binding.clone(),
                kept_by: None,
            }),
    );
    found
}

fn log(by: &Visitor, binding: &Binding, what: &str) {
    let user = by.user.as_deref().unwrap_or("anonymous");
    tracing::info!(user, address = %by.address, permission = %binding, "{what}");
}
