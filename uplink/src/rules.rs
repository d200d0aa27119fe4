//! Which topics are forwarded, and in which order.

/// A topic, or a family of topics, and its place in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRule {
    /// A topic name; `+` stands for one level between slashes or dots and a
    /// final `#` for all the rest, as in MQTT filters. A lone `#` is
    /// everything that no earlier rule names.
    pub name: String,
    /// Lower numbers are sent first.
    pub priority: u32,
}

/// The priority of `topic`: that of the first rule that matches it, or `None`
/// when the topic is not forwarded.
pub fn priority_of(rules: &[TopicRule], topic: &str) -> Option<u32> {
    let matching = rules.iter().find(|rule| matches(&rule.name, topic))?;
    Some(matching.priority)
}

/// Whether the filter `pattern` covers `topic`.
pub fn matches(pattern: &str, topic: &str) -> bool {
    // Log topics cannot hold a slash; a dot is their level separator.
    let separator = |c: char| c == '/' || c == '.';
    let mut levels = topic.split(separator);
    for wanted in pattern.split(separator) {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (_, Some(level)) if level == wanted => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_like_mqtt_filters() {
        let cases = [
            ("#", "alerts", true),
            ("alerts", "alerts", true),
            ("alerts", "alerts.old", false),
            ("alerts.#", "alerts.old", true),
            ("alerts.#", "alerts", true),
            ("+", "alerts", true),
            ("+", "alerts.old", false),
            ("press.+.raw", "press.1.raw", true),
            ("press.+.raw", "press.1.avg", false),
            ("press/+/raw", "press.1.raw", true),
            ("alerts", "alert", false),
        ];
        for (pattern, topic, expected) in cases {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn first_matching_rule_decides_the_priority() {
        let rule = |name: &str, priority| TopicRule {
            name: name.into(),
            priority,
        };
        let rules = [rule("alerts", 0), rule("raw.#", 9), rule("#", 1)];
        assert_eq!(priority_of(&rules, "alerts"), Some(0));
        assert_eq!(priority_of(&rules, "raw.a"), Some(9));
        assert_eq!(priority_of(&rules, "readings"), Some(1));
        assert_eq!(priority_of(&rules[..2], "readings"), None);
    }
}
