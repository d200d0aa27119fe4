//! Names and addresses in a configuration: log topics, filters, hosts.

use super::HostPort;

/// Kafka's limit for a topic name; directory names stay below 255 bytes with
/// the uuid behind them.
pub const TOPIC_NAME_MAX: usize = 200;

/// The limit of an MQTT topic (1.5.4: UTF-8 strings have a 16-bit length).
const FILTER_BYTES_MAX: usize = u16::MAX as usize;

/// Checks a log topic name by Kafka's rules.
///
/// # Errors
/// A sentence about the first broken rule.
pub fn check_topic(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("expected a topic name, got an empty text".to_owned());
    }
    if name.len() > TOPIC_NAME_MAX {
        return Err(format!(
            "expected a topic name of at most {TOPIC_NAME_MAX} characters, got {}",
            name.len()
        ));
    }
    if name == "." || name == ".." {
        return Err("expected a topic name other than . and ..".to_owned());
    }
    if name.starts_with("__") {
        return Err(
            "expected a topic name that does not begin with __, which marks internal topics"
                .to_owned(),
        );
    }
    match name.chars().find(|&c| !is_topic_character(c)) {
        Some(bad) => Err(format!(
            "expected a topic name of letters, digits, '.', '_' and '-', got {bad:?}"
        )),
        None => Ok(()),
    }
}

/// Checks the name of a node or site, which becomes part of topic names.
///
/// # Errors
/// A sentence about the first broken rule.
pub fn check_site(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 63 {
        return Err("expected a name of 1 to 63 characters".to_owned());
    }
    match name.chars().find(|&c| !is_topic_character(c)) {
        Some(bad) => Err(format!(
            "expected a name of letters, digits, '.', '_' and '-', because it begins topic names at the hub, got {bad:?}"
        )),
        None => Ok(()),
    }
}

/// Checks an MQTT topic filter (MQTT 5, 4.7) whose levels may be named
/// `{name}`, and yields the names.
///
/// # Errors
/// A sentence about the first broken rule.
pub fn check_filter(filter: &str) -> Result<Vec<&str>, String> {
    if filter.is_empty() || filter.len() > FILTER_BYTES_MAX {
        return Err("expected an MQTT topic filter of 1 to 65535 bytes".to_owned());
    }
    if filter.contains('\0') {
        return Err("expected an MQTT topic filter without U+0000".to_owned());
    }
    if filter.starts_with('$') {
        return Err("expected a filter that does not begin with '$': such paths are reserved and never stored".to_owned());
    }
    let mut names = Vec::new();
    let last = filter.split('/').count() - 1;
    for (index, level) in filter.split('/').enumerate() {
        if level.contains('#') && (level != "#" || index != last) {
            return Err("expected '#' only as the whole last level of the filter".to_owned());
        }
        if level.contains('+') && level != "+" {
            return Err(format!("expected '+' to be a whole level, got {level:?}"));
        }
        if level.contains(['{', '}']) {
            let name = level
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
                .filter(|name| is_level_name(name))
                .ok_or_else(|| {
                    format!("expected a named level such as {{machine}} to be a whole level of letters, digits and '_', got {level:?}")
                })?;
            if names.contains(&name) {
                return Err(format!(
                    "expected each level name once, got {{{name}}} twice"
                ));
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// Checks a key pattern against the level names of its filter.
///
/// # Errors
/// A sentence about the first broken rule.
pub fn check_key(key: &str, names: &[&str]) -> Result<(), String> {
    let mut rest = key;
    let mut used = 0;
    while let Some(open) = rest.find('{') {
        let inner = &rest[open + 1..];
        let close = inner
            .find('}')
            .ok_or_else(|| "expected a '}' for every '{'".to_owned())?;
        let name = &inner[..close];
        if !names.contains(&name) {
            return Err(format!(
                "expected a level name of the filter, but the filter has no {{{name}}}"
            ));
        }
        used += 1;
        rest = &inner[close + 1..];
    }
    if used == 0 {
        return Err(
            "expected at least one {name} of the filter; without `key` the whole path is the key"
                .to_owned(),
        );
    }
    Ok(())
}

/// Parses `host:port` or `[ipv6]:port`.
#[must_use]
pub fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let plain = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let bracketed = text.starts_with('[');
    (!host.is_empty() && host.len() <= 253 && (plain || bracketed)).then(|| HostPort {
        host: host.to_owned(),
        port,
    })
}

/// The name among `known` that is nearest to `name`, when it is near enough
/// that a typing mistake is likely: at most a third of the letters differ, or
/// one is the beginning of the other.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (name.len().max(3)).div_ceil(3);
    let begins = |candidate: &str| {
        name.len().min(candidate.len()) >= 3
            && (candidate.starts_with(name) || name.starts_with(candidate))
    };
    known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= limit || begins(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace) between two texts, by Levenshtein's row
/// method. Keys are short, so the quadratic cost does not matter.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn is_topic_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_level_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::{check_filter, check_key, check_topic, host_port, nearest};

    #[test]
    fn filters_follow_mqtt_with_named_levels() {
        assert_eq!(
            check_filter("plant/{site}/+/{machine}/#"),
            Ok(vec!["site", "machine"])
        );
        assert_eq!(check_filter("#"), Ok(vec![]));
        for bad in [
            "", "a/#/b", "a/b#", "a/+b", "$SYS/#", "{a}/{a}", "{}/a", "x{a}", "{a b}",
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_only_use_names_of_their_filter() {
        assert!(check_key("{site}/{machine}", &["site", "machine"]).is_ok());
        for bad in ["{line}", "{site", "constant", ""] {
            assert!(check_key(bad, &["site"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn topic_names_follow_kafka() {
        for good in ["vibration", "press-shop-1.raw_2"] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "__state",
            "a b",
            "é",
            "a/b",
            &"x".repeat(250),
        ] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_need_a_port() {
        assert_eq!(
            host_port("hub:9092").map(|h| h.to_string()),
            Some("hub:9092".to_owned())
        );
        assert_eq!(
            host_port("[::1]:9092").map(|h| h.to_string()),
            Some("[::1]:9092".to_owned())
        );
        for bad in [
            "hub",
            ":9092",
            "hub:",
            "hub:99999",
            "::1:9092",
            "http://hub:9092",
            "[hub]:1",
        ] {
            assert_eq!(host_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["listen", "max_packet_size", "receive_maximum"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("max_paket_size", &known), Some("max_packet_size"));
        assert_eq!(nearest("zebra", &known), None);
    }
}
