//! The life of a session, without I/O.
//!
//! A *run* is one session at the server. [`Run`] says when to start one, when to
//! let the library reconnect, what to do after it, when a server that still
//! answers has stopped publishing, and when to give a run up and begin again.
//! The driver calls `handle_*` with what happened, then [`Run::next_command`]
//! until it is empty, then waits until [`Run::next_timeout`] or the next event.
//!
//! ```text
//! Waiting --Start--> Starting --ok--> Live --lost--> Away --reconnected--> Resuming
//!    ^                  |              ^ |             |                      |
//!    |                  | failed       | | silent,     | too long             | kept: Live
//!    +------------------+--------------+-+ or closed --+----------------------+ lost: Waiting
//! ```
//!
//! Silence is the absence of *any* publish response. A server answers at least
//! once per keep-alive period even when no value changes, so a machine that
//! stands still is never taken for a dead one. After three periods the driver
//! triggers a publish request, because the library sometimes stops sending them;
//! after three more the run ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Keep-alive periods without a publish response before a publish request is
/// triggered, and again before the run is given up. Fewer would blame a server
/// that is busy with a download.
const SILENT_PERIODS: u32 = 3;

/// The first pause before a reconnect within a run: a cable that was pulled and
/// put back should not cost a second.
const RECONNECT_MIN: Duration = Duration::from_millis(200);

/// The longest pause between reconnects within a run.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// A run that published for this long was a good one: the next failure starts
/// with the shortest pause again.
const SETTLED: Duration = Duration::from_secs(60);

/// Times that a run depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the first byte to the first subscription at most.
    pub start_timeout: Duration,
    /// A server's silence is at most this long while all is well.
    pub keep_alive: Duration,
    /// How long a reconnect is tried before the run is given up: the server
    /// forgets the session then.
    pub away_max: Duration,
    /// How long the repair of a reconnected session may take.
    pub resume_timeout: Duration,
    /// After a reconnect, how long the backlog is let in before all values are
    /// read once more.
    pub reread_after: Duration,
    /// The shortest pause between runs.
    pub retry_min: Duration,
    /// The longest pause between runs.
    pub retry_max: Duration,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a run: connect, read the namespaces, browse, subscribe.
    Start,
    /// Let the library try to reconnect now.
    Reconnect,
    /// Repair the session after a reconnect: transfer when it is a new one, ask
    /// for lost messages, compare the namespaces, trigger a publish request.
    Resume {
        /// Whether the server made a new session.
        is_new_session: bool,
    },
    /// Have the library send a publish request.
    TriggerPublish,
    /// Read every value once, so that none stays uncertain or stale.
    Reread,
    /// Values are uncertain from here on.
    MarkAway,
    /// End the session and drop everything that belongs to it.
    End,
    /// Tell the operator.
    Report(Standing),
}

/// How the session is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The first run is under way.
    Connecting,
    /// Values come.
    Live,
    /// The connection is lost, and why.
    Away(String),
    /// No run succeeds, and why the last one did not.
    Down(String),
}

/// What a reconnect led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnected {
    /// The server still knew the session.
    SameSession,
    /// It made a new one.
    NewSession,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Waiting {
        until: Instant,
    },
    Starting {
        deadline: Instant,
    },
    Live {
        heard: Instant,
        since: Instant,
        has_triggered: bool,
        /// After a resume: wait for a publish response, then read everything.
        reread: Option<Reread>,
    },
    Away {
        deadline: Instant,
        /// When the library may try; `None` while it tries.
        retry_at: Option<Instant>,
    },
    Resuming {
        deadline: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reread {
    AfterPublish,
    At(Instant),
}

/// The state of a session.
#[derive(Debug)]
pub struct Run {
    pace: Pace,
    phase: Phase,
    commands: VecDeque<Command>,
    /// Runs that failed since the last good one.
    failures: u32,
    /// Reconnects that failed since the connection was lost.
    attempts: u32,
    is_marked_away: bool,
    jitter: fastrand::Rng,
}

impl Run {
    /// A session that starts at once. `seed` spreads the retries of gateways
    /// that lost the same server.
    pub fn new(pace: Pace, now: Instant, seed: u64) -> Self {
        let mut run = Self {
            pace,
            phase: Phase::Waiting { until: now },
            commands: VecDeque::new(),
            failures: 0,
            attempts: 0,
            is_marked_away: false,
            jitter: fastrand::Rng::with_seed(seed),
        };
        run.report(Standing::Connecting);
        run.handle_timeout(now);
        run
    }

    /// The next thing to do, in order; `None` when there is nothing.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Run::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Starting { deadline } | Phase::Resuming { deadline } => Some(*deadline),
            Phase::Live { heard, reread, .. } => {
                let silent = *heard + self.silence();
                match reread {
                    Some(Reread::At(at)) => Some(silent.min(*at)),
                    _ => Some(silent),
                }
            }
            Phase::Away { deadline, retry_at } => {
                Some(retry_at.map_or(*deadline, |retry| retry.min(*deadline)))
            }
        }
    }

    /// Whether values are expected.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether the connection is lost and the session may still be got back.
    pub fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away { .. })
    }

    /// The run that was started has its subscription.
    pub fn handle_started(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Starting { .. }) {
            return;
        }
        self.phase = Phase::Live {
            heard: now,
            since: now,
            has_triggered: false,
            reread: None,
        };
        self.is_marked_away = false;
        self.report(Standing::Live);
    }

    /// The run that was started failed, or ended by itself.
    pub fn handle_failed(&mut self, now: Instant, reason: &str) {
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.give_up(now, reason);
        }
    }

    /// Something was done about the last failure: the next run starts at once.
    pub fn handle_wish(&mut self, now: Instant) {
        if let Phase::Waiting { until } = &mut self.phase {
            *until = now;
        }
    }

    /// The server answered a publish request, with values or without.
    pub fn handle_publish(&mut self, now: Instant) {
        let after = self.pace.reread_after;
        if let Phase::Live {
            heard,
            since,
            has_triggered,
            reread,
        } = &mut self.phase
        {
            *heard = now;
            *has_triggered = false;
            if *reread == Some(Reread::AfterPublish) {
                *reread = Some(Reread::At(now + after));
            }
            if now.duration_since(*since) >= SETTLED {
                self.failures = 0;
            }
        }
    }

    /// The connection broke.
    pub fn handle_lost(&mut self, now: Instant, reason: &str) {
        match self.phase {
            Phase::Live { .. } | Phase::Resuming { .. } => {
                self.mark_away();
                self.attempts = 0;
                let retry_at = Some(now + self.pause(RECONNECT_MIN, RECONNECT_MAX, 0));
                self.phase = Phase::Away {
                    deadline: now + self.pace.away_max,
                    retry_at,
                };
                self.report(Standing::Away(reason.to_owned()));
            }
            Phase::Starting { .. } => self.give_up(now, reason),
            Phase::Waiting { .. } | Phase::Away { .. } => {}
        }
    }

    /// A reconnect failed.
    pub fn handle_reconnect_failed(&mut self, now: Instant, reason: &str) {
        match self.phase {
            Phase::Away { deadline, .. } => {
                self.attempts = self.attempts.saturating_add(1);
                let pause = self.pause(RECONNECT_MIN, RECONNECT_MAX, self.attempts);
                self.phase = Phase::Away {
                    deadline,
                    retry_at: Some(now + pause),
                };
                self.report(Standing::Away(reason.to_owned()));
            }
            // The library's first connect is its reconnect, too.
            Phase::Starting { .. } => self.give_up(now, reason),
            _ => {}
        }
    }

    /// A reconnect succeeded.
    pub fn handle_reconnected(&mut self, now: Instant, how: Reconnected) {
        if let Phase::Away { .. } = self.phase {
            self.phase = Phase::Resuming {
                deadline: now + self.pace.resume_timeout,
            };
            self.commands.push_back(Command::Resume {
                is_new_session: how == Reconnected::NewSession,
            });
        }
    }

    /// The session was repaired.
    pub fn handle_resumed(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Resuming { .. }) {
            return;
        }
        self.phase = Phase::Live {
            heard: now,
            since: now,
            has_triggered: false,
            reread: Some(Reread::AfterPublish),
        };
        self.is_marked_away = false;
        self.report(Standing::Live);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase.clone() {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Starting {
                    deadline: now + self.pace.start_timeout,
                };
                self.commands.push_back(Command::Start);
            }
            Phase::Starting { deadline } if deadline <= now => {
                let after = self.pace.start_timeout;
                self.give_up(now, &format!("no session after {after:?}"));
            }
            Phase::Resuming { deadline } if deadline <= now => {
                self.give_up(now, "the reconnected session could not be repaired in time");
            }
            Phase::Away { deadline, retry_at } => {
                if deadline <= now {
                    self.give_up(now, "not reconnected before the session expired");
                } else if retry_at.is_some_and(|at| at <= now) {
                    self.phase = Phase::Away {
                        deadline,
                        retry_at: None,
                    };
                    self.commands.push_back(Command::Reconnect);
                }
            }
            Phase::Live { .. } => self.handle_live_timeout(now),
            _ => {}
        }
    }

    fn handle_live_timeout(&mut self, now: Instant) {
        let silence = self.silence();
        let Phase::Live {
            heard,
            has_triggered,
            reread,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if matches!(reread, Some(Reread::At(at)) if *at <= now) {
            *reread = None;
            self.commands.push_back(Command::Reread);
        }
        if now.duration_since(*heard) < silence {
            return;
        }
        if *has_triggered {
            self.give_up(now, "the server answers, and does not publish");
        } else {
            *has_triggered = true;
            *heard = now;
            self.commands.push_back(Command::TriggerPublish);
        }
    }

    fn silence(&self) -> Duration {
        self.pace.keep_alive * SILENT_PERIODS
    }

    fn give_up(&mut self, now: Instant, reason: &str) {
        self.mark_away();
        let pause = self.pause(self.pace.retry_min, self.pace.retry_max, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + pause };
        self.commands.push_back(Command::End);
        self.report(Standing::Down(reason.to_owned()));
    }

    fn mark_away(&mut self) {
        if !self.is_marked_away {
            self.is_marked_away = true;
            self.commands.push_back(Command::MarkAway);
        }
    }

    /// Doubles with each failure up to `max`; a random part of up to a half is
    /// taken off, so that retries of many gateways spread.
    fn pause(&mut self, min: Duration, max: Duration, failures: u32) -> Duration {
        let full = min.saturating_mul(1 << failures.min(16)).min(max);
        full.mul_f64(1.0 - self.jitter.f64() / 2.0)
    }

    fn report(&mut self, standing: Standing) {
        self.commands.push_back(Command::Report(standing));
    }
}

#[cfg(test)]
mod tests;
