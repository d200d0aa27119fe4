//! What is wrong with a configuration file, in words for its author.

use std::fmt;
use std::path::PathBuf;

/// One mistake: where it is, what it says and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file as it was named on the command line.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key with its tables, as in `storage.retention.time`. Empty for a
    /// file that is not TOML.
    pub key: String,
    /// The text of the value as it stands in the file. Empty when missing.
    pub value: String,
    /// What was expected.
    pub expected: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("cannot read the config file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read and holds these mistakes, in the order of its lines.
    #[error("{}", render(.0))]
    Mistakes(Vec<Mistake>),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => write!(f, "{}", self.expected),
            (false, true) => write!(f, "{}: {}", self.key, self.expected),
            (false, false) => write!(f, "{} = {}: {}", self.key, self.value, self.expected),
        }
    }
}

fn render(mistakes: &[Mistake]) -> String {
    let mut text = String::new();
    for mistake in mistakes {
        text.push_str(&mistake.to_string());
        text.push('\n');
    }
    match mistakes.len() {
        1 => text.push_str("1 mistake"),
        count => text.push_str(&format!("{count} mistakes")),
    }
    text
}
