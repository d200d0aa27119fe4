//! A bridge under test, and a broker that is played by the test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use forebay_gateway::bridge;
use forebay_gateway::commands::Commands;
use forebay_gateway::config::{Bridge, BridgeTopic, BridgeVersion, Direction, HostPort};
use forebay_gateway::devices::{DeviceContext, Health};
use forebay_gateway::queries::board::Board;
use forebay_gateway::readings::Publisher;
use forebay_mqtt::packet::{ConnAck, Connect, Publish, SubAck, decode};
use forebay_mqtt::{Packet, PacketId, ReasonCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running bridge.
pub struct Running {
    pub health: Health,
    config: watch::Sender<Arc<Bridge>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

pub fn config(address: SocketAddr, version: BridgeVersion, topics: Vec<BridgeTopic>) -> Bridge {
    Bridge {
        tls: None,
        name: "plant".to_owned(),
        node: "press-shop".to_owned(),
        address: HostPort {
            host: address.ip().to_string(),
            port: address.port(),
        },
        version,
        client_id: "forebay-press-shop-plant".to_owned(),
        user: None,
        password_file: None,
        keep_alive: Duration::from_secs(30),
        session_expiry: Duration::from_secs(3600),
        inflight: 8,
        topics,
    }
}

pub fn topic(filter: &str, direction: Direction) -> BridgeTopic {
    BridgeTopic {
        filter: filter.to_owned(),
        direction,
        qos: 1,
        local_prefix: String::new(),
        remote_prefix: String::new(),
    }
}

impl Running {
    pub fn start(config: Bridge, publisher: &Publisher, dir: &Path) -> Self {
        let health = Health::new(&config.name, "bridge");
        let context = DeviceContext {
            publisher: publisher.clone(),
            commands: Commands::default(),
            queries: Board::open(publisher),
            health: health.clone(),
            data_dir: Arc::from(dir),
            config_dir: Arc::from(dir),
        };
        let (config, receiver) = watch::channel(Arc::new(config));
        let (stop, stopped) = watch::channel(false);
        Self {
            health,
            config,
            stop,
            task: tokio::spawn(bridge::run(receiver, context, stopped)),
        }
    }

    /// Waits until the bridge has taken so many messages of the broker.
    pub async fn taken(&self, count: u64) {
        let taking = async {
            while self.health.snapshot().readings < count {
                tokio::task::yield_now().await;
            }
        };
        let taking = tokio::time::timeout(PATIENCE, taking).await;
        taking.expect("the messages are not taken");
    }

    /// Gives the bridge another configuration.
    pub fn configure(&self, config: Bridge) {
        self.config.send(Arc::new(config)).unwrap();
    }

    /// Stops in an orderly way.
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }

    /// Stops without letting it write anything.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The listener of a played broker.
pub struct Broker {
    listener: TcpListener,
    pub address: SocketAddr,
    version: Version,
}

/// One connection of a played broker.
pub struct Session {
    stream: TcpStream,
    input: BytesMut,
    version: Version,
    /// What the bridge said to begin with.
    pub connect: Connect,
}

impl Broker {
    pub async fn start(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listener,
            address,
            version,
        }
    }

    /// Takes the next connection and answers its CONNECT.
    pub async fn accept(&self, session_present: bool) -> Session {
        let accepting = tokio::time::timeout(PATIENCE, self.listener.accept());
        let (stream, _) = accepting.await.expect("no connection came").unwrap();
        let mut session = Session {
            stream,
            input: BytesMut::new(),
            version: self.version,
            connect: Connect::new(self.version, forebay_mqtt::Text::new()),
        };
        let Packet::Connect(connect) = session.receive().await else {
            panic!("expected CONNECT");
        };
        session.connect = *connect;
        session
            .send(Packet::ConnAck(Box::new(ConnAck {
                session_present,
                reason: ReasonCode::Success,
                properties: Default::default(),
            })))
            .await;
        session
    }
}

impl Session {
    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next packet; pings are answered.
    pub async fn receive(&mut self) -> Packet {
        loop {
            match decode(&mut self.input, self.version, 1 << 20).unwrap() {
                Some(Packet::PingReq) => self.send(Packet::PingResp).await,
                Some(packet) => return packet,
                None => {
                    let read = self.stream.read_buf(&mut self.input);
                    let read = tokio::time::timeout(PATIENCE, read).await;
                    let len = read.expect("nothing came in time").unwrap();
                    assert_ne!(len, 0, "the bridge closed the connection");
                }
            }
        }
    }

    pub async fn publish(&mut self) -> Publish {
        match self.receive().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// Takes messages without acknowledging them.
    pub async fn payloads(&mut self, count: usize) -> Vec<(PacketId, String)> {
        let mut found = Vec::new();
        for _ in 0..count {
            let publish = self.publish().await;
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            found.push((publish.packet_id.unwrap(), payload));
        }
        found
    }

    /// Answers the SUBSCRIBE that comes next and returns its filters.
    pub async fn subscribe(&mut self) -> Vec<forebay_mqtt::packet::Subscription> {
        let Packet::Subscribe(subscribe) = self.receive().await else {
            panic!("expected SUBSCRIBE");
        };
        let reasons = vec![ReasonCode::GrantedQos1; subscribe.subscriptions.len()];
        let packet_id = subscribe.packet_id;
        self.send(Packet::SubAck(SubAck {
            packet_id,
            properties: Default::default(),
            reasons,
        }))
        .await;
        subscribe.subscriptions
    }
}
