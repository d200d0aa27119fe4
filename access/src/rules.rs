//! Permissions: who may do what on which paths and topics.
//!
//! Everything is denied that no rule allows. A rule allows actions on path
//! filters (what MQTT and HTTP ask for) and on topics (what Kafka asks for).

use std::net::IpAddr;

/// Rules of one configuration. They are looked through one by one.
pub const RULES_MAX: usize = 1_000;
/// Filters or topics of one rule.
pub const PLACES_MAX: usize = 256;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Subscribe to paths, consume topics, see values.
    Read,
    /// Publish on paths, produce to topics, acknowledge alerts.
    Write,
    /// Publish on command paths, those that end with `/set`.
    Command,
    /// All of these everywhere, and changing the node.
    Admin,
}

impl Action {
    /// All actions with their names in the configuration.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Command, "command"),
        (Self::Admin, "admin"),
    ];

    /// The action with a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(action, _)| *action)
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Command => "command",
            Self::Admin => "admin",
        }
    }
}

/// Who a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Whoever has not logged in: `anonymous`.
    Anonymous,
    /// Users whose name fits a pattern with `*`.
    User(String),
    /// Users whose certificate says who they are, with a name that fits a pattern
    /// with `*`. A password does not make one of them.
    Certificate(String),
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Who has it.
    pub who: Who,
    /// What it allows.
    pub allow: Vec<Action>,
    /// MQTT filters, with `%u` for the user and `%c` for the client identifier as
    /// whole levels or parts of them.
    pub paths: Vec<String>,
    /// Topic names, with `*` for any number of characters.
    pub topics: Vec<String>,
    /// Names of consumer groups, with `*` for any number of characters. None is
    /// every group: of little use without a topic to read.
    pub groups: Vec<String>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The user, when there was a login.
    pub user: Option<&'a str>,
    /// Whether the certificate of the connection says so.
    pub by_certificate: bool,
    /// The client identifier of an MQTT connection.
    pub client: Option<&'a str>,
    /// The address of the other end.
    pub host: IpAddr,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A path, or a filter of a subscription.
    Path(&'a str),
    /// A topic of the log.
    Topic(&'a str),
    /// Some topic: whether there is one.
    AnyTopic,
    /// A consumer group of Kafka.
    Group(&'a str),
    /// The node as such.
    Node,
    /// Anything at all: whether a rule allows the action somewhere.
    Anywhere,
}

/// All permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// These rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The rules in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a subject may do everything.
    #[must_use]
    pub fn is_admin(&self, subject: &Subject<'_>) -> bool {
        let mut about = self.rules.iter().filter(|rule| rule.who.is(subject));
        about.any(|rule| rule.allow.contains(&Action::Admin))
    }

    /// Whether a subject may do something. A filter of a subscription has to be
    /// within one filter of one rule.
    #[must_use]
    pub fn allow(&self, subject: &Subject<'_>, action: Action, place: Place<'_>) -> bool {
        let about = self.rules.iter().filter(|rule| rule.who.is(subject));
        let mut allowing = about
            .filter(|rule| rule.allow.contains(&action) || rule.allow.contains(&Action::Admin));
        allowing.any(|rule| rule.allow.contains(&Action::Admin) || rule.reaches(subject, place))
    }
}

impl Who {
    fn is(&self, subject: &Subject<'_>) -> bool {
        match (self, subject.user) {
            (Self::Anonymous, None) => true,
            (Self::User(pattern), Some(user)) => fits(pattern, user),
            (Self::Certificate(pattern), Some(user)) => {
                subject.by_certificate && fits(pattern, user)
            }
            _ => false,
        }
    }
}

impl Rule {
    fn reaches(&self, subject: &Subject<'_>, place: Place<'_>) -> bool {
        match place {
            Place::Path(wanted) => {
                let wanted = without_share(wanted);
                self.paths.iter().any(|filter| {
                    let filled = filled(filter, subject);
                    filled.is_some_and(|filled| covers(&filled, wanted))
                })
            }
            Place::Topic(wanted) => self.topics.iter().any(|pattern| fits(pattern, wanted)),
            Place::AnyTopic => !self.topics.is_empty(),
            Place::Group(wanted) => {
                let groups = &self.groups;
                let is_named = groups.is_empty() || groups.iter().any(|name| fits(name, wanted));
                !self.topics.is_empty() && is_named
            }
            Place::Node => false,
            Place::Anywhere => !self.paths.is_empty() || !self.topics.is_empty(),
        }
    }
}

/// The filter of a shared subscription.
fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/");
    shared
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_, filter)| filter)
}

/// Puts names into a filter. `None` when there is no such name, or when it has
/// characters with a meaning in filters: it must not reach further.
fn filled(filter: &str, subject: &Subject<'_>) -> Option<String> {
    let mut filled = String::with_capacity(filter.len());
    let mut rest = filter;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        let name = match rest.as_bytes().get(at + 1) {
            Some(b'u') => subject.user?,
            Some(b'c') => subject.client?,
            _ => {
                filled.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        };
        if name.is_empty() || name.contains(['+', '#', '/', '\0']) {
            return None;
        }
        filled.push_str(name);
        rest = &rest[at + 2..];
    }
    filled.push_str(rest);
    Some(filled)
}

/// Whether every topic that fits `wanted` fits `filter` (MQTT 5, section 4.7).
/// A topic name is a filter that only it fits.
#[must_use]
pub fn covers(filter: &str, wanted: &str) -> bool {
    let mut filter = filter.split('/').peekable();
    let mut wanted = wanted.split('/').peekable();
    // A wildcard at the beginning is not about what servers publish of themselves.
    if wanted.peek().is_some_and(|level| level.starts_with('$'))
        && filter
            .peek()
            .is_some_and(|level| matches!(*level, "#" | "+"))
    {
        return false;
    }
    loop {
        match (filter.next(), wanted.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(level)) if one == level && level != "#" => {}
            _ => return false,
        }
    }
}

/// Whether a name fits a pattern with `*`.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const NOBODY: Subject<'_> = Subject {
        user: None,
        by_certificate: false,
        client: None,
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };

    fn user(name: &str) -> Subject<'_> {
        Subject {
            user: Some(name),
            client: Some("c1"),
            ..NOBODY
        }
    }

    fn rule(who: &str, allow: &[Action], paths: &[&str], topics: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            who: match who {
                "anonymous" => Who::Anonymous,
                pattern => Who::User(pattern.to_owned()),
            },
            allow: allow.to_vec(),
            paths: owned(paths),
            topics: owned(topics),
            groups: Vec::new(),
        }
    }

    /// Every user, action and place of a small plant, as a table.
    #[test]
    fn the_matrix_of_a_plant() {
        let rules = Rules::new(vec![
            rule("press-*", &[Action::Write], &["plant/%u/#"], &[]),
            rule("panel", &[Action::Read, Action::Command], &["plant/#"], &[]),
            rule("data", &[Action::Read], &[], &["readings", "alerts*"]),
            rule("chief", &[Action::Admin], &[], &[]),
            rule("anonymous", &[Action::Read], &["public/#"], &[]),
        ]);
        let places = [
            Place::Path("plant/press-1/temp"),
            Place::Path("plant/press-2/temp"),
            Place::Path("public/clock"),
            Place::Topic("readings"),
            Place::Topic("alerts.late"),
            Place::Topic("commands"),
            Place::Node,
        ];
        // One letter per place: which of read, write, command and admin, as bits.
        let expected = [
            ("press-1", "2000000"),
            ("press-2", "0200000"),
            ("panel", "5500000"),
            ("data", "0001100"),
            ("chief", "fffffff"),
            ("other", "0000000"),
        ];
        for (name, wanted) in expected {
            let found: String = places
                .iter()
                .map(|place| {
                    let bits = Action::ALL.iter().enumerate().map(|(bit, (action, _))| {
                        u32::from(rules.allow(&user(name), *action, *place)) << bit
                    });
                    char::from_digit(bits.sum(), 16).unwrap()
                })
                .collect();
            assert_eq!(found, wanted, "{name}");
        }
        assert!(rules.allow(&NOBODY, Action::Read, Place::Path("public/clock")));
        assert!(!rules.allow(&NOBODY, Action::Write, Place::Path("public/clock")));
        assert!(!rules.allow(
            &user("anonymous"),
            Action::Read,
            Place::Path("public/clock")
        ));
        assert!(rules.allow(&user("data"), Action::Read, Place::Anywhere));
        assert!(!rules.allow(&user("data"), Action::Write, Place::Anywhere));
        assert!(!Rules::default().allow(&user("chief"), Action::Read, Place::Anywhere));
    }

    #[test]
    fn a_certificate_is_more_than_a_password() {
        let mut by_certificate = rule("press-*", &[Action::Command], &["plant/%u/#"], &[]);
        by_certificate.who = Who::Certificate("press-*".to_owned());
        let rules = Rules::new(vec![by_certificate]);
        let may = |subject: &Subject<'_>| {
            rules.allow(
                subject,
                Action::Command,
                Place::Path("plant/press-1/valve/set"),
            )
        };
        let shown = |name| Subject {
            by_certificate: true,
            ..user(name)
        };
        assert!(may(&shown("press-1")));
        assert!(!may(&user("press-1")));
        assert!(!may(&shown("pump-1")));
        assert!(!may(&NOBODY));
    }

    #[test]
    fn groups_are_of_those_that_read_topics() {
        let mut named = rule("panel", &[Action::Read], &[], &["readings"]);
        named.groups = vec!["panel-*".to_owned()];
        let rules = Rules::new(vec![
            named,
            rule("data", &[Action::Read], &[], &["readings"]),
            rule("press", &[Action::Read, Action::Write], &["plant/#"], &[]),
            rule("pump", &[Action::Write], &[], &["readings"]),
        ]);
        let may = |name, action, place| rules.allow(&user(name), action, place);
        for (name, panel, other, any) in [
            ("panel", true, false, false),
            ("data", true, true, false),
            ("press", false, false, false),
            ("pump", false, false, true),
        ] {
            let found = [
                may(name, Action::Read, Place::Group("panel-1")),
                may(name, Action::Read, Place::Group("x")),
                may(name, Action::Write, Place::AnyTopic),
            ];
            assert_eq!(found, [panel, other, any], "{name}");
        }
    }

    #[test]
    fn a_name_does_not_widen_a_filter() {
        let rules = Rules::new(vec![rule(
            "*",
            &[Action::Read],
            &["own/%u/#", "client/%c", "100%/x"],
            &[],
        )]);
        let may =
            |subject: &Subject<'_>, path| rules.allow(subject, Action::Read, Place::Path(path));
        assert!(may(&user("a"), "own/a/x"));
        for name in ["+", "#", "a/b", "", "\0"] {
            assert!(!may(&user(name), "own/a/x"), "{name}");
            let subject = Subject {
                user: Some("u"),
                client: Some(name),
                ..NOBODY
            };
            assert!(!may(&subject, "client/x"), "{name}");
        }
        assert!(may(&user("a"), "client/c1"));
        assert!(may(&user("a"), "100%/x"));
        let without = Subject {
            user: Some("u"),
            ..NOBODY
        };
        assert!(!may(&without, "client/c1"));
    }

    #[test]
    fn a_subscription_has_to_be_within_a_filter() {
        for (filter, wanted, expected) in [
            ("a/#", "a/b/c", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+/c", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/+", "a/b/c", false),
            ("a/b", "a/+", false),
            ("a/b", "a/b", true),
            ("a/b/#", "a/#", false),
            ("#", "a/b", true),
            ("#", "#", true),
            ("#", "$SYS/broker", false),
            ("+/broker", "$SYS/broker", false),
            ("$SYS/#", "$SYS/broker", true),
            ("+/b", "#", false),
            ("a", "ab", false),
        ] {
            assert_eq!(covers(filter, wanted), expected, "{filter} {wanted}");
        }
        let rules = Rules::new(vec![rule("*", &[Action::Read], &["a/#"], &[])]);
        let may = |path| rules.allow(&user("u"), Action::Read, Place::Path(path));
        assert!(may("$share/group/a/b"));
        assert!(!may("$share/group/b"));
        assert!(!may("$share/a/b"));
    }

    #[test]
    fn patterns_have_stars() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("press-*", "press-1", true),
            ("press-*", "press", false),
            ("*-1", "press-1", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*ba", "aba", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    fn fits_plainly(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) | (None, None) => true,
            (Some((level, filter)), Some((name, topic))) => {
                (*level == "+" || level == name) && fits_plainly(filter, topic)
            }
            _ => false,
        }
    }

    proptest! {
        /// A filter within another one fits no topic that the other does not.
        #[test]
        fn covering_is_about_topics(
            outer in "[ab+]{1}(/[ab+]){0,2}(/#)?",
            inner in "[ab+]{1}(/[ab+]){0,2}(/#)?",
        ) {
            let is_covered = covers(&outer, &inner);
            let outer: Vec<&str> = outer.split('/').collect();
            let inner: Vec<&str> = inner.split('/').collect();
            let levels = ["a", "b", "c"];
            let mut topics: Vec<Vec<&str>> = levels.iter().map(|level| vec![*level]).collect();
            let mut is_subset = true;
            for _ in 0..5 {
                is_subset &= topics.iter().all(|topic| {
                    !fits_plainly(&inner, topic) || fits_plainly(&outer, topic)
                });
                topics = topics.iter().flat_map(|topic| {
                    levels.iter().map(|level| [&topic[..], &[*level]].concat())
                }).take(400).collect();
            }
            prop_assert!(!is_covered || is_subset);
            prop_assert!(is_covered || !is_subset);
        }
    }
}
