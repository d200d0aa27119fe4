//! `[sparkplug]`: the gateway as a Sparkplug-aware server and host application.

use std::time::Duration;

use forebay_sparkplug::{NAMESPACE, is_valid_id};

use super::node::duration_within;
use super::section::Section;
use super::{Route, defaults};
use crate::ingest::routes::Durability;

/// `[sparkplug]` of a node that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparkplug {
    /// The first levels of the paths of readings.
    pub prefix: String,
    /// Groups whose metrics become readings. Empty: all.
    pub groups: Vec<String>,
    /// The id under which the gateway says in STATE messages that it is there.
    /// `None`: it says nothing.
    pub host_id: Option<String>,
    /// Whether births are asked for when they are missing.
    pub rebirth: bool,
    /// Least time between two such requests to one edge node.
    pub rebirth_interval: Duration,
    /// How long a missing message is waited for.
    pub reorder_timeout: Duration,
    /// Whether NDEATH messages get the time at which they are published.
    pub ndeath_timestamp: bool,
}

/// Reads `[sparkplug]`; `None` unless it is enabled.
pub(super) fn sparkplug(root: &Section<'_>) -> Option<Sparkplug> {
    const GROUPS: &str = "expected a list of group ids";
    const ID: &str = "expected an id without '/', '+' and '#'";
    let section = root.table("sparkplug");
    let enabled = section.flag("enabled").unwrap_or(false);
    let prefix = section.text("prefix", "expected levels of a path", prefix);
    let groups = section.texts("groups", defaults::SPARKPLUG_GROUPS_MAX, GROUPS, |text| {
        is_valid_id(text).then(|| text.to_owned())
    });
    let host_id = section.parsed("host_id", ID, |text| {
        is_valid_id(text).then(|| text.to_owned())
    });
    let rebirth = section.flag("rebirth");
    let rebirth_interval = duration_within(
        &section,
        "rebirth_interval",
        defaults::SPARKPLUG_REBIRTH_INTERVAL_MIN,
        defaults::SPARKPLUG_REBIRTH_INTERVAL_MAX,
        "expected a duration from \"1s\" to \"5m\"",
    );
    let reorder_timeout = duration_within(
        &section,
        "reorder_timeout",
        Duration::ZERO,
        defaults::SPARKPLUG_REORDER_TIMEOUT_MAX,
        "expected a duration from \"0s\" to \"1m\"",
    );
    let ndeath_timestamp = section.flag("ndeath_timestamp");
    section.finish();
    enabled.then(|| Sparkplug {
        prefix: prefix.unwrap_or_else(|| defaults::SPARKPLUG_PREFIX.to_owned()),
        groups: groups.unwrap_or_default(),
        host_id,
        rebirth: rebirth.unwrap_or(false),
        rebirth_interval: rebirth_interval.unwrap_or(defaults::SPARKPLUG_REBIRTH_INTERVAL),
        reorder_timeout: reorder_timeout.unwrap_or(defaults::SPARKPLUG_REORDER_TIMEOUT),
        ndeath_timestamp: ndeath_timestamp.unwrap_or(false),
    })
}

/// Puts the routes of Sparkplug in front of all others: what an edge node
/// publishes stays in order only within one partition, so all of it goes to
/// one topic with the edge node as its key.
pub(super) fn put_routes(root: &Section<'_>, routes: &mut Vec<Route>) {
    const TOPIC: &str = defaults::SPARKPLUG_TOPIC;
    let differs =
        |route: &Route| route.topic == TOPIC && route.partitions != defaults::SPARKPLUG_PARTITIONS;
    if routes.iter().any(differs) {
        root.mistake(
            "route",
            format!("expected no other number of partitions than 1 for the topic \"{TOPIC}\", which [sparkplug] uses"),
        );
    }
    let route = |filter: String, key: Option<&str>| Route {
        filter,
        topic: TOPIC.to_owned(),
        partitions: defaults::SPARKPLUG_PARTITIONS,
        key: key.map(str::to_owned),
        durability: Durability::Log,
    };
    let own = [
        route(
            format!("{NAMESPACE}/{{group}}/+/{{edge}}/#"),
            Some("{group}/{edge}"),
        ),
        route(format!("{NAMESPACE}/#"), None),
        route("$sparkplug/#".to_owned(), None),
    ];
    routes.splice(0..0, own);
}

fn prefix(text: &str) -> Result<String, String> {
    let is_level = |level: &str| !level.is_empty() && !level.contains(['+', '#', '\0']);
    if text.starts_with('$') || text.split('/').next() == Some(NAMESPACE) {
        return Err(format!(
            "expected a path that does not begin with '$' or {NAMESPACE}"
        ));
    }
    if !text.split('/').all(is_level) {
        return Err("expected levels without '+' and '#', with one '/' between them".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, ConfigError};

    fn parse(section: &str) -> Result<Config, ConfigError> {
        let text =
            format!("[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n{section}");
        Config::parse(Path::new("gateway.toml"), &text)
    }

    #[test]
    fn a_section_that_is_not_enabled_does_nothing() {
        let config = parse("[sparkplug]\nprefix = \"line\"").unwrap();
        assert_eq!(config.sparkplug, None);
        assert_eq!(config.routes.len(), 1);
    }

    #[test]
    fn an_edge_node_is_the_key_of_its_messages() {
        let config = parse("[sparkplug]\nenabled = true").unwrap();
        let sparkplug = config.sparkplug.unwrap();
        assert_eq!(sparkplug.prefix, "sparkplug");
        assert!(!sparkplug.rebirth);
        assert_eq!(sparkplug.host_id, None);
        assert_eq!(config.routes[0].filter, "spBv1.0/{group}/+/{edge}/#");
        assert_eq!(config.routes[0].key.as_deref(), Some("{group}/{edge}"));
    }

    #[test]
    fn mistakes_name_key_and_expectation() {
        let Err(ConfigError::Mistakes(mistakes)) = parse(
            "[sparkplug]\nenabled = true\nprefix = \"spBv1.0/x\"\ngroups = [\"a/b\"]\n\
             host_id = \"+\"\nreorder_timeout = \"2h\"\nrebirht = true",
        ) else {
            panic!("expected mistakes");
        };
        let keys: Vec<&str> = mistakes.iter().map(|m| m.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "sparkplug.prefix",
                "sparkplug.groups[0]",
                "sparkplug.host_id",
                "sparkplug.reorder_timeout",
                "sparkplug.rebirht",
            ]
        );
    }

    #[test]
    fn another_route_to_the_topic_must_agree_about_partitions() {
        let mistakes = parse(
            "[sparkplug]\nenabled = true\n[[route]]\nfilter = \"a/#\"\ntopic = \"sparkplug\"\n\
             partitions = 4",
        );
        assert!(mistakes.unwrap_err().to_string().contains("sparkplug"));
    }
}
