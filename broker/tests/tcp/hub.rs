//! A hub in a temporary directory that can be stopped and started again.

use std::net::SocketAddr;
use std::sync::Arc;

use forebay_broker::{Authority, Broker, BrokerConfig, serve};
use forebay_storage::disk::RealDisk;
use forebay_storage::{Config, Preallocation, Storage};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::client::Client;

pub struct Hub {
    pub address: SocketAddr,
    pub storage: Storage,
    pub broker: Arc<Broker>,
    data: OpenLog,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
}

/// Closes the log before its directory may go.
struct OpenLog {
    storage: Storage,
    dir: Arc<TempDir>,
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        self.storage.close();
    }
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_with(|_| {}, |_| {}).await
    }

    pub async fn start_with(
        storage: impl FnOnce(&mut Config),
        broker: impl FnOnce(&mut BrokerConfig),
    ) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, storage, broker, None).await
    }

    pub async fn start_guarded(authority: Arc<dyn Authority>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, |_| {}, |_| {}, Some(authority)).await
    }

    async fn open(
        dir: Arc<TempDir>,
        adjust_storage: impl FnOnce(&mut Config),
        adjust_broker: impl FnOnce(&mut BrokerConfig),
        authority: Option<Arc<dyn Authority>>,
    ) -> Self {
        let mut config = Config::new(dir.path());
        config.preallocation = Preallocation::None;
        config.segment_size = 4 * 1024 * 1024;
        config.ballast_bytes = 0;
        config.retention.keep_free = 0;
        adjust_storage(&mut config);
        let opened = spawn_blocking(move || Storage::open(config, Arc::new(RealDisk::new())));
        let (storage, _) = opened.await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = BrokerConfig::new("test-cluster", "127.0.0.1", address.port());
        config.group_timing.initial_delay_ms = 0;
        adjust_broker(&mut config);
        let mut broker = Broker::new(storage.clone(), config);
        if let Some(authority) = authority {
            broker = broker.with_authority(authority);
        }
        let broker = Arc::new(broker);
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(Arc::clone(&broker), listener, stopped));
        let data = OpenLog {
            storage: storage.clone(),
            dir,
        };
        Self {
            address,
            storage,
            broker,
            data,
            stop,
            server,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Stops the server and the log and opens both again.
    pub async fn restart(self) -> Self {
        self.stop.send_replace(true);
        self.server.await.unwrap().unwrap();
        let dir = Arc::clone(&self.data.dir);
        let data = self.data;
        spawn_blocking(move || drop(data)).await.unwrap();
        Self::open(dir, |_| {}, |_| {}, None).await
    }
}
