//! What may lie between TCP and the Kafka protocol. The uplink knows no TLS;
//! whoever starts it may hand it something that does.

use std::fmt;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is being made secure.
pub type Securing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes connections secure before the first request.
pub trait Secure: fmt::Debug + Send + Sync {
    /// Makes the handshake on a new connection to `address`, which is
    /// `host:port`. The caller bounds the time. The words of an error name the
    /// address.
    fn secure<'a>(&'a self, address: &'a str, tcp: TcpStream) -> Securing<'a>;
}
