//! One TCP connection to a broker: frames out, frames in.

use std::io;
use std::time::Duration;

use super::secure::{Secure, Stream};
use bytes::{Bytes, BytesMut};
use forebay_kafka::{DecodeError, EncodeError, Request, decode_response, encode_request};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long one address may take to answer a connection attempt, name lookup
/// included: three lost SYNs.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take before the connection counts as dead. Longer
/// than the timeout that a Produce names, so that the broker answers first.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest response accepted. The tail fetch asks for at most 1 MiB, and one
/// batch may be larger; brokers refuse batches far below this.
const MAX_RESPONSE: usize = 64 << 20;

/// Request frames waiting for the socket. The links bound what is in flight;
/// this bounds how much of it is encoded ahead.
const MAX_QUEUED_FRAMES: usize = 1024;

/// The name under which the broker sees this client.
pub const CLIENT_ID: &str = "forebay-uplink";

/// Why a request on a connection failed.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The socket failed.
    #[error("connection to {address} failed")]
    Io {
        /// The broker's address.
        address: String,
        /// The system's finding.
        source: io::Error,
    },
    /// Nothing came within the limit.
    #[error("{address} did not answer within {} s", .limit.as_secs())]
    Timeout {
        /// The broker's address.
        address: String,
        /// The limit.
        limit: Duration,
    },
    /// A request could not be encoded.
    #[error("request for {address} cannot be encoded")]
    Encode {
        /// The broker's address.
        address: String,
        /// The codec's finding.
        source: EncodeError,
    },
    /// A response could not be decoded.
    #[error("response of {address} cannot be decoded")]
    Decode {
        /// The broker's address.
        address: String,
        /// The codec's finding.
        source: DecodeError,
    },
    /// The broker did not let the uplink in.
    #[error("{address} refused the login: {reason}")]
    Login {
        /// The broker's address.
        address: String,
        /// Its reason.
        reason: String,
    },
    /// The broker answered with an error.
    #[error("{address} refused {what} with error code {code} ({name})")]
    Refused {
        /// The broker's address.
        address: String,
        /// What was asked for.
        what: String,
        /// Kafka error code.
        code: i16,
        /// The code's name.
        name: &'static str,
    },
}

/// A connection on which one request at a time is made.
pub struct Calls {
    /// The broker's address.
    pub address: String,
    stream: Box<dyn Stream>,
    correlation: i32,
}

impl Calls {
    /// Connects to `address`, which is `host:port`; the name is looked up
    /// anew each time. The handshake of `secure`, if there is one, comes first.
    ///
    /// # Errors
    /// When the name does not resolve or nobody answers.
    pub async fn connect(
        address: &str,
        secure: Option<&dyn Secure>,
    ) -> Result<Calls, ConnectionError> {
        let io = |source| ConnectionError::Io {
            address: address.to_owned(),
            source,
        };
        let connecting = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            match secure {
                Some(secure) => secure.secure(address, tcp).await,
                None => Ok(Box::new(tcp) as Box<dyn Stream>),
            }
        };
        let stream = timeout(CONNECT_TIMEOUT, connecting).await;
        let stream = stream.map_err(|_| ConnectionError::Timeout {
            address: address.to_owned(),
            limit: CONNECT_TIMEOUT,
        })?;
        let stream = stream.map_err(io)?;
        Ok(Calls {
            address: address.to_owned(),
            stream,
            correlation: 0,
        })
    }

    /// Makes one request and waits for its answer.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection is of no use after it.
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ConnectionError> {
        let frame = self.call_raw(request, version).await?;
        let decoded = decode_response::<R>(frame, version);
        let (_, response) = decoded.map_err(|source| ConnectionError::Decode {
            address: self.address.clone(),
            source,
        })?;
        Ok(response)
    }

    /// Like [`Self::call`] and leaves the decoding to the caller.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection is of no use after it.
    pub async fn call_raw<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, ConnectionError> {
        self.correlation += 1;
        let frame = encode_request(request, version, self.correlation, Some(CLIENT_ID));
        let frame = frame.map_err(|source| ConnectionError::Encode {
            address: self.address.clone(),
            source,
        })?;
        let exchange = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await?;
            read_frame(&mut self.stream).await
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(source)) => Err(ConnectionError::Io {
                address: self.address.clone(),
                source,
            }),
            Err(_) => Err(ConnectionError::Timeout {
                address: self.address.clone(),
                limit: ANSWER_TIMEOUT,
            }),
        }
    }

    /// Turns the connection into one on which requests are pipelined.
    pub fn into_pipeline(self, generation: u64, events: mpsc::Sender<Wire>) -> Pipeline {
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let (sender, mut queue) = mpsc::channel::<Bytes>(MAX_QUEUED_FRAMES);
        let failed = events.clone();
        let writing = tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                let written = async {
                    writer.write_all(&frame).await?;
                    // A stream over another may hold bytes back.
                    writer.flush().await
                };
                if let Err(error) = written.await {
                    let error = error.to_string();
                    let _ = failed.send(Wire::Closed { generation, error }).await;
                    return;
                }
            }
        });
        let reading = tokio::spawn(async move {
            loop {
                let wire = match read_frame(&mut reader).await {
                    Ok(frame) => Wire::Frame { generation, frame },
                    Err(error) => Wire::Closed {
                        generation,
                        error: error.to_string(),
                    },
                };
                let ends = matches!(wire, Wire::Closed { .. });
                if events.send(wire).await.is_err() || ends {
                    return;
                }
            }
        });
        Pipeline {
            sender,
            tasks: [reading, writing],
            correlation: self.correlation,
        }
    }
}

/// What a pipelined connection reports.
#[derive(Debug)]
pub enum Wire {
    /// A response, without its length.
    Frame {
        /// Which connection.
        generation: u64,
        /// The bytes.
        frame: Bytes,
    },
    /// The connection is gone.
    Closed {
        /// Which connection.
        generation: u64,
        /// Why.
        error: String,
    },
}

/// A connection on which several requests are on their way. Dropping it
/// closes the socket.
pub struct Pipeline {
    sender: mpsc::Sender<Bytes>,
    tasks: [JoinHandle<()>; 2],
    correlation: i32,
}

impl Pipeline {
    /// Queues one request and returns its correlation id; `None` when the
    /// connection is gone or does not keep up.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Option<i32> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = encode_request(request, version, self.correlation, Some(CLIENT_ID)).ok()?;
        self.sender.try_send(frame).ok()?;
        Some(self.correlation)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let length = stream.read_u32().await? as usize;
    if length > MAX_RESPONSE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("response has {length} bytes, expected at most {MAX_RESPONSE}"),
        ));
    }
    let mut frame = BytesMut::new();
    let mut limited = stream.take(length as u64);
    // The buffer grows with what arrives and not with what is claimed.
    while limited.read_buf(&mut frame).await? > 0 {}
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.freeze())
}
