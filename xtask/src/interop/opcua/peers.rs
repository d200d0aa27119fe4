//! Servers of others.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::super::{Stage, install};
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// Who wrote the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// asyncua, in Python.
    Asyncua,
    /// node-opcua, in JavaScript.
    NodeOpcua,
}

impl Peer {
    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asyncua => "asyncua",
            Self::NodeOpcua => "node-opcua",
        }
    }
}

impl Peer {
    /// Whether it reports each change; else the newest 20 times a second.
    pub fn reports_each(self) -> bool {
        self == Self::Asyncua
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its port; 0 takes a free one.
    pub port: u16,
    /// Where its certificate is, or will be.
    pub directory: PathBuf,
    /// Namespaces in front of its own.
    pub others: u32,
}

/// A running server.
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it listens.
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(stage: &Stage, peer: Peer, setting: &Setting) -> Outcome<Self> {
        let port = match setting.port {
            // One that was free a moment ago.
            0 => TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .during("a free port")?
                .port(),
            port => port,
        };
        let script = |name| repository().join("xtask/interop").join(name);
        let mut command = match peer {
            Peer::Asyncua => {
                let mut command = Command::new(&stage.python);
                command.arg("-B").arg(script("opcua_asyncua.py"));
                command
            }
            Peer::NodeOpcua => {
                let mut command = Command::new("node");
                command
                    .env("NODE_PATH", install::node_opcua()?)
                    .arg(script("opcua_node.js"));
                command
            }
        };
        let mut child = command
            .arg(port.to_string())
            .arg(&setting.directory)
            .arg(setting.others.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .during(peer.name())?;
        let missing = || Failure::new("no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let mut server = Self {
            child,
            input,
            output: BufReader::new(output),
            port,
        };
        let said = server.line()?;
        if said["port"] != port {
            return Err(Failure::new(format!("{} said {said}", peer.name())));
        }
        Ok(server)
    }

    /// Gives variables new values.
    pub fn set(&mut self, values: &[(&str, f64)]) -> Outcome {
        let values: serde_json::Map<String, Value> = values
            .iter()
            .map(|(name, value)| {
                #[expect(clippy::cast_possible_truncation, reason = "counts are small")]
                let value = match *name {
                    "count" => json!(*value as i64),
                    _ => json!(value),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        self.ask(&json!({ "set": values })).map(drop)
    }

    /// The value of a variable.
    pub fn get(&mut self, name: &str) -> Outcome<Value> {
        Ok(self.ask(&json!({ "get": name }))?["value"].take())
    }

    /// Stops it in its tracks: connections stand, and nobody answers.
    pub fn freeze(&self) -> Outcome {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Outcome {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Outcome {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Failure::new("no process"))?;
        kill_process(id, signal).during("a signal")
    }

    fn ask(&mut self, question: &Value) -> Outcome<Value> {
        writeln!(self.input, "{question}").during("a question")?;
        self.input.flush().during("a question")?;
        self.line()
    }

    fn line(&mut self) -> Outcome<Value> {
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).during("an answer")?;
            if count == 0 {
                return Err(Failure::new("the server ended"));
            }
            // Libraries print what they think of the machine.
            if line.starts_with('{') {
                return serde_json::from_str(&line).during(format!("an answer {line:?}"));
            }
        }
    }
}
