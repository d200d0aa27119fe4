use super::*;

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn change(name: &str, operation: i8, value: Option<&str>) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        operation,
        value: value.map(str::to_owned),
    }
}

#[test]
fn every_default_is_accepted_by_its_own_row() {
    for key in TOPIC_CONFIGS {
        assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
    }
}

#[test]
fn rows_are_sorted_and_unique() {
    assert!(
        TOPIC_CONFIGS
            .windows(2)
            .all(|pair| pair[0].name < pair[1].name)
    );
}

#[test]
fn unknown_keys_and_impossible_values_are_refused() {
    assert_eq!(
        validate(&configs(&[("retention.hours", "1")])),
        Err(TopicConfigError::Unknown {
            name: "retention.hours".into()
        })
    );
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("max.message.bytes", "10"),
        ("message.timestamp.type", "Whenever"),
    ] {
        assert!(
            matches!(
                validate(&configs(&[(name, value)])),
                Err(TopicConfigError::Value { .. })
            ),
            "{name}={value}"
        );
    }
}

#[test]
fn changes_set_delete_append_and_subtract() {
    let mut topic = configs(&[("retention.ms", "1000")]);
    let changes = [
        change("retention.bytes", 0, Some("5000")),
        change("retention.ms", 1, None),
        change("cleanup.policy", 2, Some("delete")),
    ];
    assert_eq!(apply(&mut topic, &changes), Ok(()));
    assert_eq!(
        topic,
        configs(&[("cleanup.policy", "delete"), ("retention.bytes", "5000")])
    );
    assert!(matches!(
        apply(&mut topic, &[change("cleanup.policy", 2, Some("compact"))]),
        Err(TopicConfigError::Value { .. })
    ));
    assert!(matches!(
        apply(&mut topic, &[change("cleanup.policy", 3, Some("delete"))]),
        Err(TopicConfigError::Value { .. })
    ));
    assert_eq!(
        apply(&mut topic, &[change("retention.ms", 2, Some("1"))]),
        Err(TopicConfigError::NotAList {
            name: "retention.ms"
        })
    );
    assert!(matches!(
        apply(&mut topic, &[change("retention.ms", 9, None)]),
        Err(TopicConfigError::Operation { .. })
    ));
    assert!(matches!(
        apply(&mut topic, &[change("retention.ms", 0, None)]),
        Err(TopicConfigError::NullValue { .. })
    ));
}

#[test]
fn append_rules_fall_back_to_the_node() {
    assert_eq!(
        AppendRules::resolve(&BTreeMap::new(), 77),
        AppendRules {
            max_message_bytes: 77,
            log_append_time: false,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None
        }
    );
    let own = configs(&[
        ("max.message.bytes", "100"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.after.max.ms", "3600000"),
    ]);
    assert_eq!(
        AppendRules::resolve(&own, 77),
        AppendRules {
            max_message_bytes: 100,
            log_append_time: true,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: Some(3_600_000)
        }
    );
}
