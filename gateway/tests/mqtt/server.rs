//! A server under test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use forebay_gateway::commands::Commands;
use forebay_gateway::commands::desk::Desk;
use forebay_gateway::ingest::routes::{Durability, RouteSpec, Routes};
use forebay_gateway::mqtt::message::Message;
use forebay_gateway::mqtt::{Listeners, MqttConfig, MqttContext, Stats, serve};
use forebay_gateway::readings::Publisher;
use forebay_records::records;
use forebay_storage::disk::RealDisk;
use forebay_storage::{Config, Preallocation, Storage, TopicConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Server {
    pub address: SocketAddr,
    pub websocket: SocketAddr,
    pub storage: Storage,
    pub stats: Arc<Stats>,
    /// Writable tags; the client `scada` may command them.
    pub commands: Commands,
    #[allow(dead_code, reason = "only some of the test binaries publish readings")]
    pub publisher: Publisher,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
}

fn policy() -> forebay_gateway::config::Commands {
    forebay_gateway::config::Commands {
        enabled: true,
        allow: vec!["scada".to_owned()],
        ..Default::default()
    }
}

impl Server {
    /// Commits happen by themselves.
    pub async fn start(dir: &Path) -> Self {
        Self::with(dir, true, MqttConfig::default()).await
    }

    /// Commits happen when the test calls [`Storage::run_commit`].
    pub async fn start_manual(dir: &Path) -> Self {
        Self::with(dir, false, MqttConfig::default()).await
    }

    pub async fn with(dir: &Path, threads: bool, mqtt: MqttConfig) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::at(any, dir, threads, mqtt).await
    }

    /// Comes back where another one was.
    pub async fn at(mqtt_address: SocketAddr, dir: &Path, threads: bool, mqtt: MqttConfig) -> Self {
        let mut config = Config::new(dir);
        config.threads = threads;
        config.preallocation = Preallocation::None;
        config.retention.keep_free = 0;
        config.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(config, Arc::new(RealDisk::new())));
        let (storage, _) = opening.await.unwrap().unwrap();
        if !threads {
            create_readings(&storage);
        }
        let routes = Routes::new(&[
            RouteSpec {
                filter: "plant/{site}/#".to_owned(),
                topic: "plant.{site}".to_owned(),
                key: None,
                partitions: 4,
                durability: Durability::Log,
            },
            RouteSpec {
                filter: "memory/#".to_owned(),
                topic: String::new(),
                key: None,
                partitions: 1,
                durability: Durability::Memory,
            },
        ]);
        let tcp = TcpListener::bind(mqtt_address).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let over_http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let websocket = over_http.local_addr().unwrap();
        let listeners = Listeners {
            tcp,
            websocket: Some(over_http),
            tls: None,
            websocket_tls: None,
        };
        let (shutdown, stop) = watch::channel(false);
        let stats = Arc::<Stats>::default();
        let routes = Arc::new(routes.unwrap());
        let publisher = Publisher::open(storage.clone(), Arc::clone(&routes));
        let commands = Commands::default();
        let (desk, clerk) = Desk::new(
            policy(),
            commands.clone(),
            publisher.clone(),
            storage.clone(),
        );
        tokio::spawn(clerk.run(stop.clone()));
        let context = MqttContext {
            access: forebay_gateway::access::Access::everybody(),
            storage: storage.clone(),
            publisher: publisher.clone(),
            routes,
            commands: Some(desk),
            config: mqtt,
            stats: Arc::clone(&stats),
        };
        Self {
            address,
            websocket,
            storage,
            stats,
            commands,
            publisher,
            shutdown,
            serving: tokio::spawn(serve(context, listeners, stop)),
        }
    }

    /// Stops in an orderly way.
    pub async fn stop(self) {
        self.shutdown.send(true).unwrap();
        self.serving.await.unwrap().unwrap();
        let storage = self.storage;
        tokio::task::spawn_blocking(move || storage.close())
            .await
            .unwrap();
    }

    /// Stops without letting connections write anything, as a crash would.
    pub async fn crash(self) {
        self.storage.close();
        self.serving.abort();
        let _ = self.serving.await;
    }

    /// All messages of a log topic, partition by partition.
    pub fn log(&self, topic: &str) -> Vec<(String, String)> {
        let topic = self.storage.topic(topic).unwrap();
        let mut found = Vec::new();
        for index in 0..topic.partition_count() {
            let partition = topic.partition(index).unwrap();
            let end = partition.offsets().high_watermark;
            let mut from = partition.offsets().log_start;
            while from < end {
                let chunk = partition.read(from, 1 << 20, true).unwrap();
                for batch in &chunk.batches {
                    for record in records(batch, 1 << 20).unwrap().map(Result::unwrap) {
                        from = u64::try_from(record.offset).unwrap() + 1;
                        let message = Message::from_record(&record).unwrap();
                        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                        found.push((message.path.as_str().to_owned(), payload));
                    }
                }
            }
        }
        found
    }
}

/// Creating a topic waits for a commit, which a test without threads makes.
fn create_readings(storage: &Storage) {
    if storage.topic("readings").is_some() {
        return;
    }
    let creator = storage.clone();
    let creating = std::thread::spawn(move || {
        creator
            .create_topic("readings", TopicConfig::with_partitions(1))
            .unwrap();
    });
    while !creating.is_finished() {
        storage.run_commit();
        std::thread::yield_now();
    }
    creating.join().unwrap();
}
