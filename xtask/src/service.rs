//! `cargo xtask service`: the package under a real systemd, from installation
//! to purge, with publishers that write all the time.

mod load;
mod machine;
mod scenarios;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::node::program;
use crate::package::{self, Target, binary, deb};

use load::Load;
use machine::Machine;

/// The text of `cargo xtask service --help`.
pub const HELP: &str = "\
Installs the Debian package on a machine made of namespaces, with systemd as
PID 1, and checks that the unit starts, is confined, survives a kill and a hang,
reloads, refuses mistakes, stops, is upgraded and downgraded, removed and purged;
publishers write meanwhile, and what was acknowledged has to be there, once. In
the end it does what docs/security.md tells to do, word for word.
Needs root; without it, says so and succeeds.

Usage: cargo xtask service [OPTIONS]

Options:
  --bin PATH       the program (default: built with profile ci)
  --second PATH    the program of the upgrade (default: the same in a newer package)
  --root DIR       the root directory that the machine starts from (default /)
  --unit           only check the unit file: systemd-analyze verify and security
";

/// What `systemd-analyze security` may say at most, times ten.
const EXPOSURE_MAX: &str = "15";

/// The older and the newer package.
const VERSIONS: [&str; 2] = ["0.1.0~first", "0.1.0~second"];

/// What the scenarios work with.
struct Stage {
    machine: Machine,
    load: Load,
    /// The packages, as paths inside the machine.
    packages: [String; 2],
}

/// Runs all scenarios.
///
/// # Errors
/// One of them failed.
pub fn command(mut args: Args) -> Outcome {
    let first = args.value::<PathBuf>("--bin")?;
    let second = args.value::<PathBuf>("--second")?;
    let root = args.value("--root")?.unwrap_or_else(|| PathBuf::from("/"));
    let only_unit = args.flag("--unit");
    args.finish()?;
    let first = match first {
        None if only_unit => None,
        given => Some(program::given_or_built(given)?),
    };
    scenarios::unit::check(EXPOSURE_MAX, first.as_deref())?;
    let Some(first) = first else { return Ok(()) };
    if let Some(reason) = machine::unavailable(&root) {
        println!("skipped: {reason}");
        return Ok(());
    }
    let second = second.unwrap_or_else(|| first.clone());
    let work = tempfile::tempdir().during("temporary directory")?;
    let packages = [
        package(&first, VERSIONS[0], work.path())?,
        package(&second, VERSIONS[1], work.path())?,
    ];
    let started = Instant::now();
    let machine = Machine::boot(&root)?;
    println!(
        "ok     systemd is up ({:.1} s)",
        started.elapsed().as_secs_f64()
    );
    let mut stage = Stage {
        packages: [machine.put(&packages[0])?, machine.put(&packages[1])?],
        load: Load::new(),
        machine,
    };
    for (name, run) in scenarios::ALL {
        let started = Instant::now();
        if let Err(failure) = run(&mut stage) {
            let log = stage.machine.run(&["journalctl", "--no-pager", "-n40"]);
            eprintln!("{}", log.unwrap_or_default());
            return Err(Failure::new(format!("{name}: {failure}")));
        }
        println!("ok     {name} ({:.1} s)", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Makes a package of `program`, whatever its size: what is tested here is not
/// what is shipped.
fn package(program: &Path, version: &str, directory: &Path) -> Outcome<PathBuf> {
    let stripped = package::strip(Target::Amd64, program, directory)?;
    let package = deb::Package {
        target: Target::Amd64,
        glibc: binary::glibc(Target::Amd64, &stripped)?,
        program: stripped,
        version: version.to_owned(),
        packing: deb::QUICK,
    };
    package.write(directory)
}
