//! The metrics of an edge node itself or of one device, by name and alias.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::payload::{Metric, RawValue};

/// A metric that a birth announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Group, edge node, device if any, and name, as levels of a topic name.
    /// `+`, `#` and control characters are replaced by `_`; the name keeps its
    /// slashes.
    pub path: String,
    /// Its name, with the names of the templates it is a member of in front.
    pub name: Arc<str>,
    /// Number of its data type.
    pub datatype: Option<u32>,
    /// Its unit, the property `engUnit`.
    pub unit: Option<String>,
}

/// The metrics of an edge node or a device.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    prefix: String,
    by_name: BTreeMap<Arc<str>, Arc<Definition>>,
    /// `None` for an alias that the birth gave to several metrics: nothing is
    /// attributed by it.
    by_alias: BTreeMap<u64, Option<Arc<Definition>>>,
    room: usize,
}

impl Scope {
    /// A scope without metrics, for at most `room` of them.
    pub fn new(group: &str, edge: &str, device: Option<&str>, room: usize) -> Self {
        let mut prefix = String::new();
        for level in [Some(group), Some(edge), device].into_iter().flatten() {
            push_sanitised(&mut prefix, level);
            prefix.push('/');
        }
        Self {
            prefix,
            by_name: BTreeMap::new(),
            by_alias: BTreeMap::new(),
            room,
        }
    }

    /// Adds a metric. False when there is no room.
    pub fn announce(&mut self, name: &str, metric: &Metric<'_>) -> bool {
        if self.by_name.len() >= self.room && !self.by_name.contains_key(name) {
            return false;
        }
        let definition = self.define(name, metric);
        if let Some(alias) = metric.alias {
            let known = self.by_alias.entry(alias);
            known
                .and_modify(|known| {
                    if known
                        .as_ref()
                        .is_none_or(|known| known.name != definition.name)
                    {
                        *known = None;
                    }
                })
                .or_insert_with(|| Some(Arc::clone(&definition)));
        }
        self.by_name
            .insert(Arc::clone(&definition.name), definition);
        true
    }

    /// The metric of a name, or else of an alias.
    pub fn find(&self, metric: &Metric<'_>) -> Option<Arc<Definition>> {
        match metric.name {
            Some(name) => self.by_name.get(name).cloned(),
            None => self.by_alias.get(&metric.alias?)?.clone(),
        }
    }

    /// The member of a template, which is announced with its first value.
    pub fn member(
        &mut self,
        template: &Definition,
        member: &Metric<'_>,
    ) -> Option<Arc<Definition>> {
        let name = format!("{}/{}", template.name, member.name?);
        if let Some(known) = self.by_name.get(name.as_str()) {
            return Some(Arc::clone(known));
        }
        if self.by_name.len() >= self.room {
            return None;
        }
        let definition = self.define(&name, member);
        let known = Arc::clone(&definition);
        self.by_name.insert(Arc::clone(&definition.name), known);
        Some(definition)
    }

    /// Announces the members of a template without their values.
    pub fn announce_members(&mut self, template: &Arc<Definition>, metric: &Metric<'_>) {
        let Some(RawValue::Template(instance)) = &metric.value else {
            return;
        };
        for member in &instance.metrics {
            if let Some(definition) = self.member(template, member) {
                self.announce_members(&definition, member);
            }
        }
    }

    /// Forgets the aliases: they end with the edge node's session.
    pub fn close(&mut self) {
        self.by_alias.clear();
    }

    /// Whether there is a metric of this name.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The metrics that have values: of a template, its members do.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let template = crate::DataType::Template as u32;
        self.by_name
            .values()
            .filter(move |definition| definition.datatype != Some(template))
    }

    /// Number of metrics.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    fn define(&self, name: &str, metric: &Metric<'_>) -> Arc<Definition> {
        let mut path = self.prefix.clone();
        push_sanitised(&mut path, if name.is_empty() { "_" } else { name });
        Arc::new(Definition {
            path,
            name: name.into(),
            datatype: metric.datatype,
            unit: metric.text_property("engUnit").map(str::to_owned),
        })
    }
}

fn push_sanitised(path: &mut String, text: &str) {
    let allowed = |c: char| match c {
        '+' | '#' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    path.extend(text.chars().map(allowed));
}
