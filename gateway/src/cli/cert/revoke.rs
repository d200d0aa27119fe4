//! `forebay cert revoke`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use super::{CERTIFICATE_MODE, DirArgs, Workshop, failed, files, parse_name, put};
use crate::cli::{CommandError, print_json};

/// The list of the authority.
const LIST: &str = "ca.crl";

/// Arguments of `cert revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The name of the client, as in `cert client`
    #[arg(value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    at: DirArgs,
}

#[derive(Debug, Serialize)]
struct Revoked<'a> {
    name: &'a str,
    certificate: &'a Path,
    list: &'a Path,
}

/// Puts a certificate on the list of the authority.
pub(super) fn execute(args: &RevokeArgs) -> Result<bool, CommandError> {
    let dir = &args.at.dir;
    let workshop = Workshop::open(dir)?;
    let [certificate, _] = files(dir, &args.name);
    let list = dir.join(LIST);
    let text = std::fs::read_to_string(&certificate)
        .map_err(|error| failed("read", &certificate, &error))?;
    let so_far = match std::fs::read_to_string(&list) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", &list, &error)),
    };
    let revoked = workshop
        .authority
        .revoke(&text, so_far.as_deref(), SystemTime::now())
        .map_err(|error| CommandError::Usage(format!("{}: {error}", certificate.display())))?;
    put(&list, &revoked, CERTIFICATE_MODE, None, true)?;
    tell(args, &certificate, &list, so_far.is_none())?;
    Ok(true)
}

fn tell(
    args: &RevokeArgs,
    certificate: &PathBuf,
    list: &Path,
    is_new: bool,
) -> Result<(), CommandError> {
    if args.at.json {
        return print_json(&Revoked {
            name: &args.name,
            certificate,
            list,
        });
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} is on the list {}; connections that are open stay open",
        certificate.display(),
        list.display()
    )?;
    if is_new {
        let shown = list.display().to_string();
        writeln!(
            out,
            "\nFor [tls] in the config file of each node, which is then restarted once:\n\n\
             client_crl = {shown:?}"
        )?;
    }
    Ok(())
}
