//! Installs the peers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 8] = [
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("kcat", "kcat"),
    ("curl", "curl"),
    ("socat", "socat"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Where Debian puts servers. It is not on everybody's path.
pub const SERVERS: &str = "/usr/sbin";

/// A header and the Debian package that brings it.
const LIBMODBUS: (&str, &str) = ("/usr/include/modbus/modbus.h", "libmodbus-dev");

/// Python packages. kafka-python loads the compression libraries on demand.
const PYTHON_PACKAGES: [&str; 9] = [
    "paho-mqtt>=2,<3",
    "confluent-kafka>=2,<3",
    "kafka-python>=2.1,<4",
    "lz4",
    "zstandard",
    "python-snappy",
    // Its interface changes with every release.
    "pymodbus==3.16.1",
    "pyserial",
    "asyncua==2.1.0",
];

/// The OPC UA server for Node.js.
const NODE_PACKAGE: &str = "node-opcua@2.182.2";

/// The Sparkplug edge node. It wants paho-mqtt 1, so it gets an environment of
/// its own.
const SPARKPLUG_PACKAGES: [&str; 1] = ["pysparkplug>=0.6.1,<0.7"];

/// Installs what is missing; returns the Python interpreter to use.
pub fn everything(no_install: bool) -> Outcome<PathBuf> {
    let environment = target_directory().join("interop-python");
    let python = environment.join("bin/python");
    if no_install {
        return Ok(python);
    }
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(LIBMODBUS.0).is_file() {
        packages.push(LIBMODBUS.1);
    }
    packages.dedup();
    if !packages.is_empty() {
        apt(&["update", "-qq"])?;
        let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
        install.extend(packages);
        apt(&install)?;
    }
    let check = "import paho.mqtt.client, confluent_kafka, kafka, lz4.frame, zstandard, snappy, pymodbus, serial, asyncua";
    if !imports(&python, check) {
        make_environment(&environment, &PYTHON_PACKAGES)?;
    }
    Ok(python)
}

/// Installs the Sparkplug edge node; returns its Python interpreter.
pub fn sparkplug() -> Outcome<PathBuf> {
    environment(
        "interop-python-sparkplug",
        "import pysparkplug",
        &SPARKPLUG_PACKAGES,
    )
}

/// A Python environment of its own below the target directory, made when
/// `check` fails in it; returns its interpreter.
pub fn environment(name: &str, check: &str, packages: &[&str]) -> Outcome<PathBuf> {
    let environment = target_directory().join(name);
    let python = environment.join("bin/python");
    if !imports(&python, check) {
        make_environment(&environment, packages)?;
    }
    Ok(python)
}

/// Installs a browser and what drives it, with a font.
pub fn browser() -> Outcome {
    if is_on_path("chromedriver") && is_on_path("chromium") {
        return Ok(());
    }
    apt(&["update", "-qq"])?;
    let flags = ["install", "-y", "-qq", "--no-install-recommends"];
    let packages = ["chromium", "chromium-driver", "fonts-dejavu-core"];
    apt(&[&flags[..], &packages[..]].concat())
}

/// Installs the OPC UA server for Node.js; returns the folder of its modules.
pub fn node_opcua() -> Outcome<PathBuf> {
    let directory = target_directory().join("interop-node");
    let modules = directory.join("node_modules");
    if !modules.join("node-opcua/package.json").is_file() {
        std::fs::create_dir_all(&directory).during(directory.display())?;
        let flags = ["--no-audit", "--no-fund", "--loglevel=error", "--prefix"];
        run(Command::new("npm")
            .arg("install")
            .args(flags)
            .arg(&directory)
            .arg(NODE_PACKAGE)
            // Whoever reads the scenarios wants those on standard output.
            .stdout(Stdio::null()))?;
    }
    Ok(modules)
}

fn make_environment(environment: &Path, packages: &[&str]) -> Outcome {
    let venv = || {
        run(Command::new("python3")
            .args(["-m", "venv"])
            .arg(environment))
    };
    if venv().is_err() {
        // Debian splits ensurepip from its Python.
        apt(&["update", "-qq"])?;
        apt(&[
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "python3-venv",
        ])?;
        venv()?;
    }
    run(Command::new(environment.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(packages))
}

/// Where cargo puts its output.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

fn imports(python: &Path, check: &str) -> bool {
    let status = Command::new(python)
        .args(["-c", check])
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from(SERVERS)]);
    directories.any(|directory| directory.join(program).is_file())
}

fn apt(words: &[&str]) -> Outcome {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    run(command.env("DEBIAN_FRONTEND", "noninteractive").args(words))
}

fn run(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().during(&name)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{name} ended with {status}")))
    }
}
