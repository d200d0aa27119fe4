//! A running `forebay` process: built, configured, started, stopped, killed.

pub mod http;
pub mod program;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{During, Failure, Outcome};

/// The time a node gets to become ready; recovery of a large log included.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The time a node gets to end after SIGTERM (it promises 5 s).
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a condition of another process is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its name.
    pub name: String,
    /// `gateway` or `broker`.
    pub role: &'static str,
    /// The log. May lie on a filesystem that is cut.
    pub data_dir: PathBuf,
    /// Where the configuration and the process log are written.
    pub work_dir: PathBuf,
    /// The address that Kafka clients are told, if not the one bound.
    pub advertise: Option<SocketAddr>,
    /// The hub, if there is an uplink.
    pub hub: Option<SocketAddr>,
    /// Lines for `[node]`.
    pub node: String,
    /// Lines for `[storage]`.
    pub storage: String,
    /// Lines for `[mqtt]`.
    pub mqtt: String,
    /// Lines for `[kafka]`.
    pub kafka: String,
    /// Lines for `[http]`.
    pub http: String,
    /// Lines for `[uplink]`.
    pub uplink: String,
    /// Whole sections, such as `[[route]]`.
    pub sections: String,
    /// Ports of MQTT, Kafka and HTTP; 0 takes a free one.
    pub ports: [u16; 3],
}

impl Spec {
    /// A gateway named `name` with everything below `work_dir`.
    #[must_use]
    pub fn gateway(program: &Path, name: &str, work_dir: &Path) -> Self {
        Self {
            program: program.to_path_buf(),
            name: name.to_owned(),
            role: "gateway",
            data_dir: work_dir.join(name).join("data"),
            work_dir: work_dir.join(name),
            advertise: None,
            hub: None,
            node: String::new(),
            storage: "retention = { keep_free = \"64MiB\" }\n".to_owned(),
            mqtt: String::new(),
            kafka: String::new(),
            http: String::new(),
            uplink: String::new(),
            sections: String::new(),
            ports: [0; 3],
        }
    }

    /// A hub named `name` with everything below `work_dir`.
    #[must_use]
    pub fn hub(program: &Path, name: &str, work_dir: &Path) -> Self {
        Self {
            role: "broker",
            ..Self::gateway(program, name, work_dir)
        }
    }

    /// Writes the configuration file, which a running node may reload.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_config(&self) -> Outcome<PathBuf> {
        let config = self.work_dir.join("forebay.toml");
        fs::write(&config, self.toml().during("configuration")?).during(config.display())?;
        Ok(config)
    }

    /// The configuration file.
    fn toml(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        writeln!(
            out,
            "[node]\nname = {:?}\nrole = {:?}",
            self.name, self.role
        )?;
        writeln!(
            out,
            "data_dir = {:?}\n{}",
            self.data_dir.display().to_string(),
            self.node
        )?;
        writeln!(out, "[storage]\n{}", self.storage)?;
        let [mqtt, kafka, http] = self.ports;
        if self.role == "gateway" {
            writeln!(out, "[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n{}", self.mqtt)?;
        }
        writeln!(out, "[kafka]\nlisten = \"127.0.0.1:{kafka}\"")?;
        if let Some(address) = self.advertise {
            writeln!(out, "advertise = \"{address}\"")?;
        }
        writeln!(
            out,
            "{}\n[http]\nlisten = \"127.0.0.1:{http}\"\n{}",
            self.kafka, self.http
        )?;
        if let Some(hub) = self.hub {
            writeln!(out, "[uplink]\nbootstrap = [\"{hub}\"]\n{}", self.uplink)?;
        }
        out.push_str(&self.sections);
        Ok(out)
    }
}

/// The ports that a node listens on.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// MQTT; absent on a hub without `[mqtt]`.
    pub mqtt: Option<SocketAddr>,
    /// MQTT over WebSockets, where it is configured.
    pub websocket: Option<SocketAddr>,
    /// MQTT over TLS, where it is configured.
    pub mqtt_tls: Option<SocketAddr>,
    /// Kafka.
    pub kafka: SocketAddr,
    /// Kafka over TLS, where it is configured.
    pub kafka_tls: Option<SocketAddr>,
    /// HTTP.
    pub http: SocketAddr,
    /// HTTP over TLS, where it is configured.
    pub http_tls: Option<SocketAddr>,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    /// Where it listens.
    pub ports: Ports,
    /// From the start of the process to `/readyz`.
    pub ready_after: Duration,
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts the node and waits until it is ready.
    ///
    /// # Errors
    /// The files cannot be written, the process ends, or it is not ready in
    /// time; the last lines of its log are in the message.
    pub fn start(spec: &Spec) -> Outcome<Self> {
        let mut node = Self::launch(spec)?;
        let ports_file = spec.data_dir.join("ports.json");
        let started = Instant::now();
        loop {
            if let Some(ports) = read_ports(&ports_file) {
                node.ports = ports;
                if http::get(ports.http, "/readyz").is_ok_and(|(status, _)| status == 200) {
                    node.ready_after = started.elapsed();
                    return Ok(node);
                }
            }
            if let Some(status) = node.child.try_wait().during("waiting for the node")? {
                let tail = node.log_tail();
                return Err(Failure::new(format!(
                    "{} ended with {status} before it was ready; its last lines:\n{tail}",
                    spec.name
                )));
            }
            if started.elapsed() > READY_TIMEOUT {
                let tail = node.log_tail();
                return Err(Failure::new(format!(
                    "{} is not ready after {READY_TIMEOUT:?}; its last lines:\n{tail}",
                    spec.name
                )));
            }
            thread::sleep(POLL);
        }
    }

    fn launch(spec: &Spec) -> Outcome<Self> {
        fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
        fs::create_dir_all(&spec.data_dir).during(spec.data_dir.display())?;
        // The ports of the run before would be mistaken for those of this one.
        match fs::remove_file(spec.data_dir.join("ports.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).during("ports.json");
            }
            _ => {}
        }
        let config = spec.write_config()?;
        let log = spec.work_dir.join("forebay.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .during(log.display())?;
        let child = Command::new(&spec.program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().during(log.display())?)
            .stderr(output)
            .spawn()
            .during(spec.program.display())?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self {
            ports: Ports {
                mqtt: None,
                websocket: None,
                mqtt_tls: None,
                kafka: nowhere,
                kafka_tls: None,
                http: nowhere,
                http_tls: None,
            },
            ready_after: Duration::ZERO,
            child,
            log,
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The MQTT address.
    ///
    /// # Errors
    /// The node does not speak MQTT.
    pub fn mqtt(&self) -> Outcome<SocketAddr> {
        self.ports
            .mqtt
            .ok_or_else(|| Failure::new("the node has no MQTT port in ports.json"))
    }

    /// Ends the process with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        // Both fail only when the process has ended and is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the process with SIGTERM and waits for it.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Outcome<ExitStatus> {
        let id = i32::try_from(self.child.id()).ok();
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // An error means that it has ended already.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        match self.wait(STOP_TIMEOUT)? {
            Some(status) => Ok(status),
            None => Err(Failure::new(format!(
                "the node did not end within {STOP_TIMEOUT:?} after SIGTERM"
            ))),
        }
    }

    /// Waits for the process to end by itself; `None` when it does not.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> Outcome<Option<ExitStatus>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().during("waiting for the node")? {
                return Ok(Some(status));
            }
            if started.elapsed() > limit {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// What `/api/v1/status` says.
    ///
    /// # Errors
    /// The node does not answer, or not with JSON.
    pub fn status(&self) -> Outcome<Value> {
        let (code, body) = http::get(self.ports.http, "/api/v1/status").during("status")?;
        if code != 200 {
            return Err(Failure::new(format!("status: HTTP {code}")));
        }
        serde_json::from_slice(&body).during("status")
    }

    /// The last lines of the process log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_ports(file: &Path) -> Option<Ports> {
    let value: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let address = |name: &str| {
        let entry = value.get(name)?;
        if let Some(text) = entry.as_str() {
            return text.parse().ok();
        }
        let port = u16::try_from(entry.as_u64()?).ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    };
    Some(Ports {
        mqtt: address("mqtt"),
        websocket: address("mqtt_websocket"),
        mqtt_tls: address("mqtt_tls"),
        kafka: address("kafka")?,
        kafka_tls: address("kafka_tls"),
        http: address("http")?,
        http_tls: address("http_tls"),
    })
}
