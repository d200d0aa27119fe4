//! Generators of load: MQTT publishers and a Kafka producer.
//!
//! They share the machine with what they measure, so they are cheap: one
//! thread, packets encoded once, one system call for many packets.

mod audience;
mod fleet;
mod producer;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use xtask::failure::Outcome;

use crate::process::{Usage, usage};
pub use audience::fan_out;
use fleet::Fleet;
pub use producer::{RECORD_SIZE, produce};

/// Connections of the MQTT load.
pub const CONNECTIONS: u32 = 64;

/// Bytes of one reading.
pub const READING_SIZE: usize = 100;

/// Time before a measurement counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long a trickle runs between two looks at its stop sign.
const TRICKLE_STEP: Duration = Duration::from_millis(20);

/// How publishers behave.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each connection keeps this many publishes in flight.
    Window(usize),
    /// All connections together send `rate` per second whatever is
    /// acknowledged, each connection `burst` at once.
    Rate {
        /// Publishes per second.
        rate: f64,
        /// Publishes in one write to a socket.
        burst: usize,
    },
}

/// What a load reached while it counted.
#[derive(Debug, Default)]
pub struct Reached {
    /// Acknowledgements per second.
    pub rate: f64,
    /// From sending to PUBACK, of each publish that counts.
    pub latencies: Vec<Duration>,
    /// What the measured process used.
    pub used: Usage,
    /// Cores that the generator used.
    pub generator_cores: f64,
    /// Share of the time that the generator was ready and waited for a core.
    pub generator_waits: f64,
    /// All acknowledgements, before and after the counting too.
    pub acknowledged: u64,
}

/// Publishes at QoS 1 from [`CONNECTIONS`] connections to `process`.
pub fn publish(
    address: SocketAddr,
    process: u32,
    pace: Pace,
    length: Duration,
) -> Outcome<Reached> {
    let fleet = Fleet::connect(address, CONNECTIONS, pace, None)?;
    drive(fleet, process, length)
}

/// The same over TLS.
pub fn publish_over_tls(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    process: u32,
    pace: Pace,
    length: Duration,
) -> Outcome<Reached> {
    let fleet = Fleet::connect(address, CONNECTIONS, pace, Some(tls))?;
    drive(fleet, process, length)
}

fn drive(mut fleet: Fleet, process: u32, length: Duration) -> Outcome<Reached> {
    fleet.drive(Instant::now() + WARM_UP)?;
    let own = std::process::id();
    let (before, own_before) = (usage(process), usage(own));
    let started = Instant::now();
    fleet.latencies.clear();
    fleet.drive(started + length)?;
    let elapsed = started.elapsed().as_secs_f64();
    let used = usage(process).since(before);
    let own_used = usage(own).since(own_before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 publishes")]
    let count = fleet.latencies.len() as f64;
    Ok(Reached {
        rate: count / elapsed,
        latencies: std::mem::take(&mut fleet.latencies),
        used,
        generator_cores: own_used.cpu_s / elapsed,
        generator_waits: own_used.core_wait_s / elapsed,
        acknowledged: fleet.acknowledged,
    })
}

/// Publishes `rate` readings per second at QoS 1 on one connection until
/// `stop`, and keeps the number of acknowledgements in `count`.
pub fn trickle(address: SocketAddr, rate: f64, stop: &AtomicBool, count: &AtomicU64) -> Outcome {
    let mut fleet = Fleet::connect(address, 1, Pace::Rate { rate, burst: 1 }, None)?;
    while !stop.load(Ordering::Relaxed) {
        fleet.drive(Instant::now() + TRICKLE_STEP)?;
        fleet.latencies.clear();
        count.store(fleet.acknowledged, Ordering::Relaxed);
    }
    Ok(())
}
