//! The unit file by itself, without a machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// Drop-ins that are shipped as examples.
const EXAMPLES: [&str; 2] = ["serial.conf", "low-ports.conf"];

/// Checks the unit, alone and with each example, and its exposure.
///
/// # Errors
/// systemd finds a mistake, or too much exposed.
pub fn check(exposure_max: &str, program: Option<&Path>) -> Outcome {
    let work = tempfile::tempdir().during("temporary directory")?;
    let unit = work.path().join("forebay.service");
    let systemd = repository().join("systemd");
    let text = fs::read_to_string(systemd.join("forebay.service")).during("forebay.service")?;
    // systemd looks whether the program is there; where it is not, another one
    // that is everywhere stands in for it.
    let program = program.unwrap_or(Path::new("/bin/true"));
    let text = text.replace("/usr/bin/forebay", &program.display().to_string());
    // What it refers to is looked for as well, and is installed by the package.
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("Documentation="));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    fs::write(&unit, text).during("unit")?;
    verify(&unit)?;
    let drop_ins = work.path().join("forebay.service.d");
    fs::create_dir_all(&drop_ins).during(drop_ins.display())?;
    for example in EXAMPLES {
        let drop_in = drop_ins.join(example);
        fs::copy(systemd.join("examples").join(example), &drop_in).during(example)?;
        verify(&unit)?;
        fs::remove_file(&drop_in).during(example)?;
    }
    println!("ok     systemd-analyze verify");
    let threshold = format!("--threshold={exposure_max}");
    let said = analyze(
        &["security", "--offline=yes", "--no-pager", &threshold],
        &unit,
    )?;
    let exposure = said.lines().rev().find(|line| line.contains("exposure"));
    println!("ok     {}", exposure.unwrap_or_default().trim());
    Ok(())
}

/// systemd-analyze succeeds with warnings; here each one is a mistake.
fn verify(unit: &Path) -> Outcome {
    let said = analyze(&["verify", "--recursive-errors=no"], unit)?;
    if said.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("systemd-analyze verify: {said}")))
}

fn analyze(words: &[&str], unit: &Path) -> Outcome<String> {
    let output = Command::new("systemd-analyze")
        .args(words)
        .arg(unit)
        .output()
        .during("systemd-analyze (systemd)")?;
    let out = String::from_utf8_lossy(&output.stdout);
    let said = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(said.trim().to_owned());
    }
    Err(Failure::new(format!(
        "systemd-analyze {}: {}",
        words[0],
        said.trim()
    )))
}
