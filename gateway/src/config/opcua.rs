//! `[[opcua]]`: servers that are subscribed to, and their nodes.

mod node;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use forebay_opcua::batch;
use forebay_opcua::deadband::Deadband;
use forebay_opcua::pattern::Pattern;
use forebay_opcua::sample::Timestamp;
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::settings::{Identity, Sampling, Settings, Url};
use toml::de::DeValue;

use super::node::duration_within;
use super::section::Section;
use super::tags::{self, WriteLimits, float};
use super::{Modbus, defaults};
use crate::commands::WriteKind;

/// One `[[opcua]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpcUa {
    /// The first levels of the paths.
    pub name: String,
    /// The session. File names in it are as in the configuration, and the
    /// folder of certificates is empty: both depend on where the node runs.
    pub settings: Settings,
    /// Engineering units by the name of the node.
    pub units: BTreeMap<String, String>,
    /// Nodes that commands may write, by name.
    pub writes: BTreeMap<String, OpcUaWrite>,
}

/// `write` of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpcUaWrite {
    /// What is written.
    pub kind: WriteKind,
    /// Within which limits.
    pub limits: WriteLimits,
}

const TIMESTAMPS: [(&str, Timestamp); 3] = [
    ("source", Timestamp::Source),
    ("server", Timestamp::Server),
    ("gather", Timestamp::Gather),
];

/// Reads every `[[opcua]]`.
pub(super) fn servers(root: &Section<'_>, modbus: &[Modbus]) -> Vec<OpcUa> {
    const SERVERS: &str = "expected [[opcua]] tables with name, endpoint and nodes or browse";
    let sections = root.tables("opcua", SERVERS);
    if sections.len() > defaults::OPCUA_SERVERS_MAX {
        let expected = format!("expected at most {} servers", defaults::OPCUA_SERVERS_MAX);
        root.mistake("opcua", expected);
    }
    let mut servers: Vec<OpcUa> = Vec::new();
    for section in &sections {
        let Some(server) = server(section) else {
            continue;
        };
        let is_taken = servers.iter().any(|other| other.name == server.name);
        let is_device = modbus.iter().any(|device| device.name == server.name);
        if is_taken || is_device {
            section.mistake(
                "name",
                "expected another name than the devices before: it begins the paths",
            );
        }
        servers.push(server);
    }
    servers
}

fn server(section: &Section<'_>) -> Option<OpcUa> {
    const NAME: &str = "expected a path such as \"cell-4\" or \"hall/cell-4\"";
    const ENDPOINT: &str = "expected the URL of a server, such as \"opc.tcp://10.0.0.9:4840\"";
    let name = section.text("name", NAME, tags::path);
    let url = section.text("endpoint", ENDPOINT, |text| {
        Url::parse(text).map_err(|error| error.to_string())
    });
    section.missing("name", NAME);
    section.missing("endpoint", ENDPOINT);
    let security = security(section);
    let identity = identity(section);
    let sampling = sampling(section, default_sampling());
    let nodes = node::nodes(section, sampling);
    let browse = patterns(section, "browse");
    let exclude = patterns(section, "exclude");
    if !section.has("nodes") && !section.has("browse") {
        section.missing("nodes", "expected nodes, or patterns to browse by");
    }
    let times = Times::of(section);
    let whole = |key, min, max, default| section.number(key, min, max).unwrap_or(default);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let settings = Settings {
        name: name.clone().unwrap_or_default(),
        url: url?,
        security,
        check_hostname: section.flag("check_hostname").unwrap_or(true),
        identity,
        publishing_interval: times.publishing_interval,
        keep_alive: times.keep_alive,
        request_timeout: times.timeout,
        session_timeout: times.session_timeout,
        batch: count(whole(
            "batch",
            1,
            batch::SIZE_MAX as u64,
            batch::SIZE as u64,
        )),
        timestamp: section.word("timestamp", &TIMESTAMPS).unwrap_or_default(),
        nodes: nodes.settings,
        browse,
        exclude,
        max_nodes: count(whole(
            "max_nodes",
            1,
            defaults::OPCUA_NODES_MAX,
            defaults::OPCUA_NODES,
        )),
        max_depth: count(whole(
            "max_depth",
            1,
            defaults::OPCUA_DEPTH_MAX,
            defaults::OPCUA_DEPTH,
        )),
        sampling,
        server_deadband: section.flag("server_deadband").unwrap_or(false),
        pki: PathBuf::new(),
    };
    section.finish();
    Some(OpcUa {
        name: name?,
        settings,
        units: nodes.units,
        writes: nodes.writes,
    })
}

/// The times of a section.
struct Times {
    publishing_interval: Duration,
    keep_alive: Duration,
    timeout: Duration,
    session_timeout: Duration,
}

impl Times {
    fn of(section: &Section<'_>) -> Self {
        let within = |key, min, max, expected| duration_within(section, key, min, max, expected);
        Self {
            publishing_interval: within(
                "publishing_interval",
                defaults::OPCUA_INTERVAL_MIN,
                defaults::OPCUA_INTERVAL_MAX,
                "expected a duration from \"10ms\" to \"1h\", such as \"250ms\"",
            )
            .unwrap_or(defaults::OPCUA_PUBLISHING_INTERVAL),
            keep_alive: within(
                "keep_alive",
                defaults::OPCUA_KEEP_ALIVE_MIN,
                defaults::OPCUA_KEEP_ALIVE_MAX,
                "expected a duration from \"100ms\" to \"10m\", such as \"5s\"",
            )
            .unwrap_or(defaults::OPCUA_KEEP_ALIVE),
            timeout: within(
                "timeout",
                defaults::OPCUA_TIMEOUT_MIN,
                defaults::OPCUA_TIMEOUT_MAX,
                "expected a duration from \"100ms\" to \"2m\", such as \"5s\"",
            )
            .unwrap_or(defaults::OPCUA_TIMEOUT),
            session_timeout: within(
                "session_timeout",
                defaults::OPCUA_SESSION_TIMEOUT_MIN,
                defaults::OPCUA_SESSION_TIMEOUT_MAX,
                "expected a duration from \"5s\" to \"1h\", such as \"60s\"",
            )
            .unwrap_or(defaults::OPCUA_SESSION_TIMEOUT),
        }
    }
}

/// `auto`, `none`, or a policy with a mode behind it.
fn security(section: &Section<'_>) -> Security {
    const SECURITY: &str = "expected \"auto\", \"none\", or a policy such as \"Basic256Sha256\", \"Aes128_Sha256_RsaOaep/Sign\" or \"Aes256_Sha256_RsaPss/SignAndEncrypt\"";
    let allow_none = section.flag("allow_none");
    let security = section.parsed("security", SECURITY, |text| match text {
        "auto" => Some(Security::Auto { allow_none: false }),
        "none" => Some(Security::Exactly(Policy::None, Mode::None)),
        _ => {
            let (policy, mode) = text.split_once('/').unwrap_or((text, "SignAndEncrypt"));
            let policy = Policy::from_name(policy).filter(|policy| *policy != Policy::None)?;
            let mode = Mode::from_name(mode).filter(|mode| *mode != Mode::None)?;
            Some(Security::Exactly(policy, mode))
        }
    });
    let security = security.unwrap_or(Security::Auto { allow_none: false });
    match (security, allow_none) {
        (Security::Auto { .. }, Some(allow_none)) => Security::Auto { allow_none },
        (Security::Exactly(..), Some(_)) => {
            section.mistake(
                "allow_none",
                "expected none beside a security other than \"auto\"",
            );
            security
        }
        _ => security,
    }
}

/// `{ user, password_file }` or `{ certificate, key }`.
fn identity(section: &Section<'_>) -> Identity {
    const FILE: &str = "expected the name of a file";
    let table = section.table("identity");
    let file = |key| {
        table.text(key, FILE, |text| {
            let path = table.directory().join(text);
            if path.is_file() {
                return Ok(PathBuf::from(text));
            }
            let path = path.display();
            Err(format!("expected a file that is there, {path} is not"))
        })
    };
    let user = table.text("user", "expected a user name", |text| Ok(text.to_owned()));
    let (password_file, certificate, key) =
        (file("password_file"), file("certificate"), file("key"));
    table.finish();
    let is_user = table.has("user") && table.has("password_file");
    let is_holder = table.has("certificate") && table.has("key");
    let is_mixed = table.has("user") == table.has("certificate")
        || table.has("password_file") == table.has("key");
    if table.is_present() && (is_mixed || !(is_user || is_holder)) {
        section.mistake(
            "identity",
            "expected { user = \"forebay\", password_file = \"cell-4.password\" } or { certificate = \"user.der\", key = \"user.pem\" }",
        );
    }
    match (user, password_file, certificate, key) {
        (Some(name), Some(password_file), ..) => Identity::User {
            name,
            password_file,
        },
        (_, _, Some(certificate), Some(key)) => Identity::Certificate { certificate, key },
        _ => Identity::Anonymous,
    }
}

fn default_sampling() -> Sampling {
    Sampling {
        interval: None,
        queue_size: defaults::OPCUA_QUEUE,
        deadband: Deadband::None,
    }
}

/// The keys of a section or a node that say how values are taken.
fn sampling(section: &Section<'_>, or: Sampling) -> Sampling {
    let interval = duration_within(
        section,
        "sampling_interval",
        Duration::ZERO,
        defaults::OPCUA_INTERVAL_MAX,
        "expected a duration of at most \"1h\", such as \"100ms\"",
    );
    let queue = section.number("queue_size", 1, defaults::OPCUA_QUEUE_MAX);
    Sampling {
        interval: interval.or(or.interval),
        queue_size: queue
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(or.queue_size),
        deadband: section.read("deadband", deadband).unwrap_or(or.deadband),
    }
}

/// A number, or a text such as `2%`.
fn deadband(value: &DeValue<'_>) -> Result<Deadband, String> {
    const DEADBAND: &str = "expected a number such as 0.5, or percent such as \"2%\"";
    let is_sane = |number: &f64| number.is_finite() && *number >= 0.0;
    let found = match value {
        DeValue::String(text) => {
            let percent = text.strip_suffix('%').and_then(|n| n.trim().parse().ok());
            percent.filter(is_sane).map(Deadband::Percent)
        }
        _ => float(value).filter(is_sane).map(Deadband::Absolute),
    };
    found.ok_or_else(|| DEADBAND.to_owned())
}

fn patterns(section: &Section<'_>, key: &'static str) -> Vec<Pattern> {
    const PATTERNS: &str = "expected browse paths such as [ \"Objects/Line1/**\" ]";
    let most = defaults::OPCUA_PATTERNS_MAX;
    let patterns = section.texts(key, most, PATTERNS, |text| Pattern::parse(text).ok());
    patterns.unwrap_or_default()
}
