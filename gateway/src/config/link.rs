//! `[[route]]` and `[uplink]`: where readings go, here and at the hub.

use forebay_access::scram::Mechanism;

use super::names::{check_filter, check_key, check_site, check_topic, host_port};
use super::quantity::rate;
use super::section::Section;
use super::tls::client_tls;
use crate::sasl::{Sasl, SaslMechanism};

use super::{Durability, Route, Uplink, UplinkTopic, defaults};

/// Reads every `[[route]]` and closes the list with the default route. The
/// flag says whether the file has any.
pub(super) fn routes(root: &Section<'_>) -> (Vec<Route>, bool) {
    const ROUTES: &str = "expected [[route]] tables with filter and topic";
    let sections = root.tables("route", ROUTES);
    let has_routes = root.has("route");
    if sections.len() > defaults::ROUTES_MAX {
        root.mistake(
            "route",
            format!("expected at most {} routes", defaults::ROUTES_MAX),
        );
    }
    let mut routes: Vec<Route> = Vec::new();
    for section in &sections {
        let Some(route) = route(section) else {
            continue;
        };
        if let Some(shadow) = routes.iter().position(|before| before.filter == "#") {
            section.mistake(
                "filter",
                format!("expected a route that can match; route[{shadow}] has filter \"#\" and the first match wins"),
            );
        }
        if let Some(other) = routes
            .iter()
            .position(|before| before.topic == route.topic && before.partitions != route.partitions)
        {
            section.mistake(
                if section.has("partitions") { "partitions" } else { "topic" },
                format!(
                    "expected the same number of partitions as route[{other}], which feeds the same topic with {}",
                    routes[other].partitions
                ),
            );
        }
        routes.push(route);
    }
    if !routes
        .iter()
        .any(|route| route.filter == defaults::ROUTE_FILTER)
    {
        let partitions = routes
            .iter()
            .find(|route| route.topic == defaults::ROUTE_TOPIC)
            .map_or(defaults::PARTITIONS, |route| route.partitions);
        routes.push(Route {
            filter: defaults::ROUTE_FILTER.to_owned(),
            topic: defaults::ROUTE_TOPIC.to_owned(),
            partitions,
            key: None,
            durability: Durability::Log,
        });
    }
    (routes, has_routes)
}

fn route(section: &Section<'_>) -> Option<Route> {
    const FILTER: &str = "expected an MQTT topic filter such as \"plant/+/vibration\"";
    const TOPIC: &str = "expected the name of a log topic such as \"vibration\"";
    const KEY: &str = "expected a record key such as \"{machine}\"";
    let filter = section.text("filter", FILTER, |text| {
        check_filter(text).map(|names| (text.to_owned(), names))
    });
    let topic = section.text("topic", TOPIC, |text| {
        check_topic(text).map(|()| text.to_owned())
    });
    let partitions = section
        .number("partitions", 1, defaults::PARTITIONS_MAX)
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(defaults::PARTITIONS);
    let names: Option<&[&str]> = filter.as_ref().map(|(_, names)| names.as_slice());
    let key = section.text("key", KEY, |text| match names {
        Some(names) => check_key(text, names).map(|()| text.to_owned()),
        None => Ok(text.to_owned()),
    });
    const DURABILITY: &str = "expected \"log\" or \"memory\"";
    let durability = section.text("durability", DURABILITY, |text| match text {
        "log" => Ok(Durability::Log),
        "memory" => Ok(Durability::Memory),
        _ => Err(DURABILITY.to_owned()),
    });
    let durability = durability.unwrap_or_default();
    section.missing("filter", FILTER);
    if durability == Durability::Log {
        section.missing("topic", TOPIC);
    } else {
        for unused in ["topic", "key", "partitions"] {
            if section.has(unused) {
                section.mistake(unused, "expected none on a route with durability = \"memory\", whose publishes are in no log topic");
            }
        }
    }
    section.finish();
    let topic = match durability {
        Durability::Log => topic?,
        Durability::Memory => String::new(),
    };
    Some(Route {
        filter: filter?.0,
        topic,
        partitions,
        key,
        durability,
    })
}

/// Reads `[uplink]`. The site is the node's name unless it is given.
pub(super) fn uplink(root: &Section<'_>, node_name: Option<&str>) -> Option<Uplink> {
    const BOOTSTRAP: &str = "expected a list of host and port, such as [\"hub:9092\"]";
    let section = root.table("uplink");
    let bootstrap = section.texts(
        "bootstrap",
        defaults::UPLINK_BOOTSTRAP_MAX,
        BOOTSTRAP,
        |text| host_port(text).filter(|address| address.port != 0),
    );
    let site = section.text("site", "expected the name of this site", |text| {
        check_site(text).map(|()| text.to_owned())
    });
    let topics = topics(&section);
    let max_rate = section.text(
        "max_rate",
        "expected a rate such as \"10MiB/s\", or \"unlimited\"",
        |text| {
            if text == "unlimited" {
                return Ok(None);
            }
            rate(text)
                .filter(|bytes| *bytes >= defaults::UPLINK_MAX_RATE_MIN)
                .map(Some)
                .ok_or_else(|| {
                    "expected a rate of at least \"1KiB/s\", such as \"10MiB/s\", or \"unlimited\""
                        .to_owned()
                })
        },
    );
    let tls = client_tls(&section);
    let sasl = sasl(&section);
    section.finish();
    if !section.is_present() {
        return None;
    }
    section.missing("bootstrap", BOOTSTRAP);
    let bootstrap = bootstrap?;
    Some(Uplink {
        bootstrap,
        site: site.or_else(|| node_name.map(str::to_owned))?,
        topics,
        max_rate: max_rate.flatten(),
        tls,
        sasl,
    })
}

/// Reads the table `sasl`.
fn sasl(uplink: &Section<'_>) -> Option<Sasl> {
    const MECHANISM: &str = "expected \"SCRAM-SHA-512\", \"SCRAM-SHA-256\" or \"PLAIN\"";
    const USER: &str = "expected the name of a user of the hub";
    const FILE: &str = "expected a file whose first line is the password";
    let section = uplink.table("sasl");
    let mechanism = section.parsed("mechanism", MECHANISM, SaslMechanism::named);
    let user = section.parsed("user", USER, |text| {
        let is_name = !text.is_empty() && !text.contains('\0');
        is_name.then(|| text.to_owned())
    });
    let file = section.parsed("password_file", FILE, |text| {
        (!text.is_empty()).then(|| section.directory().join(text))
    });
    section.finish();
    if !section.is_present() {
        return None;
    }
    section.missing("user", USER);
    section.missing("password_file", FILE);
    if mechanism == Some(SaslMechanism::Plain) && !uplink.has("tls") {
        section.mistake(
            "mechanism",
            "expected uplink.tls beside it: PLAIN sends the password as it is".to_owned(),
        );
    }
    let sasl = Sasl {
        mechanism: mechanism.unwrap_or(SaslMechanism::Scram(Mechanism::Sha512)),
        user: user?,
        password_file: file?,
    };
    if let Err(error) = sasl.password() {
        section.mistake("password_file", error);
    }
    Some(sasl)
}

fn topics(uplink: &Section<'_>) -> Vec<UplinkTopic> {
    const TOPICS: &str = "expected a list of tables such as [ { name = \"alerts\", priority = 0 }, { name = \"#\", priority = 1 } ]";
    const NAME: &str = "expected a topic name, a family such as \"raw.#\", or \"#\" for all topics that are not named";
    let everything = || UplinkTopic {
        name: "#".to_owned(),
        priority: defaults::UPLINK_PRIORITY,
    };
    if !uplink.has("topics") {
        let _ = uplink.tables("topics", TOPICS);
        return vec![everything()];
    }
    let mut topics: Vec<UplinkTopic> = Vec::new();
    for section in uplink.tables("topics", TOPICS) {
        let name = section.text("name", NAME, |text| match text {
            _ if is_family(text) => Ok(text.to_owned()),
            _ => check_topic(text).map(|()| text.to_owned()),
        });
        let priority = section
            .number("priority", 0, defaults::UPLINK_PRIORITY_MAX)
            .and_then(|number| u8::try_from(number).ok())
            .unwrap_or(defaults::UPLINK_PRIORITY);
        section.missing("name", NAME);
        section.finish();
        let Some(name) = name else { continue };
        if topics.iter().any(|before| before.name == name) {
            section.mistake("name", "expected each topic once");
        }
        topics.push(UplinkTopic { name, priority });
    }
    topics
}

/// Whether the text is a filter over topic names, whose levels are separated
/// by dots: `raw.#`, `line.+.alerts`.
fn is_family(text: &str) -> bool {
    let mut levels = text.split('.').peekable();
    let mut has_wildcard = false;
    while let Some(level) = levels.next() {
        match level {
            "+" => has_wildcard = true,
            "#" if levels.peek().is_none() => has_wildcard = true,
            _ if check_topic(level).is_ok() => {}
            _ => return false,
        }
    }
    has_wildcard
}
