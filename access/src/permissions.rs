//! The decision: the rules of the configuration and the lists that Kafka clients
//! change, as one.
//!
//! A rule that allows `admin` allows everything. Otherwise what a list denies is
//! denied, and what a list or a rule allows is allowed.

use crate::acls::{
    ANONYMOUS_PRINCIPAL, ANY, Acls, Binding, CLUSTER_NAME, NamePattern, Operation, Permission,
    Resource, ResourceType, USER_PREFIX, Verdict,
};
use crate::rules::{Action, Place, Rule, Rules, Subject, Who};

/// All permissions of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Those of the configuration.
    pub rules: Rules,
    /// Those that Kafka clients set.
    pub acls: Acls,
}

impl Permissions {
    /// Whether a subject may do what MQTT and HTTP ask for.
    #[must_use]
    pub fn allow(&self, subject: &Subject<'_>, action: Action, place: Place<'_>) -> bool {
        let by_rules = || self.rules.allow(subject, action, place);
        match listed(action, place) {
            Some((operation, resource)) => self.decide(subject, operation, resource, by_rules),
            None => by_rules(),
        }
    }

    /// Whether a subject may do what Kafka asks for.
    #[must_use]
    pub fn may(&self, subject: &Subject<'_>, operation: Operation, resource: Resource<'_>) -> bool {
        self.decide(subject, operation, resource, || {
            let (action, place) = asked(operation, resource);
            // Whoever writes a topic has to find its partitions.
            let is_topic = matches!(resource, Resource::Topic(_) | Resource::AnyTopic);
            let is_shown_to_writers = is_topic && operation == Operation::Describe;
            self.rules.allow(subject, action, place)
                || (is_shown_to_writers && self.rules.allow(subject, Action::Write, place))
        })
    }

    fn decide(
        &self,
        subject: &Subject<'_>,
        operation: Operation,
        resource: Resource<'_>,
        by_rules: impl FnOnce() -> bool,
    ) -> bool {
        let verdict = self
            .acls
            .verdict(subject.user, subject.host, operation, resource);
        match verdict {
            Verdict::Allowed => true,
            Verdict::Silent => by_rules(),
            Verdict::Denied => self.rules.is_admin(subject),
        }
    }

    /// What the rules of the configuration allow, in the words of Kafka, with the
    /// number of the rule from 0. Permissions on paths are not among them: Kafka
    /// has no paths. A pattern that Kafka has not is shown as a name.
    pub fn of_rules(&self) -> impl Iterator<Item = (usize, Binding)> {
        let rules = self.rules.as_slice().iter().enumerate();
        rules.flat_map(|(at, rule)| bindings(rule).into_iter().map(move |binding| (at, binding)))
    }
}

/// What a request of Kafka is in the rules.
#[must_use]
pub fn asked(operation: Operation, resource: Resource<'_>) -> (Action, Place<'_>) {
    use Operation as O;
    let action = match operation {
        O::Read | O::Describe | O::DescribeConfigs => Action::Read,
        // Uplinks and producers bring their topics with them.
        O::Write | O::Create | O::IdempotentWrite => Action::Write,
        O::All | O::Delete | O::Alter | O::AlterConfigs | O::ClusterAction => Action::Admin,
    };
    match (action, resource) {
        (Action::Admin, _) | (_, Resource::Cluster) => (Action::Admin, Place::Node),
        // A group is of those that read.
        (_, Resource::Group(group)) => (Action::Read, Place::Group(group)),
        (_, Resource::Topic(topic)) => (action, Place::Topic(topic)),
        (_, Resource::AnyTopic) => (action, Place::AnyTopic),
    }
}

/// What an action is in the words of Kafka, where it has some.
fn listed(action: Action, place: Place<'_>) -> Option<(Operation, Resource<'_>)> {
    let resource = match place {
        Place::Topic(name) => Resource::Topic(name),
        Place::Group(name) => Resource::Group(name),
        Place::AnyTopic => Resource::AnyTopic,
        Place::Path(_) | Place::Node | Place::Anywhere => return None,
    };
    match action {
        Action::Read => Some((Operation::Read, resource)),
        Action::Write => Some((Operation::Write, resource)),
        Action::Command | Action::Admin => None,
    }
}

fn bindings(rule: &Rule) -> Vec<Binding> {
    use Operation as O;
    let principal = match &rule.who {
        Who::Anonymous => ANONYMOUS_PRINCIPAL.to_owned(),
        Who::User(pattern) | Who::Certificate(pattern) => format!("{USER_PREFIX}{pattern}"),
    };
    let mut found = Vec::new();
    let mut add = |resource, written: &str, operations: &[Operation]| {
        let (name, pattern) = name_pattern(written);
        found.extend(operations.iter().map(|operation| Binding {
            principal: principal.clone(),
            resource,
            name: name.to_owned(),
            pattern,
            operation: *operation,
            host: ANY.to_owned(),
            permission: Permission::Allow,
        }));
    };
    if rule.allow.contains(&Action::Admin) {
        add(ResourceType::Topic, ANY, &[O::All]);
        add(ResourceType::Group, ANY, &[O::All]);
        add(ResourceType::Cluster, CLUSTER_NAME, &[O::All]);
        return found;
    }
    let reads = rule.allow.contains(&Action::Read);
    let writes = rule.allow.contains(&Action::Write);
    for topic in &rule.topics {
        if reads {
            add(ResourceType::Topic, topic, &[O::Read, O::DescribeConfigs]);
        }
        if writes {
            add(ResourceType::Topic, topic, &[O::Write, O::Create]);
        }
    }
    if reads && !rule.topics.is_empty() {
        if rule.groups.is_empty() {
            add(ResourceType::Group, ANY, &[O::Read]);
        }
        for group in &rule.groups {
            add(ResourceType::Group, group, &[O::Read]);
        }
    }
    found
}

/// A pattern with `*` as Kafka would have it.
fn name_pattern(written: &str) -> (&str, NamePattern) {
    match written.strip_suffix(ANY) {
        Some(start) if !start.is_empty() && !start.contains('*') => (start, NamePattern::Prefixed),
        _ => (written, NamePattern::Literal),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn subject(user: Option<&str>) -> Subject<'_> {
        Subject {
            user,
            by_certificate: false,
            client: None,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    fn rule(who: Who, allow: &[Action], topics: &[&str], groups: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            who,
            allow: allow.to_vec(),
            paths: vec!["plant/#".to_owned()],
            topics: owned(topics),
            groups: owned(groups),
        }
    }

    fn user(name: &str) -> Who {
        Who::User(name.to_owned())
    }

    fn plant(lines: &str) -> Permissions {
        Permissions {
            rules: Rules::new(vec![
                rule(user("data"), &[Action::Read], &["readings"], &[]),
                rule(user("press"), &[Action::Write], &["readings"], &[]),
                rule(user("chief"), &[Action::Admin], &[], &[]),
            ]),
            acls: Acls::parse(&format!("forebay-acls 1\n{lines}")).unwrap(),
        }
    }

    #[test]
    fn lists_add_to_rules_and_denials_take_from_all_but_admins() {
        let lists = plant(
            "allow User:press * read topic literal readings\n\
             deny User:data * read topic literal readings\n\
             deny User:* * delete topic literal readings\n",
        );
        let without = plant("");
        let readings = Resource::Topic("readings");
        for (name, operation, before, after) in [
            ("press", Operation::Read, false, true),
            ("press", Operation::Write, true, true),
            ("data", Operation::Read, true, false),
            ("data", Operation::Describe, true, true),
            ("data", Operation::Delete, false, false),
            ("chief", Operation::Delete, true, true),
        ] {
            let who = subject(Some(name));
            assert_eq!(
                without.may(&who, operation, readings),
                before,
                "{name} {operation:?}"
            );
            assert_eq!(
                lists.may(&who, operation, readings),
                after,
                "{name} {operation:?}"
            );
        }
        let reads = |permissions: &Permissions, name| {
            permissions.allow(&subject(Some(name)), Action::Read, Place::Topic("readings"))
        };
        assert!(reads(&without, "data") && !reads(&lists, "data"));
        assert!(!reads(&without, "press") && reads(&lists, "press"));
        // Paths are not what Kafka's lists are about.
        let path = Place::Path("plant/a");
        assert!(lists.allow(&subject(Some("data")), Action::Read, path));
    }

    #[test]
    fn operations_are_actions() {
        use Operation as O;
        let permissions = plant("");
        for (name, allowed) in [
            ("data", vec![O::Read, O::Describe, O::DescribeConfigs]),
            ("press", vec![O::Write, O::Create, O::Describe]),
            ("chief", O::ALL.to_vec()),
            ("other", vec![]),
        ] {
            let topic = Resource::Topic("readings");
            let found: Vec<Operation> = (O::ALL.iter().copied())
                .filter(|operation| *operation != O::IdempotentWrite || name == "chief")
                .filter(|operation| permissions.may(&subject(Some(name)), *operation, topic))
                .collect();
            let mut allowed = allowed;
            allowed.sort();
            assert_eq!(found, allowed, "{name}");
            let on_cluster = permissions.may(&subject(Some(name)), O::Describe, Resource::Cluster);
            assert_eq!(on_cluster, name == "chief");
        }
    }

    /// Whatever the rules allow a user of Kafka, the list of their bindings allows,
    /// and nothing else.
    #[test]
    fn rules_are_shown_as_what_they_allow() {
        let rules = Rules::new(vec![
            rule(
                user("data"),
                &[Action::Read],
                &["readings", "an.*"],
                &["panel-*"],
            ),
            rule(user("press"), &[Action::Read, Action::Write], &["*"], &[]),
            rule(user("path"), &[Action::Read, Action::Command], &[], &[]),
            rule(user("chief"), &[Action::Admin], &[], &[]),
            rule(Who::Anonymous, &[Action::Write], &["public"], &[]),
        ]);
        let by_rules = Permissions {
            rules,
            acls: Acls::default(),
        };
        let mut shown = Permissions::default();
        for (_, binding) in by_rules.of_rules() {
            binding.check().unwrap();
            shown.acls.add(binding).unwrap();
        }
        let resources = [
            Resource::Topic("readings"),
            Resource::Topic("an.x"),
            Resource::Topic("public"),
            Resource::Group("panel-1"),
            Resource::Group("g"),
            Resource::Cluster,
        ];
        for user in [
            Some("data"),
            Some("press"),
            Some("path"),
            Some("chief"),
            None,
        ] {
            for operation in [
                Operation::Read,
                Operation::Write,
                Operation::Create,
                Operation::Delete,
                Operation::Describe,
                Operation::DescribeConfigs,
                Operation::AlterConfigs,
            ] {
                for resource in resources {
                    // Writing and creating are not what is done with a group.
                    let is_odd = matches!(resource, Resource::Group(_))
                        && !matches!(operation, Operation::Read | Operation::Describe);
                    if is_odd && user != Some("chief") {
                        continue;
                    }
                    let who = subject(user);
                    assert_eq!(
                        by_rules.may(&who, operation, resource),
                        shown.may(&who, operation, resource),
                        "{user:?} {operation:?} {resource:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn patterns_that_kafka_has_not_are_shown_as_names() {
        for (written, expected) in [
            ("a", ("a", NamePattern::Literal)),
            ("*", ("*", NamePattern::Literal)),
            ("a.*", ("a.", NamePattern::Prefixed)),
            ("a*b", ("a*b", NamePattern::Literal)),
            ("a*b*", ("a*b*", NamePattern::Literal)),
        ] {
            assert_eq!(name_pattern(written), expected, "{written}");
        }
    }
}
