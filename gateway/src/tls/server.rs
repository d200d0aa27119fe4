//! The node's own certificate: built once, replaced while connections stay open.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, crypto};

use super::certificate::Facts;
use super::material::{self, Fingerprint, MaterialError};
use super::{ClientCertificate, provider};
use crate::config::{ClientCertificates, Tls};

/// How often the files are looked at. Two looks that agree are a file that is
/// written completely, so a renewal is in force within twice this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Tickets that a TLS 1.3 client is given. One suffices for a device, which has
/// one connection, and each costs a client certificate's length on the wire.
const TICKETS: usize = 1;

/// Why the node has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A file is of no use.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The library refuses what the files hold.
    #[error("what is in {file} cannot be used: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The system gave no randomness for the key of tickets.
    #[error("no key for session tickets: {0}")]
    Tickets(rustls::Error),
}

/// What every listener of the node shows and asks for.
pub struct ServerTls {
    current: RwLock<Current>,
}

struct Current {
    files: Tls,
    fingerprint: Fingerprint,
    config: Arc<ServerConfig>,
    certificates: Vec<Watched>,
    /// Why the files are not what is in force.
    problem: Option<String>,
}

/// A certificate whose end somebody has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What it is to the node: `server`, `client_ca`.
    pub role: String,
    /// Where it is.
    pub file: String,
    /// What it says.
    pub facts: Facts,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`ServerTlsError`].
    pub fn open(files: &Tls) -> Result<Arc<Self>, ServerTlsError> {
        let current = Current::read(files)?;
        Ok(Arc::new(Self {
            current: RwLock::new(current),
        }))
    }

    /// What a new connection begins with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// The certificates whose end matters.
    pub fn watched(&self) -> Vec<Watched> {
        self.current.read().certificates.clone()
    }

    /// Why the files on disk are not in force, when they are not.
    pub fn problem(&self) -> Option<String> {
        self.current.read().problem.clone()
    }

    /// Takes the files up for connections to come. With an error everything
    /// stays as it is, and says so until the next that succeeds.
    ///
    /// # Errors
    /// See [`ServerTlsError`].
    pub fn reload(&self, files: &Tls) -> Result<(), ServerTlsError> {
        match Current::read(files) {
            Ok(current) => {
                let until = current.certificates.first().map(Watched::until);
                tracing::info!(certificate = %files.certificate.display(), until, "certificate taken up");
                *self.current.write() = current;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the certificate is not taken up, the one before stays in force");
                let mut current = self.current.write();
                current.fingerprint = fingerprint(files);
                current.problem = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Looks at the files for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut seen = self.current.read().fingerprint.clone();
        loop {
            look.tick().await;
            let files = self.current.read().files.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let found = fingerprint(&files);
                (files, found)
            });
            let Ok((files, found)) = looking.await else {
                continue;
            };
            let is_settled = found == seen;
            seen = found;
            if is_settled && seen != self.current.read().fingerprint {
                let tls = Arc::clone(&self);
                // What it did is in the log.
                let _ = tokio::task::spawn_blocking(move || tls.reload(&files)).await;
            }
        }
    }

    /// What needs a person.
    pub fn alarms(&self, now: SystemTime) -> Vec<String> {
        let current = self.current.read();
        let expiring = current
            .certificates
            .iter()
            .filter_map(|watched| watched.expiry_alarm(now));
        let problem = current.problem.iter();
        let problem = problem.map(|problem| format!("the certificate was not taken up: {problem}"));
        expiring.chain(problem).collect()
    }
}

impl Watched {
    /// Reads the certificate that ends first.
    pub fn of(role: &str, file: &Path, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let facts = chain.iter().filter_map(|one| Facts::of(one).ok());
        Some(Self {
            role: role.to_owned(),
            file: file.display().to_string(),
            facts: facts.min_by_key(|facts| facts.not_after)?,
        })
    }

    /// What is to be said about its end.
    pub fn expiry_alarm(&self, now: SystemTime) -> Option<String> {
        let alarm = self.facts.expiry_alarm(now)?;
        Some(format!(
            "the certificate {} ({}) {alarm}",
            self.file, self.facts.subject
        ))
    }

    /// Until when it counts, in seconds since the Unix epoch.
    pub fn until(&self) -> i64 {
        let until = self.facts.not_after.duration_since(SystemTime::UNIX_EPOCH);
        until.map_or(0, |until| {
            i64::try_from(until.as_secs()).unwrap_or(i64::MAX)
        })
    }
}

impl Current {
    fn read(files: &Tls) -> Result<Self, ServerTlsError> {
        // Before the files: a change while they are read is seen afterwards.
        let fingerprint = fingerprint(files);
        let identity = material::identity(&files.certificate, &files.key)?;
        let mut certificates: Vec<Watched> =
            Watched::of("server", &files.certificate, &identity.cert)
                .into_iter()
                .collect();
        let verifier = match &files.client_ca {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(file) => {
                certificates.extend(Watched::of(
                    "client_ca",
                    file,
                    &material::certificates(file)?,
                ));
                let roots = Arc::new(material::authorities(file)?);
                let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
                if files.client_certificates == ClientCertificates::Optional {
                    builder = builder.allow_unauthenticated();
                }
                if let Some(lists) = &files.client_crl {
                    // An authority without a list takes nothing back, and a list that
                    // is old is better than a plant that is shut out.
                    builder = builder
                        .with_crls(material::revocations(lists)?)
                        .only_check_end_entity_revocation()
                        .allow_unknown_revocation_status();
                }
                builder.build().map_err(|error| {
                    let lists = files.client_crl.as_ref();
                    let is_list = matches!(error, VerifierBuilderError::InvalidCrl(_));
                    let file = lists.filter(|_| is_list).unwrap_or(file);
                    ServerTlsError::Refused {
                        file: file.display().to_string(),
                        reason: error.to_string(),
                    }
                })?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(ServerTlsError::Tickets)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        // A key of its own with every reload: what was granted under other
        // authorities is not resumed.
        config.ticketer = crypto::ring::Ticketer::new().map_err(ServerTlsError::Tickets)?;
        config.send_tls13_tickets = TICKETS;
        // Tickets keep the state at the client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            files: files.clone(),
            fingerprint,
            config: Arc::new(config),
            certificates,
            problem: None,
        })
    }
}

fn fingerprint(files: &Tls) -> Fingerprint {
    let all = [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
        files.client_crl.as_ref(),
    ];
    Fingerprint::of(all.into_iter().flatten().map(std::path::PathBuf::as_path))
}

/// The certificate that a finished handshake brought. An expired one is refused
/// here once more, because a resumed session is not checked again.
///
/// # Errors
/// It has expired, or cannot be read.
pub(super) fn client_certificate(
    chain: Option<&[CertificateDer<'_>]>,
    now: SystemTime,
) -> io::Result<Option<Arc<ClientCertificate>>> {
    let Some(certificate) = chain.and_then(<[_]>::first) else {
        return Ok(None);
    };
    let refused = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let facts = Facts::of(certificate);
    let facts = facts.map_err(|error| refused(format!("certificate cannot be parsed: {error}")))?;
    if !facts.is_valid_at(now) {
        return Err(refused(format!(
            "certificate of {} has expired",
            facts.subject
        )));
    }
    Ok(Some(Arc::new(facts.into())))
}
