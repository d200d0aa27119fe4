//! What a server offers and which nodes it has, as text and as JSON.

use std::fmt::Write as _;

use forebay_opcua::probe::{Described, Listing, Offers};
use forebay_opcua::sample::Quality;
use forebay_opcua::security::{Mode, Security};
use forebay_opcua::settings::{Settings, Url};
use serde_json::{Value as Json, json};

/// Characters of a value that are shown: a line is for a glance.
const VALUE_CHARACTERS: usize = 40;

/// The endpoints, as a table.
pub(super) fn offers(offers: &Offers) -> String {
    let mut text = format!("{} ({})\n", offers.name, offers.application_uri);
    // Writing into a String does not fail.
    if let Some(cert) = &offers.certificate {
        let _ = writeln!(
            text,
            "certificate of {}\n  SHA-256 {}",
            cert.subject(),
            cert.fingerprint()
        );
    }
    let _ = writeln!(text, "\n{:<22}{:<16}identities", "policy", "mode");
    for offer in &offers.endpoints {
        let note = if offer.is_spoken {
            ""
        } else {
            "  (not spoken)"
        };
        let _ = writeln!(
            text,
            "{:<22}{:<16}{}{note}",
            offer.policy,
            offer.mode,
            offer.identities.join(", ")
        );
    }
    text
}

/// The nodes, as a section of the configuration.
pub(super) fn nodes(url: &Url, settings: &Settings, listing: &Listing) -> String {
    let mut text = String::from("\n[[opcua]]\nname = \"machine\"\n");
    let _ = writeln!(text, "endpoint = {}", quoted(url.as_str()));
    let (policy, mode) = listing.protection;
    if mode == Mode::None.name() {
        text.push_str("security = \"none\"\n");
    } else if let Security::Exactly(..) = settings.security {
        let _ = writeln!(text, "security = \"{policy}/{mode}\"");
    }
    text.push_str("nodes = [\n");
    let lines: Vec<(String, String)> = listing.nodes.iter().map(line).collect();
    let width = lines.iter().map(|(entry, _)| entry.chars().count()).max();
    for (entry, note) in &lines {
        let width = width.unwrap_or(0);
        let _ = writeln!(text, "  {entry:<width$}  # {note}");
    }
    text.push_str("]\n");
    let count = listing.nodes.len();
    let more = if listing.is_cut {
        ", and more: --max-nodes shows them"
    } else {
        ""
    };
    let _ = writeln!(text, "# {count} nodes{more}");
    text
}

fn line(node: &Described) -> (String, String) {
    let name = node.path.strip_prefix("Objects/").unwrap_or(&node.path);
    let entry = format!(
        "{{ name = {}, id = {} }},",
        quoted(name),
        quoted(&node.id.to_string())
    );
    let mut note = node.kind.unwrap_or("?").to_owned();
    if node.is_array {
        note.push_str("[]");
    }
    let value = match &node.sample.status {
        Some(status) if node.sample.quality == Quality::Bad => status.to_string(),
        _ => node.sample.value.clone().into_json().to_string(),
    };
    let shown: String = value.chars().take(VALUE_CHARACTERS).collect();
    let _ = write!(note, " {shown}");
    if shown.len() < value.len() {
        note.push('…');
    }
    if node.is_writable {
        note.push_str(", writable");
    }
    (entry, note)
}

/// A text as TOML and JSON both write it.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// All of it for programs.
pub(super) fn json(url: &Url, offers: &Offers, listing: Option<&Listing>) -> Json {
    let endpoints: Vec<Json> = offers
        .endpoints
        .iter()
        .map(|offer| {
            json!({
                "url": offer.url,
                "policy": offer.policy,
                "mode": offer.mode,
                "identities": offer.identities,
                "spoken": offer.is_spoken,
            })
        })
        .collect();
    let nodes = listing.map(|listing| {
        let node = |node: &Described| {
            json!({
                "path": node.path,
                "id": node.id.to_string(),
                "type": node.kind,
                "array": node.is_array,
                "writable": node.is_writable,
                "value": node.sample.value.clone().into_json(),
                "status": node.sample.status,
            })
        };
        listing.nodes.iter().map(node).collect::<Vec<_>>()
    });
    json!({
        "endpoint": url.as_str(),
        "name": offers.name,
        "application_uri": offers.application_uri,
        "fingerprint": offers.certificate.as_ref().map(|cert| cert.fingerprint()),
        "endpoints": endpoints,
        "nodes": nodes,
        "cut": listing.is_some_and(|listing| listing.is_cut),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use forebay_opcua::node::NodeRef;
    use forebay_opcua::sample::Sample;
    use forebay_opcua::value::Value;

    use super::*;
    use crate::config::Config;

    fn described(path: &str, id: &str, value: Value) -> Described {
        Described {
            path: path.to_owned(),
            id: NodeRef::parse(id).unwrap(),
            kind: Some("Double"),
            is_array: false,
            is_writable: true,
            sample: Sample {
                value,
                quality: Quality::Good,
                status: None,
                ..Sample::bad(path.into(), "BadNoValue".into())
            },
        }
    }

    #[test]
    fn what_is_printed_can_be_pasted_into_the_configuration() {
        let nodes = vec![
            described(
                "Objects/Line1/Speed",
                "nsu=urn:acme:spindle;s=Speed",
                Value::Float(21.5),
            ),
            described(
                "Objects/Line1/\"Order\"",
                "nsu=urn:acme:spindle;s=\"DB\".\"Order\"",
                Value::Text("0815".into()),
            ),
        ];
        let listing = Listing {
            protection: ("None", "None"),
            nodes,
            is_cut: true,
        };
        let url = Url::parse("opc.tcp://10.0.0.9:4840").unwrap();
        let text = format!(
            "[[opcua]]\nname = \"x\"\nendpoint = {}\nbrowse = [\"Objects/**\"]\n",
            quoted(url.as_str())
        );
        let head = "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n";
        let config = Config::parse(Path::new("f.toml"), &format!("{head}{text}")).unwrap();
        let settings = &config.opcua[0].settings;
        let text = super::nodes(&url, settings, &listing);
        assert!(text.contains("# Double 21.5, writable"), "{text}");
        assert!(text.contains("# 2 nodes, and more"), "{text}");
        let config = Config::parse(Path::new("f.toml"), &format!("{head}{text}")).unwrap();
        let nodes = &config.opcua[0].settings.nodes;
        assert_eq!(nodes[0].name, "Line1/Speed");
        assert_eq!(nodes[0].id.to_string(), "nsu=urn:acme:spindle;s=Speed");
        assert_eq!(
            nodes[1].id.to_string(),
            "nsu=urn:acme:spindle;s=\"DB\".\"Order\""
        );
    }
}
