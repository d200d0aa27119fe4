//! Scenarios per feature of MQTT, with paho and the mosquitto tools: MQTT 5,
//! limits, `$SYS`, WebSockets.

use super::{Scenario, Stage};
use crate::failure::{Failure, Outcome};
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

/// Keys of `[mqtt.limits]` and their values in the scenarios of
/// `xtask/interop/mqtt_limits.py`.
const LIMITS: [(&str, &str); 7] = [
    ("inflight", "2"),
    ("queued", "4"),
    ("subscriptions", "2"),
    ("connections_per_address", "3"),
    ("connect_rate", "1"),
    ("publish_rate", "20"),
    ("publish_bytes_rate", "\"10KiB/s\""),
];

/// Functions of `xtask/interop/mqtt_sys.py`.
const SYS: [&str; 2] = ["sys-v311", "sys-v5"];

/// One scenario per feature, per limit, and per version of the rest.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let features = NAMES.into_iter().map(|name| {
        let full = format!("mqtt-{name}");
        Scenario::new(full.clone(), move |stage| run(stage, &full, name))
    });
    let limits = LIMITS.into_iter().map(|(key, value)| {
        let name = key.replace('_', "-");
        let full = format!("mqtt-limits-{name}");
        Scenario::new(full.clone(), move |stage| {
            limited(stage, &full, &name, &format!("{key} = {value}"))
        })
    });
    let sys = SYS.into_iter().map(|name| {
        let full = format!("mqtt-{name}");
        Scenario::new(full.clone(), move |stage| {
            let spec = Spec {
                mqtt: "sys_interval = \"1s\"\n".to_owned(),
                ..Spec::gateway(&stage.program, &full, stage.work.path())
            };
            stage.script("mqtt_sys.py", name, &Node::start(&spec)?, &[])
        })
    });
    features.chain(limits).chain(sys)
}

/// A function of `xtask/interop/mqtt_paho.py` over WebSockets.
pub fn over_websocket(name: &'static str) -> Scenario {
    let full = format!("paho-websocket-{name}");
    Scenario::new(full.clone(), move |stage| {
        let node = Node::start(&Spec {
            mqtt: "websocket_listen = \"127.0.0.1:0\"\n".to_owned(),
            ..Spec::gateway(&stage.program, &full, stage.work.path())
        })?;
        let websocket = node.ports.websocket;
        let websocket = websocket.ok_or_else(|| Failure::new("no WebSocket port"))?;
        stage.script("mqtt_paho.py", name, &node, &[&websocket.to_string()])
    })
}

fn run(stage: &Stage, full: &str, name: &str) -> Outcome {
    let node = Node::start(&Spec {
        sections: "[[route]]\nfilter = \"memory/#\"\ndurability = \"memory\"\n".to_owned(),
        ..Spec::gateway(&stage.program, full, stage.work.path())
    })?;
    stage.script("mqtt_features.py", name, &node, &[])
}

fn limited(stage: &Stage, full: &str, name: &str, limit: &str) -> Outcome {
    let node = Node::start(&Spec {
        sections: format!("[mqtt.limits]\n{limit}\n"),
        ..Spec::gateway(&stage.program, full, stage.work.path())
    })?;
    let http = node.ports.http.to_string();
    stage.script("mqtt_limits.py", name, &node, &[&http])
}
