//! Scripts on virtual time: nothing here waits.

use super::*;

const PACE: Pace = Pace {
    start_timeout: Duration::from_secs(30),
    keep_alive: Duration::from_secs(5),
    away_max: Duration::from_secs(60),
    resume_timeout: Duration::from_secs(20),
    reread_after: Duration::from_secs(1),
    retry_min: Duration::from_secs(1),
    retry_max: Duration::from_secs(60),
};

struct Script {
    run: Run,
    now: Instant,
}

impl Script {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            run: Run::new(PACE, now, seed),
            now,
        }
    }

    fn live() -> Self {
        let mut script = Self::new(1);
        script.expect(&[Command::Report(Standing::Connecting), Command::Start]);
        script.run.handle_started(script.now);
        script.expect(&[Command::Report(Standing::Live)]);
        script
    }

    fn expect(&mut self, expected: &[Command]) {
        let found: Vec<Command> = std::iter::from_fn(|| self.run.next_command()).collect();
        assert_eq!(found, expected);
    }

    /// Lets time pass up to the next time-out. Returns how long that was.
    fn wait(&mut self) -> Duration {
        let at = self.run.next_timeout().unwrap();
        let passed = at.saturating_duration_since(self.now);
        self.now = at;
        self.run.handle_timeout(at);
        passed
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.run.next_timeout().filter(|&at| at <= end) {
            self.now = at.max(self.now);
            self.run.handle_timeout(self.now);
        }
        self.now = end;
    }
}

fn down(reason: &str) -> Command {
    Command::Report(Standing::Down(reason.to_owned()))
}

#[test]
fn a_quiet_machine_is_never_dropped() {
    let mut script = Script::live();
    for _ in 0..10_000 {
        script.pass(PACE.keep_alive);
        script.run.handle_publish(script.now);
    }
    script.expect(&[]);
}

#[test]
fn a_server_that_stops_publishing_is_asked_and_then_left() {
    let mut script = Script::live();
    assert_eq!(script.wait(), Duration::from_secs(15));
    script.expect(&[Command::TriggerPublish]);
    assert_eq!(script.wait(), Duration::from_secs(15));
    let reason = "the server answers, and does not publish";
    script.expect(&[Command::MarkAway, Command::End, down(reason)]);
    let pause = script.wait();
    assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&pause));
    script.expect(&[Command::Start]);
}

#[test]
fn a_triggered_publish_that_helps_is_the_end_of_it() {
    let mut script = Script::live();
    script.wait();
    script.expect(&[Command::TriggerPublish]);
    script.run.handle_publish(script.now);
    assert_eq!(script.wait(), Duration::from_secs(15));
    script.expect(&[Command::TriggerPublish]);
}

#[test]
fn a_cut_connection_is_resumed_and_all_values_read_once() {
    let mut script = Script::live();
    script.run.handle_lost(script.now, "reset");
    script.expect(&[
        Command::MarkAway,
        Command::Report(Standing::Away("reset".to_owned())),
    ]);
    script.wait();
    script.expect(&[Command::Reconnect]);
    script.run.handle_reconnect_failed(script.now, "refused");
    script.expect(&[Command::Report(Standing::Away("refused".to_owned()))]);
    script.wait();
    script.expect(&[Command::Reconnect]);
    script
        .run
        .handle_reconnected(script.now, Reconnected::SameSession);
    let is_new_session = false;
    script.expect(&[Command::Resume { is_new_session }]);
    script.run.handle_resumed(script.now);
    script.expect(&[Command::Report(Standing::Live)]);
    // The backlog comes first.
    script.pass(Duration::from_secs(3));
    script.expect(&[]);
    script.run.handle_publish(script.now);
    assert_eq!(script.wait(), PACE.reread_after);
    script.expect(&[Command::Reread]);
    script.run.handle_publish(script.now);
    script.pass(Duration::from_secs(10));
    script.expect(&[]);
}

#[test]
fn a_connection_lost_while_resuming_is_marked_once() {
    let mut script = Script::live();
    script.run.handle_lost(script.now, "reset");
    script.wait();
    script
        .run
        .handle_reconnected(script.now, Reconnected::NewSession);
    script.run.handle_lost(script.now, "again");
    let is_new_session = true;
    script.expect(&[
        Command::MarkAway,
        Command::Report(Standing::Away("reset".to_owned())),
        Command::Reconnect,
        Command::Resume { is_new_session },
        Command::Report(Standing::Away("again".to_owned())),
    ]);
    // The result of the repair that was under way comes too late.
    script.run.handle_resumed(script.now);
    script.expect(&[]);
}

#[test]
fn a_session_that_expired_is_given_up() {
    let mut script = Script::live();
    script.run.handle_lost(script.now, "reset");
    let mut reconnects = 0;
    let began = script.now;
    let ended = loop {
        script.wait();
        let commands: Vec<Command> = std::iter::from_fn(|| script.run.next_command()).collect();
        if commands.contains(&Command::End) {
            break script.now;
        }
        if commands.contains(&Command::Reconnect) {
            reconnects += 1;
            script.run.handle_reconnect_failed(script.now, "refused");
        }
    };
    assert_eq!(ended - began, PACE.away_max);
    // 0.2, 0.4, 0.8, 1.6, 3.2 and then every 5 seconds, with up to half off.
    assert!((14..=30).contains(&reconnects), "{reconnects}");
}

#[test]
fn a_remedy_does_not_wait_for_the_pause() {
    let mut script = Script::new(3);
    for _ in 0..9 {
        script.run.handle_failed(script.now, "untrusted");
        script.wait();
    }
    script.run.handle_failed(script.now, "untrusted");
    script.run.handle_wish(script.now);
    assert_eq!(script.wait(), Duration::ZERO);
    while script.run.next_command().is_some() {}
    // A run that is under way is not started again.
    script.run.handle_wish(script.now);
    assert_eq!(script.run.next_command(), None);
}

#[test]
fn failing_starts_back_off_and_a_good_run_forgives() {
    let mut script = Script::new(3);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        script.run.handle_failed(script.now, "refused");
        pauses.push(script.wait());
    }
    for (index, pause) in pauses.iter().enumerate() {
        let full = Duration::from_secs(60.min(1 << index));
        assert!(*pause <= full && *pause >= full / 2, "{index}: {pause:?}");
    }
    script.run.handle_started(script.now);
    script.pass(Duration::from_secs(10));
    script.run.handle_publish(script.now);
    script.pass(Duration::from_secs(10));
    script.run.handle_failed(script.now, "closed");
    assert!(script.wait() >= Duration::from_secs(30));
    script.run.handle_started(script.now);
    for _ in 0..12 {
        script.pass(Duration::from_secs(10));
        script.run.handle_publish(script.now);
    }
    script.run.handle_failed(script.now, "closed");
    assert!(script.wait() <= Duration::from_secs(1));
}

#[test]
fn a_start_and_a_repair_have_their_time() {
    let mut script = Script::new(1);
    script.expect(&[Command::Report(Standing::Connecting), Command::Start]);
    assert_eq!(script.wait(), PACE.start_timeout);
    script.expect(&[
        Command::MarkAway,
        Command::End,
        down("no session after 30s"),
    ]);
    // A result that comes after the end changes nothing.
    script.run.handle_started(script.now);
    script.run.handle_failed(script.now, "late");
    script.expect(&[]);
    script.wait();
    script.run.handle_started(script.now);
    script.run.handle_lost(script.now, "reset");
    script.wait();
    script
        .run
        .handle_reconnected(script.now, Reconnected::SameSession);
    let _ = std::iter::from_fn(|| script.run.next_command()).count();
    assert_eq!(script.wait(), PACE.resume_timeout);
    let reason = "the reconnected session could not be repaired in time";
    script.expect(&[Command::End, down(reason)]);
}

#[test]
fn retries_of_many_gateways_spread() {
    let pauses: std::collections::BTreeSet<Duration> = (0..100)
        .map(|seed| {
            let mut script = Script::new(seed);
            script.run.handle_failed(script.now, "refused");
            script.wait()
        })
        .collect();
    assert!(pauses.len() > 95);
    let spread = *pauses.last().unwrap() - *pauses.first().unwrap();
    assert!(spread > Duration::from_millis(400), "{spread:?}");
}

/// Half an hour of a link that fails every few seconds.
#[test]
fn a_flapping_link_storms_nobody_and_ends_live() {
    let mut script = Script::live();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut starts, mut reconnects) = (0, 0);
    let end = script.now + Duration::from_secs(30 * 60);
    let mut next_fault = script.now;
    while script.now < end {
        for command in std::iter::from_fn(|| script.run.next_command()).collect::<Vec<_>>() {
            let is_up = random.f64() < 0.7;
            match command {
                Command::Start if is_up => {
                    starts += 1;
                    script.run.handle_started(script.now);
                }
                Command::Start => {
                    starts += 1;
                    script.run.handle_failed(script.now, "refused");
                }
                Command::Reconnect if is_up => {
                    reconnects += 1;
                    let how = if random.bool() {
                        Reconnected::SameSession
                    } else {
                        Reconnected::NewSession
                    };
                    script.run.handle_reconnected(script.now, how);
                }
                Command::Reconnect => {
                    reconnects += 1;
                    script.run.handle_reconnect_failed(script.now, "refused");
                }
                Command::Resume { is_new_session } if is_new_session && random.bool() => {
                    script
                        .run
                        .handle_failed(script.now, "the subscription is gone");
                }
                Command::Resume { .. } => script.run.handle_resumed(script.now),
                _ => {}
            }
        }
        let at = script.run.next_timeout().unwrap().min(next_fault);
        script.now = at.max(script.now);
        script.run.handle_timeout(script.now);
        if script.now >= next_fault {
            script.run.handle_lost(script.now, "flap");
            next_fault = script.now + Duration::from_secs(2 + random.u64(..4));
        }
    }
    // A fault every 3.5 seconds on average is about 500 of them.
    assert!(starts + reconnects < 1_200, "{starts} {reconnects}");
    assert!(starts + reconnects > 100, "{starts} {reconnects}");
    let quiet = script.now + Duration::from_secs(300);
    while script.now < quiet && !script.run.is_live() {
        while let Some(command) = script.run.next_command() {
            match command {
                Command::Start => script.run.handle_started(script.now),
                Command::Reconnect => {
                    script
                        .run
                        .handle_reconnected(script.now, Reconnected::SameSession);
                }
                Command::Resume { .. } => script.run.handle_resumed(script.now),
                _ => {}
            }
        }
        script.wait();
    }
    assert!(script.run.is_live());
}
