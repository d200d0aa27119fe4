//! Modbus buses: from registers to readings, from commands to registers.
//!
//! One task serves one endpoint with all `[[modbus]]` sections that name it. It
//! drives a [`Client`], stamps what it reports with the moment at which it
//! came, publishes it, and hands commands to it. Nothing is queued in between:
//! while the storage pushes back, the bus is not polled, and the cycles that
//! fall out are counted.

mod commanding;
mod plan;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_modbus::bus::{self, Counters, Notice};
use forebay_modbus::client::{Client, Event};
use forebay_modbus::value::Value as Register;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config;
use crate::devices::{DeviceContext, DeviceState};
use crate::readings::{Closing, Quality, Reading, Tag, Value};
use commanding::Commanding;

/// How often it is looked whether the bus keeps up.
const PACE_INTERVAL: Duration = Duration::from_secs(60);

/// The alarm about a bus that is slower than its intervals ask.
const SLOW: &str = "slow-bus";

/// Serves one endpoint until `stop` becomes true, or until nobody holds its
/// configuration any more. The sections must name one endpoint; a change that
/// names another one makes a new connection, every other change keeps it.
pub async fn run(
    mut config: watch::Receiver<Arc<Vec<config::Modbus>>>,
    context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) {
    let sections = Arc::clone(&config.borrow_and_update());
    let Some(mut bus) = Bus::new(&sections, context) else {
        return;
    };
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            event = bus.client.next() => {
                if bus.handle(event).await.is_err() {
                    return;
                }
            }
            command = bus.commanding.next() => bus.commanding.start(&mut bus.client, command),
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
                let sections = Arc::clone(&config.borrow_and_update());
                if bus.change(&sections).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits until the node stops; a node that is gone stops as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One endpoint at work.
struct Bus {
    client: Client,
    endpoint: forebay_modbus::endpoint::Endpoint,
    /// What readings are of, in the order of the client's tags.
    tags: Vec<Arc<Tag>>,
    commanding: Commanding,
    context: DeviceContext,
    is_connected: bool,
    /// Units that do not answer, and why.
    degraded: BTreeMap<u8, &'static str>,
    /// What the health has been told of the client's counters.
    told: Counters,
    pace: Pace,
}

/// Whether the bus keeps up, looked at once a minute.
struct Pace {
    since: Instant,
    skipped: u64,
}

impl Bus {
    fn new(sections: &[config::Modbus], context: DeviceContext) -> Option<Self> {
        let plan = plan::of(sections)?;
        context.health.set_tags(plan.count());
        Some(Self {
            commanding: Commanding::new(&context.commands, &plan),
            client: Client::new(plan.endpoint.clone(), plan.config, fastrand::u64(..)),
            endpoint: plan.endpoint,
            tags: plan.tags,
            context,
            is_connected: false,
            degraded: BTreeMap::new(),
            told: Counters::default(),
            pace: Pace {
                since: Instant::now(),
                skipped: 0,
            },
        })
    }

    /// Takes a changed configuration over. What came before it is published
    /// under the names of before.
    async fn change(&mut self, sections: &[config::Modbus]) -> Result<(), Closing> {
        while let Some(event) = self.client.ready() {
            self.handle(event).await?;
        }
        let Some(plan) = plan::of(sections) else {
            return Err(Closing);
        };
        while let Some(command) = self.commanding.queued() {
            self.commanding.start(&mut self.client, command);
        }
        self.commanding.register(&self.context.commands, &plan);
        self.context.health.set_tags(plan.count());
        self.tags = plan.tags;
        if plan.endpoint == self.endpoint {
            self.client.reconfigure(plan.config);
        } else {
            self.commanding.forget();
            self.client = Client::new(plan.endpoint.clone(), plan.config, fastrand::u64(..));
            self.endpoint = plan.endpoint;
            self.told = Counters::default();
            self.pace.skipped = 0;
            self.is_connected = false;
            self.degraded.clear();
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), Closing> {
        match event {
            Event::Report(readings) => self.publish(readings).await?,
            Event::Written { id, result } => self.commanding.end(id, result),
            Event::Notice(notice) => self.notice(notice),
        }
        self.tell();
        Ok(())
    }

    /// Publishes readings, all with the moment at which they came.
    async fn publish(&mut self, readings: Vec<bus::Reading>) -> Result<(), Closing> {
        let now = self.context.publisher.clock().now_ms();
        let mut good = 0;
        let batch: Vec<Reading> = readings
            .into_iter()
            .filter_map(|reading| {
                let tag = Arc::clone(self.tags.get(reading.tag)?);
                good += u64::from(reading.result.is_ok());
                Some(of(tag, now, reading.result))
            })
            .collect();
        let device = self.context.health.name();
        self.context.publisher.publish_each(&device, &batch).await?;
        if good > 0 {
            self.context.health.add_readings(good, now);
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        let health = &self.context.health;
        match notice {
            Notice::Connected => self.is_connected = true,
            Notice::Down(reason) => {
                self.is_connected = false;
                health.set_state(DeviceState::Down, &reason);
                return;
            }
            Notice::UnitDegraded(unit, status) => {
                self.degraded.insert(unit, status.name());
            }
            Notice::UnitRecovered(unit) => {
                self.degraded.remove(&unit);
            }
            Notice::RequestSplit { unit, from, count } => {
                let device = health.name();
                tracing::info!(
                    device,
                    unit,
                    count,
                    "the device refuses to read {from} and what follows at once; it is read in parts"
                );
                return;
            }
        }
        if !self.is_connected {
            return;
        }
        if self.degraded.is_empty() {
            health.set_state(DeviceState::Connected, "");
        } else {
            let units: Vec<String> = self
                .degraded
                .iter()
                .map(|(unit, status)| format!("unit {unit}: {status}"))
                .collect();
            health.set_state(DeviceState::Degraded, &units.join(", "));
        }
    }

    /// Brings the health up to the client's counters.
    fn tell(&mut self) {
        let health = &self.context.health;
        let counters = self.client.counters();
        let failed = |c: Counters| c.timeouts + c.broken + c.refusals;
        health.add_requests(counters.requests - self.told.requests);
        health.add_errors(failed(counters) - failed(self.told));
        for _ in self.told.connects.max(1)..counters.connects {
            health.add_reconnect();
        }
        self.told = counters;
        if self.pace.since.elapsed() < PACE_INTERVAL {
            return;
        }
        let skipped = counters.skipped_cycles - self.pace.skipped;
        if skipped > 0 && self.is_connected {
            health.alarm(
                SLOW,
                &format!(
                    "{skipped} poll cycles left out in a minute: the bus is slower than its intervals ask"
                ),
            );
        } else {
            health.clear_alarm(SLOW);
        }
        self.pace = Pace {
            since: Instant::now(),
            skipped: counters.skipped_cycles,
        };
    }
}

/// A reading of a tag.
fn of(tag: Arc<Tag>, timestamp_ms: i64, result: Result<Register, bus::Status>) -> Reading {
    let (value, quality, status) = match result {
        Ok(value) => (value_of(value), Quality::Good, None),
        Err(status) => (Value::Null, Quality::Bad, Some(status)),
    };
    Reading {
        tag,
        value,
        timestamp_ms,
        quality,
        status: status.map(|status| Cow::Borrowed(status.name())),
    }
}

/// The value of a register as the rest of the gateway knows values.
fn value_of(value: Register) -> Value {
    match value {
        Register::Bool(on) => Value::Bool(on),
        Register::Signed(number) => Value::Signed(number),
        Register::Unsigned(number) => Value::Unsigned(number),
        Register::Float(number) => Value::Float(number),
        Register::Text(text) => Value::Text(Arc::from(text)),
    }
}
