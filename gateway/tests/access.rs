//! Logins and permissions of a whole node, over MQTT and HTTP.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use running::{Running, forebay};
use tempfile::TempDir;

/// Bounds a failure, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[access]
[[permission]]
user = "press-*"
allow = ["read", "write"]
paths = ["plant/%u/#"]
[[permission]]
user = "panel"
allow = ["read"]
paths = ["plant/#"]
[[permission]]
user = "chief"
allow = ["admin"]
"#;

const PASSWORD: &str = "correct-horse-battery";

fn add(dir: &Path, name: &str) {
    let file = dir.join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let users = dir.join("data/users");
    std::fs::create_dir_all(users.parent().unwrap()).unwrap();
    let (file, users) = (file.display().to_string(), users.display().to_string());
    let added = forebay(&[
        "user",
        "add",
        name,
        "--users-file",
        &users,
        "--password-file",
        &file,
    ]);
    assert!(added.status.success(), "{added:?}");
}

fn plant() -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["press-1", "panel", "chief"] {
        add(dir.path(), name);
    }
    let node = Running::start(dir.path(), "gateway", RULES);
    (dir, node)
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&len[..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 128, "one byte of length");
    [&[first, len], body].concat()
}

/// A client of MQTT 5, or 3.1.1, that speaks in bytes.
struct Client {
    stream: TcpStream,
    version: u8,
}

impl Client {
    fn open(node: &Running, version: u8) -> Self {
        let stream = TcpStream::connect(node.address("mqtt")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream, version }
    }

    /// Sends CONNECT; returns the code of CONNACK, or `None` when there is none.
    fn connect(&mut self, id: &str, login: Option<(&str, &str)>) -> Option<u8> {
        let flags = if login.is_some() { 0xC2 } else { 0x02 };
        let mut body = text("MQTT");
        body.extend([self.version, flags, 0, 60]);
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(id));
        if let Some((user, password)) = login {
            body.extend(text(user));
            body.extend(text(password));
        }
        self.send(&packet(0x10, &body));
        let answer = self.receive()?;
        assert_eq!(answer[0], 0x20);
        Some(answer[3])
    }

    /// Publishes at QoS 1; returns the code of PUBACK.
    fn publish(&mut self, path: &str) -> Option<u8> {
        let mut body = text(path);
        body.extend([0, 7]);
        if self.version == 5 {
            body.push(0);
        }
        body.push(b'1');
        self.send(&packet(0x32, &body));
        let answer = self.receive()?;
        assert_eq!(answer[0], 0x40);
        Some(answer.get(4).copied().unwrap_or(0))
    }

    /// Subscribes; returns the code of SUBACK.
    fn subscribe(&mut self, filter: &str) -> Option<u8> {
        let mut body = vec![0, 9];
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(1);
        self.send(&packet(0x82, &body));
        let answer = self.receive()?;
        assert_eq!(answer[0], 0x90);
        answer.last().copied()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` at the end of the connection.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert!(head[1] < 128, "one byte of length");
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).ok()?;
        Some([&head[..], &body].concat())
    }
}

/// Sends a request with more headers; returns the head and the body.
fn http(node: &Running, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.address("http")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn mqtt_clients_log_in_and_do_what_they_may() {
    let (_dir, node) = plant();
    let login = |version, login| Client::open(&node, version).connect("c", login);
    assert_eq!(login(5, None), Some(0x87));
    assert_eq!(login(5, Some(("press-1", "wrong"))), Some(0x86));
    assert_eq!(login(5, Some(("nobody", PASSWORD))), Some(0x86));
    assert_eq!(login(4, None), Some(5));
    assert_eq!(login(4, Some(("press-1", "wrong"))), Some(4));
    let mut press = Client::open(&node, 5);
    assert_eq!(press.connect("press", Some(("press-1", PASSWORD))), Some(0));
    // 0x10: nobody listens.
    assert!([0, 0x10].contains(&press.publish("plant/press-1/temp").unwrap()));
    assert_eq!(press.publish("plant/press-2/temp"), Some(0x87));
    assert_eq!(
        press.publish("plant/press-1/valve/set"),
        Some(0x87),
        "a command"
    );
    assert_eq!(press.subscribe("plant/press-1/#"), Some(1));
    assert_eq!(press.subscribe("plant/#"), Some(0x87));
    assert_eq!(press.subscribe("$share/g/plant/press-2/#"), Some(0x87));
    // Nobody takes over the session of another user.
    let mut thief = Client::open(&node, 5);
    assert_eq!(
        thief.connect("press", Some(("panel", PASSWORD))),
        Some(0x87)
    );
    assert!([0, 0x10].contains(&press.publish("plant/press-1/temp").unwrap()));
    let mut panel = Client::open(&node, 4);
    assert_eq!(panel.connect("panel", Some(("panel", PASSWORD))), Some(0));
    assert_eq!(panel.subscribe("plant/+/temp"), Some(1));
    assert_eq!(panel.subscribe("#"), Some(0x80));
    // 3.1.1 has no way to say no but to close.
    assert_eq!(panel.publish("plant/press-1/temp"), None);
    let mut chief = Client::open(&node, 5);
    assert_eq!(chief.connect("chief", Some(("chief", PASSWORD))), Some(0));
    assert_eq!(chief.subscribe("#"), Some(1));
    let (_, metrics) = http(&node, "GET", "/metrics", "", "");
    for wanted in [
        "forebay_access_denied_total{protocol=\"mqtt\",what=\"login\"} 5",
        "forebay_access_denied_total{protocol=\"mqtt\",what=\"command\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{metrics}");
    }
}

#[test]
fn a_user_who_is_disabled_loses_connections_and_logins() {
    let (dir, node) = plant();
    let mut press = Client::open(&node, 5);
    assert_eq!(press.connect("press", Some(("press-1", PASSWORD))), Some(0));
    let users = dir.path().join("data/users").display().to_string();
    let disabled = forebay(&["user", "disable", "press-1", "--users-file", &users]);
    assert!(disabled.status.success());
    // The node looks at the file every two seconds.
    let goodbye = press.receive().expect("a DISCONNECT");
    assert_eq!((goodbye[0], goodbye[2]), (0xE0, 0x87));
    assert_eq!(press.receive(), None);
    let mut again = Client::open(&node, 5);
    assert_eq!(
        again.connect("press", Some(("press-1", PASSWORD))),
        Some(0x86)
    );
}

#[test]
fn an_address_that_guesses_is_stopped_and_the_node_works_on() {
    let (dir, node) = plant();
    let mut codes = Vec::new();
    for _ in 0..40 {
        codes.push(Client::open(&node, 5).connect("x", Some(("chief", "guess"))));
    }
    let wrong = codes.iter().filter(|code| **code == Some(0x86)).count();
    let limited = codes.iter().filter(|code| **code == Some(0x9F)).count();
    assert_eq!(wrong + limited, 40, "{codes:?}");
    // Ten at once, and one more per six seconds that this took.
    assert!((10..40).contains(&wrong), "{wrong}");
    // A limit is of an address, and this is another one.
    let health = http(&node, "GET", "/readyz", "", "");
    assert_eq!(status(&health.0), 200);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("login refused"))
        .count();
    assert!(lines <= 4, "{log}");
}

#[test]
fn over_http_people_log_in_and_programs_have_tokens() {
    let (dir, node) = plant();
    // As a proxy asks for somebody elsewhere.
    let away = "X-Forwarded-For: 10.0.0.9\r\n";
    let get = |path, headers: &str| http(&node, "GET", path, &format!("{away}{headers}"), "");
    assert_eq!(
        status(&http(&node, "GET", "/api/v1/status", "", "").0),
        200,
        "on the machine"
    );
    for path in [
        "/api/v1/status",
        "/metrics",
        "/api/v1/paths",
        "/api/v1/live",
    ] {
        assert_eq!(status(&get(path, "").0), 401, "{path}");
    }
    for path in ["/", "/healthz", "/readyz", "/console/main.js"] {
        assert_eq!(status(&get(path, "").0), 200, "{path}");
    }
    let login = |password: &str| {
        let body = format!(r#"{{"user":"panel","password":"{password}"}}"#);
        http(&node, "POST", "/api/v1/login", away, &body).0
    };
    assert_eq!(status(&login("wrong")), 401);
    let head = login(PASSWORD);
    assert_eq!(status(&head), 204);
    let cookie = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    for flag in ["HttpOnly", "SameSite=Strict", "Max-Age=43200"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let session = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(status(&get("/api/v1/status", &session).0), 200);
    assert!(
        get("/api/v1/me", &session)
            .1
            .contains(r#""user":"panel","login":true"#)
    );
    let seen = "/api/v1/series?path=plant/press-1/temp&from=0&to=1&step=1";
    assert_eq!(status(&get(seen, &session).0), 404, "nothing there yet");
    let unseen = "/api/v1/series?path=office/door&from=0&to=1&step=1";
    assert_eq!(status(&get(unseen, &session).0), 403);
    let post = |path, headers: &str, body| {
        status(&http(&node, "POST", path, &format!("{away}{headers}"), body).0)
    };
    // Whoever is on the machine may have the file read, but not who comes by a proxy
    // that runs there.
    assert_eq!(post("/api/v1/reload", "", ""), 401);
    assert_eq!(post("/api/v1/reload", &session, ""), 403);
    let here = http(&node, "POST", "/api/v1/reload", "", "{}");
    assert_eq!(status(&here.0), 200);
    let alert = r#"{"id":"x","by":"mia"}"#;
    assert_eq!(post("/api/v1/alerts/acknowledge", "", alert), 401);
    assert_eq!(post("/api/v1/alerts/acknowledge", &session, alert), 403);
    assert_eq!(post("/api/v1/logout", &session, ""), 204);
    assert_eq!(status(&get("/api/v1/status", &session).0), 401);
    let users = dir.path().join("data/users").display().to_string();
    let made = forebay(&["user", "token", "chief", "grafana", "--users-file", &users]);
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    // The node looks at the file every two seconds.
    let deadline = std::time::Instant::now() + LIMIT;
    while status(&get("/api/v1/status", &bearer).0) != 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "the token never counts"
        );
        std::thread::sleep(Duration::from_millis(700));
    }
    assert_eq!(
        post("/api/v1/alerts/acknowledge", &bearer, alert),
        404,
        "allowed, but no such alert"
    );
    assert_eq!(post("/api/v1/reload", &bearer, ""), 200);
    // No secret is anywhere that people look.
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let file = std::fs::read_to_string(&users).unwrap();
    let (_, metrics) = http(&node, "GET", "/metrics", "", "");
    let (_, report) = http(&node, "GET", "/api/v1/status", "", "");
    let hash = file
        .lines()
        .find(|line| line.starts_with("user chief"))
        .unwrap();
    let hash = hash.split(' ').nth(2).unwrap();
    for (name, shown) in [("log", &log), ("metrics", &metrics), ("status", &report)] {
        for secret in [
            PASSWORD,
            token.as_str(),
            hash,
            cookie.split(';').next().unwrap(),
        ] {
            assert!(!shown.contains(secret), "{name}");
        }
    }
    assert!(!file.contains(PASSWORD) && !file.contains(&token));
}
