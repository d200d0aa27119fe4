//! `[tls]`: the node's own certificate, and the tables by which its clients
//! check others.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::section::Section;
use crate::tls::certificate::Facts;
use crate::tls::material;

/// `[tls]`: what the node shows on every `tls_listen` address, and asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The file with the certificate and its chain.
    pub certificate: PathBuf,
    /// The file with the key of the certificate.
    pub key: PathBuf,
    /// The file with the authorities of client certificates. `None`: clients are
    /// not asked for one.
    pub client_ca: Option<PathBuf>,
    /// The file with lists of client certificates that do not count any more.
    pub client_crl: Option<PathBuf>,
    /// Whether a client has to have a certificate.
    pub client_certificates: ClientCertificates,
}

/// `tls.client_certificates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A client that has none is served as well.
    Optional,
    /// A client that has none gets no connection.
    Required,
}

const CERTIFICATE: &str = "expected the file of the certificate in PEM, such as \"tls/server.crt\"";
const KEY: &str = "expected the file of the key in PEM, such as \"tls/server.key\"";
const AUTHORITIES: &str = "expected the file of the authorities in PEM, such as \"tls/ca.crt\"";
const REVOCATIONS: &str =
    "expected the file of revoked certificates in PEM, such as \"tls/ca.crl\"";

/// Reads `[tls]`.
pub(super) fn tls(root: &Section<'_>) -> Option<Tls> {
    let section = root.table("tls");
    let pair = pair(&section);
    let client_ca = authorities(&section, "client_ca");
    let client_certificates = section.word(
        "client_certificates",
        &[
            ("optional", ClientCertificates::Optional),
            ("required", ClientCertificates::Required),
        ],
    );
    if section.has("client_certificates") && !section.has("client_ca") {
        section.mistake(
            "client_certificates",
            "expected `tls.client_ca` beside it: client certificates are checked against its authorities",
        );
    }
    let client_crl = section.text("client_crl", REVOCATIONS, |text| {
        let file = section.directory().join(text);
        material::revocations(&file).map_err(|error| error.to_string())?;
        Ok(file)
    });
    if section.has("client_crl") && !section.has("client_ca") {
        section.mistake(
            "client_crl",
            "expected `tls.client_ca` beside it: the lists are of its authorities",
        );
    }
    section.finish();
    if !section.is_present() {
        return None;
    }
    section.missing("certificate", CERTIFICATE);
    section.missing("key", KEY);
    let (certificate, key) = pair?;
    Some(Tls {
        certificate,
        key,
        client_ca,
        client_crl,
        client_certificates: client_certificates.unwrap_or(ClientCertificates::Optional),
    })
}

/// Reads `certificate` and `key` and looks whether they belong together.
fn pair(section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.text("certificate", CERTIFICATE, |text| {
        let file = section.directory().join(text);
        let chain = material::certificates(&file).map_err(|error| error.to_string())?;
        Ok((file, chain))
    });
    let key = section.text("key", KEY, |text| {
        let file = section.directory().join(text);
        material::private_key(&file).map_err(|error| error.to_string())?;
        Ok(file)
    });
    if let Some((_, chain)) = &certificate {
        let facts = chain.iter().filter_map(|one| Facts::of(one).ok());
        if let Some(alarm) = facts
            .filter_map(|f| f.expiry_alarm(SystemTime::now()))
            .next()
        {
            section.warn("certificate", format!("the certificate {alarm}"));
        }
    }
    if let Some(file) = &key
        && material::is_open_to_others(file)
    {
        section.warn(
            "key",
            "everybody on this machine can read the key: chmod o-rwx it",
        );
    }
    let ((certificate, _), key) = (certificate?, key?);
    match material::identity(&certificate, &key) {
        Ok(_) => Some((certificate, key)),
        Err(error) => {
            section.mistake("key", error.to_string());
            None
        }
    }
}

fn authorities(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.text(key, AUTHORITIES, |text| {
        let file = section.directory().join(text);
        material::authorities(&file).map_err(|error| error.to_string())?;
        Ok(file)
    })
}

/// The authorities that Debian's package ca-certificates keeps.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `tls = { ... }` of a connection that the node opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The file of the authorities that are believed. `None`: those of the
    /// system.
    pub ca: Option<PathBuf>,
    /// The file of the own certificate, when there is one.
    pub certificate: Option<PathBuf>,
    /// The file of its key.
    pub key: Option<PathBuf>,
    /// The name that the certificate of the other side is for. `None`: the host
    /// that is connected to.
    pub server_name: Option<String>,
}

/// Reads the table `tls` of a section. An empty one asks for TLS with the
/// authorities of the system.
pub(super) fn client_tls(of: &Section<'_>) -> Option<ClientTls> {
    let section = of.table("tls");
    let has_pair = section.has("certificate") || section.has("key");
    let pair = pair(&section);
    let ca = authorities(&section, "ca");
    let server_name = section.text("server_name", NAME, |text| {
        rustls::pki_types::ServerName::try_from(text)
            .map(|_| text.to_owned())
            .map_err(|_| NAME.to_owned())
    });
    section.finish();
    if !section.is_present() {
        return None;
    }
    if has_pair {
        section.missing("certificate", CERTIFICATE);
        section.missing("key", KEY);
    }
    if !section.has("ca") && material::authorities(Path::new(SYSTEM_AUTHORITIES)).is_err() {
        of.mistake(
            "tls",
            format!("expected `ca`: this machine has no authorities in {SYSTEM_AUTHORITIES} (Debian: package ca-certificates)"),
        );
    }
    let (certificate, key) = pair.unzip();
    Some(ClientTls {
        ca,
        certificate,
        key,
        server_name,
    })
}

const NAME: &str =
    "expected the host name that the certificate is for, such as \"hub.plant.example\"";
