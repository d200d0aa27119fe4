//! The server of the tests. It has a runtime of its own, so that it can be
//! killed as a whole.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opcua::crypto::SecurityPolicy;
use opcua::nodes::AccessLevel;
use opcua::server::address_space::{AddressSpace, VariableBuilder};
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{
    InMemoryNodeManager, SimpleNodeManager, SimpleNodeManagerImpl, simple_node_manager,
};
use opcua::server::{ServerBuilder, ServerEndpoint, ServerHandle, ServerUserToken};
use opcua::types::{
    DataTypeId, DataValue, DateTime, MessageSecurityMode, NodeId, ObjectId, StatusCode, Variant,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The namespace of the nodes.
pub const LINE: &str = "urn:plant:line1";

/// The user of the server, and the password.
pub const USER: (&str, &str) = ("operator", "secret");

/// Ending a server takes no time.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How a server is started.
#[derive(Clone, Default)]
pub struct Options {
    /// The port of before; 0 takes a free one.
    pub port: u16,
    /// Namespaces in front of the nodes' own.
    pub others: usize,
    /// Items that a subscription may have.
    pub items_max: Option<usize>,
    /// Variables `v0` and on.
    pub variables: u32,
    /// The certificate of a user who may log in.
    pub user_certificate: Option<std::path::PathBuf>,
}

/// A running server.
pub struct Plant {
    pub port: u16,
    handle: ServerHandle,
    manager: Arc<InMemoryNodeManager<SimpleNodeManagerImpl>>,
    namespace: u16,
    runtime: Option<Runtime>,
}

impl Plant {
    /// Starts a server whose certificate is in `pki`.
    pub fn start(pki: &Path, options: &Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", options.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let inside = runtime.enter();
        let listener = TcpListener::from_std(listener).unwrap();
        let (server, handle) = builder(pki, port, options).build().unwrap();
        let managers = handle.node_managers();
        let manager = managers.get_by_name::<SimpleNodeManager>("line1").unwrap();
        runtime.spawn(server.run_with(listener));
        let namespace = handle.get_namespace_index(LINE).unwrap();
        drop(inside);
        let plant = Self {
            port,
            handle,
            manager,
            namespace,
            runtime: Some(runtime),
        };
        plant.add_nodes(options.variables);
        plant
    }

    fn add_nodes(&self, variables: u32) {
        let space = self.manager.address_space();
        let mut space = space.write();
        let folder = NodeId::new(self.namespace, "Line1");
        space.add_folder(&folder, "Line1", "Line1", &ObjectId::ObjectsFolder.into());
        for number in 0..variables {
            let name = format!("v{number}");
            self.add(&mut space, &folder, &name, DataTypeId::Double, 0.0.into());
        }
        self.add(
            &mut space,
            &folder,
            "flag",
            DataTypeId::Boolean,
            false.into(),
        );
        let node = NodeId::new(self.namespace, "setpoint");
        VariableBuilder::new(&node, "setpoint", "setpoint")
            .data_type(DataTypeId::Int16)
            .value(Variant::Int16(5))
            .access_level(AccessLevel::CURRENT_READ | AccessLevel::CURRENT_WRITE)
            .user_access_level(AccessLevel::CURRENT_READ | AccessLevel::CURRENT_WRITE)
            .organized_by(&folder)
            .insert(&mut *space);
    }

    fn add(
        &self,
        space: &mut AddressSpace,
        folder: &NodeId,
        name: &str,
        data_type: DataTypeId,
        value: Variant,
    ) {
        VariableBuilder::new(&NodeId::new(self.namespace, name), name, name)
            .data_type(data_type)
            .value(value)
            .organized_by(folder)
            .insert(space);
    }

    /// Gives variables new values of this moment.
    pub fn set(&self, values: &[(&str, f64)]) {
        let now = DateTime::now();
        let values: Vec<(NodeId, DataValue)> = values
            .iter()
            .map(|(name, value)| {
                let value = DataValue {
                    value: Some(Variant::Double(*value)),
                    status: Some(StatusCode::Good),
                    source_timestamp: Some(now),
                    ..DataValue::null()
                };
                (NodeId::new(self.namespace, *name), value)
            })
            .collect();
        let values = values
            .iter()
            .map(|(node, value)| (node, None, value.clone()));
        let subscriptions = self.handle.subscriptions();
        self.manager.set_values(subscriptions, values).unwrap();
    }

    /// Ends everything at once, as a power cut does.
    pub fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The port is free when every task has ended.
            let ending = std::thread::spawn(|| runtime.shutdown_timeout(END_TIMEOUT));
            ending.join().unwrap();
        }
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.end();
    }
}

fn builder(pki: &Path, port: u16, options: &Options) -> ServerBuilder {
    let mut builder = ServerBuilder::new()
        .application_name("plant")
        .application_uri("urn:plant")
        .product_uri("urn:plant")
        .create_sample_keypair(true)
        .certificate_path("own/cert.der")
        .private_key_path("private/private.pem")
        .pki_dir(pki)
        .trust_client_certs(true)
        .host("127.0.0.1")
        .port(port)
        .discovery_urls(vec![format!("opc.tcp://127.0.0.1:{port}/")])
        .subscription_poll_interval_ms(20)
        .max_array_length(100_000)
        .add_user_token("user", ServerUserToken::user_pass(USER.0, USER.1));
    let limits = &mut builder.limits_mut().subscriptions;
    limits.min_publishing_interval_ms = 20.0;
    // Each change at once.
    limits.min_sampling_interval_ms = 0.0;
    limits.max_monitored_items_per_sub = options.items_max.unwrap_or(10_000);
    limits.max_monitored_item_queue_size = 1_000;
    let mut users = vec!["ANONYMOUS".to_owned(), "user".to_owned()];
    if let Some(certificate) = &options.user_certificate {
        builder = builder.add_user_token("holder", ServerUserToken::x509("holder", certificate));
        users.push("holder".to_owned());
    }
    let mut endpoint = |name: &str, policy, mode| {
        let endpoint = ServerEndpoint::new("/", policy, mode, &users);
        builder = std::mem::take(&mut builder).add_endpoint(name, endpoint);
    };
    endpoint("none", SecurityPolicy::None, MessageSecurityMode::None);
    for (name, policy) in [
        ("b256", SecurityPolicy::Basic256Sha256),
        ("aes128", SecurityPolicy::Aes128Sha256RsaOaep),
        ("aes256", SecurityPolicy::Aes256Sha256RsaPss),
    ] {
        endpoint(&format!("{name}-s"), policy, MessageSecurityMode::Sign);
        endpoint(
            &format!("{name}-e"),
            policy,
            MessageSecurityMode::SignAndEncrypt,
        );
    }
    let namespace = |uri: String| NamespaceMetadata {
        namespace_uri: uri,
        ..NamespaceMetadata::default()
    };
    for number in 0..options.others {
        let other = namespace(format!("urn:plant:other{number}"));
        builder = builder.with_node_manager(simple_node_manager(other, &format!("other{number}")));
    }
    builder.with_node_manager(simple_node_manager(namespace(LINE.to_owned()), "line1"))
}
