//! Devices: what a task that talks to machines needs and reports.
//!
//! A device is one connection of the gateway to the outside: a Modbus bus, an
//! OPC UA session, a bridge. It runs as one task, takes its configuration
//! through a watch channel, publishes [readings](crate::readings) through the
//! [`Publisher`], takes [commands](crate::commands), and says how it is in its
//! [`Health`].
//!
//! [`Devices`] runs them all. A new kind of device is a line in `kinds`.

pub mod fleet;
mod health;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::bridge;
use crate::commands::Commands;
use crate::config::{self, Config};
use crate::ingest::routes::RouteSpec;
use crate::modbus;
use crate::opcua;
use crate::queries;
use crate::queries::board::Board;
use crate::readings::Publisher;
use crate::sparkplug;
use fleet::{Fleet, Kind, Wanted};
pub use health::{DeviceState, Health, HealthSnapshot};

/// What queries are called among the devices.
pub const QUERY: &str = "query";

/// What a device's task is given.
#[derive(Clone)]
pub struct DeviceContext {
    /// Where readings go.
    pub publisher: Publisher,
    /// Where commands come from.
    pub commands: Commands,
    /// Figures and alerts of queries.
    pub queries: Board,
    /// How this device is.
    pub health: Health,
    /// The node's data directory.
    pub data_dir: Arc<Path>,
    /// The directory of the configuration file: relative file names in it
    /// start here.
    pub config_dir: Arc<Path>,
}

/// What all devices of a node share.
#[derive(Clone)]
pub struct Surroundings {
    /// Where readings go.
    pub publisher: Publisher,
    /// Where commands come from.
    pub commands: Commands,
    /// Figures and alerts of queries.
    pub queries: Board,
    /// The node's data directory.
    pub data_dir: Arc<Path>,
    /// The directory of the configuration file.
    pub config_dir: Arc<Path>,
}

/// What a new configuration did to the devices, each by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Started.
    pub added: Vec<String>,
    /// Told of other tags or rules.
    pub changed: Vec<String>,
    /// Stopped.
    pub removed: Vec<String>,
    /// Not touched.
    pub unchanged: Vec<String>,
}

/// All devices of a node.
pub struct Devices {
    around: Surroundings,
    kinds: Mutex<Vec<Box<dyn Kind>>>,
    /// Routes of results, those of queries before included.
    results: parking_lot::Mutex<Vec<RouteSpec>>,
    /// Of the devices that run, for whoever must not wait for a change.
    healths: parking_lot::Mutex<Vec<Health>>,
}

/// Every kind of device. Each line says what it is called, what the
/// configuration wants of it, and how one device lives.
fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        Box::new(Fleet::new("modbus", buses, |config, context, stop| {
            Box::pin(modbus::run(config, context, stop))
        })),
        Box::new(Fleet::new("opcua", servers, |config, context, stop| {
            Box::pin(opcua::run(config, context, stop))
        })),
        Box::new(Fleet::new("sparkplug", hosts, |config, context, stop| {
            Box::pin(sparkplug::run(config, context, stop))
        })),
        Box::new(Fleet::new("bridge", bridges, |config, context, stop| {
            Box::pin(bridge::run(config, context, stop))
        })),
        Box::new(Fleet::new(QUERY, continuous, |config, context, stop| {
            Box::pin(queries::run(config, context, stop))
        })),
    ]
}

/// A server is known by its name, which begins its paths.
fn servers(config: &Config) -> Wanted<config::OpcUa> {
    let named = |server: &config::OpcUa| (server.name.clone(), server.clone());
    let servers = config.opcua.iter().map(named);
    servers.map(|server| (server.0.clone(), server)).collect()
}

/// A bridge is known by its name, under which it remembers what it sent.
fn bridges(config: &Config) -> Wanted<config::Bridge> {
    let named = |bridge: &config::Bridge| (bridge.name.clone(), bridge.clone());
    let bridges = config.bridges.iter().map(named);
    bridges.map(|bridge| (bridge.0.clone(), bridge)).collect()
}

/// A query is known by its name, under which its state is kept.
fn continuous(config: &Config) -> Wanted<config::Query> {
    let named = |query: &config::Query| (query.name.clone(), query.clone());
    let queries = config.queries.iter().map(named);
    queries.map(|query| (query.0.clone(), query)).collect()
}

/// The node has one Sparkplug host application or none.
fn hosts(config: &Config) -> Wanted<config::Sparkplug> {
    let named = |section: &config::Sparkplug| ("sparkplug".to_owned(), section.clone());
    let host = config.sparkplug.iter().map(named);
    host.map(|host| (host.0.clone(), host)).collect()
}

/// The sections of each bus: those that name the same endpoint share it.
fn buses(config: &Config) -> Wanted<Vec<config::Modbus>> {
    let mut buses = Wanted::<Vec<config::Modbus>>::new();
    for section in &config.modbus {
        let (name, bus) = buses.entry(section.endpoint.to_string()).or_default();
        if !name.is_empty() {
            name.push_str(", ");
        }
        name.push_str(&section.name);
        bus.push(section.clone());
    }
    buses
}

impl Devices {
    /// No device yet; [`Self::apply`] starts them.
    pub fn new(around: Surroundings) -> Self {
        Self {
            around,
            kinds: Mutex::new(kinds()),
            results: parking_lot::Mutex::default(),
            healths: parking_lot::Mutex::default(),
        }
    }

    /// Makes the devices those of the configuration. A device whose section
    /// has not changed goes on without noticing; one with other tags keeps its
    /// connection where it can.
    pub async fn apply(&self, config: &Config) -> Changes {
        let mut kinds = self.kinds.lock().await;
        let mut changes = Changes::default();
        self.add_routes_of_results(&config.queries);
        for kind in kinds.iter_mut() {
            kind.apply(config, &self.around, &mut changes).await;
        }
        self.forget_queries(config.queries.clone()).await;
        *self.healths.lock() = kinds.iter().flat_map(|kind| kind.healths()).collect();
        changes
    }

    /// Routes of queries that were configured before stay: one that ends or gets
    /// another topic may still commit rows on their way.
    fn add_routes_of_results(&self, queries: &[config::Query]) {
        let mut specs = queries::routes(queries);
        let mut results = self.results.lock();
        for before in results.drain(..) {
            if specs.iter().all(|spec| spec.filter != before.filter) {
                specs.push(before);
            }
        }
        let routes = self.around.publisher.ingest().routes();
        if let Err(errors) = routes.set_results(&specs) {
            // The configuration has checked names and topics.
            tracing::error!(?errors, "the results of queries have no routes");
        }
        *results = specs;
    }

    /// Ends the alerts of queries that are gone.
    async fn forget_queries(&self, wanted: Vec<config::Query>) {
        let (publisher, board) = (self.around.publisher.clone(), self.around.queries.clone());
        let forgetting = tokio::task::spawn_blocking(move || {
            queries::forget_others(&publisher, &board, &wanted);
        });
        if forgetting.await.is_err() {
            tracing::error!("forgetting queries panicked");
        }
    }

    /// How each device is.
    pub fn healths(&self) -> Vec<HealthSnapshot> {
        self.healths.lock().iter().map(Health::snapshot).collect()
    }

    /// Stops all of them, and completes when they are.
    pub async fn stop(&self) {
        for kind in self.kinds.lock().await.iter_mut() {
            kind.stop().await;
        }
    }
}
