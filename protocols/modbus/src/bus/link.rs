//! The connection of a bus: when it is made, dropped, and drained.

use std::borrow::Cow;
use std::time::Duration;

use super::{Bus, Effect, Framing, Moment, Notice, Status, WriteFailure};

/// How long a connection may take: two retransmissions of a lost SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The first pause after a lost connection, doubled by each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest pause: a device that was off is back within a minute, and a
/// hundred gateways do not flood it meanwhile.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A connection that answered and lived this long was a good one, and the next
/// loss starts at the shortest pause. Shorter lives are flapping.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Time-outs in a row, of whichever units, after which a TCP connection counts
/// as dead: a device that lost power closes nothing.
const SILENT_TIMEOUTS_MAX: u32 = 3;

/// A line that is not quiet for this many drains in a row is given up until the
/// next connection: something else talks on it.
const DRAINS_MAX: u32 = 10;

/// The connection of a bus.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// Losses since the last good connection.
    losses: u32,
    /// Bytes may come that answer a request of the past. So it is at the start
    /// of a program as well: the one before it may have asked.
    is_dirty: bool,
}

#[derive(Debug)]
enum State {
    /// Not before `retry_at`, and only when there is something to do.
    Down {
        retry_at: Moment,
    },
    Connecting {
        deadline: Moment,
    },
    Up(Up),
}

#[derive(Debug)]
struct Up {
    since: Moment,
    has_answered: bool,
    timeouts: u32,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    until: Moment,
    give_up: Moment,
}

impl Link {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            state: State::Down {
                retry_at: Moment::ZERO,
            },
            losses: 0,
            is_dirty: framing.is_rtu(),
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    const fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting { .. })
    }

    /// Whether requests may be sent.
    pub(super) const fn is_usable(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.drain.is_none())
    }

    pub(super) const fn is_draining(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.drain.is_some())
    }

    /// When the state changes by itself.
    pub(super) fn deadline(&self, has_work: bool) -> Option<Moment> {
        match &self.state {
            State::Down { retry_at } => has_work.then_some(*retry_at),
            State::Connecting { deadline } => Some(*deadline),
            State::Up(up) => up.drain.as_ref().map(|drain| drain.until),
        }
    }

    /// An answer, even a late one: the connection is alive.
    pub(super) fn heard(&mut self) {
        if let State::Up(up) = &mut self.state {
            up.has_answered = true;
            up.timeouts = 0;
        }
    }

    /// A time-out. Returns whether the connection counts as dead.
    pub(super) fn timed_out(&mut self) -> bool {
        match &mut self.state {
            State::Up(up) => {
                up.timeouts += 1;
                up.timeouts >= SILENT_TIMEOUTS_MAX
            }
            _ => false,
        }
    }
}

impl Bus {
    /// The connection stands.
    pub fn handle_connected(&mut self, now: Moment) {
        if !self.link.is_connecting() {
            return;
        }
        self.link.state = State::Up(Up {
            since: now,
            has_answered: false,
            timeouts: 0,
            drain: None,
        });
        self.inbox.clear();
        self.quiet_until = now + self.config.pause_after_connect;
        self.notice(Notice::Connected);
        if self.link.is_dirty {
            self.drain(now);
        }
        self.advance(now);
    }

    /// The connection could not be made; `reason` is for people.
    pub fn handle_connect_failed(&mut self, now: Moment, reason: impl Into<Cow<'static, str>>) {
        if !self.link.is_connecting() {
            return;
        }
        self.lost(now, reason.into());
        self.fail_everything(now);
        self.advance(now);
    }

    /// The peer closed the connection, or the port failed.
    pub fn handle_closed(&mut self, now: Moment, reason: impl Into<Cow<'static, str>>) {
        let State::Up(up) = &self.link.state else {
            return;
        };
        let is_idle = self.current.is_none() && up.has_answered;
        if is_idle && !self.has_work() {
            // Many devices close what is idle; the next poll connects again.
            let spacing = BACKOFF_MIN.mul_f64(0.5 + self.rng.f64() / 2.0);
            self.link.state = State::Down {
                retry_at: now + spacing,
            };
        } else {
            self.lost(now, reason.into());
            self.abandon_exchange(now, Status::Disconnected);
        }
        self.advance(now);
    }

    /// Notes the loss of a connection and when to try the next one.
    fn lost(&mut self, now: Moment, reason: Cow<'static, str>) {
        if let State::Up(up) = &self.link.state
            && up.has_answered
            && now.saturating_sub(up.since) >= STABLE_AFTER
        {
            self.link.losses = 0;
        }
        let doubled = BACKOFF_MIN * 2u32.saturating_pow(self.link.losses.min(10));
        let delay = doubled.min(BACKOFF_MAX);
        let jitter = 0.5 + self.rng.f64() / 2.0;
        self.link.losses = self.link.losses.saturating_add(1);
        self.link.state = State::Down {
            retry_at: now + delay.mul_f64(jitter),
        };
        self.counters.losses += 1;
        self.inbox.clear();
        self.notice(Notice::Down(reason));
    }

    /// Gives the connection up from this side.
    pub(super) fn drop_link(&mut self, now: Moment, reason: &'static str) {
        if self.link.is_up() {
            self.lost(now, Cow::Borrowed(reason));
            self.effects.push_back(Effect::Disconnect);
        }
    }

    /// Makes an RTU bus safe to use again after a request without an answer,
    /// or after bytes that are no answer.
    pub(super) fn distrust_link(&mut self, now: Moment, is_timeout: bool) {
        self.inbox.clear();
        self.link.is_dirty = true;
        if is_timeout && self.config.framing == Framing::RtuOverTcp && self.link.is_up() {
            // Not a loss: the connection was dropped for safety, and time-outs
            // are rare already because silent units are degraded.
            self.link.state = State::Down { retry_at: now };
            self.effects.push_back(Effect::Disconnect);
        } else {
            self.drain(now);
        }
    }

    /// Discards what comes for the longest time-out of the bus.
    pub(super) fn drain(&mut self, now: Moment) {
        let longest = self.config.devices.iter().map(|device| device.timeout);
        let length = longest.max().unwrap_or(BACKOFF_MIN);
        if let State::Up(up) = &mut self.link.state {
            up.drain = Some(Drain {
                until: now + length,
                give_up: now + length * DRAINS_MAX,
            });
        }
    }

    /// Bytes came while the line was drained: it is not quiet yet.
    pub(super) fn drained_bytes(&mut self, now: Moment) {
        let silence = self.config.framing.silence();
        if let State::Up(Up {
            drain: Some(drain), ..
        }) = &mut self.link.state
        {
            drain.until = drain.until.max(now + silence);
        }
    }

    /// What a deadline of the connection leads to.
    pub(super) fn expire_link(&mut self, now: Moment) {
        match &mut self.link.state {
            State::Connecting { deadline } if now >= *deadline => {
                self.effects.push_back(Effect::Disconnect);
                self.lost(now, Cow::Borrowed("no answer to the connection request"));
                self.fail_everything(now);
            }
            State::Up(up) => match &up.drain {
                Some(drain) if now >= drain.give_up => {
                    self.drop_link(now, "the line is never quiet");
                    self.fail_everything(now);
                }
                Some(drain) if now >= drain.until => {
                    up.drain = None;
                    self.link.is_dirty = false;
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Connects when there is something to do.
    pub(super) fn connect_if_needed(&mut self, now: Moment) {
        if let State::Down { retry_at } = self.link.state
            && now >= retry_at
            && self.has_work()
        {
            self.link.state = State::Connecting {
                deadline: now + CONNECT_TIMEOUT,
            };
            self.counters.connects += 1;
            self.effects.push_back(Effect::Connect);
        }
    }

    /// Closes the connection of a device that wants to be left alone between
    /// the polls.
    pub(super) fn close_if_done(&mut self, now: Moment) {
        let State::Up(up) = &self.link.state else {
            return;
        };
        let is_done = up.has_answered && self.current.is_none() && !self.has_work();
        if self.config.close_after_read && is_done && up.drain.is_none() {
            self.link.state = State::Down { retry_at: now };
            self.effects.push_back(Effect::Disconnect);
        }
    }

    /// Without a connection every poll and every write that waits fails.
    fn fail_everything(&mut self, now: Moment) {
        self.current = None;
        for index in 0..self.groups.len() {
            self.fail_cycle(now, index, Status::Disconnected);
        }
        for unit in self.units.values_mut() {
            unit.probe_again();
        }
        while self.end_write(Err(WriteFailure::NotSent(Status::Disconnected))) {}
    }
}
