//! Durable MQTT QoS 1 ingest beside mosquitto, which acknowledges from memory.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};

use crate::disk;
use crate::figures::{Report, median, percentile_ms, ratio};
use crate::load::{CONNECTIONS, READING_SIZE, Reached, WINDOW, publish};
use crate::machine::{Setting, said};
use crate::process::{Usage, usage};

/// Length of one measurement.
const SECONDS: u64 = 5;

/// The configuration of mosquitto: Debian's defaults, which keep persistence on
/// and write it out every 30 minutes, with TCP_NODELAY in its favour.
const MOSQUITTO: &str =
    "allow_anonymous true\nset_tcp_nodelay true\npersistence true\nlog_type error\n";

/// One side of the comparison over all rounds.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
    resident: Vec<f64>,
    written: Vec<f64>,
}

impl Side {
    fn note(&mut self, reached: &mut Reached, before: Usage, after: Usage, length: Duration) {
        let count = reached.rate * length.as_secs_f64();
        self.rates.push(reached.rate);
        self.p50.push(percentile_ms(&mut reached.latencies, 0.5));
        self.p99.push(percentile_ms(&mut reached.latencies, 0.99));
        self.cpu_us
            .push(ratio((after.cpu_s - before.cpu_s) * 1e6, count));
        self.resident.push(after.resident_mib);
        self.written
            .push(ratio(after.written - before.written, count));
    }

    fn report(&self, name: &str, report: &mut Report) {
        report.median(&format!("{name} acknowledged per second"), &self.rates);
        report.median(&format!("{name} PUBACK p50 ms"), &self.p50);
        report.median(&format!("{name} PUBACK p99 ms"), &self.p99);
        report.median(
            &format!("{name} CPU us per publish (1 s warm-up included)"),
            &self.cpu_us,
        );
        report.median(&format!("{name} resident MiB"), &self.resident);
        report.median(&format!("{name} written bytes per publish"), &self.written);
    }
}

/// Measures both in turns, then latency at a third of the load.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("mosquitto", said(Command::new("mosquitto").arg("-h")));
    report.fact("mosquitto settings", MOSQUITTO.replace('\n', "; "));
    report.fact("forebay settings", "defaults, commit_linger 0ms, zero-fill");
    report.fact(
        "load",
        format!("{CONNECTIONS} connections, {WINDOW} in flight each, {READING_SIZE} bytes, QoS 1"),
    );
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    let (mut third, mut raw, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let peer = Mosquitto::start(scratch.path())?;
        let before = usage(peer.child.id());
        let mut reached = publish(peer.address, None, length)?;
        theirs.note(&mut reached, before, usage(peer.child.id()), length);
        drop(peer);

        let node = Node::start(&Spec::gateway(&setting.program, "ingest", scratch.path()))?;
        let before = usage(node.id());
        let mut reached = publish(node.mqtt()?, None, length)?;
        ours.note(&mut reached, before, usage(node.id()), length);

        let rate = reached.rate / 3.0;
        let mut paced = publish(node.mqtt()?, Some(rate), length)?;
        drop(node);
        #[expect(clippy::cast_precision_loss, reason = "100")]
        let bytes = rate * READING_SIZE as f64;
        let mut syncs = disk::sync_times(scratch.path(), bytes, length)?;
        let (paced, syncs) = (
            percentile_ms(&mut paced.latencies, 0.99),
            percentile_ms(&mut syncs, 0.99),
        );
        third.push(paced);
        raw.push(syncs);
        factors.push(ratio(paced, syncs));
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    ours.report("forebay", report);
    theirs.report("mosquitto", report);
    report.number(
        "rate, forebay to mosquitto",
        ratio(median(&ours.rates), median(&theirs.rates)),
    );
    report.median("PUBACK p99 ms at a third of the load", &third);
    report.median("raw fdatasync p99 ms at a third of the load", &raw);
    report.median("PUBACK p99 to raw fdatasync p99", &factors);
    Ok(())
}

struct Mosquitto {
    child: Child,
    address: SocketAddr,
}

impl Mosquitto {
    fn start(directory: &Path) -> Outcome<Self> {
        let data = directory.join("mosquitto");
        fs::create_dir_all(&data).during(data.display())?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).during("a free port")?;
        let address = listener.local_addr().during("a free port")?;
        drop(listener);
        let config = data.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\n{MOSQUITTO}persistence_location {}/\n",
            address.port(),
            data.display()
        );
        fs::write(&config, text).during(config.display())?;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("mosquitto")?;
        let peer = Self { child, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(Failure::new("mosquitto does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
