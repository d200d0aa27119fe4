//! `nodes` of a server.

use std::collections::BTreeMap;

use forebay_opcua::node::NodeRef;
use forebay_opcua::settings::{NodeSettings, Sampling};

use super::{OpcUaWrite, sampling};
use crate::commands::WriteKind;
use crate::config::defaults;
use crate::config::section::Section;
use crate::config::tags::{self, write_limits};

const KINDS: [(&str, WriteKind); 4] = [
    ("bool", WriteKind::Bool),
    ("integer", WriteKind::Integer),
    ("float", WriteKind::Float),
    ("text", WriteKind::Text),
];

/// What `nodes` says.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) settings: Vec<NodeSettings>,
    pub(super) units: BTreeMap<String, String>,
    pub(super) writes: BTreeMap<String, OpcUaWrite>,
}

/// Reads `nodes` of a server.
pub(super) fn nodes(server: &Section<'_>, shared: Sampling) -> Nodes {
    const NODES: &str = "expected a list of tables such as [ { name = \"speed\", id = \"nsu=urn:acme:spindle;s=Speed\" } ]";
    let sections = server.tables("nodes", NODES);
    let most = usize::try_from(defaults::OPCUA_NODES_MAX).unwrap_or(usize::MAX);
    if sections.len() > most {
        server.mistake("nodes", format!("expected at most {most} nodes"));
    }
    let read: Vec<Option<Node>> = sections
        .iter()
        .map(|section| node(section, shared))
        .collect();
    let mut nodes = Nodes::default();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for (index, node) in read.into_iter().enumerate() {
        let Some(Node {
            settings,
            unit,
            write,
        }) = node
        else {
            continue;
        };
        let name = settings.name.clone();
        if let Some(other) = at.insert(name.clone(), index) {
            let expected = format!("expected each name once, nodes[{other}] is {name:?} as well");
            sections[index].mistake("name", expected);
        }
        nodes.units.extend(unit.map(|unit| (name.clone(), unit)));
        nodes.writes.extend(write.map(|write| (name, write)));
        nodes.settings.push(settings);
    }
    for name in nodes.writes.keys() {
        let command = format!("{name}/set");
        if let Some(index) = at.get(&command) {
            let expected =
                format!("expected no node {command:?}: it is the command path of {name:?}");
            sections[*index].mistake("name", expected);
        }
    }
    nodes
}

/// One element of `nodes`.
struct Node {
    settings: NodeSettings,
    unit: Option<String>,
    write: Option<OpcUaWrite>,
}

fn node(section: &Section<'_>, shared: Sampling) -> Option<Node> {
    const NAME: &str = "expected a name such as \"spindle_rpm\"";
    const ID: &str =
        "expected a node id such as \"nsu=urn:acme:spindle;s=Speed\" or \"ns=2;i=1001\"";
    const UNIT: &str = "expected the unit of measure as a text, such as \"°C\"";
    let name = section.text("name", NAME, tags::path);
    let id = section.text("id", ID, |text| {
        NodeRef::parse(text).map_err(|error| error.to_string())
    });
    section.missing("name", NAME);
    section.missing("id", ID);
    let unit = section.text("unit", UNIT, |text| Ok(text.to_owned()));
    let sampling = sampling(section, shared);
    let write = write(section);
    section.finish();
    let settings = NodeSettings {
        name: name?,
        id: id?,
        sampling,
    };
    Some(Node {
        settings,
        unit,
        write,
    })
}

fn write(section: &Section<'_>) -> Option<OpcUaWrite> {
    let table = section.table("write");
    let kind = table.word("type", &KINDS);
    let limits = write_limits(&table);
    table.finish();
    if !table.is_present() {
        return None;
    }
    let has_limits = limits.min.is_some() || limits.max.is_some();
    if has_limits && matches!(kind, Some(WriteKind::Bool | WriteKind::Text)) {
        table.mistake(
            "type",
            "expected \"integer\" or \"float\" beside min and max",
        );
    }
    // The server knows the type; only numbers have limits.
    let kind = kind.unwrap_or(match has_limits {
        true => WriteKind::Number,
        false => WriteKind::Any,
    });
    Some(OpcUaWrite { kind, limits })
}
