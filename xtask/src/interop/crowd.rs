//! Ten thousand idle connections and a very slow sender disturb nobody.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Stage;
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};
use crate::wire::mqtt::{Client, Packet};

/// Idle connections.
const IDLE: usize = 10_000;

/// Publishes whose time to PUBACK is measured, one at a time.
const SAMPLES: usize = 400;

/// File descriptors for both ends of the crowd, here and in the node.
const DESCRIPTORS: u64 = 16_384;

/// The crowd may slow the 99th percentile down by this factor, and by a fixed
/// amount that hides the noise of two busy cores.
const SLOWDOWN_MAX: u32 = 5;
const NOISE: Duration = Duration::from_millis(25);

pub fn ten_thousand(stage: &Stage) -> Outcome {
    raise_descriptors()?;
    let mut spec = Spec::gateway(&stage.program, "crowd", stage.work.path());
    spec.mqtt = "max_connections = 12000\n".to_owned();
    let node = Node::start(&spec)?;
    let alone = percentile(&node, "alone")?;
    let mut crowd = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let (client, _) = Client::connect(node.mqtt()?, &format!("idle-{number}"), true)
            .during(format!("idle connection {number}"))?;
        crowd.push(client);
    }
    let stop = AtomicBool::new(false);
    let crowded = thread::scope(|scope| {
        scope.spawn(|| dribble(&node, &stop));
        let crowded = percentile(&node, "crowded");
        stop.store(true, Ordering::Relaxed);
        crowded
    })?;
    println!(
        "       {IDLE} idle: PUBACK p99 {:.2} ms, alone {:.2} ms",
        crowded.as_secs_f64() * 1e3,
        alone.as_secs_f64() * 1e3
    );
    if crowded > alone * SLOWDOWN_MAX + NOISE {
        return Err(Failure::new(format!(
            "PUBACK p99 is {crowded:?} in the crowd and {alone:?} alone"
        )));
    }
    // The crowd is still there: idle is not dead.
    for (number, client) in crowd.iter_mut().enumerate().step_by(997) {
        client.publish("crowd/idle", 1, 1, false, b"here");
        client.flush().during(format!("idle connection {number}"))?;
        let answer = client.read().during(format!("idle connection {number}"))?;
        if answer != Packet::PubAck(1) {
            return Err(Failure::new(format!("expected PUBACK 1, got {answer:?}")));
        }
    }
    Ok(())
}

/// Sends a CONNECT one byte a second.
fn dribble(node: &Node, stop: &AtomicBool) {
    let Ok(address) = node.mqtt() else { return };
    let Ok(client) = Client::open(address) else {
        return;
    };
    for byte in [0x10, 0x12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2] {
        if stop.load(Ordering::Relaxed) || client.stream().write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn percentile(node: &Node, id: &str) -> Outcome<Duration> {
    let (mut client, _) = Client::connect(node.mqtt()?, id, true).during(id)?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for number in 1..=SAMPLES {
        let packet = u16::try_from(number).unwrap_or(1);
        let started = Instant::now();
        client.publish("crowd/busy", packet, 1, false, &[b'x'; 100]);
        client.flush().during("publish")?;
        let answer = client.read().during("PUBACK")?;
        if answer != Packet::PubAck(packet) {
            return Err(Failure::new(format!(
                "expected PUBACK {packet}, got {answer:?}"
            )));
        }
        samples.push(started.elapsed());
    }
    samples.sort_unstable();
    Ok(samples[SAMPLES * 99 / 100])
}

/// The node inherits the limit.
pub(super) fn raise_descriptors() -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= DESCRIPTORS) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(DESCRIPTORS));
    let wanted = Rlimit {
        current: Some(DESCRIPTORS),
        maximum,
    };
    setrlimit(Resource::Nofile, wanted)
        .during(format!("raising the limit of open files to {DESCRIPTORS}"))
}
