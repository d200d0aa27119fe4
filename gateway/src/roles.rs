//! The two roles: what is started, in which order, and how it stops.
//!
//! Start: the log is opened and recovered, the ports are bound, the servers
//! run, systemd hears READY. Everything that can fail fails before READY with
//! one plain sentence and an exit code. Stop: the servers stop accepting, the
//! log commits what it has and closes, the process exits with 0 within
//! [`STOP_LIMIT`]. What was not acknowledged by then is the senders' to repeat.

mod identity;
mod intake;
mod listeners;
mod node;
mod reload;
mod secured;
mod supervision;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::{Broker, BrokerConfig};
use forebay_records::Compression;
use forebay_storage::disk::RealDisk;
use forebay_storage::{OpenError, RecoveryReport, Storage};
use forebay_uplink::driver::{Credentials, DEFAULT_BATCH_BYTES, Secure};
use forebay_uplink::{TopicRule, Uplink, UplinkConfig};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::{Access, KafkaAuthority};
use crate::cli::{EXIT_IO, EXIT_UNAVAILABLE};
use crate::config::{self, Config};
use crate::console::Console;
use crate::http;
use crate::http::figures::Figures;
use crate::logs;
use crate::queries::ALERTS_TOPIC;
use crate::status::Listeners;
use crate::tls::ClientTls;
use identity::{Identity, IdentityError};
use listeners::{bind, bind_reason};
use node::Node;
use reload::Reloader;
pub use supervision::PORTS_FILE;
use supervision::{Ports, ReloadRequests, StopRequests, notify, watchdog};

/// The promise to whoever stops the node. The servers get most of it; closing
/// the log is one commit.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long the servers may take to let go of their connections.
const DRAIN_LIMIT: Duration = Duration::from_millis(3_500);
/// How long the log may take to commit and close, beyond which the next start
/// recovers instead.
const CLOSE_LIMIT: Duration = Duration::from_millis(1_300);

/// Stacks of runtime threads. The deepest path is a request handler with its
/// codec; the default of 2 MiB is address space that 32-bit boards lack.
const STACK_BYTES: usize = 1 << 20;
/// Threads for blocking calls: reads from a cold disk and changes of topics.
/// More of them would only queue at the disk.
const BLOCKING_THREADS_MAX: usize = 8;
/// Idle blocking threads end after this long, so that an idle node is small.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Why a node did not start, or ended by itself, in a sentence.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error("cannot create the data directory {}: {source}", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error("cannot open the log: {0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("{key}: cannot listen on {address}: {}", bind_reason(source))]
    Bind {
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot start the {part}: {reason}")]
    Part { part: &'static str, reason: String },
    #[error("the {part} ended: {reason}")]
    Ended { part: &'static str, reason: String },
}

/// Runs a node until it is asked to stop. `config` was read from `file`, which
/// a reload reads again.
#[must_use]
pub fn run(config: &Config, file: &Path, stop_on_stdin_close: bool) -> ExitCode {
    logs::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let outcome = runtime(config).and_then(|runtime| {
        let storage = open_storage(config)?;
        let outcome = Identity::of(&storage).map_err(NodeError::from);
        let outcome = outcome.and_then(|identity| {
            runtime.block_on(serve(config, file, &storage, identity, stop_on_stdin_close))
        });
        close_storage(storage);
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

impl NodeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::DataDir { .. } | Self::Open(_) | Self::Identity(_) => EXIT_IO,
            Self::Bind { .. } | Self::Part { .. } | Self::Ended { .. } => EXIT_UNAVAILABLE,
        }
    }

    fn part(part: &'static str) -> impl FnOnce(&dyn fmt::Display) -> Self {
        move |reason| Self::Part {
            part,
            reason: reason.to_string(),
        }
    }
}

fn runtime(config: &Config) -> Result<Runtime, NodeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.node.worker_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .thread_stack_size(STACK_BYTES)
        .thread_name("forebay-net")
        .enable_all()
        .build()
        .map_err(|error| NodeError::part("network threads")(&error))
}

fn open_storage(config: &Config) -> Result<Storage, NodeError> {
    let path = &config.node.data_dir;
    std::fs::create_dir_all(path).map_err(|source| NodeError::DataDir {
        path: path.clone(),
        source,
    })?;
    let (storage, report) = Storage::open(storage_config(config), Arc::new(RealDisk::new()))?;
    tell_recovery(path, &report);
    Ports::forget(path);
    Ok(storage)
}

fn tell_recovery(path: &Path, report: &RecoveryReport) {
    for torn in &report.torn {
        tracing::info!(
            "{}/{}: an interrupted commit at byte {} was trimmed; nothing of it was acknowledged",
            torn.topic,
            torn.partition,
            torn.position
        );
    }
    for damaged in &report.damage {
        tracing::error!(
            "{}/{}: acknowledged offsets {}..{} are damaged or missing",
            damaged.topic,
            damaged.partition,
            damaged.gap.from,
            damaged.gap.to
        );
    }
    for note in &report.notes {
        tracing::warn!("{note}");
    }
    tracing::info!(
        partitions = report.partitions,
        scanned_bytes = report.scanned_bytes,
        view_rebuilt = report.view_rebuilt,
        "the log in {} is open",
        path.display()
    );
}

/// The log as the configuration wants it.
pub(crate) fn storage_config(config: &Config) -> forebay_storage::Config {
    let wanted = &config.storage;
    let mut resolved = forebay_storage::Config::new(&config.node.data_dir);
    resolved.commit_linger = wanted.commit_linger;
    resolved.segment_size = wanted.segment_size;
    resolved.preallocation = match wanted.preallocation {
        config::Preallocation::ZeroFill => forebay_storage::Preallocation::ZeroFill,
        config::Preallocation::Fallocate => forebay_storage::Preallocation::Fallocate,
        config::Preallocation::None => forebay_storage::Preallocation::None,
    };
    resolved.retention = forebay_storage::Retention {
        time: wanted.retention.time,
        size: wanted.retention.size,
        keep_free: wanted.retention.keep_free,
    };
    resolved.when_full = match wanted.when_full {
        config::WhenFull::Reject => forebay_storage::WhenFull::Reject,
        config::WhenFull::DropOldest => forebay_storage::WhenFull::DropOldest,
    };
    resolved
}

/// Commits and closes the log on a thread of its own, because a hung disk must
/// not hold up the exit beyond its limit.
fn close_storage(storage: Storage) {
    let (closed, wait) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        storage.close();
        // Nobody waits any more when the limit has passed.
        let _ = closed.send(());
    });
    if wait.recv_timeout(CLOSE_LIMIT).is_err() {
        tracing::warn!("the log did not close in time; the next start recovers it");
    }
}

/// Opens the listeners, runs the servers and waits for the end.
async fn serve(
    config: &Config,
    file: &Path,
    storage: &Storage,
    identity: Identity,
    stop_on_stdin_close: bool,
) -> Result<(), NodeError> {
    let signals = |error| NodeError::part("signal handlers")(&error);
    let mut requests = StopRequests::listen(stop_on_stdin_close).map_err(signals)?;
    let reloads = ReloadRequests::listen().map_err(signals)?;
    let mut bound = bind(config).await?;
    let mut secured = std::mem::take(&mut bound.secured);
    let (stop, stopped) = watch::channel(false);
    let mut servers = Servers::new();
    // What may end early, and ends with the node.
    let mut helpers = JoinSet::new();

    let settings = broker_config(config, identity, bound.kafka_address);
    let access = Access::open(&config.access).map_err(|error| NodeError::part("logins")(&error))?;
    let authority = Arc::new(KafkaAuthority::new(access.clone()));
    let broker = Broker::new(storage.clone(), settings).with_authority(authority);
    let broker = Arc::new(broker);
    let kafka = forebay_broker::serve(Arc::clone(&broker), bound.kafka, stopped.clone());
    servers.spawn(async move { ("Kafka server", kafka.await) });
    helpers.spawn(access.clone().follow_file());
    let mut intake = None;
    if let (Some(mqtt), Some(listener)) = (&config.mqtt, bound.mqtt) {
        let place = intake::Place {
            config,
            file,
            storage,
            access: &access,
            stopped: &stopped,
        };
        let started = place.start(mqtt, listener, &mut servers, &mut helpers);
        intake = Some(started.await?);
    }
    let devices = intake.as_ref().map(|intake| Arc::clone(&intake.devices));
    let mut uplink = None;
    if let Some(link) = &config.uplink {
        let tls = link.tls.clone().map(ClientTls::new);
        secured
            .clients
            .extend(tls.clone().map(|tls| ("uplink".to_owned(), tls)));
        let made = Arc::new(new_uplink(config, link, tls, storage, identity)?);
        uplink = Some(Arc::clone(&made));
        let stopped = stopped.clone();
        servers.spawn(async move {
            made.run(stopped).await;
            ("uplink", Ok(()))
        });
    }
    let reloader = Reloader::new(
        file.to_path_buf(),
        config.clone(),
        devices.clone(),
        intake.as_ref().map(|intake| intake.desk.clone()),
        secured.tls.clone(),
        access.clone(),
    );
    let reloader = Arc::new(reloader);
    let node = Arc::new(Node::new(
        config.clone(),
        bound.addresses.clone(),
        storage.clone(),
        broker,
        uplink,
        intake,
        Arc::clone(&reloader),
        secured.clone(),
    ));
    let figures = Figures::install().map_err(|error| NodeError::part("metrics")(&error))?;
    let server = http::serve(
        bound.http,
        node.clone(),
        Arc::new(figures),
        Console::new(storage.clone()),
        access.clone(),
        wait_for(stopped),
    );
    servers.spawn(async move { ("HTTP server", server.await) });
    helpers.spawn(watchdog(storage.clone()));
    helpers.spawn(secured.clone().warn());
    if let Some(tls) = secured.tls {
        helpers.spawn(tls.watch());
    }
    let reloads = tokio::spawn(reloads.serve(reloader, service_status(config, &bound.addresses)));
    if let Some(devices) = &devices {
        devices.apply(config).await;
    }

    bound
        .ports
        .write(&config.node.data_dir)
        .map_err(|error| NodeError::part("ports file")(&error))?;
    announce(config, &bound.addresses);
    let outcome = until_stopped(&mut servers, &mut requests).await;

    notify(&[NotifyState::Stopping]);
    node.begin_stop();
    reloads.abort();
    if let Some(devices) = &devices {
        // First, so that what they read last is in the log.
        devices.stop().await;
    }
    // Every server holds a receiver; without receivers there is nobody to tell.
    let _ = stop.send(true);
    let drain = async { while servers.join_next().await.is_some() {} };
    if timeout(DRAIN_LIMIT, drain).await.is_err() {
        tracing::info!("connections were still open and are cut");
        servers.abort_all();
    }
    helpers.abort_all();
    outcome
}

/// The servers by name, each with how it ended.
type Servers = JoinSet<(&'static str, io::Result<()>)>;

/// Waits for a request to stop, or for a server that ends by itself: a node
/// that lost its MQTT port is better restarted than half alive.
async fn until_stopped(
    servers: &mut Servers,
    requests: &mut StopRequests,
) -> Result<(), NodeError> {
    tokio::select! {
        reason = requests.next() => {
            tracing::info!("{reason}: stopping");
            Ok(())
        }
        Some(ended) = servers.join_next() => Err(match ended {
            Ok((part, Ok(()))) => NodeError::Ended { part, reason: "it gave no reason".to_owned() },
            Ok((part, Err(error))) => NodeError::Ended { part, reason: error.to_string() },
            Err(error) => NodeError::Ended { part: "server", reason: error.to_string() },
        }),
    }
}

/// What `systemctl status` shows of a node that runs.
fn service_status(config: &Config, addresses: &Listeners) -> String {
    format!(
        "{} {}: MQTT {}, Kafka {}, HTTP {}",
        config.node.role,
        config.node.name,
        addresses.mqtt.as_deref().unwrap_or("off"),
        addresses.kafka,
        addresses.http,
    )
}

fn announce(config: &Config, addresses: &Listeners) {
    let status = service_status(config, addresses);
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    tracing::info!(
        mqtt = addresses.mqtt.as_deref().unwrap_or("off"),
        kafka = addresses.kafka,
        http = addresses.http,
        "{} {} is ready",
        config.node.role,
        config.node.name
    );
}

/// Completes when the flag is set, or when nobody is left to set it.
async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn broker_config(config: &Config, identity: Identity, bound: SocketAddr) -> BrokerConfig {
    let (host, port) = match &config.kafka.advertise {
        Some(advertise) => (advertise.host.clone(), advertise.port),
        None => (bound.ip().to_string(), bound.port()),
    };
    let mut settings = BrokerConfig::new(&identity.cluster_id(), &host, port);
    settings.auto_create_topics = config.kafka.auto_create_topics;
    settings.default_partitions = config.kafka.default_partitions;
    settings.offsets_retention = config.kafka.offsets_retention;
    settings.max_message_bytes = config.kafka.max_message_bytes as usize;
    settings.max_connections = config.kafka.max_connections as usize;
    settings.log_dir = config.node.data_dir.display().to_string();
    settings
}

/// What is forwarded. Alerts are first in line unless the configuration gives
/// them another place.
fn topic_rules(link: &config::Uplink) -> Vec<TopicRule> {
    let rule = |name: &str, priority: u32| TopicRule {
        name: name.to_owned(),
        priority,
    };
    let named = link.topics.iter();
    let named = named.map(|topic| rule(&topic.name, u32::from(topic.priority) + 1));
    let mut rules: Vec<TopicRule> = named.collect();
    if rules.iter().all(|rule| rule.name != ALERTS_TOPIC) {
        rules.insert(0, rule(ALERTS_TOPIC, 0));
    }
    rules
}

fn new_uplink(
    config: &Config,
    link: &config::Uplink,
    tls: Option<Arc<ClientTls>>,
    storage: &Storage,
    identity: Identity,
) -> Result<Uplink, NodeError> {
    let settings = UplinkConfig {
        bootstrap: link.bootstrap.iter().map(ToString::to_string).collect(),
        site: link.site.clone(),
        topics: topic_rules(link),
        max_rate: link.max_rate,
        // The link is the narrow part: a batch of readings shrinks to a tenth.
        compression: Compression::Zstd,
        batch_bytes: DEFAULT_BATCH_BYTES,
        incarnation: identity.bytes(),
        retention_bytes: config.storage.retention.size,
        keep_free: config.storage.retention.keep_free,
        secure: tls.map(|tls| tls as Arc<dyn Secure>),
        credentials: link
            .sasl
            .clone()
            .map(|sasl| Arc::new(sasl) as Arc<dyn Credentials>),
    };
    Uplink::new(storage.clone(), settings).map_err(|error| NodeError::part("uplink")(&error))
}
