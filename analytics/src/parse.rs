//! Text to syntax.
//!
//! `sqlparser` reads expressions and SELECTs. The statements that it does not
//! know (CREATE STREAM, CREATE ALERT) and the trailing EMIT are cut out at the
//! level of tokens, and the pieces in between are handed to it, so that every
//! place in an error is a place in the original text.

mod alert;
mod duration;
mod lower;
mod select;
mod statement;
mod stream;
mod tokens;
mod window;

#[cfg(test)]
mod tests;

pub use duration::{parse_duration, print_duration};
pub use window::gcd;

use crate::syntax::{Position, Program, SqlError};
use tokens::Tokens;

/// Longer text is refused: a rule that a person wrote fits in a page, and the
/// parser's own tables grow with the text.
pub const PROGRAM_BYTES_MAX: usize = 64 * 1024;

/// Reads a program.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(text: &str) -> Result<Program, SqlError> {
    if text.len() > PROGRAM_BYTES_MAX {
        return Err(SqlError::new(
            Position { line: 1, column: 1 },
            format!(
                "the program has {} bytes, expected at most {PROGRAM_BYTES_MAX}",
                text.len()
            ),
        ));
    }
    let mut program = Program::default();
    for mut statement in Tokens::read(text)?.statements() {
        statement::parse(&mut statement, &mut program)?;
    }
    Ok(program)
}

/// Parses one expression, for tests and tools.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse_expression(text: &str) -> Result<crate::syntax::Expr, SqlError> {
    Tokens::read(text)?.expression()
}

/// The text without comments, with single spaces, and with unquoted words in
/// lower case: texts that differ only in layout are the same query. Text that is
/// no SQL is returned as it is.
pub fn normalise(text: &str) -> String {
    Tokens::read(text).map_or_else(|_| text.to_owned(), |tokens| tokens.normalised())
}
