//! Continuous queries over the log.
//!
//! A query is a task. It reads the partitions that may hold its paths, hands
//! records to the engine in `forebay_analytics`, and commits what comes out
//! together with how far it read and what its state is: [`kept`] says how a
//! restart finds the same state again. Results are records: rows below
//! [`RESULTS_PREFIX`], alerts below [`ALERTS_PREFIX`], both seen by MQTT
//! subscribers, Kafka clients and the uplink as any other.
//!
//! The grammar and what it means are in `docs/queries.md`.

mod alerts;
pub mod board;
mod handing;
mod kept;
mod results;
mod runner;
mod sources;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_records::Record;
use forebay_storage::{Ticket, Transaction};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::config::{self, late_topic};
use crate::devices::{DeviceContext, DeviceState};
use crate::ingest::routes::{Durability, RouteSpec};
use crate::mqtt::message::Message;
use crate::readings::Publisher;
use board::{Board, Meter};
pub use results::QUERY_HEADER;
use runner::{Runner, StepError, Workplace};

/// The log topic of alerts, first in line for the uplink.
pub const ALERTS_TOPIC: &str = "alerts";
/// Paths of results go on with their topic and the values of their key.
pub const RESULTS_PREFIX: &str = "forebay/queries/";
/// Paths of alerts go on with query, alert and the values of the key.
pub const ALERTS_PREFIX: &str = "forebay/alerts/";
/// Paths of acknowledgements go on with the query. They are below
/// [`ALERTS_PREFIX`] and of no query, whose names do not begin with a dot.
pub const ACKNOWLEDGED_PREFIX: &str = "forebay/alerts/.acknowledged/";

/// Partitions of topics that queries write. Results are few, and their order is
/// worth more than spreading them.
const PARTITIONS: u32 = 1;

/// What gathers before it is handed in: a commit of the log wakes every query,
/// and there are hundreds per second.
const LINGER: Duration = Duration::from_millis(20);
/// How often silence is looked for.
const SILENCE_EVERY: Duration = Duration::from_secs(1);
/// Pause after the storage refused a commit, because the disk is full for
/// instance.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a query that cannot begin is tried again.
const BEGIN_PAUSE: Duration = Duration::from_secs(30);

/// The alarm about results that cannot be stored.
const REFUSED: &str = "not-stored";

/// The routes of what the queries of a configuration write.
pub fn routes(queries: &[config::Query]) -> Vec<RouteSpec> {
    let route = |filter: String, topic: String| RouteSpec {
        filter,
        topic,
        key: None,
        partitions: PARTITIONS,
        durability: Durability::Log,
    };
    let mut routes = Vec::new();
    for query in queries {
        let topic = &query.topic;
        let path = format!("{RESULTS_PREFIX}{topic}");
        routes.push(route(format!("{path}/late/#"), late_topic(topic)));
        routes.push(route(format!("{path}/#"), topic.clone()));
    }
    routes.push(route(format!("{ALERTS_PREFIX}#"), ALERTS_TOPIC.to_owned()));
    routes
}

/// Runs a query until `stop` becomes true, or until nobody holds the
/// configuration any more.
pub async fn run(
    mut config: watch::Receiver<Arc<config::Query>>,
    context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let settings = Arc::clone(&config.borrow_and_update());
        let place = Workplace {
            publisher: context.publisher.clone(),
            board: context.queries.clone(),
            health: context.health.clone(),
        };
        let now = now_ms(&context);
        let opening = move || Runner::open(&place, settings, now);
        let opened = tokio::task::spawn_blocking(opening).await;
        let reason = match opened {
            Ok(Ok(runner)) => {
                context.health.set_state(DeviceState::Connected, "");
                let mut following = Following {
                    meter: runner.meter(),
                    context: context.clone(),
                    runner: Some(runner),
                };
                let end = following.follow(&mut config, &mut stop).await;
                following.close().await;
                match end {
                    End::Changed => continue,
                    End::Stopped => return,
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its start panicked".to_owned(),
        };
        context.health.set_state(DeviceState::Down, &reason);
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = config.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(BEGIN_PAUSE) => {}
        }
    }
}

/// Why [`Following::follow`] returns.
enum End {
    /// The configuration is another one.
    Changed,
    /// The node stops, or the log does not go on.
    Stopped,
}

/// A query at work.
struct Following {
    context: DeviceContext,
    meter: Arc<Meter>,
    /// Away while a step runs.
    runner: Option<Runner>,
}

impl Following {
    async fn follow(
        &mut self,
        config: &mut watch::Receiver<Arc<config::Query>>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let mut commits = self.context.publisher.commits();
        loop {
            commits.borrow_and_update();
            let mut pause = SILENCE_EVERY;
            if self.is_due() {
                match self.step().await {
                    Ok(()) => {
                        self.context.health.clear_alarm(REFUSED);
                        if !*stop.borrow() && !config.has_changed().unwrap_or(true) {
                            continue;
                        }
                    }
                    Err(StepError::Closing) => return End::Stopped,
                    Err(StepError::Refused(reason)) => {
                        self.context.health.alarm(REFUSED, &reason);
                        pause = REFUSED_PAUSE;
                    }
                }
            }
            tokio::select! {
                () = stopped(stop) => return End::Stopped,
                changed = config.changed() => match changed {
                    Ok(()) => return End::Changed,
                    Err(_) => return End::Stopped,
                },
                _ = gathered(&mut commits), if pause == SILENCE_EVERY => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn is_due(&mut self) -> bool {
        let now = now_ms(&self.context);
        self.runner
            .as_mut()
            .is_some_and(|runner| runner.is_due() || runner.is_silence_due(now))
    }

    /// One portion of the log, on a thread that may block.
    async fn step(&mut self) -> Result<(), StepError> {
        let Some(mut runner) = self.runner.take() else {
            return Err(StepError::Closing);
        };
        let now = now_ms(&self.context);
        let step = move || {
            let before = cpu_us();
            let outcome = runner.step(now);
            (runner, outcome, cpu_us().saturating_sub(before))
        };
        let Ok((runner, outcome, cpu)) = tokio::task::spawn_blocking(step).await else {
            return Err(StepError::Closing);
        };
        self.meter.cpu_us.fetch_add(cpu, Ordering::Relaxed);
        self.runner = Some(runner);
        outcome
    }

    async fn close(self) {
        if let Some(mut runner) = self.runner {
            // What it does not get done, the next start does again.
            let _ = tokio::task::spawn_blocking(move || runner.close()).await;
        }
    }
}

/// Forgets queries that the configuration does not have any more: their state,
/// and their alerts, which nobody would end. Large snapshots of theirs stay
/// until [`remove_strays`]. Blocks on the log.
pub fn forget_others(publisher: &Publisher, board: &Board, queries: &[config::Query]) {
    let storage = publisher.storage();
    let is_gone = |name: &String| queries.iter().all(|query| query.name != *name);
    for name in kept::names(storage).into_iter().filter(is_gone) {
        let _lease = board.lease(&name);
        let mut transaction = Transaction::new();
        kept::forget(storage, &name, &mut transaction);
        match alerts::withdraw(publisher, board, &name, transaction) {
            Ok(()) => tracing::info!(query = name, "it is not configured any more: forgotten"),
            Err(reason) => tracing::warn!(query = name, reason, "not forgotten"),
        }
    }
}

/// Removes large snapshots that no query needs. No query may run, because those
/// of a commit that is under way look the same. Blocks on the disk.
pub fn remove_strays(publisher: &Publisher) {
    kept::remove_strays(publisher.storage());
}

/// The path of a record in the namespace.
pub fn path_of(record: &Record) -> Option<&str> {
    let named = record
        .headers
        .iter()
        .find(|header| header.key == Message::TOPIC_HEADER);
    let path = match named {
        Some(header) => header.value.as_deref(),
        None => record.key.as_deref(),
    };
    std::str::from_utf8(path?).ok()
}

/// Waits for a commit, and a little longer for those behind it.
async fn gathered(commits: &mut watch::Receiver<Ticket>) {
    if commits.changed().await.is_err() {
        // The log is gone; whoever stops the node says so.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LINGER).await;
}

/// Waits until the node stops; a node that is gone stops as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn now_ms(context: &DeviceContext) -> i64 {
    context.publisher.clock().now_ms()
}

/// Processor time of this thread, in microseconds.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanoseconds / 1_000
}
