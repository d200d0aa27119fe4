//! What happens to the service, in order: each scenario goes on where the one
//! before ended.

pub mod unit;
mod walk;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::load::{self, is_ready};
use super::machine::Machine;
use super::{Stage, VERSIONS};
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// The time a restart gets, with the two seconds that the unit waits.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// Inside the machine, without the leading slash.
const CONFIG: &str = "etc/forebay/forebay.toml";

/// What an administrator wrote, which an upgrade has to keep.
const OWN_LINE: &str = "# The administrator's own line.\n";

/// A mistake that the node finds.
const MISTAKE: &str = "[log]\nlevle = \"debug\"\n";

/// A query that a reload adds. It finds nothing to read here, and writes to no
/// topic of others.
const QUERY: &str = "[[query]]\nname = \"added\"\nfile = \"added.sql\"\n";

/// Where it comes from: some systems leave the examples of packages out.
const QUERY_SOURCE: &str = "config/queries/vibration-level.sql";

/// One step, which prints nothing when it succeeds.
type Scenario = (&'static str, fn(&mut Stage) -> Outcome);

/// All steps.
pub const ALL: [Scenario; 12] = [
    ("it installs, starts and says where it listens", install),
    ("it is confined, and sees which boot this is", confinement),
    ("SIGKILL: it comes back with everything", kill),
    ("SIGSTOP: the watchdog starts it anew", hang),
    (
        "a reload adds a query, one with mistakes is refused",
        reload,
    ),
    ("a start with mistakes is not tried again", mistakes),
    ("SIGTERM: it stops with everything on disk", stop),
    ("an upgrade keeps data and configuration", upgrade),
    ("a downgrade keeps data and configuration", downgrade),
    ("removed and installed again, it goes on", remove),
    ("purged, it leaves nothing and asks nothing", purge),
    ("the walk of docs/security.md, word for word", walk::run),
];

fn install(stage: &mut Stage) -> Outcome {
    let machine = &stage.machine;
    // As in docs/install.md.
    machine.run(&["apt-get", "install", "-y", &stage.packages[0]])?;
    expect(
        "is-active",
        &machine.run(&["systemctl", "is-active", "forebay"])?,
        "active",
    )?;
    expect(
        "is-enabled",
        &machine.run(&["systemctl", "is-enabled", "forebay"])?,
        "enabled",
    )?;
    // Type=notify: it is ready when the start is done, not some time later.
    expect("ready", &is_ready(machine)?.to_string(), "true")?;
    let status = property(machine, "StatusText")?;
    expect(
        "status",
        &status,
        "gateway gateway: MQTT 127.0.0.1:1883, Kafka 127.0.0.1:9092, HTTP 127.0.0.1:8080",
    )?;
    for (path, owner, mode) in [
        ("etc/forebay", "root:forebay", 0o750),
        (CONFIG, "root:root", 0o644),
        ("var/lib/forebay", "forebay:forebay", 0o750),
    ] {
        let inside = format!("/{path}");
        let found = machine.run(&["stat", "--format=%U:%G", &inside])?;
        expect(&inside, &found, owner)?;
        let mode_found = fs::metadata(machine.path(path)).during(path)?.permissions();
        let mode_found = mode_found.mode() & 0o7777;
        expect(&inside, &format!("{mode_found:o}"), &format!("{mode:o}"))?;
    }
    stage.load.during(&stage.machine, |_| Ok(()))
}

fn confinement(stage: &mut Stage) -> Outcome {
    let machine = &stage.machine;
    let pid = property(machine, "MainPID")?;
    let status = format!("proc/{pid}/status");
    let status = fs::read_to_string(machine.path(&status)).during(status)?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.map(|line| line[name.len()..].trim().to_owned())
            .unwrap_or_default()
    };
    expect("NoNewPrivs", &field("NoNewPrivs:"), "1")?;
    expect("seccomp", &field("Seccomp:"), "2")?;
    expect("capabilities", &field("CapBnd:"), "0000000000000000")?;
    let owner = fs::metadata(machine.path(&format!("proc/{pid}"))).during(&pid)?;
    if owner.uid() == 0 {
        return Err(Failure::new("it runs as root"));
    }
    // The node tells one boot's marks of a wrong clock from another's.
    let sandbox = ["nsenter", "--mount", "--target", &pid];
    let boot = "/proc/sys/kernel/random/boot_id";
    machine.run(&[&sandbox[..], &["cat", boot]].concat())?;
    // The C library asks for the state of the clock with this call.
    let calls = property(machine, "SystemCallFilter")?;
    let may_ask = calls.split(' ').any(|call| call == "clock_adjtime");
    expect("may ask for the clock", &may_ask.to_string(), "true")?;
    expect("ProtectClock", &property(machine, "ProtectClock")?, "no")?;
    let journal = machine.run(&["journalctl", "--no-pager", "-u", "forebay"])?;
    for complaint in ["Operation not permitted", "Permission denied", "Read-only"] {
        if let Some(line) = journal.lines().find(|line| line.contains(complaint)) {
            return Err(Failure::new(format!("the sandbox is in the way: {line}")));
        }
    }
    Ok(())
}

fn kill(stage: &mut Stage) -> Outcome {
    stage.load.during(&stage.machine, |machine| {
        let restarts = restarts(machine)?;
        machine.run(&[
            "systemctl",
            "kill",
            "--kill-whom=main",
            "-s",
            "KILL",
            "forebay",
        ])?;
        restarted(machine, restarts)
    })
}

fn hang(stage: &mut Stage) -> Outcome {
    let quick = "[Service]\nWatchdogSec=2s\n";
    drop_in(&stage.machine, quick)?;
    stage.machine.run(&["systemctl", "restart", "forebay"])?;
    stage.load.during(&stage.machine, |machine| {
        let restarts = restarts(machine)?;
        machine.run(&[
            "systemctl",
            "kill",
            "--kill-whom=main",
            "-s",
            "STOP",
            "forebay",
        ])?;
        restarted(machine, restarts)
    })?;
    let journal = stage
        .machine
        .run(&["journalctl", "--no-pager", "-u", "forebay"])?;
    if !journal.contains("Watchdog timeout") {
        return Err(Failure::new("it was not the watchdog"));
    }
    drop_in(&stage.machine, "")?;
    stage
        .machine
        .run(&["systemctl", "restart", "forebay"])
        .map(drop)
}

fn reload(stage: &mut Stage) -> Outcome {
    let packaged = read_config(&stage.machine)?;
    let query = stage.machine.path("etc/forebay/added.sql");
    fs::copy(repository().join(QUERY_SOURCE), query).during(QUERY_SOURCE)?;
    stage.load.during(&stage.machine, |machine| {
        let pid = property(machine, "MainPID")?;
        write_config(machine, &format!("{packaged}{QUERY}"))?;
        machine.run(&["systemctl", "reload", "forebay"])?;
        machine.until("the query is there", RESTART_LIMIT, |machine| {
            Ok(load::status(machine)?.to_string().contains("\"added\""))
        })?;
        write_config(machine, &format!("{packaged}{MISTAKE}"))?;
        if machine.run(&["systemctl", "reload", "forebay"]).is_ok() {
            return Err(Failure::new("a file with mistakes was taken"));
        }
        // Past the check of the unit, as by another program.
        machine.run(&[
            "systemctl",
            "kill",
            "-s",
            "HUP",
            "--kill-who=main",
            "forebay",
        ])?;
        machine.until("the refusal is in the status", RESTART_LIMIT, |machine| {
            Ok(property(machine, "StatusText")?.contains("mistakes"))
        })?;
        let kept = load::status(machine)?.to_string().contains("\"added\"");
        expect("queries kept", &kept.to_string(), "true")?;
        write_config(machine, &packaged)?;
        machine.run(&["systemctl", "reload", "forebay"])?;
        machine.until("the status is well again", RESTART_LIMIT, |machine| {
            Ok(property(machine, "StatusText")?.contains("MQTT"))
        })?;
        expect("process", &property(machine, "MainPID")?, &pid)
    })
}

fn mistakes(stage: &mut Stage) -> Outcome {
    let machine = &stage.machine;
    let packaged = read_config(machine)?;
    write_config(machine, &format!("{packaged}{MISTAKE}"))?;
    if machine.run(&["systemctl", "restart", "forebay"]).is_ok() {
        return Err(Failure::new("it started with mistakes"));
    }
    expect("state", &property(machine, "ActiveState")?, "failed")?;
    expect("exit code", &property(machine, "ExecMainStatus")?, "78")?;
    write_config(machine, &packaged)?;
    machine.run(&["systemctl", "start", "forebay"])?;
    stage.load.check(machine)
}

fn stop(stage: &mut Stage) -> Outcome {
    stage.load.during(&stage.machine, |machine| {
        machine.run(&["systemctl", "stop", "forebay"])?;
        expect("result", &property(machine, "Result")?, "success")?;
        expect("exit code", &property(machine, "ExecMainStatus")?, "0")?;
        machine.run(&["systemctl", "start", "forebay"]).map(drop)
    })
}

fn upgrade(stage: &mut Stage) -> Outcome {
    let own = format!("{}{OWN_LINE}", read_config(&stage.machine)?);
    write_config(&stage.machine, &own)?;
    replace(stage, 1)
}

fn downgrade(stage: &mut Stage) -> Outcome {
    replace(stage, 0)
}

/// Installs the other package while the publishers write.
fn replace(stage: &mut Stage, which: usize) -> Outcome {
    let package = stage.packages[which].clone();
    stage.load.during(&stage.machine, |machine| {
        let pid = property(machine, "MainPID")?;
        machine.run(&["dpkg", "--install", &package])?;
        expect("state", &property(machine, "ActiveState")?, "active")?;
        if property(machine, "MainPID")? == pid {
            return Err(Failure::new("the old program runs on"));
        }
        let query = ["dpkg-query", "--show", "--showformat=${Version}", "forebay"];
        expect("version", &machine.run(&query)?, VERSIONS[which])?;
        let kept = read_config(machine)?.ends_with(OWN_LINE);
        expect("configuration kept", &kept.to_string(), "true")
    })
}

fn remove(stage: &mut Stage) -> Outcome {
    let machine = &stage.machine;
    machine.run(&["dpkg", "--remove", "forebay"])?;
    let running = machine.run(&["systemctl", "is-active", "forebay"]).is_ok();
    expect("running", &running.to_string(), "false")?;
    machine.run(&["dpkg", "--install", &stage.packages[0]])?;
    expect(
        "enabled",
        &machine.run(&["systemctl", "is-enabled", "forebay"])?,
        "enabled",
    )?;
    let kept = read_config(machine)?.ends_with(OWN_LINE);
    expect("configuration kept", &kept.to_string(), "true")?;
    stage.load.during(&stage.machine, |_| Ok(()))
}

fn purge(stage: &mut Stage) -> Outcome {
    let machine = &stage.machine;
    machine.run(&["dpkg", "--purge", "forebay"])?;
    for path in ["etc/forebay", "var/lib/forebay", "usr/bin/forebay"] {
        if machine.path(path).exists() {
            return Err(Failure::new(format!("/{path} is still there")));
        }
    }
    let units = machine.run(&["find", "/etc/systemd/system", "-name", "forebay.service"])?;
    expect("links to the unit", &units, "")?;
    // A stranger who tries once more gets a service that begins anew.
    machine.run(&["dpkg", "--install", &stage.packages[0]])?;
    stage.load.forget();
    stage.load.during(&stage.machine, |_| Ok(()))
}

fn property(machine: &Machine, name: &str) -> Outcome<String> {
    let name = format!("--property={name}");
    machine.run(&["systemctl", "show", "--value", &name, "forebay"])
}

fn restarts(machine: &Machine) -> Outcome<u32> {
    let text = property(machine, "NRestarts")?;
    text.parse().during("NRestarts")
}

/// Waits until systemd has started the service once more by itself.
fn restarted(machine: &Machine, before: u32) -> Outcome {
    machine.until("it was started again", RESTART_LIMIT, |machine| {
        Ok(restarts(machine)? > before && is_ready(machine)?)
    })
}

fn drop_in(machine: &Machine, text: &str) -> Outcome {
    let directory = machine.path("etc/systemd/system/forebay.service.d");
    fs::create_dir_all(&directory).during(directory.display())?;
    fs::write(directory.join("test.conf"), text).during("drop-in")?;
    machine.run(&["systemctl", "daemon-reload"]).map(drop)
}

fn read_config(machine: &Machine) -> Outcome<String> {
    fs::read_to_string(machine.path(CONFIG)).during(CONFIG)
}

fn write_config(machine: &Machine, text: &str) -> Outcome {
    fs::write(machine.path(CONFIG), text).during(CONFIG)
}

fn expect(what: &str, found: &str, expected: &str) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected {expected:?}, found {found:?}"
    )))
}
