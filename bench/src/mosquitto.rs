//! A mosquitto process to compare with.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::{During, Failure, Outcome};

/// Where Debian puts it, outside the PATH of most users.
const DEBIAN: &str = "/usr/sbin/mosquitto";

/// The time it gets to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Its configuration, all in its favour: acknowledged from memory, nothing
/// ever written, TCP_NODELAY. A window above its limit of 20 in flight is its
/// clients' decision and not refused.
pub const SETTINGS: &str =
    "allow_anonymous true\nset_tcp_nodelay true\npersistence false\nlog_type error\n";

/// A running mosquitto. Dropping it kills it.
pub struct Mosquitto {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Mosquitto {
    /// The command that starts it.
    pub fn command() -> Command {
        let path = Path::new(DEBIAN);
        Command::new(if path.exists() { DEBIAN } else { "mosquitto" })
    }

    /// Starts it on a free port of loopback.
    pub fn start(directory: &Path) -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).during("a free port")?;
        let address = listener.local_addr().during("a free port")?;
        drop(listener);
        let config = directory.join("mosquitto.conf");
        let text = format!("listener {} 127.0.0.1\n{SETTINGS}", address.port());
        fs::write(&config, text).during(config.display())?;
        let child = Self::command()
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("mosquitto")?;
        let peer = Self { address, child };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > START_TIMEOUT {
                return Err(Failure::new("mosquitto does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Both fail only when the process has ended and is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
