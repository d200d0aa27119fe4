//! Simulated machines: MQTT clients that publish vibration, temperature and
//! speed at QoS 1. The bearing of one machine slowly fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::task::JoinSet;

/// Machines of the demo plant that speak MQTT to the gateway.
pub const MACHINES: [&str; 4] = ["press-1", "press-2", "press-3", "press-4"];
/// The machine whose bearing fails.
pub const FAILING_MACHINE: &str = "press-3";
/// Pause between two rounds of one machine. A round is one reading of each
/// quantity, so five machines make 5 x 3 quantities x 20 = 300 readings a second: visible on the screen, nothing for a Raspberry Pi.
const ROUND: Duration = Duration::from_millis(50);
/// Publishes that wait inside the client library. Small, so that the number
/// sent stays close to the number acknowledged.
const CLIENT_QUEUE: usize = 64;
/// How often the failing bearing's vibration doubles.
const DOUBLING_SECONDS: f64 = 8.0;

/// What the sensors did so far, shared with the screen and the audit.
#[derive(Debug, Default)]
pub struct Tally {
    acknowledged: Mutex<BTreeMap<&'static str, u64>>,
    stop: AtomicBool,
    per_path: Mutex<BTreeMap<String, u64>>,
    vibration: Mutex<BTreeMap<&'static str, f64>>,
}

impl Tally {
    /// Readings whose PUBACK arrived.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.lock().values().sum()
    }

    /// Those of one machine.
    pub fn acknowledged_of(&self, machine: &str) -> u64 {
        self.acknowledged.lock().get(machine).copied().unwrap_or(0)
    }

    /// Readings sent per path; the last sequence number is one less.
    pub fn sent_per_path(&self) -> BTreeMap<String, u64> {
        self.per_path.lock().clone()
    }

    /// The newest vibration velocity of a machine in mm/s.
    pub fn vibration(&self, machine: &str) -> f64 {
        self.vibration.lock().get(machine).copied().unwrap_or(0.0)
    }

    /// Asks the sensors to stop and to wait for their outstanding PUBACKs.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count_sent(&self, path: &str) {
        *self.per_path.lock().entry(path.to_owned()).or_default() += 1;
    }
}

/// Where a machine publishes.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Its name, a level of its topics.
    pub name: &'static str,
    /// The broker that it knows.
    pub broker: SocketAddr,
    /// What its topics begin with there.
    pub prefix: &'static str,
    /// What its paths begin with in the log.
    pub path_prefix: &'static str,
}

/// Starts one MQTT client per machine. Each ends after [`Tally::stop`] once
/// every reading that it sent is acknowledged.
///
/// Bearings age `haste` times as fast as in a demo of a minute.
pub fn start(machines: &[Machine], tally: &Arc<Tally>, haste: f64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for &machine in machines {
        let mut options = MqttOptions::new(
            format!("demo-{}", machine.name),
            machine.broker.ip().to_string(),
            machine.broker.port(),
        );
        options.set_keep_alive(Duration::from_secs(5));
        options.set_clean_session(false);
        let (client, events) = AsyncClient::new(options, CLIENT_QUEUE);
        tasks.spawn(drive(machine.name, events, tally.clone()));
        tasks.spawn(publish(machine, client, tally.clone(), haste));
    }
    tasks
}

async fn publish(machine: Machine, client: AsyncClient, tally: Arc<Tally>, haste: f64) {
    let Machine { name, .. } = machine;
    let mut noise = fastrand::Rng::with_seed(name.bytes().map(u64::from).sum());
    let mut ticks = tokio::time::interval(ROUND);
    let mut sequence = 0u64;
    let mut own_sent = 0u64;
    while !tally.stopping() {
        ticks.tick().await;
        let seconds = sequence as f64 * ROUND.as_secs_f64() * haste;
        let vibration = vibration_at(name, seconds, &mut noise);
        tally.vibration.lock().insert(name, vibration);
        let readings = [
            ("vibration", vibration, "mm/s"),
            ("temperature", 41.0 + vibration * 1.5 + noise.f64(), "°C"),
            ("rpm", 1480.0 + 6.0 * noise.f64(), "1/min"),
        ];
        for (quantity, value, unit) in readings {
            let topic = format!("{}{name}/{quantity}", machine.prefix);
            let payload =
                format!("{{\"seq\":{sequence},\"value\":{value:.3},\"unit\":\"{unit}\"}}");
            if client
                .publish(&topic, QoS::AtLeastOnce, false, payload)
                .await
                .is_err()
            {
                return;
            }
            tally.count_sent(&format!("{}{name}/{quantity}", machine.path_prefix));
            own_sent += 1;
        }
        sequence += 1;
    }
    while tally.acknowledged_of(name) < own_sent {
        ticks.tick().await;
    }
    // The event loop ends with an error after the disconnect; both are done.
    let _ = client.disconnect().await;
}

/// Runs the client's event loop and counts PUBACKs. A broken connection is
/// retried by the library with its unacknowledged publishes.
async fn drive(machine: &'static str, mut events: EventLoop, tally: Arc<Tally>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                *tally.acknowledged.lock().entry(machine).or_default() += 1;
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(_) if tally.stopping() => return,
            Err(_) => tokio::time::sleep(ROUND).await,
        }
    }
}

/// Vibration velocity in mm/s RMS. ISO 20816 calls 2.8 satisfactory and 7.1
/// unacceptable for machines of this size.
fn vibration_at(machine: &str, seconds: f64, noise: &mut fastrand::Rng) -> f64 {
    let healthy = 1.1 + 0.2 * noise.f64();
    if machine == FAILING_MACHINE {
        healthy + 0.1 * ((seconds / DOUBLING_SECONDS).exp2() - 1.0)
    } else {
        healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_failing_bearing_leaves_the_healthy_range() {
        let mut noise = fastrand::Rng::with_seed(1);
        assert!(vibration_at("press-1", 120.0, &mut noise) < 1.4);
        assert!(vibration_at(FAILING_MACHINE, 0.0, &mut noise) < 1.4);
        assert!(vibration_at(FAILING_MACHINE, 60.0, &mut noise) > 7.1);
    }
}
