//! Topic aliases of one network connection, in both directions
//! (section 3.3.2.3.4).
//!
//! An alias lives as long as its network connection \[MQTT-3.3.2-7\], and so do
//! these tables: they belong to a [`Connection`](super::Connection), not to
//! the session.

use std::collections::HashMap;

use bytes::Bytes;

use crate::packet::TopicAlias;
use crate::reason::ReasonCode;
use crate::text::Text;
use crate::topic::TopicName;

use super::connection::Violation;

/// Aliases that the server assigns towards one client at most, however many
/// the client takes. Each holds one topic name; a connection rarely sees more
/// hot topics than that.
const OUTBOUND_MAX: u16 = 64;

/// Topics this short are sent in full: the property takes three bytes.
const WORTHWHILE_LEN: usize = 4;

/// How often a topic must be met, at most, to defend its alias for one more
/// round of newcomers.
const HITS_MAX: u8 = 3;

/// What the client's aliases stand for.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    topics: HashMap<TopicAlias, TopicName>,
}

impl InboundAliases {
    /// Returns the topic of a PUBLISH that carries an alias, and remembers it
    /// when the PUBLISH names it.
    pub(super) fn resolve(
        &mut self,
        alias: TopicAlias,
        topic: TopicName,
        maximum: u16,
    ) -> Result<TopicName, Violation> {
        if alias.value() > maximum {
            return Err(Violation {
                reason: ReasonCode::TopicAliasInvalid,
                what: "topic alias is above the announced maximum (section 3.3.2.3.4)",
            });
        }
        if topic.is_empty() {
            return self.topics.get(&alias).cloned().ok_or(Violation {
                reason: ReasonCode::ProtocolError,
                what: "topic alias was not set on this connection (section 3.3.2.3.4)",
            });
        }
        // A copy, because the name shares memory with its packet.
        let bytes = Bytes::copy_from_slice(topic.text().as_bytes());
        let text = Text::from_bytes(bytes).expect("a copy of a text is a text");
        let name = TopicName::new(text).expect("a copy of a topic name is a topic name");
        self.topics.insert(alias, name);
        Ok(topic)
    }
}

/// The aliases that the server assigned to topics.
///
/// A topic gets an alias while there are free ones. When there are none, the
/// newcomer asks one alias, in turn: a topic that was met since it was asked
/// last keeps its alias and loses one point, and one without points gives it
/// up. So the topics that come often keep theirs, and a flood of different
/// topics, which no number of aliases would help, moves little.
#[derive(Debug, Default)]
pub(super) struct OutboundAliases {
    maximum: u16,
    slots: Vec<Slot>,
    by_topic: HashMap<TopicName, u16>,
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    topic: TopicName,
    hits: u8,
}

/// How a topic is written in a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The name alone.
    Name,
    /// The name, and the alias that it has from here on.
    NameAndAlias(TopicAlias),
    /// The alias alone.
    Alias(TopicAlias),
}

impl OutboundAliases {
    /// Sets how many aliases the client takes \[MQTT-3.3.2-11\].
    pub(super) fn set_maximum(&mut self, maximum: u16) {
        self.maximum = maximum.min(OUTBOUND_MAX);
    }

    /// Says how the next PUBLISH of a topic is written. The caller sends what
    /// this returns, or the client and this table disagree.
    pub(super) fn spell(&mut self, topic: &TopicName) -> Spelling {
        if self.maximum == 0 || topic.text().len() < WORTHWHILE_LEN {
            return Spelling::Name;
        }
        if let Some(index) = self.by_topic.get(topic).copied() {
            let slot = &mut self.slots[usize::from(index)];
            slot.hits = (slot.hits + 1).min(HITS_MAX);
            return alias(index).map_or(Spelling::Name, Spelling::Alias);
        }
        let slot = Slot {
            topic: topic.clone(),
            hits: 0,
        };
        let index = if self.slots.len() < usize::from(self.maximum) {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let index = self.hand;
            self.hand = (index + 1) % self.slots.len();
            let victim = &mut self.slots[index];
            if victim.hits > 0 {
                victim.hits -= 1;
                return Spelling::Name;
            }
            self.by_topic.remove(&victim.topic);
            *victim = slot;
            index
        };
        let index = u16::try_from(index).expect("there are at most 64 aliases");
        self.by_topic.insert(topic.clone(), index);
        alias(index).map_or(Spelling::Name, Spelling::NameAndAlias)
    }
}

fn alias(index: u16) -> Option<TopicAlias> {
    TopicAlias::new(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(topic: &str) -> TopicName {
        TopicName::try_from(topic).unwrap()
    }

    fn with_maximum(maximum: u16) -> OutboundAliases {
        let mut aliases = OutboundAliases::default();
        aliases.set_maximum(maximum);
        aliases
    }

    #[test]
    fn a_client_without_aliases_gets_names() {
        let mut aliases = with_maximum(0);
        for _ in 0..2 {
            assert_eq!(aliases.spell(&name("plant/press")), Spelling::Name);
        }
    }

    #[test]
    fn a_hot_topic_keeps_its_alias_among_many_cold_ones() {
        let mut aliases = with_maximum(2);
        let [first, second] = [1, 2].map(|alias| TopicAlias::new(alias).unwrap());
        let hot = name("plant/hot");
        assert_eq!(aliases.spell(&hot), Spelling::NameAndAlias(first));
        for number in 0..100 {
            assert_eq!(aliases.spell(&hot), Spelling::Alias(first));
            let cold = name(&format!("plant/cold/{number}"));
            let spelling = aliases.spell(&cold);
            assert!(
                matches!(spelling, Spelling::Name) || spelling == Spelling::NameAndAlias(second),
                "{spelling:?}"
            );
        }
        assert!(aliases.by_topic.len() <= 2);
    }

    #[test]
    fn an_alias_that_nobody_uses_goes_to_another_topic() {
        let mut aliases = with_maximum(1);
        let only = TopicAlias::new(1).unwrap();
        assert_eq!(
            aliases.spell(&name("plant/a")),
            Spelling::NameAndAlias(only)
        );
        assert_eq!(
            aliases.spell(&name("plant/b")),
            Spelling::NameAndAlias(only)
        );
        assert_eq!(
            aliases.spell(&name("plant/a")),
            Spelling::NameAndAlias(only)
        );
        assert_eq!(aliases.spell(&name("plant/a")), Spelling::Alias(only));
    }

    #[test]
    fn a_topic_that_is_shorter_than_the_property_has_no_alias() {
        assert_eq!(with_maximum(9).spell(&name("a/b")), Spelling::Name);
    }
}
