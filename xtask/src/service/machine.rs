//! A machine in namespaces: a root directory whose changes are thrown away, and
//! a real systemd as PID 1. It starts in seconds and needs no emulator.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// The time systemd gets to reach its target on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// The time one command gets; installing a package is the longest.
const COMMAND_LIMIT_S: &str = "180";

/// How often a condition inside is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Where files are put for the commands inside.
const INBOX: &str = "var/tmp";

/// Says why machines cannot be made here, if they cannot.
#[must_use]
pub fn unavailable(root: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("namespaces with mounts need root".to_owned());
    }
    if !root.join("lib/systemd/systemd").exists() {
        return Some(format!("{} has no systemd: install it", root.display()));
    }
    let mut attempt = Command::new("unshare");
    attempt.args(["--mount", "--pid", "--fork", "--cgroup", "--net", "true"]);
    match attempt.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("no namespaces: {}", said.trim()))
        }
        Err(error) => Some(format!("unshare (util-linux): {error}")),
    }
}

/// A running machine. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Machine {
    unshare: Child,
    pid: u32,
    _scratch: TempDir,
}

impl Machine {
    /// Starts a machine over `root` and waits until systemd is done.
    ///
    /// # Errors
    /// The namespaces cannot be made, or systemd does not come up.
    pub fn boot(root: &Path) -> Outcome<Self> {
        let scratch = tempfile::tempdir().during("temporary directory")?;
        // When this process is killed, unshare is, and takes its child with it.
        let mut unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--mount", "--pid", "--fork", "--kill-child=SIGKILL"])
            .args(["--cgroup", "--uts", "--ipc", "--net"])
            .arg(repository().join("xtask/service/boot.sh"))
            .args([root, scratch.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .during("unshare")?;
        let mut line = String::new();
        if let Some(output) = unshare.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .during("boot.sh")?;
        }
        let mut machine = Self {
            pid: 0,
            unshare,
            _scratch: scratch,
        };
        machine.pid = line.trim().parse().during("boot.sh told no process id")?;
        machine.until("systemd is up", BOOT_LIMIT, |machine| {
            let state = machine.run(&["systemctl", "is-system-running"]);
            // A unit of the root directory that fails here is not our concern.
            Ok(state.is_ok()
                || state.is_err_and(|failure| failure.to_string().contains("degraded")))
        })?;
        Ok(machine)
    }

    /// Runs a command inside and returns its standard output.
    ///
    /// # Errors
    /// It fails; what it said is in the message.
    pub fn run(&self, words: &[&str]) -> Outcome<String> {
        let output = Command::new("nsenter")
            .args(["--all", "--target", &self.pid.to_string(), "--"])
            .args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["LC_ALL=C", "timeout", "--kill-after=5", COMMAND_LIMIT_S])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .during("nsenter")?;
        let out = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!(
            "{}: {}: {out} {}",
            words.join(" "),
            output.status,
            said.trim()
        )))
    }

    /// Puts a file inside and returns its path there.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn put(&self, file: &Path) -> Outcome<String> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let inside = format!("{INBOX}/{name}");
        fs::copy(file, self.path(&inside)).during(file.display())?;
        Ok(format!("/{inside}"))
    }

    /// A path inside, as seen from outside. `path` has no leading slash.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path)
    }

    /// Does something on the network of the machine, in a thread of its own.
    ///
    /// # Errors
    /// The network cannot be entered, or `act` fails.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                self.enter_network()?;
                act()
            });
            let panicked = |_| Failure::new("a thread on the machine's network panicked");
            acting.join().map_err(panicked)?
        })
    }

    /// Moves the calling thread to the network of the machine, for good.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn enter_network(&self) -> Outcome {
        let name = format!("/proc/{}/ns/net", self.pid);
        let network = File::open(&name).during(&name)?;
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind).during(name)
    }

    /// Waits until `is_so`.
    ///
    /// # Errors
    /// It is not so within `limit`, or looking fails.
    pub fn until(
        &self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut(&Self) -> Outcome<bool>,
    ) -> Outcome {
        let started = Instant::now();
        while !is_so(self)? {
            if started.elapsed() > limit {
                return Err(Failure::new(format!("after {limit:?} still not: {what}")));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // unshare takes its child with it, and the kernel takes everything else
        // in the namespace with that PID 1. Both calls fail only when it is gone.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let started = Instant::now();
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        while process.exists() && started.elapsed() < BOOT_LIMIT {
            thread::sleep(POLL);
        }
    }
}
