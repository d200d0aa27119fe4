//! Reads a definition file.

use super::model::{Api, Base, Field, Struct, Versions};

/// A line without its comment: its number, its depth and its words.
struct Line<'a> {
    number: usize,
    depth: usize,
    words: Vec<&'a str>,
}

/// Parses one file; the error names the line.
pub fn api(text: &str) -> Result<Api, String> {
    let doc = text
        .lines()
        .map_while(|line| line.strip_prefix('#'))
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    let lines = lines(text)?;
    let [name, versions, flexible, body @ ..] = &lines[..] else {
        return Err("expected the lines api, versions and flexible".into());
    };
    let (api_name, key) = match name.words[..] {
        ["api", api_name, key] => (api_name, number::<i16>(key, name)?),
        _ => return Err(at(name, "expected `api NAME KEY`")),
    };
    let versions = match versions.words[..] {
        ["versions", range] => parse_versions(range, None, versions)?,
        _ => return Err(at(versions, "expected `versions MIN-MAX`")),
    };
    let flexible_from = match flexible.words[..] {
        ["flexible", "none"] => None,
        ["flexible", range] => Some(parse_versions(range, Some(versions), flexible)?.min),
        _ => return Err(at(flexible, "expected `flexible MIN+` or `flexible none`")),
    };
    let response_at = body
        .iter()
        .position(|line| line.words == ["response"])
        .ok_or("expected a line `response`")?;
    let (request, response) = body.split_at(response_at);
    let message = |lines: &[Line<'_>], suffix: &str| match lines {
        [head, fields @ ..] if head.words == [suffix.to_lowercase()] => {
            structure(format!("{api_name}{suffix}"), fields, 1, versions)
        }
        _ => Err(format!("expected a line `{}`", suffix.to_lowercase())),
    };
    Ok(Api {
        doc,
        name: api_name.into(),
        key,
        versions,
        flexible_from,
        request: message(request, "Request")?,
        response: message(response, "Response")?,
    })
}

fn lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or("");
        let words: Vec<&str> = content.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let spaces = content.len() - content.trim_start().len();
        let line = Line {
            number: index + 1,
            depth: spaces / 2,
            words,
        };
        if spaces % 2 != 0 {
            return Err(at(&line, "expected an indentation of two spaces"));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn structure(
    name: String,
    lines: &[Line<'_>],
    depth: usize,
    outer: Versions,
) -> Result<Struct, String> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while let [line, tail @ ..] = rest {
        if line.depth != depth {
            return Err(at(line, "unexpected indentation"));
        }
        let children = tail.iter().take_while(|line| line.depth > depth).count();
        let (inner, tail) = tail.split_at(children);
        fields.push(field(line, inner, outer)?);
        rest = tail;
    }
    Ok(Struct { name, fields })
}

fn field(line: &Line<'_>, inner: &[Line<'_>], outer: Versions) -> Result<Field, String> {
    let [name, kind, attributes @ ..] = &line.words[..] else {
        return Err(at(line, "expected `NAME TYPE`"));
    };
    let (kind, is_nullable) = strip(kind, "?");
    let (kind, is_array) = strip(kind, "[]");
    let mut versions = outer;
    let mut nullable = None;
    let mut tag = None;
    let mut default = None;
    let mut words = attributes.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(at(line, "expected a value at the end"));
        match *word {
            "tag" => tag = Some(number::<u32>(value()?, line)?),
            "nullable" => nullable = Some(parse_versions(value()?, Some(outer), line)?),
            "default" => default = Some((*value()?).to_owned()),
            range => versions = parse_versions(range, Some(outer), line)?,
        }
    }
    let base = match kind {
        "bool" => Base::Bool,
        "int8" => Base::Int8,
        "int16" => Base::Int16,
        "int32" => Base::Int32,
        "int64" => Base::Int64,
        "uuid" => Base::Uuid,
        "string" => Base::Str,
        "bytes" | "records" => Base::Bytes,
        other if other.starts_with(char::is_uppercase) => {
            Base::Struct(structure(other.into(), inner, inner_depth(line), outer)?)
        }
        other => return Err(at(line, &format!("unknown type {other}"))),
    };
    if !matches!(base, Base::Struct(_)) && !inner.is_empty() {
        return Err(at(line, "only a structure has fields"));
    }
    Ok(Field {
        name: (*name).into(),
        base,
        is_array,
        nullable: is_nullable.then(|| nullable.unwrap_or(versions)),
        versions,
        tag,
        default,
    })
}

fn inner_depth(line: &Line<'_>) -> usize {
    line.depth + 1
}

fn strip<'a>(text: &'a str, prefix: &str) -> (&'a str, bool) {
    match text.strip_prefix(prefix) {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

/// Parses `3-11`, `3+` or `3`; `+` needs an outer range.
fn parse_versions(
    text: &str,
    outer: Option<Versions>,
    line: &Line<'_>,
) -> Result<Versions, String> {
    let versions = match (text.strip_suffix('+'), text.split_once('-'), outer) {
        (Some(min), _, Some(outer)) => Versions {
            min: number(min, line)?,
            max: outer.max,
        },
        (None, Some((min, max)), _) => Versions {
            min: number(min, line)?,
            max: number(max, line)?,
        },
        (None, None, _) => Versions {
            min: number(text, line)?,
            max: number(text, line)?,
        },
        (Some(_), _, None) => return Err(at(line, "expected MIN-MAX")),
    };
    if versions.min > versions.max {
        return Err(at(line, &format!("empty version range {text}")));
    }
    Ok(versions)
}

fn number<T: std::str::FromStr>(text: &str, line: &Line<'_>) -> Result<T, String> {
    text.parse()
        .map_err(|_| at(line, &format!("expected a number, found {text}")))
}

fn at(line: &Line<'_>, what: &str) -> String {
    format!("line {}: {what}", line.number)
}
