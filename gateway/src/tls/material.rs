//! Certificates and keys as files in PEM, read with words about what is wrong
//! with them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::certificate::Facts;
use super::provider;

/// Largest file that is read. The bundle of a system with all public
/// authorities has 250 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Permission bits that let everybody on the machine read a file.
const MODE_OTHERS_READ: u32 = 0o004;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// It is not there, or not for this process.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is another file than the one that is wanted.
    #[error("{} holds {found}, expected {expected}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// The key and the certificate are not of one pair.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The library does not take it.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What tells two versions of some files apart without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<(u64, i64, i64, u64)>>);

impl Fingerprint {
    /// The files as they are.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |file: &Path| {
            let found = fs::metadata(file).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        };
        Self(files.into_iter().map(look).collect())
    }
}

/// Reads the certificates of a file, at least one, each of which can be parsed.
///
/// # Errors
/// See [`MaterialError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    const EXPECTED: &str = "certificates in PEM (-----BEGIN CERTIFICATE-----)";
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = match certificates {
        Ok(certificates) if !certificates.is_empty() => certificates,
        _ => return Err(other(path, &bytes, EXPECTED)),
    };
    for certificate in &certificates {
        Facts::of(certificate).map_err(|error| MaterialError::Unusable {
            path: path.to_path_buf(),
            reason: format!("a certificate in it cannot be parsed ({error})"),
        })?;
    }
    Ok(certificates)
}

/// Reads the first private key of a file.
///
/// # Errors
/// See [`MaterialError`]. None of them shows what is in the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, MaterialError> {
    const EXPECTED: &str = "a private key in PEM without a password (-----BEGIN PRIVATE KEY-----)";
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| other(path, &bytes, EXPECTED))
}

/// Reads a certificate with its chain and the key that belongs to it.
///
/// # Errors
/// See [`MaterialError`].
pub fn identity(certificate: &Path, key: &Path) -> Result<CertifiedKey, MaterialError> {
    let chain = certificates(certificate)?;
    let secret = private_key(key)?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => MaterialError::Mismatch {
            key: key.to_path_buf(),
            certificate: certificate.to_path_buf(),
        },
        error => MaterialError::Unusable {
            path: key.to_path_buf(),
            reason: error.to_string(),
        },
    })
}

/// Reads the authorities whose certificates are believed.
///
/// # Errors
/// See [`MaterialError`].
pub fn authorities(path: &Path) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    let all = certificates(path)?;
    // A bundle of a system may hold some that the library does not know how to
    // check; the others still count.
    let (taken, _) = roots.add_parsable_certificates(all);
    if taken == 0 {
        return Err(MaterialError::Unusable {
            path: path.to_path_buf(),
            reason: "none of its certificates is one of an authority".to_owned(),
        });
    }
    Ok(roots)
}

/// Reads lists of revoked certificates, at least one, each of which can be used.
///
/// # Errors
/// See [`MaterialError`].
pub fn revocations(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, MaterialError> {
    const EXPECTED: &str = "lists of revoked certificates in PEM (-----BEGIN X509 CRL-----)";
    let bytes = read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        _ => Err(other(path, &bytes, EXPECTED)),
    }
}

/// Whether everybody on the machine can read a file.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    let mode = fs::metadata(path).map(|found| found.permissions().mode());
    mode.is_ok_and(|mode| mode & MODE_OTHERS_READ != 0)
}

fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let unreadable = |source| MaterialError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let len = fs::metadata(path).map_err(unreadable)?.len();
    if len > FILE_BYTES_MAX {
        let reason = format!("{len} bytes, expected at most {FILE_BYTES_MAX}");
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            reason,
        )));
    }
    fs::read(path).map_err(unreadable)
}

/// Says what is in a file that holds something else.
fn other(path: &Path, bytes: &[u8], expected: &'static str) -> MaterialError {
    let section = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).find_map(Result::ok);
    let found = match section {
        _ if is_encrypted(bytes) => "a private key with a password",
        Some((SectionKind::Certificate, _)) => "a certificate",
        Some((
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey,
            _,
        )) => "a private key",
        Some((SectionKind::PublicKey, _)) => "a public key",
        Some((SectionKind::Csr, _)) => "a request for a certificate",
        Some((SectionKind::Crl, _)) => "a list of revoked certificates",
        Some(_) => "something else in PEM",
        // The tag of a sequence, which every certificate and key in DER is.
        None if bytes.first() == Some(&0x30) => "DER (convert it with openssl)",
        None if bytes.is_empty() => "nothing",
        None => "no PEM",
    };
    MaterialError::Other {
        path: path.to_path_buf(),
        found: found.to_owned(),
        expected,
    }
}

fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
