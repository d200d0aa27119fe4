//! Certificates: our own, those that are trusted, those that were rejected.
//!
//! ```text
//! pki/own/cert.der, own/key.pem   this gateway; hand cert.der to servers
//! pki/trusted/                    servers and authorities that are trusted
//! pki/rejected/                   what was seen and is not trusted
//! pki/pinned/NAME/                the certificate of the session that is open
//! ```
//!
//! A certificate is trusted by its content: the file's name means nothing. In
//! `trusted`, a certificate of a server trusts that server and one of an
//! authority trusts what the authority issued; `.der`, `.cer`, `.crt` and
//! `.pem` are read. Certificates are checked here and not by the library, whose
//! one switch for the host name also drops validity and application URI, and
//! which knows no authorities. What was checked is pinned: the library then
//! takes this certificate and no other.

mod check;
mod own;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode, Reader, SliceReader};

pub use check::{Check, Problem};
pub use own::Own;

/// Rejected certificates that are kept. Whoever can reach the gateway's link
/// can show it certificates; a person reads a few.
const REJECTED_MAX: usize = 100;

/// Certificates in a chain at most.
pub const CHAIN_MAX: usize = 8;

/// Bytes of a certificate file at most. A chain of eight with 4096-bit keys has
/// 16 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Fewer digits of a fingerprint do not name a certificate.
const FINGERPRINT_DIGITS_MIN: usize = 8;

/// What went wrong with the certificate files.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds no certificate.
    #[error("{}: no certificate in DER or PEM", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// Half of our own.
    #[error("{}: missing, while {} is there; expected both or neither", missing.display(), present.display())]
    Half {
        /// The file that is missing.
        missing: PathBuf,
        /// The one that is not.
        present: PathBuf,
    },
    /// Our own could not be made.
    #[error("the gateway's certificate could not be made: {0}")]
    Create(String),
    /// The clock was never set.
    #[error(
        "the clock is not set ({0} s since 1970), a certificate made now would be expired when it is"
    )]
    Clock(u64),
    /// No rejected certificate has the fingerprint, or several have.
    #[error(
        "{count} rejected certificates begin with {fingerprint:?}, expected one (at least {FINGERPRINT_DIGITS_MIN} digits)"
    )]
    Fingerprint {
        /// What was asked for.
        fingerprint: String,
        /// How many there are.
        count: usize,
    },
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Cert {
    der: Vec<u8>,
    parsed: Certificate,
}

impl PartialEq for Cert {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Cert {
    /// Reads one certificate in DER; `None` when it is none or is followed by
    /// something.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        Some(Self {
            parsed: Certificate::from_der(der).ok()?,
            der: der.to_vec(),
        })
    }

    /// Reads a certificate and those behind it, as servers send chains.
    pub fn chain_from_der(der: &[u8]) -> Option<Vec<Self>> {
        let mut reader = SliceReader::new(der).ok()?;
        let mut chain = Vec::new();
        while !reader.is_finished() {
            if chain.len() == CHAIN_MAX {
                return None;
            }
            chain.push(Self::from_der(reader.tlv_bytes().ok()?)?);
        }
        (!chain.is_empty()).then_some(chain)
    }

    /// The bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the bytes, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.der)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whom it is for, as a distinguished name.
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate.subject.to_string()
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.parsed
            .tbs_certificate
            .validity
            .not_after
            .to_system_time()
    }

    /// Whole days until it ends, negative when it has ended.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let days =
            |time: std::time::Duration| i64::try_from(time.as_secs() / 86_400).unwrap_or(i64::MAX);
        match self.not_after().duration_since(now) {
            Ok(left) => days(left),
            Err(over) => -1 - days(over.duration()),
        }
    }
}

/// The folder of certificates.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// The folder at `dir`, which is made when it is missing.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        for part in ["own", "trusted", "rejected", "pinned"] {
            make_private(&dir.join(part))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
        })
    }

    /// The gateway's certificate; made at the first call.
    ///
    /// # Errors
    /// [`PkiError`] when it can be neither read nor made.
    pub fn own(&self, now: SystemTime) -> Result<Own, PkiError> {
        Own::load_or_create(&self.dir.join("own"), now)
    }

    /// What is trusted. Files that are none are skipped: one bad file must not
    /// stop the machines whose files are good.
    ///
    /// # Errors
    /// [`PkiError::Io`] when the folder cannot be read.
    pub fn trusted(&self) -> Result<Vec<Cert>, PkiError> {
        let found = list(&self.dir.join("trusted"))?;
        Ok(found.into_iter().map(|(_, cert)| cert).collect())
    }

    /// What was rejected, with its file.
    ///
    /// # Errors
    /// [`PkiError::Io`] when the folder cannot be read.
    pub fn rejected(&self) -> Result<Vec<(PathBuf, Cert)>, PkiError> {
        list(&self.dir.join("rejected"))
    }

    /// Keeps a certificate that is not trusted, so that a person can.
    ///
    /// # Errors
    /// [`PkiError::Io`] when it cannot be written.
    pub fn reject(&self, cert: &Cert) -> Result<(), PkiError> {
        let path = self.file("rejected", cert);
        let known = list(&self.dir.join("rejected"))?;
        if known.len() >= REJECTED_MAX || known.iter().any(|(_, other)| other == cert) {
            return Ok(());
        }
        write_private(&path, cert.der())
    }

    /// Trusts the rejected certificate whose fingerprint begins like this.
    ///
    /// # Errors
    /// [`PkiError::Fingerprint`] when that is not one, [`PkiError::Io`].
    pub fn trust(&self, fingerprint: &str) -> Result<Cert, PkiError> {
        let wanted: String = fingerprint
            .chars()
            .filter(|digit| !matches!(digit, ':' | ' '))
            .collect::<String>()
            .to_ascii_lowercase();
        let found: Vec<(PathBuf, Cert)> = self
            .rejected()?
            .into_iter()
            .filter(|(_, cert)| cert.fingerprint().starts_with(&wanted))
            .collect();
        match found.as_slice() {
            [(path, cert)] if wanted.len() >= FINGERPRINT_DIGITS_MIN => {
                write_private(&self.file("trusted", cert), cert.der())?;
                fs::remove_file(path).map_err(|source| PkiError::Io {
                    path: path.clone(),
                    source,
                })?;
                Ok(cert.clone())
            }
            _ => Err(PkiError::Fingerprint {
                fingerprint: fingerprint.to_owned(),
                count: found.len(),
            }),
        }
    }

    /// Makes a store for the library that holds this certificate and no other.
    /// Returns its folder.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn pin(&self, session: &str, file_name: &str, cert: &Cert) -> Result<PathBuf, PkiError> {
        let dir = self.pinned(session);
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| PkiError::Io { path, source }
        };
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(at(&dir))?;
        }
        make_private(&dir.join("trusted"))?;
        make_private(&dir.join("rejected"))?;
        write_private(&dir.join("trusted").join(file_name), cert.der())?;
        Ok(dir)
    }

    /// The folder of a session's pinned certificate.
    pub fn pinned(&self, session: &str) -> PathBuf {
        // A name may have slashes and dots; its digest has not.
        let digest = Sha256::digest(session.as_bytes());
        let name: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.dir.join("pinned").join(name)
    }

    fn file(&self, folder: &str, cert: &Cert) -> PathBuf {
        self.dir
            .join(folder)
            .join(format!("{}.der", cert.fingerprint()))
    }
}

/// The certificates of a folder, in the order of their file names.
fn list(dir: &Path) -> Result<Vec<(PathBuf, Cert)>, PkiError> {
    let at = |source| PkiError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(at)? {
        paths.push(entry.map_err(at)?.path());
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(certs) => found.extend(certs.into_iter().map(|cert| (path.clone(), cert))),
            Err(error) => tracing::warn!("{error}; skipped"),
        }
    }
    Ok(found)
}

/// The certificates of a file: DER, or PEM with one or several.
///
/// # Errors
/// [`PkiError`] when it cannot be read or holds none.
pub fn read(path: &Path) -> Result<Vec<Cert>, PkiError> {
    let io = |source| PkiError::Io {
        path: path.to_path_buf(),
        source,
    };
    let length = fs::metadata(path).map_err(io)?.len();
    let bytes = if length <= FILE_BYTES_MAX {
        fs::read(path).map_err(io)?
    } else {
        Vec::new()
    };
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let certs = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains(BEGIN) => text
            .split(BEGIN)
            .skip(1)
            .filter_map(|part| {
                let body = part.split(END).next()?;
                let pem = format!("{BEGIN}{body}{END}\n");
                let parsed = Certificate::from_pem(pem.as_bytes()).ok()?;
                Cert::from_der(&parsed.to_der().ok()?)
            })
            .collect(),
        _ => Cert::chain_from_der(&bytes).unwrap_or_default(),
    };
    if certs.is_empty() {
        return Err(PkiError::NoCertificate {
            path: path.to_path_buf(),
        });
    }
    Ok(certs)
}

fn make_private(dir: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| PkiError::Io {
            path: dir.to_path_buf(),
            source,
        })
}

/// Writes a file for this user alone, as a whole or not at all.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates are no part of the log; a failure is returned, and nothing was acknowledged"
)]
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let partial = path.with_extension("partial");
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        match path.parent() {
            Some(dir) => fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|source| PkiError::Io {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests;
