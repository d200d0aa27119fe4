use super::*;

fn spec(filter: &str, topic: &str, key: Option<&str>) -> RouteSpec {
    RouteSpec {
        durability: Durability::Log,
        filter: filter.to_owned(),
        topic: topic.to_owned(),
        key: key.map(str::to_owned),
        partitions: 4,
    }
}

fn routes(specs: &[RouteSpec]) -> Routes {
    Routes::new(specs).unwrap()
}

fn to(topic: &str, key: Option<&str>, partitions: u32) -> Destination {
    Destination {
        topic: topic.to_owned(),
        key: key.map(str::to_owned),
        partitions,
    }
}

#[test]
fn the_first_matching_route_wins() {
    let routes = routes(&[
        spec("plant/+/vibration", "vibration", None),
        spec("plant/#", "plant", None),
    ]);
    assert_eq!(
        routes.resolve("plant/7/vibration"),
        to("vibration", None, 4)
    );
    assert_eq!(routes.resolve("plant/7/heat"), to("plant", None, 4));
    assert_eq!(routes.resolve("plant"), to("plant", None, 4));
    assert_eq!(
        routes.resolve("other"),
        to(DEFAULT_TOPIC, None, DEFAULT_PARTITIONS)
    );
}

#[test]
fn named_levels_fill_topic_and_key() {
    let routes = routes(&[spec(
        "plant/{site}/+/{machine}/#",
        "plant.{site}",
        Some("{machine}"),
    )]);
    assert_eq!(
        routes.resolve("plant/ulm/hall/press/rpm"),
        to("plant.ulm", Some("press"), 4)
    );
    assert_eq!(
        routes.resolve("plant/ü m/hall/press"),
        to("plant.__m", Some("press"), 4)
    );
}

#[test]
fn a_level_cannot_reach_an_internal_topic() {
    let routes = routes(&[spec("{site}/#", "{site}", None)]);
    assert_eq!(routes.resolve("__state/x").topic, DEFAULT_TOPIC);
    assert_eq!(routes.resolve("../x").topic, DEFAULT_TOPIC);
    assert_eq!(routes.resolve("/x").topic, DEFAULT_TOPIC);
}

#[test]
fn wildcards_leave_out_paths_that_begin_with_a_dollar() {
    let routes = routes(&[
        spec("#", "all", None),
        spec("$sparkplug/#", "sparkplug", None),
    ]);
    assert_eq!(routes.resolve("$sparkplug/x").topic, "sparkplug");
    assert_eq!(routes.resolve("$other/x").topic, DEFAULT_TOPIC);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mut bad_count = spec("a", "a", None);
    bad_count.partitions = 0;
    let errors = Routes::new(&[
        spec("a/#/b", "t", None),
        spec("a/b+", "t", None),
        spec("{a}/{a}", "t", None),
        spec("a", "t {x}", None),
        spec("a", "t{", None),
        spec("a", "t t", None),
        spec("a", "__t", None),
        spec("", "t", None),
        bad_count,
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 9, "{errors:?}");
}

#[test]
fn a_topic_is_covered_when_a_template_can_yield_it() {
    let routes = routes(&[spec("plant/{site}/{line}", "p.{site}.{line}", None)]);
    assert!(routes.covers_topic("p.ulm.1"));
    assert!(routes.covers_topic(DEFAULT_TOPIC));
    assert!(!routes.covers_topic("p"));
    assert!(!routes.covers_topic("orders"));
}

#[test]
fn only_routes_that_overlap_a_filter_name_its_topics() {
    let routes = routes(&[
        spec("plant/+/vibration", "vibration", None),
        spec("lab/#", "lab", None),
    ]);
    assert!(routes.topic_may_match("vibration", "plant/#"));
    assert!(routes.topic_may_match("vibration", "+/7/vibration"));
    assert!(routes.topic_may_match("vibration", "plant/7/vibration/#"));
    assert!(!routes.topic_may_match("vibration", "plant/7/heat"));
    assert!(!routes.topic_may_match("vibration", "plant/7"));
    assert!(routes.topic_may_match("lab", "lab"));
    assert!(!routes.topic_may_match("lab", "plant/#"));
    assert!(routes.topic_may_match(DEFAULT_TOPIC, "plant/7/heat"));
}

/// The vectors of Kafka's own `UtilsTest.testMurmur2`.
#[test]
fn murmur2_agrees_with_kafka() {
    let cases: [(&[u8], i32); 7] = [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        (b"abc", 479_470_107),
        (b"", 275_646_681),
    ];
    for (key, expected) in cases {
        assert_eq!(murmur2(key) as i32, expected, "{key:?}");
    }
}

#[test]
fn a_memory_route_takes_its_paths_out_of_the_log_when_it_is_the_first() {
    let memory = RouteSpec {
        durability: Durability::Memory,
        ..spec("+/reply/#", "", None)
    };
    let first = spec("kept/#", "kept", None);
    let routes = routes(&[first, memory, spec("plant/#", "plant", None)]);
    assert!(routes.is_memory("plant/reply/7"));
    assert!(!routes.is_memory("kept/reply/7"));
    assert!(!routes.is_memory("plant/7"));
    assert!(!routes.is_memory("$SYS/reply/7"));
    // What is to be kept all the same goes on to the next route.
    assert_eq!(routes.resolve("plant/reply/7").topic, "plant");
    assert!(
        !routes
            .fixed_topics()
            .iter()
            .any(|(name, _)| name.is_empty())
    );
}
