//! The shell around a [`Bus`]: sockets, serial ports and the clock, by tokio.
//!
//! Only here does this crate touch tokio. [`Client`] drives a bus for as long
//! as it is polled; [`Asker`] asks single questions for a person who looks for
//! the right register.

mod asker;
mod serial;
mod stream;

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

pub use asker::{AskError, Asker, Reply};
pub use stream::Stream;

use crate::bus::{
    Bus, BusConfig, Counters, Effect, Moment, Notice, Reading, WriteError, WriteFailure, WriteId,
};
use crate::endpoint::Endpoint;
use crate::value::Value;

/// Bytes that one read takes: one frame and what may lie behind it.
const READ_SIZE: usize = 512;

/// A deadline that never comes, as far as a program's life goes.
const NEVER: std::time::Duration = std::time::Duration::from_secs(86_400);

type Opening = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// What a bus has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Readings that came just now.
    Report(Vec<Reading>),
    /// A write ended.
    Written {
        /// What [`Client::write`] returned.
        id: WriteId,
        /// The value that was read back.
        result: Result<Value, WriteFailure>,
    },
    /// Something changed that an operator wants to know.
    Notice(Notice),
}

/// A bus with its connection. It does nothing while [`Client::next`] is not
/// awaited, so a caller that is held up holds the polls up, and those that fall
/// out are counted.
pub struct Client {
    bus: Bus,
    endpoint: Endpoint,
    origin: Instant,
    stream: Option<Stream>,
    opening: Option<Opening>,
    /// The frame that is being sent. A bus sends one at a time.
    outbox: Vec<u8>,
    input: Box<[u8; READ_SIZE]>,
}

/// What woke the client.
enum Wake {
    Opened(io::Result<Stream>),
    Sent(io::Result<usize>),
    Read(io::Result<usize>),
    Timer,
}

impl Client {
    /// A client of the bus at `endpoint`; see [`Bus::new`]. The framing of the
    /// configuration must be the endpoint's.
    #[must_use]
    pub fn new(endpoint: Endpoint, config: BusConfig, seed: u64) -> Self {
        Self {
            bus: Bus::new(config, Moment::ZERO, seed),
            endpoint,
            origin: Instant::now(),
            stream: None,
            opening: None,
            outbox: Vec::new(),
            input: Box::new([0; READ_SIZE]),
        }
    }

    /// Waits for the next thing to tell. Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready() {
                return event;
            }
            let wake = self.wait().await;
            self.handle(wake);
        }
    }

    /// What there is to tell already. Call it until it yields nothing before
    /// [`Client::reconfigure`], which discards what is left.
    pub fn ready(&mut self) -> Option<Event> {
        while let Some(effect) = self.bus.poll_effect() {
            if let Some(event) = self.carry_out(effect) {
                return Some(event);
            }
        }
        None
    }

    /// Takes other tags and rules over and keeps the connection; see
    /// [`Bus::reconfigure`].
    pub fn reconfigure(&mut self, config: BusConfig) {
        self.bus.reconfigure(self.origin.elapsed(), config);
    }

    /// Writes a tag; see [`Bus::write`]. It is given up unsent after `within`.
    ///
    /// # Errors
    /// The tag cannot take the value, or too many writes wait.
    pub fn write(
        &mut self,
        tag: usize,
        value: &Value,
        within: std::time::Duration,
    ) -> Result<WriteId, WriteError> {
        let now = self.origin.elapsed();
        self.bus.write(now, tag, value, now + within)
    }

    /// What the bus did so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.bus.counters()
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Connect => {
                self.stream = None;
                self.outbox.clear();
                let endpoint = self.endpoint.clone();
                self.opening = Some(Box::pin(async move { stream::open(&endpoint).await }));
            }
            Effect::Disconnect => {
                self.stream = None;
                self.opening = None;
                self.outbox.clear();
            }
            Effect::Send(frame) => self.outbox.extend_from_slice(&frame),
            Effect::Report(readings) => return Some(Event::Report(readings)),
            Effect::Written { id, result } => return Some(Event::Written { id, result }),
            Effect::Notice(notice) => return Some(Event::Notice(notice)),
        }
        None
    }

    /// Waits until there is something for the bus. Bytes go before the timer:
    /// an answer that is there is not late, even when this task was.
    async fn wait(&mut self) -> Wake {
        let deadline = self.bus.next_deadline().unwrap_or(NEVER);
        let deadline = self.origin + deadline.min(self.origin.elapsed() + NEVER);
        let timer = sleep_until(deadline);
        if let Some(opening) = &mut self.opening {
            return tokio::select! {
                biased;
                opened = opening => Wake::Opened(opened),
                () = timer => Wake::Timer,
            };
        }
        match &mut self.stream {
            Some(stream) if !self.outbox.is_empty() => tokio::select! {
                biased;
                sent = stream.write(&self.outbox) => Wake::Sent(sent),
                () = timer => Wake::Timer,
            },
            Some(stream) => tokio::select! {
                biased;
                read = stream.read(&mut self.input[..]) => Wake::Read(read),
                () = timer => Wake::Timer,
            },
            None => {
                timer.await;
                Wake::Timer
            }
        }
    }

    fn handle(&mut self, wake: Wake) {
        let now = self.origin.elapsed();
        match wake {
            Wake::Opened(Ok(stream)) => {
                self.opening = None;
                self.stream = Some(stream);
                self.bus.handle_connected(now);
            }
            Wake::Opened(Err(error)) => {
                self.opening = None;
                self.bus.handle_connect_failed(now, error.to_string());
            }
            Wake::Sent(Ok(0)) | Wake::Read(Ok(0)) => {
                self.closed(now, "closed by the peer".to_owned());
            }
            Wake::Sent(Ok(size)) => {
                self.outbox.drain(..size);
            }
            Wake::Read(Ok(size)) => self.bus.handle_bytes(now, &self.input[..size]),
            Wake::Sent(Err(error)) | Wake::Read(Err(error)) => self.closed(now, error.to_string()),
            Wake::Timer => self.bus.handle_timer(now),
        }
    }

    fn closed(&mut self, now: Moment, reason: String) {
        self.stream = None;
        self.outbox.clear();
        self.bus.handle_closed(now, reason);
    }
}
