//! Opening what an endpoint names.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::serial::Serial;
use crate::endpoint::Endpoint;

/// An open connection or port.
pub type Stream = Box<dyn ByteStream>;

/// Both directions of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Connects, or opens the port.
pub(super) async fn open(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp(host) | Endpoint::RtuOverTcp(host) => {
            let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
            // A request is one small segment that must not wait for the next.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Endpoint::Serial(port) => Ok(Box::new(Serial::open(port)?)),
    }
}
