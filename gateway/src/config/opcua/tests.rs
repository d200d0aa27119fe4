use std::path::Path;
use std::time::Duration;

use forebay_opcua::deadband::Deadband;
use forebay_opcua::sample::Timestamp;
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::settings::Identity;

use crate::commands::WriteKind;
use crate::config::{Config, ConfigError, OpcUa};

const HEAD: &str = "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n";

/// The servers of a file beside which the files of identities lie.
fn servers(text: &str) -> Vec<OpcUa> {
    let directory = tempfile::tempdir().unwrap();
    for file in ["cell-4.password", "user.der", "user.pem"] {
        std::fs::write(directory.path().join(file), "").unwrap();
    }
    let path = directory.path().join("f.toml");
    let config = Config::parse(&path, &format!("{HEAD}{text}"));
    config.expect("the sections are valid").opcua
}

/// The mistakes, without the file and with lines counted from the section.
fn mistakes(text: &str) -> Vec<String> {
    match Config::parse(Path::new("f.toml"), &format!("{HEAD}{text}")) {
        Err(ConfigError::Mistakes(mistakes)) => mistakes
            .iter()
            .map(|one| format!("{} {} {}", one.line - 4, one.key, one.expected))
            .collect(),
        other => panic!("expected mistakes, got {other:?}"),
    }
}

#[test]
fn a_short_section_is_complete() {
    let text = "[[opcua]]\nname = \"cell-4\"\nendpoint = \"opc.tcp://10.0.0.9\"\nbrowse = [ \"Objects/Line1/**\" ]\n";
    let servers = servers(text);
    let [server] = servers.as_slice() else {
        panic!("one server, got {servers:?}");
    };
    let settings = &server.settings;
    assert_eq!(settings.name, "cell-4");
    assert_eq!(
        (settings.url.host(), settings.url.port()),
        ("10.0.0.9", 4840)
    );
    assert_eq!(settings.security, Security::Auto { allow_none: false });
    assert_eq!(settings.identity, Identity::Anonymous);
    assert!(settings.check_hostname && !settings.server_deadband);
    assert_eq!(settings.publishing_interval, Duration::from_millis(500));
    assert_eq!((settings.batch, settings.max_nodes), (100, 10_000));
    assert_eq!(settings.browse.len(), 1);
}

#[test]
fn every_key_is_read() {
    let text = r#"
[[opcua]]
name = "hall/cell-4"
endpoint = "opc.tcp://plc:4841/ua"
security = "Aes128_Sha256_RsaOaep/Sign"
check_hostname = false
identity = { user = "forebay", password_file = "cell-4.password" }
publishing_interval = "250ms"
sampling_interval = "100ms"
keep_alive = "2s"
timeout = "1s"
session_timeout = "30s"
queue_size = 5
deadband = "2%"
server_deadband = true
timestamp = "gather"
batch = 50
max_nodes = 7
max_depth = 3
browse = ["Objects/Line1/**"]
exclude = ["Objects/Line1/Secret/**"]
nodes = [
  { name = "spindle_rpm", id = "nsu=urn:acme:spindle;s=Speed", unit = "1/min", deadband = 0.5 },
  { name = "setpoint", id = "ns=2;i=17", sampling_interval = "1s", queue_size = 1, write = { type = "float", min = 0, max = 80, min_interval = "2s" } },
]

[[opcua]]
name = "cell-5"
endpoint = "opc.tcp://plc:4842"
security = "auto"
allow_none = true
identity = { certificate = "user.der", key = "user.pem" }
nodes = [ { name = "a", id = "i=2258" } ]
"#;
    let servers = servers(text);
    let [first, second] = servers.as_slice() else {
        panic!("two servers, got {servers:?}");
    };
    let settings = &first.settings;
    let exactly = Security::Exactly(Policy::Aes128Sha256RsaOaep, Mode::Sign);
    assert_eq!(settings.security, exactly);
    assert!(!settings.check_hostname && settings.server_deadband);
    assert!(matches!(&settings.identity, Identity::User { name, .. } if name == "forebay"));
    let times = [
        settings.publishing_interval,
        settings.keep_alive,
        settings.request_timeout,
        settings.session_timeout,
    ];
    assert_eq!(
        times.map(|time| time.as_millis()),
        [250, 2_000, 1_000, 30_000]
    );
    assert_eq!(settings.timestamp, Timestamp::Gather);
    assert_eq!(
        (settings.batch, settings.max_nodes, settings.max_depth),
        (50, 7, 3)
    );
    assert_eq!((settings.browse.len(), settings.exclude.len()), (1, 1));
    let [rpm, setpoint] = settings.nodes.as_slice() else {
        panic!("two nodes, got {:?}", settings.nodes);
    };
    // A node's own keys, else those of its section.
    assert_eq!(rpm.sampling.deadband, Deadband::Absolute(0.5));
    assert_eq!(rpm.sampling.interval, Some(Duration::from_millis(100)));
    assert_eq!(rpm.sampling.queue_size, 5);
    assert_eq!(setpoint.sampling.deadband, Deadband::Percent(2.0));
    assert_eq!(setpoint.sampling.interval, Some(Duration::from_secs(1)));
    assert_eq!(setpoint.sampling.queue_size, 1);
    assert_eq!(
        first.units.get("spindle_rpm").map(String::as_str),
        Some("1/min")
    );
    let write = first.writes.get("setpoint").expect("it is writable");
    assert_eq!(write.kind, WriteKind::Float);
    assert_eq!(
        (write.limits.min, write.limits.max),
        (Some(0.0), Some(80.0))
    );
    assert_eq!(write.limits.min_interval, Duration::from_secs(2));
    assert_eq!(
        second.settings.security,
        Security::Auto { allow_none: true }
    );
    assert!(matches!(
        second.settings.identity,
        Identity::Certificate { .. }
    ));
}

#[test]
fn every_mistake_is_named() {
    let text = r#"[[opcua]]
name = "cell/+"
endpoint = "10.0.0.9:4840"
security = "Basic256"
identity = { user = "forebay" }
deadband = -1
browse = ["Line1/**", 7]
nodes = [
  { name = "a", id = "Speed" },
  { name = "b", id = "ns=1;i=1", write = { min = 1 } },
  { name = "b", id = "ns=1;i=2", write = { type = "text", max = 1 } },
  { name = "b/set", id = "ns=1;i=3", sample = 1 },
]
[[opcua]]
name = "cell-5"
endpoint = "opc.tcp://plc"
security = "none"
allow_none = true
[[opcua]]
name = "cell-5"
endpoint = "opc.tcp://plc"
browse = []
"#;
    let found = mistakes(text);
    let expected = [
        ("2 opcua[0].name", "levels without '+'"),
        ("3 opcua[0].endpoint", "opc.tcp://"),
        ("4 opcua[0].security", "a policy such as"),
        ("5 opcua[0].identity", "password_file"),
        ("6 opcua[0].deadband", "expected a number"),
        ("7 opcua[0].browse[0]", "Objects/Line1/**"),
        ("7 opcua[0].browse[1]", "Objects/Line1/**"),
        ("9 opcua[0].nodes[0].id", "expected"),
        ("11 opcua[0].nodes[2].name", "each name once"),
        ("11 opcua[0].nodes[2].write.type", "beside min and max"),
        ("12 opcua[0].nodes[3].name", "command path"),
        ("12 opcua[0].nodes[3].sample", "unknown key"),
        ("opcua[1].nodes", "nodes, or patterns"),
        ("18 opcua[1].allow_none", "other than \"auto\""),
        ("20 opcua[2].name", "another name"),
        ("22 opcua[2].browse", "of 1 to 1000"),
    ];
    for (key, words) in expected {
        let is_there = found
            .iter()
            .any(|one| one.contains(key) && one.contains(words));
        assert!(is_there, "no {key:?} with {words:?} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_type_of_a_write_is_the_servers_to_know() {
    let text = "[[opcua]]\nname = \"c\"\nendpoint = \"opc.tcp://plc\"\nnodes = [ { name = \"a\", id = \"i=1\", write = {} }, { name = \"b\", id = \"i=2\", write = { max = 7 } } ]\n";
    let writes = &servers(text)[0].writes;
    assert_eq!(writes["a"].kind, WriteKind::Any);
    assert_eq!(writes["b"].kind, WriteKind::Number);
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let text = "[[opcua]]\nname = \"c\"\nendpoint = \"opc.tcp://plc\"\nbrowse = [\"Objects/**\"]\nidentity = { user = \"a\", password_file = \"no.password\" }\n";
    let found = mistakes(text);
    assert_eq!(
        found,
        ["5 opcua[0].identity.password_file expected a file that is there, no.password is not"]
    );
}

#[test]
fn a_broker_has_no_servers() {
    let head = HEAD.replace("gateway", "broker");
    let text = format!(
        "{head}[[opcua]]\nname = \"a\"\nendpoint = \"opc.tcp://plc\"\nbrowse = [\"Objects/**\"]\n"
    );
    let parsed = Config::parse(Path::new("f.toml"), &text);
    assert!(matches!(parsed, Err(ConfigError::Mistakes(all)) if all[0].key == "opcua"));
}
