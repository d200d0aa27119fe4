//! TLS of a whole node as its clients see it.

#![allow(clippy::unwrap_used)]

#[path = "tls/client.rs"]
mod client;
#[allow(dead_code, reason = "each test binary uses its part")]
mod running;

use std::io::{Read, Write};
use std::time::SystemTime;

use forebay_gateway::tls::authority::{Authority, Purpose};
use rustls::HandshakeKind;

use client::{Dir, V12, V13};
use running::{Running, forebay};

const TLS: &str =
    "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\nclient_ca = \"ca.crt\"\n";
const MQTTS: &str = "tls_listen = \"127.0.0.1:0\"\nwebsocket_tls_listen = \"127.0.0.1:0\"";

fn start(dir: &Dir, more: &str) -> Running {
    Running::listening(
        dir.path(),
        "gateway",
        [MQTTS, "", ""],
        &format!("{TLS}{more}"),
    )
}

fn status(running: &Running) -> serde_json::Value {
    let output = forebay(&["status", "--json", "--http", &running.address("http")]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn publishes_over_tls_are_acknowledged_and_a_second_connection_resumes() {
    let dir = Dir::new();
    let node = start(&dir, "");
    let press = dir.issue("press-1", Purpose::Client);
    for version in [V12, V13] {
        let config = dir.client(Some(&press), version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut mqtt = client::mqtt(&node.address("mqtt_tls"), &config).unwrap();
            // A hundred in one write, then one that spans records.
            mqtt.publish(1, 100, &[b'x'; 10]);
            mqtt.publish(101, 1, &[b'y'; 200_000]);
            mqtt.acknowledged(1..=101);
            assert_eq!(mqtt.stream.conn.handshake_kind(), Some(kind));
        }
    }
    let tls = &status(&node)["tls"];
    assert_eq!(tls["listeners"][0]["listener"], "mqtt.tls_listen");
    assert_eq!(tls["listeners"][0]["full"], 2);
    assert_eq!(tls["listeners"][0]["resumed"], 2);
    assert_eq!(tls["certificates"][0]["subject"], "CN=hub");
    assert_eq!(tls["alarms"].as_array().map(Vec::len), Some(0));
    let metrics = client::http(&node.address("http"), "/metrics");
    assert!(metrics.contains("forebay_tls_certificate_expiry_seconds{certificate=\"server\"} 1"));
    assert!(
        metrics.contains(
            "forebay_tls_handshakes_total{listener=\"mqtt.tls_listen\",kind=\"resumed\"} 2"
        ),
        "{metrics}"
    );
}

#[test]
fn a_websocket_works_over_tls() {
    let dir = Dir::new();
    let node = start(&dir, "");
    let config = dir.client(None, V13);
    let mut stream = client::connect(&node.address("mqtt_websocket_tls"), &config).unwrap();
    let request = "GET /mqtt HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    // A masked binary frame, the mask being zero.
    let connect = client::connect_packet("over-websocket");
    let mut frame = vec![
        0x82,
        0x80 | u8::try_from(connect.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    frame.extend_from_slice(&connect);
    stream.write_all(&frame).unwrap();
    let mut connack = [0; 6];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x82, 4, 0x20, 2, 0, 0]);
}

#[test]
fn who_has_no_certificate_is_refused_when_one_is_required() {
    let dir = Dir::new();
    let node = start(&dir, "client_certificates = \"required\"\n");
    let press = dir.issue("press-1", Purpose::Client);
    for version in [V12, V13] {
        let nobody = dir.client(None, version);
        assert!(client::mqtt(&node.address("mqtt_tls"), &nobody).is_err());
        let somebody = dir.client(Some(&press), version);
        assert!(client::mqtt(&node.address("mqtt_tls"), &somebody).is_ok());
    }
    let listener = &status(&node)["tls"]["listeners"][0];
    assert_eq!(listener["failures"]["certificate"], 2, "{listener}");
}

#[test]
fn a_reload_takes_a_new_certificate_up_and_open_connections_go_on() {
    let dir = Dir::new();
    let node = start(&dir, "");
    let config = dir.client(None, V13);
    let address = node.address("mqtt_tls");
    let mut open = client::mqtt(&address, &config).unwrap();
    let reload = || forebay(&["reload", "--http", &node.address("http")]);

    // A key alone fits nothing: what was there stays.
    let renewed = dir.issue("hub", Purpose::Server);
    dir.write("server.key", &renewed.key);
    let refused = reload();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.contains("does not belong to the certificate"),
        "{said}"
    );
    let shown = client::connect(&address, &config).unwrap();
    assert_ne!(client::shown(&shown), client::der(&renewed));

    dir.write("server.crt", &renewed.certificate);
    assert_eq!(reload().status.code(), Some(0));
    let shown = client::connect(&address, &config).unwrap();
    assert_eq!(client::shown(&shown), client::der(&renewed));
    open.publish(1, 3, b"after the reload");
    open.acknowledged(1..=3);
}

#[test]
fn a_changed_file_is_taken_up_without_being_asked() {
    let dir = Dir::new();
    let node = start(&dir, "");
    let config = dir.client(None, V13);
    let renewed = dir.issue("hub", Purpose::Server);
    dir.write("server.crt", &renewed.certificate);
    dir.write("server.key", &renewed.key);
    let deadline = SystemTime::now() + client::LIMIT;
    loop {
        let shown = client::connect(&node.address("mqtt_tls"), &config).unwrap();
        if client::shown(&shown) == client::der(&renewed) {
            break;
        }
        assert!(
            SystemTime::now() < deadline,
            "the old certificate is still shown"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_certificate_that_was_taken_back_is_refused_from_then_on() {
    let dir = Dir::new();
    let [lost, press, other] =
        ["lost", "press-1", "press-2"].map(|name| dir.issue(name, Purpose::Client));
    dir.revoke(&[&lost]);
    let node = start(&dir, "client_crl = \"ca.crl\"\n");
    let address = node.address("mqtt_tls");
    let reload = || forebay(&["reload", "--http", &node.address("http")]);
    for version in [V12, V13] {
        let refused = dir.client(Some(&lost), version);
        assert!(client::mqtt(&address, &refused).is_err());
    }
    // A configuration per client, so that it could resume.
    let configs = [V12, V13].map(|version| dir.client(Some(&press), version));
    for config in &configs {
        assert!(client::mqtt(&address, config).is_ok());
    }
    let mut open = client::mqtt(&address, &configs[1]).unwrap();

    dir.revoke(&[&press, &press]);
    assert!(reload().status.success());
    for config in &configs {
        assert!(client::mqtt(&address, config).is_err());
    }
    let others = dir.client(Some(&other), V13);
    assert!(client::mqtt(&address, &others).is_ok());
    open.publish(1, 1, b"an open connection goes on");
    open.acknowledged(1..=1);

    // What is no list changes nothing, and is an alarm.
    dir.write(
        "ca.crl",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    assert!(!reload().status.success());
    assert!(client::mqtt(&address, &configs[0]).is_err());
    let alarms = status(&node)["tls"]["alarms"].to_string();
    assert!(alarms.contains("ca.crl cannot be used"), "{alarms}");
    let failures = &status(&node)["tls"]["listeners"][0]["failures"];
    assert_eq!(failures["certificate"], 5, "{failures}");
}

#[test]
fn strangers_and_silent_crowds_do_not_disturb_the_others() {
    let dir = Dir::new();
    let mqtt = format!("{MQTTS}\nmax_connections = 120");
    let node = Running::listening(dir.path(), "gateway", [&mqtt, "", ""], TLS);
    let address = node.address("mqtt_tls");
    let config = dir.client(None, V13);
    let mut open = client::mqtt(&address, &config).unwrap();

    let (other, _) = Authority::create("Other CA", SystemTime::now()).unwrap();
    let stranger = client::issue(&other, "press-1", Purpose::Client);
    assert!(client::mqtt(&address, &dir.client(Some(&stranger), V13)).is_err());
    let mut plain = std::net::TcpStream::connect(&address).unwrap();
    plain.write_all(&client::connect_packet("plain")).unwrap();
    assert!(!matches!(plain.read(&mut [0; 4]), Ok(1..)));
    // Sixty places, and a hundred that say nothing.
    let crowd: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect(&address).unwrap())
        .collect();
    let mut late = client::mqtt(&address, &config).unwrap();
    late.publish(1, 1, b"in time");
    late.acknowledged(1..=1);
    open.publish(1, 1, b"still here");
    open.acknowledged(1..=1);
    drop(crowd);
    let failures = &status(&node)["tls"]["listeners"][0]["failures"];
    assert_eq!(failures["certificate"], 1, "{failures}");
    assert_eq!(failures["plain_text"], 1, "{failures}");
}

/// Asks for the cluster and returns where the client is told to come back to.
fn advertised(stream: &mut (impl Read + Write)) -> Vec<String> {
    use forebay_kafka::messages::{
        DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest,
    };
    let metadata = client::kafka(stream, &MetadataRequest::default(), 4);
    let cluster = client::kafka(stream, &DescribeClusterRequest::default(), 0);
    let coordinator = client::kafka(stream, &FindCoordinatorRequest::default(), 1);
    vec![
        format!(
            "{}:{}",
            &*metadata.brokers[0].host, metadata.brokers[0].port
        ),
        format!("{}:{}", &*cluster.brokers[0].host, cluster.brokers[0].port),
        format!("{}:{}", &*coordinator.host, coordinator.port),
    ]
}

#[test]
fn each_kafka_listener_tells_its_own_address() {
    let dir = Dir::new();
    let kafka = "advertise = \"plain:1\"\ntls_listen = \"127.0.0.1:0\"\ntls_advertise = \"hub:2\"";
    let node = Running::listening(dir.path(), "broker", ["", kafka, ""], TLS);
    for version in [V12, V13] {
        let config = dir.client(None, version);
        let mut tls = client::connect(&node.address("kafka_tls"), &config).unwrap();
        assert_eq!(advertised(&mut tls), ["hub:2"; 3]);
    }
    let mut plain = std::net::TcpStream::connect(node.address("kafka")).unwrap();
    assert_eq!(advertised(&mut plain), ["plain:1"; 3]);
}

#[test]
fn http_answers_over_tls_and_plain_beside_it() {
    let dir = Dir::new();
    let http = "tls_listen = \"127.0.0.1:0\"";
    let node = Running::listening(dir.path(), "gateway", ["", "", http], TLS);
    let mut plain_text = std::net::TcpStream::connect(node.address("http_tls")).unwrap();
    plain_text
        .write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        .unwrap();
    assert!(!matches!(plain_text.read(&mut [0; 4]), Ok(1..)));
    let config = dir.client(None, V13);
    // The handler looks at the address of the client, and at the name that it has for
    // the node: a page from elsewhere has another one.
    for (name, expected) in [("localhost", "200 OK"), ("hub", "403 Forbidden")] {
        let mut stream = client::connect(&node.address("http_tls"), &config).unwrap();
        let request = format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{answer}"
        );
    }
    assert!(client::http(&node.address("http"), "/healthz").ends_with("ok\n"));
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn a_gateway_forwards_over_tls_and_commands_reach_both() {
    let dir = Dir::new();
    let own = dir.issue("gateway-1", Purpose::Client);
    dir.write("own.crt", &own.certificate);
    dir.write("own.key", &own.key);
    let [hub_dir, gateway_dir] = ["h", "g"].map(|name| dir.path().join(name));
    std::fs::create_dir(&hub_dir).unwrap();
    std::fs::create_dir(&gateway_dir).unwrap();
    let tls = "[tls]\ncertificate = \"../server.crt\"\nkey = \"../server.key\"\nclient_ca = \"../ca.crt\"\nclient_certificates = \"required\"\n";
    let listen = "tls_listen = \"127.0.0.1:0\"";
    let hub = Running::listening(&hub_dir, "broker", ["", listen, listen], tls);
    let uplink = format!(
        "[uplink]\nbootstrap = [{:?}]\ntls = {{ ca = \"../ca.crt\", certificate = \"../own.crt\", key = \"../own.key\", server_name = \"hub\" }}\n",
        hub.address("kafka_tls")
    );
    let gateway = Running::start(&gateway_dir, "gateway", &uplink);
    let publisher = std::net::TcpStream::connect(gateway.address("mqtt")).unwrap();
    client::publish_plain(publisher, 10);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let reach = |more: &[&str]| {
        let files = [
            "--ca",
            &path("ca.crt"),
            "--cert",
            &path("own.crt"),
            "--key",
            &path("own.key"),
        ];
        forebay(&[more, &files].concat())
    };
    let address = format!("tls://{}", hub.address("kafka_tls"));
    let deadline = SystemTime::now() + client::LIMIT;
    loop {
        let output = reach(&[
            "tail",
            "test.readings",
            "--from",
            "earliest",
            "--bootstrap",
            &address,
        ]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.lines().count() == 10 {
            break;
        }
        assert!(SystemTime::now() < deadline, "{output:?}");
    }
    let https = format!("tls://{}", hub.address("http_tls"));
    let output = reach(&["status", "--http", &https]);
    assert!(output.status.success(), "{output:?}");
    // Without the certificate there is a sentence about it.
    let output = forebay(&["status", "--http", &https, "--ca", &path("ca.crt")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("asks for a client certificate"), "{said}");
    // The uplink brings its report up to date each second.
    let status = loop {
        let status = status(&gateway);
        if status["uplink"]["connected"] == true {
            break status;
        }
        assert!(SystemTime::now() < deadline, "{status}");
    };
    let own = &status["tls"]["certificates"][0];
    assert_eq!(
        (&own["role"], &own["subject"]),
        (&"uplink".into(), &"CN=gateway-1".into())
    );
}

#[test]
fn a_bridge_carries_over_tls_in_both_versions_and_says_what_is_wrong() {
    let dir = Dir::new();
    let own = dir.issue("bridge-1", Purpose::Client);
    dir.write("own.crt", &own.certificate);
    dir.write("own.key", &own.key);
    let [broker_dir, gateway_dir] = ["b", "g"].map(|name| dir.path().join(name));
    std::fs::create_dir(&broker_dir).unwrap();
    std::fs::create_dir(&gateway_dir).unwrap();
    let tls = "[tls]\ncertificate = \"../server.crt\"\nkey = \"../server.key\"\nclient_ca = \"../ca.crt\"\nclient_certificates = \"required\"\n";
    let broker = Running::listening(&broker_dir, "gateway", [MQTTS, "", ""], tls);
    let bridge = |name: &str, version: &str, server_name: &str| {
        format!(
            "[[bridge]]\nname = {name:?}\nversion = {version:?}\naddress = {:?}\n\
             topics = [ {{ filter = \"a/#\", direction = \"out\", remote_prefix = \"{name}/\" }} ]\n\
             tls = {{ ca = \"../ca.crt\", certificate = \"../own.crt\", key = \"../own.key\", server_name = {server_name:?} }}\n",
            broker.address("mqtt_tls")
        )
    };
    let bridges = [
        bridge("old", "3.1.1", "hub"),
        bridge("new", "5", "hub"),
        bridge("wrong", "5", "other"),
    ];
    let gateway = Running::start(&gateway_dir, "gateway", &bridges.concat());
    let deadline = SystemTime::now() + client::LIMIT;
    let reason = format!(
        "the certificate of {} is for hub, 127.0.0.1, expected other",
        broker.address("mqtt_tls")
    );
    loop {
        let status = status(&gateway);
        let state = |name: &str| {
            let devices = status["devices"].as_array().unwrap();
            devices
                .iter()
                .find(|one| one["name"] == name)
                .unwrap()
                .clone()
        };
        let up = ["old", "new"]
            .iter()
            .all(|name| state(name)["state"] == "connected");
        let told = state("wrong")["reason"].as_str().unwrap().contains(&reason);
        if up && told {
            break;
        }
        assert!(SystemTime::now() < deadline, "{status}");
    }
    let publisher = std::net::TcpStream::connect(gateway.address("mqtt")).unwrap();
    client::publish_plain(publisher, 10);
    loop {
        let output = broker.command(&["tail", "readings", "--from", "earliest"]);
        if String::from_utf8_lossy(&output.stdout).lines().count() == 20 {
            break;
        }
        assert!(SystemTime::now() < deadline, "{output:?}");
    }
}
