use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::try_from(text).expect("valid filter in a test")
}

fn name(text: &str) -> TopicName {
    TopicName::try_from(text).expect("valid name in a test")
}

#[test]
fn filters_match_as_the_specification_shows() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
            true,
        ),
        ("sport/tennis/player1/#", "sport/tennis/player10", false),
        ("sport/#", "sport", true),
        ("#", "sport/tennis", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis/x", true),
        ("#", "$SYS/uptime", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/uptime", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("ACCOUNTS", "Accounts", false),
        ("/finance", "finance", false),
        // The same letter to people, written in two ways.
        ("\u{e5}", "a\u{30a}", false),
        ("a", "\u{feff}a", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("é/+", "é/x", true),
        ("$share/group/sport/+", "sport/tennis", true),
        ("+/$x", "a/$x", true),
    ];
    for (text, topic, expected) in cases {
        assert_eq!(
            filter(text).matches(&name(topic)),
            expected,
            "{text} {topic}"
        );
        let mut tree = SubscriptionTree::new();
        assert!(tree.insert(&filter(text), 1));
        assert_eq!(
            !tree.matches(&name(topic)).is_empty(),
            expected,
            "tree {text} {topic}"
        );
        assert!(tree.remove(&filter(text), &1));
        assert!(tree.is_empty() && tree.matches(&name(topic)).is_empty());
    }
}

#[test]
fn bad_filters_are_refused() {
    use TopicError::{Empty, MultiLevelWildcard, Share, SingleLevelWildcard};
    let cases = [
        ("", Empty),
        ("sport/tennis#", MultiLevelWildcard),
        ("sport/tennis/#/ranking", MultiLevelWildcard),
        ("#/", MultiLevelWildcard),
        ("##", MultiLevelWildcard),
        ("sport+", SingleLevelWildcard),
        ("+a/b", SingleLevelWildcard),
        ("a/++", SingleLevelWildcard),
        ("$share/", Share),
        ("$share/group", Share),
        ("$share//a", Share),
        ("$share/group/", Share),
        ("$share/gr+up/a", Share),
        ("$share/gr#up/a", Share),
    ];
    for (text, error) in cases {
        assert_eq!(TopicFilter::try_from(text), Err(error), "{text:?}");
    }
    let deep = "a/".repeat(FILTER_LEVELS_MAX);
    let levels = FILTER_LEVELS_MAX + 1;
    assert_eq!(
        TopicFilter::try_from(deep.as_str()),
        Err(TopicError::TooDeep { levels })
    );
}

#[test]
fn names_with_wildcards_or_without_characters_are_refused() {
    assert_eq!(TopicName::try_from(""), Err(TopicError::Empty));
    assert_eq!(TopicName::try_from("a/+"), Err(TopicError::WildcardInName));
    assert_eq!(TopicName::try_from("a#"), Err(TopicError::WildcardInName));
    assert_eq!(name("/").as_str(), "/");
}

#[test]
fn share_name_is_parsed() {
    assert_eq!(filter("$share/line 1/a/#").share_name(), Some("line 1"));
    assert!(filter("$share/g/+").is_shared());
    assert_eq!(filter("$shared/g/a").share_name(), None);
}

#[test]
fn overlapping_subscriptions_are_visited_each_and_returned_once() {
    let mut tree = SubscriptionTree::new();
    for text in ["a/#", "a/+", "a/b", "#", "c"] {
        assert!(tree.insert(&filter(text), "client"));
    }
    assert!(!tree.insert(&filter("a/b"), "client"));
    assert_eq!(tree.len(), 5);
    let mut visits = 0;
    tree.for_each_match(&name("a/b"), |_| visits += 1);
    assert_eq!(visits, 4);
    assert_eq!(tree.matches(&name("a/b")), [&"client"]);
    assert!(!tree.remove(&filter("a/x"), &"client"));
    assert!(!tree.remove(&filter("a/b"), &"other"));
    assert_eq!(tree.len(), 5);
}

mod agreement {
    use super::*;
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("$s".to_owned())
        ]
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let wild = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
        (prop::collection::vec(wild, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn tree_and_filter_agree(
            filters in prop::collection::vec(any_filter(), 1..20),
            topic in prop::collection::vec(level(), 1..5),
        ) {
            let topic = topic.join("/");
            prop_assume!(!topic.is_empty());
            let topic = name(&topic);
            let mut tree = SubscriptionTree::new();
            let mut expected = Vec::new();
            for (index, text) in filters.iter().enumerate() {
                if text.is_empty() {
                    continue;
                }
                tree.insert(&filter(text), index);
                if filter(text).matches(&topic) {
                    expected.push(index);
                }
            }
            let found: Vec<usize> = tree.matches(&topic).into_iter().copied().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
