//! From a path here to a topic at the broker, and back.

use forebay_mqtt::{TopicFilter, TopicName};

use crate::config::{BridgeTopic, Direction};

/// The mappings of a bridge in the order of the configuration.
#[derive(Debug, Default)]
pub struct Mappings(Vec<Mapping>);

#[derive(Debug)]
struct Mapping {
    local: TopicFilter,
    remote: TopicFilter,
    local_prefix: String,
    remote_prefix: String,
    direction: Direction,
    qos: u8,
}

impl Mappings {
    /// The mappings of a configuration. One whose prefix and filter do not
    /// make a filter together (too long, too deep) is left out and returned as
    /// a sentence.
    pub fn new(topics: &[BridgeTopic]) -> (Self, Vec<String>) {
        let (mut mappings, mut mistakes) = (Vec::new(), Vec::new());
        for topic in topics {
            let filter = |prefix: &str| {
                let text = format!("{prefix}{}", topic.filter);
                TopicFilter::try_from(text.as_str())
                    .map_err(|error| format!("{text:?} is no filter: {error}"))
            };
            match (filter(&topic.local_prefix), filter(&topic.remote_prefix)) {
                (Ok(local), Ok(remote)) => mappings.push(Mapping {
                    local,
                    remote,
                    local_prefix: topic.local_prefix.clone(),
                    remote_prefix: topic.remote_prefix.clone(),
                    direction: topic.direction,
                    qos: topic.qos,
                }),
                (Err(mistake), _) | (_, Err(mistake)) => mistakes.push(mistake),
            }
        }
        (Self(mappings), mistakes)
    }

    /// The topic at the broker of a path that goes out, and the highest
    /// quality of service.
    pub fn to_remote(&self, path: &TopicName) -> Option<(TopicName, u8)> {
        let outward = self.0.iter().filter(|mapping| mapping.direction.is_out());
        let mapping = outward.into_iter().find(|m| m.local.matches(path))?;
        let name = exchange(path, &mapping.local_prefix, &mapping.remote_prefix)?;
        Some((name, mapping.qos))
    }

    /// The path here of a topic that comes in.
    pub fn to_local(&self, topic: &TopicName) -> Option<TopicName> {
        let inward = self.0.iter().filter(|mapping| mapping.direction.is_in());
        let mapping = inward.into_iter().find(|m| m.remote.matches(topic))?;
        exchange(topic, &mapping.remote_prefix, &mapping.local_prefix)
    }

    /// What to subscribe to at the broker: each filter once, with its highest
    /// quality of service.
    pub fn subscriptions(&self) -> Vec<(String, u8)> {
        let mut wanted: Vec<(String, u8)> = Vec::new();
        for mapping in self.0.iter().filter(|mapping| mapping.direction.is_in()) {
            let filter = mapping.remote.as_str();
            match wanted.iter_mut().find(|(known, _)| known == filter) {
                Some((_, qos)) => *qos = mapping.qos.max(*qos),
                None => wanted.push((filter.to_owned(), mapping.qos)),
            }
        }
        wanted
    }

    /// Whether anything goes out.
    pub fn has_out(&self) -> bool {
        self.0.iter().any(|mapping| mapping.direction.is_out())
    }

    /// Number of mappings.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn exchange(name: &TopicName, from: &str, to: &str) -> Option<TopicName> {
    let rest = name.as_str().strip_prefix(from)?;
    // `a/#` matches `a` itself, which is shorter than the prefix `a/`, and an
    // empty rest may leave no name at all.
    TopicName::try_from(format!("{to}{rest}").as_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(filter: &str, direction: Direction, local: &str, remote: &str) -> BridgeTopic {
        BridgeTopic {
            filter: filter.to_owned(),
            direction,
            qos: 1,
            local_prefix: local.to_owned(),
            remote_prefix: remote.to_owned(),
        }
    }

    fn name(text: &str) -> TopicName {
        TopicName::try_from(text).unwrap()
    }

    #[test]
    fn prefixes_are_exchanged_and_the_first_mapping_counts() {
        let (mappings, mistakes) = Mappings::new(&[
            topic("temp/#", Direction::Out, "press/", "site/ulm/"),
            topic("#", Direction::Out, "press/", "rest/"),
            topic("cmd/+", Direction::In, "", "site/ulm/"),
            topic("both", Direction::Both, "l/", "r/"),
        ]);
        assert!(mistakes.is_empty());
        let out = |path: &str| {
            let found = mappings.to_remote(&name(path));
            found.map(|(name, _)| name.as_str().to_owned())
        };
        assert_eq!(out("press/temp/1").as_deref(), Some("site/ulm/temp/1"));
        assert_eq!(out("press/temp").as_deref(), Some("site/ulm/temp"));
        assert_eq!(out("press/rpm").as_deref(), Some("rest/rpm"));
        assert_eq!(out("press/$x").as_deref(), Some("rest/$x"));
        assert_eq!(out("saw/temp"), None);
        assert_eq!(out("cmd/1"), None);
        assert_eq!(out("l/both").as_deref(), Some("r/both"));
        let into = |topic: &str| {
            let found = mappings.to_local(&name(topic));
            found.map(|name| name.as_str().to_owned())
        };
        assert_eq!(into("site/ulm/cmd/go").as_deref(), Some("cmd/go"));
        assert_eq!(into("site/ulm/temp/1"), None);
        assert_eq!(into("r/both").as_deref(), Some("l/both"));
        let wanted = [("site/ulm/cmd/+".to_owned(), 1), ("r/both".to_owned(), 1)];
        assert_eq!(mappings.subscriptions(), wanted);
    }

    #[test]
    fn a_parent_that_is_shorter_than_its_prefix_is_not_carried() {
        let (mappings, _) = Mappings::new(&[topic("#", Direction::Out, "a/", "b/")]);
        assert!(mappings.to_remote(&name("a")).is_none());
        assert!(mappings.to_remote(&name("a/x")).is_some());
    }
}
