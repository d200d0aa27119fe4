//! Topic names and topic filters (section 4.7).

mod tree;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::text::{Text, TextError};

pub use tree::SubscriptionTree;

/// What a shared subscription's filter begins with (section 4.8.2).
const SHARE_PREFIX: &[u8] = b"$share/";

/// The deepest topic filter accepted, in levels.
///
/// The longest topic holds 65,536 empty levels, and every level is a node of
/// the subscription tree. Plants nest sites, lines, machines and signals ten
/// deep; 128 is far above any of them and keeps one SUBSCRIBE from costing
/// megabytes.
pub const FILTER_LEVELS_MAX: usize = 128;

/// Says why a string is not a topic name or a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The bytes are not an MQTT string.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Names and filters have at least one character \[MQTT-4.7.3-1\].
    #[error("topic is empty (section 4.7.3)")]
    Empty,
    /// A topic name contains `+` or `#` \[MQTT-3.3.2-2\].
    #[error("topic name contains a wildcard (section 3.3.2.1)")]
    WildcardInName,
    /// A `#` is not the last level or shares its level \[MQTT-4.7.1-1\].
    #[error("multi-level wildcard is not alone in the last level (section 4.7.1.2)")]
    MultiLevelWildcard,
    /// A `+` shares its level with other characters \[MQTT-4.7.1-2\].
    #[error("single-level wildcard is not alone in its level (section 4.7.1.3)")]
    SingleLevelWildcard,
    /// A `$share/` filter lacks a share name or a filter \[MQTT-4.8.2-1\]
    /// \[MQTT-4.8.2-2\].
    #[error("shared subscription is not $share/name/filter (section 4.8.2)")]
    Share,
    /// The filter has more levels than [`FILTER_LEVELS_MAX`].
    #[error("topic filter has {levels} levels, the limit is 128")]
    TooDeep {
        /// Levels of the refused filter.
        levels: usize,
    },
}

/// Holds a topic name: at least one character, no wildcards (section 4.7).
///
/// The default value is the empty name, which a PUBLISH carries when a topic
/// alias stands for its topic (section 3.3.2.1); nothing else makes one.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Text);

impl TopicName {
    /// Checks a text and wraps it without a copy.
    ///
    /// # Errors
    ///
    /// Refuses the empty text and wildcards.
    pub fn new(text: Text) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text
            .as_bytes()
            .iter()
            .any(|byte| matches!(byte, b'+' | b'#'))
        {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the text of the name.
    pub fn text(&self) -> &Text {
        &self.0
    }

    /// Says whether this is the empty name that a topic alias stands in for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::new(Text::try_from(text)?)
    }
}

/// Holds a topic filter of valid syntax (sections 4.7.1 and 4.8.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Text);

impl TopicFilter {
    /// Checks a text and wraps it without a copy.
    ///
    /// # Errors
    ///
    /// Refuses the empty text, misplaced wildcards, a `$share/` filter without
    /// share name or filter, and more than [`FILTER_LEVELS_MAX`] levels.
    pub fn new(text: Text) -> Result<Self, TopicError> {
        let filter = Self(text);
        if filter.0.is_empty() {
            return Err(TopicError::Empty);
        }
        if filter.0.as_bytes().starts_with(SHARE_PREFIX) {
            let (name, rest) = filter.split_share().ok_or(TopicError::Share)?;
            let is_wild = |byte: &u8| matches!(byte, b'+' | b'#');
            if name.is_empty() || name.iter().any(is_wild) || rest.is_empty() {
                return Err(TopicError::Share);
            }
        }
        check_levels(filter.match_bytes())?;
        Ok(filter)
    }

    /// Returns the filter as the client wrote it, `$share/name/` included.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the text of the filter.
    pub fn text(&self) -> &Text {
        &self.0
    }

    /// Returns the share name of a shared subscription (section 4.8.2).
    pub fn share_name(&self) -> Option<&str> {
        let (name, _) = self.split_share()?;
        std::str::from_utf8(name).ok()
    }

    /// Says whether the filter asks for a shared subscription (section 4.8.2).
    pub fn is_shared(&self) -> bool {
        self.0.as_bytes().starts_with(SHARE_PREFIX)
    }

    /// Says whether the filter contains a wildcard (section 4.7.1).
    pub fn has_wildcard(&self) -> bool {
        levels(self.match_bytes()).any(|level| matches!(level, b"+" | b"#"))
    }

    /// Says whether a topic name matches (section 4.7), in time linear in the
    /// length of the name.
    ///
    /// A shared subscription matches by the filter behind its share name. A
    /// leading wildcard does not match a name that begins with `$`
    /// \[MQTT-4.7.2-1\].
    pub fn matches(&self, topic: &TopicName) -> bool {
        let name = topic.text().as_bytes();
        let filter = self.match_bytes();
        if name.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
            return false;
        }
        let mut filter_levels = levels(filter);
        let mut name_levels = levels(name);
        loop {
            match (filter_levels.next(), name_levels.next()) {
                // `sport/#` also matches its parent `sport` (section 4.7.1.2).
                (Some(b"#"), _) => return true,
                (Some(b"+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted == level => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// The part that is matched against names: without `$share/name/`.
    fn match_bytes(&self) -> &[u8] {
        match self.split_share() {
            Some((_, filter)) => filter,
            None => self.0.as_bytes(),
        }
    }

    fn split_share(&self) -> Option<(&[u8], &[u8])> {
        let rest = self.0.as_bytes().strip_prefix(SHARE_PREFIX)?;
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        Some((&rest[..slash], &rest[slash + 1..]))
    }
}

impl TryFrom<&str> for TopicFilter {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::new(Text::try_from(text)?)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Splits at `/`, which never occurs inside a multi-byte UTF-8 character.
fn levels(topic: &[u8]) -> impl Iterator<Item = &[u8]> {
    topic.split(|byte| *byte == b'/')
}

fn check_levels(filter: &[u8]) -> Result<(), TopicError> {
    let mut remaining = levels(filter).count();
    if remaining > FILTER_LEVELS_MAX {
        return Err(TopicError::TooDeep { levels: remaining });
    }
    for level in levels(filter) {
        remaining -= 1;
        if level.contains(&b'#') && (level.len() > 1 || remaining > 0) {
            return Err(TopicError::MultiLevelWildcard);
        }
        if level.contains(&b'+') && level.len() > 1 {
            return Err(TopicError::SingleLevelWildcard);
        }
    }
    Ok(())
}
