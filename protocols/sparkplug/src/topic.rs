//! Topic names (section 4): `spBv1.0/<group>/<type>/<edge node>[/<device>]`.

use thiserror::Error;

/// The namespace element of Sparkplug B.
pub const NAMESPACE: &str = "spBv1.0";

/// Longest id of a group, an edge node or a device. The specification has no
/// limit; ids are machine names, and three of them with a metric name of the
/// longest must fit a topic name.
pub const EDGE_ID_LEN_MAX: usize = 1_024;

/// What a message says, the third level of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// An edge node is here, with all its metrics.
    NodeBirth,
    /// An edge node is gone.
    NodeDeath,
    /// Values of an edge node.
    NodeData,
    /// A write to an edge node.
    NodeCommand,
    /// A device is here, with all its metrics.
    DeviceBirth,
    /// A device is gone.
    DeviceDeath,
    /// Values of a device.
    DeviceData,
    /// A write to a device.
    DeviceCommand,
}

const KINDS: [(&str, MessageKind); 8] = [
    ("NBIRTH", MessageKind::NodeBirth),
    ("NDEATH", MessageKind::NodeDeath),
    ("NDATA", MessageKind::NodeData),
    ("NCMD", MessageKind::NodeCommand),
    ("DBIRTH", MessageKind::DeviceBirth),
    ("DDEATH", MessageKind::DeviceDeath),
    ("DDATA", MessageKind::DeviceData),
    ("DCMD", MessageKind::DeviceCommand),
];

impl MessageKind {
    /// The word in the topic.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].0
    }

    /// Whether the topic ends with a device.
    pub fn is_of_device(self) -> bool {
        self as usize >= Self::DeviceBirth as usize
    }

    /// Whether it is a birth, of an edge node or of a device.
    pub fn is_birth(self) -> bool {
        matches!(self, Self::NodeBirth | Self::DeviceBirth)
    }

    /// Whether it has a number in the sequence of its edge node: all that an
    /// edge node publishes itself except its death.
    pub fn is_numbered(self) -> bool {
        matches!(
            self,
            Self::NodeBirth
                | Self::NodeData
                | Self::DeviceBirth
                | Self::DeviceData
                | Self::DeviceDeath
        )
    }
}

/// A topic name of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic<'a> {
    /// The state of a host application: `spBv1.0/STATE/<host id>`.
    State {
        /// The host's id.
        host: &'a str,
    },
    /// A message of or to an edge node or one of its devices.
    Edge {
        /// What it says.
        kind: MessageKind,
        /// The group.
        group: &'a str,
        /// The edge node.
        edge: &'a str,
        /// The device, if it is about one.
        device: Option<&'a str>,
    },
}

/// Why a topic name is not one of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// It begins with something else.
    #[error("topic does not begin with {NAMESPACE}/")]
    Namespace,
    /// Levels are missing or too many for its message type.
    #[error("topic has {levels} levels, expected {expected}")]
    Levels {
        /// How many there are.
        levels: usize,
        /// How many its type has.
        expected: &'static str,
    },
    /// The third level is not a message type.
    #[error("topic has an unknown message type")]
    Kind,
    /// An id is empty, too long, or has a reserved character.
    #[error(
        "{what} id must have 1 to {EDGE_ID_LEN_MAX} bytes without '+', '/', '#' and control characters"
    )]
    Id {
        /// Whose id.
        what: &'static str,
    },
}

impl<'a> Topic<'a> {
    /// Reads a topic name.
    ///
    /// # Errors
    /// When it is not of the namespace or breaks its rules.
    pub fn parse(topic: &'a str) -> Result<Self, TopicError> {
        let levels: Vec<&str> = topic.splitn(6, '/').collect();
        if levels[0] != NAMESPACE || levels.len() < 2 {
            return Err(TopicError::Namespace);
        }
        let expect = |count: usize, expected| {
            if levels.len() == count {
                Ok(())
            } else {
                Err(TopicError::Levels {
                    levels: levels.len(),
                    expected,
                })
            }
        };
        let id = |what, id: &'a str| is_valid_id(id).then_some(id).ok_or(TopicError::Id { what });
        if levels[1] == "STATE" && levels.len() <= 3 {
            expect(3, "3")?;
            let host = id("host", levels[2])?;
            return Ok(Self::State { host });
        }
        if levels.len() < 4 {
            expect(4, "4 or 5")?;
        }
        let kind = KINDS.iter().find(|(word, _)| *word == levels[2]);
        let (_, kind) = *kind.ok_or(TopicError::Kind)?;
        match kind.is_of_device() {
            true => expect(5, "5")?,
            false => expect(4, "4")?,
        }
        Ok(Self::Edge {
            kind,
            group: id("group", levels[1])?,
            edge: id("edge node", levels[3])?,
            device: match kind.is_of_device() {
                true => Some(id("device", levels[4])?),
                false => None,
            },
        })
    }
}

/// Whether a text can be the id of a group, an edge node, a device or a host
/// (tck-id-topic-structure-namespace-valid-group-id and its siblings).
pub fn is_valid_id(id: &str) -> bool {
    (1..=EDGE_ID_LEN_MAX).contains(&id.len())
        && !id.contains(|c: char| matches!(c, '+' | '/' | '#') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_edge_nodes_devices_and_hosts_are_told_apart() {
        let edge = |kind, device| {
            Ok(Topic::Edge {
                kind,
                group: "G1",
                edge: "E1",
                device,
            })
        };
        for (word, kind) in KINDS {
            let mut topic = format!("spBv1.0/G1/{word}/E1");
            assert_eq!(kind.name(), word);
            if kind.is_of_device() {
                topic += "/D1";
                assert_eq!(Topic::parse(&topic), edge(kind, Some("D1")));
            } else {
                assert_eq!(Topic::parse(&topic), edge(kind, None));
            }
        }
        assert_eq!(
            Topic::parse("spBv1.0/STATE/scada"),
            Ok(Topic::State { host: "scada" })
        );
    }

    #[test]
    fn topics_outside_the_structure_are_refused() {
        let levels = |levels, expected| Err(TopicError::Levels { levels, expected });
        for (topic, expected) in [
            ("spAv1.0/G/NBIRTH/E", Err(TopicError::Namespace)),
            ("spBv1.0", Err(TopicError::Namespace)),
            ("spBv1.0/G", levels(2, "4 or 5")),
            ("spBv1.0/STATE", levels(2, "3")),
            ("spBv1.0/G/NBIRTH/E/D", levels(5, "4")),
            ("spBv1.0/G/DBIRTH/E", levels(4, "5")),
            ("spBv1.0/G/DDATA/E/D/x", levels(6, "5")),
            ("spBv1.0/G/NBORN/E", Err(TopicError::Kind)),
            ("spBv1.0//NBIRTH/E", Err(TopicError::Id { what: "group" })),
            ("spBv1.0/G/DDATA/E/", Err(TopicError::Id { what: "device" })),
        ] {
            assert_eq!(Topic::parse(topic), expected, "{topic}");
        }
        assert!(!is_valid_id("a#") && !is_valid_id("a+b") && !is_valid_id("a/b"));
        assert!(is_valid_id("Halle 3 – Süd"));
    }
}
