//! The binary on configuration files: what it prints and how it exits.

use std::path::Path;
use std::process::{Command, Output};

fn forebay(arguments: &[&str], file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(arguments)
        .arg(file)
        .output()
        .expect("the binary runs")
}

fn written(dir: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let file = dir.path().join("f.toml");
    std::fs::write(&file, text).expect("the scratch directory is writable");
    file
}

const WRONG: &str = "[node]
name = \"x\"
role = \"gatway\"
data_dir = \"/var/lib/forebay\"
[mqtt]
lissten = \"127.0.0.1:1883\"
[storage]
commit_linger = \"5 parsecs\"
";

#[test]
fn check_prints_every_mistake_and_exits_78() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = written(&dir, WRONG);
    let output = forebay(&["check", "--config"], &file);
    let name = file.display();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "{name}:3: node.role = \"gatway\": expected \"gateway\" or \"broker\"\n\
             {name}:6: mqtt.lissten = \"127.0.0.1:1883\": unknown key; did you mean `mqtt.listen`?\n\
             {name}:8: storage.commit_linger = \"5 parsecs\": expected a duration from \"0ms\" to \"1s\"\n\
             3 mistakes\n"
        )
    );
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn run_refuses_the_same_file_the_same_way() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = written(&dir, WRONG);
    let run = forebay(&["run", "--config"], &file);
    let check = forebay(&["check", "--config"], &file);
    assert_eq!(run.stderr, check.stderr);
    assert_eq!(run.status.code(), Some(78));
}

#[test]
fn a_file_that_is_not_there_is_a_config_error() {
    let output = forebay(&["check", "--config"], Path::new("/nonexistent/f.toml"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("cannot read the config file /nonexistent/f.toml"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn the_shipped_files_are_fine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for (name, expected) in [
        (
            "gateway.toml",
            "is fine: gateway press-shop-1, 2 routes, uplink to hub:9092\n",
        ),
        ("hub.toml", "is fine: broker hub, 1 route\n"),
    ] {
        let output = forebay(&["check", "--config"], &root.join(name));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.ends_with(expected), "{said}");
        assert_eq!(output.status.code(), Some(0));
    }
}
