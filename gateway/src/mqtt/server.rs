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
use crate::tls::{Accepted, ClientCertificate, Door, SecureListener};

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
pub struct Listeners {
    /// MQTT over TCP.
    pub tcp: TcpListener,
    /// MQTT over WebSockets.
    pub websocket: Option<TcpListener>,
    /// MQTT over TLS.
    pub tls: Option<SecureListener>,
    /// MQTT over WebSockets over TLS.
    pub websocket_tls: Option<SecureListener>,
}

/// A new connection: its socket and what is spoken on it below MQTT.
enum Arrival {
    Tcp(TcpStream),
    WebSocket(TcpStream),
    Tls(Accepted),
    WebSocketTls(Accepted),
}

impl From<TcpListener> for Listeners {
    fn from(tcp: TcpListener) -> Self {
        Self {
            tcp,
            websocket: None,
            tls: None,
            websocket_tls: None,
        }
    }
}

impl Listeners {
    async fn accept(&self) -> io::Result<(IpAddr, Arrival)> {
        let websocket = async {
            match &self.websocket {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => {
                let (stream, peer) = accepted?;
                Ok((peer.ip(), Arrival::Tcp(stream)))
            }
            accepted = websocket => {
                let (stream, peer) = accepted?;
                Ok((peer.ip(), Arrival::WebSocket(stream)))
            }
            accepted = accept_secure(self.tls.as_ref()) => {
                let accepted = accepted?;
                Ok((accepted.peer.ip(), Arrival::Tls(accepted)))
            }
            accepted = accept_secure(self.websocket_tls.as_ref()) => {
                let accepted = accepted?;
                Ok((accepted.peer.ip(), Arrival::WebSocketTls(accepted)))
            }
        }
    }
}

async fn accept_secure(listener: Option<&SecureListener>) -> io::Result<Accepted> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

impl Arrival {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) | Self::WebSocket(tcp) => tcp,
            Self::Tls(accepted) | Self::WebSocketTls(accepted) => &accepted.tcp,
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
        let (address, arrival) = tokio::select! {
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
        if let Err(error) = arrival.tcp().set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let (node, shutdown) = (Arc::clone(&node), shutdown.clone());
        let door = |listener: &Option<SecureListener>| listener.as_ref().map(SecureListener::door);
        match arrival {
            Arrival::Tcp(tcp) => {
                tasks.spawn(connection::run(node, tcp, None, shutdown, slot));
            }
            Arrival::WebSocket(tcp) => {
                tasks.spawn(run_websocket(node, tcp, None, shutdown, slot));
            }
            Arrival::Tls(accepted) => {
                let Some(door) = door(&listeners.tls) else {
                    continue;
                };
                tasks.spawn(run_tls(node, door, accepted, shutdown, slot));
            }
            Arrival::WebSocketTls(accepted) => {
                let Some(door) = door(&listeners.websocket_tls) else {
                    continue;
                };
                tasks.spawn(run_websocket_tls(node, door, accepted, shutdown, slot));
            }
        }
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

/// Makes the handshake, then serves as any connection. The time until CONNECT
/// counts twice at most: once for the handshake, once for the packet.
async fn run_tls(
    node: Arc<Node>,
    door: Arc<Door>,
    accepted: Accepted,
    mut shutdown: watch::Receiver<bool>,
    slot: Slot,
) {
    let opened = tokio::select! {
        () = stopped(&mut shutdown) => return,
        opened = Box::pin(door.open(accepted)) => opened,
    };
    if let Some((stream, certificate)) = opened {
        let stream: Box<dyn ByteStream> = Box::new(stream);
        Box::pin(connection::run(node, stream, certificate, shutdown, slot)).await;
    }
}

async fn run_websocket_tls(
    node: Arc<Node>,
    door: Arc<Door>,
    accepted: Accepted,
    mut shutdown: watch::Receiver<bool>,
    slot: Slot,
) {
    let opened = tokio::select! {
        () = stopped(&mut shutdown) => return,
        opened = Box::pin(door.open(accepted)) => opened,
    };
    if let Some((stream, certificate)) = opened {
        Box::pin(run_websocket(node, stream, certificate, shutdown, slot)).await;
    }
}

/// Opens the WebSocket, then serves it as any connection. The time until
/// CONNECT counts twice at most: once for the handshake, once for the packet.
async fn run_websocket(
    node: Arc<Node>,
    stream: impl ByteStream,
    certificate: Option<Arc<ClientCertificate>>,
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
            Box::pin(connection::run(node, stream, certificate, shutdown, slot)).await;
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
        access,
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
        access,
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
