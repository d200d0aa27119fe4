//! Which nodes of a tree are meant: `Objects/Line1/**`, `Objects/*/Speed`.
//!
//! A pattern is levels between slashes. In a level, `*` stands for any
//! characters and `?` for one. A level `**` stands for any number of levels,
//! none included. Patterns are compared with browse names as
//! [`names::level`](crate::names::level) writes them.

use std::fmt;

use thiserror::Error;

/// Levels of a pattern at most. Matching takes time with the square of it.
const LEVELS_MAX: usize = 32;

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It does not begin where browsing begins.
    #[error(
        "pattern is {0:?}, expected it to begin with \"Objects\", such as \"Objects/Line1/**\""
    )]
    Root(String),
    /// A level is empty.
    #[error("pattern is {0:?}, expected one '/' between levels and none at the end")]
    Level(String),
    /// Too many levels.
    #[error("pattern {0:?} has more than {LEVELS_MAX} levels")]
    Length(String),
}

/// Nodes by their browse path from the Objects folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    /// `**`.
    Any,
    One(Vec<char>),
}

impl Pattern {
    /// Reads a pattern. It begins with `Objects` or `**`.
    ///
    /// # Errors
    /// [`PatternError`] says what it should be.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let levels: Vec<Level> = text
            .split('/')
            .map(|level| match level {
                "**" => Level::Any,
                _ => Level::One(level.chars().collect()),
            })
            .collect();
        if levels.len() > LEVELS_MAX {
            return Err(PatternError::Length(text.to_owned()));
        }
        match &levels[0] {
            Level::Any => {}
            Level::One(first) if first.iter().copied().eq("Objects".chars()) => {}
            Level::One(_) => return Err(PatternError::Root(text.to_owned())),
        }
        if levels.contains(&Level::One(Vec::new())) {
            return Err(PatternError::Level(text.to_owned()));
        }
        Ok(Self {
            text: text.to_owned(),
            levels,
        })
    }

    /// Whether the node at this path is meant.
    pub fn matches(&self, path: &[&str]) -> bool {
        matches(&self.levels, path)
    }

    /// Whether a node below this path can be meant.
    pub fn reaches_below(&self, path: &[&str]) -> bool {
        reaches(&self.levels, path)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The usual walk with one place to go back to, the last `**`: trying the ones
/// before it again finds nothing that the last one does not find.
fn matches(levels: &[Level], path: &[&str]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut any: Option<(usize, usize)> = None;
    while from < path.len() {
        match levels.get(at) {
            Some(Level::Any) => {
                any = Some((at, from));
                at += 1;
            }
            Some(Level::One(level)) if level_matches(level, path[from]) => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((any_at, any_from)) = any else {
                    return false;
                };
                at = any_at + 1;
                from = any_from + 1;
                any = Some((any_at, from));
            }
        }
    }
    levels[at..].iter().all(|level| *level == Level::Any)
}

fn reaches(levels: &[Level], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (None, _) => false,
        (Some(_), None) | (Some((Level::Any, _)), _) => true,
        (Some((Level::One(level), rest)), Some((name, below))) => {
            level_matches(level, name) && reaches(rest, below)
        }
    }
}

/// The same walk over characters and `*`.
fn level_matches(level: &[char], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        if at < level.len() && level[at] == '*' {
            star = Some((at, from));
            at += 1;
        } else if at < level.len() && (level[at] == '?' || level[at] == name[from]) {
            at += 1;
            from += 1;
        } else if let Some((star_at, star_from)) = star {
            at = star_at + 1;
            from = star_from + 1;
            star = Some((star_at, from));
        } else {
            return false;
        }
    }
    level[at..].iter().all(|&character| character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, meant: bool, below: bool) {
        let pattern = Pattern::parse(pattern).unwrap();
        let path: Vec<&str> = path.split('/').collect();
        assert_eq!(pattern.matches(&path), meant, "{pattern} {path:?}");
        assert_eq!(pattern.reaches_below(&path), below, "{pattern} {path:?}");
    }

    #[test]
    fn levels_and_wildcards() {
        check("Objects/Line1/**", "Objects", false, true);
        check("Objects/Line1/**", "Objects/Line1", true, true);
        check("Objects/Line1/**", "Objects/Line1/Motor/Speed", true, true);
        check("Objects/Line1/**", "Objects/Line2", false, false);
        check("Objects/*/Speed", "Objects/Line1/Speed", true, false);
        check("Objects/*/Speed", "Objects/Line1/Load", false, false);
        check("Objects/*/Speed", "Objects/Line1", false, true);
        check("Objects/Li?e*", "Objects/Line17", true, false);
        check("Objects/Li?e*", "Objects/Le17", false, false);
        check("**/Speed", "Objects/A/B/Speed", true, true);
        check("**/Speed", "Objects/A/B/Speeds", false, true);
        check("Objects/a*b*c", "Objects/aXXbYbZc", true, false);
        check("Objects/**/x/**", "Objects/a/x/b", true, true);
        check("Objects/**/x", "Objects", false, true);
    }

    /// Trying every share of the levels among the `**` would take years.
    #[test]
    fn many_wildcards_against_a_deep_path_end() {
        let pattern = format!("**{}/z", "/a/**".repeat(15));
        let pattern = Pattern::parse(&pattern).unwrap();
        let path = vec!["a"; 50];
        assert!(!pattern.matches(&path));
        let path: Vec<&str> = path.into_iter().chain(["z"]).collect();
        assert!(pattern.matches(&path));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        for text in ["", "Line1/**", "*/Line1", "Objects//x", "Objects/"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        let deep = format!("Objects{}", "/x".repeat(40));
        assert_eq!(
            Pattern::parse(&deep),
            Err(PatternError::Length(deep.clone()))
        );
    }
}
