//! TLS under an MQTT connection: a byte stream over a socket.
//!
//! The library keeps the keys and no bytes; the two buffers are here, and are
//! given back when they are empty, so an idle connection costs its keys only.
//! Records are cut as the connection writes: all acknowledgements of a commit
//! are one write and, up to 16 KiB, one record.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpStream;

use crate::mqtt::stream::{ByteStream, Ready, ready};

/// Ciphertext asked for in one read: one whole record (RFC 8446 5.2: 2^14 + 256
/// bytes and a header), as much as a plain connection reads.
const READ_LEN: usize = (16 << 10) + 512;

/// Ciphertext asked for before the handshake is over: a client's part has some
/// hundred bytes, with a certificate two thousand.
const HANDSHAKE_READ_LEN: usize = 4 << 10;

/// Ciphertext that waits for the rest of its record or message. A handshake
/// message, which may span records, has at most 64 KiB in this library.
const INCOMING_MAX: usize = 96 << 10;

/// Plaintext that is encrypted ahead of the socket. It bounds what a client
/// that does not read costs.
const WRITE_LEN: usize = 64 << 10;

/// What a record adds: header, content type, authentication tag, and the nonce
/// of TLS 1.2.
const RECORD_OVERHEAD: usize = 5 + 1 + 16 + 8;

/// Plaintext of one record at most (RFC 8446 5.1).
const RECORD_LEN: usize = 16 << 10;

/// A TLS connection whose handshake is over.
pub struct TlsStream {
    tcp: TcpStream,
    tls: Box<UnbufferedServerConnection>,
    /// Ciphertext that is not a whole record yet.
    incoming: BytesMut,
    /// Plaintext that came while something was written.
    unread: BytesMut,
    /// Ciphertext to be sent.
    outgoing: BytesMut,
    /// Nothing is to be read any more.
    has_ended: bool,
    /// The goodbye is among what is to be sent.
    is_closed: bool,
}

/// What a pass over the records is for.
#[derive(Clone, Copy)]
enum Task<'a> {
    Read,
    Write(&'a [u8]),
    Close,
}

impl TlsStream {
    /// Answers the handshake of a new connection. The caller bounds the time.
    ///
    /// # Errors
    /// `InvalidData` with the library's error inside when the client and the
    /// server cannot agree, else the connection is lost. The client was told.
    pub(super) async fn accept(
        tcp: TcpStream,
        config: std::sync::Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let mut stream = Self {
            tcp,
            tls: Box::new(tls),
            incoming: BytesMut::new(),
            unread: BytesMut::new(),
            outgoing: BytesMut::new(),
            has_ended: false,
            is_closed: false,
        };
        loop {
            let is_over = !stream.tls.is_handshaking();
            if is_over && !stream.wants_write() {
                return Ok(stream);
            }
            let writes = stream.wants_write();
            match ready(&mut stream.tcp, !is_over, writes).await? {
                Ready::Write => match stream.try_flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    flushed => flushed?,
                },
                Ready::Read => stream.receive_handshake()?,
            }
        }
    }

    /// The certificates that the client showed, its own first.
    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// Whether the client brought a ticket of an earlier connection.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn receive_handshake(&mut self) -> io::Result<()> {
        self.incoming.reserve(HANDSHAKE_READ_LEN);
        match self.tcp.try_read_buf(&mut self.incoming) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                let mut unread = std::mem::take(&mut self.unread);
                let processed = self.process(Task::Read, &mut unread);
                self.unread = unread;
                processed.map(|_| ())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes whole records off `incoming`, plaintext into `into`, and does the
    /// task when that is possible. Returns whether it was.
    fn process(&mut self, task: Task<'_>, into: &mut BytesMut) -> io::Result<bool> {
        let processed = self.process_records(task, into);
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        match processed {
            Err(error) => {
                self.has_ended = true;
                self.say_why();
                Err(invalid(error))
            }
            Ok(_) if self.incoming.len() > INCOMING_MAX => {
                self.has_ended = true;
                Err(invalid("a message that is too long"))
            }
            Ok(done) => Ok(done),
        }
    }

    fn process_records(
        &mut self,
        task: Task<'_>,
        into: &mut BytesMut,
    ) -> Result<bool, rustls::Error> {
        loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.incoming);
            let mut outcome = None;
            let failed = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        Some(Ok(record)) => into.extend_from_slice(record.payload),
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, 0, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(error)) => Err(Some(error)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                        Ok(len) => Ok(len),
                    });
                    None
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    // It is in the buffer, which leaves with the next flush.
                    transmit.done();
                    None
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    outcome = Some(match task {
                        Task::Read => true,
                        Task::Write(bytes) => {
                            append(&mut self.outgoing, sealed_len(bytes), |out| {
                                sealed(traffic.encrypt(bytes, out))
                            })
                        }
                        Task::Close => append(&mut self.outgoing, sealed_len(&[0; 2]), |out| {
                            sealed(traffic.queue_close_notify(out))
                        }),
                    });
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.has_ended = true;
                    None
                }
                // Early data is not offered; whatever else there may be, nothing
                // goes on without more input.
                Ok(_) => {
                    outcome = Some(false);
                    None
                }
                Err(error) => Some(error),
            };
            self.incoming.advance(discard);
            if let Some(error) = failed {
                return Err(error);
            }
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// Sends the alert that the library has ready for a broken connection, if
    /// the socket takes it at once.
    fn say_why(&mut self) {
        loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else {
                break;
            };
            append(&mut self.outgoing, 0, |out| match data.encode(out) {
                Err(EncodeError::InsufficientSize(error)) => Err(Some(error)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
                Ok(len) => Ok(len),
            });
            self.incoming.advance(discard);
        }
        // The connection ends whether the client hears why or not.
        let _ = self.try_flush();
    }
}

impl ByteStream for TlsStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended || !self.unread.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            into.extend_from_slice(&unread);
            return Ok(unread.len());
        }
        if self.has_ended {
            return Ok(0);
        }
        self.incoming.reserve(READ_LEN);
        match self.tcp.try_read_buf(&mut self.incoming) {
            // MQTT says itself when it is complete, so an end without a
            // close_notify cuts nothing off unseen.
            Ok(0) => {
                self.has_ended = true;
                return Ok(0);
            }
            Ok(_) => {}
            Err(error) => {
                if self.incoming.is_empty() {
                    self.incoming = BytesMut::new();
                }
                return Err(error);
            }
        }
        let before = into.len();
        let processed = self.process(Task::Read, into);
        match into.len() - before {
            // What came before a mistake counts; the next read is the end.
            len @ 1.. => Ok(len),
            0 => match processed {
                Err(error) => Err(error),
                Ok(_) if self.has_ended => Ok(0),
                Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = &bytes[..bytes.len().min(WRITE_LEN)];
        if !bytes.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            let written = self.process(Task::Write(bytes), &mut unread);
            self.unread = unread;
            if !written? {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        match self.try_flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            flushed => flushed?,
        }
        Ok(bytes.len())
    }

    fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.tcp.try_write(&self.outgoing)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.outgoing.advance(written),
            }
        }
        self.outgoing = BytesMut::new();
        Ok(())
    }

    fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            let mut unread = BytesMut::new();
            // A connection that broke needs no goodbye.
            let _ = self.process(Task::Close, &mut unread);
        }
    }
}

/// Makes room at the end of `out` and lets `write` fill it. With too little
/// room, which it says by the size it needs, it is asked once more.
fn append(
    out: &mut BytesMut,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let from = out.len();
    let mut room = guess;
    for _ in 0..2 {
        out.resize(from + room, 0);
        match write(&mut out[from..]) {
            Ok(len) => {
                out.truncate(from + len);
                return true;
            }
            Err(Some(error)) => room = error.required_size,
            Err(None) => break,
        }
    }
    out.truncate(from);
    false
}

fn sealed(result: Result<usize, EncryptError>) -> Result<usize, Option<InsufficientSizeError>> {
    result.map_err(|error| match error {
        EncryptError::InsufficientSize(error) => Some(error),
        EncryptError::EncryptExhausted => None,
    })
}

fn sealed_len(bytes: &[u8]) -> usize {
    bytes.len() + (bytes.len() / RECORD_LEN + 1) * RECORD_OVERHEAD
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
