//! What a connection needs of the bytes below it.
//!
//! The connection asks for readiness and then reads or writes without waiting,
//! so that an idle one holds no buffer. TCP is the plain case; a WebSocket, and
//! whatever else wraps bytes, is a [`ByteStream`] over another one.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::net::TcpStream;

/// A duplex stream of bytes that says when it is ready.
///
/// A layer that has bytes of its own to send (the answer to a ping, the record
/// of a handshake) keeps them until [`ByteStream::try_flush`] and says so by
/// [`ByteStream::wants_write`].
pub trait ByteStream: Send + Sync + 'static {
    /// Completes when [`ByteStream::try_read`] is worth a try.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Completes when [`ByteStream::try_write`] is worth a try.
    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Appends what has come to `into`, at most its spare capacity. 0 is the
    /// end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come for the reader, else the stream is
    /// broken.
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize>;

    /// Takes bytes from the front and returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when none can be taken, else the stream is broken.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether the layer itself has bytes to send.
    fn wants_write(&self) -> bool {
        false
    }

    /// Sends the bytes of the layer itself; success means that none are left.
    ///
    /// # Errors
    /// `WouldBlock` when some are left, else the stream is broken.
    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Begins the layer's own goodbye, which [`ByteStream::try_flush`] sends.
    fn close(&mut self) {}
}

impl ByteStream for TcpStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_read_ready(self, cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_write_ready(self, cx)
    }

    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.try_read_buf(into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }

    fn close(&mut self) {
        // A client that is gone needs no goodbye.
        let _ = rustix::net::shutdown(&*self, rustix::net::Shutdown::Write);
    }
}

/// The streams that are not plain TCP share one compiled copy of the
/// connection: a call through a table costs less than another copy of the code
/// in the binary.
impl ByteStream for Box<dyn ByteStream> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_read_ready(cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_write_ready(cx)
    }

    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        (**self).try_read(into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).try_write(bytes)
    }

    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }

    fn try_flush(&mut self) -> io::Result<()> {
        (**self).try_flush()
    }

    fn close(&mut self) {
        (**self).close();
    }
}

/// Waits until there is room to write.
///
/// # Errors
/// When the stream is broken.
pub async fn writable(stream: &mut impl ByteStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_write_ready(cx)).await
}

/// What the two directions of a stream are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// There is something to read.
    Read,
    /// There is room to write.
    Write,
}

/// Waits for the directions that are asked for; for ever when none is.
///
/// # Errors
/// When the stream is broken.
pub async fn ready(stream: &mut impl ByteStream, reads: bool, writes: bool) -> io::Result<Ready> {
    poll_fn(|cx| {
        if writes && let Poll::Ready(ready) = stream.poll_write_ready(cx) {
            return Poll::Ready(ready.map(|()| Ready::Write));
        }
        if reads && let Poll::Ready(ready) = stream.poll_read_ready(cx) {
            return Poll::Ready(ready.map(|()| Ready::Read));
        }
        Poll::Pending
    })
    .await
}
