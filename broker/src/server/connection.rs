//! One connection: a reader that handles requests in order and a writer that
//! sends their responses in order, both in one task.
//!
//! The reader hands a request to the broker as soon as it has arrived, so
//! pipelined Produce requests share commit windows. The writer waits for
//! whatever a [`Reply`] asks for. A full queue stops the reader, and with it
//! the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_storage::Ticket;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{FrameBuffer, FrameError, LENGTH_LEN, Source};
use super::stopped;
use super::transport::{Opened, Opening};
use crate::reply::{CloseReason, Work};
use crate::{Broker, ClientCertificate, ConnectionContext, FetchWait, Reply, Stream};

/// Requests of one connection that are handled and not answered. Clients keep
/// at most five by default; more only helps very long links.
const MAX_PIPELINED: usize = 32;

/// Responses up to this size are copied together and leave in one write.
const COALESCE_BYTES: usize = 16 * 1024;

/// Bytes per write, each of which has [`WRITE_TIMEOUT`].
const WRITE_CHUNK_BYTES: usize = 256 * 1024;

/// How long a client may take to accept a chunk. A client that reads nothing
/// would keep its responses in memory for good.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long responses may still be written after the client has stopped
/// sending.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest pause before a stalled append is tried again without a commit.
const STALL_RETRY: Duration = Duration::from_millis(50);

/// How long a client that has to log in may take for it. Checking a password
/// takes a second at most, and a person types none here.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a connection ended other than by the client closing it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Close(#[from] CloseReason),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    #[error("client accepted no bytes for {} s", WRITE_TIMEOUT.as_secs())]
    Stuck,
    #[error("no login within {} s", LOGIN_TIMEOUT.as_secs())]
    NoLogin,
    #[error("request handler panicked")]
    Panicked,
    #[error("storage is closed")]
    StorageClosed,
}

impl ConnectionError {
    /// Whether the client sent what it must not send.
    pub(super) fn is_violation(&self) -> bool {
        match self {
            Self::Frame(error) => matches!(error, FrameError::Length { .. } | FrameError::Cut),
            Self::Close(reason) => matches!(
                reason,
                CloseReason::UnknownApi(_)
                    | CloseReason::UnsupportedVersion { .. }
                    | CloseReason::Malformed(_)
            ),
            _ => false,
        }
    }
}

/// A connection before its socket is split.
pub(super) struct Connection {
    broker: Arc<Broker>,
    commits: watch::Receiver<Ticket>,
    shutdown: watch::Receiver<bool>,
    context: ConnectionContext,
}

impl Connection {
    pub(super) fn new(
        broker: Arc<Broker>,
        commits: watch::Receiver<Ticket>,
        shutdown: watch::Receiver<bool>,
        context: ConnectionContext,
    ) -> Self {
        Self {
            broker,
            commits,
            shutdown,
            context,
        }
    }

    /// Waits for the connection to be ready; `None` when it is not to be, or when
    /// the server stops.
    pub(super) async fn until_stopped(&mut self, opening: Opening) -> Option<Opened> {
        tokio::select! {
            biased;
            () = stopped(&mut self.shutdown) => None,
            opened = opening => opened,
        }
    }

    /// Notes who the client is.
    pub(super) fn identify(&mut self, certificate: Option<Arc<ClientCertificate>>) {
        self.context.certificate = certificate;
    }

    /// Serves the connection until either side closes it.
    pub(super) async fn run(self, stream: TcpStream) -> Result<(), ConnectionError> {
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        self.exchange(read, write).await
    }

    /// The same over another stream.
    pub(super) async fn run_over(self, stream: Box<dyn Stream>) -> Result<(), ConnectionError> {
        let (read, write) = tokio::io::split(stream);
        self.exchange(read, write).await
    }

    async fn exchange(
        self,
        read: impl Source,
        write: impl AsyncWrite + Unpin + Send,
    ) -> Result<(), ConnectionError> {
        let (replies, queue) = mpsc::channel(MAX_PIPELINED);
        let writer = Writer {
            broker: Arc::clone(&self.broker),
            commits: self.commits.clone(),
            socket: write,
            out: BytesMut::new(),
        };
        let reader = self.read(read, replies);
        let writer = writer.write(queue);
        tokio::pin!(reader, writer);
        tokio::select! {
            written = &mut writer => written,
            read = &mut reader => {
                // The reader dropped its end of the queue; what is in it leaves.
                let lingered = timeout(LINGER_TIMEOUT, writer).await;
                read.and(lingered.unwrap_or(Ok(())))
            }
        }
    }

    async fn read(
        mut self,
        mut source: impl Source,
        replies: mpsc::Sender<Reply>,
    ) -> Result<(), ConnectionError> {
        let mut frames = FrameBuffer::default();
        let login_until = Instant::now() + LOGIN_TIMEOUT;
        loop {
            let is_known = self.broker.is_known(&self.context);
            let frame = tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => return Ok(()),
                () = sleep_until(login_until), if !is_known => {
                    return Err(ConnectionError::NoLogin);
                }
                frame = frames.next(&mut source, is_known) => frame?,
            };
            let Some(frame) = frame else { return Ok(()) };
            let counters = &self.broker.counters;
            counters.add_bytes_in(LENGTH_LEN + frame.len());
            let reply = self.broker.handle(frame, self.context.clone());
            match self.settle(reply).await? {
                Reply::None => {}
                Reply::Close(reason) => return Err(reason.into()),
                reply => {
                    if replies.send(reply).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does what has to happen before the next request is handled.
    async fn settle(&mut self, mut reply: Reply) -> Result<Reply, ConnectionError> {
        loop {
            reply = match reply {
                Reply::Blocking(work) => run_blocking(work).await?,
                Reply::Pending(work) => work.await,
                Reply::Stalled(work) => {
                    self.commits.mark_unchanged();
                    let _ = timeout(STALL_RETRY, self.commits.changed()).await;
                    run_blocking(work).await?
                }
                settled => return Ok(settled),
            };
        }
    }
}

struct Writer<W> {
    broker: Arc<Broker>,
    commits: watch::Receiver<Ticket>,
    socket: W,
    /// Small responses that leave with the next write.
    out: BytesMut,
}

impl<W: AsyncWrite + Unpin + Send> Writer<W> {
    async fn write(mut self, mut queue: mpsc::Receiver<Reply>) -> Result<(), ConnectionError> {
        loop {
            let reply = match queue.try_recv() {
                Ok(reply) => reply,
                Err(_) => {
                    self.flush().await?;
                    match queue.recv().await {
                        Some(reply) => reply,
                        None => return Ok(()),
                    }
                }
            };
            let response = self.response(reply).await?;
            if response.len() > COALESCE_BYTES {
                self.flush().await?;
                self.send(&response).await?;
            } else {
                self.out.extend_from_slice(&response);
                if self.out.len() > COALESCE_BYTES {
                    self.flush().await?;
                }
            }
        }
    }

    /// Waits until a response may leave. Responses before it do not wait
    /// with it.
    async fn response(&mut self, reply: Reply) -> Result<Bytes, ConnectionError> {
        match reply {
            Reply::Ready(response) => Ok(response),
            Reply::AfterCommit { ticket, response } => {
                if !self.broker.storage().is_durable(ticket) {
                    self.flush().await?;
                    let waited = self.commits.wait_for(|newest| *newest >= ticket).await;
                    waited.map_err(|_| ConnectionError::StorageClosed)?;
                }
                Ok(response)
            }
            Reply::LongPoll(fetch) => {
                self.flush().await?;
                self.long_poll(fetch).await
            }
            Reply::Later(answer) => {
                self.flush().await?;
                Ok(answer.await)
            }
            Reply::Close(reason) => Err(reason.into()),
            Reply::None | Reply::Blocking(_) | Reply::Stalled(_) | Reply::Pending(_) => {
                Ok(Bytes::new())
            }
        }
    }

    async fn long_poll(&mut self, mut fetch: Box<FetchWait>) -> Result<Bytes, ConnectionError> {
        let deadline = Instant::now() + fetch.wait();
        loop {
            self.commits.mark_unchanged();
            if fetch.has_news() {
                let read = spawn_blocking(move || {
                    fetch.read();
                    fetch
                });
                fetch = read.await.map_err(|_| ConnectionError::Panicked)?;
            }
            if fetch.is_done() || Instant::now() >= deadline {
                return Ok(fetch.finish()?);
            }
            tokio::select! {
                changed = self.commits.changed() => changed.map_err(|_| ConnectionError::StorageClosed)?,
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        for chunk in bytes.chunks(WRITE_CHUNK_BYTES) {
            timeout(WRITE_TIMEOUT, self.socket.write_all(chunk))
                .await
                .map_err(|_| ConnectionError::Stuck)??;
            // A stream over another may hold bytes back; a socket does not.
            timeout(WRITE_TIMEOUT, self.socket.flush())
                .await
                .map_err(|_| ConnectionError::Stuck)??;
            self.broker.counters.add_bytes_out(chunk.len());
        }
        Ok(())
    }
}

async fn run_blocking(work: Work) -> Result<Reply, ConnectionError> {
    spawn_blocking(work)
        .await
        .map_err(|_| ConnectionError::Panicked)
}
