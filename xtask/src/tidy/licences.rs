//! Licences and origins of dependencies against `deny.toml`.

use serde::Deserialize;

use super::edges::Metadata;
use super::tree::Tree;
use crate::failure::{During, Failure, Outcome};

/// The only place that dependencies may come from, as Cargo.lock spells it.
const ORIGIN: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate", alias = "name")]
    crate_name: String,
    allow: Vec<String>,
}

pub fn check(metadata: &Metadata, tree: &Tree) -> Outcome<Vec<String>> {
    let text = tree
        .text("deny.toml")
        .ok_or_else(|| Failure::new("deny.toml: missing"))?;
    let deny: Deny = toml::from_str(text).during("deny.toml")?;
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        let title = format!("{} {}", package.name, package.version);
        match package.source.as_deref() {
            None | Some(ORIGIN) => {}
            Some(other) => complaints.push(format!("{title}: comes from {other}")),
        }
        let mut allowed = deny.licenses.allow.clone();
        for exception in &deny.licenses.exceptions {
            if exception.crate_name == package.name {
                allowed.extend(exception.allow.iter().cloned());
            }
        }
        match &package.license {
            None => complaints.push(format!("{title}: states no licence")),
            Some(expression) if satisfied(expression, &allowed) => {}
            Some(expression) => complaints.push(format!(
                "{title}: licence {expression:?} is not allowed by deny.toml"
            )),
        }
    }
    Ok(complaints)
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the
/// old spelling of OR. AND binds closer than OR.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, allowed);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed);
    }
    met
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = single(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= single(words, at, allowed);
    }
    met
}

fn single(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(&word) = words.get(*at) else {
        return false;
    };
    *at += 1;
    if word == "(" {
        let met = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).unwrap_or(&"");
        name = format!("{word} WITH {exception}");
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    #[test]
    fn an_expression_is_met_by_one_branch_of_or_and_all_of_and() {
        let allowed: Vec<String> = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into();
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND ISC", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Other-exception", false),
            ("(MIT", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }
}
