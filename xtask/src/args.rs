//! Command line words: flags, values and names.

use std::str::FromStr;

use crate::failure::{Failure, Outcome};

/// The words behind a command, taken out one by one.
///
/// [`Args::finish`] refuses what nobody asked for, so that a misspelt flag is
/// an error and not silence.
#[derive(Debug)]
pub struct Args {
    words: Vec<String>,
}

impl Args {
    /// Wraps the words behind the command.
    #[must_use]
    pub fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// Takes `--name` out and says whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Takes `--name VALUE` or `--name=VALUE` out and parses the value.
    ///
    /// # Errors
    /// The value is missing or does not parse.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Outcome<Option<T>> {
        let prefix = format!("{name}=");
        let Some(at) = self
            .words
            .iter()
            .position(|word| word == name || word.starts_with(&prefix))
        else {
            return Ok(None);
        };
        let word = self.words.remove(at);
        let text = match word.strip_prefix(&prefix) {
            Some(text) => text.to_owned(),
            None if at < self.words.len() => self.words.remove(at),
            None => return Err(Failure::new(format!("{name} expects a value"))),
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::new(format!("{name} does not accept {text:?}"))),
        }
    }

    /// Takes the remaining words that are not flags.
    pub fn names(&mut self) -> Vec<String> {
        let (names, flags) = std::mem::take(&mut self.words)
            .into_iter()
            .partition(|word| !word.starts_with("--"));
        self.words = flags;
        names
    }

    /// Checks that no word is left.
    ///
    /// # Errors
    /// Names the first word that no one took.
    pub fn finish(self) -> Outcome {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(Failure::new(format!(
                "unknown argument {word:?}; see --help"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn args(words: &[&str]) -> Args {
        Args::new(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn a_value_is_taken_in_both_spellings() {
        assert_eq!(args(&["--cuts", "5"]).value("--cuts").unwrap(), Some(5));
        assert_eq!(args(&["--cuts=5"]).value("--cuts").unwrap(), Some(5));
        assert_eq!(args(&[]).value::<u32>("--cuts").unwrap(), None);
        assert!(args(&["--cuts"]).value::<u32>("--cuts").is_err());
        assert!(args(&["--cuts", "x"]).value::<u32>("--cuts").is_err());
    }

    #[test]
    fn a_word_that_nobody_takes_is_an_error() {
        let mut words = args(&["--json", "kcat", "--jsno"]);
        assert!(words.flag("--json"));
        assert_eq!(words.names(), ["kcat"]);
        assert!(words.finish().is_err());
    }
}
