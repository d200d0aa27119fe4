//! A small Kafka client for the commands: one connection, one request at a
//! time, plain sentences when something fails.
//!
//! It talks to the node it was pointed at and follows no leaders: a gateway
//! and a single hub lead all their partitions. Programs use a real client
//! library; this one exists so that the binary needs nothing beside it.

pub mod acls;
pub mod records;
pub mod topics;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use forebay_kafka::{Request, decode_response, encode_request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostPort;
use crate::sasl::Sasl;
use crate::tls::ClientTls;
use crate::tls::client::ClientTlsError;
use forebay_uplink::driver::{Credentials, Stream};

/// How the commands introduce themselves in the node's logs.
const CLIENT_ID: &str = "forebay-cli";

/// A node on a plant network answers a connect within milliseconds; five
/// seconds cover a lost SYN and its second repetition.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any wait that a request here asks for (a topic's creation, a
/// long-polling fetch).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A fetch asks for at most 4 MiB and may get one batch more than that; what
/// is beyond this is not a Kafka answer.
const FRAME_BYTES_MAX: usize = 128 << 20;

/// What a program shows over HTTP to say who it is.
#[derive(Clone)]
pub struct Token(pub Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// A node's address, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where it listens.
    pub address: HostPort,
    /// How it is checked and what it is shown; `None` is plain TCP.
    pub tls: Option<Arc<ClientTls>>,
    /// What is shown over HTTP to say who asks.
    pub token: Option<Token>,
    /// Who asks; `None` does not log in.
    pub login: Option<Sasl>,
}

impl From<&HostPort> for Endpoint {
    fn from(address: &HostPort) -> Self {
        Self {
            address: address.clone(),
            tls: None,
            token: None,
            login: None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Endpoint {
    /// Connects. The caller bounds the time.
    ///
    /// # Errors
    /// Nobody listens, or TLS does not come about; [`Self::explain`] knows that.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let host = self.address.host.as_str();
        let tcp = TcpStream::connect((host, self.address.port)).await?;
        // Requests are single small writes; waiting to join them helps nobody.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let stream = tls.connect(host, &self.to_string(), tcp).await;
        Ok(Box::new(stream.map_err(io::Error::other)?))
    }

    /// A sentence about a failure of TLS; `None` when it is another failure.
    #[must_use]
    pub fn explain(&self, error: &io::Error) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let own = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<ClientTlsError>());
        let own = own.map(ToString::to_string);
        own.or_else(|| tls.explain(&self.to_string(), error))
    }
}

/// One connection to a node.
pub struct Client {
    stream: Box<dyn Stream>,
    endpoint: Endpoint,
    address: String,
    correlation: i32,
}

/// Why a command got no answer, or an answer it cannot use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "nothing listens on {address} (connection refused); is forebay running, and is that its [kafka] listen address?"
    )]
    Refused {
        /// Where the client tried.
        address: String,
    },
    /// The connection could not be opened for another reason.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where the client tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS did not come about.
    #[error("{reason}")]
    Tls {
        /// Why, in a sentence.
        reason: String,
    },
    /// The login did not come about.
    #[error("{address}: the login did not come about: {reason}")]
    Login {
        /// The node.
        address: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// The connection broke.
    #[error(
        "the connection to {address} broke: {source}; is that a Kafka port, and does it want a login (--user, --password-file)?"
    )]
    Broken {
        /// The node.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address} did not answer within {} s", limit.as_secs())]
    Silent {
        /// The node.
        address: String,
        /// How long the client waited.
        limit: Duration,
    },
    /// What came back is not Kafka.
    #[error("{address} answered something that is not the Kafka protocol: {reason}")]
    Protocol {
        /// The node.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node refused.
    #[error("{subject}: {}", refusal(*code, message.as_deref()))]
    Refusal {
        /// What was asked, such as `topic vibration`.
        subject: String,
        /// The Kafka error code.
        code: i16,
        /// The node's own words.
        message: Option<String>,
    },
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Client");
        shown.field("address", &self.address);
        shown.finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a node.
    ///
    /// # Errors
    /// Nobody listens, the name is unknown, or the network does not answer.
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Self, ClientError> {
        let endpoint = endpoint.into();
        let shown = endpoint.to_string();
        let stream = timeout(CONNECT_TIMEOUT, endpoint.open())
            .await
            .map_err(|_| ClientError::Silent {
                address: shown.clone(),
                limit: CONNECT_TIMEOUT,
            })?
            .map_err(|source| match source.kind() {
                io::ErrorKind::ConnectionRefused => ClientError::Refused {
                    address: shown.clone(),
                },
                _ => match endpoint.explain(&source) {
                    Some(reason) => ClientError::Tls { reason },
                    None => ClientError::Connect {
                        address: shown.clone(),
                        source,
                    },
                },
            })?;
        let login = endpoint.login.clone();
        let mut client = Self {
            stream,
            endpoint,
            address: shown,
            correlation: 0,
        };
        if let Some(login) = login {
            client.log_in(&login).await?;
        }
        Ok(client)
    }

    async fn log_in(&mut self, login: &Sasl) -> Result<(), ClientError> {
        let subject = format!("the login of {}", login.user);
        let request = SaslHandshakeRequest {
            mechanism: login.mechanism().into(),
        };
        let offered = self.call(&request, 1).await?;
        check(&subject, offered.error_code, None)?;
        let failed = |reason| ClientError::Login {
            address: self.address.clone(),
            reason,
        };
        let mut next = Some(login.begin().map_err(failed)?);
        while let Some((exchange, message)) = next {
            let request = SaslAuthenticateRequest {
                auth_bytes: message.into(),
                ..SaslAuthenticateRequest::default()
            };
            let answer = self.call(&request, 2).await?;
            check(&subject, answer.error_code, answer.error_message.as_deref())?;
            // A command does nothing else meanwhile.
            let answered = exchange.answer(&answer.auth_bytes);
            next = answered.map_err(|reason| ClientError::Login {
                address: self.address.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, nothing came in time, or it is not Kafka.
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = encode_request(request, version, self.correlation, Some(CLIENT_ID))
            .map_err(|error| self.protocol(error.to_string()))?;
        let exchange = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await?;
            read_frame(&mut self.stream).await
        };
        let answer = match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(source)) => {
                return Err(match self.endpoint.explain(&source) {
                    Some(reason) => ClientError::Tls { reason },
                    None => ClientError::Broken {
                        address: self.address.clone(),
                        source,
                    },
                });
            }
            Err(_) => {
                return Err(ClientError::Silent {
                    address: self.address.clone(),
                    limit: ANSWER_TIMEOUT,
                });
            }
        };
        let (correlation, response) = decode_response::<R>(answer, version)
            .map_err(|error| self.protocol(error.to_string()))?;
        if correlation != self.correlation {
            return Err(self.protocol(format!(
                "correlation id {correlation}, expected {}",
                self.correlation
            )));
        }
        Ok(response)
    }

    /// The node as it was named.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            reason,
        }
    }
}

/// Turns an error code into a refusal; zero is no error.
fn check(subject: &str, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    if code == 0 {
        return Ok(());
    }
    Err(ClientError::Refusal {
        subject: subject.to_owned(),
        code,
        message: message.map(str::to_owned),
    })
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= FRAME_BYTES_MAX)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it announces an answer of {length} bytes"),
            )
        })?;
    let mut frame = Vec::new();
    stream
        .take(length as u64)
        .read_to_end(&mut frame)
        .await
        .and_then(|read| {
            if read == length {
                Ok(Bytes::from(frame))
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        })
}

/// A sentence for an error code of the Kafka protocol.
fn refusal(code: i16, message: Option<&str>) -> String {
    let plain = match code {
        1 => "that offset is outside what the log holds",
        3 => "there is no such topic or partition",
        6 => "this node does not lead that partition",
        17 => "that is not a valid topic name",
        29..=31 => "the user has no permission for that",
        33 => "the node knows no such login",
        58 => "the login was refused",
        36 => "a topic of that name exists already",
        37 => "that number of partitions is not possible",
        40 => "that configuration is not possible",
        42 => "the request is not valid",
        56 => "the disk of the node is full or failing",
        _ => "the node refused",
    };
    match message {
        Some(message) if !message.is_empty() => format!("{plain}: {message} (error {code})"),
        _ => format!("{plain} (error {code})"),
    }
}
