//! QoS 1 request and response, beside mosquitto: on a topic that is in the log,
//! and on one that is only in memory, as mosquitto's are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};
use xtask::wire::mqtt::{Client, Packet};

use crate::figures::{Report, percentile_ms, ratio};
use crate::load::READING_SIZE;
use crate::machine::{Setting, said};
use crate::mosquitto::{Mosquitto, SETTINGS};

/// Length of one measurement in seconds.
const SECONDS: u64 = 5;

/// Requesters, each with a responder of its own and one request at a time.
const PAIRS: usize = 4;

/// Requests before a measurement counts.
const WARM_UP: usize = 200;

/// Keeps requests and responses out of the log.
const MEMORY: &str = "[[route]]\nfilter = \"call/#\"\ndurability = \"memory\"\n";

#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Side {
    fn note(&mut self, mut times: Vec<Duration>, length: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = times.len() as f64;
        self.rates.push(count / length.as_secs_f64());
        self.p50.push(percentile_ms(&mut times, 0.5));
        self.p99.push(percentile_ms(&mut times, 0.99));
    }

    fn report(&self, name: &str, report: &mut Report) {
        let mut add = |what: &str, rounds| report.median(&format!("{name} {what}"), rounds);
        add("requests per second", &self.rates);
        add("round trip p50 ms", &self.p50);
        add("round trip p99 ms", &self.p99);
    }
}

/// Measures both in turns.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("mosquitto", said(Mosquitto::command().arg("-h")));
    report.fact(
        "mosquitto settings",
        SETTINGS.trim_end().replace('\n', "; "),
    );
    report.fact(
        "forebay settings",
        "log: defaults, request and response are each durable before they are delivered; \
         memory: a route with durability = \"memory\"",
    );
    report.fact(
        "load",
        format!(
            "{PAIRS} pairs, one request each at a time, {READING_SIZE} bytes, QoS 1, {length:?}"
        ),
    );
    let mut theirs = Side::default();
    let mut ours = [
        ("log", "", Side::default()),
        ("memory", MEMORY, Side::default()),
    ];
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let peer = Mosquitto::start(scratch.path())?;
        theirs.note(exchange(peer.address, length).during("mosquitto")?, length);
        drop(peer);
        for ((topic, sections, side), ratios) in ours.iter_mut().zip(&mut ratios) {
            let mut spec = Spec::gateway(&setting.program, topic, scratch.path());
            (*sections).clone_into(&mut spec.sections);
            let node = Node::start(&spec)?;
            side.note(exchange(node.mqtt()?, length).during("forebay")?, length);
            let p99s = side.p99.last().zip(theirs.p99.last());
            ratios.extend(p99s.map(|(ours, theirs)| ratio(*ours, *theirs)));
        }
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    theirs.report("mosquitto", report);
    for ((topic, _, side), ratios) in ours.iter().zip(&ratios) {
        side.report(&format!("forebay {topic}"), report);
        let name = format!("round trip p99, forebay {topic} to mosquitto");
        report.median(&name, ratios);
    }
    Ok(())
}

/// The round trips of all pairs.
fn exchange(address: SocketAddr, length: Duration) -> Outcome<Vec<Duration>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut requesters = Vec::new();
        let mut responders = Vec::new();
        for pair in 0..PAIRS {
            let responder = Peer::connect(address, "respond", pair)?;
            responders.push(scope.spawn(|| responder.respond(&stop)));
            let requester = Peer::connect(address, "request", pair)?;
            requesters.push(scope.spawn(move || requester.request(length)));
        }
        let panicked = || Failure::new("a client panicked");
        let mut times = Vec::new();
        for requester in requesters {
            times.extend(requester.join().map_err(|_| panicked())??);
        }
        stop.store(true, Ordering::Relaxed);
        for responder in responders {
            responder.join().map_err(|_| panicked())??;
        }
        Ok(times)
    })
}

/// How long a responder waits before it looks at the stop sign.
const IDLE: Duration = Duration::from_millis(100);

/// One side of a pair.
struct Peer {
    client: Client,
    sends_to: String,
    id: u16,
}

impl Peer {
    /// Connects, subscribes to its own topic and sends to the other's.
    fn connect(address: SocketAddr, role: &str, pair: usize) -> Outcome<Self> {
        let name = format!("{role}-{pair}");
        let (mut client, _) = Client::connect(address, &name, true).during(&name)?;
        client.subscribe(1, &format!("call/{role}/{pair}"), 1);
        client.flush().during(&name)?;
        match client.read().during(&name)? {
            Packet::SubAck(1, 1) => {}
            other => return Err(Failure::new(format!("expected SUBACK, got {other:?}"))),
        }
        let other = if role == "request" {
            "respond"
        } else {
            "request"
        };
        Ok(Self {
            client,
            sends_to: format!("call/{other}/{pair}"),
            id: 0,
        })
    }

    fn request(mut self, length: Duration) -> Outcome<Vec<Duration>> {
        let mut times = Vec::new();
        let mut until = Instant::now() + length;
        for count in 0.. {
            if count == WARM_UP {
                times.clear();
                until = Instant::now() + length;
            }
            let asked = Instant::now();
            if asked > until {
                break;
            }
            self.send()?;
            self.receive()?;
            times.push(asked.elapsed());
        }
        Ok(times)
    }

    fn respond(mut self, stop: &AtomicBool) -> Outcome {
        let stream = self.client.stream();
        stream.set_read_timeout(Some(IDLE)).during("responder")?;
        while !stop.load(Ordering::Relaxed) {
            if self.client.poll().during("responder")? && self.take()? {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Outcome {
        // The identifiers 1 to 60000 in turn.
        self.id = self.id % 60_000 + 1;
        let payload = [b'x'; READING_SIZE];
        let (client, id) = (&mut self.client, self.id);
        client.publish(&self.sends_to, id, 1, false, &payload);
        client.flush().during("publish")
    }

    fn receive(&mut self) -> Outcome {
        while !self.take()? {}
        Ok(())
    }

    /// Reads one packet; true when it is a message.
    fn take(&mut self) -> Outcome<bool> {
        match self.client.read().during("call")? {
            Packet::Publish { id, .. } => {
                self.client.acknowledge(id);
                self.client.flush().during("call")?;
                Ok(true)
            }
            Packet::PubAck(_) => Ok(false),
            other => Err(Failure::new(format!("unexpected {other:?}"))),
        }
    }
}
