//! Devices of others, and the line between them and a gateway.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// The time in which socat makes its terminals, or a compiler a program.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running device.
pub struct Peer {
    _process: Running,
    /// Its port, or the line.
    pub place: String,
    /// Its tags: the keys of the configuration, and `value` or `status`.
    pub tags: Vec<Value>,
}

impl Peer {
    /// Starts the pymodbus device at a device file, at a port, or at any port.
    pub fn pymodbus(
        stage: &Stage,
        mode: &str,
        device: Option<&Path>,
        port: Option<&str>,
    ) -> Outcome<Self> {
        let mut command = Command::new(&stage.python);
        command
            .arg("-B")
            .arg(repository().join("xtask/interop/modbus_pymodbus.py"))
            .arg(mode)
            .args(device)
            .args(port);
        let (process, line) = start(&mut command, "pymodbus")?;
        let said: Value = serde_json::from_str(&line).during(format!("pymodbus said {line:?}"))?;
        Ok(Self {
            _process: process,
            place: said["where"].to_string(),
            tags: said["tags"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// Compiles and starts the libmodbus device.
    pub fn libmodbus(stage: &Stage, mode: &str, device: Option<&Path>) -> Outcome<Self> {
        let program = stage.directory("libmodbus")?.join("device");
        if !program.is_file() {
            let mut compiler = Command::new("cc");
            compiler
                .args(["-Wall", "-I/usr/include/modbus", "-o"])
                .arg(&program)
                .arg(repository().join("xtask/interop/modbus_libmodbus.c"))
                .arg("-lmodbus");
            finish(&mut compiler, START_TIMEOUT)?;
        }
        let mut command = Command::new(&program);
        command.arg(mode).args(device);
        let (process, line) = start(&mut command, "libmodbus")?;
        let place = line.trim().strip_prefix("ready ");
        let place = place.ok_or_else(|| Failure::new(format!("libmodbus said {line:?}")))?;
        Ok(Self {
            _process: process,
            place: place.to_owned(),
            tags: libmodbus_tags(),
        })
    }
}

/// What modbus_libmodbus.c holds.
fn libmodbus_tags() -> Vec<Value> {
    let mut tags = Vec::new();
    for number in (0..300u64).step_by(7) {
        let registers = [("holding", number * 5), ("input", number + 1_000)];
        for (table, value) in registers {
            tags.push(json!({
                "name": format!("{table}-{number}"), "register": table, "address": number,
                "type": "UINT16", "value": value,
            }));
        }
        let bits = [("coil", number % 3 == 0), ("discrete", number % 2 == 1)];
        for (table, value) in bits {
            tags.push(json!({
                "name": format!("{table}-{number}"), "register": table, "address": number,
                "value": value,
            }));
        }
    }
    tags.push(json!({
        "name": "missing", "address": 4_000, "type": "UINT16", "status": "illegal-data-address",
    }));
    tags
}

/// Starts a device and returns its first line.
fn start(command: &mut Command, name: &str) -> Outcome<(Running, String)> {
    let child = command
        // A device that reads it ends with this process.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .during(name)?;
    let mut process = Running(child);
    let output = process.0.stdout.take();
    let output = output.ok_or_else(|| Failure::new("no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).during(name)?;
    Ok((process, line))
}

/// A serial line: two pseudo-terminals that socat connects.
pub struct Line {
    _socat: Running,
    /// The device's end.
    pub device: PathBuf,
    /// The gateway's end.
    pub gateway: PathBuf,
}

impl Line {
    /// Makes a line in the stage's directory.
    pub fn start(stage: &Stage) -> Outcome<Self> {
        let directory = stage.work.path();
        let number = fastrand::u32(..);
        let device = directory.join(format!("line-{number}-device"));
        let gateway = directory.join(format!("line-{number}-gateway"));
        let end = |link: &Path| format!("pty,raw,echo=0,link={}", link.display());
        let socat = Command::new("socat")
            .args([end(&device), end(&gateway)])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("socat")?;
        let socat = Running(socat);
        let started = Instant::now();
        while !(device.exists() && gateway.exists()) {
            if started.elapsed() > START_TIMEOUT {
                return Err(Failure::new("socat made no terminals"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            _socat: socat,
            device,
            gateway,
        })
    }
}
