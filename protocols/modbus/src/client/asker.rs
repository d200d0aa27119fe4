//! Single questions, for a person who looks for the right register.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::stream::{self, Stream};
use crate::bus::Framing;
use crate::endpoint::Endpoint;
use crate::exception::Exception;
use crate::frame::{rtu, tcp};
use crate::request::{Answer, Misfit, Request, RequestError};

/// Asks one question at a time and waits for the answer.
pub struct Asker {
    endpoint: Endpoint,
    stream: Option<Stream>,
    timeout: Duration,
    transaction: u16,
}

/// What a device said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What was read, as in [`Answer::Data`].
    Data(Vec<u8>),
    /// The write was carried out.
    Written,
    /// The device refused.
    Refused(Exception),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question cannot be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The connection or the port cannot be opened.
    #[error("cannot open {endpoint}: {source}")]
    Open {
        /// What was tried.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// No answer came.
    #[error("unit {unit} did not answer within {timeout:?}")]
    Timeout {
        /// The unit.
        unit: u8,
        /// The time that was waited.
        timeout: Duration,
    },
    /// What came is no Modbus TCP frame.
    #[error("what answers does not speak Modbus TCP: {0}")]
    Tcp(#[from] tcp::FrameError),
    /// What came is not the answer's RTU frame.
    #[error("what came is not the answer: {0}")]
    Rtu(#[from] rtu::FrameError),
    /// What came answers another question.
    #[error("what came is not the answer: {0}")]
    Misfit(#[from] Misfit),
}

impl Asker {
    /// Asks at `endpoint` and waits `timeout` for each answer.
    #[must_use]
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self {
            endpoint,
            stream: None,
            timeout,
            transaction: 0,
        }
    }

    /// Asks one question. After a failure the next question gets a connection
    /// of its own, and on an RTU bus late bytes are waited for and discarded.
    ///
    /// # Errors
    /// There is no connection, or no answer to this question came.
    pub async fn ask(&mut self, unit: u8, request: &Request) -> Result<Reply, AskError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let result = self.exchange(&mut stream, unit, request).await;
        let framing = self.endpoint.framing();
        let is_serial = matches!(framing, Framing::Rtu { .. });
        let is_clean = match &result {
            Ok(_) => true,
            Err(_) => is_serial && discard(&mut stream, self.timeout).await.is_ok(),
        };
        if is_clean {
            self.stream = Some(stream);
        }
        result
    }

    async fn open(&self) -> Result<Stream, AskError> {
        let failed = |source| AskError::Open {
            endpoint: self.endpoint.to_string(),
            source,
        };
        let mut stream = timeout(self.timeout, stream::open(&self.endpoint))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        if self.endpoint.framing() == Framing::RtuOverTcp && self.transaction > 0 {
            discard(&mut stream, self.timeout).await?;
        }
        Ok(stream)
    }

    async fn exchange(
        &mut self,
        stream: &mut Stream,
        unit: u8,
        request: &Request,
    ) -> Result<Reply, AskError> {
        let mut pdu = Vec::new();
        request.encode(&mut pdu)?;
        self.transaction = self.transaction.wrapping_add(1).max(1);
        let mut frame = Vec::new();
        let is_tcp = self.endpoint.framing() == Framing::Tcp;
        if is_tcp {
            tcp::encode(self.transaction, unit, &pdu, &mut frame);
        } else {
            rtu::encode(unit, &pdu, &mut frame);
        }
        stream.write_all(&frame).await?;
        let late = Instant::now() + self.timeout;
        let mut input = Vec::new();
        loop {
            let found = if is_tcp {
                self.tcp_answer(&mut input, unit, request)?
            } else {
                let found = rtu::decode(&input, unit, request)?;
                found
                    .map(|frame| request.answer(frame.pdu).map(Reply::from))
                    .transpose()?
            };
            if let Some(reply) = found {
                return Ok(reply);
            }
            let mut chunk = [0; super::READ_SIZE];
            let timed_out = AskError::Timeout {
                unit,
                timeout: self.timeout,
            };
            let read = timeout_at(late, stream.read(&mut chunk)).await;
            match read.map_err(|_| timed_out)?? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                size => input.extend_from_slice(&chunk[..size]),
            }
        }
    }

    /// The answer with this question's id; others are discarded.
    fn tcp_answer(
        &self,
        input: &mut Vec<u8>,
        unit: u8,
        request: &Request,
    ) -> Result<Option<Reply>, AskError> {
        while let Some(frame) = tcp::decode(input)? {
            let is_ours = frame.transaction == self.transaction;
            if is_ours && frame.unit != unit {
                let got = frame.unit;
                let expected = unit;
                return Err(rtu::FrameError::Unit { got, expected }.into());
            }
            if is_ours {
                return Ok(Some(request.answer(frame.pdu)?.into()));
            }
            let size = frame.size;
            input.drain(..size);
        }
        Ok(None)
    }
}

impl From<Answer<'_>> for Reply {
    fn from(answer: Answer<'_>) -> Self {
        match answer {
            Answer::Data(data) => Self::Data(data.to_vec()),
            Answer::Written => Self::Written,
            Answer::Refused(exception) => Self::Refused(exception),
        }
    }
}

/// Discards what comes within `length`.
async fn discard(stream: &mut Stream, length: Duration) -> io::Result<()> {
    let end = Instant::now() + length;
    let mut chunk = [0; super::READ_SIZE];
    while let Ok(read) = timeout_at(end, stream.read(&mut chunk)).await {
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
