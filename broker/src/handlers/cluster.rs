//! DescribeCluster and FindCoordinator: everything is this node.

use std::sync::Arc;

use forebay_kafka::messages::{
    Coordinator, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::call::Call;
use crate::reply::Reply;

/// FindCoordinator key type of consumer groups.
const GROUP_KEY: i8 = 0;

/// DescribeCluster endpoint type of brokers.
const BROKER_ENDPOINTS: i8 = 1;

/// First version that asks for several coordinators at once (KIP-699).
const BATCHED_FIND_COORDINATOR: i16 = 4;

impl Broker {
    pub(crate) fn describe_cluster(
        self: &Arc<Self>,
        call: &Call,
        request: DescribeClusterRequest,
    ) -> Reply {
        if call.version >= 1 && request.endpoint_type != BROKER_ENDPOINTS {
            return call.ready(&DescribeClusterResponse {
                error_code: error_code::UNSUPPORTED_ENDPOINT_TYPE,
                error_message: Some("only broker endpoints exist".into()),
                ..DescribeClusterResponse::default()
            });
        }
        let (host, port) = call.advertised(&self.config);
        call.ready(&DescribeClusterResponse {
            cluster_id: self.config.cluster_id.as_str().into(),
            controller_id: self.config.node_id,
            brokers: vec![DescribeClusterBroker {
                broker_id: self.config.node_id,
                host,
                port,
                ..DescribeClusterBroker::default()
            }],
            ..DescribeClusterResponse::default()
        })
    }

    pub(crate) fn find_coordinator(
        self: &Arc<Self>,
        call: &Call,
        request: FindCoordinatorRequest,
    ) -> Reply {
        let (error_code, error_message) = if request.key_type == GROUP_KEY {
            (error_code::NONE, None)
        } else {
            (
                error_code::INVALID_REQUEST,
                Some(KStr::from(
                    "transactions and share groups are not supported",
                )),
            )
        };
        let is_found = error_code == error_code::NONE;
        let node_id = if is_found { self.config.node_id } else { -1 };
        let (host, port) = match is_found {
            true => call.advertised(&self.config),
            false => (KStr::default(), -1),
        };
        if call.version < BATCHED_FIND_COORDINATOR {
            return call.ready(&FindCoordinatorResponse {
                error_code,
                error_message,
                node_id,
                host,
                port,
                ..FindCoordinatorResponse::default()
            });
        }
        let coordinator = |key: KStr| Coordinator {
            key,
            node_id,
            host: host.clone(),
            port,
            error_code,
            error_message: error_message.clone(),
            ..Coordinator::default()
        };
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(coordinator)
            .collect();
        call.ready(&FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        })
    }
}
