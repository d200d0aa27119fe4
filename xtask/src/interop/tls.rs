//! TLS with the peers' own implementations: mosquitto's tools and kcat with
//! OpenSSL, curl with OpenSSL, and Python. Certificates are those of
//! `forebay cert`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::crowd::raise_descriptors;
use super::{Scenario, Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};
use crate::tidy::repository;

/// The time one tool gets.
const TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// The time a crowd gets: its connections alone take some seconds.
const CROWD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the hub may take to show what the gateway forwards.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a file is looked for that a script makes.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Listens for TLS on a free port.
pub const LISTEN: &str = "tls_listen = \"127.0.0.1:0\"\n";

type Run = fn(&Stage) -> Outcome;

/// One per peer, the link between two nodes, and two crowds.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let all: [(&str, Run); 5] = [
        ("tls-mosquitto", mosquitto),
        ("tls-kcat-curl", kcat_and_curl),
        ("tls-uplink", uplink),
        ("tls-silent-crowd", silent_crowd),
        ("tls-returning-clients", returning_clients),
    ];
    all.into_iter().map(|(name, run)| Scenario::new(name, run))
}

/// Makes the certificates.
fn certificates(stage: &Stage, name: &str) -> Outcome<PathBuf> {
    certificates_of(stage, name, &["press-1"])
}

/// Makes the certificates, with some for clients.
pub fn certificates_of(stage: &Stage, name: &str, clients: &[&str]) -> Outcome<PathBuf> {
    let dir = stage.directory(name)?.join("tls");
    let mut make = Command::new(&stage.program);
    make.args(["cert", "init", "--json", "--name", "hub"]);
    for client in clients {
        make.args(["--client", client]);
    }
    finish(make.arg("--dir").arg(&dir), TOOL_TIMEOUT)?;
    Ok(dir)
}

pub fn tls_section(dir: &Path, required: bool) -> String {
    let file = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "[tls]\ncertificate = {}\nkey = {}\nclient_ca = {}\nclient_certificates = {:?}\n",
        file("server.crt"),
        file("server.key"),
        file("ca.crt"),
        if required { "required" } else { "optional" },
    )
}

/// A node with every TLS listener; clients need a certificate when `required`.
fn spec(stage: &Stage, name: &str, dir: &Path, required: bool) -> Spec {
    Spec {
        mqtt: LISTEN.to_owned(),
        kafka: LISTEN.to_owned(),
        http: LISTEN.to_owned(),
        sections: tls_section(dir, required),
        ..Spec::gateway(&stage.program, name, stage.work.path())
    }
}

pub fn port(address: Option<SocketAddr>) -> Outcome<String> {
    let address = address.ok_or_else(|| Failure::new("a TLS port is missing in ports.json"))?;
    Ok(address.port().to_string())
}

fn mosquitto_pub(dir: &Path, port: &str, version: &str, with_certificate: bool) -> Command {
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["--tls-version", version, "-h", "localhost", "-p", port])
        .args(["-q", "1", "-t", "plant/press/force", "-m", version])
        .arg("--cafile")
        .arg(dir.join("ca.crt"));
    if with_certificate {
        command.arg("--cert").arg(dir.join("press-1.crt"));
        command.arg("--key").arg(dir.join("press-1.key"));
    }
    command
}

fn kcat(dir: &Path, broker: &str, topic: &str) -> Command {
    let file = |key: &str, name: &str| format!("{key}={}", dir.join(name).display());
    let mut command = Command::new("kcat");
    command
        .args([
            "-C",
            "-b",
            broker,
            "-t",
            topic,
            "-o",
            "beginning",
            "-e",
            "-q",
        ])
        .args(["-X", "security.protocol=SSL"])
        .args(["-X", &file("ssl.ca.location", "ca.crt")])
        .args(["-X", &file("ssl.certificate.location", "press-1.crt")])
        .args(["-X", &file("ssl.key.location", "press-1.key")]);
    command
}

/// Both versions with a certificate; none without, and none in plain text.
fn mosquitto(stage: &Stage) -> Outcome {
    let dir = certificates(stage, "tls-mosquitto-files")?;
    let node = Node::start(&spec(stage, "tls-mosquitto", &dir, true))?;
    let port = port(node.ports.mqtt_tls)?;
    for version in ["tlsv1.2", "tlsv1.3"] {
        finish(&mut mosquitto_pub(&dir, &port, version, true), TOOL_TIMEOUT)?;
        let refused = finish(
            &mut mosquitto_pub(&dir, &port, version, false),
            TOOL_TIMEOUT,
        );
        if refused.is_ok() {
            return Err(Failure::new(format!(
                "{version}: served without a certificate"
            )));
        }
    }
    let mut plain = Command::new("mosquitto_pub");
    plain.args([
        "-h",
        "localhost",
        "-p",
        &port,
        "-q",
        "1",
        "-t",
        "a",
        "-m",
        "x",
    ]);
    if finish(&mut plain, TOOL_TIMEOUT).is_ok() {
        return Err(Failure::new("served in plain text on the TLS port"));
    }
    let status = node.status()?;
    let listener = &status["tls"]["listeners"][0];
    let (opened, failures) = (&listener["full"], &listener["failures"]);
    if opened != 2 || failures["certificate"] != 2 || failures["plain_text"] == 0 {
        return Err(Failure::new(format!("the node counted {listener}")));
    }
    Ok(())
}

/// What mosquitto published is read by kcat over SSL; curl asks over HTTPS.
fn kcat_and_curl(stage: &Stage) -> Outcome {
    let dir = certificates(stage, "tls-kcat-curl-files")?;
    let node = Node::start(&spec(stage, "tls-kcat-curl", &dir, false))?;
    let mqtt = port(node.ports.mqtt_tls)?;
    finish(
        &mut mosquitto_pub(&dir, &mqtt, "tlsv1.3", true),
        TOOL_TIMEOUT,
    )?;
    let broker = format!("localhost:{}", port(node.ports.kafka_tls)?);
    let read = finish(&mut kcat(&dir, &broker, "readings"), TOOL_TIMEOUT)?;
    if read != b"tlsv1.3\n" {
        let read = String::from_utf8_lossy(&read).into_owned();
        return Err(Failure::new(format!("kcat read {read:?}")));
    }
    let url = format!("https://localhost:{}/healthz", port(node.ports.http_tls)?);
    for version in ["1.2", "1.3"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--tls-max", version, &url, "--cacert"]);
        let answer = finish(curl.arg(dir.join("ca.crt")), TOOL_TIMEOUT)?;
        if answer != b"ok\n" {
            return Err(Failure::new(format!("curl with TLS {version}: {answer:?}")));
        }
    }
    Ok(())
}

/// A gateway forwards to a hub that wants a certificate; kcat reads there.
fn uplink(stage: &Stage) -> Outcome {
    let dir = certificates(stage, "tls-uplink-files")?;
    let hub = Node::start(&Spec {
        kafka: LISTEN.to_owned(),
        sections: tls_section(&dir, true),
        ..Spec::hub(&stage.program, "tls-uplink-hub", stage.work.path())
    })?;
    let file = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    let gateway = Node::start(&Spec {
        hub: hub.ports.kafka_tls,
        uplink: format!(
            "site = \"press-shop\"\ntls = {{ ca = {}, certificate = {}, key = {}, server_name = \"hub\" }}\n",
            file("ca.crt"),
            file("press-1.crt"),
            file("press-1.key"),
        ),
        ..Spec::gateway(&stage.program, "tls-uplink-gateway", stage.work.path())
    })?;
    let mqtt = gateway.mqtt()?.port().to_string();
    for number in 0..10 {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "localhost", "-p", &mqtt, "-q", "1", "-t", "a/b", "-m"]);
        finish(publish.arg(number.to_string()), TOOL_TIMEOUT)?;
    }
    let broker = format!("localhost:{}", port(hub.ports.kafka_tls)?);
    let started = Instant::now();
    loop {
        let read = finish(
            &mut kcat(&dir, &broker, "press-shop.readings"),
            TOOL_TIMEOUT,
        );
        if read
            .as_ref()
            .is_ok_and(|read| read == b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
        {
            return Ok(());
        }
        if started.elapsed() > FORWARD_TIMEOUT {
            let status = gateway.status()?;
            return Err(Failure::new(format!(
                "kcat: {read:?}; {}",
                status["uplink"]
            )));
        }
    }
}

/// Ten thousand connections that say nothing keep nobody out.
fn silent_crowd(stage: &Stage) -> Outcome {
    crowd(stage, "silent")
}

/// A thousand clients of a node that was killed are back within ten seconds, and
/// nothing is lost that was acknowledged to them.
fn returning_clients(stage: &Stage) -> Outcome {
    raise_descriptors()?;
    let dir = certificates(stage, "tls-returning-files")?;
    let mut spec = spec(stage, "tls-returning", &dir, true);
    let mut node = Node::start(&spec)?;
    let address = format!("127.0.0.1:{}", port(node.ports.mqtt_tls)?);
    // The node that is started again is where the clients know it.
    spec.mqtt = format!("tls_listen = \"{address}\"\n");
    spec.ports[1] = node.ports.kafka.port();
    let work = stage.directory("tls-returning-work")?;
    let kafka = node.ports.kafka.to_string();
    thread::scope(|scope| {
        let script = scope.spawn(|| {
            let more = [work.display().to_string(), kafka];
            crowd_script(stage, "returning", &address, &dir, &more)
        });
        while !work.join("publishing").exists() && !script.is_finished() {
            thread::sleep(LOOK_INTERVAL);
        }
        node.kill();
        touch(&work.join("killed"))?;
        node = Node::start(&spec)?;
        touch(&work.join("restarted"))?;
        let said = script.join();
        said.unwrap_or_else(|_| Err(Failure::new("the script's thread panicked")))
    })
}

fn touch(path: &Path) -> Outcome {
    std::fs::write(path, b"").during(path.display())
}

fn crowd(stage: &Stage, name: &str) -> Outcome {
    raise_descriptors()?;
    let dir = certificates(stage, &format!("tls-{name}-files"))?;
    let node = Node::start(&spec(stage, &format!("tls-{name}"), &dir, true))?;
    let address = format!("127.0.0.1:{}", port(node.ports.mqtt_tls)?);
    crowd_script(stage, name, &address, &dir, &[])
}

/// Runs one crowd and shows what it says.
fn crowd_script(stage: &Stage, name: &str, address: &str, dir: &Path, more: &[String]) -> Outcome {
    let path = repository().join("xtask/interop/tls_crowd.py");
    let mut script = Command::new(&stage.python);
    script.arg("-B").arg(path).args([name, address]).arg(dir);
    let said = finish(script.args(more), CROWD_TIMEOUT)?;
    for line in String::from_utf8_lossy(&said).lines() {
        println!("       {line}");
    }
    Ok(())
}
