//! A listener whose connections begin with a handshake.
//!
//! [`SecureListener::accept`] takes a connection; a task of its own then gives
//! it to [`SecureListener::open`] or [`SecureListener::open_tokio`]. What does
//! not become a TLS connection is counted, and logged at debug.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use forebay_broker::{Arriving, Opened, Opening};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::admission::{Admission, HANDSHAKES_MAX, Place};
use super::server::client_certificate;
use super::{ClientCertificate, ServerTls, TlsStream};

/// The first byte of every TLS connection: a record of the handshake (RFC 8446
/// 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A connection that has its place and no handshake yet.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub tcp: TcpStream,
    /// Who is at the other end.
    pub peer: SocketAddr,
    place: Place,
}

/// A listener for TLS.
pub struct SecureListener {
    tcp: TcpListener,
    door: Arc<Door>,
}

/// What the tasks of new connections share.
pub struct Door {
    tls: Arc<ServerTls>,
    name: &'static str,
    admission: Arc<Admission>,
    timeout: Duration,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    full: AtomicU64,
    resumed: AtomicU64,
    plain_text: AtomicU64,
    timeout: AtomicU64,
    crowded_out: AtomicU64,
    certificate: AtomicU64,
    protocol: AtomicU64,
    lost: AtomicU64,
}

/// What became of the handshakes of one listener since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// With all signatures.
    pub full: u64,
    /// By a ticket of an earlier connection.
    pub resumed: u64,
    /// The client spoke something else than TLS.
    pub plain_text: u64,
    /// Not finished in time.
    pub timeout: u64,
    /// Given up because too many were not finished.
    pub crowded_out: u64,
    /// A certificate was not accepted, by either side.
    pub certificate: u64,
    /// No common version or cipher, or a message that makes no sense.
    pub protocol: u64,
    /// The client went away.
    pub lost: u64,
}

/// Why a connection is none.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the client does not speak TLS (first byte {0:#04x})")]
    PlainText(u8),
    #[error("not finished within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("too many handshakes are not finished")]
    CrowdedOut,
    #[error("{0}")]
    Certificate(io::Error),
    #[error("{0}")]
    Protocol(io::Error),
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

impl SecureListener {
    /// A listener over a bound socket. `name` is the key of the configuration,
    /// `timeout` what a handshake may take, and half of `connections_max` may be
    /// in one.
    pub fn new(
        tcp: TcpListener,
        tls: Arc<ServerTls>,
        name: &'static str,
        timeout: Duration,
        connections_max: usize,
    ) -> Self {
        Self {
            tcp,
            door: Arc::new(Door {
                tls,
                name,
                admission: Admission::new(HANDSHAKES_MAX.min(connections_max / 2)),
                timeout,
                counters: Counters::default(),
            }),
        }
    }

    /// What a task of a new connection needs.
    #[must_use]
    pub fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Waits for a connection. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let place = self.door.admission.place().await;
        let (tcp, peer) = self.tcp.accept().await?;
        // Messages are complete; waiting to fill a segment would only delay them.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        Ok(Accepted { tcp, peer, place })
    }
}

impl forebay_broker::SecureListener for SecureListener {
    fn arrive(&self) -> Arriving<'_> {
        Box::pin(async {
            let accepted = self.accept().await?;
            let (peer, door) = (accepted.peer, self.door());
            let opening: Opening = Box::pin(async move {
                let (stream, certificate) = door.open_tokio(accepted).await?;
                Some(Opened {
                    stream: Box::new(stream),
                    certificate,
                })
            });
            Ok((peer, opening))
        })
    }
}

impl Door {
    /// The key of the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What became of its handshakes.
    #[must_use]
    pub fn counts(&self) -> HandshakeCounts {
        let counters = &self.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HandshakeCounts {
            full: of(&counters.full),
            resumed: of(&counters.resumed),
            plain_text: of(&counters.plain_text),
            timeout: of(&counters.timeout),
            crowded_out: of(&counters.crowded_out),
            certificate: of(&counters.certificate),
            protocol: of(&counters.protocol),
            lost: of(&counters.lost),
        }
    }

    /// Makes the handshake for a connection that is read and written without
    /// waiting. `None` when there is none; that was counted and logged.
    pub async fn open(
        &self,
        accepted: Accepted,
    ) -> Option<(TlsStream, Option<Arc<ClientCertificate>>)> {
        let config = self.tls.config();
        let opened = self
            .opened(accepted, |tcp| TlsStream::accept(tcp, config))
            .await?;
        let certificate = self.finished(opened.peer_certificates(), opened.is_resumed())?;
        Some((opened, certificate))
    }

    /// Makes the handshake for a connection of tokio's kind. `None` when there
    /// is none; that was counted and logged.
    pub async fn open_tokio(
        &self,
        accepted: Accepted,
    ) -> Option<(
        tokio_rustls::server::TlsStream<TcpStream>,
        Option<Arc<ClientCertificate>>,
    )> {
        let acceptor = TlsAcceptor::from(self.tls.config());
        let opened = self.opened(accepted, |tcp| acceptor.accept(tcp)).await?;
        let (_, tls) = opened.get_ref();
        let is_resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let certificate = self.finished(tls.peer_certificates(), is_resumed)?;
        Some((opened, certificate))
    }

    async fn opened<T, F>(
        &self,
        accepted: Accepted,
        handshake: impl FnOnce(TcpStream) -> F,
    ) -> Option<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let Accepted { tcp, peer, place } = accepted;
        let shaking = async {
            greeted(&tcp).await?;
            place.begin();
            handshake(tcp).await.map_err(Failure::of)
        };
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(self.timeout, shaking) => {
                outcome.unwrap_or(Err(Failure::Timeout(self.timeout)))
            }
            () = place.evicted() => Err(Failure::CrowdedOut),
        };
        match outcome {
            Ok(opened) => Some(opened),
            Err(failure) => {
                self.count(&failure);
                tracing::debug!(listener = self.name, %peer, %failure, "no TLS connection");
                None
            }
        }
    }

    /// Counts a handshake and reads the client's certificate.
    fn finished(
        &self,
        chain: Option<&[rustls::pki_types::CertificateDer<'_>]>,
        is_resumed: bool,
    ) -> Option<Option<Arc<ClientCertificate>>> {
        match client_certificate(chain, SystemTime::now()) {
            Ok(certificate) => {
                let counter = match is_resumed {
                    true => &self.counters.resumed,
                    false => &self.counters.full,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                Some(certificate)
            }
            Err(failure) => {
                self.counters.certificate.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(listener = self.name, %failure, "no TLS connection");
                None
            }
        }
    }

    fn count(&self, failure: &Failure) {
        let counters = &self.counters;
        let counter = match failure {
            Failure::PlainText(_) => &counters.plain_text,
            Failure::Timeout(_) => &counters.timeout,
            Failure::CrowdedOut => &counters.crowded_out,
            Failure::Certificate(_) => &counters.certificate,
            Failure::Protocol(_) => &counters.protocol,
            Failure::Lost(_) => &counters.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Failure {
    fn of(error: io::Error) -> Self {
        use rustls::AlertDescription as Alert;
        use rustls::Error;
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
                Self::Certificate(error)
            }
            Some(Error::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA,
            )) => Self::Certificate(error),
            Some(_) => Self::Protocol(error),
            None if error.kind() == io::ErrorKind::InvalidData => Self::Protocol(error),
            None => Self::Lost(error),
        }
    }
}

/// Waits for the first byte and leaves it where it is.
async fn greeted(tcp: &TcpStream) -> Result<(), Failure> {
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into())),
        _ if first[0] == HANDSHAKE_RECORD => Ok(()),
        _ => Err(Failure::PlainText(first[0])),
    }
}
