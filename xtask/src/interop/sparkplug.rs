//! pysparkplug as an edge node of a gateway.

use std::process::Command;

use super::{SCRIPT_TIMEOUT, Stage, finish, install};
use crate::failure::{Failure, Outcome};
use crate::node::{Node, Spec};
use crate::tidy::repository;

/// Functions of `xtask/interop/sparkplug_edge.py` that need nothing else.
pub const NAMES: [&str; 8] = [
    "births",
    "aliases",
    "data",
    "gap-rebirth",
    "device-death",
    "death",
    "certificates",
    "state",
];

/// The host asks for births soon and says that it is there.
const SECTION: &str = "\
[sparkplug]
enabled = true
host_id = \"interop\"
rebirth = true
reorder_timeout = \"100ms\"
";

/// Runs one function against a fresh gateway.
pub fn edge_node(stage: &Stage, name: &str) -> Outcome {
    let node = Node::start(&spec(stage, name))?;
    script(name, &node)
}

/// Births are there after the gateway was stopped and after it was killed.
pub fn restart(stage: &Stage) -> Outcome {
    let spec = spec(stage, "certificates-restart");
    let mut node = Node::start(&spec)?;
    script("certificates", &node)?;
    let ended = node.stop()?;
    if !ended.success() {
        return Err(Failure::new(format!("the gateway ended with {ended}")));
    }
    let mut node = Node::start(&spec)?;
    script("certificates-kept", &node)?;
    node.kill();
    let node = Node::start(&spec)?;
    script("certificates-kept", &node)
}

fn spec(stage: &Stage, name: &str) -> Spec {
    let mut spec = Spec::gateway(
        &stage.program,
        &format!("sparkplug-{name}"),
        stage.work.path(),
    );
    spec.sections = SECTION.to_owned();
    spec
}

fn script(name: &str, node: &Node) -> Outcome {
    let mut command = Command::new(install::sparkplug()?);
    command
        .arg("-B")
        .arg(repository().join("xtask/interop/sparkplug_edge.py"))
        .args([
            name,
            &node.mqtt()?.to_string(),
            &node.ports.kafka.to_string(),
        ]);
    finish(&mut command, SCRIPT_TIMEOUT).map(drop)
}
