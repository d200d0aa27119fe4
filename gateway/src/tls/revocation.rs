//! The list of certificates that an authority takes back (RFC 5280, section 5).

use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::Version;
use x509_cert::certificate::Certificate;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::Decode;
use x509_cert::der::asn1::Uint;
use x509_cert::ext::pkix::CrlNumber;

use super::authority::{AUTHORITY_LIFETIME, Authority, AuthorityError, extension, time};

/// Certificates that a list may have: more than a plant loses in ten years. Each
/// handshake looks them through.
pub const REVOKED_MAX: usize = 1_000;

/// Why a certificate cannot be taken back.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The certificate, or the list so far.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// The certificate or the list.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// It is another authority's.
    #[error("{what} is not by this authority")]
    Foreign {
        /// The certificate or the list.
        what: &'static str,
    },
    /// The list is full.
    #[error("the list has {REVOKED_MAX} certificates, expected fewer: make a new authority")]
    Full,
    /// It could not be written or signed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl From<x509_cert::der::Error> for RevocationError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Authority(error.into())
    }
}

impl Authority {
    /// Takes a certificate back: the list so far, if there is one, with the
    /// certificate in it, in PEM. One that is in it already is in it once. The list
    /// counts as long as an authority does.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub fn revoke(
        &self,
        certificate: &str,
        so_far: Option<&str>,
        now: SystemTime,
    ) -> Result<String, RevocationError> {
        let (what, list) = ("the certificate", "the list of revoked certificates");
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| unreadable(what, &error))?;
        let parsed = Certificate::from_der(&der).map_err(|error| unreadable(what, &error))?;
        let tbs = parsed.tbs_certificate;
        if tbs.issuer != *self.subject() {
            return Err(RevocationError::Foreign { what });
        }
        let mut revoked = Vec::new();
        let mut number = 0_u64;
        if let Some(text) = so_far {
            let der = CertificateRevocationListDer::from_pem_slice(text.as_bytes())
                .map_err(|error| unreadable(list, &error))?;
            let parsed =
                CertificateList::from_der(&der).map_err(|error| unreadable(list, &error))?;
            let before = parsed.tbs_cert_list;
            if before.issuer != *self.subject() {
                return Err(RevocationError::Foreign { what: list });
            }
            revoked = before.revoked_certificates.unwrap_or_default();
            number = revoked.len() as u64;
        }
        if revoked
            .iter()
            .all(|one| one.serial_number != tbs.serial_number)
        {
            if revoked.len() >= REVOKED_MAX {
                return Err(RevocationError::Full);
            }
            revoked.push(RevokedCert {
                serial_number: tbs.serial_number,
                revocation_date: time(now)?,
                crl_entry_extensions: None,
            });
            number += 1;
        }
        let list = TbsCertList {
            version: Version::V2,
            signature: Self::algorithm(),
            issuer: self.subject().clone(),
            this_update: time(now)?,
            next_update: Some(time(now + AUTHORITY_LIFETIME)?),
            revoked_certificates: Some(revoked),
            crl_extensions: Some(vec![
                extension(false, &CrlNumber(Uint::new(&number.to_be_bytes())?))?,
                extension(false, &self.identifier())?,
            ]),
        };
        Ok(self.sign_list(list)?)
    }
}

fn unreadable(what: &'static str, error: &dyn std::fmt::Display) -> RevocationError {
    RevocationError::Unreadable {
        what,
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::{CERTIFICATE_LIFETIME, Issued, Purpose, Wanted};
    use super::*;

    fn issue(authority: &Authority, name: &str) -> Issued {
        let wanted = Wanted {
            common_name: name,
            names: &[],
            purpose: Purpose::Client,
            now: SystemTime::now(),
            lifetime: CERTIFICATE_LIFETIME,
        };
        authority.issue(&wanted).unwrap()
    }

    fn count(list: &str) -> usize {
        let der = CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap();
        let list = CertificateList::from_der(&der).unwrap().tbs_cert_list;
        list.revoked_certificates.map_or(0, |revoked| revoked.len())
    }

    #[test]
    fn a_list_grows_by_certificates_of_its_own_authority() {
        let now = SystemTime::now();
        let (authority, _) = Authority::create("one", now).unwrap();
        let (other, _) = Authority::create("other", now).unwrap();
        let [a, b] = ["a", "b"].map(|name| issue(&authority, name).certificate);
        let first = authority.revoke(&a, None, now).unwrap();
        let again = authority.revoke(&a, Some(&first), now).unwrap();
        let second = authority.revoke(&b, Some(&again), now).unwrap();
        assert_eq!([&first, &again, &second].map(|list| count(list)), [1, 1, 2]);
        let foreign = issue(&other, "c").certificate;
        for (certificate, list, expected) in [
            (&foreign, None, "the certificate is not by this authority"),
            (
                &a,
                Some(other.revoke(&foreign, None, now).unwrap()),
                "the list of revoked certificates is not by this authority",
            ),
            (
                &a,
                Some("nothing".to_owned()),
                "the list of revoked certificates cannot be read",
            ),
        ] {
            let error = authority.revoke(certificate, list.as_deref(), now);
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
