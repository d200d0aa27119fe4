//! A node as a child process, ready when [`Running::start`] returns: it says so
//! on the notify socket, as it does to systemd.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A node must be ready and must stop within this, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The process and where it listens.
pub struct Running {
    child: Child,
    notifications: UnixDatagram,
    dir: PathBuf,
    ports: serde_json::Value,
}

impl Running {
    /// Starts a node of `role` in `dir` on free ports; `more` is appended to
    /// the configuration.
    pub fn start(dir: &std::path::Path, role: &str, more: &str) -> Self {
        Self::listening(dir, role, ["", "", ""], more)
    }

    /// The same with more lines in the sections `[mqtt]`, `[kafka]` and
    /// `[http]`.
    pub fn listening(
        dir: &std::path::Path,
        role: &str,
        [mqtt, kafka, http]: [&str; 3],
        more: &str,
    ) -> Self {
        let data_dir = dir.join("data");
        let file = dir.join("node.toml");
        let text = format!(
            "[node]\nname = \"test\"\nrole = \"{role}\"\ndata_dir = {data_dir:?}\n\
             [storage]\nsegment_size = \"2MiB\"\nretention = {{ keep_free = \"1MiB\" }}\n\
             [mqtt]\nlisten = \"127.0.0.1:0\"\n{mqtt}\n\
             [kafka]\nlisten = \"127.0.0.1:0\"\n{kafka}\n\
             [http]\nlisten = \"127.0.0.1:0\"\n{http}\n{more}"
        );
        std::fs::write(&file, text).expect("the scratch directory is writable");
        let socket = dir.join("notify");
        let _ = std::fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).expect("a socket path");
        notifications
            .set_read_timeout(Some(LIMIT))
            .expect("a timeout above zero");
        // Beside the data, so that tests can look at what the node says.
        let log =
            std::fs::File::create(dir.join("log")).expect("the scratch directory is writable");
        let errors = log.try_clone().expect("a file can be shared");
        let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["run", "--stop-on-stdin-close", "--config"])
            .arg(&file)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        let mut running = Self {
            child,
            notifications,
            dir: data_dir,
            ports: serde_json::Value::Null,
        };
        running.expect_notification("READY=1");
        let ports = std::fs::read(running.dir.join("ports.json")).expect("a ready node wrote it");
        running.ports = serde_json::from_slice(&ports).expect("it is JSON");
        running
    }

    /// Waits for the node to say `wanted` to systemd.
    pub fn expect_notification(&self, wanted: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self
                .notifications
                .recv(&mut buffer)
                .expect("a notification in time");
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    }

    /// The address of one listener: `mqtt`, `kafka` or `http`.
    pub fn address(&self, listener: &str) -> String {
        format!("127.0.0.1:{}", self.ports[listener])
    }

    /// Runs a client command against the Kafka port.
    #[allow(
        dead_code,
        reason = "only some of the test binaries ask the Kafka port"
    )]
    pub fn command(&self, arguments: &[&str]) -> Output {
        forebay(&[arguments, &["--bootstrap", &self.address("kafka")]].concat())
    }

    /// The standard output of a client command that must succeed.
    #[allow(
        dead_code,
        reason = "only some of the test binaries ask the Kafka port"
    )]
    pub fn answer(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).expect("answers are UTF-8")
    }

    /// Sends SIGTERM and waits for the end.
    #[allow(dead_code, reason = "only some of the test binaries stop a node")]
    pub fn terminate(mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a pid"), Signal::TERM).expect("the child lives");
        self.expect_notification("STOPPING=1");
        self.child.wait().expect("the child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.dir.with_file_name("log");
            eprintln!("{}", std::fs::read_to_string(log).unwrap_or_default());
        }
    }
}

/// Runs the binary to its end.
pub fn forebay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(arguments)
        .output()
        .expect("the binary runs")
}
