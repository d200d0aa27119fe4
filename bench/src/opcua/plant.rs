//! The server that is subscribed to: that of async-opcua.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opcua::crypto::SecurityPolicy;
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{
    InMemoryNodeManager, SimpleNodeManager, SimpleNodeManagerImpl, simple_node_manager,
};
use opcua::server::{ServerBuilder, ServerEndpoint, ServerHandle};
use opcua::types::{
    DataTypeId, DataValue, DateTime, MessageSecurityMode, NodeId, ObjectId, StatusCode, Variant,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;
use xtask::failure::{During, Failure, Outcome};

/// What it is.
pub const VERSION: &str = "the server of async-opcua 0.19.0";

/// The namespace of its nodes `v0` and on.
pub const NAMESPACE: &str = "urn:plant:line1";

/// How often all nodes change.
const CHANGE: Duration = Duration::from_secs(1);

/// Bytes and chunks of a message at most: all nodes in one notification.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const CHUNKS_MAX: usize = 2_048;

type Manager = Arc<InMemoryNodeManager<SimpleNodeManagerImpl>>;

/// A server that runs until it is dropped.
pub struct Plant {
    /// Where it listens.
    pub port: u16,
    /// The file of its certificate.
    pub certificate: PathBuf,
    _runtime: Runtime,
}

impl Plant {
    /// Starts a server with `nodes` variables and its certificate in `directory`.
    pub fn start(directory: &Path, nodes: usize) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .during("a runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .during("the server's port")?;
        let port = listener.local_addr().during("the server's port")?.port();
        let inside = runtime.enter();
        let built = builder(directory, port, nodes).build();
        let (server, handle) = built.map_err(Failure::new)?;
        let absent = || Failure::new("the server lacks what it was built with");
        let managers = handle.node_managers();
        let manager = managers
            .get_by_name::<SimpleNodeManager>("line1")
            .ok_or_else(absent)?;
        let namespace = handle.get_namespace_index(NAMESPACE).ok_or_else(absent)?;
        let ids = add_nodes(&manager, namespace, nodes);
        runtime.spawn(server.run_with(listener));
        runtime.spawn(change(handle, manager, ids));
        drop(inside);
        Ok(Self {
            port,
            certificate: directory.join("own/cert.der"),
            _runtime: runtime,
        })
    }
}

fn builder(directory: &Path, port: u16, nodes: usize) -> ServerBuilder {
    let space = NamespaceMetadata {
        namespace_uri: NAMESPACE.to_owned(),
        ..NamespaceMetadata::default()
    };
    let users = ["ANONYMOUS".to_owned()];
    let endpoint = |policy, mode| ServerEndpoint::new("/", policy, mode, &users);
    let none = endpoint(SecurityPolicy::None, MessageSecurityMode::None);
    let encrypted = endpoint(
        SecurityPolicy::Basic256Sha256,
        MessageSecurityMode::SignAndEncrypt,
    );
    let mut builder = ServerBuilder::new()
        .application_name("plant")
        .application_uri("urn:plant")
        .product_uri("urn:plant")
        .create_sample_keypair(true)
        .certificate_path("own/cert.der")
        .private_key_path("private/private.pem")
        .pki_dir(directory)
        .trust_client_certs(true)
        .host("127.0.0.1")
        .port(port)
        .discovery_urls(vec![format!("opc.tcp://127.0.0.1:{port}/")])
        .max_array_length(100_000)
        // By default it drops what is longer than five chunks.
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_chunk_count(CHUNKS_MAX)
        .add_endpoint("none", none)
        .add_endpoint("encrypted", encrypted)
        .with_node_manager(simple_node_manager(space, "line1"));
    builder
        .limits_mut()
        .subscriptions
        .max_monitored_items_per_sub = nodes;
    builder
}

fn add_nodes(manager: &Manager, namespace: u16, nodes: usize) -> Vec<NodeId> {
    let mut space = manager.address_space().write();
    let folder = NodeId::new(namespace, "Line1");
    space.add_folder(&folder, "Line1", "Line1", &ObjectId::ObjectsFolder.into());
    let mut ids = Vec::with_capacity(nodes);
    for number in 0..nodes {
        let name = format!("v{number}");
        let id = NodeId::new(namespace, name.as_str());
        VariableBuilder::new(&id, name.as_str(), name.as_str())
            .data_type(DataTypeId::Double)
            .value(0.0)
            .organized_by(&folder)
            .insert(&mut *space);
        ids.push(id);
    }
    ids
}

/// Gives every node a new value, for ever.
async fn change(handle: ServerHandle, manager: Manager, ids: Vec<NodeId>) {
    let mut ticks = tokio::time::interval(CHANGE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0_u32;
    loop {
        ticks.tick().await;
        round += 1;
        let now = DateTime::now();
        let value = DataValue {
            value: Some(Variant::Double(f64::from(round) * 0.25)),
            status: Some(StatusCode::Good),
            source_timestamp: Some(now),
            server_timestamp: Some(now),
            ..DataValue::null()
        };
        let values = ids.iter().map(|id| (id, None, value.clone()));
        // A node that is missing would show as missing readings.
        let _ = manager.set_values(handle.subscriptions(), values);
    }
}
