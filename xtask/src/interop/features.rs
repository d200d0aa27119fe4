//! Scenarios per feature of MQTT 5, with paho and the mosquitto tools.

use super::{Scenario, Stage};
use crate::failure::Outcome;
use crate::node::{Node, Spec};

/// Functions of `xtask/interop/mqtt_features.py`.
const NAMES: [&str; 12] = [
    "no-local",
    "retain-options",
    "subscription-identifiers",
    "shared",
    "shared-takeover",
    "topic-alias",
    "will-delay",
    "expiry",
    "request-response",
    "user-properties",
    "disconnect-reasons",
    "assigned-client-id",
];

/// One scenario per feature.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    NAMES.into_iter().map(|name| {
        let full = format!("mqtt-{name}");
        Scenario::new(full.clone(), move |stage| run(stage, &full, name))
    })
}

fn run(stage: &Stage, full: &str, name: &str) -> Outcome {
    let node = Node::start(&Spec {
        sections: "[[route]]\nfilter = \"memory/#\"\ndurability = \"memory\"\n".to_owned(),
        ..Spec::gateway(&stage.program, full, stage.work.path())
    })?;
    stage.script("mqtt_features.py", name, &node, &[])
}
