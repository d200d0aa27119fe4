//! `[[bridge]]`: connections to brokers that exist already.

use std::path::PathBuf;
use std::time::Duration;

use super::names::{check_filter, check_site, host_port};
use super::node::duration_within;
use super::section::Section;
use super::tls::{ClientTls, client_tls};
use super::{HostPort, defaults};

/// One `[[bridge]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name; what it has sent is remembered under it.
    pub name: String,
    /// The name of this node, which marks what the bridge carries.
    pub node: String,
    /// The broker.
    pub address: HostPort,
    /// How the broker is checked, and what it is shown. `None`: plain TCP.
    pub tls: Option<ClientTls>,
    /// The version that is spoken.
    pub version: BridgeVersion,
    /// The client identifier at the broker.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// The file with the password, relative to the configuration.
    pub password_file: Option<PathBuf>,
    /// Time between pings.
    pub keep_alive: Duration,
    /// How long the broker is asked to keep the session while the bridge is
    /// away.
    pub session_expiry: Duration,
    /// Messages on their way out at most.
    pub inflight: u16,
    /// What is carried where; the first that matches counts.
    pub topics: Vec<BridgeTopic>,
}

/// `bridge.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeVersion {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// One element of `bridge.topics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeTopic {
    /// What lies behind the prefixes on both sides.
    pub filter: String,
    /// Which way.
    pub direction: Direction,
    /// The highest quality of service, 0 or 1.
    pub qos: u8,
    /// In front of the filter here.
    pub local_prefix: String,
    /// In front of the filter at the broker.
    pub remote_prefix: String,
}

/// Which way a bridge carries messages, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the broker.
    In,
    /// To the broker.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages come from the broker.
    pub fn is_in(self) -> bool {
        self != Self::Out
    }

    /// Whether messages go to the broker.
    pub fn is_out(self) -> bool {
        self != Self::In
    }
}

/// Reads every `[[bridge]]`.
pub(super) fn bridges(root: &Section<'_>, node: Option<&str>) -> Vec<Bridge> {
    const BRIDGES: &str = "expected [[bridge]] tables with name, address and topics";
    let sections = root.tables("bridge", BRIDGES);
    if sections.len() > defaults::BRIDGES_MAX {
        root.mistake(
            "bridge",
            format!("expected at most {} bridges", defaults::BRIDGES_MAX),
        );
    }
    let mut bridges: Vec<Bridge> = Vec::new();
    for section in &sections {
        let Some(bridge) = bridge(section, node.unwrap_or("forebay")) else {
            continue;
        };
        if bridges.iter().any(|other| other.name == bridge.name) {
            section.mistake("name", "expected another name than the bridges before");
        }
        bridges.push(bridge);
    }
    bridges
}

fn bridge(section: &Section<'_>, node: &str) -> Option<Bridge> {
    const NAME: &str = "expected a name such as \"old-broker\"";
    const ADDRESS: &str = "expected the address of the broker, such as \"10.0.0.5:1883\"";
    const CLIENT: &str = "expected a client identifier of 1 to 65535 bytes";
    let name = section.text("name", NAME, |text| {
        check_site(text).map(|()| text.to_owned())
    });
    let address = section.parsed("address", ADDRESS, |text| {
        host_port(text).filter(|address| address.port != 0)
    });
    let version = section.word(
        "version",
        &[("5", BridgeVersion::V5), ("3.1.1", BridgeVersion::V311)],
    );
    let client_id = section.parsed("client_id", CLIENT, |text| {
        (1..=65_535).contains(&text.len()).then(|| text.to_owned())
    });
    let plain = |key, expected: &str| section.text(key, expected, |text| Ok(text.to_owned()));
    let user = plain("user", "expected a user name");
    let password_file = plain("password_file", "expected the name of a file");
    if password_file.is_some() && !section.has("user") {
        section.mistake(
            "password_file",
            "expected `user` beside it: MQTT 3.1.1 has no password without a user name",
        );
    }
    let keep_alive = duration_within(
        section,
        "keep_alive",
        defaults::BRIDGE_KEEP_ALIVE_MIN,
        defaults::MQTT_KEEP_ALIVE_CEILING,
        "expected a duration from \"5s\" to \"65535s\"",
    );
    let session_expiry = duration_within(
        section,
        "session_expiry",
        Duration::ZERO,
        defaults::MQTT_SESSION_EXPIRY_CEILING,
        "expected a duration of at most 4294967295s, such as \"7d\"",
    );
    let inflight = section
        .number("inflight", 1, defaults::BRIDGE_INFLIGHT_MAX)
        .and_then(|number| u16::try_from(number).ok());
    let topics = topics(section);
    let tls = client_tls(section);
    section.missing("name", NAME);
    section.missing("address", ADDRESS);
    section.finish();
    let name = name?;
    Some(Bridge {
        client_id: client_id.unwrap_or_else(|| format!("forebay-{node}-{name}")),
        name,
        node: node.to_owned(),
        address: address?,
        tls,
        version: version.unwrap_or(BridgeVersion::V5),
        user,
        password_file: password_file.map(PathBuf::from),
        keep_alive: keep_alive.unwrap_or(defaults::BRIDGE_KEEP_ALIVE),
        session_expiry: session_expiry.unwrap_or(defaults::MQTT_SESSION_EXPIRY_MAX),
        inflight: inflight.unwrap_or(defaults::BRIDGE_INFLIGHT),
        topics: topics?,
    })
}

fn topics(bridge: &Section<'_>) -> Option<Vec<BridgeTopic>> {
    const TOPICS: &str =
        "expected a list of tables such as [ { filter = \"plant/#\", direction = \"out\" } ]";
    const FILTER: &str = "expected an MQTT topic filter such as \"plant/#\"";
    const DIRECTION: &str = "expected \"in\", \"out\" or \"both\"";
    bridge.missing("topics", TOPICS);
    let sections = bridge.tables("topics", TOPICS);
    if bridge.has("topics") && !(1..=defaults::BRIDGE_TOPICS_MAX).contains(&sections.len()) {
        bridge.mistake(
            "topics",
            format!("{TOPICS} of 1 to {}", defaults::BRIDGE_TOPICS_MAX),
        );
    }
    let mut topics = Vec::new();
    for section in sections {
        let prefix = |key| {
            let prefix = section.parsed(
                key,
                "expected a prefix without '+' and '#' such as \"site-1/\"",
                |text| (!text.contains(['+', '#', '\0'])).then(|| text.to_owned()),
            );
            prefix.unwrap_or_default()
        };
        let filter = section.text("filter", FILTER, |text| match check_filter(text) {
            Ok(names) if names.is_empty() => Ok(text.to_owned()),
            Ok(_) => Err("expected a filter without named levels".to_owned()),
            Err(mistake) => Err(mistake),
        });
        let direction = section.word(
            "direction",
            &[
                ("in", Direction::In),
                ("out", Direction::Out),
                ("both", Direction::Both),
            ],
        );
        let qos = section.number("qos", 0, 1);
        let (local_prefix, remote_prefix) = (prefix("local_prefix"), prefix("remote_prefix"));
        section.missing("filter", FILTER);
        section.missing("direction", DIRECTION);
        section.finish();
        let (Some(filter), Some(direction)) = (filter, direction) else {
            continue;
        };
        topics.push(BridgeTopic {
            filter,
            direction,
            qos: qos.map_or(1, |qos| u8::from(qos > 0)),
            local_prefix,
            remote_prefix,
        });
    }
    (!topics.is_empty()).then_some(topics)
}
