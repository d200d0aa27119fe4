//! What connections may come over besides plain TCP.
//!
//! The broker knows no TLS. Whoever starts it may hand it a [`SecureListener`]
//! whose connections are streams by the time they get here, and say where
//! clients of that listener are to come back to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::ClientCertificate;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is ready to be spoken on.
pub struct Opened {
    /// Its bytes.
    pub stream: Box<dyn Stream>,
    /// Who the client is, when it showed that.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// What becomes of a connection; `None` when nothing does.
pub type Opening = Pin<Box<dyn Future<Output = Option<Opened>> + Send>>;

/// A connection that has come, and what is still to be done for it.
pub type Arriving<'a> =
    Pin<Box<dyn Future<Output = io::Result<(SocketAddr, Opening)>> + Send + 'a>>;

/// Takes connections that need more than TCP.
pub trait SecureListener: Send + Sync + 'static {
    /// Waits for the next connection. Dropping the future loses none; what it
    /// yields is awaited in a task of its own.
    fn arrive(&self) -> Arriving<'_>;
}

/// An address that clients are told to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Where the broker takes connections.
pub struct Listeners {
    /// Plain TCP, whose clients come back to the address of the configuration.
    pub plain: TcpListener,
    /// The other kind, and where its clients come back to.
    pub secure: Option<(Box<dyn SecureListener>, Arc<Advertised>)>,
}

impl From<TcpListener> for Listeners {
    fn from(plain: TcpListener) -> Self {
        Self {
            plain,
            secure: None,
        }
    }
}
