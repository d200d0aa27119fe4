//! `[commands]`: whether tags may be written over MQTT, and by whom.

use std::time::Duration;

use super::node::duration_within;
use super::section::Section;
use super::{Role, defaults};

/// `[commands]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// The master switch.
    pub enabled: bool,
    /// Client identifiers that may command; `*` stands for any text.
    pub allow: Vec<String>,
    /// How far ahead a command may expire.
    pub max_expiry: Duration,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            enabled: false,
            allow: Vec::new(),
            max_expiry: defaults::COMMANDS_MAX_EXPIRY,
        }
    }
}

impl Commands {
    /// Whether a client may command.
    pub fn allows(&self, client: &str) -> bool {
        self.allow.iter().any(|pattern| matches(pattern, client))
    }
}

/// Reads `[commands]`.
pub(super) fn commands(root: &Section<'_>, role: Role) -> Commands {
    const ALLOW: &str = "expected a list of client identifiers, such as [\"scada-1\", \"panel-*\"]";
    let section = root.table("commands");
    let commands = Commands {
        enabled: section.flag("enabled").unwrap_or(false),
        allow: section
            .texts("allow", defaults::COMMANDS_ALLOW_MAX, ALLOW, |text| {
                (!text.is_empty()).then(|| text.to_owned())
            })
            .unwrap_or_default(),
        max_expiry: duration_within(
            &section,
            "max_expiry",
            Duration::from_secs(1),
            defaults::COMMANDS_MAX_EXPIRY_MAX,
            "expected a duration from \"1s\" to \"1h\"",
        )
        .unwrap_or(defaults::COMMANDS_MAX_EXPIRY),
    };
    section.finish();
    if commands.enabled && !section.has("allow") {
        section.mistake(
            "enabled",
            "expected `commands.allow` beside it, the client identifiers that may command",
        );
    }
    if commands.enabled && role == Role::Broker {
        section.mistake(
            "enabled",
            "expected no commands on a broker: gateways have devices",
        );
    }
    commands
}

/// Whether the text is what the pattern says, `*` standing for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').map_or(("", rest), |both| both);
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("scada", "scada", true),
            ("scada", "scada-1", false),
            ("scada-*", "scada-", true),
            ("scada-*", "scad", false),
            ("*", "", true),
            ("*-panel", "hall-panel", true),
            ("*-panel", "hall-panel-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
