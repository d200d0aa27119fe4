//! Logins and permissions: the three protocols, their clients, one set of rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::tls::{self, LISTEN};
use super::{Scenario, Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};

/// What the users of [`USERS`] may; `xtask/interop/logins.py` has a table of it.
const PERMISSIONS: &str = "\
[[permission]]
user = \"press-*\"
allow = [\"read\"]
paths = [\"plant/%u/#\"]
[[permission]]
user = \"press-*\"
allow = [\"write\"]
paths = [\"plant/%u/#\"]
[[permission]]
user = \"press-*\"
allow = [\"read\", \"write\"]
topics = [\"press-1.*\"]
[[permission]]
certificate = \"press-*\"
allow = [\"command\"]
paths = [\"plant/%u/#\"]
[[permission]]
user = \"panel\"
allow = [\"read\", \"command\"]
paths = [\"plant/#\"]
topics = [\"readings\"]
groups = [\"panel-*\"]
[[permission]]
user = \"data\"
allow = [\"read\"]
topics = [\"readings\"]
[[permission]]
user = \"data\"
allow = [\"read\", \"write\"]
topics = [\"shared\"]
[[permission]]
user = \"writer\"
allow = [\"write\"]
topics = [\"readings\"]
[[permission]]
user = \"chief\"
allow = [\"admin\"]
";

const USERS: [&str; 5] = ["press-1", "panel", "data", "writer", "chief"];

/// The time that a command takes, on a machine that is busy.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Ten thousand logins, one after the other.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long a gateway may take until the hub has what it forwards.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(60);

/// One per function of the script, and the uplink.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    const NAMES: [&str; 6] = [
        "sasl-loopback",
        "sasl-tls",
        "certificate",
        "matrix",
        "revoked",
        "guessing",
    ];
    let scripts = NAMES
        .into_iter()
        .map(|name| Scenario::new(format!("logins-{name}"), move |stage| script(stage, name)));
    scripts.chain([Scenario::new("logins-uplink", uplink)])
}

/// A password that is found when it is told somewhere.
fn password(user: &str) -> String {
    format!("the-{user}-secret-7f3a91")
}

/// Makes the users with their passwords, and with a token each.
fn users(stage: &Stage, spec: &Spec, work: &Path) -> Outcome<BTreeMap<String, String>> {
    let file = spec.data_dir.join("users");
    fs::create_dir_all(&spec.data_dir).during(spec.data_dir.display())?;
    let mut tokens = BTreeMap::new();
    for user in USERS {
        let secret = work.join(format!("{user}.password"));
        fs::write(&secret, password(user)).during(secret.display())?;
        let mut add = Command::new(&stage.program);
        add.args(["user", "add", user, "--password-file"]);
        add.arg(&secret).arg("--users-file").arg(&file);
        finish(&mut add, COMMAND_TIMEOUT)?;
        let mut token = Command::new(&stage.program);
        token.args(["user", "token", user, "interop", "--users-file"]);
        let said = finish(token.arg(&file), COMMAND_TIMEOUT)?;
        let said = String::from_utf8(said).during("a token")?;
        tokens.insert(user.to_owned(), said.trim().to_owned());
    }
    Ok(tokens)
}

/// A node with TLS, users and permissions.
fn spec(stage: &Stage, name: &str, dir: &Path) -> Spec {
    let section = tls::tls_section(dir, false);
    Spec {
        mqtt: LISTEN.to_owned(),
        kafka: LISTEN.to_owned(),
        http: LISTEN.to_owned(),
        sections: format!("{section}{PERMISSIONS}"),
        ..Spec::gateway(&stage.program, name, stage.work.path())
    }
}

fn script(stage: &Stage, function: &str) -> Outcome {
    let name = format!("logins-{function}");
    let dir = tls::certificates_of(stage, &format!("{name}-files"), &["press-1", "guest"])?;
    let work = stage.directory(&format!("{name}-work"))?;
    let spec = spec(stage, &name, &dir);
    let tokens = users(stage, &spec, &work)?;
    let node = Node::start(&spec)?;
    let on_localhost = |port| Ok::<_, Failure>(format!("localhost:{}", tls::port(port)?));
    let passwords: BTreeMap<_, _> = USERS.iter().map(|user| (user, password(user))).collect();
    let facts = json!({
        "kafka_tls": on_localhost(node.ports.kafka_tls)?,
        "mqtt_tls": on_localhost(node.ports.mqtt_tls)?,
        "http": node.ports.http.to_string(),
        "pid": node.id(),
        "log": spec.work_dir.join("forebay.log"),
        "work": work,
        "tls": dir,
        "program": spec.program,
        "config": spec.work_dir.join("forebay.toml"),
        "passwords": passwords,
        "tokens": tokens,
    });
    let file = work.join("facts.json");
    fs::write(&file, facts.to_string()).during(file.display())?;
    let path = crate::tidy::repository().join("xtask/interop/logins.py");
    let mut command = Command::new(&stage.python);
    command.arg("-B").arg(path).arg(function);
    command.arg(node.mqtt()?.to_string());
    command.arg(node.ports.kafka.to_string()).arg(&file);
    let said = finish(&mut command, SCRIPT_TIMEOUT)?;
    for line in String::from_utf8_lossy(&said).lines() {
        println!("       {line}");
    }
    Ok(())
}

/// A gateway logs in at a hub over TLS, by each mechanism and by its certificate.
fn uplink(stage: &Stage) -> Outcome {
    let dir = tls::certificates_of(stage, "logins-uplink-files", &["press-1"])?;
    let work = stage.directory("logins-uplink-work")?;
    let hub_spec = Spec {
        role: "broker",
        mqtt: String::new(),
        ..spec(stage, "logins-uplink-hub", &dir)
    };
    users(stage, &hub_spec, &work)?;
    let hub = Node::start(&hub_spec)?;
    let file = |path: &Path| format!("{:?}", path.display().to_string());
    let trusted = format!("ca = {}", file(&dir.join("ca.crt")));
    let secret = file(&work.join("press-1.password"));
    let sasl = |mechanism: &str| {
        format!(
            "tls = {{ {trusted} }}\nsasl = {{ mechanism = \"{mechanism}\", user = \"press-1\", password_file = {secret} }}\n"
        )
    };
    let pair = format!(
        "tls = {{ {trusted}, certificate = {}, key = {} }}\n",
        file(&dir.join("press-1.crt")),
        file(&dir.join("press-1.key"))
    );
    let logins = [
        ("sha256", sasl("SCRAM-SHA-256")),
        ("sha512", sasl("SCRAM-SHA-512")),
        ("plain", sasl("PLAIN")),
        ("certificate", pair),
    ];
    for (name, login) in logins {
        let topic = format!("by-{name}");
        let gateway = Node::start(&Spec {
            hub: hub.ports.kafka_tls,
            uplink: format!(
                "site = \"press-1\"\ntopics = [{{ name = \"{topic}\", priority = 0 }}]\n{login}"
            ),
            ..Spec::gateway(
                &stage.program,
                &format!("logins-uplink-{name}"),
                stage.work.path(),
            )
        })?;
        let mut create = Command::new(&stage.program);
        create.args(["topic", "create", &topic, "--bootstrap"]);
        finish(create.arg(gateway.ports.kafka.to_string()), COMMAND_TIMEOUT)?;
        let mut kcat = Command::new("sh");
        kcat.args(["-c", "echo here | kcat -P -b $1 -t $2", "sh"]);
        kcat.arg(gateway.ports.kafka.to_string()).arg(&topic);
        finish(&mut kcat, COMMAND_TIMEOUT)?;
        arrives(stage, &hub, &work, &format!("press-1.{topic}"))?;
    }
    Ok(())
}

/// Waits until the hub has one record in a topic.
fn arrives(stage: &Stage, hub: &Node, work: &Path, topic: &str) -> Outcome {
    let began = Instant::now();
    while began.elapsed() < FORWARD_TIMEOUT {
        let mut list = Command::new(&stage.program);
        list.args(["topic", "list", "--json", "--user", "chief", "--bootstrap"]);
        list.arg(hub.ports.kafka.to_string())
            .arg("--password-file")
            .arg(work.join("chief.password"));
        let said = finish(&mut list, COMMAND_TIMEOUT)?;
        let topics: serde_json::Value = serde_json::from_slice(&said).during("topic list")?;
        let own = topics.as_array().into_iter().flatten();
        let mut ends = own
            .filter(|one| one["name"] == topic)
            .filter_map(|one| one["partitions"].as_array())
            .flatten()
            .filter_map(|partition| partition["end"].as_i64());
        if ends.any(|end| end > 0) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!("nothing arrives in {topic}")))
}
