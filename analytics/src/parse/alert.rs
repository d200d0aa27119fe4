//! CREATE ALERT.

use sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use crate::syntax::{Alert, SqlError};

const CLAUSES: [&str; 8] = [
    "FOR",
    "CLEAR WHEN",
    "SEVERITY",
    "SUPPRESS",
    "MESSAGE",
    "KEY",
    "VALUE",
    "WHEN",
];

/// The rest of the statement after CREATE ALERT.
pub fn parse(tokens: &mut Tokens) -> Result<Alert, SqlError> {
    let at = tokens.position();
    let name = tokens.name("the name of the alert")?;
    let on = if tokens.accept("ON") {
        Some(tokens.name("the name of the query")?)
    } else {
        None
    };
    let mut key = Vec::new();
    if tokens.accept("KEY") {
        names(tokens, &mut key)?;
    }
    tokens.expect("WHEN")?;
    let when = tokens.until(&CLAUSES).expression()?;
    let mut alert = Alert {
        name,
        at,
        on,
        key,
        when,
        hold_ms: 0,
        clear: None,
        clear_hold_ms: 0,
        severity: "warning".to_owned(),
        suppress_ms: 0,
        message: None,
        value: None,
    };
    if tokens.accept("FOR") {
        alert.hold_ms = tokens.duration()?;
    }
    while !tokens.is_done() {
        clause(tokens, &mut alert)?;
    }
    Ok(alert)
}

fn clause(tokens: &mut Tokens, alert: &mut Alert) -> Result<(), SqlError> {
    if tokens.accept("CLEAR WHEN") {
        alert.clear = Some(tokens.until(&CLAUSES).expression()?);
        if tokens.accept("FOR") {
            alert.clear_hold_ms = tokens.duration()?;
        }
    } else if tokens.accept("SEVERITY") {
        let text = tokens.string("a severity");
        alert.severity = text.or_else(|_| tokens.name("a severity"))?.to_lowercase();
    } else if tokens.accept("SUPPRESS") {
        tokens.accept("FOR");
        alert.suppress_ms = tokens.duration()?;
    } else if tokens.accept("MESSAGE") {
        alert.message = Some(tokens.string("a message in quotes")?);
    } else if tokens.accept("VALUE") {
        alert.value = Some(tokens.until(&CLAUSES).expression()?);
    } else if tokens.accept("KEY") {
        names(tokens, &mut alert.key)?;
    } else {
        return Err(tokens.expected("FOR, CLEAR WHEN, SEVERITY, SUPPRESS, KEY, VALUE or MESSAGE"));
    }
    Ok(())
}

fn names(tokens: &mut Tokens, into: &mut Vec<String>) -> Result<(), SqlError> {
    tokens.expect_token(&Token::LParen)?;
    into.push(tokens.name("a column")?);
    while tokens.accept_token(&Token::Comma) {
        into.push(tokens.name("a column")?);
    }
    tokens.expect_token(&Token::RParen)
}
