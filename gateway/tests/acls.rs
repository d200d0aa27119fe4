//! Permissions that Kafka clients set, on a running node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod running;

use std::path::Path;
use std::process::{Command, Output};

use running::{Running, forebay};
use tempfile::TempDir;

const RULES: &str = r#"
[access]
[[permission]]
user = "panel"
allow = ["read"]
topics = ["readings", "analytics.*"]
[[permission]]
user = "chief"
allow = ["admin"]
"#;

const PASSWORD: &str = "correct-horse-battery";

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn plant() -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let users = dir.path().join("data/users");
    for name in ["panel", "press", "chief"] {
        let files = [
            "--password-file",
            shown(&password),
            "--users-file",
            shown(&users),
        ];
        let added = forebay(&[&["user", "add", name], &files[..]].concat());
        assert!(added.status.success(), "{added:?}");
    }
    let node = Running::start(dir.path(), "broker", RULES);
    let created = run(dir.path(), &node, "chief", &["topic", "create", "readings"]);
    assert!(created.status.success(), "{created:?}");
    (dir, node)
}

fn run(dir: &Path, node: &Running, user: &str, arguments: &[&str]) -> Output {
    let password = dir.join("password");
    let login = ["--user", user, "--password-file", shown(&password)];
    node.command(&[arguments, &login[..]].concat())
}

/// What a command said, on its standard output and its standard error, and whether
/// it was done.
fn said(dir: &Path, node: &Running, user: &str, arguments: &[&str]) -> (bool, String) {
    let output = run(dir, node, user, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn does(dir: &Path, node: &Running, arguments: &[&str]) -> String {
    let (is_done, text) = said(dir, node, "chief", arguments);
    assert!(is_done, "{arguments:?}: {text}");
    text
}

fn sees(dir: &Path, node: &Running, user: &str) -> bool {
    said(dir, node, user, &["topic", "list"])
        .1
        .contains("readings")
}

#[test]
fn what_is_granted_holds_at_once_and_after_a_restart() {
    let (dir, node) = plant();
    let dir = dir.path();
    assert!(!sees(dir, &node, "press"));
    let text = does(
        dir,
        &node,
        &[
            "acl",
            "allow",
            "press",
            "read,write",
            "--topic",
            "read",
            "--prefix",
        ],
    );
    assert_eq!(
        text,
        "User:press may read topic read*\nUser:press may write topic read*\n"
    );
    assert!(sees(dir, &node, "press"));
    assert!(sees(dir, &node, "panel"));
    // A denial is stronger than what the configuration allows, but for admins.
    does(
        dir,
        &node,
        &["acl", "deny", "*", "all", "--topic", "readings"],
    );
    assert!(!sees(dir, &node, "press"));
    assert!(!sees(dir, &node, "panel"));
    assert!(sees(dir, &node, "chief"));

    assert!(node.terminate().success());
    let node = Running::start(dir, "broker", RULES);
    assert!(!sees(dir, &node, "panel"));
    let text = does(dir, &node, &["acl", "remove", "*"]);
    assert_eq!(text, "removed: User:* may not all topic readings\n");
    assert!(sees(dir, &node, "press"));
    assert!(sees(dir, &node, "panel"));
    let text = does(
        dir,
        &node,
        &["acl", "remove", "press", "write", "--topic", "read"],
    );
    assert_eq!(text, "removed: User:press may write topic read*\n");
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("a permission was removed"));
    assert!(line.unwrap().contains("chief"), "{log}");
}

#[test]
fn the_configuration_is_listed_and_stays() {
    let (dir, node) = plant();
    let dir = dir.path();
    let listed = does(dir, &node, &["acl", "list"]);
    assert_eq!(
        listed,
        "User:chief may all topic *\n\
         User:panel may read topic analytics.*\n\
         User:panel may describe-configs topic analytics.*\n\
         User:panel may read topic readings\n\
         User:panel may describe-configs topic readings\n\
         User:chief may all group *\n\
         User:panel may read group *\n\
         User:chief may all cluster kafka-cluster\n"
    );
    let about = does(
        dir,
        &node,
        &["acl", "list", "--of", "panel", "--topic", "analytics.x"],
    );
    assert_eq!(about.lines().count(), 2, "{about}");
    let json = does(dir, &node, &["acl", "list", "--cluster", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "permission": "allow", "principal": "User:chief", "host": "*", "operation": "all",
            "resource": "cluster", "pattern": "literal", "name": "kafka-cluster",
        }])
    );
    does(
        dir,
        &node,
        &["acl", "allow", "panel", "write", "--topic", "readings"],
    );
    let (is_done, text) = said(
        dir,
        &node,
        "chief",
        &["acl", "remove", "panel", "--topic", "readings"],
    );
    assert!(!is_done, "{text}");
    assert!(
        text.contains("removed: User:panel may write topic readings"),
        "{text}"
    );
    let kept = "kept: User:panel may read topic readings: granted by [[permission]] section 1 of the configuration; change it there";
    assert!(text.contains(kept), "{text}");
    assert!(sees(dir, &node, "panel"));
}

#[test]
fn permissions_are_for_those_who_may_change_them() {
    let (dir, node) = plant();
    let dir = dir.path();
    let allow = ["acl", "allow", "panel", "all", "--topic", "*"];
    for arguments in [&["acl", "list"][..], &allow, &["acl", "remove", "panel"]] {
        let (is_done, text) = said(dir, &node, "panel", arguments);
        assert!(!is_done && text.contains("no permission"), "{text}");
    }
    // Whoever may alter the cluster may, and may hand it on.
    does(dir, &node, &["acl", "allow", "panel", "alter", "--cluster"]);
    assert!(said(dir, &node, "panel", &allow).0);
    for arguments in [
        &["acl", "allow", "CN=mia", "read", "--topic", "a"][..],
        &[
            "acl", "allow", "mia", "read", "--topic", "a", "--host", "press-1",
        ],
        &["acl", "allow", "mia", "read"],
        &["acl", "allow", "mia", "fly", "--topic", "a"],
        &["acl", "allow", "mia", "write", "--group", "g"],
    ] {
        let (is_done, text) = said(dir, &node, "chief", arguments);
        assert!(
            !is_done
                && text.contains("expected")
                    | text.contains("say what")
                    | text.contains("there is no"),
            "{text}"
        );
    }
}

#[test]
fn a_node_without_access_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), "broker", "");
    let output = node.command(&["acl", "list"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no [access] section"), "{text}");
}

/// What cannot be read might deny something: nothing is guessed.
#[test]
fn a_damaged_file_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/acls"), "forebay-acls 1\nallow what\n").unwrap();
    let config = dir.path().join("node.toml");
    let text = format!(
        "[node]\nname = \"a\"\nrole = \"broker\"\ndata_dir = {:?}\n\
         [kafka]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n{RULES}",
        dir.path().join("data")
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["run", "--config", shown(&config)])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        text.contains("acls: line 2: expected allow or deny"),
        "{text}"
    );
}
