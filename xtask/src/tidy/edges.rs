//! Which crate may import which, and which may know tokio.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::tree::Tree;
use crate::failure::{During, Failure, Outcome};

/// What one crate may import from the workspace.
struct Allowed {
    krate: &'static str,
    imports: &'static [&'static str],
    tokio: Tokio,
}

/// Where a crate may use tokio.
#[derive(PartialEq)]
enum Tokio {
    Never,
    /// Only in files whose path begins with one of these.
    In(&'static [&'static str]),
    Anywhere,
}

/// The table of ARCHITECTURE.md.
const EDGES: [Allowed; 14] = [
    Allowed {
        krate: "forebay-records",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-kafka",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-mqtt",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-modbus",
        imports: &[],
        tokio: Tokio::In(&["protocols/modbus/src/client", "protocols/modbus/tests/"]),
    },
    Allowed {
        krate: "forebay-opcua",
        imports: &[],
        tokio: Tokio::Anywhere,
    },
    Allowed {
        krate: "forebay-sparkplug",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-storage",
        imports: &["forebay-records"],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-analytics",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-access",
        imports: &[],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-broker",
        imports: &[
            "forebay-access",
            "forebay-storage",
            "forebay-records",
            "forebay-kafka",
        ],
        tokio: Tokio::In(&["broker/src/server", "broker/tests/"]),
    },
    Allowed {
        krate: "forebay-uplink",
        imports: &["forebay-storage", "forebay-records", "forebay-kafka"],
        tokio: Tokio::In(&["uplink/src/driver", "uplink/tests/"]),
    },
    Allowed {
        krate: "forebay-gateway",
        imports: &[
            "forebay-storage",
            "forebay-analytics",
            "forebay-records",
            "forebay-kafka",
            "forebay-mqtt",
            "forebay-modbus",
            "forebay-opcua",
            "forebay-sparkplug",
            "forebay-broker",
            "forebay-uplink",
            "forebay-access",
        ],
        tokio: Tokio::Anywhere,
    },
    Allowed {
        krate: "xtask",
        imports: &["forebay-analytics"],
        tokio: Tokio::Never,
    },
    Allowed {
        krate: "forebay-bench",
        imports: &["xtask"],
        tokio: Tokio::In(&["bench/src/opcua/plant"]),
    },
];

/// Edges that only tests may use, each with its reason.
const TEST_EDGES: [(&str, &str); 1] = [
    // The uplink is tested against the real hub it talks to.
    ("forebay-uplink", "forebay-broker"),
];

/// What `cargo metadata` says, as far as the checks need it.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Every package of the dependency graph.
    pub packages: Vec<Package>,
    workspace_members: Vec<String>,
}

/// One package.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    id: String,
    /// Its SPDX expression, if it states one.
    pub license: Option<String>,
    /// Where it comes from; `None` for this workspace.
    pub source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Metadata {
    /// Asks cargo.
    ///
    /// # Errors
    /// Cargo failed, or its answer does not parse.
    pub fn read(root: &Path) -> Outcome<Self> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--quiet"])
            .current_dir(root)
            .output()
            .during("cargo metadata")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("cargo metadata: {}", text.trim())));
        }
        serde_json::from_slice(&output.stdout).during("cargo metadata")
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        let is_member = |package: &&Package| self.workspace_members.contains(&package.id);
        self.packages.iter().filter(is_member)
    }
}

pub fn check(metadata: &Metadata) -> Vec<String> {
    let members: Vec<&str> = metadata.members().map(|p| p.name.as_str()).collect();
    let mut complaints = Vec::new();
    for package in metadata.members() {
        let Some(rule) = EDGES.iter().find(|rule| rule.krate == package.name) else {
            complaints.push(format!(
                "crate {}: not in the table of xtask/src/tidy/edges.rs and ARCHITECTURE.md",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            complaints.extend(complain(rule, dependency, &members));
        }
    }
    complaints
}

fn complain(rule: &Allowed, dependency: &Dependency, members: &[&str]) -> Option<String> {
    let (from, to) = (rule.krate, dependency.name.as_str());
    let for_tests = dependency.kind.as_deref() == Some("dev");
    if members.contains(&to) {
        let allowed = rule.imports.contains(&to) || (for_tests && TEST_EDGES.contains(&(from, to)));
        return (!allowed).then(|| format!("crate {from} must not import {to}"));
    }
    let refused = to == "tokio" && rule.tokio == Tokio::Never && !for_tests;
    refused.then(|| format!("crate {from} must not know tokio"))
}

/// Checks that tokio is named only in the files that may know it.
pub fn check_async(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for rule in &EDGES {
        let Tokio::In(places) = rule.tokio else {
            continue;
        };
        let directory = format!("{}/src/", rule.krate.trim_start_matches("forebay-"));
        for file in tree.ending(&[".rs"]) {
            let path = file.path.as_str();
            let inside = path.starts_with(&directory);
            let allowed = places.iter().any(|place| path.starts_with(place));
            let names_it = file
                .text
                .lines()
                .any(|line| line.contains("tokio::") && !line.trim_start().starts_with("//"));
            if inside && !allowed && names_it {
                complaints.push(format!("{path}: tokio belongs in {}", places.join(" or ")));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::{Dependency, EDGES, complain};

    fn complaint(from: &str, to: &str, kind: Option<&str>) -> Option<String> {
        let rule = EDGES.iter().find(|rule| rule.krate == from).unwrap();
        let dependency = Dependency {
            name: to.to_owned(),
            kind: kind.map(str::to_owned),
        };
        let members: Vec<&str> = EDGES.iter().map(|rule| rule.krate).collect();
        complain(rule, &dependency, &members)
    }

    #[test]
    fn an_edge_outside_the_table_is_refused() {
        assert!(complaint("forebay-mqtt", "forebay-storage", None).is_some());
        assert!(complaint("forebay-storage", "forebay-records", None).is_none());
        assert!(complaint("forebay-uplink", "forebay-broker", None).is_some());
        assert!(complaint("forebay-uplink", "forebay-broker", Some("dev")).is_none());
    }

    #[test]
    fn a_protocol_crate_knows_no_runtime() {
        assert!(complaint("forebay-kafka", "tokio", None).is_some());
        assert!(complaint("forebay-kafka", "bytes", None).is_none());
        assert!(complaint("forebay-gateway", "tokio", None).is_none());
    }
}
