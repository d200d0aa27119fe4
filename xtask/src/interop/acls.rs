//! Permissions that Kafka clients set.

use std::process::Command;
use std::time::Duration;

use super::{Scenario, Stage, finish};
use crate::failure::{During, Outcome};
use crate::node::{Node, Spec};

/// What the configuration grants; mia has what the clients give her.
const PERMISSIONS: &str = "\
[[permission]]
user = \"panel\"
allow = [\"read\"]
topics = [\"analytics.*\"]
[[permission]]
user = \"chief\"
allow = [\"admin\"]
";

const PASSWORD: &str = "of the whole plant";

/// The time that a command takes, on a machine that is busy.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// One per library.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let all = [
        ("acls-confluent", "confluent"),
        ("acls-kafka-python", "pure"),
    ];
    all.into_iter()
        .map(|(name, function)| Scenario::new(name, move |stage| run(stage, name, function)))
}

fn run(stage: &Stage, name: &str, function: &str) -> Outcome {
    let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
    spec.sections.push_str(PERMISSIONS);
    std::fs::create_dir_all(&spec.data_dir).during(spec.data_dir.display())?;
    let password = stage.directory(&format!("{name}-files"))?.join("password");
    std::fs::write(&password, PASSWORD).during(password.display())?;
    for user in ["mia", "panel", "chief"] {
        let mut add = Command::new(&stage.program);
        add.args(["user", "add", user, "--password-file"])
            .arg(&password)
            .arg("--users-file")
            .arg(spec.data_dir.join("users"));
        finish(&mut add, COMMAND_TIMEOUT)?;
    }
    let node = Node::start(&spec)?;
    let mut create = Command::new(&stage.program);
    create
        .args([
            "topic",
            "create",
            "readings",
            "--user",
            "chief",
            "--bootstrap",
        ])
        .arg(node.ports.kafka.to_string())
        .arg("--password-file")
        .arg(&password);
    finish(&mut create, COMMAND_TIMEOUT)?;
    stage.script("kafka_acls.py", function, &node, &[PASSWORD])
}
