//! The client of one bus as a state machine without I/O.
//!
//! A bus carries one request at a time. What it may carry next is decided in
//! this order: a write, then the polls that are due, one request of each group
//! in turn, so that a large group does not hold up a small one. A group whose
//! former cycle is still under way when the next is due skips that one and
//! counts it: nothing ever queues up.
//!
//! **No value goes to the wrong tag.** Over TCP an answer must carry the
//! transaction id of the one request under way; late answers are discarded by
//! their id. RTU frames carry none, so after every time-out or garbage on an
//! RTU bus all bytes are discarded for a whole time-out (the connection, if
//! there is one, is made anew first, and drained because serial converters
//! hand late answers to whoever is connected), and before a unit that left a
//! request unanswered is read again, it must answer a request of another
//! function, which no late answer can be mistaken for. Devices answer in order,
//! so after that nothing old can come.
//!
//! Call a `handle_*` or a command, then [`Bus::poll_effect`] until it yields
//! nothing, then wait for input or for [`Bus::next_deadline`]. Time is a
//! [`Moment`], measured by the caller from wherever it likes.

mod exchange;
mod groups;
mod link;
mod unit;
mod writes;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::address::Address;
use crate::exception::Exception;
use crate::plan::Limits;
use crate::report::{ReportRule, Reported};
use crate::request::RequestError;
use crate::value::{EncodeError, Encoding, Value};

use exchange::Exchange;
use groups::Group;
use link::Link;
use unit::Unit;
use writes::Write;

/// Time since an origin that the caller chose; it never goes backwards.
pub type Moment = Duration;

/// Writes that wait at most. They are commands of people and programs, one at a
/// time per tag; a bus that is 64 behind is not going to catch up.
pub const WRITES_MAX: usize = 64;

/// What a bus is.
#[derive(Debug, Clone, PartialEq)]
pub struct BusConfig {
    /// How frames travel.
    pub framing: Framing,
    /// Silence after a connection is made, for devices that are not ready yet.
    pub pause_after_connect: Duration,
    /// Whether the connection is closed when no poll is due any more, for
    /// devices that serve few connections.
    pub close_after_read: bool,
    /// Rules by which tags are read; [`Tag::device`] points into this.
    pub devices: Vec<Device>,
    /// Everything that is read. The position is the tag's name in effects.
    pub tags: Vec<Tag>,
}

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// RTU frames through a TCP connection.
    RtuOverTcp,
    /// RTU frames on a serial line, with this silence between them.
    Rtu {
        /// 3.5 characters; see [`crate::frame::rtu::silence`].
        silence: Duration,
    },
}

/// Rules for some tags of a bus: one section of a configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Device {
    /// How long an answer may take, beside the time that request and answer
    /// need on a serial line.
    pub timeout: Duration,
    /// How often a request without an answer is repeated before its tags are
    /// reported bad. Writes are never repeated.
    pub retries: u32,
    /// Silence between an answer and the next request.
    pub pause: Duration,
    /// How far requests may grow.
    pub limits: Limits,
}

/// One thing to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// The position of its rules in [`BusConfig::devices`].
    pub device: usize,
    /// The unit.
    pub unit: u8,
    /// Where it is.
    pub address: Address,
    /// What it is.
    pub encoding: Encoding,
    /// How often it is read. Never zero.
    pub interval: Duration,
    /// Which readings are reported.
    pub report: ReportRule,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The unit did not answer in time.
    Timeout,
    /// There is no connection to the bus.
    Disconnected,
    /// What came was broken: a wrong checksum, half a frame, noise.
    Garbled,
    /// What came answers another question: another unit, function or length.
    WrongAnswer,
    /// The device refused.
    Refused(Exception),
    /// A command waited longer than its sender allowed.
    Expired,
}

/// A result of a tag that is to be reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The position in [`BusConfig::tags`].
    pub tag: usize,
    /// The value, or why there is none.
    pub result: Result<Value, Status>,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Open the connection or the port, then call [`Bus::handle_connected`] or
    /// [`Bus::handle_connect_failed`].
    Connect,
    /// Close it, or stop opening it. Nothing is to be called.
    Disconnect,
    /// Send one whole frame.
    Send(Vec<u8>),
    /// Report readings; the moment of the last `handle_*` is when they came.
    Report(Vec<Reading>),
    /// A write ended.
    Written {
        /// What [`Bus::write`] returned.
        id: WriteId,
        /// The value that was read back.
        result: Result<Value, WriteFailure>,
    },
    /// Something changed that an operator wants to know.
    Notice(Notice),
}

/// What an operator wants to know about a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The connection stands.
    Connected,
    /// The connection was lost or could not be made; it will be tried again.
    Down(Cow<'static, str>),
    /// A unit does not answer; it is probed rarely until it does.
    UnitDegraded(u8, Status),
    /// A degraded unit answered.
    UnitRecovered(u8),
    /// The device does not have all addresses of a request; it was split.
    RequestSplit {
        /// The unit.
        unit: u8,
        /// The first address of the refused request.
        from: Address,
        /// Its registers or bits.
        count: u16,
    },
}

/// The name of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// How a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailure {
    /// The request never left.
    #[error("not sent: {}", .0.name())]
    NotSent(Status),
    /// The request left and was not confirmed: a refusal says that it was not
    /// carried out, anything else leaves it open.
    #[error("not confirmed: {}", .0.name())]
    NotConfirmed(Status),
    /// The device confirmed, but the value could not be read back.
    #[error("not read back: {}", .0.name())]
    NotReadBack(Status),
}

/// Why a write is not even tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no such tag.
    #[error("no tag {0} on this bus")]
    UnknownTag(usize),
    /// The tag's table can only be read.
    #[error("{0} can only be read")]
    ReadOnly(Address),
    /// The value does not fit the tag.
    #[error(transparent)]
    Value(#[from] EncodeError),
    /// The request cannot be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Too many writes wait already.
    #[error("{WRITES_MAX} writes wait for this bus already")]
    Full,
}

/// What a bus did since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were sent.
    pub requests: u64,
    /// Answers that fit their request, refusals included.
    pub answers: u64,
    /// Refusals among them.
    pub refusals: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Answers discarded because they were late or to nothing that was asked.
    pub discarded: u64,
    /// Answers that were broken or to another question.
    pub broken: u64,
    /// Poll cycles left out because the former one was still under way.
    pub skipped_cycles: u64,
    /// Attempts to connect.
    pub connects: u64,
    /// Connections that were lost or dropped after a failure.
    pub losses: u64,
}

/// The client of one bus.
#[derive(Debug)]
pub struct Bus {
    config: BusConfig,
    reported: Vec<Reported>,
    groups: Vec<Group>,
    /// Groups with requests to send, the next one first. No group is in it
    /// twice, so it is as long as the groups at most.
    ready: VecDeque<usize>,
    units: BTreeMap<u8, Unit>,
    writes: VecDeque<Write>,
    next_write: u64,
    link: Link,
    /// The request under way.
    current: Option<Exchange>,
    /// Bytes of an answer that is not whole. One frame at most: what is behind
    /// it is discarded.
    inbox: Vec<u8>,
    transaction: u16,
    /// No request leaves before.
    quiet_until: Moment,
    effects: VecDeque<Effect>,
    rng: fastrand::Rng,
    counters: Counters,
}

impl Bus {
    /// A bus that connects when its first poll is due, within the first second.
    /// `seed` decides phases and jitter, so that many buses that start together
    /// do not act together.
    #[must_use]
    pub fn new(config: BusConfig, now: Moment, seed: u64) -> Self {
        let mut bus = Self {
            reported: Vec::new(),
            groups: Vec::new(),
            ready: VecDeque::new(),
            units: BTreeMap::new(),
            writes: VecDeque::new(),
            next_write: 0,
            link: Link::new(config.framing),
            current: None,
            inbox: Vec::new(),
            transaction: 0,
            quiet_until: now,
            effects: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
            counters: Counters::default(),
            config,
        };
        bus.plan(now);
        bus
    }

    /// Takes other tags and rules over. The connection and what is known about
    /// the units stay; the answer to a poll that is under way is discarded.
    /// Writes that wait keep the tag that they were meant for.
    ///
    /// Reports that were not polled yet are discarded, because their positions
    /// are those of the former configuration: poll all effects before.
    pub fn reconfigure(&mut self, now: Moment, config: BusConfig) {
        self.effects
            .retain(|effect| !matches!(effect, Effect::Report(_)));
        self.config = config;
        self.disown_poll();
        self.plan(now);
        self.advance(now);
    }

    /// Takes the value of a tag to the device before any further poll, and
    /// reads it back. Ends with [`Effect::Written`], at `expires` at the
    /// latest if it has not left by then.
    ///
    /// # Errors
    /// The tag cannot take the value, or too many writes wait.
    pub fn write(
        &mut self,
        now: Moment,
        tag: usize,
        value: &Value,
        expires: Moment,
    ) -> Result<WriteId, WriteError> {
        let id = self.queue_write(tag, value, expires)?;
        self.advance(now);
        Ok(id)
    }

    /// The time of [`Bus::next_deadline`] came.
    pub fn handle_timer(&mut self, now: Moment) {
        self.expire_link(now);
        self.expire_exchange(now);
        self.expire_writes(now);
        self.advance(now);
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Bus::handle_timer`] is to be called if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let due = self.groups.iter().map(|group| group.next_due).min();
        let exchange = self.current.as_ref().map(|current| current.deadline);
        // What has left no longer expires.
        let expiry = self.writes.iter().map(|write| write.expires);
        let expiry = expiry.filter(|at| *at < Moment::MAX).min();
        let quiet = (self.has_work() && self.current.is_none() && self.link.is_usable())
            .then_some(self.quiet_until);
        let link = self.link.deadline(self.has_work());
        [due, exchange, expiry, quiet, link]
            .into_iter()
            .flatten()
            .min()
    }

    /// What the bus did so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The requests of one cycle of everything: unit and request.
    pub fn requests(&self) -> impl Iterator<Item = (u8, &crate::plan::Read)> {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.reads.iter().map(|read| (group.unit, read)))
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.writes.is_empty()
    }

    /// Does whatever is possible at this moment.
    fn advance(&mut self, now: Moment) {
        self.start_cycles(now);
        self.connect_if_needed(now);
        self.send_next(now);
        self.close_if_done(now);
    }

    fn notice(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Notice(notice));
    }
}

impl Status {
    /// The machine-readable cause in a reading.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Garbled => "garbled-answer",
            Self::WrongAnswer => "wrong-answer",
            Self::Refused(exception) => exception.name(),
            Self::Expired => "expired",
        }
    }
}

impl WriteFailure {
    /// The cause.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::NotSent(status) | Self::NotConfirmed(status) | Self::NotReadBack(status) => {
                status
            }
        }
    }
}

impl Framing {
    /// Whether frames carry no transaction id.
    #[must_use]
    pub const fn is_rtu(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    /// The silence before a request.
    const fn silence(self) -> Duration {
        match self {
            Self::Tcp | Self::RtuOverTcp => Duration::ZERO,
            Self::Rtu { silence } => silence,
        }
    }
}
