//! The TCP side: accepts connections and bridges commits to tokio.
//!
//! One task per connection; a watch channel carries the newest durable ticket
//! from the commit thread to every response that waits for one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_storage::Ticket;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::{Broker, ConnectionContext};

mod connection;
mod frame;
mod transport;

pub use transport::{Advertised, Arriving, Listeners, Opened, Opening, SecureListener, Stream};

use connection::{Connection, ConnectionError};

/// Pause after a failed accept: when file descriptors run out, retrying at
/// once only burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open connections may finish their responses at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often committed offsets are looked through for groups that are gone.
/// Members that lost their connection by a restart rejoin long before the first
/// time.
const OFFSETS_SWEEP: Duration = Duration::from_hours(1);

/// Serves Kafka clients until `shutdown` becomes true or its sender is gone.
///
/// On return no connection is open, and the producer windows are in the state
/// journal; they are durable after the storage's next commit.
///
/// # Errors
/// Never for a single connection; the listener's own address lookup may fail.
pub async fn serve(
    broker: Arc<Broker>,
    listeners: impl Into<Listeners>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listeners = listeners.into();
    tracing::info!(address = %listeners.plain.local_addr()?, "kafka listener is up");
    let commits = bridge_commits(&broker);
    let groups = tokio::spawn(expire_groups(Arc::clone(&broker)));
    let sweeps = tokio::spawn(sweep_offsets(Arc::clone(&broker)));
    let mut connections = JoinSet::new();
    let for_connections = shutdown.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            accepted = listeners.accept() => match accepted {
                Ok((peer, arrival)) => {
                    if connections.len() >= broker.config().max_connections {
                        broker.counters.add_refused();
                        tracing::warn!(%peer, limit = broker.config().max_connections, "connection refused");
                        continue;
                    }
                    let mut context = ConnectionContext::plain(peer.ip());
                    let (broker, commits, closing) = (Arc::clone(&broker), commits.clone(), for_connections.clone());
                    match arrival {
                        Arrival::Plain(stream) => {
                            let connection = Connection::new(Arc::clone(&broker), commits, closing, context);
                            connections.spawn(run(connection, stream, peer, broker));
                        }
                        Arrival::Secure(opening) => {
                            context.is_secure = true;
                            context.advertised = listeners.secure.as_ref().map(|(_, at)| Arc::clone(at));
                            let connection = Connection::new(Arc::clone(&broker), commits, closing, context);
                            connections.spawn(run_secure(connection, opening, peer, broker));
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listeners);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        tracing::warn!(open = connections.len(), "connections cut at shutdown");
        connections.shutdown().await;
    }
    groups.abort();
    sweeps.abort();
    broker.close();
    Ok(())
}

/// Completes when the server is to stop. The value that the channel lends stays
/// in here, because a task that holds it across an await cannot move between
/// threads.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A new connection.
enum Arrival {
    Plain(TcpStream),
    Secure(Opening),
}

impl Listeners {
    async fn accept(&self) -> io::Result<(SocketAddr, Arrival)> {
        let secure = async {
            match &self.secure {
                Some((listener, _)) => listener.arrive().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.plain.accept() => {
                let (stream, peer) = accepted?;
                Ok((peer, Arrival::Plain(stream)))
            }
            arrived = secure => {
                let (peer, opening) = arrived?;
                Ok((peer, Arrival::Secure(opening)))
            }
        }
    }
}

async fn run(connection: Connection, stream: TcpStream, peer: SocketAddr, broker: Arc<Broker>) {
    let _open = broker.counters.open();
    closed(connection.run(stream).await, peer, &broker);
}

/// Finishes the opening of a connection and serves it.
async fn run_secure(
    mut connection: Connection,
    opening: Opening,
    peer: SocketAddr,
    broker: Arc<Broker>,
) {
    let Some(opened) = connection.until_stopped(opening).await else {
        return;
    };
    connection.identify(opened.certificate);
    let _open = broker.counters.open();
    closed(connection.run_over(opened.stream).await, peer, &broker);
}

/// Tells how a connection ended.
fn closed(outcome: Result<(), ConnectionError>, peer: SocketAddr, broker: &Broker) {
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection closed");
        if error.is_violation() {
            broker.counters.add_violation();
        }
    }
}

/// Publishes the newest durable ticket.
fn bridge_commits(broker: &Broker) -> watch::Receiver<Ticket> {
    let (sender, receiver) = watch::channel(broker.storage().committed());
    broker.storage().on_commit(Arc::new(move |ticket| {
        sender.send_if_modified(|newest| {
            let is_newer = ticket > *newest;
            *newest = ticket.max(*newest);
            is_newer
        });
    }));
    receiver
}

/// Looks through the committed offsets now and then.
async fn sweep_offsets(broker: Arc<Broker>) {
    loop {
        tokio::time::sleep(OFFSETS_SWEEP).await;
        let broker = Arc::clone(&broker);
        let sweep =
            tokio::task::spawn_blocking(move || broker.sweep_offsets(broker.clock.wall_ms()));
        if sweep.await.is_err() {
            tracing::error!("the sweep of committed offsets panicked");
        }
    }
}

/// Runs the timers of consumer groups.
async fn expire_groups(broker: Arc<Broker>) {
    let changed = Arc::new(Notify::new());
    let wake = Arc::clone(&changed);
    broker.on_group_change(move || wake.notify_one());
    loop {
        match broker.group_timeout_in_ms() {
            // One more millisecond, so that the deadline has passed for sure.
            Some(ms) => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ms + 1)) => broker.expire_groups(),
                () = changed.notified() => {}
            },
            None => changed.notified().await,
        }
    }
}
