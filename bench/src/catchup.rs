//! The uplink drains a backlog beside the speed of a loopback producer.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};

use crate::figures::{Report, ratio};
use crate::load::{self, RECORD_SIZE};
use crate::machine::Setting;
use crate::process::usage;

/// Live readings per second while the backlog drains.
const LIVE_RATE: f64 = 1000.0;

/// The backlog counts as drained when the lag is below half a second of live
/// readings.
const DRAINED: u64 = 500;

/// The longest time that draining may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures one round after the other, each with a fresh gateway and hub.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let total = setting.mib << 20;
    report.fact(
        "load",
        format!(
            "{} MiB of {RECORD_SIZE}-byte records produced in requests of {} KiB, \
             live MQTT QoS 1 at {LIVE_RATE}/s",
            setting.mib, setting.batch_kib
        ),
    );
    let (mut drains, mut produces, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut live) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).during("a free port")?;
        let hub_address = listener.local_addr().during("a free port")?;
        drop(listener);
        let mut spec = Spec::gateway(&setting.program, "gateway", scratch.path());
        spec.hub = Some(hub_address);
        let gateway = Node::start(&spec)?;
        let produced = load::produce(
            gateway.ports.kafka,
            "backlog",
            total,
            setting.batch_kib << 10,
        )?;
        let mut hub_spec = Spec::hub(&setting.program, "hub", scratch.path());
        hub_spec.ports[1] = hub_address.port();
        let hub = Node::start(&hub_spec)?;
        let before = (usage(gateway.id()).cpu_s, usage(hub.id()).cpu_s);
        let (took, count) = drain(&gateway)?;
        let used = (
            usage(gateway.id()).cpu_s - before.0,
            usage(hub.id()).cpu_s - before.1,
        );
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (total, count) = (total as f64, count as f64);
        let drained = total / took.as_secs_f64();
        drains.push(drained / 1e6);
        produces.push(produced / 1e6);
        ratios.push(ratio(drained, produced));
        cpu.push((used.0 + used.1) / (total / 1e9));
        live.push(count / took.as_secs_f64());
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    report.median("drain MB/s (reconnect included)", &drains);
    report.median("loopback produce MB/s", &produces);
    report.median("drain to produce", &ratios);
    report.median("CPU s per GB, gateway and hub", &cpu);
    report.median("live readings acknowledged per second meanwhile", &live);
    Ok(())
}

/// Waits until the backlog is drained; returns the time from the first sign of
/// the connection, and the live readings acknowledged.
fn drain(gateway: &Node) -> Outcome<(Duration, u64)> {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = gateway.mqtt()?;
    thread::scope(|scope| {
        let live = scope.spawn(|| load::trickle(address, LIVE_RATE, &stop, &count));
        let result = wait(gateway, &count);
        stop.store(true, Ordering::Relaxed);
        live.join()
            .map_err(|_| Failure::new("the live publisher panicked"))??;
        result
    })
}

fn wait(gateway: &Node, count: &AtomicU64) -> Outcome<(Duration, u64)> {
    let (begun, mut connected) = (Instant::now(), None);
    while begun.elapsed() < PATIENCE {
        let status = gateway.status()?;
        let uplink = status.get("uplink").cloned().unwrap_or_default();
        if uplink.get("connected") == Some(&Value::Bool(true)) {
            connected.get_or_insert((Instant::now(), count.load(Ordering::Relaxed)));
        }
        let lag = uplink.get("lag_records").and_then(Value::as_u64);
        if let (Some((since, before)), Some(0..=DRAINED)) = (connected, lag) {
            return Ok((since.elapsed(), count.load(Ordering::Relaxed) - before));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new(format!(
        "the backlog is not drained after {PATIENCE:?}"
    )))
}
