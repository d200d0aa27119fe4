//! What is read out of certificates: who they are for and until when.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode, Error};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::ClientCertificate;

/// How long before its end a certificate is an alarm: three weeks hold a
/// holiday and the time to get a new one signed.
pub const EXPIRY_ALARM: Duration = Duration::from_secs(21 * 24 * 3600);

/// `id-at-commonName` (X.520).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What a person wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject as RFC 4514 writes it.
    pub subject: String,
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// From when it counts.
    pub not_before: SystemTime,
    /// Until when it counts.
    pub not_after: SystemTime,
}

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is not one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let certificate = Certificate::from_der(certificate)?.tbs_certificate;
        let validity = &certificate.validity;
        let names = match certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(name).collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            subject: certificate.subject.to_string(),
            common_name: common_name(&certificate.subject),
            names,
            not_before: UNIX_EPOCH + validity.not_before.to_unix_duration(),
            not_after: UNIX_EPOCH + validity.not_after.to_unix_duration(),
        })
    }

    /// Whether it counts at `now`.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// What is to be said about its end: that it is past or near.
    pub fn expiry_alarm(&self, now: SystemTime) -> Option<String> {
        let day = |left: Duration| left.as_secs() / (24 * 3600);
        match self.not_after.duration_since(now) {
            Err(past) => Some(match day(past.duration()) {
                0 => "has expired today".to_owned(),
                1 => "has expired yesterday".to_owned(),
                days => format!("has expired {days} days ago"),
            }),
            Ok(left) if left > EXPIRY_ALARM => None,
            Ok(left) => Some(match day(left) {
                0 => "expires within a day".to_owned(),
                1 => "expires tomorrow".to_owned(),
                days => format!("expires in {days} days"),
            }),
        }
    }
}

impl From<Facts> for ClientCertificate {
    fn from(facts: Facts) -> Self {
        Self {
            subject: facts.subject,
            common_name: facts.common_name,
        }
    }
}

fn common_name(name: &Name) -> Option<String> {
    let attributes = name.0.iter().flat_map(|relative| relative.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    text(&names.next()?.value)
}

fn text(value: &Any) -> Option<String> {
    let text = |text: &str| text.to_owned();
    let utf8 = value.decode_as::<Utf8StringRef<'_>>();
    utf8.map(|value| text(value.as_str()))
        .or_else(|_| {
            let printable = value.decode_as::<PrintableStringRef<'_>>();
            printable.map(|value| text(value.as_str()))
        })
        .or_else(|_| {
            let teletex = value.decode_as::<TeletexStringRef<'_>>();
            teletex.map(|value| text(value.as_str()))
        })
        .ok()
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let either = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            Some(either.ok()?.to_string())
        }
        _ => None,
    }
}
