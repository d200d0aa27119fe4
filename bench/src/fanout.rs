//! One publisher to many QoS 0 subscribers, beside mosquitto.

use std::time::Duration;

use xtask::failure::{During, Outcome};
use xtask::node::{Node, Spec};

use crate::figures::{Report, ratio};
use crate::load::{READING_SIZE, Reached, fan_out};
use crate::machine::{Setting, said};
use crate::mosquitto::{Mosquitto, SETTINGS};

/// Length of one measurement in seconds.
const SECONDS: u64 = 5;

/// Subscribers, unless `--sessions` says otherwise.
const SUBSCRIBERS: usize = 1_000;

#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
    core_waits: Vec<f64>,
    resident: Vec<f64>,
    generator: Vec<f64>,
}

impl Side {
    fn note(&mut self, reached: &Reached, length: Duration) {
        let seconds = length.as_secs_f64();
        let count = reached.rate * seconds;
        self.rates.push(reached.rate);
        self.cpu_us.push(ratio(reached.used.cpu_s * 1e6, count));
        self.core_waits.push(reached.used.core_wait_s / seconds);
        self.resident.push(reached.used.resident_mib);
        self.generator.push(reached.generator_cores);
    }

    fn report(&self, name: &str, report: &mut Report) {
        let mut add = |what: &str, rounds| report.median(&format!("{name} {what}"), rounds);
        add("deliveries per second", &self.rates);
        add("CPU us per delivery", &self.cpu_us);
        add("threads that wait for a core", &self.core_waits);
        add("resident MiB", &self.resident);
        add("generator cores meanwhile", &self.generator);
    }
}

/// Measures both in turns. The gateway writes each message to its log first.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    let subscribers = setting.sessions.unwrap_or(SUBSCRIBERS);
    report.fact("mosquitto", said(Mosquitto::command().arg("-h")));
    report.fact(
        "mosquitto settings",
        SETTINGS.trim_end().replace('\n', "; "),
    );
    report.fact(
        "forebay settings",
        "defaults: every message is durable first",
    );
    report.fact(
        "load",
        format!(
            "1 publisher, {subscribers} subscribers, QoS 0, {READING_SIZE} bytes, {} messages not delivered at most, {length:?}",
            setting.window
        ),
    );
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    let mut ratios = Vec::new();
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let peer = Mosquitto::start(scratch.path())?;
        let window = setting.window;
        let peer_reached = fan_out(peer.address, peer.id(), subscribers, window, length);
        let peer_reached = peer_reached.during("mosquitto")?;
        theirs.note(&peer_reached, length);
        drop(peer);

        let node = Node::start(&Spec::gateway(&setting.program, "fanout", scratch.path()))?;
        let reached = fan_out(node.mqtt()?, node.id(), subscribers, window, length);
        let reached = reached.during("forebay")?;
        ours.note(&reached, length);
        ratios.push(ratio(reached.rate, peer_reached.rate));
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    ours.report("forebay", report);
    theirs.report("mosquitto", report);
    report.median("rate, forebay to mosquitto", &ratios);
    Ok(())
}
