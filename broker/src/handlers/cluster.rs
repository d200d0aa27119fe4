//! DescribeCluster and FindCoordinator: everything is this node.

use std::sync::Arc;

use forebay_kafka::messages::{
    Coordinator, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::KafkaCode;
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
        let mut response = DescribeClusterResponse {
            cluster_id: self.config.cluster_id.as_str().into(),
            controller_id: self.config.node_id,
            brokers: vec![DescribeClusterBroker {
                broker_id: self.config.node_id,
                host,
                port,
                ..DescribeClusterBroker::default()
            }],
            ..DescribeClusterResponse::default()
        };
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = call.authorized(Resource::Cluster);
        }
        call.ready(&response)
    }

    pub(crate) fn find_coordinator(
        self: &Arc<Self>,
        call: &Call,
        request: FindCoordinatorRequest,
    ) -> Reply {
        let coordinator = |key: KStr| {
            let refused = |error_code, message: String| Coordinator {
                key: key.clone(),
                node_id: -1,
                port: -1,
                error_code,
                error_message: Some(message.into()),
                ..Coordinator::default()
            };
            if request.key_type != GROUP_KEY {
                let message = "transactions and share groups are not supported";
                return refused(error_code::INVALID_REQUEST, message.to_owned());
            }
            if let Err(refusal) = call.check(Operation::Describe, Resource::Group(&key)) {
                return refused(refusal.kafka_code(), refusal.to_string());
            }
            let (host, port) = call.advertised(&self.config);
            Coordinator {
                key,
                node_id: self.config.node_id,
                host,
                port,
                ..Coordinator::default()
            }
        };
        if call.version < BATCHED_FIND_COORDINATOR {
            let found = coordinator(request.key);
            return call.ready(&FindCoordinatorResponse {
                error_code: found.error_code,
                error_message: found.error_message,
                node_id: found.node_id,
                host: found.host,
                port: found.port,
                ..FindCoordinatorResponse::default()
            });
        }
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
