//! Logins and permissions of Kafka clients, of the commands and of the uplink.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_gateway::sasl::{Sasl, SaslMechanism};
use forebay_kafka::messages::{
    FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest, list_offsets_request,
};
use forebay_kafka::{Request, decode_response, encode_request};
use forebay_uplink::driver::Credentials;
use running::{Running, forebay};
use tempfile::TempDir;

/// Bounds a failure, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[access]
[[permission]]
user = "press-*"
allow = ["read", "write"]
topics = ["press-1.*"]
[[permission]]
user = "panel"
allow = ["read"]
topics = ["readings"]
groups = ["panel-*"]
[[permission]]
user = "chief"
allow = ["admin"]
"#;

const PASSWORD: &str = "correct-horse-battery";

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn user(dir: &Path, arguments: &[&str]) {
    let users = dir.join("data/users");
    std::fs::create_dir_all(users.parent().unwrap()).unwrap();
    let done = forebay(&[&["user"], arguments, &["--users-file", shown(&users)]].concat());
    assert!(done.status.success(), "{done:?}");
}

fn plant() -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let password = file(dir.path(), "password", PASSWORD);
    for name in ["press-1", "panel", "chief"] {
        user(
            dir.path(),
            &["add", name, "--password-file", shown(&password)],
        );
    }
    let node = Running::start(dir.path(), "broker", RULES);
    for topic in ["readings", "press-1.raw"] {
        let mut create = vec!["topic", "create", topic];
        create.extend(["--user", "chief", "--password-file", shown(&password)]);
        node.answer(&create);
    }
    (dir, node)
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn open(node: &Running) -> Self {
        let stream = TcpStream::connect(node.address("kafka")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream }
    }

    /// The answer; `None` when the connection is closed instead.
    fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let frame = encode_request(request, version, 1, Some("test")).unwrap();
        self.stream.write_all(&frame).ok()?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(decode_response::<R>(Bytes::from(frame), version).unwrap().1)
    }

    /// Logs in; the error code and the words of the last answer.
    fn log_in(&mut self, dir: &Path, mechanism: &str, user: &str, password: &str) -> (i16, String) {
        let sasl = Sasl {
            mechanism: SaslMechanism::named(mechanism).unwrap(),
            user: user.to_owned(),
            password_file: file(dir, "login", password),
        };
        let request = SaslHandshakeRequest {
            mechanism: mechanism.into(),
        };
        assert_eq!(self.call(1, &request).unwrap().error_code, 0);
        let mut next = Some(sasl.begin().unwrap());
        while let Some((exchange, message)) = next {
            let request = SaslAuthenticateRequest {
                auth_bytes: message.into(),
                ..SaslAuthenticateRequest::default()
            };
            let answer = self.call(2, &request).unwrap();
            if answer.error_code != 0 {
                let words = answer.error_message.unwrap();
                return (answer.error_code, words.to_string());
            }
            next = exchange.answer(&answer.auth_bytes).unwrap();
        }
        (0, String::new())
    }

    fn topics(&mut self) -> Option<Vec<String>> {
        let all = MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        };
        let topics = self.call(9, &all)?.topics;
        let names = topics.iter().map(|topic| topic.name.clone());
        Some(names.map(|name| name.unwrap().to_string()).collect())
    }

    fn end_of(&mut self, topic: &str) -> i16 {
        let request = ListOffsetsRequest {
            topics: vec![list_offsets_request::ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![list_offsets_request::ListOffsetsPartition {
                    timestamp: -1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..ListOffsetsRequest::default()
        };
        self.call(7, &request).unwrap().topics[0].partitions[0].error_code
    }

    fn group(&mut self, name: &str) -> i16 {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![name.into()],
            ..FindCoordinatorRequest::default()
        };
        self.call(4, &request).unwrap().coordinators[0].error_code
    }
}

#[test]
fn clients_log_in_by_each_mechanism_and_do_what_they_may() {
    let (dir, node) = plant();
    assert_eq!(Client::open(&node).topics(), None, "without a login");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut panel = Client::open(&node);
        let entered = panel.log_in(dir.path(), mechanism, "panel", PASSWORD);
        assert_eq!(entered, (0, String::new()), "{mechanism}");
        assert_eq!(panel.topics().unwrap(), ["readings"]);
        assert_eq!(panel.end_of("readings"), 0);
        assert_eq!(panel.end_of("press-1.raw"), 29);
        assert_eq!([panel.group("panel-1"), panel.group("x")], [0, 30]);
        for (user, password) in [("panel", "wrong"), ("nobody", PASSWORD)] {
            let mut client = Client::open(&node);
            let (code, words) = client.log_in(dir.path(), mechanism, user, password);
            assert_eq!(code, 58, "{mechanism} {user}");
            assert_eq!(words, "the name or the password is not right");
            assert_eq!(client.topics(), None);
        }
    }
    let mut press = Client::open(&node);
    let entered = press.log_in(dir.path(), "SCRAM-SHA-256", "press-1", PASSWORD);
    assert_eq!(entered.0, 0);
    assert_eq!(press.topics().unwrap(), ["press-1.raw"]);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(
        log.contains("panel may not read topic press-1.raw"),
        "{log}"
    );
    let users = std::fs::read_to_string(dir.path().join("data/users")).unwrap();
    let keys = users.lines().find(|line| line.starts_with("user panel"));
    for secret in keys.unwrap().split(' ').skip(2).chain([PASSWORD]) {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn an_address_that_guesses_is_stopped_and_open_connections_work_on() {
    let (dir, node) = plant();
    let mut chief = Client::open(&node);
    let entered = chief.log_in(dir.path(), "SCRAM-SHA-512", "chief", PASSWORD);
    assert_eq!(entered.0, 0);
    let mut limited = 0;
    for guess in 0..30 {
        let mechanism = ["PLAIN", "SCRAM-SHA-256"][guess % 2];
        let (code, words) =
            Client::open(&node).log_in(dir.path(), mechanism, "chief", &format!("guess-{guess}"));
        assert_eq!(code, 58);
        limited += u32::from(words.starts_with("too many failed logins"));
    }
    // Ten at once, and one more per six seconds that this took.
    assert!((1..=20).contains(&limited), "{limited}");
    assert_eq!(chief.end_of("readings"), 0);
}

#[test]
fn who_is_disabled_or_removed_is_out_with_the_next_request() {
    let (dir, node) = plant();
    for (name, how) in [("panel", "disable"), ("press-1", "remove")] {
        let mut client = Client::open(&node);
        let entered = client.log_in(dir.path(), "SCRAM-SHA-512", name, PASSWORD);
        assert_eq!(entered.0, 0);
        user(dir.path(), &[how, name]);
        // The node looks at the file every two seconds.
        let deadline = Instant::now() + LIMIT;
        while client.topics().is_some() {
            assert!(Instant::now() < deadline, "{name} stays");
            std::thread::sleep(Duration::from_millis(200));
        }
        let mut again = Client::open(&node);
        let refused = again.log_in(dir.path(), "SCRAM-SHA-512", name, PASSWORD);
        assert_eq!(refused.0, 58);
    }
}

#[test]
fn commands_log_in() {
    let (dir, node) = plant();
    let password = dir.path().join("password");
    let list = |more: &[&str]| node.command(&[&["topic", "list"], more].concat());
    let complaint = |more: &[&str]| String::from_utf8(list(more).stderr).unwrap();
    let nobody = complaint(&[]);
    assert!(nobody.contains("does it want a login"), "{nobody}");
    let as_panel = ["--user", "panel", "--password-file", shown(&password)];
    let listed = String::from_utf8(list(&as_panel).stdout).unwrap();
    assert!(listed.contains("readings") && !listed.contains("press-1"));
    let wrong = file(dir.path(), "wrong", "wrong");
    let refused = complaint(&["--user", "panel", "--password-file", shown(&wrong)]);
    assert!(refused.contains("the login was refused"), "{refused}");
    let mut create = vec!["topic", "create", "more"];
    create.extend(as_panel);
    let denied = String::from_utf8(node.command(&create).stderr).unwrap();
    assert!(denied.contains("no permission"), "{denied}");
    // Over HTTP the same options lead to a session.
    let http = node.address("http");
    let mut status = vec!["status", "--json", "--http", &http];
    status.extend(as_panel);
    assert!(forebay(&status).status.success());
    let mut status = vec!["status", "--json", "--http", &http];
    status.extend(["--user", "panel", "--password-file", shown(&wrong)]);
    assert!(!forebay(&status).status.success());
}

#[test]
fn the_uplink_logs_in() {
    let (dir, hub) = plant();
    let gateway = tempfile::tempdir().unwrap();
    file(gateway.path(), "hub.password", PASSWORD);
    let address = hub.address("kafka");
    let link = format!(
        "[uplink]\nbootstrap = [\"{address}\"]\nsite = \"press-1\"\n\
         topics = [{{ name = \"vibration\", priority = 0 }}]\n\
         sasl = {{ user = \"press-1\", password_file = \"hub.password\" }}\n"
    );
    let node = Running::start(gateway.path(), "gateway", &link);
    node.answer(&["topic", "create", "vibration"]);
    let mut press = Client::open(&hub);
    let entered = press.log_in(dir.path(), "SCRAM-SHA-512", "press-1", PASSWORD);
    assert_eq!(entered.0, 0);
    let deadline = Instant::now() + LIMIT;
    while press.end_of("press-1.vibration") != 0 {
        assert!(Instant::now() < deadline, "the uplink does not come");
        std::thread::sleep(Duration::from_millis(200));
    }
}
