//! CREATE STREAM and CREATE TABLE.

use sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use crate::syntax::{Format, SqlError, Stream, Watermark};
use crate::value::DataType;

/// The rest of the statement after CREATE STREAM or CREATE TABLE.
pub fn parse(tokens: &mut Tokens, table: bool) -> Result<Stream, SqlError> {
    let at = tokens.position();
    let mut stream = Stream {
        name: tokens.name("the name of the stream")?,
        at,
        columns: Vec::new(),
        filters: Vec::new(),
        topics: Vec::new(),
        format: Format::Json,
        time_column: None,
        watermark: Watermark::default(),
        key: None,
    };
    if tokens.accept_token(&Token::LParen) {
        columns(tokens, &mut stream)?;
    }
    while !tokens.is_done() {
        clause(tokens, &mut stream)?;
    }
    if stream.filters.is_empty() && stream.topics.is_empty() {
        return Err(tokens.expected("FROM 'path filter' or FROM TOPIC 'topic'"));
    }
    if table && stream.key.is_none() {
        return Err(tokens.expected("KEY (columns), which a table needs"));
    }
    Ok(stream)
}

fn columns(tokens: &mut Tokens, stream: &mut Stream) -> Result<(), SqlError> {
    loop {
        let name = tokens.dotted_name("the name of a column")?;
        stream.columns.push((name, data_type(tokens)?));
        if tokens.accept_token(&Token::RParen) {
            return Ok(());
        }
        tokens.expect_token(&Token::Comma)?;
    }
}

/// A type by any of its usual names.
pub fn data_type(tokens: &mut Tokens) -> Result<DataType, SqlError> {
    let at = tokens.position();
    let name = tokens.name("a type")?;
    type_named(&name).ok_or_else(|| {
        SqlError::new(
            at,
            format!("unknown type `{name}`, expected boolean, bigint, double, text, timestamp or waveform"),
        )
    })
}

/// The type with this name in any case.
pub fn type_named(name: &str) -> Option<DataType> {
    Some(match name.to_ascii_lowercase().as_str() {
        "bool" | "boolean" => DataType::Bool,
        "int" | "integer" | "bigint" | "smallint" | "tinyint" | "int8" | "int64" => DataType::Int,
        "float" | "double" | "real" | "numeric" | "decimal" | "float64" | "number" => {
            DataType::Float
        }
        "text" | "varchar" | "string" | "char" => DataType::Text,
        "timestamp" | "datetime" => DataType::Timestamp,
        "interval" => DataType::Interval,
        "waveform" => DataType::Waveform,
        _ => return None,
    })
}

fn clause(tokens: &mut Tokens, stream: &mut Stream) -> Result<(), SqlError> {
    if tokens.accept("FROM TOPICS") || tokens.accept("FROM TOPIC") || tokens.accept("TOPIC") {
        strings(tokens, "a log topic in quotes", &mut stream.topics)
    } else if tokens.accept("FROM PATH") || tokens.accept("FROM") || tokens.accept("PATH") {
        strings(tokens, "a path filter in quotes", &mut stream.filters)
    } else if tokens.accept("FORMAT") {
        stream.format = format(tokens)?;
        Ok(())
    } else if tokens.accept("TIMESTAMP BY") {
        stream.time_column = Some(tokens.dotted_name("the column with the event time")?);
        Ok(())
    } else if tokens.accept("ROWTIME") {
        Ok(())
    } else if tokens.accept("WATERMARK") {
        tokens.accept("DELAY");
        stream.watermark.delay_ms = tokens.duration()?;
        Ok(())
    } else if tokens.accept("PER KEY") {
        stream.watermark.per_key = true;
        Ok(())
    } else if tokens.accept("IDLE AFTER") {
        stream.watermark.idle_ms = tokens.duration()?;
        tokens.accept("ADVANCE");
        Ok(())
    } else if tokens.accept("AHEAD") {
        tokens.accept("MAX");
        stream.watermark.ahead_ms = tokens.duration()?;
        Ok(())
    } else if tokens.accept("KEY") {
        tokens.expect_token(&Token::LParen)?;
        let mut key = vec![tokens.dotted_name("a key column")?];
        while tokens.accept_token(&Token::Comma) {
            key.push(tokens.dotted_name("a key column")?);
        }
        stream.key = Some(key);
        tokens.expect_token(&Token::RParen)
    } else {
        Err(tokens.expected(
            "FROM, TOPIC, FORMAT, TIMESTAMP BY, WATERMARK DELAY, PER KEY, IDLE AFTER, AHEAD MAX or KEY",
        ))
    }
}

fn strings(tokens: &mut Tokens, what: &str, into: &mut Vec<String>) -> Result<(), SqlError> {
    into.push(tokens.string(what)?);
    while tokens.accept_token(&Token::Comma) {
        into.push(tokens.string(what)?);
    }
    Ok(())
}

fn format(tokens: &mut Tokens) -> Result<Format, SqlError> {
    let at = tokens.position();
    let name = tokens.name("a format")?.to_ascii_lowercase();
    match name.as_str() {
        "json" if tokens.accept("ARRAY") => Ok(Format::JsonArray),
        "json" => Ok(Format::Json),
        "json_array" => Ok(Format::JsonArray),
        "number" => Ok(Format::Number),
        "text" => Ok(Format::Text),
        "f32le" | "f32" => Ok(Format::F32),
        "i16le" | "i16" => Ok(Format::I16),
        "waveform" if tokens.accept("F32LE") || tokens.accept("F32") => Ok(Format::F32),
        "waveform" if tokens.accept("I16LE") || tokens.accept("I16") => Ok(Format::I16),
        "waveform" if tokens.accept("JSON") => Ok(Format::JsonArray),
        _ => Err(SqlError::new(
            at,
            format!(
                "unknown format `{name}`, expected json, json array, number, text, waveform f32le or waveform i16le"
            ),
        )),
    }
}
