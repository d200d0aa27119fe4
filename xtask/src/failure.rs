//! The one error of a developer command: a sentence for the person who ran it.

use std::fmt;

/// What a command could not do, and with what.
#[derive(Debug)]
pub struct Failure(String);

/// What a step of a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Makes a failure from a finished sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when a lower layer failed.
pub trait During<T> {
    /// Prefixes the cause with `what`.
    ///
    /// # Errors
    /// The original error, with the prefix.
    fn during(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|cause| Failure(format!("{what}: {cause}")))
    }
}
