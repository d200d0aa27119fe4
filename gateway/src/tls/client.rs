//! The other side: connections that this node, or a command, opens.
//!
//! Files are looked at with each connection, so a renewed certificate is used
//! with the next one. What goes wrong is told in words that name the address,
//! the file and both names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::material::{self, Fingerprint, MaterialError};
use super::provider;
use super::server::Watched;
use crate::config::{ClientTls as Settings, SYSTEM_AUTHORITIES};

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file is of no use.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The library refuses what the files hold.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The address has no name that a certificate can be for.
    #[error("{name:?} is not a host name or address that a certificate can be for")]
    Name {
        /// The name.
        name: String,
    },
    /// The handshake failed.
    #[error("{reason}")]
    Handshake {
        /// Why, in a sentence that names the address.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to {address} broke in the TLS handshake: {source}; does it speak TLS?")]
    Lost {
        /// The other side.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How connections to one destination are opened.
#[derive(Debug)]
pub struct ClientTls {
    settings: Settings,
    /// What the files held when they were as the fingerprint says.
    read: Mutex<Option<(Fingerprint, Arc<ClientConfig>)>>,
}

impl ClientTls {
    /// Nothing is read before the first connection.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            read: Mutex::default(),
        })
    }

    /// What the library needs, from the files as they are.
    ///
    /// # Errors
    /// See [`ClientTlsError`].
    pub fn config(&self) -> Result<Arc<ClientConfig>, ClientTlsError> {
        let (certificate, key) = self.settings.identity_files();
        let files = [Some(self.authorities()), certificate, key];
        let fingerprint = Fingerprint::of(files.into_iter().flatten());
        let mut read = self.read.lock();
        if let Some((of, config)) = &*read
            && *of == fingerprint
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build(None)?);
        *read = Some((fingerprint, Arc::clone(&config)));
        Ok(config)
    }

    /// The same for a library that checks the certificate against the address
    /// it was given: the name of the settings, if there is one, counts instead.
    ///
    /// # Errors
    /// See [`ClientTlsError`].
    pub fn named_config(&self) -> Result<Arc<ClientConfig>, ClientTlsError> {
        match &self.settings.server_name {
            None => self.config(),
            Some(name) => Ok(Arc::new(self.build(Some(server_name(name)?))?)),
        }
    }

    /// Makes the handshake on a connection to `host`.
    ///
    /// # Errors
    /// See [`ClientTlsError`].
    pub async fn connect(
        &self,
        host: &str,
        address: &str,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ClientTlsError> {
        let name = server_name(self.settings.server_name.as_deref().unwrap_or(host))?;
        let connector = TlsConnector::from(self.config()?);
        connector
            .connect(name, tcp)
            .await
            .map_err(|source| match self.explain(address, &source) {
                Some(reason) => ClientTlsError::Handshake { reason },
                None => ClientTlsError::Lost {
                    address: address.to_owned(),
                    source,
                },
            })
    }

    /// The own certificate, whose end somebody has to know.
    pub fn watched(&self, role: &str) -> Option<Watched> {
        let file = self.settings.certificate.as_deref()?;
        Watched::of(role, file, &material::certificates(file).ok()?)
    }

    /// A sentence about a failure of TLS; `None` when it is another failure.
    /// With TLS 1.3 a server refuses a certificate after the handshake, so this
    /// is also for what is met later.
    #[must_use]
    pub fn explain(&self, address: &str, error: &io::Error) -> Option<String> {
        let cause = error.get_ref()?.downcast_ref::<Error>()?;
        Some(self.sentence(address, cause))
    }

    fn sentence(&self, address: &str, error: &Error) -> String {
        let authorities = self.authorities().display().to_string();
        match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            }) => {
                let names = presented.iter().map(|name| plain_name(name));
                let names: Vec<_> = names.collect();
                let presented = match names.is_empty() {
                    true => "nobody".to_owned(),
                    false => names.join(", "),
                };
                format!(
                    "the certificate of {address} is for {presented}, expected {}",
                    expected.to_str()
                )
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                format!("the certificate of {address} was signed by nobody in {authorities}")
            }
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => format!("the certificate of {address} has expired"),
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => format!(
                "the certificate of {address} is not valid yet; is the clock of this machine right?"
            ),
            Error::InvalidCertificate(reason) => {
                format!("the certificate of {address} is not accepted: {reason}")
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                format!("{address} asks for a client certificate, and none is configured")
            }
            Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied),
            ) => format!("{address} does not accept the client certificate ({alert:?})"),
            Error::InvalidMessage(_) => {
                format!("{address} does not answer in TLS; is that its TLS port?")
            }
            other => format!("no TLS with {address}: {other}"),
        }
    }

    fn authorities(&self) -> &Path {
        let own = self.settings.ca.as_deref();
        own.unwrap_or(Path::new(SYSTEM_AUTHORITIES))
    }

    fn build(&self, name: Option<ServerName<'static>>) -> Result<ClientConfig, ClientTlsError> {
        let setup = |error: &dyn std::fmt::Display| ClientTlsError::Setup(error.to_string());
        let roots = Arc::new(material::authorities(self.authorities())?);
        let checks = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| setup(&error))?;
        let checks: Arc<dyn ServerCertVerifier> = match name {
            None => checks,
            Some(name) => Arc::new(Named { checks, name }),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            // The library's own checks, as they are or with another name.
            .dangerous()
            .with_custom_certificate_verifier(checks);
        Ok(match self.settings.identity_files() {
            (Some(certificate), Some(key)) => {
                let identity = material::identity(certificate, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            _ => builder.with_no_client_auth(),
        })
    }
}

impl Settings {
    fn identity_files(&self) -> (Option<&Path>, Option<&Path>) {
        (self.certificate.as_deref(), self.key.as_deref())
    }
}

impl forebay_uplink::driver::Secure for ClientTls {
    fn secure<'a>(
        &'a self,
        address: &'a str,
        tcp: TcpStream,
    ) -> forebay_uplink::driver::Securing<'a> {
        Box::pin(async move {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = self.connect(host, address, tcp).await;
            let stream = stream.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn forebay_uplink::driver::Stream>)
        })
    }
}

/// What the library writes as `DnsName("hub")` or `IpAddress(10.0.0.5)`.
fn plain_name(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

fn server_name(name: &str) -> Result<ServerName<'static>, ClientTlsError> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|_| ClientTlsError::Name {
        name: name.to_owned(),
    })
}

/// The checks of the library, against a name of the configuration.
#[derive(Debug)]
struct Named {
    checks: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (checks, name) = (&self.checks, &self.name);
        checks.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.checks
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.checks
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checks.supported_verify_schemes()
    }
}
