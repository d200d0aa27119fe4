//! A destination of two nodes. Both are faces of one hub: they rewrite its
//! metadata so that each leads some partitions, and answer for the partitions
//! of the other as Kafka does, with NOT_LEADER_OR_FOLLOWER.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use forebay_kafka::messages::{
    MetadataRequest, MetadataResponseBroker, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use forebay_kafka::{
    ApiKey, Message, Reader, decode_request_header, decode_response, encode_response, error_code,
};

use super::publisher::Publisher;
use super::running::Running;
use super::site::{end, records, until};

const TOPIC: &str = "vibration";
const COPY: &str = "cluster.vibration";
const READINGS: usize = 400;

/// Who leads what, and who is up.
struct Shared {
    hub: SocketAddr,
    addresses: Vec<SocketAddr>,
    /// Node of a partition.
    leaders: BTreeMap<i32, usize>,
    is_up: Vec<bool>,
    open: Vec<(usize, TcpStream)>,
}

struct Cluster {
    shared: Arc<Mutex<Shared>>,
    /// Produce requests that each node took for its own partitions.
    taken: Arc<[AtomicU64; 2]>,
    /// Produce requests for a partition of the other node.
    misdirected: Arc<AtomicU64>,
}

impl Cluster {
    fn open(hub: SocketAddr) -> Self {
        let listener = || TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let listeners = [listener(), listener()];
        let address = |one: &TcpListener| one.local_addr().expect("a bound socket");
        let cluster = Self {
            shared: Arc::new(Mutex::new(Shared {
                hub,
                addresses: listeners.iter().map(address).collect(),
                leaders: BTreeMap::from([(0, 0), (1, 1)]),
                is_up: vec![true, true],
                open: Vec::new(),
            })),
            taken: Arc::default(),
            misdirected: Arc::default(),
        };
        for (node, listener) in listeners.into_iter().enumerate() {
            let face = cluster.face(node);
            thread::spawn(move || {
                for gateway in listener.incoming().flatten() {
                    let face = face.clone();
                    // A connection ends with an error when its peer is gone.
                    thread::spawn(move || face.serve(gateway));
                }
            });
        }
        cluster
    }

    fn face(&self, node: usize) -> Face {
        Face {
            node,
            shared: Arc::clone(&self.shared),
            taken: Arc::clone(&self.taken),
            misdirected: Arc::clone(&self.misdirected),
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic under the lock")
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.shared().addresses[node]
    }

    fn lead(&self, partition: i32, node: usize) {
        self.shared().leaders.insert(partition, node);
    }

    /// The node takes no connections and loses those it has.
    fn stop(&self, node: usize) {
        let mut shared = self.shared();
        shared.is_up[node] = false;
        for (_, stream) in shared.open.iter().filter(|(of, _)| *of == node) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn taken(&self, node: usize) -> u64 {
        self.taken[node].load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Face {
    node: usize,
    shared: Arc<Mutex<Shared>>,
    taken: Arc<[AtomicU64; 2]>,
    misdirected: Arc<AtomicU64>,
}

impl Face {
    fn serve(&self, mut gateway: TcpStream) -> io::Result<()> {
        let mut hub = {
            let mut shared = self.shared.lock().expect("no panic under the lock");
            if !shared.is_up[self.node] {
                return Ok(());
            }
            shared.open.push((self.node, gateway.try_clone()?));
            TcpStream::connect(shared.hub)?
        };
        loop {
            let request = read_frame(&mut gateway)?;
            let answer = match self.refusal(&request) {
                Some(answer) => answer,
                None => {
                    write_frame(&mut hub, &request)?;
                    self.rewritten(&request, read_frame(&mut hub)?)
                }
            };
            write_frame(&mut gateway, &answer)?;
        }
    }

    /// The answer to a Produce for a partition that another node leads.
    fn refusal(&self, request: &Bytes) -> Option<Bytes> {
        let mut reader = Reader::new(request.clone());
        let header = decode_request_header(&mut reader).expect("the uplink encodes well");
        if header.api_key != ApiKey::Produce as i16 {
            return None;
        }
        let version = header.api_version;
        let produce = ProduceRequest::decode(&mut reader, version).expect("as above");
        let leaders = self
            .shared
            .lock()
            .expect("no panic under the lock")
            .leaders
            .clone();
        let mut responses = Vec::new();
        let mut is_ours = true;
        for topic in &produce.topic_data {
            let refuse = |index| PartitionProduceResponse {
                index,
                error_code: error_code::NOT_LEADER_OR_FOLLOWER,
                ..PartitionProduceResponse::default()
            };
            let indexes = topic.partition_data.iter().map(|data| data.index);
            is_ours &= indexes.clone().all(|index| leaders[&index] == self.node);
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                partition_responses: indexes.map(refuse).collect(),
                ..TopicProduceResponse::default()
            });
        }
        if is_ours {
            self.taken[self.node].fetch_add(1, Ordering::SeqCst);
            return None;
        }
        self.misdirected.fetch_add(1, Ordering::SeqCst);
        let response = ProduceResponse {
            responses,
            ..ProduceResponse::default()
        };
        let frame = encode_response(ApiKey::Produce, version, header.correlation_id, &response);
        Some(frame.expect("it has a layout").slice(4..))
    }

    /// The hub's answer, with two nodes in the metadata.
    fn rewritten(&self, request: &Bytes, answer: Bytes) -> Bytes {
        let mut reader = Reader::new(request.clone());
        let header = decode_request_header(&mut reader).expect("the uplink encodes well");
        if header.api_key != ApiKey::Metadata as i16 {
            return answer;
        }
        let version = header.api_version;
        let decoded = decode_response::<MetadataRequest>(answer, version);
        let (correlation, mut metadata) = decoded.expect("the hub encodes well");
        let shared = self.shared.lock().expect("no panic under the lock");
        let broker = |(node, address): (usize, &SocketAddr)| MetadataResponseBroker {
            node_id: node as i32,
            host: address.ip().to_string().into(),
            port: i32::from(address.port()),
            ..MetadataResponseBroker::default()
        };
        metadata.brokers = shared.addresses.iter().enumerate().map(broker).collect();
        for partition in metadata.topics.iter_mut().flat_map(|t| &mut t.partitions) {
            partition.leader_id = shared.leaders[&partition.partition_index] as i32;
        }
        let frame = encode_response(ApiKey::Metadata, version, correlation, &metadata);
        frame.expect("it has a layout").slice(4..)
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame.into())
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).expect("frames are small");
    stream.write_all(&[&length.to_be_bytes(), frame].concat())
}

fn socket(node: &Running, listener: &str) -> SocketAddr {
    let address = node.address(listener);
    address.parse().expect("ports of a ready node")
}

#[test]
fn each_partition_goes_to_its_leader_and_follows_it() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let start = |name: &str, role: &str, more: &str| {
        let dir = scratch.path().join(name);
        std::fs::create_dir_all(&dir).expect("the scratch directory is writable");
        Running::start(&dir, role, more)
    };
    let hub = start("hub", "broker", "");
    let cluster = Cluster::open(socket(&hub, "kafka"));
    let more = format!(
        "[[route]]\nfilter = \"plant/+/+\"\ntopic = \"{TOPIC}\"\npartitions = 2\n\
         [uplink]\nbootstrap = [\"{}\", \"{}\"]\nsite = \"cluster\"\ntopics = [{{ name = \"{TOPIC}\", priority = 0 }}]\n",
        cluster.address(0),
        cluster.address(1)
    );
    let gateway = start("gateway", "gateway", &more);
    let mqtt = Arc::new(Mutex::new(socket(&gateway, "mqtt")));
    let arrives = |first: u64| {
        Publisher::start(Arc::clone(&mqtt), "plant/press", first, READINGS).finish();
        // Readings that were given up when the goal was reached may come late.
        until("the destination has everything", || {
            (end(&hub, COPY) == end(&gateway, TOPIC)).then_some(())
        });
    };

    arrives(0);
    assert!(cluster.taken(0) > 0 && cluster.taken(1) > 0);
    assert_eq!(cluster.misdirected.load(Ordering::SeqCst), 0);

    // Leadership moves: the old leader refuses, the new one is found.
    cluster.lead(0, 1);
    let before = cluster.taken(1);
    arrives(1_000_000);
    assert!(cluster.misdirected.load(Ordering::SeqCst) > 0);
    assert!(cluster.taken(1) > before);

    // A node dies and the other takes over, while readings go on.
    cluster.lead(0, 0);
    cluster.lead(1, 0);
    cluster.stop(1);
    arrives(2_000_000);

    assert_eq!(records(&gateway, TOPIC), records(&hub, COPY));
}
