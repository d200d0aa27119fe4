//! The client commands against a running node, and its start and stop.

mod running;

use std::time::{Duration, Instant};

use running::{Running, forebay};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

#[test]
fn sigterm_stops_a_node_with_exit_code_0_within_5_s() {
    let dir = scratch();
    let node = Running::start(dir.path(), "gateway", "");
    let asked = Instant::now();
    let status = node.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn topics_are_created_described_altered_and_deleted() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    assert_eq!(
        node.answer(&[
            "topic",
            "create",
            "alerts",
            "--partitions",
            "2",
            "--set",
            "retention.ms=60000"
        ]),
        "created alerts with 2 partitions\n"
    );
    assert_eq!(
        node.answer(&["topic", "list"]),
        "alerts    2 partitions  0 records\n"
    );
    node.answer(&[
        "topic",
        "alter",
        "alerts",
        "--partitions",
        "3",
        "--set",
        "retention.ms=120000",
    ]);
    let description = node.answer(&["topic", "describe", "alerts", "--json"]);
    let description: serde_json::Value =
        serde_json::from_str(&description).expect("--json prints JSON");
    assert_eq!(description["partitions"].as_array().map(Vec::len), Some(3));
    let settings = description["settings"].as_array().expect("a list");
    let retention = settings
        .iter()
        .find(|setting| setting["name"] == "retention.ms");
    assert_eq!(
        retention,
        Some(&serde_json::json!({"name": "retention.ms", "value": "120000", "own": true}))
    );
    assert_eq!(
        node.answer(&["topic", "delete", "alerts"]),
        "deleted alerts\n"
    );
    assert!(node.answer(&["topic", "list"]).ends_with("has no topics\n"));
}

#[test]
fn what_cannot_be_done_is_told_in_a_sentence_and_exits_1() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    node.answer(&["topic", "create", "alerts"]);
    for (arguments, expected) in [
        (
            vec!["topic", "create", "alerts"],
            "forebay: topic alerts: a topic of that name exists already",
        ),
        (
            vec!["topic", "describe", "nothing"],
            "forebay: topic nothing: there is no such topic or partition",
        ),
        (
            vec!["tail", "alerts", "--partition", "7"],
            "forebay: topic alerts has partitions 0 to 0, not 7",
        ),
        (
            vec!["tail", "alerts", "--from", "noon"],
            "forebay: --from noon: expected earliest, latest, an offset",
        ),
    ] {
        let output = node.command(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(expected), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn a_node_that_does_not_run_is_told_in_a_sentence() {
    let output = forebay(&["topic", "list", "--bootstrap", "127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("forebay: nothing listens on 127.0.0.1:1 (connection refused)"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn status_says_what_the_node_is_and_holds() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    node.answer(&["topic", "create", "alerts"]);
    let http = node.address("http");
    let output = forebay(&["status", "--http", &http, "--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    assert_eq!(report["node"], "test");
    assert_eq!(report["role"], "broker");
    assert_eq!(report["topics"][0]["name"], "alerts");
    assert_eq!(report["listeners"]["kafka"], node.address("kafka"));
    let output = forebay(&["status", "--http", &http]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("broker test, version "), "{said}");
}

#[test]
fn a_second_node_is_refused_the_data_directory_and_the_port() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    let file = dir.path().join("node.toml");
    let file = file.to_str().expect("scratch paths are UTF-8");
    let output = forebay(&["run", "--config", file]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is in use by another process"), "{said}");
    assert_eq!(output.status.code(), Some(74));

    let other = scratch();
    let taken = format!(
        "[node]\nname = \"b\"\nrole = \"broker\"\ndata_dir = {:?}\n[kafka]\nlisten = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n",
        other.path().join("data"),
        node.address("kafka")
    );
    let file = other.path().join("b.toml");
    std::fs::write(&file, taken).expect("the scratch directory is writable");
    let output = forebay(&[
        "run",
        "--config",
        file.to_str().expect("scratch paths are UTF-8"),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("another process listens on that port"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn topics_outlive_a_restart() {
    let dir = scratch();
    let node = Running::start(dir.path(), "broker", "");
    node.answer(&["topic", "create", "alerts", "--partitions", "2"]);
    assert_eq!(node.terminate().code(), Some(0));
    let node = Running::start(dir.path(), "broker", "");
    assert_eq!(
        node.answer(&["topic", "list"]),
        "alerts    2 partitions  0 records\n"
    );
}
