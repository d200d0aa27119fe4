//! `forebay opcua`: the certificates of the gateway, and whom it trusts.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use forebay_opcua::certificates::{self, Cert, Pki};
use serde_json::json;

use super::{CommandError, print_json};
use crate::config::Config;
use crate::opcua::plan::pki_dir;

/// Digits of a fingerprint in a command: enough to tell all certificates of a
/// plant apart.
const SHORT_DIGITS: usize = 16;

/// See the certificates, and trust a server.
#[derive(Debug, Subcommand)]
pub enum OpcUaCommand {
    /// List the gateway's certificate, those that are trusted and those that were rejected
    #[command(after_help = "Example:
  forebay opcua certificates

Rejected certificates are listed with the command that trusts them. Compare the
fingerprint with the one that the server itself shows before you run it.")]
    Certificates(CertificatesArgs),
    /// Trust a certificate that was rejected
    #[command(after_help = "Example:
  forebay opcua trust 3fb1c2d4e5a69788

The gateway connects with its next attempt, within a minute; nothing is restarted.
To trust all servers of a certificate authority, put its certificate into the
folder `trusted` that `forebay opcua certificates` names.")]
    Trust(TrustArgs),
}

/// Where the certificates are.
#[derive(Debug, Args)]
struct FileArgs {
    /// The gateway's TOML file: its data_dir has the certificates
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "/etc/forebay/forebay.toml"
    )]
    config: PathBuf,
}

/// Arguments of `opcua certificates`.
#[derive(Debug, Args)]
pub struct CertificatesArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `opcua trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The fingerprint, or at least its first 8 digits
    fingerprint: String,
    #[command(flatten)]
    file: FileArgs,
}

/// Runs one of them.
///
/// # Errors
/// The configuration or the certificates cannot be read, or no rejected
/// certificate has the fingerprint.
pub async fn execute(command: OpcUaCommand) -> Result<bool, CommandError> {
    match command {
        OpcUaCommand::Certificates(args) => {
            let (_, folder) = folder(&args.file)?;
            let shown = Shown::read(&folder)?;
            if args.json {
                print_json(&shown.json())?;
            } else {
                let now = SystemTime::now();
                let text = shown.render(now, &args.file.config);
                io::stdout().lock().write_all(text.as_bytes())?;
            }
        }
        OpcUaCommand::Trust(args) => {
            let (data_dir, folder) = folder(&args.file)?;
            let cert = trust(&folder, &args.fingerprint)?;
            hand_over(&data_dir)?;
            writeln!(
                io::stdout(),
                "trusted: {}\n  fingerprint {}\nThe gateway connects with its next attempt, within a minute.",
                cert.subject(),
                cert.fingerprint()
            )?;
        }
    }
    Ok(true)
}

/// The data directory of a gateway and the folder of certificates in it.
fn folder(args: &FileArgs) -> Result<(PathBuf, PathBuf), CommandError> {
    let config = Config::load(&args.config).map_err(|error| {
        CommandError::Usage(format!("{error}\n--config names the gateway's file"))
    })?;
    let folder = pki_dir(&config.node.data_dir);
    if folder.is_dir() {
        return Ok((config.node.data_dir, folder));
    }
    let place = folder.display();
    let sentence = format!(
        "no certificates yet: the gateway makes {place} when it runs with an [[opcua]] section"
    );
    Err(CommandError::Usage(sentence))
}

fn usage(error: impl ToString) -> CommandError {
    CommandError::Usage(error.to_string())
}

/// Trusts a rejected certificate.
fn trust(folder: &Path, fingerprint: &str) -> Result<Cert, CommandError> {
    let pki = Pki::open(folder).map_err(usage)?;
    pki.trust(fingerprint).map_err(usage)
}

/// Gives the certificates to whom the data directory belongs. Without it the
/// gateway could not read what root trusted, or made by asking a server before
/// the gateway did.
///
/// # Errors
/// A file cannot be looked at or given.
pub(super) fn hand_over(data_dir: &Path) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() || !pki_dir(data_dir).is_dir() {
        return Ok(());
    }
    give(data_dir).map_err(|error| {
        let place = data_dir.display();
        CommandError::Usage(format!(
            "the certificates in {place} cannot be given to its owner: {error}"
        ))
    })
}

fn give(data_dir: &Path) -> io::Result<()> {
    let owner = rustix::fs::stat(data_dir)?;
    let mut waiting = vec![data_dir.join("opcua")];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata()?;
        if metadata.uid() != owner.st_uid {
            let user = rustix::fs::Uid::from_raw(owner.st_uid);
            let group = rustix::fs::Gid::from_raw(owner.st_gid);
            let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(rustix::fs::CWD, &path, Some(user), Some(group), nofollow)?;
        }
        if metadata.is_dir() {
            for entry in path.read_dir()? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// What is in the folder.
struct Shown {
    folder: PathBuf,
    own: Option<(PathBuf, Cert)>,
    trusted: Vec<Cert>,
    rejected: Vec<Cert>,
}

impl Shown {
    fn read(folder: &Path) -> Result<Self, CommandError> {
        let pki = Pki::open(folder).map_err(usage)?;
        let path = folder.join("own").join("cert.der");
        let own = match path.is_file() {
            true => certificates::read(&path).map_err(usage)?.into_iter().next(),
            false => None,
        };
        let rejected = pki.rejected().map_err(usage)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            own: own.map(|cert| (path, cert)),
            trusted: pki.trusted().map_err(usage)?,
            rejected: rejected.into_iter().map(|(_, cert)| cert).collect(),
        })
    }

    fn render(&self, now: SystemTime, config: &Path) -> String {
        let mut lines = Vec::new();
        match &self.own {
            Some((path, cert)) => {
                lines.push(format!("own      {}", path.display()));
                lines.extend(entry(cert, now));
                lines.push("         Give this file to servers that ask for it.".to_owned());
            }
            None => lines.push("own      none yet: made when the first session starts".to_owned()),
        }
        let trusted = self.folder.join("trusted");
        lines.push(format!(
            "trusted  {} in {}",
            self.trusted.len(),
            trusted.display()
        ));
        for cert in &self.trusted {
            lines.extend(entry(cert, now));
        }
        lines.push(format!("rejected {}", self.rejected.len()));
        for cert in &self.rejected {
            lines.extend(entry(cert, now));
            let fingerprint = cert.fingerprint();
            let short = &fingerprint[..SHORT_DIGITS];
            lines.push(format!(
                "         to trust it: forebay opcua trust {short} --config {}",
                config.display()
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self) -> serde_json::Value {
        let one = |cert: &Cert| {
            json!({
                "fingerprint": cert.fingerprint(),
                "subject": cert.subject(),
                "days_left": cert.days_left(SystemTime::now()),
            })
        };
        let all = |certs: &[Cert]| certs.iter().map(one).collect::<Vec<_>>();
        let own = self.own.as_ref().map(|(path, cert)| {
            let mut own = one(cert);
            own["file"] = path.display().to_string().into();
            own
        });
        json!({ "own": own, "trusted": all(&self.trusted), "rejected": all(&self.rejected) })
    }
}

fn entry(cert: &Cert, now: SystemTime) -> [String; 2] {
    let life = match cert.days_left(now) {
        days if days < 0 => "expired".to_owned(),
        days => format!("{days} days left"),
    };
    [
        format!("         {} ({life})", cert.subject()),
        format!("         SHA-256 {}", cert.fingerprint()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_certificate_is_listed_with_the_command_that_trusts_it() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let now = SystemTime::now();
        let other = Pki::open(&there).unwrap().own(now).unwrap().cert;
        let pki = Pki::open(&here).unwrap();
        let config = Path::new("/etc/forebay/forebay.toml");
        let before = Shown::read(&here).unwrap().render(now, config);
        assert!(before.contains("none yet"), "{before}");
        let own = pki.own(now).unwrap();
        pki.reject(&other).unwrap();
        let text = Shown::read(&here).unwrap().render(now, config);
        assert!(
            text.contains(&own.cert_path.display().to_string()),
            "{text}"
        );
        assert!(text.contains(&format!("SHA-256 {}", own.cert.fingerprint())));
        let words = "forebay opcua trust ";
        let (_, command) = text.split_once(words).expect("a command");
        let fingerprint = command.split_whitespace().next().unwrap();
        assert!(other.fingerprint().starts_with(fingerprint));
        assert_eq!(trust(&here, fingerprint).unwrap(), other);
        let shown = Shown::read(&here).unwrap();
        assert_eq!((shown.trusted, shown.rejected), (vec![other], vec![]));
        assert!(trust(&here, fingerprint).is_err());
    }

    #[test]
    fn what_root_made_belongs_to_whom_the_data_directory_belongs_to() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = pki_dir(dir.path());
        let own = Pki::open(&folder).unwrap().own(SystemTime::now()).unwrap();
        hand_over(dir.path()).unwrap();
        let uid = |path: &Path| path.metadata().unwrap().uid();
        assert_eq!(uid(&own.key_path), 0);
        let [user, group] = [65_534; 2];
        std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.join("trusted/link")).unwrap();
        hand_over(dir.path()).unwrap();
        for path in [&dir.path().join("opcua"), &folder, &own.key_path] {
            assert_eq!(uid(path), user, "{}", path.display());
        }
        assert_eq!(uid(Path::new("/etc")), 0);
        assert_eq!(
            uid(&folder.join("trusted/link")),
            0,
            "its target is not ours"
        );
    }
}
