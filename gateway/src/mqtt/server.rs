//! Start, accept loop, stop.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::MqttContext;
use super::commits::Commits;
use super::connection;
use super::dispatch::Dispatch;
use super::limits::{Addresses, Bucket, Slot};
use super::node::{Node, now_ms};
use super::sessions::Sessions;
use super::shares::Shares;
use super::stats::count;
use super::stream::ByteStream;
use super::sys::{self, Sys};
use super::websocket;
use super::wills::{Wills, publish_due};
use crate::memory::{self, Crowd};

/// How long connections get to say goodbye and write down their sessions. The
/// process is to stop within five seconds.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Pause after a failed accept, which usually means that file descriptors ran
/// out; without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often gauges are copied into the statistics.
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

/// Smallest limit of a WebSocket frame's payload. A client may put several
/// packets into one frame; a frame is not held in memory, so this only stops a
/// peer that counts wrongly.
const WEBSOCKET_FRAME_LEN_MAX: u64 = 1 << 20;

/// Where a server takes connections.
#[derive(Debug)]
pub struct Listeners {
    /// MQTT over TCP.
    pub tcp: TcpListener,
    /// MQTT over WebSockets.
    pub websocket: Option<TcpListener>,
}

/// What a connection speaks below MQTT.
#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    WebSocket,
}

impl From<TcpListener> for Listeners {
    fn from(tcp: TcpListener) -> Self {
        Self {
            tcp,
            websocket: None,
        }
    }
}

impl Listeners {
    async fn accept(&self) -> io::Result<(TcpStream, IpAddr, Transport)> {
        let websocket = async {
            match &self.websocket {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => {
                let (stream, peer) = accepted?;
                Ok((stream, peer.ip(), Transport::Tcp))
            }
            accepted = websocket => {
                let (stream, peer) = accepted?;
                Ok((stream, peer.ip(), Transport::WebSocket))
            }
        }
    }
}

/// Serves MQTT on `listeners` until `shutdown` becomes true.
///
/// On return every connection is closed and its session is appended to the
/// state; it is durable when the storage has been closed.
///
/// # Errors
/// When the dispatching thread cannot be started.
pub async fn serve(
    context: MqttContext,
    listeners: impl Into<Listeners>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listeners = listeners.into();
    let starting = tokio::task::spawn_blocking(move || start(context));
    let node = starting.await.map_err(io::Error::other)??;
    let slots = Arc::new(Semaphore::new(node.config.connections_max));
    let mut tasks = JoinSet::new();
    let addresses = Addresses::new(node.config.limits.connections_per_address);
    let wills = tokio::spawn(publish_due(Arc::clone(&node)));
    let expiry = tokio::spawn(Arc::clone(&node.sessions).expire(now_ms));
    let sys_interval = node.config.sys_interval;
    let sys = (!sys_interval.is_zero())
        .then(|| tokio::spawn(sys::Publisher::start(Arc::clone(&node)).run(sys_interval)));
    let mut gauges = tokio::time::interval(GAUGES_INTERVAL);
    let mut crowd = Crowd::default();
    loop {
        let (stream, address, transport) = tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            _ = gauges.tick() => {
                update_gauges(&node);
                let connections = node.stats.connections.load(Ordering::Relaxed);
                if crowd.observe(connections, Instant::now()) {
                    let sessions = Arc::clone(&node.sessions);
                    // Nothing depends on when it is done.
                    drop(tokio::task::spawn_blocking(move || {
                        sessions.compact();
                        memory::trim();
                    }));
                }
                continue;
            }
            accepted = listeners.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(permit) = Arc::clone(&slots).try_acquire_owned() else {
            count(&node.stats.connections_refused);
            continue;
        };
        let Some(slot) = addresses.admit(address, permit) else {
            count(&node.stats.addresses_refused);
            continue;
        };
        // Acknowledgements are small and complete; waiting to fill a segment
        // would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let (node, shutdown) = (Arc::clone(&node), shutdown.clone());
        match transport {
            Transport::Tcp => tasks.spawn(connection::run(node, stream, shutdown, slot)),
            Transport::WebSocket => tasks.spawn(run_websocket(node, stream, shutdown, slot)),
        };
    }
    drop(listeners);
    let stopped = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, stopped).await.is_err() {
        tracing::warn!("some MQTT connections did not close in time");
    }
    expiry.abort();
    wills.abort();
    if let Some(sys) = sys {
        sys.abort();
    }
    node.shares.stop().await;
    node.dispatch.stop();
    Ok(())
}

/// Opens the WebSocket, then serves it as any connection. The time until
/// CONNECT counts twice at most: once for the handshake, once for the packet.
async fn run_websocket(
    node: Arc<Node>,
    stream: TcpStream,
    mut shutdown: watch::Receiver<bool>,
    slot: Slot,
) {
    let packet_len = u64::from(node.config.protocol.packet_size_max.get());
    let frame_len = packet_len.max(WEBSOCKET_FRAME_LEN_MAX);
    let opening = websocket::open(stream, &node.config.websocket_origins, frame_len);
    let opened = tokio::select! {
        () = stopped(&mut shutdown) => return,
        opened = tokio::time::timeout(node.config.protocol.connect_timeout, opening) => opened,
    };
    match opened {
        Ok(Ok(stream)) => {
            let stream: Box<dyn ByteStream> = Box::new(stream);
            Box::pin(connection::run(node, stream, shutdown, slot)).await;
        }
        Ok(Err(error)) => {
            count(&node.stats.websockets_refused);
            tracing::debug!(%error, "no websocket");
        }
        Err(_) => {
            count(&node.stats.websockets_refused);
            tracing::debug!("websocket request did not come in time");
        }
    }
}

fn start(context: MqttContext) -> io::Result<Arc<Node>> {
    let MqttContext {
        storage,
        routes,
        publisher,
        commands,
        config,
        stats,
    } = context;
    let (commits, committed) = watch::channel(storage.committed());
    let waiters = Arc::new(Commits::new(storage.clone()));
    let announcing = Arc::clone(&waiters);
    // Connections first: their clients wait for it.
    storage.on_commit(Arc::new(move |ticket| {
        announcing.announce(ticket);
        commits.send_replace(ticket);
    }));
    let dispatch = Dispatch::start(storage.clone(), routes)?;
    let shares = Shares::new(storage.clone(), Arc::clone(&dispatch), Arc::clone(&stats));
    Ok(Arc::new(Node {
        commands,
        clock: publisher.clock().clone(),
        ingest: Arc::clone(publisher.ingest()),
        dispatch,
        sessions: Sessions::load(storage.clone(), Arc::clone(&shares), now_ms()),
        shares,
        wills: Wills::load(storage.clone(), now_ms()),
        retained: Arc::clone(publisher.retained()),
        sys: Sys::default(),
        connect_rate: config
            .limits
            .connect_rate
            .map(|rate| Mutex::new(Bucket::new(rate.into(), Instant::now()))),
        stats,
        protocol: Arc::new(config.protocol.clone()),
        config,
        committed,
        commits: waiters,
        storage,
    }))
}

fn update_gauges(node: &Node) {
    let stats = &node.stats;
    let set = |gauge: &std::sync::atomic::AtomicU64, value: usize| {
        gauge.store(value as u64, Ordering::Relaxed);
    };
    set(&stats.sessions, node.sessions.count());
    set(&stats.subscriptions, node.dispatch.subscriptions());
    set(&stats.retained, node.retained.count());
}

/// Completes when the server is to stop. The value that the channel lends stays
/// in here, because a task that holds it across an await cannot move between
/// threads.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
