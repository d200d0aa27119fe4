//! `[access]` and `[[permission]]`: who may come in, and what for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use forebay_access::rules::{Action, PLACES_MAX, RULES_MAX, Rule, Who};
use forebay_mqtt::TopicFilter;

use super::Config;
use super::section::{Document, Section};

/// The file of users in the data directory.
const USERS_FILE: &str = "users";
/// The file of permissions that Kafka clients set, in the data directory.
const ACLS_FILE: &str = "acls";
/// The file of what keys of users that do not exist are made from, in the data
/// directory.
const SECRET_FILE: &str = "login-secret";

/// `[access]` with all `[[permission]]` sections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The file of users.
    pub users_file: PathBuf,
    /// The file of permissions that Kafka clients set; only the node writes it.
    pub acls_file: PathBuf,
    /// The file of what keys of users that do not exist are made from.
    pub secret_file: PathBuf,
    /// Whether anybody may come in without a login. `None`: nothing is said, and
    /// everybody may do everything; all listeners are on loopback then.
    pub anonymous: Option<bool>,
    /// The permissions, in the order of the file.
    pub rules: Vec<Rule>,
}

impl Access {
    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && self.anonymous != Some(false)
    }
}

/// Reads `[access]` and `[[permission]]`.
pub(super) fn access(root: &Section<'_>, data_dir: Option<&Path>) -> Access {
    let section = root.table("access");
    let file = section.parsed(
        "users_file",
        "expected a path, such as \"/etc/forebay/users\"",
        |text| (!text.is_empty()).then(|| PathBuf::from(text)),
    );
    let of_node = |name| data_dir.unwrap_or(Path::new("")).join(name);
    let users_file = match file {
        Some(file) => section.directory().join(file),
        None => of_node(USERS_FILE),
    };
    let flag = section.flag("anonymous");
    section.finish();
    let sections = root.tables(
        "permission",
        "expected [[permission]] sections with user, allow, and paths or topics",
    );
    if sections.len() > RULES_MAX {
        root.mistake(
            "permission",
            format!("expected at most {RULES_MAX} sections"),
        );
    }
    let rules: Vec<Rule> = sections.iter().take(RULES_MAX).filter_map(rule).collect();
    let is_said = section.is_present() || !sections.is_empty();
    let anonymous = is_said.then(|| flag.unwrap_or(false));
    if anonymous == Some(false) && sections.is_empty() {
        const NOBODY: &str = "expected [[permission]] sections, or anonymous = true: without any, nobody may do anything";
        match section.has("anonymous") {
            true => section.mistake("anonymous", NOBODY),
            false => section.missing("anonymous", NOBODY),
        }
    }
    Access {
        users_file,
        acls_file: of_node(ACLS_FILE),
        secret_file: of_node(SECRET_FILE),
        anonymous,
        rules,
    }
}

fn who(section: &Section<'_>) -> Option<Who> {
    let user = section.parsed(
        "user",
        "expected the name of a user, with * for any text, or \"anonymous\" for whoever has not logged in",
        |text| match text {
            "" => None,
            "anonymous" => Some(Who::Anonymous),
            name => Some(Who::User(name.to_owned())),
        },
    );
    let certificate = section.parsed(
        "certificate",
        "expected the common name of a client certificate, with * for any text",
        |text| (!text.is_empty()).then(|| Who::Certificate(text.to_owned())),
    );
    match (section.has("user"), section.has("certificate")) {
        (true, true) => section.mistake("certificate", "expected user or certificate, not both"),
        (false, false) => section.missing(
            "user",
            "expected the name of a user, \"*\" for all, or \"anonymous\"; or the key certificate",
        ),
        _ => {}
    }
    user.or(certificate)
}

fn rule(section: &Section<'_>) -> Option<Rule> {
    const ALLOW: &str = "expected a list of \"read\", \"write\", \"command\", \"admin\"";
    const PATHS: &str = "expected a list of MQTT filters, such as [\"plant/%u/#\"], with %u for the user and %c for the client identifier";
    const TOPICS: &str = "expected a list of topics, such as [\"readings\", \"analytics.*\"]";
    let who = who(section);
    let allow = section.texts("allow", Action::ALL.len(), ALLOW, Action::named);
    if !section.has("allow") {
        section.missing("allow", ALLOW);
    }
    let paths = section.texts("paths", PLACES_MAX, PATHS, |text| {
        TopicFilter::try_from(text).ok().map(|_| text.to_owned())
    });
    let topics = section.texts("topics", PLACES_MAX, TOPICS, |text| {
        (!text.is_empty()).then(|| text.to_owned())
    });
    let groups = section.texts(
        "groups",
        PLACES_MAX,
        "expected a list of consumer groups, such as [\"panel-*\"]",
        |text| (!text.is_empty()).then(|| text.to_owned()),
    );
    if section.has("groups") && !section.has("topics") {
        section.missing("topics", "expected topics that the groups read");
    }
    section.finish();
    let allow = allow?;
    let has_places = section.has("paths") || section.has("topics");
    if !has_places && !allow.contains(&Action::Admin) {
        section.missing("paths", "expected paths or topics that it is about");
    }
    Some(Rule {
        who: who?,
        allow,
        paths: paths.unwrap_or_default(),
        topics: topics.unwrap_or_default(),
        groups: groups.unwrap_or_default(),
    })
}

impl Config {
    /// What other machines reach is open only when the file says so.
    pub(super) fn check_access(&self, document: &Document<'_>, listeners: &[(&str, SocketAddr)]) {
        if self.access.anonymous.is_some() {
            return;
        }
        for (key, address) in listeners {
            if !address.ip().to_canonical().is_loopback() {
                document.mistake(
                    key,
                    "expected an [access] section beside a listener that other machines reach: users with [[permission]] sections, or anonymous = true to let everybody do everything",
                );
            }
        }
    }
}
