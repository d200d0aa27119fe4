//! HTTP over TLS: connections whose handshake is over, as axum wants them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::serve::Listener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::tls::{ClientCertificate, SecureListener};

/// Pause after a failed accept, which usually means that file descriptors ran
/// out; without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
}

/// Makes handshakes and hands out what is ready, in the order of completion.
/// The places of the listener bound how many are under way.
pub(super) struct Ready {
    listener: SecureListener,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Peer)>>,
}

impl Ready {
    pub(super) fn new(listener: SecureListener) -> Self {
        Self {
            listener,
            handshakes: JoinSet::new(),
        }
    }
}

impl Listener for Ready {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(ready)) = done {
                        return ready;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => {
                        let door = self.listener.door();
                        self.handshakes.spawn(async move {
                            let address = accepted.peer;
                            let (stream, certificate) = door.open_tokio(accepted).await?;
                            Some((stream, Peer { address, certificate }))
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Peer {
            address: self.listener.local_addr()?,
            certificate: None,
        })
    }
}

/// Lets the handlers find the address of the client where they find it without
/// TLS, and the certificate as an `Option<Arc<ClientCertificate>>` extension.
pub(super) fn identified(router: Router) -> Router {
    router.layer(map_request(
        |ConnectInfo(peer): ConnectInfo<Peer>, mut request: Request| async move {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(peer.address));
            extensions.insert(peer.certificate);
            request
        },
    ))
}
