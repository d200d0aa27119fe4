//! The gateway's own certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::rand_core::OsRng;
use sha2::Sha256;
use x509_cert::Certificate;
use x509_cert::builder::{Builder, CertificateBuilder, Error, Profile};
use x509_cert::der::Encode;
use x509_cert::der::asn1::Ia5String;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};

use super::{Cert, PkiError, write_private};

/// Bits of the key. The policies in use take 2048 to 4096; 3072 and more cost
/// a Raspberry Pi a second per connection.
const KEY_BITS: usize = 2048;

/// How long it is valid. Whoever installed it on ten machines does so again in
/// five years, after weeks of alarms, and not every year.
const LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// How long it has been valid when it is made. Clocks of controllers are behind:
/// by hours in another time zone, by days without a time server. A server refuses
/// what has not begun yet. One whose clock was never set refuses in any case.
const EARLY: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the key is for (RFC 5280, 4.2.1.12).
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

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
    let failed = |error: &dyn std::fmt::Display| PkiError::Create(error.to_string());
    let key = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|error| failed(&error))?;
    let cert = certificate(&key, now).map_err(|error| failed(&error))?;
    let cert = cert.to_der().map_err(|error| failed(&error))?;
    let key = key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| failed(&error))?;
    // The key first: a certificate without one would be half.
    write_private(key_path, key.as_bytes())?;
    write_private(cert_path, &cert)
}

/// A certificate that the key signs itself, with what Part 6, 6.2.2 asks for.
fn certificate(key: &RsaPrivateKey, now: SystemTime) -> Result<Certificate, Error> {
    let host = host();
    let subject = Name::from_str(&subject(&host))?;
    let validity = Validity {
        not_before: Time::try_from(now - EARLY)?,
        not_after: Time::try_from(now + LIFE)?,
    };
    let public = SubjectPublicKeyInfoOwned::from_key(key.to_public_key())?;
    // Some servers tell certificates of one issuer apart by it. 63 bits stay
    // positive.
    let serial = SerialNumber::from(fastrand::u64(1..1 << 63));
    let key_id = SubjectKeyIdentifier::try_from(public.owned_to_ref())?.0;
    let issuer = Profile::Manual {
        issuer: Some(subject.clone()),
    };
    let signer = SigningKey::<Sha256>::new(key.clone());
    let mut builder = CertificateBuilder::new(
        issuer,
        serial.clone(),
        validity,
        subject.clone(),
        public,
        &signer,
    )?;
    builder.add_extension(&SubjectKeyIdentifier(key_id.clone()))?;
    builder.add_extension(&AuthorityKeyIdentifier {
        key_identifier: Some(key_id),
        authority_cert_issuer: Some(vec![GeneralName::DirectoryName(subject)]),
        authority_cert_serial_number: Some(serial),
    })?;
    builder.add_extension(&BasicConstraints {
        ca: false,
        path_len_constraint: None,
    })?;
    builder.add_extension(&KeyUsage(
        KeyUsages::DigitalSignature
            | KeyUsages::NonRepudiation
            | KeyUsages::KeyEncipherment
            | KeyUsages::DataEncipherment
            // Of what signs itself.
            | KeyUsages::KeyCertSign,
    ))?;
    // The specification asks for both, whoever connects to whom.
    builder.add_extension(&ExtendedKeyUsage(vec![CLIENT_AUTH, SERVER_AUTH]))?;
    // The first name is the application URI.
    builder.add_extension(&SubjectAltName(vec![
        GeneralName::UniformResourceIdentifier(Ia5String::new(&application_uri_of_host())?),
        GeneralName::DnsName(Ia5String::new(&host)?),
    ]))?;
    builder.build()
}

/// The subject names the host, so that a person at a server tells the gateways of
/// a plant apart. A host name that would have to be escaped stays out.
fn subject(host: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match host.chars().all(is_plain) {
        true => format!("CN=Forebay,O=Forebay,DC={host}"),
        false => "CN=Forebay,O=Forebay".to_owned(),
    }
}
