//! Publishers that write while things happen to the service, and the proof that
//! nothing of theirs was lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::failure::{During, Failure, Outcome};
use crate::node::http;
use crate::powercut::Reading;
use crate::powercut::writer::MqttWriter;
use crate::wire::kafka::Client;

/// Where the packaged configuration listens.
const MQTT: SocketAddr = local(1883);
const KAFKA: SocketAddr = local(9092);
const HTTP: SocketAddr = local(8080);

/// The topic of publishes that no route names.
const TOPIC: &str = "readings";

/// The time in which records have to go on coming, restarts included.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// Records before and after an event, so that it happens amid them.
const RECORDS: i64 = 500;

/// A publisher that was cut off tries again after this long.
const RETRY: Duration = Duration::from_millis(50);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// One publisher at QoS 1 and one at QoS 2, which remember everything.
#[derive(Debug)]
pub struct Load {
    writers: Vec<MqttWriter>,
}

impl Load {
    /// Publishers that have not written yet.
    pub fn new() -> Self {
        Self {
            writers: vec![MqttWriter::new(1, 1), MqttWriter::new(2, 2)],
        }
    }

    /// Lets the publishers write, lets `event` happen in their midst, and
    /// checks afterwards that everything acknowledged is there, once.
    ///
    /// # Errors
    /// The event fails, nothing is written any more, or a promise is broken.
    pub fn during(
        &mut self,
        machine: &Machine,
        event: impl FnOnce(&Machine) -> Outcome,
    ) -> Outcome {
        let stop = AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            let stop = &stop;
            for writer in &mut self.writers {
                scope.spawn(move || write(machine, writer, stop));
            }
            let outcome = amid_records(machine, event);
            stop.store(true, Ordering::Relaxed);
            outcome
        });
        outcome?;
        self.complete(machine)?;
        self.check(machine)
    }

    /// Checks that everything acknowledged so far is in the log, once.
    ///
    /// # Errors
    /// Names what is not.
    pub fn check(&self, machine: &Machine) -> Outcome {
        let reading = machine.inside(|| Reading::take(KAFKA, &[TOPIC], false))?;
        let violations = reading.violations(self.writers.iter().map(MqttWriter::ledger));
        if violations.is_empty() {
            return Ok(());
        }
        Err(Failure::new(violations.join("\n  ")))
    }

    /// Forgets what was written, for a service that begins anew.
    pub fn forget(&mut self) {
        *self = Self::new();
    }

    /// Lets the publishers finish what is unacknowledged.
    fn complete(&mut self, machine: &Machine) -> Outcome {
        let writers = &mut self.writers;
        machine.inside(|| {
            for writer in writers {
                let sent = writer.ledger().sent();
                let finished = writer.complete(MQTT, sent, Duration::ZERO);
                finished.during(&writer.ledger().name)?;
            }
            Ok(())
        })
    }
}

/// Whether the node says that it is ready.
pub fn is_ready(machine: &Machine) -> Outcome<bool> {
    machine.inside(|| Ok(http::get(HTTP, "/readyz").is_ok_and(|(status, _)| status == 200)))
}

/// What `/api/v1/status` says.
///
/// # Errors
/// The node does not answer with JSON.
pub fn status(machine: &Machine) -> Outcome<serde_json::Value> {
    machine.inside(|| {
        let (_, body) = http::get(HTTP, "/api/v1/status").during("status")?;
        serde_json::from_slice(&body).during("status")
    })
}

fn write(machine: &Machine, writer: &mut MqttWriter, stop: &AtomicBool) {
    if machine.enter_network().is_err() {
        // Whoever waits for records gets none and says so.
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        // A connection that breaks is what this is about.
        let _ = writer.drive(MQTT, stop);
        thread::sleep(RETRY);
    }
}

fn amid_records(machine: &Machine, event: impl FnOnce(&Machine) -> Outcome) -> Outcome {
    progress(machine)?;
    event(machine)?;
    progress(machine)
}

/// Waits for some records more than there are.
fn progress(machine: &Machine) -> Outcome {
    machine.inside(|| {
        let started = Instant::now();
        let mut before = None;
        loop {
            let end = Client::connect(KAFKA).and_then(|mut node| node.list_offset(TOPIC, 0, -1));
            if let Ok(end) = end
                && end >= *before.get_or_insert(end) + RECORDS
            {
                return Ok(());
            }
            if started.elapsed() > PROGRESS_LIMIT {
                return Err(Failure::new(format!(
                    "no {RECORDS} records in {PROGRESS_LIMIT:?}: {end:?}"
                )));
            }
            thread::sleep(RETRY);
        }
    })
}
