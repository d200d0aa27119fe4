//! A model of the whole path: a source log, the link with its durable state, a
//! network that loses, delays and repeats, and a destination that behaves like
//! Kafka (or like a hub) where the uplink depends on it. Random faults run
//! against it; the oracle is the destination's log.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::state::PartitionState;
use bytes::Bytes;
use forebay_kafka::error_code;

mod peer;

use peer::{Peer, Request, StoredBatch};

type Payload = Rc<Vec<u64>>;

/// What may go wrong in one run.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Destination compares and appends.
    hub: bool,
    /// Requests of a dead connection may arrive later.
    zombies: bool,
    /// The high watermark lags behind the log end.
    lagging_watermark: bool,
    /// The destination loses its newest batches.
    truncation: bool,
    /// The source removes what was not delivered.
    drop_oldest: bool,
    /// The destination refuses at random.
    refusals: bool,
    /// Stopping is an acceptable end; the log must still be right.
    may_stop: bool,
}

/// The source holds record `offset` with the value `offset`, unless dropped.
fn timestamp(id: u64) -> i64 {
    id as i64 * 7
}

fn lineage(id: u64) -> u32 {
    lineage_of(id, timestamp(id), None, Some(&id.to_be_bytes()))
}

enum Answer {
    Produced(u64, Result<i64, Refusal>),
    Tail(Tail),
    ProducerId(i64),
}

enum Asked {
    Produce(Request),
    Tail,
    ProducerId,
}

struct World {
    faults: Faults,
    rng: fastrand::Rng,
    now: Instant,
    source_start: u64,
    source_end: u64,
    /// Dropped before the destination acknowledged them.
    hold: u64,
    link: Link<Payload>,
    connected: bool,
    durable: Option<Vec<u8>>,
    persisting: Option<(u64, Vec<u8>)>,
    reading: Option<u64>,
    requests: VecDeque<Asked>,
    answers: VecDeque<Answer>,
    /// What was on its way when a connection died, in order per connection.
    zombies: Vec<VecDeque<Request>>,
    destination: Peer,
    /// How often each thing happened, to see that the run was not idle.
    seen: BTreeMap<&'static str, u64>,
}

const CONFIG: LinkConfig = LinkConfig {
    incarnation: [1; 16],
    source_topic_id: [2; 16],
    batch_bytes: 1000,
};

fn hub() -> Destination {
    Destination {
        cluster_id: "c".into(),
        topic_id: [3; 16],
    }
}

impl World {
    fn new(seed: u64, faults: Faults) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let link = Link::new(CONFIG, None, rng.fork());
        World {
            faults,
            rng,
            now: Instant::now(),
            source_start: 0,
            source_end: 0,
            hold: 0,
            link,
            connected: false,
            durable: None,
            persisting: None,
            reading: None,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            zombies: Vec::new(),
            destination: Peer {
                hub: faults.hub,
                next_producer: 100,
                ..Peer::default()
            },
            seen: BTreeMap::new(),
        }
    }

    fn bounds(&self) -> SourceBounds {
        SourceBounds {
            log_start: self.source_start,
            log_end: self.source_end,
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Executes what the link asked for; only the answers are delayed.
    fn effects(&mut self) {
        while let Some(effect) = self.link.next_effect() {
            match effect {
                Effect::FetchTail => self.requests.push_back(Asked::Tail),
                Effect::InitProducerId => self.requests.push_back(Asked::ProducerId),
                Effect::SendProduce(send) => {
                    assert_eq!(send.payload.len() as u64, send.batch.record_count());
                    let send = *send;
                    self.assert_plan_is_durable(&send);
                    self.requests.push_back(Asked::Produce(Request {
                        batch: send.batch,
                        producer: send.producer,
                        sequence: send.sequence,
                        condition: send.condition,
                        payload: send.payload,
                    }));
                }
                Effect::PersistPlan { version, bytes } => {
                    assert!(self.persisting.is_none());
                    self.persisting = Some((version, bytes));
                }
                Effect::ReadLineage { offset } => {
                    let held = (self.source_start..self.source_end).contains(&offset);
                    let found = held.then(|| lineage(offset));
                    self.link.handle_lineage(self.now, offset, found);
                }
                Effect::ReadSource { from, end } => {
                    let held = from >= self.source_start && end <= self.source_end;
                    let payload = held.then(|| Rc::new((from..end).collect()));
                    self.link.handle_reread(self.now, from, end, payload);
                }
                Effect::Hold { offset } => self.hold = offset,
                Effect::Stop { .. } => self.note("stop"),
            }
        }
    }

    fn assert_plan_is_durable(&self, send: &Send<Payload>) {
        let bytes = self.durable.as_deref().expect("a send without a plan");
        let durable = PartitionState::decode(bytes).expect("durable state decodes");
        assert!(durable.in_flight.contains(&send.batch));
        assert_eq!(durable.producer, Some(send.producer));
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => {
                self.source_end += self.rng.u64(1..12);
            }
            20..40 => self.serve_request(),
            40..60 => self.deliver_answer(),
            60..70 => self.finish_persist(),
            70..80 => self.read_source(),
            80..90 => self.wait(),
            90..93 => self.advance_watermark(),
            _ => self.fault(),
        }
        self.effects();
        if !self.faults.lagging_watermark || self.rng.u32(0..3) == 0 {
            self.destination.visible = self.destination.log.len();
        }
    }

    fn fault(&mut self) {
        match self.rng.u32(0..8) {
            0 | 1 => self.cut(),
            2 | 3 => self.serve_zombie(),
            4 => self.crash(),
            5 if self.faults.truncation => self.truncate(),
            6 if self.faults.drop_oldest => {
                let room = self.source_end - self.source_start;
                // Only a hub is told of a gap that nothing follows.
                let all = self.faults.hub && self.rng.u32(0..4) == 0;
                self.source_start += match all {
                    true => room,
                    false => self.rng.u64(0..=room.min(30)),
                };
                self.note("drop");
            }
            7 if !self.faults.truncation => {
                // Ordinary retention: only what is delivered.
                self.source_start = self.source_start.max(self.hold);
            }
            _ => {}
        }
    }

    fn serve_request(&mut self) {
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let answer = match request {
            Asked::Tail => Answer::Tail(self.destination.tail()),
            Asked::ProducerId => {
                self.destination.next_producer += 1;
                Answer::ProducerId(self.destination.next_producer)
            }
            Asked::Produce(request) => {
                let start = request.batch.start;
                if self.faults.refusals && self.rng.u32(0..20) == 0 {
                    let codes = [
                        error_code::NOT_LEADER_OR_FOLLOWER,
                        error_code::NOT_ENOUGH_REPLICAS,
                        error_code::MESSAGE_TOO_LARGE,
                    ];
                    let mut code = codes[self.rng.usize(0..3)];
                    if request.payload.len() <= 1 {
                        code = codes[0];
                    }
                    self.note("refusal");
                    let message = None;
                    Answer::Produced(start, Err(Refusal { code, message }))
                } else {
                    Answer::Produced(start, self.destination.produce(&request))
                }
            }
        };
        self.answers.push_back(answer);
    }

    fn deliver_answer(&mut self) {
        if let Some(Answer::Produced(start, Ok(_))) = self.answers.front() {
            // acks=all answers when the batch is visible.
            let visible = &self.destination.log[..self.destination.visible];
            let is_visible = |batch: &StoredBatch| match batch.records.first() {
                Some(first) => first == start,
                None => batch.base == *start as i64,
            };
            if !visible.iter().any(is_visible) {
                return;
            }
        }
        match self.answers.pop_front() {
            None => {}
            Some(Answer::Tail(tail)) => {
                let bounds = self.bounds();
                self.link.handle_tail(self.now, tail, bounds);
            }
            Some(Answer::ProducerId(id)) => self.link.handle_producer_id(id, 0),
            Some(Answer::Produced(start, answer)) => {
                self.note(if answer.is_ok() { "ack" } else { "refused" });
                self.link.handle_produced(self.now, start, answer);
            }
        }
    }

    fn finish_persist(&mut self) {
        if let Some((version, bytes)) = self.persisting.take() {
            self.durable = Some(bytes);
            self.link.handle_persisted(version);
        }
    }

    fn read_source(&mut self) {
        if let Some(from) = self.reading.take() {
            let start = from.max(self.source_start);
            let end = self.source_end.min(start + self.rng.u64(1..9));
            let span = (start < end).then(|| SourceSpan {
                start,
                end,
                lineage_last: lineage(end - 1),
                payload: Rc::new((start..end).collect()),
            });
            match span {
                Some(span) => self.link.handle_source(from, Some(span)),
                None => {
                    if self.source_end > from && self.faults.hub {
                        self.note("gap alone");
                    }
                    self.link.handle_source_gap(from, self.source_end);
                }
            }
        } else if let Some(request) = self.link.wants_source(self.source_end) {
            self.link.begin_read();
            self.reading = Some(request.from);
        }
    }

    fn wait(&mut self) {
        if !self.connected {
            self.connected = true;
            self.link.handle_connected(hub(), self.faults.hub);
        }
        self.now += Duration::from_secs(1);
        self.link.handle_timeout(self.now);
    }

    fn advance_watermark(&mut self) {
        self.destination.visible = self.destination.log.len();
    }

    fn cut(&mut self) {
        self.note("cut");
        self.connected = false;
        self.answers.clear();
        // A stream delivers a prefix of what was sent, never a later part.
        let arriving = self.rng.usize(0..=self.requests.len());
        let late = std::mem::take(&mut self.requests)
            .into_iter()
            .take(arriving);
        let late: VecDeque<_> = late
            .filter_map(|asked| match asked {
                Asked::Produce(request) => Some(request),
                _ => None,
            })
            .collect();
        if self.faults.zombies && !late.is_empty() {
            self.zombies.push(late);
        }
        self.link.handle_disconnected();
    }

    fn serve_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        self.note("zombie");
        let index = self.rng.usize(0..self.zombies.len());
        if let Some(request) = self.zombies[index].pop_front() {
            let _ = self.destination.produce(&request);
        }
        self.zombies.retain(|connection| !connection.is_empty());
    }

    fn crash(&mut self) {
        self.cut();
        self.note("crash");
        if let Some((_, bytes)) = self.persisting.take()
            && self.rng.bool()
        {
            self.durable = Some(bytes);
        }
        self.reading = None;
        let stored = self.durable.as_deref();
        let stored = stored.map(|bytes| PartitionState::decode(bytes).expect("decodes"));
        self.link = Link::new(CONFIG, stored, self.rng.fork());
    }

    fn truncate(&mut self) {
        let length = self.destination.log.len();
        let keep = length - self.rng.usize(0..=length.min(4));
        self.note("truncate");
        self.destination.log.truncate(keep);
        self.destination.visible = self.destination.visible.min(keep);
        // The leader died with its connections.
        self.cut();
        self.zombies.clear();
    }

    /// Without further faults everything arrives.
    fn settle(&mut self) {
        self.faults.refusals = false;
        for _ in 0..20_000 {
            if self.link.acked() == self.source_end || self.link.stop_reason().is_some() {
                break;
            }
            self.wait();
            self.effects();
            self.advance_watermark();
            self.serve_request();
            self.deliver_answer();
            self.effects();
            self.finish_persist();
            self.read_source();
            self.effects();
            while !self.zombies.is_empty() {
                self.serve_zombie();
            }
        }
    }

    /// Every source record is there once, in order, at its offset; what is
    /// missing was dropped by the source.
    fn audit(&self) -> Result<(), String> {
        let mut next = 0;
        for batch in &self.destination.log {
            for (n, id) in batch.records.iter().enumerate() {
                if *id < next {
                    return Err(format!("record {id} repeated, expected {next}"));
                }
                if *id > next && !self.faults.drop_oldest {
                    return Err(format!("records {next} to {id} missing"));
                }
                let offset = batch.base + n as i64;
                if self.faults.hub && offset != *id as i64 {
                    return Err(format!("record {id} at offset {offset}"));
                }
                if self.faults.hub && n == 0 && batch.gap_from != next as i64 {
                    return Err(format!("gap before {id} starts at {}", batch.gap_from));
                }
                next = id + 1;
            }
            if batch.records.is_empty() {
                if batch.gap_from != next as i64 {
                    return Err(format!("gap starts at {}, expected {next}", batch.gap_from));
                }
                next = batch.base as u64;
            }
        }
        if let Some(reason) = self.link.stop_reason() {
            return match self.faults.may_stop {
                true => Ok(()),
                false => Err(format!("stopped: {reason}")),
            };
        }
        let complete = next == self.source_end || self.faults.drop_oldest;
        if !complete || self.link.acked() != self.source_end {
            return Err(format!(
                "destination ends at {next}, acked {}, source ends at {}; {}",
                self.link.acked(),
                self.source_end,
                self.link.description(),
            ));
        }
        Ok(())
    }
}

fn run(seeds: std::ops::Range<u64>, steps: usize, faults: Faults) -> BTreeMap<&'static str, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let mut world = World::new(seed, faults);
        for step in 0..steps {
            world.step();
            if world.link.stop_reason().is_some() && !faults.may_stop {
                panic!("seed {seed} step {step}: {}", world.link.description());
            }
        }
        // The last record is one that no drop can have removed.
        world.source_end += 1;
        world.settle();
        if let Err(error) = world.audit() {
            panic!("seed {seed}: {error}");
        }
        for (what, count) in world.seen {
            *seen.entry(what).or_default() += count;
        }
    }
    seen
}

const ALL: Faults = Faults {
    hub: false,
    zombies: true,
    lagging_watermark: true,
    truncation: false,
    drop_oldest: false,
    refusals: true,
    may_stop: false,
};

#[test]
fn kafka_gets_each_record_once_in_spite_of_cuts_crashes_and_late_copies() {
    let seen = run(0..150, 3000, ALL);
    for what in ["ack", "refused", "cut", "zombie", "crash"] {
        assert!(seen.get(what).is_some_and(|n| *n > 100), "{what}: {seen:?}");
    }
}

#[test]
fn a_hub_gets_each_record_once_at_its_own_offset() {
    run(1000..1150, 3000, Faults { hub: true, ..ALL });
}

#[test]
fn what_an_unclean_election_loses_is_sent_again_to_the_same_offsets() {
    for hub in [false, true] {
        let faults = Faults {
            hub,
            truncation: true,
            zombies: false,
            ..ALL
        };
        let seen = run(2000..2100, 2000, faults);
        assert!(seen["truncate"] > 100, "{seen:?}");
    }
}

#[test]
fn source_gaps_are_marked_and_nothing_is_repeated() {
    for hub in [false, true] {
        let faults = Faults {
            hub,
            drop_oldest: true,
            zombies: false,
            lagging_watermark: false,
            ..ALL
        };
        let seen = run(3000..3100, 2000, faults);
        assert!(seen["drop"] > 100, "{seen:?}");
        assert!(!hub || seen["gap alone"] > 20, "{seen:?}");
    }
}

#[test]
fn with_every_fault_at_once_the_link_may_stop_but_never_corrupts() {
    for hub in [false, true] {
        let faults = Faults {
            hub,
            drop_oldest: true,
            may_stop: true,
            ..ALL
        };
        run(4000..4150, 2000, faults);
    }
}

#[test]
fn one_seed_gives_one_history() {
    assert_eq!(run(7..12, 2000, ALL), run(7..12, 2000, ALL));
}
