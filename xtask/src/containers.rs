//! `cargo xtask containers`: the image, the manifests and their configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::failure::{During, Failure, Outcome};
use crate::interop::install;
use crate::node::program;
use crate::tidy::repository;

/// The text of `cargo xtask containers --help`.
pub const HELP: &str = "\
Checks what is shipped for containers: Kubernetes manifests strictly against
their schemas, the Helm chart against the manifests, Compose, the configurations,
and an image that is made, unpacked and run as its user.

Usage: cargo xtask containers [--bin PATH]

Options:
  --bin PATH   the program (default: built with profile ci)
";

/// Its version is that of the schemas inside.
const VALIDATOR: [&str; 1] = ["kubernetes-validate==1.37.0"];

/// Configurations that are shipped outside of `config/`.
const CONFIGURATIONS: [&str; 4] = [
    "packaging/forebay.toml",
    "containers/gateway.toml",
    "containers/hub.toml",
    "containers/kubernetes/hub.toml",
];

/// The user and group that the image names.
const USER: &str = "65532:65532";

/// Runs all checks.
///
/// # Errors
/// One of them failed.
pub fn command(mut args: Args) -> Outcome {
    let given = args.value::<PathBuf>("--bin")?;
    args.finish()?;
    let program = program::given_or_built(given)?;
    let repository = repository();
    let python = install::environment(
        "containers-python",
        "import kubernetes_validate",
        &VALIDATOR,
    )?;
    let script = repository.join("xtask/containers/check.py");
    let said = run(Command::new(python).arg("-B").arg(script).arg(&repository))?;
    print!("{said}");
    for file in CONFIGURATIONS {
        let file = repository.join(file);
        let said = run(Command::new(&program)
            .arg("check")
            .arg("--config")
            .arg(&file));
        said.during(file.display())?;
    }
    println!("ok     {} configurations", CONFIGURATIONS.len());
    image(&program)
}

/// Makes an image, looks at every blob, and runs the program in it.
fn image(program: &Path) -> Outcome {
    let work = tempfile::tempdir().during("temporary directory")?;
    let archive = work.path().join("forebay.tar");
    let mut word = std::ffi::OsString::from("amd64=");
    word.push(program);
    let script = repository().join("containers/oci.sh");
    run(Command::new(script).arg(&archive).arg(word))?;
    let layout = unpacked(&archive, &work.path().join("layout"))?;
    let blobs = layout.join("blobs/sha256");
    let mut layer = None;
    for entry in fs::read_dir(&blobs).during(blobs.display())? {
        let blob = entry.during(blobs.display())?.path();
        let sum = run(Command::new("sha256sum").arg(&blob))?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        if !sum.starts_with(&*name) {
            return Err(Failure::new(format!("image: blob {name} is {sum}")));
        }
        if fs::read(&blob).during(&name)?.starts_with(&[0x1f, 0x8b]) {
            layer = Some(blob);
        }
    }
    let layer = layer.ok_or_else(|| Failure::new("image: no layer"))?;
    println!("ok     image");
    if !rustix::process::geteuid().is_root() {
        println!("skipped: running it needs root for chroot");
        return Ok(());
    }
    let root = unpacked(&layer, &work.path().join("root"))?;
    run(Command::new("chroot")
        .arg(format!("--userspec={USER}"))
        .arg(&root)
        .args(["/usr/bin/forebay", "check"])
        .args(["--config", "/etc/forebay/forebay.toml"]))?;
    println!("ok     the program runs in it, as {USER}");
    Ok(())
}

fn unpacked(archive: &Path, directory: &Path) -> Outcome<PathBuf> {
    fs::create_dir_all(directory).during(directory.display())?;
    run(Command::new("tar")
        .arg("-C")
        .arg(directory)
        .arg("-xpf")
        .arg(archive))?;
    Ok(directory.to_path_buf())
}

fn run(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().during(&name)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name}: {said}{}", complaint.trim())))
}
