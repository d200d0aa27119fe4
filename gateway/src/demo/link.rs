//! The link between the demo's gateway and its hub: a TCP relay with a switch.
//!
//! The gateway is configured with the relay's address as its hub. Cutting the
//! link closes every relayed connection and refuses new ones, which is what a
//! pulled cable looks like after the first time-out.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay in front of the hub that can be cut and restored.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// Listens on a free loopback port and relays to `hub`. The link starts up.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn open(hub: SocketAddr) -> io::Result<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (up, state) = watch::channel(true);
        let task = tokio::spawn(accept(listener, hub, state));
        Ok(Link { address, up, task })
    }

    /// Closes all relayed connections and refuses new ones.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets connections through again.
    pub fn restore(&self) {
        self.up.send_replace(true);
    }

    /// Whether connections pass.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// The address the gateway dials.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, hub: SocketAddr, state: watch::Receiver<bool>) {
    // Connections are few (the uplink opens one per destination), and each
    // ends with the link or with its peers.
    while let Ok((gateway, _)) = listener.accept().await {
        if !*state.borrow() {
            continue;
        }
        tokio::spawn(relay(gateway, hub, state.clone()));
    }
}

async fn relay(mut gateway: TcpStream, hub: SocketAddr, mut state: watch::Receiver<bool>) {
    let Ok(mut hub) = TcpStream::connect(hub).await else {
        return;
    };
    let cut = async {
        // A switch that is gone went with the demo.
        let _ = state.wait_for(|up| !*up).await;
    };
    tokio::select! {
        // An error ends the connection, which is all that a cable could say.
        _ = tokio::io::copy_bidirectional(&mut gateway, &mut hub) => {}
        () = cut => {}
    }
}
