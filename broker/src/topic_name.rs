//! Which topic names a client may use.
//!
//! Kafka's rules (`Topic.validate`): 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or
//! `..`. Names that begin with two underscores are ours or look like Kafka's
//! internal topics and are refused.

/// Longest topic name: Kafka's own limit, which keeps `<name>-<partition>`
/// below the 255 bytes of a file name.
pub const MAX_TOPIC_NAME_LEN: usize = 249;

/// Why a topic name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// The name is empty.
    #[error("topic name is empty")]
    Empty,
    /// The name is longer than [`MAX_TOPIC_NAME_LEN`].
    #[error("topic name has {len} bytes, at most {MAX_TOPIC_NAME_LEN} are allowed")]
    TooLong {
        /// Length found, in bytes.
        len: usize,
    },
    /// The name is `.` or `..`.
    #[error("topic name '{name}' is a directory name")]
    Directory {
        /// The name.
        name: String,
    },
    /// A byte outside `[a-zA-Z0-9._-]`.
    #[error(
        "topic name '{name}' contains '{found}', allowed are letters, digits, '.', '_' and '-'"
    )]
    Character {
        /// The name.
        name: String,
        /// The first refused character.
        found: char,
    },
    /// The name begins with `__`.
    #[error("topic name '{name}' is reserved, names that begin with '__' are internal")]
    Internal {
        /// The name.
        name: String,
    },
}

/// Checks a topic name that came from a client.
///
/// # Errors
/// [`TopicNameError`] names the rule that the name breaks.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name.len() > MAX_TOPIC_NAME_LEN {
        return Err(TopicNameError::TooLong { len: name.len() });
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Directory {
            name: name.to_owned(),
        });
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(c)) {
        return Err(TopicNameError::Character {
            name: name.to_owned(),
            found,
        });
    }
    if is_internal(name) {
        return Err(TopicNameError::Internal {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Says whether a name is reserved for internal topics.
pub fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in [
            "a",
            "plant.line-1_raw",
            "press-shop-1.vibration",
            "_schemas",
            &"x".repeat(249),
        ] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn each_rule_is_enforced() {
        assert_eq!(validate_topic_name(""), Err(TopicNameError::Empty));
        assert_eq!(
            validate_topic_name(&"x".repeat(250)),
            Err(TopicNameError::TooLong { len: 250 })
        );
        assert!(matches!(
            validate_topic_name(".."),
            Err(TopicNameError::Directory { .. })
        ));
        assert!(matches!(
            validate_topic_name("a/b"),
            Err(TopicNameError::Character { found: '/', .. })
        ));
        assert!(matches!(
            validate_topic_name("naïve"),
            Err(TopicNameError::Character { found: 'ï', .. })
        ));
        assert!(matches!(
            validate_topic_name("__consumer_offsets"),
            Err(TopicNameError::Internal { .. })
        ));
    }
}
