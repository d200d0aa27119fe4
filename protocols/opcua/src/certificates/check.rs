//! Whether a server's certificate is good.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use rsa::RsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::der::Encode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use super::{CHAIN_MAX, Cert};

/// RSA with SHA-2 and PKCS #1 v1.5 (RFC 4055). SHA-1 is not accepted.
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// Bits of an RSA key at least and at most, for all policies that are spoken
/// (Part 7, 6.6).
const KEY_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// One thing that is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Neither it nor who issued it is in the trust list.
    Untrusted,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It is for other hosts.
    Host {
        /// The host in the endpoint.
        host: String,
        /// Those that it is for.
        named: Vec<String>,
    },
    /// It is for another application.
    ApplicationUri {
        /// What the server says it is.
        claimed: String,
        /// What the certificate says.
        named: Vec<String>,
    },
    /// Its key is no RSA key of the right length.
    Key,
}

/// What a certificate is checked against.
#[derive(Debug)]
pub struct Check<'a> {
    /// The trust list.
    pub trusted: &'a [Cert],
    /// The time.
    pub now: SystemTime,
    /// The host in the endpoint; `None`: not checked.
    pub host: Option<&'a str>,
    /// The application URI that the server claims.
    pub application_uri: &'a str,
}

impl Check<'_> {
    /// Everything that is wrong with the first certificate of a chain.
    pub fn problems(&self, chain: &[Cert]) -> Vec<Problem> {
        let Some(leaf) = chain.first() else {
            return vec![Problem::Untrusted];
        };
        let mut problems = Vec::new();
        if !self.is_trusted(leaf, chain) {
            problems.push(Problem::Untrusted);
        }
        if leaf.not_after() < self.now {
            problems.push(Problem::Expired);
        }
        if leaf.not_before() > self.now {
            problems.push(Problem::NotYetValid);
        }
        if let Some(host) = self.host.filter(|host| !leaf.is_for_host(host)) {
            problems.push(Problem::Host {
                host: host.to_owned(),
                named: leaf.hosts(),
            });
        }
        let named = leaf.application_uris();
        if !named.iter().any(|uri| uri == self.application_uri) {
            problems.push(Problem::ApplicationUri {
                claimed: self.application_uri.to_owned(),
                named,
            });
        }
        let bits = leaf.public_key().map(|key| key.n().bits());
        if !bits.is_some_and(|bits| KEY_BITS.contains(&bits)) {
            problems.push(Problem::Key);
        }
        problems
    }

    /// Walks from the leaf to its issuers until one is in the trust list. The
    /// chain that the server sent only helps to find the way.
    fn is_trusted(&self, leaf: &Cert, chain: &[Cert]) -> bool {
        let mut at = leaf;
        for _ in 0..CHAIN_MAX {
            if self.trusted.contains(at) {
                return true;
            }
            let mut candidates = self.trusted.iter().chain(chain);
            let issuer = candidates.find(|issuer| {
                *issuer != at && issuer.may_issue(self.now) && issuer.has_issued(at)
            });
            let Some(issuer) = issuer else {
                return false;
            };
            at = issuer;
        }
        false
    }
}

impl Cert {
    /// When it begins.
    pub fn not_before(&self) -> SystemTime {
        self.parsed
            .tbs_certificate
            .validity
            .not_before
            .to_system_time()
    }

    /// The application URIs that it is for.
    pub fn application_uris(&self) -> Vec<String> {
        let uris = self.names().into_iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().to_owned()),
            _ => None,
        });
        uris.collect()
    }

    /// The host names and addresses that it is for.
    pub fn hosts(&self) -> Vec<String> {
        let hosts = self.names().into_iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| ip.to_string()),
            _ => None,
        });
        hosts.collect()
    }

    /// Some servers write an address as a name; the text counts.
    fn is_for_host(&self, host: &str) -> bool {
        let wanted = host.parse::<IpAddr>().ok();
        self.hosts().iter().any(|named| {
            let is_address = wanted.is_some() && named.parse::<IpAddr>().ok() == wanted;
            is_address || named.eq_ignore_ascii_case(host)
        })
    }

    fn names(&self) -> Vec<GeneralName> {
        match self.parsed.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0,
            _ => Vec::new(),
        }
    }

    fn public_key(&self) -> Option<RsaPublicKey> {
        let info = &self.parsed.tbs_certificate.subject_public_key_info;
        RsaPublicKey::try_from(info.owned_to_ref()).ok()
    }

    /// Whether it is an authority at this time.
    pub(super) fn may_issue(&self, now: SystemTime) -> bool {
        let tbs = &self.parsed.tbs_certificate;
        let is_authority = matches!(tbs.get::<BasicConstraints>(), Ok(Some((_, c))) if c.ca);
        let signs = match tbs.get::<KeyUsage>() {
            Ok(Some((_, usage))) => usage.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        is_authority && signs && self.not_before() <= now && now <= self.not_after()
    }

    pub(super) fn has_issued(&self, other: &Self) -> bool {
        let (parsed, tbs) = (&other.parsed, &other.parsed.tbs_certificate);
        if tbs.issuer != self.parsed.tbs_certificate.subject {
            return false;
        }
        let signed = tbs.to_der().ok().zip(parsed.signature.as_bytes());
        let (Some((bytes, signature)), Some(key)) = (signed, self.public_key()) else {
            return false;
        };
        let Ok(signature) = Signature::try_from(signature) else {
            return false;
        };
        let verified = match parsed.signature_algorithm.oid {
            SHA256_WITH_RSA => VerifyingKey::<Sha256>::new(key).verify(&bytes, &signature),
            SHA384_WITH_RSA => VerifyingKey::<Sha384>::new(key).verify(&bytes, &signature),
            SHA512_WITH_RSA => VerifyingKey::<Sha512>::new(key).verify(&bytes, &signature),
            _ => return false,
        };
        verified.is_ok()
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        match self {
            Self::Untrusted => f.write_str("it is not trusted"),
            Self::Expired => f.write_str("it has expired"),
            Self::NotYetValid => f.write_str("it is not valid yet"),
            Self::Host { host, named } => write!(
                f,
                "it is not for the host {host:?} but for {} (`check_hostname = false` accepts that)",
                list(named)
            ),
            Self::ApplicationUri { claimed, named } => write!(
                f,
                "it is not for the application {claimed:?} but for {}",
                list(named)
            ),
            Self::Key => f.write_str("its key is no RSA key of 2048 to 4096 bits"),
        }
    }
}
