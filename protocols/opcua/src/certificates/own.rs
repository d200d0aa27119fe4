//! The gateway's own certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opcua::crypto::{X509, X509Data};
use rsa::pkcs8::LineEnding;

use super::{Cert, PkiError, write_private};

/// Bits of the key. The policies in use take 2048 to 4096; 3072 and more cost
/// a Raspberry Pi a second per connection.
const KEY_BITS: u32 = 2048;

/// How long it is valid. Whoever installed it on ten machines does so again in
/// five years, after weeks of alarms, and not every year.
const DAYS: u32 = 5 * 365;

/// A clock before this was never set: 2025-01-01.
const CLOCK_MIN: Duration = Duration::from_secs(1_735_689_600);

/// The gateway's certificate and key.
#[derive(Clone, Debug)]
pub struct Own {
    /// The certificate.
    pub cert: Cert,
    /// Its file.
    pub cert_path: PathBuf,
    /// The file of the private key.
    pub key_path: PathBuf,
    /// The application URI that it is for.
    pub application_uri: String,
}

impl Own {
    pub(super) fn load_or_create(dir: &Path, now: SystemTime) -> Result<Self, PkiError> {
        let cert_path = dir.join("cert.der");
        let key_path = dir.join("key.pem");
        // Two sessions that start at once make one certificate.
        let lock = fs::File::open(dir)
            .and_then(|file| {
                rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
                Ok(file)
            })
            .map_err(|source| PkiError::Io {
                path: dir.to_path_buf(),
                source,
            })?;
        match (cert_path.exists(), key_path.exists()) {
            (true, true) => {}
            (false, false) => create(&cert_path, &key_path, now)?,
            (has_cert, _) => {
                let (missing, present) = if has_cert {
                    (key_path, cert_path)
                } else {
                    (cert_path, key_path)
                };
                return Err(PkiError::Half { missing, present });
            }
        }
        drop(lock);
        let cert = super::read(&cert_path)?.swap_remove(0);
        let application_uri = cert.application_uris().into_iter().next();
        Ok(Self {
            application_uri: application_uri.unwrap_or_else(application_uri_of_host),
            cert,
            cert_path,
            key_path,
        })
    }
}

fn host() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

fn application_uri_of_host() -> String {
    format!("urn:{}:forebay", host())
}

fn create(cert_path: &Path, key_path: &Path, now: SystemTime) -> Result<(), PkiError> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since < CLOCK_MIN {
        return Err(PkiError::Clock(since.as_secs()));
    }
    let mut data = X509Data {
        key_size: KEY_BITS,
        common_name: "Forebay".to_owned(),
        organization: "Forebay".to_owned(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: Default::default(),
        certificate_duration_days: DAYS,
    };
    // The first name is the application URI (Part 6, 6.2.2).
    data.alt_host_names.add_uri(&application_uri_of_host());
    data.alt_host_names.add_dns(host());
    let (cert, key) = X509::cert_and_pkey(&data).map_err(PkiError::Create)?;
    let failed = |error: &dyn std::fmt::Display| PkiError::Create(error.to_string());
    let key = key.to_der().map_err(|error| failed(&error))?;
    let key = key
        .to_pem("PRIVATE KEY", LineEnding::LF)
        .map_err(|error| failed(&error))?;
    let cert = cert.to_der().map_err(|error| failed(&error))?;
    // The key first: a certificate without one would be half.
    write_private(key_path, key.as_bytes())?;
    write_private(cert_path, &cert)
}
