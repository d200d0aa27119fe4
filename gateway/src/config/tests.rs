//! Golden mistakes: a whole file in, the whole report out.
use std::path::Path;

use forebay_access::rules::Who;

use super::*;

const GOOD: &str = r#"
[node]
name = "press-shop-1"
role = "gateway"
data_dir = "/var/lib/forebay"
"#;

fn mistakes(text: &str) -> String {
    match Config::parse(Path::new("f.toml"), text) {
        Ok(config) => format!("no mistake: {config:?}"),
        Err(error) => error.to_string(),
    }
}

fn resolved(text: &str) -> Config {
    Config::parse(Path::new("f.toml"), text).expect("the text is a valid configuration")
}

#[test]
fn the_shortest_file_has_loopback_defaults() {
    let config = resolved(GOOD);
    assert_eq!(
        config.mqtt.as_ref().map(|m| m.listen),
        Some(defaults::MQTT_LISTEN)
    );
    assert_eq!(config.kafka.listen, defaults::KAFKA_LISTEN);
    assert_eq!(config.http.listen, defaults::HTTP_LISTEN);
    assert_eq!(config.uplink, None);
    let default_route = Route {
        filter: "#".to_owned(),
        topic: "readings".to_owned(),
        partitions: 1,
        key: None,
        durability: Durability::Log,
    };
    assert_eq!(config.routes, [default_route]);
}

#[test]
fn a_broker_has_mqtt_only_when_it_says_so() {
    let broker = GOOD.replace("gateway", "broker");
    assert_eq!(resolved(&broker).mqtt, None);
    assert!(resolved(&format!("{broker}[mqtt]\n")).mqtt.is_some());
}

#[test]
fn all_mistakes_are_reported_together_in_file_order() {
    let text = r##"
[node]
nme = "x"
role = "server"
data_dir = "var/lib"

[storage]
commit_linger = 5
segment_size = "16 megabytes"
retention = { time = "7 days", size = "8GiB", keepfree = "1GiB" }
when_full = "drop"

[mqtt]
listen = "localhost:1883"
max_packet_sise = "1MiB"

[kafka]
listen = "0.0.0.0:9092"

[http]
listen = "127.0.0.1:9092"

[[route]]
filter = "plant/#/x"
topic = "a b"
partitions = 0

[uplink]
bootstrap = ["hub"]
topics = [ { name = "#" , prio = 1 } ]
max_rate = "10MiB"

[telemetry]
on = true
"##;
    assert_eq!(
        mistakes(text),
        r##"f.toml:2: node.name: missing; expected the name of this node, such as "press-shop-1"
f.toml:3: node.nme = "x": unknown key; did you mean `node.name`?
f.toml:4: node.role = "server": expected "gateway" or "broker"
f.toml:5: node.data_dir = "var/lib": expected an absolute directory, such as "/var/lib/forebay"
f.toml:8: storage.commit_linger = 5: expected a duration from "0ms" to "1s", got a number
f.toml:9: storage.segment_size = "16 megabytes": expected a size from "1MiB" to "2GiB", such as "16MiB"
f.toml:10: storage.retention.keepfree = "1GiB": unknown key; did you mean `storage.retention.keep_free`?
f.toml:10: storage.retention.time = "7 days": expected a duration such as "7d", or "unlimited"
f.toml:11: storage.when_full = "drop": expected "reject" or "drop-oldest"
f.toml:14: mqtt.listen = "localhost:1883": expected an address with a port, such as "127.0.0.1:1883" or "[::]:1883" (host names cannot be listened on)
f.toml:15: mqtt.max_packet_sise = "1MiB": unknown key; did you mean `mqtt.max_packet_size`?
f.toml:18: kafka.listen = "0.0.0.0:9092": expected `kafka.advertise` beside a listener on all addresses: clients need one address to come back to, such as advertise = "hub.plant.example:9092"
f.toml:24: route[0].filter = "plant/#/x": expected '#' only as the whole last level of the filter
f.toml:25: route[0].topic = "a b": expected a topic name of letters, digits, '.', '_' and '-', got ' '
f.toml:26: route[0].partitions = 0: expected a whole number from 1 to 1000
f.toml:29: uplink.bootstrap[0] = "hub": expected a list of host and port, such as ["hub:9092"]
f.toml:30: uplink.topics[0].prio = 1: unknown key; did you mean `uplink.topics[0].priority`?
f.toml:31: uplink.max_rate = "10MiB": expected a rate of at least "1KiB/s", such as "10MiB/s", or "unlimited"
f.toml:33: telemetry: unknown key; known here: node, storage, mqtt, kafka, http, tls, route, uplink, modbus, opcua, sparkplug, commands, bridge, query, access, permission, log
19 mistakes"##
    );
}

#[test]
fn impossible_combinations_are_mistakes() {
    let clash = format!("{GOOD}[http]\nlisten = \"127.0.0.1:1883\"\n");
    assert_eq!(
        mistakes(&clash),
        "f.toml:7: http.listen = \"127.0.0.1:1883\": expected another port than mqtt.listen, which listens on 127.0.0.1:1883\n1 mistake"
    );
    let own_hub = format!("{GOOD}[uplink]\nbootstrap = [\"127.0.0.1:9092\"]\n");
    assert_eq!(
        mistakes(&own_hub),
        "f.toml:7: uplink.bootstrap[0] = \"127.0.0.1:9092\": expected the address of the hub, got the address of this node itself\n1 mistake"
    );
    let routed_broker = format!(
        "{}[[route]]\nfilter = \"#\"\ntopic = \"a\"\n",
        GOOD.replace("gateway", "broker")
    );
    assert!(mistakes(&routed_broker).contains("expected no [[route]] on a broker without [mqtt]"));
    let shadowed = format!(
        "{GOOD}[[route]]\nfilter = \"#\"\ntopic = \"a\"\n[[route]]\nfilter = \"b\"\ntopic = \"b\"\n"
    );
    assert!(
        mistakes(&shadowed)
            .contains("f.toml:10: route[1].filter = \"b\": expected a route that can match")
    );
    let small = format!("{GOOD}[storage]\nretention = {{ size = \"1MiB\" }}\n");
    assert!(
        mistakes(&small).contains("expected retention.size to hold at least one segment of 16MiB")
    );
}

#[test]
fn port_zero_collides_with_nothing() {
    let text = format!(
        "{GOOD}[mqtt]\nlisten = \"127.0.0.1:0\"\n[kafka]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
    );
    assert_eq!(resolved(&text).http.listen.port(), 0);
}

#[test]
fn a_line_that_is_not_toml_does_not_hide_the_others() {
    let text = format!("{GOOD}[storage]\ncommit_linger = 5ms\nsegment_size = \"x\"\n");
    let report = mistakes(&text);
    assert!(report.starts_with("f.toml:7: expected TOML: "), "{report}");
    assert!(
        report.contains("f.toml:8: storage.segment_size = \"x\": expected a size"),
        "{report}"
    );
    assert!(report.ends_with("2 mistakes"), "{report}");
}

#[test]
fn the_shipped_files_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let gateway = Config::load(&root.join("gateway.toml")).expect("gateway.toml is valid");
    assert_eq!(gateway.node.role, Role::Gateway);
    assert!(gateway.uplink.is_some());
    let hub = Config::load(&root.join("hub.toml")).expect("hub.toml is valid");
    assert_eq!(hub.node.role, Role::Broker);
}

/// Every key that the walk knows stands in the shipped gateway file, set or
/// commented out, and in the reference.
#[test]
fn the_shipped_file_and_the_reference_know_every_key() {
    let known = "name role data_dir worker_threads clock commit_linger segment_size retention when_full \
        preallocation listen max_packet_size receive_maximum session_expiry_max keep_alive_max \
        connect_timeout max_connections advertise auto_create_topics default_partitions \
        max_message_bytes filter topic partitions key bootstrap site topics max_rate endpoint interval unit byte_order max_fill \
        max_registers timeout retries pause pause_after_connect close_after_read report \
        report_interval deadband tags register address type bit length scale offset unit_id write \
        enabled allow max_expiry security allow_none check_hostname identity publishing_interval \
        sampling_interval queue_size server_deadband timestamp session_timeout batch nodes id browse \
        exclude max_nodes max_depth file from memory format level \
        tls_listen tls_advertise websocket_tls_listen certificate client_ca client_certificates tls ca server_name";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = std::fs::read_to_string(root.join("config/gateway.toml")).expect("the file exists");
    let reference =
        std::fs::read_to_string(root.join("docs/configuration.md")).expect("the file exists");
    for key in known.split_whitespace() {
        assert!(
            file.contains(&format!("{key} = ")),
            "config/gateway.toml lacks {key}"
        );
        assert!(
            reference.contains(&format!("`{key}`")),
            "docs/configuration.md lacks {key}"
        );
    }
}

/// Whoever takes the comment signs away has a section that works.
#[test]
fn the_devices_of_the_shipped_file_parse_when_they_are_uncommented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = std::fs::read_to_string(root.join("config/gateway.toml")).expect("the file exists");
    let dir = tempfile::tempdir().unwrap();
    for password in ["cell-4.password", "old-broker.password"] {
        std::fs::write(dir.path().join(password), "secret\n").unwrap();
    }
    let mut text = file.clone();
    for name in ["modbus", "opcua", "bridge"] {
        let (_, section) = file
            .split_once(&format!("\n# [[{name}]]\n"))
            .expect("the section is there");
        let lines = section.lines().take_while(|line| !line.is_empty());
        let keys: Vec<&str> = lines
            .map(|line| line.strip_prefix("# ").expect("a commented line"))
            .collect();
        text.push_str(&format!("\n[[{name}]]\n{}\n", keys.join("\n")));
    }
    let config = Config::parse(&dir.path().join("gateway.toml"), &text).expect("no mistakes");
    assert_eq!((config.modbus.len(), config.bridges.len()), (1, 1));
    let [server] = config.opcua.as_slice() else {
        panic!("one server");
    };
    let settings = &server.settings;
    assert_eq!((settings.nodes.len(), server.writes.len()), (3, 1));
    assert_eq!(
        (settings.publishing_interval, settings.keep_alive),
        (
            defaults::OPCUA_PUBLISHING_INTERVAL,
            defaults::OPCUA_KEEP_ALIVE
        )
    );
    assert_eq!(
        (settings.request_timeout, settings.session_timeout),
        (defaults::OPCUA_TIMEOUT, defaults::OPCUA_SESSION_TIMEOUT)
    );
    assert_eq!(settings.sampling.queue_size, defaults::OPCUA_QUEUE);
}

#[test]
fn limits_are_read_and_their_mistakes_named() {
    let text = format!(
        "{GOOD}[mqtt]\nwebsocket_listen = \"127.0.0.1:8083\"\nsys_interval = \"0s\"\n[mqtt.limits]\ninflight = 8\npublish_rate = 20\npublish_bytes_rate = \"1MiB/s\"\n"
    );
    let mqtt = resolved(&text).mqtt.expect("a gateway has an MQTT server");
    assert_eq!(mqtt.websocket_listen, "127.0.0.1:8083".parse().ok());
    assert_eq!(mqtt.sys_interval, Duration::ZERO);
    let limits = mqtt.limits;
    assert_eq!((limits.inflight.get(), limits.queued), (8, 256));
    assert_eq!(limits.publish_rate.map(|rate| rate.get()), Some(20));
    assert_eq!(limits.publish_bytes_rate.map(|r| r.get()), Some(1 << 20));
    assert_eq!(limits.connect_rate, None);

    let text = format!(
        "{GOOD}[mqtt]\nwebsocket_origins = [\"panel\"]\n[mqtt.limits]\ninflight = 0\npublish_bytes_rate = \"1B/s\"\n"
    );
    let found = mistakes(&text);
    for key in [
        "mqtt.websocket_origins[0]",
        "mqtt.websocket_origins",
        "mqtt.limits.inflight",
        "mqtt.limits.publish_bytes_rate",
    ] {
        assert!(found.contains(key), "{key} is not in {found}");
    }
}

#[test]
fn bridges_are_read_and_their_mistakes_named() {
    let text = format!(
        "{GOOD}[[bridge]]\nname = \"old\"\naddress = \"10.0.0.5:1883\"\nversion = \"3.1.1\"\ntopics = [ {{ filter = \"a/#\", direction = \"both\", qos = 0, remote_prefix = \"x/\" }} ]\n"
    );
    let config = resolved(&text);
    let [bridge] = config.bridges.as_slice() else {
        panic!("expected one bridge");
    };
    assert_eq!(bridge.client_id, "forebay-press-shop-1-old");
    assert_eq!(bridge.version, BridgeVersion::V311);
    let topic = BridgeTopic {
        filter: "a/#".to_owned(),
        direction: Direction::Both,
        qos: 0,
        local_prefix: String::new(),
        remote_prefix: "x/".to_owned(),
    };
    assert_eq!(bridge.topics, [topic]);

    let text = format!(
        "{GOOD}[[bridge]]\nname = \"a\"\naddress = \"x\"\nversion = \"4\"\npassword_file = \"p\"\ntopics = [ {{ filter = \"{{a}}/#\", local_prefix = \"+/\" }} ]\n"
    );
    let found = mistakes(&text);
    for key in [
        "bridge[0].address",
        "bridge[0].version",
        "bridge[0].password_file",
        "bridge[0].topics[0].filter",
        "bridge[0].topics[0].direction",
        "bridge[0].topics[0].local_prefix",
    ] {
        assert!(found.contains(key), "{key} is not in {found}");
    }
}

#[test]
fn tls_is_read_with_its_files_and_their_mistakes_named() {
    use crate::tls::authority::{Authority, Purpose};
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let (authority, ca) = Authority::create("Test CA", now).unwrap();
    let server = crate::tls::tests::issue(&authority, "hub", Purpose::Server);
    let files = crate::tls::tests::write(dir.path(), &ca, &server);
    let file = dir.path().join("f.toml");
    let parse = |more: &str| Config::parse(&file, &format!("{GOOD}{more}"));
    let tls = "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\nclient_ca = \"ca.crt\"\n";
    let listen = "[mqtt]\ntls_listen = \"127.0.0.1:8883\"\n";
    let config = parse(&format!("{listen}{tls}")).unwrap();
    assert_eq!(config.tls, Some(files));
    // The files of the test are readable by everybody.
    let warnings: Vec<_> = config.warnings.iter().map(|one| one.key.clone()).collect();
    assert_eq!(warnings, ["tls.key"]);
    let unused = parse(tls).unwrap();
    assert!(unused.warnings.iter().any(|one| one.key == "tls"));

    let mistake = |more: &str| parse(more).unwrap_err().to_string();
    let alone = mistake(listen);
    assert!(
        alone.contains("mqtt.tls_listen") && alone.contains("[tls]"),
        "{alone}"
    );
    let same = mistake(&format!("[mqtt]\ntls_listen = \"127.0.0.1:8080\"\n{tls}"));
    assert!(
        same.contains("expected another port than http.listen"),
        "{same}"
    );
    let swapped = mistake("[tls]\ncertificate = \"server.key\"\nkey = \"server.crt\"\n");
    for words in [
        "tls.certificate = \"server.key\"",
        "holds a private key, expected certificates",
        "tls.key = \"server.crt\"",
        "holds a certificate, expected a private key",
    ] {
        assert!(swapped.contains(words), "{words:?} is not in {swapped}");
    }
    let other = crate::tls::tests::issue(&authority, "other", Purpose::Server);
    std::fs::write(dir.path().join("server.key"), other.key).unwrap();
    let mismatch = mistake(&format!("{listen}{tls}"));
    assert!(
        mismatch.contains("does not belong to the certificate"),
        "{mismatch}"
    );
    let lonely = mistake("[tls]\nclient_certificates = \"required\"\n");
    assert!(
        lonely.contains("expected `tls.client_ca` beside it"),
        "{lonely}"
    );
    assert!(lonely.contains("tls.certificate: missing"), "{lonely}");
}

#[test]
fn access_is_said_in_so_many_words_or_listeners_stay_on_loopback() {
    let node = "[node]\nname = \"a\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n";
    let open = format!("{node}[mqtt]\nlisten = \"0.0.0.0:1883\"\n");
    assert_eq!(
        mistakes(&open),
        "f.toml:6: mqtt.listen = \"0.0.0.0:1883\": expected an [access] section beside a listener that other machines reach: users with [[permission]] sections, or anonymous = true to let everybody do everything\n1 mistake"
    );
    let config = |text: &str| Config::parse(Path::new("/etc/forebay/f.toml"), text);
    let anonymous = config(&format!("{open}[access]\nanonymous = true\n")).unwrap();
    assert!(anonymous.access.is_open());
    assert_eq!(anonymous.access.users_file, Path::new("/d/users"));
    assert!(config(node).unwrap().access.is_open());
    let closed = "[access]\nusers_file = \"users\"\n[[permission]]\nuser = \"press-*\"\nallow = [\"write\"]\npaths = [\"plant/%u/#\"]\n";
    let closed = config(&format!("{open}{closed}")).unwrap();
    assert!(!closed.access.is_open());
    assert_eq!(closed.access.anonymous, Some(false));
    assert_eq!(closed.access.users_file, Path::new("/etc/forebay/users"));
    assert_eq!(
        mistakes(&format!(
            "{node}[access]\n[[permission]]\nuser = \"x\"\nallow = [\"read\"]\npaths = [\"a\"]\ngroups = [\"g\"]\n"
        )),
        "f.toml:6: permission[0].topics: missing; expected topics that the groups read\n1 mistake"
    );
    assert_eq!(
        mistakes(&format!(
            "{node}[access]\n[kafka]\nlisten = \"10.0.0.1:9092\"\n"
        )),
        "f.toml:5: access.anonymous: missing; expected [[permission]] sections, or anonymous = true: without any, nobody may do anything\n1 mistake"
    );
    let wrong = "[[permission]]\nuser = \"\"\nallow = [\"sing\"]\npaths = [\"a/#/b\"]\n[[permission]]\nuser = \"x\"\nallow = [\"read\"]\n[[permission]]\nallow = [\"admin\"]\n";
    let told = mistakes(&format!("{node}{wrong}"));
    for expected in [
        "permission[0].user = \"\": expected the name of a user",
        "permission[0].allow[0] = \"sing\": expected a list of \"read\"",
        "permission[0].paths[0] = \"a/#/b\": expected a list of MQTT filters",
        "permission[1].paths: missing; expected paths or topics that it is about",
        "permission[2].user: missing; expected the name of a user",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    let who = |keys: &str| format!("{node}[[permission]]\n{keys}\nallow = [\"admin\"]\n");
    let shown = config(&who("certificate = \"press-*\"")).unwrap();
    assert_eq!(
        shown.access.rules[0].who,
        Who::Certificate("press-*".to_owned())
    );
    assert_eq!(
        mistakes(&who("user = \"a\"\ncertificate = \"b\"")),
        "f.toml:7: permission[0].certificate = \"b\": expected user or certificate, not both\n1 mistake"
    );
    let empty = mistakes(&who("certificate = \"\""));
    assert!(empty.contains("expected the common name"), "{empty}");
}
