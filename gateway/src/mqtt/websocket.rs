//! MQTT over WebSockets (MQTT section 6): a byte stream over another one.
//!
//! [`open`] answers the HTTP request; from then on [`WebSocket`] takes the
//! frames off and puts them on. Pings are answered between frames. A frame that
//! breaks a rule, a text frame among them \[MQTT-6.0.0-1\], is answered with a
//! close frame and ends the connection.

pub mod frame;
pub mod handshake;

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use super::stream::{ByteStream, Ready, ready};
use frame::{Decoder, FrameError, status};
use handshake::HandshakeError;

/// Payload of one frame that is sent. It bounds what is copied ahead of a
/// client that does not read.
const FRAME_LEN: usize = 16 << 10;

/// Bytes asked for while the request comes in; most are shorter.
const REQUEST_READ_LEN: usize = 1 << 10;

/// Why a connection does not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The request is refused; the client was told.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
    /// The connection ended or broke.
    #[error("connection lost in the websocket handshake: {0}")]
    Lost(#[from] io::Error),
}

/// A stream inside the binary messages of another one.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: S,
    decoder: Decoder,
    /// What came with the request.
    unread: BytesMut,
    /// Frames to be sent.
    out: BytesMut,
    /// Set when nothing is to be read any more.
    has_ended: bool,
    /// Set when the close frame is among the frames.
    is_closed: bool,
}

/// Answers the request of a new connection. `frame_len_max` bounds the payload
/// of one frame; the caller bounds the time.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<S: ByteStream>(
    mut stream: S,
    origins: &[String],
    frame_len_max: u64,
) -> Result<WebSocket<S>, OpenError> {
    let mut unread = BytesMut::new();
    let accepted = loop {
        match handshake::accept(&unread, origins) {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => receive(&mut stream, &mut unread).await?,
            Err(refused) => {
                send_all(&mut stream, refused.response().as_bytes()).await?;
                return Err(refused.into());
            }
        }
    };
    unread.advance(accepted.head_len);
    send_all(&mut stream, accepted.response.as_bytes()).await?;
    Ok(WebSocket {
        inner: stream,
        decoder: Decoder::new(frame_len_max),
        unread,
        out: BytesMut::new(),
        has_ended: false,
        is_closed: false,
    })
}

async fn receive(stream: &mut impl ByteStream, into: &mut BytesMut) -> io::Result<()> {
    loop {
        into.reserve(REQUEST_READ_LEN);
        match stream.try_read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let writes = stream.wants_write();
                if ready(stream, true, writes).await? == Ready::Write {
                    flush(stream)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn send_all(stream: &mut impl ByteStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() || stream.wants_write() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready(stream, false, true).await?;
            }
            Err(error) => return Err(error),
        }
        flush(stream)?;
    }
    Ok(())
}

fn flush(stream: &mut impl ByteStream) -> io::Result<()> {
    match stream.try_flush() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        flushed => flushed,
    }
}

impl<S: ByteStream> WebSocket<S> {
    /// Takes frames off `into[from..]` and answers what they ask.
    fn decode(&mut self, into: &mut BytesMut, from: usize) -> Result<usize, FrameError> {
        let decoded = self.decoder.decode(&mut into[from..]);
        into.truncate(from + *decoded.as_ref().unwrap_or(&0));
        let requests = self.decoder.take_requests();
        if let Some(payload) = requests.pong
            && !self.is_closed
            && self.out.len() < FRAME_LEN
        {
            frame::encode_pong(&payload, &mut self.out);
        }
        if let Some(status) = requests.close {
            self.has_ended = true;
            self.goodbye(status);
        }
        decoded
    }

    fn goodbye(&mut self, status: u16) {
        if !self.is_closed {
            frame::encode_close(status, &mut self.out);
            self.is_closed = true;
        }
    }
}

impl<S: ByteStream> ByteStream for WebSocket<S> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended || !self.unread.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_read_ready(cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(cx)
    }

    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        let from = into.len();
        if self.unread.is_empty() {
            if self.inner.try_read(into)? == 0 {
                return Ok(0);
            }
        } else {
            into.extend_from_slice(&std::mem::take(&mut self.unread));
        }
        match self.decode(into, from) {
            Ok(0) if self.has_ended => Ok(0),
            // Only headers and control frames came.
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(len) => Ok(len),
            Err(error) => {
                self.has_ended = true;
                self.goodbye(error.status());
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(FRAME_LEN);
        if len > 0 {
            frame::encode_binary(&bytes[..len], &mut self.out);
        }
        flush(self)?;
        Ok(len)
    }

    fn wants_write(&self) -> bool {
        !self.out.is_empty() || self.inner.wants_write()
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.inner.try_write(&self.out)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.out.advance(written),
            }
        }
        // An idle connection keeps no buffer.
        self.out = BytesMut::new();
        self.inner.try_flush()
    }

    fn close(&mut self) {
        self.goodbye(status::NORMAL);
    }
}
