//! What takes traffic in: the MQTT server, the devices and their commands, over
//! one publisher and one clock.

use std::path::Path;
use std::sync::Arc;

use forebay_storage::Storage;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{NodeError, Servers};
use crate::access::Access;
use crate::clock::{self, Clock};
use crate::commands::Commands;
use crate::commands::desk::Desk;
use crate::config::{self, Config};
use crate::devices::{Devices, Surroundings};
use crate::ingest::routes::{RouteSpec, Routes};
use crate::mqtt::{self, MqttConfig, MqttContext};
use crate::queries;
use crate::queries::board::Board;
use crate::readings::Publisher;

/// What other parts of the node need of it.
pub(super) struct Intake {
    pub(super) devices: Arc<Devices>,
    pub(super) desk: Desk,
    pub(super) stats: Arc<mqtt::Stats>,
    pub(super) clock: Clock,
    pub(super) board: Board,
    pub(super) publisher: Publisher,
}

/// Where it is started.
pub(super) struct Place<'a> {
    pub(super) config: &'a Config,
    pub(super) file: &'a Path,
    pub(super) storage: &'a Storage,
    pub(super) access: &'a Access,
    pub(super) stopped: &'a watch::Receiver<bool>,
}

impl Place<'_> {
    /// Starts the server and what commands need. The devices start when they
    /// are given their configuration.
    pub(super) async fn start(
        &self,
        mqtt: &config::Mqtt,
        listeners: mqtt::Listeners,
        servers: &mut Servers,
        helpers: &mut JoinSet<()>,
    ) -> Result<Intake, NodeError> {
        let (config, storage) = (self.config, self.storage);
        let clock = match config.node.clock {
            config::ClockTrust::Auto => Clock::system(),
            config::ClockTrust::Trusted => Clock::trusted(),
        };
        helpers.spawn(clock::watch::run(clock.clone(), storage.clone()));
        let routes = routes(config)?;
        let publisher = open_publisher(storage, &routes, clock.clone()).await?;
        let commands = Commands::default();
        let policy = config.commands.clone();
        let (desk, clerk) = Desk::new(policy, commands.clone(), publisher.clone(), storage.clone());
        let working = clerk.run(self.stopped.clone());
        servers.spawn(async move {
            working.await;
            ("desk of commands", Ok(()))
        });
        let board = open_board(config, &publisher).await?;
        let devices = new_devices(config, self.file, &publisher, commands, board.clone());
        let context = MqttContext {
            access: self.access.clone(),
            storage: storage.clone(),
            publisher: publisher.clone(),
            routes,
            commands: Some(desk.clone()),
            config: MqttConfig {
                ndeath_timestamp: config
                    .sparkplug
                    .as_ref()
                    .is_some_and(|sparkplug| sparkplug.ndeath_timestamp),
                ..MqttConfig::from(mqtt)
            },
            stats: Arc::default(),
        };
        let stats = Arc::clone(&context.stats);
        let server = mqtt::serve(context, listeners, self.stopped.clone());
        servers.spawn(async move { ("MQTT server", server.await) });
        Ok(Intake {
            devices: Arc::new(devices),
            desk,
            stats,
            clock,
            board,
            publisher,
        })
    }
}

fn routes(config: &Config) -> Result<Arc<Routes>, NodeError> {
    let specs: Vec<RouteSpec> = config
        .routes
        .iter()
        .map(|route| RouteSpec {
            filter: route.filter.clone(),
            topic: route.topic.clone(),
            key: route.key.clone(),
            partitions: route.partitions,
            durability: route.durability,
        })
        .collect();
    let routes = Routes::new(&specs).map_err(|errors| {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        NodeError::part("routes")(&sentences.join("; "))
    })?;
    Ok(Arc::new(routes))
}

fn new_devices(
    config: &Config,
    file: &Path,
    publisher: &Publisher,
    commands: Commands,
    queries: Board,
) -> Devices {
    let config_dir = file.parent().unwrap_or(Path::new(""));
    Devices::new(Surroundings {
        publisher: publisher.clone(),
        commands,
        queries,
        data_dir: config.node.data_dir.as_path().into(),
        config_dir: config_dir.into(),
    })
}

async fn open_publisher(
    storage: &Storage,
    routes: &Arc<Routes>,
    clock: Clock,
) -> Result<Publisher, NodeError> {
    let (storage, routes) = (storage.clone(), Arc::clone(routes));
    let opening =
        tokio::task::spawn_blocking(move || Publisher::with_clock(storage, routes, clock));
    let opened = opening.await;
    opened.map_err(|error| NodeError::part("publisher")(&error))
}

/// The board of queries, without those that are not configured any more.
async fn open_board(config: &Config, publisher: &Publisher) -> Result<Board, NodeError> {
    let part = NodeError::part("queries");
    let routes = publisher.ingest().routes();
    if let Err(errors) = routes.set_results(&queries::routes(&config.queries)) {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(part(&sentences.join("; ")));
    }
    let (publisher, wanted) = (publisher.clone(), config.queries.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let board = Board::open(&publisher);
        queries::forget_others(&publisher, &board, &wanted);
        queries::remove_strays(&publisher);
        board
    });
    opening.await.map_err(|error| part(&error))
}
