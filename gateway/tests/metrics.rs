//! Names of metrics are the same in the program, its documentation, the alert
//! rules and the dashboard.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What Prometheus makes of a histogram.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// A cookie, not a metric.
const OTHER: [&str; 1] = ["forebay_session"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Words that begin as metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    let metrics = words.filter(|word| word.starts_with("forebay_") && !OTHER.contains(word));
    metrics.map(str::to_owned).collect()
}

fn sources(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Metrics of the program: what is quoted in it.
fn recorded() -> BTreeSet<String> {
    let mut text = String::new();
    sources(&repository().join("gateway/src"), &mut text);
    let quoted = text.split('"').filter(|part| {
        part.starts_with("forebay_")
            && !OTHER.contains(part)
            && part
                .bytes()
                .all(|letter| letter.is_ascii_lowercase() || letter == b'_')
    });
    // Names of crates are in the filters of logs.
    let crates = [
        "forebay_gateway",
        "forebay_opcua",
        "forebay_storage",
        "forebay_uplink",
    ];
    let metrics = quoted.filter(|name| !crates.contains(name));
    metrics.map(str::to_owned).collect()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn all_metrics_are_documented_and_no_others() {
    let text = file("docs/metrics.md");
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, recorded());
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_exist() {
    let recorded = recorded();
    for path in [
        "config/prometheus/forebay.rules.yml",
        "config/grafana/forebay.json",
    ] {
        let asked = names(&file(path));
        assert!(asked.len() > 10, "{path}");
        for name in asked {
            let plain = SERIES.iter().find_map(|series| name.strip_suffix(series));
            let is_known =
                recorded.contains(&name) || plain.is_some_and(|plain| recorded.contains(plain));
            assert!(is_known, "{path}: {name}");
        }
    }
}

#[test]
fn the_dashboard_is_json_with_panels() {
    let board: serde_json::Value =
        serde_json::from_str(&file("config/grafana/forebay.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(
        panels
            .iter()
            .all(|panel| panel["targets"][0]["expr"].is_string())
    );
}
