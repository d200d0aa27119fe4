use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Bindings from the lines of a file.
fn acls(lines: &[&str]) -> Acls {
    Acls::parse(&format!("forebay-acls 1\n{}\n", lines.join("\n"))).unwrap()
}

fn binding(line: &str) -> Binding {
    acls(&[line]).bindings.into_iter().next().unwrap()
}

fn verdict(acls: &Acls, operation: Operation, resource: Resource<'_>) -> Verdict {
    acls.verdict(Some("mia"), HOST, operation, resource)
}

/// Rows of Kafka's AclAuthorizer: what is allowed, asked and found.
#[test]
fn operations_imply_others_where_they_are_allowed() {
    use Operation as O;
    let described: &[Operation] = &[O::Describe];
    for (written, implied) in [
        ("read", described),
        ("write", described),
        ("delete", described),
        ("alter", described),
        ("create", &[]),
        ("describe", &[]),
        ("describe-configs", &[]),
        ("alter-configs", &[O::DescribeConfigs]),
        ("all", O::ALL),
    ] {
        let allow = acls(&[&format!(
            "allow User:mia * {written} topic literal readings"
        )]);
        let deny = acls(&[
            "allow User:mia * all topic literal readings",
            &format!("deny User:mia * {written} topic literal readings"),
        ]);
        for operation in O::ALL {
            let is_it = operation.word() == written;
            let is_allowed = is_it || implied.contains(operation);
            let found = verdict(&allow, *operation, Resource::Topic("readings"));
            assert_eq!(
                found == Verdict::Allowed,
                is_allowed,
                "{written} {operation:?}"
            );
            let is_denied = is_it || written == "all";
            let found = verdict(&deny, *operation, Resource::Topic("readings"));
            assert_eq!(
                found == Verdict::Denied,
                is_denied,
                "{written} {operation:?}"
            );
        }
    }
}

#[test]
fn names_are_whole_begun_or_all() {
    for (pattern, name, asked, expected) in [
        ("literal", "readings", "readings", true),
        ("literal", "readings", "readings2", false),
        ("literal", "*", "readings", true),
        ("prefixed", "read", "readings", true),
        ("prefixed", "readings", "readings", true),
        ("prefixed", "readings.", "readings", false),
        ("prefixed", "*", "readings", false),
    ] {
        let acls = acls(&[&format!("allow User:mia * read group {pattern} {name}")]);
        let found = verdict(&acls, Operation::Read, Resource::Group(asked));
        assert_eq!(
            found == Verdict::Allowed,
            expected,
            "{pattern} {name} {asked}"
        );
        let found = verdict(&acls, Operation::Read, Resource::Topic(asked));
        assert_eq!(found, Verdict::Silent);
    }
}

#[test]
fn principals_and_hosts_select_who_asks() {
    let acls = acls(&[
        "allow User:mia 192.0.2.7 read topic literal a",
        "allow User:* * read topic literal b",
        "allow User:ANONYMOUS * read topic literal c",
    ]);
    let may = |user, host, topic| {
        acls.verdict(user, host, Operation::Read, Resource::Topic(topic)) == Verdict::Allowed
    };
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
    let other = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert!(may(Some("mia"), HOST, "a"));
    assert!(may(Some("mia"), mapped, "a"));
    assert!(!may(Some("mia"), other, "a"));
    assert!(!may(Some("miau"), HOST, "a"));
    assert!(!may(None, HOST, "a"));
    assert!(may(Some("any"), other, "b"));
    assert!(may(None, other, "b"));
    assert!(may(None, other, "c"));
    assert!(!may(Some("mia"), other, "c"));
}

#[test]
fn a_cluster_wide_permission_reaches_topics_only_to_create_and_to_number() {
    let create = acls(&["allow User:mia * create cluster literal kafka-cluster"]);
    let all = acls(&["allow User:mia * all cluster literal kafka-cluster"]);
    let number = acls(&["allow User:mia * idempotent-write cluster literal kafka-cluster"]);
    for (acls, creates, writes_any) in [
        (create, true, false),
        (all, true, true),
        (number, false, true),
    ] {
        let may = |operation, resource| verdict(&acls, operation, resource) == Verdict::Allowed;
        assert_eq!(may(Operation::Create, Resource::Topic("a")), creates);
        assert_eq!(may(Operation::Write, Resource::AnyTopic), writes_any);
        assert!(!may(Operation::Write, Resource::Topic("a")));
        assert!(!may(Operation::Read, Resource::Topic("a")));
        assert!(!may(Operation::Read, Resource::Group("a")));
    }
    let both = acls_of_create();
    assert_eq!(
        verdict(&both, Operation::Create, Resource::Topic("a")),
        Verdict::Allowed
    );
}

/// Who may not create everywhere may still create some.
fn acls_of_create() -> Acls {
    acls(&[
        "deny User:mia * create cluster literal kafka-cluster",
        "allow User:mia * create topic literal a",
    ])
}

#[test]
fn any_topic_is_denied_only_with_all() {
    let some = acls(&[
        "allow User:mia * write topic prefixed a",
        "deny User:mia * write topic literal ab",
    ]);
    let none = acls(&[
        "allow User:mia * write topic prefixed a",
        "deny User:mia * write topic literal *",
    ]);
    assert_eq!(
        verdict(&some, Operation::Write, Resource::AnyTopic),
        Verdict::Allowed
    );
    assert_eq!(
        verdict(&none, Operation::Write, Resource::AnyTopic),
        Verdict::Denied
    );
    assert_eq!(
        verdict(&some, Operation::Read, Resource::AnyTopic),
        Verdict::Silent
    );
}

#[test]
fn filters_select_by_name_or_by_what_a_binding_is_about() {
    let all = acls(&[
        "allow User:mia * read topic literal readings",
        "allow User:mia * read topic literal *",
        "allow User:bob * read topic prefixed read",
        "deny User:mia * delete group literal readings",
    ]);
    let selected = |filter: Filter| all.selected(&filter).count();
    let named = |pattern| Filter {
        resource: Some(ResourceType::Topic),
        name: Some("readings".to_owned()),
        pattern,
        ..Filter::all()
    };
    assert_eq!(selected(Filter::all()), 4);
    assert_eq!(selected(named(PatternFilter::Any)), 1);
    assert_eq!(selected(named(PatternFilter::Match)), 3);
    assert_eq!(
        selected(named(PatternFilter::Only(NamePattern::Literal))),
        1
    );
    assert_eq!(
        selected(named(PatternFilter::Only(NamePattern::Prefixed))),
        0
    );
    for (filter, expected) in [
        (
            Filter {
                principal: Some("User:mia".to_owned()),
                ..Filter::all()
            },
            3,
        ),
        (
            Filter {
                host: Some("192.0.2.7".to_owned()),
                ..Filter::all()
            },
            0,
        ),
        (
            Filter {
                operation: Some(Operation::Read),
                ..Filter::all()
            },
            3,
        ),
        (
            Filter {
                permission: Some(Permission::Deny),
                ..Filter::all()
            },
            1,
        ),
        (
            Filter {
                pattern: PatternFilter::Only(NamePattern::Prefixed),
                ..Filter::all()
            },
            1,
        ),
    ] {
        assert_eq!(selected(filter.clone()), expected, "{filter:?}");
    }
    let mut left = all.clone();
    left.remove(&named(PatternFilter::Match));
    assert_eq!(
        left.to_text(),
        "forebay-acls 1\ndeny User:mia * delete group literal readings\n"
    );
}

#[test]
fn what_kafka_cannot_mean_is_refused() {
    for (line, expected) in [
        ("allow mia * read topic literal a", "principal \"mia\""),
        ("allow User: * read topic literal a", "principal \"User:\""),
        (
            "allow User:CN=mia * read topic literal a",
            "principal \"User:CN=mia\"",
        ),
        (
            "allow User:press-* * read topic literal a",
            "principal \"User:press-*\"",
        ),
        (
            "allow User:mia 192.0.2.0/24 read topic literal a",
            "host \"192.0.2.0/24\"",
        ),
        ("allow User:mia * read topic literal ", "topic name \"\""),
        (
            "allow User:mia * create cluster literal plant",
            "cluster name \"plant\"",
        ),
        (
            "allow User:mia * create cluster prefixed kafka-cluster",
            "cluster name",
        ),
        (
            "allow User:mia * read cluster literal kafka-cluster",
            "no read on a cluster",
        ),
        (
            "allow User:mia * idempotent-write topic literal a",
            "no idempotent-write on a topic",
        ),
        (
            "allow User:mia * write group literal a",
            "no write on a group",
        ),
        (
            "permit User:mia * read topic literal a",
            "expected allow or deny",
        ),
        (
            "allow User:mia * read topic literal",
            "expected allow or deny",
        ),
    ] {
        let error = Acls::parse(&format!("forebay-acls 1\n\n{line}\n")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("line 3: ") && text.contains(expected),
            "{line}: {text}"
        );
    }
    assert_eq!(Acls::parse("forebay-acls 2\n"), Err(AclsError::Head));
    assert_eq!(Acls::parse(""), Ok(Acls::default()));
    let long = Binding {
        name: "a".repeat(256),
        ..binding("allow User:mia * read topic literal a")
    };
    assert!(matches!(long.check(), Err(BindingError::Name { .. })));
    let control = Binding {
        name: "a\nallow User:eve * all topic literal *".to_owned(),
        ..binding("allow User:mia * read topic literal a")
    };
    assert!(matches!(control.check(), Err(BindingError::Name { .. })));
}

#[test]
fn there_is_a_limit() {
    let mut acls = Acls::default();
    let numbered = |number: usize| Binding {
        name: number.to_string(),
        ..binding("allow User:mia * read topic literal a")
    };
    for number in 0..BINDINGS_MAX {
        acls.add(numbered(number)).unwrap();
    }
    assert_eq!(acls.add(numbered(BINDINGS_MAX)), Err(AclsError::TooMany));
    assert_eq!(acls.add(numbered(0)), Ok(()));
    assert_eq!(acls.len(), BINDINGS_MAX);
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let one_of = |words: &'static [&'static str]| proptest::sample::select(words);
    (
        one_of(&["allow", "deny"]),
        one_of(&["User:mia", "User:*", "User:ANONYMOUS"]),
        one_of(&["*", "192.0.2.7", "::1"]),
        one_of(&["all", "read", "describe", "delete"]),
        one_of(&["topic", "group"]),
        one_of(&["literal", "prefixed"]),
        "[a-c *]{1,4}",
    )
        .prop_map(
            |(permission, principal, host, operation, resource, pattern, name)| {
                binding(&format!(
                    "{permission} {principal} {host} {operation} {resource} {pattern} {name}"
                ))
            },
        )
}

proptest! {
    /// What was written is read again, whatever is in it.
    #[test]
    fn a_file_is_read_as_it_was_written(bindings in proptest::collection::vec(any_binding(), 0..20)) {
        let mut acls = Acls::default();
        for binding in bindings {
            acls.add(binding).unwrap();
        }
        prop_assert_eq!(Acls::parse(&acls.to_text()), Ok(acls));
    }

    /// Another permission takes nothing away, another denial gives nothing.
    #[test]
    fn bindings_are_monotonous(
        bindings in proptest::collection::vec(any_binding(), 0..8),
        one_more in any_binding(),
        name in "[a-c *]{1,4}",
    ) {
        let mut before = Acls::default();
        for binding in bindings {
            before.add(binding).unwrap();
        }
        let mut after = before.clone();
        after.add(one_more.clone()).unwrap();
        for operation in [Operation::Read, Operation::Describe, Operation::Delete] {
            for resource in [Resource::Topic(&name), Resource::Group(&name), Resource::AnyTopic] {
                let was = verdict(&before, operation, resource) == Verdict::Allowed;
                let is = verdict(&after, operation, resource) == Verdict::Allowed;
                match one_more.permission {
                    Permission::Allow => prop_assert!(is || !was),
                    Permission::Deny => prop_assert!(was || !is),
                }
            }
        }
    }

    /// No text makes the reader fail otherwise than by saying so.
    #[test]
    fn any_text_is_read_or_refused(text in "(forebay-acls 1\n)?(allow|deny| |User:|\\*|topic|\n|[a-z]){0,30}") {
        if let Ok(acls) = Acls::parse(&text) {
            prop_assert_eq!(Acls::parse(&acls.to_text()), Ok(acls));
        }
    }
}
