//! `forebay cert`: certificates for a plant that has no authority of its own.
//!
//! Everything lies in one directory: `ca.crt` and `ca.key`, the authority;
//! `server.crt` and `server.key`, the node; `NAME.crt` and `NAME.key`, each
//! client. Nothing that is there is written over.

mod revoke;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use rustix::fs::Gid;
use rustix::system::uname;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use super::{CommandError, print_json};
use crate::tls::authority::{
    Authority, AuthorityError, CERTIFICATE_LIFETIME, Issued, Purpose, Wanted,
};
use crate::tls::certificate::Facts;

/// Keys are for their owner.
const KEY_MODE: u32 = 0o600;
/// Certificates are shown to everybody who connects.
const CERTIFICATE_MODE: u32 = 0o644;
/// The directory of keys.
const DIR_MODE: u32 = 0o700;

/// Longest name of a client: a common name has at most 64 characters.
const NAME_MAX: usize = 64;

const CA: &str = "ca";
const SERVER: &str = "server";

/// `forebay cert`.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make an authority, a certificate for this node, and some for clients
    #[command(after_help = "Examples:
  forebay cert init --dir /etc/forebay/tls --name hub --name 10.0.0.5
  forebay cert init --dir tls --client press-1 --client mia

Prints the lines for the config file and what a client needs. Nothing that is
there already is written over. The authority counts for ten years, the
certificates for two. As root, the key of the node is for the group of the
directory above, which is the service's in a package.")]
    Init(InitArgs),
    /// Make a certificate for one more client, by the same authority
    #[command(after_help = "Example:
  forebay cert client press-2 --dir /etc/forebay/tls")]
    Client(ClientArgs),
    /// Make a certificate for a node, by the same authority: renew it, or for
    /// another machine
    #[command(after_help = "Examples:
  forebay cert server --dir /etc/forebay/tls --name hub --replace
  forebay cert server --dir tls --as hub-2 --name hub-2 --name 10.0.0.6

A running node takes a replaced certificate up by itself.")]
    Server(ServerArgs),
    /// Take the certificate of a client back: put it on the list `ca.crl`
    #[command(after_help = "Example:
  forebay cert revoke press-1 --dir /etc/forebay/tls

A running node that has the list as tls.client_crl takes it up by itself and
refuses the certificate from then on. To close connections as well, disable the
user: forebay user disable press-1")]
    Revoke(revoke::RevokeArgs),
}

/// Where the files are.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// The directory of the files
    #[arg(long, value_name = "DIR", default_value = "tls")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `cert init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    at: DirArgs,
    /// A host name or address by which clients reach this node; may be given
    /// several times. This machine's name, localhost and 127.0.0.1 are among
    /// them
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The name of a client, its CN; may be given several times
    #[arg(long = "client", value_name = "NAME", value_parser = parse_name)]
    clients: Vec<String>,
}

/// Arguments of `cert client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The name of the client, its CN
    #[arg(value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    at: DirArgs,
}

/// Arguments of `cert server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    #[command(flatten)]
    at: DirArgs,
    /// A host name or address by which clients reach the node; may be given
    /// several times
    #[arg(long = "name", value_name = "HOST", required = true)]
    names: Vec<String>,
    /// The name of the files
    #[arg(long = "as", value_name = "FILE", default_value = SERVER, value_parser = parse_name)]
    file: String,
    /// Write over the certificate and key that are there
    #[arg(long)]
    replace: bool,
}

/// What was made.
#[derive(Debug, Default, Serialize)]
struct Made {
    /// Whether the authority is new, too.
    is_new: bool,
    /// The directory.
    dir: PathBuf,
    /// The authority, which clients believe.
    ca: PathBuf,
    /// Certificates with their keys.
    certificates: Vec<MadeCertificate>,
}

#[derive(Debug, Serialize)]
struct MadeCertificate {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    subject: String,
    names: Vec<String>,
    /// In seconds since the Unix epoch.
    expires_at: u64,
}

/// Runs one of the commands.
///
/// # Errors
/// A file is there already, or cannot be written.
pub async fn execute(command: CertCommand) -> Result<bool, CommandError> {
    match command {
        CertCommand::Init(args) => init(&args),
        CertCommand::Revoke(args) => revoke::execute(&args),
        CertCommand::Client(args) => {
            let mut workshop = Workshop::open(&args.at.dir)?;
            workshop.make(&args.name, &args.name, &[], Purpose::Client, false)?;
            workshop.tell(args.at.json)
        }
        CertCommand::Server(args) => {
            let mut workshop = Workshop::open(&args.at.dir)?;
            let common_name = args.names.first().map_or(SERVER, String::as_str);
            let purpose = Purpose::Server;
            workshop.make(&args.file, common_name, &args.names, purpose, args.replace)?;
            workshop.tell(args.at.json)
        }
    }
}

fn init(args: &InitArgs) -> Result<bool, CommandError> {
    let names = server_names(&args.names);
    let mut workshop = Workshop::create(&args.at.dir, &names[0])?;
    workshop.make(SERVER, &names[0], &names, Purpose::Server, false)?;
    for client in &args.clients {
        workshop.make(client, client, &[], Purpose::Client, false)?;
    }
    workshop.made.is_new = true;
    workshop.tell(args.at.json)
}

/// What was asked for, then what works on every machine.
fn server_names(asked: &[String]) -> Vec<String> {
    let mut names = asked.to_vec();
    let host = uname().nodename().to_string_lossy().into_owned();
    // A machine may have a name that no certificate can be for.
    let host = rustls::pki_types::DnsName::try_from(host.as_str())
        .is_ok()
        .then_some(host);
    let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    for name in host.into_iter().chain(usual) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The authority in its directory.
struct Workshop {
    authority: Authority,
    made: Made,
}

impl Workshop {
    fn create(dir: &Path, name: &str) -> Result<Self, CommandError> {
        make_dir(dir).map_err(|error| failed("create the directory", dir, &error))?;
        let subject: String = format!("Forebay CA of {name}")
            .chars()
            .take(NAME_MAX)
            .collect();
        let (authority, issued) =
            Authority::create(&subject, SystemTime::now()).map_err(refused)?;
        for file in [CA, SERVER] {
            refuse_existing(dir, file)?;
        }
        write(dir, CA, &issued, false, false)?;
        Ok(Self::new(dir, authority))
    }

    fn open(dir: &Path) -> Result<Self, CommandError> {
        let read = |file: PathBuf| {
            std::fs::read_to_string(&file).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => CommandError::Usage(format!(
                    "there is no {}; forebay cert init --dir {} makes an authority",
                    file.display(),
                    dir.display()
                )),
                _ => failed("read", &file, &error),
            })
        };
        let [certificate, key] = files(dir, CA);
        let authority = Authority::open(&read(certificate)?, &read(key)?);
        Ok(Self::new(dir, authority.map_err(refused)?))
    }

    fn new(dir: &Path, authority: Authority) -> Self {
        let [ca, _] = files(dir, CA);
        Self {
            authority,
            made: Made {
                is_new: false,
                dir: dir.to_path_buf(),
                ca,
                certificates: Vec::new(),
            },
        }
    }

    fn make(
        &mut self,
        file: &str,
        common_name: &str,
        names: &[String],
        purpose: Purpose,
        replaces: bool,
    ) -> Result<(), CommandError> {
        if file == CA || (file == SERVER && purpose == Purpose::Client) {
            return Err(CommandError::Usage(format!(
                "{file:?} is not the name of a client: its files would be those of the {}",
                if file == CA { "authority" } else { "node" }
            )));
        }
        let dir = self.made.dir.clone();
        if !replaces {
            refuse_existing(&dir, file)?;
        }
        let wanted = Wanted {
            common_name,
            names,
            purpose,
            now: SystemTime::now(),
            lifetime: CERTIFICATE_LIFETIME,
        };
        let issued = self.authority.issue(&wanted).map_err(refused)?;
        write(&dir, file, &issued, purpose == Purpose::Server, replaces)?;
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
        let facts = der.ok().and_then(|der| Facts::of(&der).ok());
        let facts = facts.ok_or_else(|| {
            CommandError::Usage("the certificate that was made cannot be read".to_owned())
        })?;
        let expires = facts.not_after.duration_since(SystemTime::UNIX_EPOCH);
        let [certificate, key] = files(&dir, file);
        self.made.certificates.push(MadeCertificate {
            name: file.to_owned(),
            certificate,
            key,
            subject: facts.subject,
            names: facts.names,
            expires_at: expires.unwrap_or_default().as_secs(),
        });
        Ok(())
    }

    fn tell(&self, json: bool) -> Result<bool, CommandError> {
        if json {
            print_json(&self.made)?;
        } else {
            let text = render(&self.made);
            io::stdout().lock().write_all(text.as_bytes())?;
        }
        Ok(true)
    }
}

fn render(made: &Made) -> String {
    let mut text = String::new();
    for one in &made.certificates {
        let names = match one.names.is_empty() {
            true => String::new(),
            false => format!(" for {}", one.names.join(", ")),
        };
        let file = one.certificate.display();
        text.push_str(&format!("made {file} ({}){names}\n", one.subject));
    }
    if made.is_new {
        text.push_str(&config_lines(&made.dir));
    }
    let ca = made.ca.display();
    for client in made.certificates.iter().filter(|one| one.names.is_empty()) {
        let (name, file, key) = (
            &client.name,
            client.certificate.display(),
            client.key.display(),
        );
        text.push_str(&format!(
            "\nFor {name}, on a way that nobody reads along:\n  {ca}\n  {file}\n  {key}\n\
             as in\n  mosquitto_pub --cafile ca.crt --cert {name}.crt --key {name}.key -h HOST -p 8883 -t a/b -m 1\n"
        ));
    }
    if made.is_new {
        let dir = made.dir.display();
        text.push_str(&format!(
            "\nClients believe {ca}. One that is to show who it is gets a certificate:\n  \
             forebay cert client NAME --dir {dir}\n\
             Whoever has {} makes certificates that all of them believe: keep it apart.\n",
            made.ca.with_extension("key").display()
        ));
    }
    text
}

fn config_lines(dir: &Path) -> String {
    let shown = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "\nFor the config file, whose directory relative names start from:\n\n\
         [tls]\ncertificate = {}\nkey = {}\nclient_ca = {}\n\n\
         # and where it is to be shown:\n\
         # [mqtt]   tls_listen = \"0.0.0.0:8883\"\n\
         # [kafka]  tls_listen = \"0.0.0.0:9093\"  tls_advertise = \"HOST:9093\"\n\
         # [http]   tls_listen = \"0.0.0.0:8443\"\n",
        shown("server.crt"),
        shown("server.key"),
        shown("ca.crt"),
    )
}

fn parse_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = (1..=NAME_MAX).contains(&text.len()) && text.chars().all(allowed);
    match is_name && !text.starts_with('.') {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected 1 to {NAME_MAX} letters, digits, '.', '_' and '-', which are also the name of a file"
        )),
    }
}

fn files(dir: &Path, name: &str) -> [PathBuf; 2] {
    ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")))
}

fn refuse_existing(dir: &Path, name: &str) -> Result<(), CommandError> {
    match files(dir, name).into_iter().find(|file| file.exists()) {
        None => Ok(()),
        Some(file) => Err(CommandError::Usage(format!(
            "{} is there already and is not written over; nothing was made",
            file.display()
        ))),
    }
}

/// Writes the key, then the certificate, each whole or not at all.
fn write(
    dir: &Path,
    name: &str,
    issued: &Issued,
    for_node: bool,
    replaces: bool,
) -> Result<(), CommandError> {
    let [certificate, key] = files(dir, name);
    let reader = for_node.then(|| reader_group(dir)).flatten();
    put(&key, &issued.key, KEY_MODE, reader, replaces)?;
    put(
        &certificate,
        &issued.certificate,
        CERTIFICATE_MODE,
        None,
        replaces,
    )
}

fn put(
    file: &Path,
    text: &str,
    mode: u32,
    reader: Option<Gid>,
    replaces: bool,
) -> Result<(), CommandError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = file.with_file_name(format!(".{name}.new"));
    let written = || {
        // What an interrupted run left.
        let _ = std::fs::remove_file(&fresh);
        let mut options = OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&fresh)?;
        out.write_all(text.as_bytes())?;
        if let Some(group) = reader {
            rustix::fs::fchown(&out, None, Some(group))?;
            rustix::fs::fchmod(&out, rustix::fs::Mode::from_raw_mode(mode | 0o040))?;
        }
        match replaces {
            true => std::fs::rename(&fresh, file),
            // Fails when the file has appeared meanwhile.
            false => std::fs::hard_link(&fresh, file),
        }
    };
    let written = written().map_err(|error| failed("write", file, &error));
    let _ = std::fs::remove_file(&fresh);
    written
}

/// The group that is to read the node's key: as root, that of the directory
/// above, which in a package is the service's.
fn reader_group(dir: &Path) -> Option<Gid> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let above = std::path::absolute(dir).ok()?;
    let found = rustix::fs::stat(above.parent()?).ok()?;
    (found.st_gid != 0).then(|| Gid::from_raw(found.st_gid))
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(DIR_MODE).create(dir)?;
    if let Some(group) = reader_group(dir) {
        rustix::fs::chown(dir, None, Some(group))?;
        let mode = rustix::fs::Mode::from_raw_mode(DIR_MODE | 0o050);
        rustix::fs::chmod(dir, mode)?;
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::Usage(format!("cannot {what} {}: {error}", path.display()))
}

fn refused(error: AuthorityError) -> CommandError {
    CommandError::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn init_in(dir: &Path, clients: &[&str]) -> Result<bool, CommandError> {
        init(&InitArgs {
            at: DirArgs {
                dir: dir.to_path_buf(),
                json: true,
            },
            names: vec!["hub".to_owned(), "10.0.0.5".to_owned()],
            clients: clients.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn read(dir: &Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn what_is_there_is_never_written_over_and_keys_are_for_their_owner() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("tls");
        init_in(&dir, &["press-1"]).unwrap();
        let before = read(&dir, "ca.key");
        for key in ["ca.key", "server.key", "press-1.key"] {
            let mode = std::fs::metadata(dir.join(key))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o007, 0, "{key} has mode {mode:o}");
        }
        let error = init_in(&dir, &[]).unwrap_err().to_string();
        assert!(error.contains("ca.crt is there already"), "{error}");
        assert_eq!(read(&dir, "ca.key"), before);
        let mut workshop = Workshop::open(&dir).unwrap();
        let again = workshop.make("press-1", "press-1", &[], Purpose::Client, false);
        assert!(
            again
                .unwrap_err()
                .to_string()
                .contains("press-1.crt is there already")
        );
        for taken in ["ca", "server"] {
            let made = workshop.make(taken, taken, &[], Purpose::Client, false);
            assert!(
                made.unwrap_err()
                    .to_string()
                    .contains("is not the name of a client")
            );
        }
        let names: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }

    #[test]
    fn the_certificates_work_with_each_other() {
        use crate::tls::material;
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("tls");
        init_in(&dir, &[]).unwrap();
        let mut workshop = Workshop::open(&dir).unwrap();
        workshop
            .make("mia", "mia", &[], Purpose::Client, false)
            .unwrap();
        let replaced = read(&dir, "server.crt");
        let names = ["hub".to_owned()];
        workshop
            .make(SERVER, "hub", &names, Purpose::Server, true)
            .unwrap();
        assert_ne!(read(&dir, "server.crt"), replaced);
        for name in ["server", "mia"] {
            let [certificate, key] = files(&dir, name);
            material::identity(&certificate, &key).unwrap();
        }
        material::authorities(&dir.join("ca.crt")).unwrap();
        let text = render(&workshop.made);
        assert!(
            text.contains("(CN=mia)\n") && text.contains("--cert mia.crt"),
            "{text}"
        );
        let missing = Workshop::open(scratch.path()).err().unwrap().to_string();
        assert!(missing.contains("forebay cert init --dir"), "{missing}");
    }

    #[test]
    fn a_name_is_a_file_and_a_common_name() {
        assert!(parse_name("press-1.hall_2").is_ok());
        for wrong in ["", "../x", "a b", ".hidden", &"x".repeat(65)] {
            assert!(parse_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
