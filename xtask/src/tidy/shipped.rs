//! Files that must be there because people or packages rely on them.

use super::tree::Tree;

const SHIPPED: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "deny.toml",
    "clippy.toml",
    ".ci/run",
    "config/gateway.toml",
    "config/hub.toml",
    "docs/log-format.md",
    "docs/kafka-compatibility.md",
    "docs/mqtt-conformance.md",
    "docs/configuration.md",
    "systemd/forebay.service",
];

pub fn check(tree: &Tree) -> Vec<String> {
    let missing = SHIPPED.iter().filter(|path| tree.text(path).is_none());
    missing.map(|path| format!("{path}: missing")).collect()
}
