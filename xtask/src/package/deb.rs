//! A Debian package, put together with dpkg-deb from `packaging/deb`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Target;
use super::binary::Glibc;
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// Files of the repository and where the package has them.
const FILES: [(&str, &str); 10] = [
    ("packaging/forebay.toml", "etc/forebay/forebay.toml"),
    (
        "systemd/forebay.service",
        "usr/lib/systemd/system/forebay.service",
    ),
    (
        "systemd/forebay.sysusers",
        "usr/lib/sysusers.d/forebay.conf",
    ),
    (
        "systemd/forebay.tmpfiles",
        "usr/lib/tmpfiles.d/forebay.conf",
    ),
    ("packaging/deb/copyright", "usr/share/doc/forebay/copyright"),
    ("CHANGELOG.md", "usr/share/doc/forebay/changelog.md"),
    (
        "config/gateway.toml",
        "usr/share/doc/forebay/examples/gateway.toml",
    ),
    ("config/hub.toml", "usr/share/doc/forebay/examples/hub.toml"),
    (
        "systemd/examples/serial.conf",
        "usr/share/doc/forebay/examples/serial.conf",
    ),
    (
        "systemd/examples/low-ports.conf",
        "usr/share/doc/forebay/examples/low-ports.conf",
    ),
];

/// Folders whose files are copied as they are.
const FOLDERS: [(&str, &str); 2] = [
    ("docs", "usr/share/doc/forebay"),
    ("config/queries", "usr/share/doc/forebay/examples/queries"),
];

/// Where shells look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/forebay"),
    ("zsh", "usr/share/zsh/vendor-completions/_forebay"),
    ("fish", "usr/share/fish/vendor_completions.d/forebay.fish"),
];

/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// For what is shipped: half a minute of processor for a third less.
pub const SMALL: &str = "-Zxz";

/// For packages that are unpacked on the same machine.
pub const QUICK: &str = "-Znone";

/// What a package is made of.
#[derive(Debug)]
pub struct Package {
    /// The architecture.
    pub target: Target,
    /// The stripped program.
    pub program: PathBuf,
    /// The C library that it needs.
    pub glibc: Glibc,
    /// The version of the package.
    pub version: String,
    /// How dpkg-deb packs it: [`SMALL`] or [`QUICK`].
    pub packing: &'static str,
}

impl Package {
    /// Writes the package into `directory` and returns its path.
    ///
    /// # Errors
    /// A file is missing, or dpkg-deb refuses.
    pub fn write(&self, directory: &Path) -> Outcome<PathBuf> {
        let stage = tempfile::tempdir().during("temporary directory")?;
        let root = stage.path().join("root");
        let mut installed = vec![place(&self.program, &root, "usr/bin/forebay", 0o755)?];
        let repository = repository();
        for (from, to) in FILES {
            installed.push(place(&repository.join(from), &root, to, 0o644)?);
        }
        for (from, to) in FOLDERS {
            for file in files(&repository.join(from))? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                installed.push(place(&file, &root, &format!("{to}/{name}"), 0o644)?);
            }
        }
        installed.extend(self.described(stage.path(), &root)?);
        self.control(&root, &installed)?;
        fs::create_dir_all(directory).during(directory.display())?;
        let name = format!("forebay_{}_{}.deb", self.version, self.target);
        let package = directory.join(name);
        let output = Command::new("dpkg-deb")
            .args(["--root-owner-group", self.packing, "--build"])
            .args([&root, &package])
            .env("SOURCE_DATE_EPOCH", last_change())
            .output()
            .during("dpkg-deb")?;
        if output.status.success() {
            Ok(package)
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(format!("dpkg-deb: {}", said.trim())))
        }
    }

    /// Completions and manual pages, which the program writes itself: one for
    /// another processor under the emulator of its target.
    fn described(&self, stage: &Path, root: &Path) -> Outcome<Vec<PathBuf>> {
        let run = |arguments: &[&str]| {
            let mut command = match self.target.emulator() {
                [] => Command::new(&self.program),
                [emulator, options @ ..] => {
                    let mut command = Command::new(emulator);
                    command.args(options).arg(&self.program);
                    command
                }
            };
            let output = command.args(arguments).output();
            output.ok().filter(|output| output.status.success())
        };
        let pages = stage.join("pages");
        let Some(_) = run(&["manual", "--dir", &pages.to_string_lossy()]) else {
            println!(
                "no manual pages: a program for {} does not run here",
                self.target
            );
            return Ok(Vec::new());
        };
        let mut installed = Vec::new();
        for page in files(&pages)? {
            let mut gzip = Command::new("gzip");
            let zipped = gzip
                .args(["-9n", "--stdout"])
                .arg(&page)
                .output()
                .during("gzip")?;
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            let to = format!("usr/share/man/man1/{name}.gz");
            installed.push(put(&zipped.stdout, root, &to)?);
        }
        for (shell, to) in COMPLETIONS {
            if let Some(script) = run(&["completions", shell]) {
                installed.push(put(&script.stdout, root, to)?);
            }
        }
        Ok(installed)
    }

    fn control(&self, root: &Path, installed: &[PathBuf]) -> Outcome {
        let source = repository().join("packaging/deb");
        let mut bytes = 0;
        let mut sums = String::new();
        for file in installed {
            bytes += fs::metadata(file).during(file.display())?.len();
            let path = file.strip_prefix(root).unwrap_or(file).display();
            // The format of md5sums, which debsums reads.
            writeln!(sums, "{}  {path}", md5(file)?).during("md5sums")?;
        }
        let control = source.join("control");
        let control = fs::read_to_string(&control)
            .during(control.display())?
            .replace("@VERSION@", &self.version)
            .replace("@ARCHITECTURE@", &self.target.to_string())
            .replace("@INSTALLED_SIZE@", &bytes.div_ceil(1024).to_string())
            .replace("@GLIBC@", &self.glibc.to_string());
        let directory = root.join("DEBIAN");
        fs::create_dir_all(&directory).during(directory.display())?;
        fs::write(directory.join("control"), control).during("control")?;
        fs::write(directory.join("md5sums"), sums).during("md5sums")?;
        place(&source.join("conffiles"), root, "DEBIAN/conffiles", 0o644)?;
        for script in SCRIPTS {
            place(
                &source.join(script),
                root,
                &format!("DEBIAN/{script}"),
                0o755,
            )?;
        }
        Ok(())
    }
}

/// Writes a file of the package.
fn put(content: &[u8], root: &Path, to: &str) -> Outcome<PathBuf> {
    let path = root.join(to);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).during(parent.display())?;
    }
    fs::write(&path, content).during(path.display())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).during(path.display())?;
    Ok(path)
}

/// Copies `from` to `to` below `root`, with the directories above it.
fn place(from: &Path, root: &Path, to: &str, mode: u32) -> Outcome<PathBuf> {
    let file = root.join(to);
    let mut directory = root.to_path_buf();
    for part in Path::new(to).parent().into_iter().flat_map(Path::iter) {
        directory.push(part);
        fs::create_dir_all(&directory).during(directory.display())?;
        set_mode(&directory, 0o755)?;
    }
    fs::copy(from, &file).during(from.display())?;
    set_mode(&file, mode)?;
    Ok(file)
}

fn set_mode(path: &Path, mode: u32) -> Outcome {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(path.display())
}

/// The files of a folder, by name, so that a package is the same each time.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).during(folder.display())? {
        let path = entry.during(folder.display())?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn md5(file: &Path) -> Outcome<String> {
    let output = Command::new("md5sum").arg(file).output().during("md5sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.split(' ').next().filter(|sum| sum.len() == 32);
    sum.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("md5sum {}: no sum", file.display())))
}

/// The time of the last commit, which dates the files of the package; where
/// there is no history, that of the changelog would be a guess and 1970 is not.
fn last_change() -> String {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given;
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(repository());
    let output = git.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    if text.is_empty() {
        "0".to_owned()
    } else {
        text
    }
}
