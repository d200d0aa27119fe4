//! The demo's nodes: child processes of this very binary, in the
//! same process group, each with a generated configuration file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// A node is ready within a fraction of a second; a loaded machine may need
/// some more.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A node promises to stop within five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks for the ports file of a starting node.
const START_POLL: Duration = Duration::from_millis(20);

/// A running child.
#[derive(Debug)]
pub struct Node {
    name: &'static str,
    child: Child,
    /// The ports that it listens on.
    pub ports: Ports,
    log: PathBuf,
}

/// What a node that was told to pick its ports writes into `ports.json`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Ports {
    mqtt: u16,
    kafka: u16,
    http: u16,
}

impl Ports {
    /// The MQTT listener.
    pub fn mqtt(&self) -> SocketAddr {
        loopback(self.mqtt)
    }

    /// The Kafka listener.
    pub fn kafka(&self) -> SocketAddr {
        loopback(self.kafka)
    }

    /// The HTTP listener.
    pub fn http(&self) -> SocketAddr {
        loopback(self.http)
    }
}

/// Why a demo node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Files could not be written or the process not started.
    #[error("cannot start the demo's {name}: {source}")]
    Spawn {
        /// Which one.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended or never became ready.
    #[error("the demo's {name} did not start: {last_words}")]
    NotReady {
        /// Which one.
        name: &'static str,
        /// The last line of its log.
        last_words: String,
    },
}

impl Node {
    /// Starts a node with `config` (TOML) and waits until it listens.
    ///
    /// # Errors
    /// The process cannot be started, ends at once, or is not ready in time.
    pub async fn start(name: &'static str, dir: &Path, config: &str) -> Result<Node, NodeError> {
        let spawn_error = |source| NodeError::Spawn { name, source };
        let file = dir.join(format!("{name}.toml"));
        let log = dir.join(format!("{name}.log"));
        let ports_file = dir.join(name).join("ports.json");
        std::fs::write(&file, config).map_err(spawn_error)?;
        if let Err(error) = std::fs::remove_file(&ports_file)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(spawn_error(error));
        }
        let output = std::fs::File::create(&log).map_err(spawn_error)?;
        let child = Command::new(std::env::current_exe().map_err(spawn_error)?)
            .args(["run", "--stop-on-stdin-close", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(spawn_error)?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_error)?;
        let mut node = Node {
            name,
            child,
            ports: Ports::default(),
            log,
        };
        node.wait_until_ready(&ports_file).await?;
        Ok(node)
    }

    /// Asks the node to stop as SIGTERM would, and waits for it.
    pub async fn stop(mut self) {
        drop(self.child.stdin.take());
        if timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            // Dropping the child kills it; the data directory is scratch.
            eprintln!("forebay: the demo's {} did not stop in time", self.name);
        }
    }

    async fn wait_until_ready(&mut self, ports_file: &Path) -> Result<(), NodeError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(text) = std::fs::read_to_string(ports_file)
                && let Ok(ports) = serde_json::from_str(&text)
            {
                self.ports = ports;
                return Ok(());
            }
            let ended = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
            if ended || Instant::now() > deadline {
                return Err(NodeError::NotReady {
                    name: self.name,
                    last_words: self.last_words(),
                });
            }
            sleep(START_POLL).await;
        }
    }

    fn last_words(&self) -> String {
        std::fs::read_to_string(&self.log)
            .ok()
            .and_then(|text| text.lines().last().map(str::to_owned))
            .unwrap_or_else(|| "it said nothing".to_owned())
    }
}

/// The hub's configuration.
pub fn hub_config(dir: &Path) -> String {
    format!(
        "[node]\nname = \"demo-hub\"\nrole = \"broker\"\ndata_dir = {}\n\n\
         [kafka]\nlisten = \"127.0.0.1:0\"\n\n\
         [http]\nlisten = \"127.0.0.1:0\"\n",
        quoted(&dir.join("hub")),
    )
}

/// The gateway's configuration; `link` is where it believes the hub to be, and
/// `devices` are the sections of the machines that it polls.
pub fn gateway_config(dir: &Path, link: SocketAddr, devices: &str) -> String {
    format!(
        "[node]\nname = \"demo-gateway\"\nrole = \"gateway\"\ndata_dir = {}\n\n\
         [storage]\nretention = {{ time = \"7d\", size = \"1GiB\" }}\n\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n\n\
         [kafka]\nlisten = \"127.0.0.1:0\"\n\n\
         [http]\nlisten = \"127.0.0.1:0\"\n\n\
         [[route]]\nfilter = \"plant/+/vibration\"\ntopic = \"vibration\"\npartitions = 2\n\n\
         [uplink]\nbootstrap = [\"{link}\"]\nsite = \"{}\"\n\
         topics = [ {{ name = \"vibration\", priority = 0 }}, {{ name = \"#\", priority = 1 }} ]\n\n{devices}",
        quoted(&dir.join("gateway")),
        super::SITE,
    )
}

/// A TOML basic string.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
