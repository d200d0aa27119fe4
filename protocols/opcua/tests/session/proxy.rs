//! A cable between client and server that can be pulled out, or goes silent.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cable {
    /// Bytes pass.
    Good,
    /// Connections break, and new ones do at once.
    Cut,
    /// Connections stand, and no byte passes.
    Silent,
}

/// A proxy in front of a port on loopback.
pub struct Proxy {
    pub port: u16,
    cable: Arc<watch::Sender<Cable>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cable = Arc::new(watch::Sender::new(Cable::Good));
        let state = Arc::clone(&cable);
        let accepting = tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                if *state.borrow() != Cable::Cut {
                    pairs.spawn(carry(stream, server, state.subscribe()));
                }
            }
        });
        Self {
            port,
            cable,
            accepting,
        }
    }

    pub fn cut(&self) {
        self.cable.send_replace(Cable::Cut);
    }

    pub fn silence(&self) {
        self.cable.send_replace(Cable::Silent);
    }

    pub fn restore(&self) {
        self.cable.send_replace(Cable::Good);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: u16, mut cable: watch::Receiver<Cable>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut ended = cable.clone();
    tokio::select! {
        () = pass(client_in, server_out, cable.clone()) => {}
        () = pass(server_in, client_out, cable.clone()) => {}
        _ = ended.wait_for(|cable| *cable == Cable::Cut) => {}
        _ = cable.wait_for(|_| false) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cable: watch::Receiver<Cable>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if cable.wait_for(|cable| *cable == Cable::Good).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
