//! Which statement it is.

use super::tokens::Tokens;
use super::{alert, select, stream};
use crate::syntax::{Emit, NamedQuery, Program, SqlError};

pub fn parse(tokens: &mut Tokens, program: &mut Program) -> Result<(), SqlError> {
    let at = tokens.position();
    tokens.accept("EXPLAIN");
    if tokens.accept("CREATE STREAM") {
        program.streams.push(stream::parse(tokens, false)?);
    } else if tokens.accept("CREATE TABLE") {
        program.streams.push(stream::parse(tokens, true)?);
    } else if tokens.accept("CREATE ALERT") {
        program.alerts.push(alert::parse(tokens)?);
    } else {
        let query = query(tokens)?;
        if program.query.is_some() {
            return Err(SqlError::new(
                at,
                "a program holds one query; join two with UNION ALL or put the second into a file of its own",
            ));
        }
        program.query = Some(query);
    }
    if tokens.is_done() {
        return Ok(());
    }
    Err(tokens.expected("the end of the statement"))
}

/// `[CREATE QUERY name [INTO TOPIC 't'] AS] [INSERT INTO topic] SELECT … [EMIT …]`.
fn query(tokens: &mut Tokens) -> Result<NamedQuery, SqlError> {
    let (mut name, mut topic) = (None, None);
    if tokens.accept("CREATE QUERY") {
        name = Some(tokens.name("the name of the query")?);
        if tokens.accept("INTO TOPIC") || tokens.accept("INTO") {
            topic = Some(tokens.string("the topic in quotes")?);
        }
        tokens.expect("AS")?;
    } else if tokens.accept("INSERT INTO") {
        topic = Some(tokens.dotted_name("a topic")?);
    }
    if !tokens.looking_at("SELECT") {
        return Err(
            tokens.expected("SELECT, CREATE STREAM, CREATE TABLE, CREATE QUERY or CREATE ALERT")
        );
    }
    let mut body = tokens.until(&["EMIT"]);
    let body = select::query(&mut body)?;
    let mut emit = Emit::Final;
    if tokens.accept("EMIT") {
        emit = if tokens.accept("FINAL") || tokens.accept("ON WINDOW CLOSE") {
            Emit::Final
        } else if tokens.accept("CHANGES") {
            Emit::Changes
        } else if tokens.accept("ON CHANGE") {
            Emit::OnChange
        } else {
            return Err(tokens.expected("FINAL, CHANGES or ON CHANGE"));
        };
    }
    Ok(NamedQuery {
        name,
        topic,
        body,
        emit,
    })
}
