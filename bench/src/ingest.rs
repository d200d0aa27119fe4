//! Durable MQTT QoS 1 ingest beside mosquitto, which acknowledges from memory.

use std::time::Duration;

use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};
use xtask::wire::kafka;

use crate::delay::Delay;
use crate::device;
use crate::figures::{Report, median, percentile_ms, ratio};
use crate::load::{CONNECTIONS, Pace, READING_SIZE, Reached, publish};
use crate::machine::{Setting, said};
use crate::mosquitto::{Mosquitto, SETTINGS};

/// Length of one measurement in seconds.
const SECONDS: u64 = 5;

/// One side of the comparison over all rounds.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
    resident: Vec<f64>,
    written: Vec<f64>,
    device: Vec<f64>,
    generator: Vec<f64>,
}

impl Side {
    fn note(&mut self, reached: &mut Reached, device: f64, length: Duration) {
        let count = reached.rate * length.as_secs_f64();
        self.rates.push(reached.rate);
        self.p50.push(percentile_ms(&mut reached.latencies, 0.5));
        self.p99.push(percentile_ms(&mut reached.latencies, 0.99));
        self.cpu_us.push(ratio(reached.used.cpu_s * 1e6, count));
        self.resident.push(reached.used.resident_mib);
        self.written.push(ratio(reached.used.written, count));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let all = reached.acknowledged as f64;
        self.device.push(ratio(device, all));
        self.generator.push(reached.generator_cores);
    }

    fn report(&self, name: &str, report: &mut Report) {
        let mut add = |what: &str, rounds| report.median(&format!("{name} {what}"), rounds);
        add("acknowledged per second", &self.rates);
        add("PUBACK p50 ms", &self.p50);
        add("PUBACK p99 ms", &self.p99);
        add("CPU us per publish", &self.cpu_us);
        add("resident MiB", &self.resident);
        add("written bytes per publish", &self.written);
        add("device bytes per publish (others included)", &self.device);
        add("generator cores meanwhile", &self.generator);
    }
}

/// Measures both in turns, then latency at a third of the rate reached.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("mosquitto", said(Mosquitto::command().arg("-h")));
    report.fact(
        "mosquitto settings",
        SETTINGS.trim_end().replace('\n', "; "),
    );
    report.fact("forebay settings", "defaults, commit_linger 0ms, zero-fill");
    report.fact(
        "load",
        format!(
            "{CONNECTIONS} connections, {} in flight each, {READING_SIZE} bytes, QoS 1, {length:?}",
            setting.window
        ),
    );
    let pace = Pace::Window(setting.window);
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    let (mut singles, mut bursts) = (Delay::default(), Delay::default());
    let mut ratios = Vec::new();
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let peer = Mosquitto::start(scratch.path())?;
        let before = device::bytes_written(scratch.path())?;
        let mut peer_reached = publish(peer.address, peer.id(), pace, length)?;
        let written = device::bytes_written(scratch.path())? - before;
        theirs.note(&mut peer_reached, written, length);
        drop(peer);

        let node = Node::start(&Spec::gateway(&setting.program, "ingest", scratch.path()))?;
        let before = device::bytes_written(scratch.path())?;
        let mut reached = publish(node.mqtt()?, node.id(), pace, length)?;
        let written = device::bytes_written(scratch.path())? - before;
        ours.note(&mut reached, written, length);
        check(&node, reached.acknowledged)?;
        ratios.push(ratio(reached.rate, peer_reached.rate));

        let rate = setting.rate.unwrap_or(reached.rate / 3.0);
        singles.measure(&node, scratch.path(), (rate, 1), length)?;
        bursts.measure(&node, scratch.path(), (rate, setting.window), length)?;
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    ours.report("forebay", report);
    theirs.report("mosquitto", report);
    report.median("rate, forebay to mosquitto", &ratios);
    report.number(
        "CPU per publish, forebay to mosquitto",
        ratio(median(&ours.cpu_us), median(&theirs.cpu_us)),
    );
    singles.report("paced, one by one", report);
    bursts.report("paced, a window at once", report);
    Ok(())
}

/// A rate counts only when what was acknowledged can be read from the log.
fn check(node: &Node, acknowledged: u64) -> Outcome {
    let mut client = kafka::Client::connect(node.ports.kafka).during("Kafka connection")?;
    let fetched = client.fetch("readings", 0, 0, 0).during("readings")?;
    let stored = u64::try_from(fetched.high_watermark).unwrap_or_default();
    if stored < acknowledged {
        return Err(Failure::new(format!(
            "{acknowledged} publishes were acknowledged, {stored} are in the log"
        )));
    }
    Ok(())
}
