//! The configuration reference names every key that the program reads, and no
//! section that it does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How keys are asked for.
const READERS: [&str; 10] = [
    ".text(", ".parsed(", ".word(", ".number(", ".flag(", ".table(", ".tables(", ".texts(",
    ".read(", ".has(",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn sources(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if !path.ends_with("tests.rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// The keys: the first text behind each reader.
fn keys() -> BTreeSet<String> {
    let mut text = String::new();
    sources(&repository().join("gateway/src/config"), &mut text);
    let mut keys = BTreeSet::new();
    for reader in READERS {
        for (at, _) in text.match_indices(reader) {
            let rest = text[at + reader.len()..].trim_start();
            let Some(name) = rest
                .strip_prefix('"')
                .and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            if name
                .bytes()
                .all(|letter| letter.is_ascii_lowercase() || letter == b'_')
            {
                keys.insert(name.to_owned());
            }
        }
    }
    keys
}

#[test]
fn every_key_is_in_the_reference() {
    let reference = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let keys = keys();
    assert!(keys.len() > 80, "{keys:?}");
    let is_told = |key: &&String| {
        [
            format!("`{key}`"),
            format!("[{key}]"),
            format!("`{key} ="),
            format!("{key} = "),
        ]
        .iter()
        .any(|form| reference.contains(form.as_str()))
            || [".{key}`", ".{key}]"]
                .iter()
                .any(|form| reference.contains(&form.replace("{key}", key)))
    };
    let missing: Vec<&String> = keys.iter().filter(|key| !is_told(key)).collect();
    assert!(
        missing.is_empty(),
        "docs/configuration.md does not name {missing:?}"
    );
}

#[test]
fn every_section_of_the_reference_is_read() {
    let reference = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let keys = keys();
    let sections = reference
        .lines()
        .filter_map(|line| line.strip_prefix("## ["));
    for section in sections {
        let name = section.trim_start_matches('[').split(']').next().unwrap();
        let first = name.split('.').next().unwrap();
        assert!(keys.contains(first), "{section}");
    }
}
