//! From settings to a session: endpoints, certificates, identity.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opcua::client::{Client, ClientBuilder, IdentityToken, Session, SessionEventLoop};
use opcua::crypto::{CertificateStore, X509, X509Data};
use opcua::sync::RwLock;
use opcua::types::{ByteString, EndpointDescription, UserTokenType};
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::Notice;
use super::connector::Dial;
use crate::certificates::{self, Cert, Check, Own, Pki, PkiError, Problem};
use crate::security::{self, ChoiceError, IdentityKind, Policy};
use crate::settings::{Identity, Settings};

/// Elements of an array in a message at most. A server that was cut off for
/// seconds sends its queues as one notification; with the library's default of
/// 1,000 that fails to decode and the samples are lost.
const ARRAY_LENGTH_MAX: usize = 100_000;

/// Bytes of a message at most: 100,000 values with status and two times.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Chunks of a message at most, of 8 KiB or more each.
const CHUNKS_MAX: usize = 2_048;

/// Failed keep-alive reads before the library drops the connection. Its default
/// is never: a server that hangs with an open connection would stay connected.
const FAILED_KEEP_ALIVES_MAX: u64 = 2;

/// The pause that the library makes between reconnects. The driver makes its
/// own, with jitter, by not polling it.
const LIBRARY_PAUSE: Duration = Duration::from_millis(1);

/// Characters of a password at most.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// Why a session cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The certificate files.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The server did not say what it offers.
    #[error("{0}")]
    Endpoints(opcua::types::Error),
    /// It said nothing in time.
    #[error("no answer from {0}")]
    Silent(String),
    /// It offers nothing that fits.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// Its certificate is not good.
    #[error("certificate {} of {subject:?}: {}", &fingerprint[..16], list(problems))]
    Certificate {
        /// Its fingerprint.
        fingerprint: String,
        /// Whom it is for.
        subject: String,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// It sent no certificate.
    #[error("the server sent no certificate that can be read")]
    NoCertificate,
    /// The identity's files.
    #[error("{0}")]
    Identity(String),
    /// The library refuses.
    #[error("{0}")]
    Library(String),
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}

/// A session that is about to connect.
pub(super) struct Opened {
    pub(super) session: Arc<Session>,
    pub(super) events: SessionEventLoop<Dial>,
    /// For the operator: certificates that end soon.
    pub(super) notices: Vec<Notice>,
}

/// Asks the server for its endpoints.
///
/// # Errors
/// [`OpenError`] when it does not answer in time.
pub(crate) async fn endpoints(
    settings: &Settings,
    own: &Own,
) -> Result<Vec<EndpointDescription>, OpenError> {
    let pki = settings.pki.join("pinned").join("discovery");
    let client = library_client(settings, own, &pki, 0)?;
    let asking = client.get_endpoints(dial(settings), &[], &[]);
    // Connect, open the channel, ask, and close it again.
    let limit = settings.request_timeout * 3;
    match tokio::time::timeout(limit, asking).await {
        Ok(endpoints) => endpoints.map_err(OpenError::Endpoints),
        Err(_) => Err(OpenError::Silent(settings.url.as_str().to_owned())),
    }
}

/// Does everything up to the first byte of the session.
///
/// # Errors
/// [`OpenError`] says what a person can do about it.
pub(super) async fn open(settings: &Arc<Settings>) -> Result<Opened, OpenError> {
    let (pki, own) = own(settings).await?;
    let endpoints = endpoints(settings, &own).await?;
    let kind = identity_kind(&settings.identity);
    let index = security::choose(&endpoints, settings.security, kind)?;
    let mut endpoint = endpoints[index].clone();
    let policy = security::protection(&endpoint).map_or(Policy::None, |(policy, _)| policy);
    let mut notices = vec![Notice::Endpoint {
        policy: policy.name(),
        mode: security::protection(&endpoint).map_or("None", |(_, mode)| mode.name()),
    }];
    let now = SystemTime::now();
    notices.push(Notice::Certificate {
        whose: Whose::Own,
        days_left: own.cert.days_left(now),
    });
    let mut pinned = pki.pinned(&settings.name);
    if policy == Policy::None {
        notices.push(Notice::NoServerCertificate);
    } else {
        let (pki, settings) = (pki.clone(), Arc::clone(settings));
        let described = endpoint.clone();
        let checking = spawn_blocking(move || check(&pki, &settings, &described, now));
        let (dir, cert) = join(checking).await?;
        pinned = dir;
        notices.push(Notice::Certificate {
            whose: Whose::Server,
            days_left: cert.days_left(now),
        });
        // The library cannot read a chain; its first certificate was checked.
        endpoint.server_certificate = ByteString::from(cert.der().to_vec());
    }
    adapt(&mut endpoint, settings, kind);
    let token = {
        let identity = settings.identity.clone();
        join(spawn_blocking(move || token(&identity))).await?
    };
    let client = library_client(settings, &own, &pinned, -1)?;
    let store = {
        let (cert, key) = (own.cert_path.clone(), own.key_path.clone());
        join(spawn_blocking(move || Ok(store(&pinned, &cert, &key)))).await?
    };
    let built = client
        .session_builder()
        .with_connector(dial(settings))
        .connect_to_endpoint_directly(endpoint)
        .and_then(|builder| builder.user_identity_token(token).build(store));
    let (session, events) = built.map_err(|error| OpenError::Library(error.to_string()))?;
    Ok(Opened {
        session,
        events,
        notices,
    })
}

/// Opens the folder of certificates and makes our own when it is missing.
pub(crate) async fn own(settings: &Settings) -> Result<(Pki, Own), OpenError> {
    let dir = settings.pki.clone();
    join(spawn_blocking(move || {
        let pki = Pki::open(&dir)?;
        let own = pki.own(SystemTime::now())?;
        Ok((pki, own))
    }))
    .await
}

async fn join<T>(task: tokio::task::JoinHandle<Result<T, OpenError>>) -> Result<T, OpenError> {
    task.await
        .unwrap_or_else(|error| Err(OpenError::Library(error.to_string())))
}

/// Whose certificate a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The gateway's.
    Own,
    /// The server's.
    Server,
}

/// Checks the server's certificate and pins it. Returns the store and the
/// certificate.
fn check(
    pki: &Pki,
    settings: &Settings,
    endpoint: &EndpointDescription,
    now: SystemTime,
) -> Result<(std::path::PathBuf, Cert), OpenError> {
    let bytes = endpoint.server_certificate.value.as_deref();
    let chain = bytes.and_then(Cert::chain_from_der);
    let chain = chain.ok_or(OpenError::NoCertificate)?;
    let cert = &chain[0];
    let trusted = pki.trusted()?;
    let check = Check {
        trusted: &trusted,
        now,
        host: settings.check_hostname.then(|| settings.url.host()),
        application_uri: endpoint.server.application_uri.as_ref(),
    };
    let problems = check.problems(&chain);
    if problems.contains(&Problem::Untrusted) {
        pki.reject(cert)?;
    }
    if !problems.is_empty() {
        return Err(OpenError::Certificate {
            fingerprint: cert.fingerprint(),
            subject: cert.subject(),
            problems,
        });
    }
    let parsed = X509::from_der(cert.der()).map_err(|_| OpenError::NoCertificate)?;
    let name = CertificateStore::cert_file_name(&parsed);
    let dir = pki.pin(&settings.name, &name, cert)?;
    Ok((dir, cert.clone()))
}

/// Makes an endpoint such that the library uses it as meant.
fn adapt(endpoint: &mut EndpointDescription, settings: &Settings, kind: IdentityKind) {
    // Servers behind a translated address name a host that is not reachable.
    let named = endpoint.endpoint_url.as_ref();
    let path = named
        .strip_prefix("opc.tcp://")
        .and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
    let url = settings.url.as_str();
    let authority = url["opc.tcp://".len()..]
        .split('/')
        .next()
        .unwrap_or_default();
    endpoint.endpoint_url = format!("opc.tcp://{authority}{}", path.unwrap_or_default()).into();
    let wanted = match kind {
        IdentityKind::Anonymous => UserTokenType::Anonymous,
        IdentityKind::User => UserTokenType::UserName,
        IdentityKind::Certificate => UserTokenType::Certificate,
    };
    let policy = endpoint.security_policy_uri.clone();
    if let Some(tokens) = &mut endpoint.user_identity_tokens {
        // The library takes the first of its kind, and stops at policies that it
        // does not know.
        tokens.retain(|token| token.token_type == wanted && security::is_usable(token));
        for token in tokens {
            // No policy means that of the endpoint (Part 4, 7.41); the library
            // takes it for None when it signs with a user's certificate.
            if wanted == UserTokenType::Certificate && token.security_policy_uri.is_empty() {
                token.security_policy_uri = policy.clone();
            }
        }
    }
}

fn identity_kind(identity: &Identity) -> IdentityKind {
    match identity {
        Identity::Anonymous => IdentityKind::Anonymous,
        Identity::User { .. } => IdentityKind::User,
        Identity::Certificate { .. } => IdentityKind::Certificate,
    }
}

fn token(identity: &Identity) -> Result<IdentityToken, OpenError> {
    match identity {
        Identity::Anonymous => Ok(IdentityToken::new_anonymous()),
        Identity::User {
            name,
            password_file,
        } => {
            let password = password(password_file)?;
            Ok(IdentityToken::new_user_name(name.as_str(), password))
        }
        Identity::Certificate { certificate, key } => {
            let cert = certificates::read(certificate)?.swap_remove(0);
            let wrong = |path: &Path, what| {
                OpenError::Identity(format!("{}: expected {what}", path.display()))
            };
            let cert = X509::from_der(cert.der())
                .map_err(|_| wrong(certificate, "a certificate in DER or PEM"))?;
            let key = CertificateStore::read_pkey(key)
                .map_err(|_| wrong(key, "an RSA private key in PEM"))?;
            Ok(IdentityToken::new_x509(cert, key))
        }
    }
}

/// The first line of a file.
fn password(path: &Path) -> Result<String, OpenError> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| OpenError::Identity(format!("{}: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn dial(settings: &Settings) -> Dial {
    Dial {
        url: settings.url.clone(),
        timeout: settings.request_timeout,
    }
}

fn store(pinned: &Path, cert: &Path, key: &Path) -> Arc<RwLock<CertificateStore>> {
    let (mut store, _, _) = CertificateStore::new_with_x509_data(
        pinned,
        false,
        Some(cert),
        Some(key),
        None::<X509Data>,
    );
    // The one certificate in it passed stricter checks.
    store.set_skip_verify_certs(true);
    store.set_trust_unknown_certs(false);
    Arc::new(RwLock::new(store))
}

fn library_client(
    settings: &Settings,
    own: &Own,
    pki: &Path,
    retries: i32,
) -> Result<Client, OpenError> {
    let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    ClientBuilder::new()
        .application_name("Forebay")
        .application_uri(own.application_uri.as_str())
        .product_uri("urn:forebay")
        .session_name(settings.name.as_str())
        .certificate_path(&own.cert_path)
        .private_key_path(&own.key_path)
        .pki_dir(pki)
        .create_sample_keypair(false)
        .trust_server_certs(false)
        .verify_server_certs(false)
        .session_retry_limit(retries)
        .session_retry_initial(LIBRARY_PAUSE)
        .session_retry_max(LIBRARY_PAUSE)
        .recreate_subscriptions(false)
        .session_timeout(milliseconds(settings.session_timeout))
        .keep_alive_interval(settings.keep_alive)
        .max_failed_keep_alive_count(FAILED_KEEP_ALIVES_MAX)
        .request_timeout(settings.request_timeout)
        // The server holds a publish request until it has something to say.
        .publish_timeout(settings.pace().keep_alive * 3 + settings.request_timeout)
        .max_array_length(ARRAY_LENGTH_MAX)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_chunk_count(CHUNKS_MAX)
        .max_string_length(1 << 20)
        .max_byte_string_length(4 << 20)
        .client()
        .map_err(|errors| OpenError::Library(errors.join("; ")))
}
