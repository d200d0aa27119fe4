//! A small private authority: one key that signs certificates for the nodes and
//! the clients of a plant that has no authority of its own.
//!
//! Keys are ECDSA over P-256: a signature takes a small board less than a
//! millisecond, and everything that speaks TLS 1.2 knows them. The certificates
//! are built by the crate that OPC UA reads and makes its own with; ring makes
//! the keys and signs.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::der::asn1::{
    BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString, SetOfVec, UtcTime,
    Utf8StringRef,
};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Any, DateTime, Decode, Encode, Tag, pem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

/// Ten years: the authority is on every machine of the plant, and its key is
/// used some times a year.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Two years, below the 825 days that Apple's systems accept at most.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(730 * 24 * 3600);

/// Certificates count from a day before they are made: a board without a
/// battery starts with the time of its last shutdown.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// RFC 5280 4.1.2.5: years up to 2049 are written with two digits.
const UTC_TIME_YEAR_MAX: u16 = 2049;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name does not fit into a certificate.
    #[error("{name:?} cannot be in a certificate: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The structure could not be written.
    #[error("the certificate cannot be encoded: {0}")]
    Encode(#[from] x509_cert::der::Error),
    /// The authority's certificate or key is not one that this program makes.
    #[error("the authority cannot be used: {0}")]
    Unusable(String),
    /// The system gave no randomness, or the key did not sign.
    #[error("no key was made: the system gave no random numbers")]
    Random,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A node that others connect to. It may also connect itself.
    Server,
    /// A device, a program or a person.
    Client,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The common name of the subject.
    pub common_name: &'a str,
    /// Host names and addresses, for a server.
    pub names: &'a [String],
    /// What it is for.
    pub purpose: Purpose,
    /// When it is made; it counts from a day before.
    pub now: SystemTime,
    /// How long it counts from then.
    pub lifetime: Duration,
}

/// A certificate and its key, both in PEM. The key is not shown in debug output.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key, in PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Issued");
        shown.field("certificate", &self.certificate);
        shown.finish_non_exhaustive()
    }
}

/// The key that signs, and the name it signs as.
pub struct Authority {
    key: EcdsaKeyPair,
    subject: Name,
    key_identifier: OctetString,
    random: SystemRandom,
}

/// A key that was just made.
struct NewKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Authority {
    /// Makes an authority and its own certificate.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn create(name: &str, now: SystemTime) -> Result<(Self, Issued), AuthorityError> {
        let random = SystemRandom::new();
        let made = NewKey::make(&random)?;
        let authority = Self {
            key_identifier: key_identifier(made.pair.public_key().as_ref())?,
            subject: subject(name)?,
            key: made.pair,
            random,
        };
        let extensions = vec![
            extension(
                true,
                &BasicConstraints {
                    ca: true,
                    path_len_constraint: Some(0),
                },
            )?,
            extension(true, &KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?,
            extension(
                false,
                &SubjectKeyIdentifier(authority.key_identifier.clone()),
            )?,
        ];
        let public = authority.key.public_key().as_ref().to_vec();
        let valid = validity(now, AUTHORITY_LIFETIME)?;
        let certificate = authority.sign(authority.subject.clone(), valid, &public, extensions)?;
        let issued = Issued {
            certificate,
            key: private_pem(&made.pkcs8)?,
        };
        Ok((authority, issued))
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// [`AuthorityError::Unusable`] for what [`Self::create`] did not make.
    pub fn open(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let unusable = |reason: &str| AuthorityError::Unusable(reason.to_owned());
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| unusable("its certificate is not in PEM"))?;
        let parsed = Certificate::from_der(&der).map_err(|error| unusable(&error.to_string()))?;
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| unusable("its key is not in PEM (PKCS #8)"))?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.secret_pkcs8_der(), &random)
            .map_err(|_| unusable("its key is not an ECDSA key over P-256"))?;
        let tbs = parsed.tbs_certificate;
        if tbs.subject_public_key_info.subject_public_key.raw_bytes() != key.public_key().as_ref() {
            return Err(unusable("its key does not belong to its certificate"));
        }
        Ok(Self {
            key_identifier: key_identifier(key.public_key().as_ref())?,
            subject: tbs.subject,
            key,
            random,
        })
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn issue(&self, wanted: &Wanted<'_>) -> Result<Issued, AuthorityError> {
        let made = NewKey::make(&self.random)?;
        let public = made.pair.public_key().as_ref();
        let usages = match wanted.purpose {
            Purpose::Server => vec![SERVER_AUTH, CLIENT_AUTH],
            Purpose::Client => vec![CLIENT_AUTH],
        };
        let mut extensions = vec![
            extension(
                true,
                &BasicConstraints {
                    ca: false,
                    path_len_constraint: None,
                },
            )?,
            extension(true, &KeyUsage(KeyUsages::DigitalSignature.into()))?,
            extension(false, &ExtendedKeyUsage(usages))?,
            extension(false, &SubjectKeyIdentifier(key_identifier(public)?))?,
            extension(false, &self.identifier())?,
        ];
        let names: Result<Vec<_>, _> = wanted.names.iter().map(|name| general_name(name)).collect();
        let names = names?;
        if !names.is_empty() {
            extensions.push(extension(false, &SubjectAltName(names))?);
        }
        let valid = validity(wanted.now, wanted.lifetime)?;
        let subject = subject(wanted.common_name)?;
        Ok(Issued {
            certificate: self.sign(subject, valid, public, extensions)?,
            key: private_pem(&made.pkcs8)?,
        })
    }

    fn sign(
        &self,
        subject: Name,
        validity: Validity,
        public: &[u8],
        extensions: Vec<Extension>,
    ) -> Result<String, AuthorityError> {
        // RFC 5280 4.1.2.2: positive and at most 20 bytes; 16 random ones never
        // meet again.
        let mut serial = [0; 16];
        self.random
            .fill(&mut serial)
            .map_err(|_| AuthorityError::Random)?;
        serial[0] = serial[0] & 0x7f | 0x40;
        let signature = Self::algorithm();
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&serial)?,
            signature: signature.clone(),
            issuer: self.subject.clone(),
            validity,
            subject,
            subject_public_key_info: SubjectPublicKeyInfoOwned {
                algorithm: AlgorithmIdentifierOwned {
                    oid: EC_PUBLIC_KEY,
                    parameters: Some(Any::encode_from(&P256)?),
                },
                subject_public_key: BitString::from_bytes(public)?,
            },
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        let certificate = Certificate {
            signature: self.signature(&tbs_certificate)?,
            tbs_certificate,
            signature_algorithm: signature,
        };
        to_pem("CERTIFICATE", &certificate.to_der()?)
    }

    /// Signs a list of certificates that are taken back.
    pub(super) fn sign_list(&self, tbs_cert_list: TbsCertList) -> Result<String, AuthorityError> {
        let list = CertificateList {
            signature: self.signature(&tbs_cert_list)?,
            tbs_cert_list,
            signature_algorithm: Self::algorithm(),
        };
        to_pem("X509 CRL", &list.to_der()?)
    }

    fn signature(&self, signed: &impl Encode) -> Result<BitString, AuthorityError> {
        let signature = self.key.sign(&self.random, &signed.to_der()?);
        let signature = signature.map_err(|_| AuthorityError::Random)?;
        Ok(BitString::from_bytes(signature.as_ref())?)
    }

    /// How it signs.
    pub(super) fn algorithm() -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        }
    }

    /// The name it signs as.
    pub(super) fn subject(&self) -> &Name {
        &self.subject
    }

    /// How what it signs refers to its key.
    pub(super) fn identifier(&self) -> AuthorityKeyIdentifier {
        AuthorityKeyIdentifier {
            key_identifier: Some(self.key_identifier.clone()),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        }
    }
}

impl NewKey {
    fn make(random: &SystemRandom) -> Result<Self, AuthorityError> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, random);
        let pkcs8 = pkcs8.map_err(|_| AuthorityError::Random)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), random);
        Ok(Self {
            pair: pair.map_err(|_| AuthorityError::Random)?,
            pkcs8: pkcs8.as_ref().to_vec(),
        })
    }
}

fn subject(name: &str) -> Result<Name, AuthorityError> {
    let refused = |reason: &str| AuthorityError::Name {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    // X.520 allows a common name 64 characters (ub-common-name).
    if name.is_empty() || name.chars().count() > 64 {
        return Err(refused("expected 1 to 64 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(refused("expected no control characters"));
    }
    let attribute = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::new(Tag::Utf8String, Utf8StringRef::new(name)?.as_bytes())?,
    };
    let relative = RelativeDistinguishedName(SetOfVec::try_from(vec![attribute])?);
    Ok(RdnSequence(vec![relative]))
}

fn general_name(name: &str) -> Result<GeneralName, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        return Ok(GeneralName::IpAddress(OctetString::new(bytes)?));
    }
    if rustls::pki_types::DnsName::try_from(name).is_err() {
        return Err(AuthorityError::Name {
            name: name.to_owned(),
            reason: "expected a host name or an IP address".to_owned(),
        });
    }
    Ok(GeneralName::DnsName(Ia5String::new(name)?))
}

fn validity(now: SystemTime, lifetime: Duration) -> Result<Validity, AuthorityError> {
    Ok(Validity {
        not_before: time(now - BACKDATED)?,
        not_after: time(now + lifetime)?,
    })
}

pub(super) fn time(at: SystemTime) -> Result<Time, AuthorityError> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // The format has no fractions of seconds.
    let at = DateTime::from_unix_duration(Duration::from_secs(since.as_secs()))?;
    Ok(match at.year() {
        ..=UTC_TIME_YEAR_MAX => Time::UtcTime(UtcTime::from_date_time(at)?),
        _ => Time::GeneralTime(GeneralizedTime::from_date_time(at)),
    })
}

/// RFC 5280 4.2.1.2, method 1.
fn key_identifier(public: &[u8]) -> Result<OctetString, AuthorityError> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, public);
    Ok(OctetString::new(hash.as_ref())?)
}

pub(super) fn extension<E: AssociatedOid + Encode>(
    critical: bool,
    value: &E,
) -> Result<Extension, AuthorityError> {
    Ok(Extension {
        extn_id: E::OID,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

fn private_pem(pkcs8: &[u8]) -> Result<String, AuthorityError> {
    to_pem("PRIVATE KEY", pkcs8)
}

fn to_pem(label: &str, der: &[u8]) -> Result<String, AuthorityError> {
    let text = pem::encode_string(label, LineEnding::LF, der);
    text.map_err(|error| AuthorityError::Encode(error.into()))
}
