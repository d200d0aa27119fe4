//! What the outside tells the process, and what it tells the outside: signals,
//! the notify socket of systemd, the file with the ports.

use std::fs;
use std::future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_storage::Storage;
use sd_notify::NotifyState;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;

/// The file in the data directory that names the ports that were bound.
pub const PORTS_FILE: &str = "ports.json";

/// The ports that were bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// The MQTT server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<u16>,
    /// The MQTT server's WebSockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_websocket: Option<u16>,
    /// The MQTT server over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_tls: Option<u16>,
    /// The MQTT server's WebSockets over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_websocket_tls: Option<u16>,
    /// The Kafka protocol server.
    pub kafka: u16,
    /// The Kafka protocol server over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_tls: Option<u16>,
    /// The HTTP server.
    pub http: u16,
    /// The HTTP server over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_tls: Option<u16>,
}

impl Ports {
    /// Writes the file so that a reader sees all of it or none.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let written = data_dir.join(format!("{PORTS_FILE}.new"));
        fs::write(&written, serde_json::to_vec(self)?)?;
        fs::rename(&written, data_dir.join(PORTS_FILE))
    }

    /// Removes the file of an earlier run.
    pub fn forget(data_dir: &Path) {
        // It is usually not there; a stale one that stays is only misleading.
        let _ = fs::remove_file(data_dir.join(PORTS_FILE));
    }
}

/// The ways in which the process is asked to stop.
pub struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    watches_stdin: bool,
}

impl StopRequests {
    /// Takes over the signals. This comes before READY: a signal that arrives
    /// earlier ends the process the hard way.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn listen(watches_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            watches_stdin,
        })
    }

    /// Completes with the first request, in words for the log.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = stdin_close(self.watches_stdin) => "standard input closed",
        }
    }
}

/// Asks for the configuration to be read again at each SIGHUP.
pub struct ReloadRequests {
    hangup: Signal,
}

impl ReloadRequests {
    /// Takes over the signal, which would end the process otherwise.
    ///
    /// # Errors
    /// The signal cannot be listened to.
    pub fn listen() -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { hangup })
    }

    /// Reloads for as long as it is polled, and tells systemd (Type=notify-reload
    /// of sd_notify(3)). `status` is what systemd shows of a node that is well; a
    /// file that was refused is shown until one is taken.
    pub async fn serve(mut self, reloader: Arc<Reloader>, status: String) {
        while self.hangup.recv().await.is_some() {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            notify(&states);
            let report = reloader.reload().await;
            // What it did is in the log.
            let refused = "the new configuration has mistakes and is not used; see the log";
            let status = if report.applied { &status } else { refused };
            notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }
}

/// Completes at the end of standard input, or never.
async fn stdin_close(is_watched: bool) {
    if !is_watched {
        return future::pending().await;
    }
    let (closed, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: a read that never ends would hold up the runtime's
    // shutdown.
    std::thread::spawn(move || {
        // Any error is an end as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}

/// Tells systemd something. Without systemd it goes nowhere.
pub fn notify(states: &[NotifyState<'_>]) {
    // A lost notification is systemd's to notice.
    let _ = sd_notify::notify(states);
}

/// Pets the watchdog, if systemd set one, for as long as the log answers.
pub async fn watchdog(storage: Storage) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // systemd advises half of the limit; a third survives one slow beat.
    let mut beat = tokio::time::interval((limit / 3).max(Duration::from_millis(100)));
    loop {
        beat.tick().await;
        let storage = storage.clone();
        let answer = tokio::task::spawn_blocking(move || storage.wait(storage.fence()));
        if answer.await.is_ok() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ports;

    #[test]
    fn ports_are_one_json_object() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let ports = Ports {
            mqtt: None,
            mqtt_websocket: None,
            mqtt_tls: None,
            mqtt_websocket_tls: None,
            kafka: 9092,
            kafka_tls: None,
            http: 8080,
            http_tls: None,
        };
        ports.write(dir.path()).expect("the directory is writable");
        let text = std::fs::read_to_string(dir.path().join("ports.json")).expect("it was written");
        assert_eq!(text, r#"{"kafka":9092,"http":8080}"#);
        Ports::forget(dir.path());
        assert!(!dir.path().join("ports.json").exists());
    }
}
