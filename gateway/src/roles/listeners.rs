//! Binding the ports, all of them before anything is served.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::NodeError;
use super::supervision::Ports;
use crate::config::Config;
use crate::status::Listeners;

/// The listeners of a node, bound and not yet served.
pub(super) struct Bound {
    pub(super) mqtt: Option<TcpListener>,
    pub(super) kafka: TcpListener,
    pub(super) http: TcpListener,
    /// Where the Kafka listener really is, when it was told port 0.
    pub(super) kafka_address: SocketAddr,
    pub(super) ports: Ports,
    pub(super) addresses: Listeners,
}

/// Binds every listener of the configuration.
pub(super) async fn bind(config: &Config) -> Result<Bound, NodeError> {
    let mqtt = match &config.mqtt {
        Some(mqtt) => Some(bind_one("mqtt.listen", mqtt.listen).await?),
        None => None,
    };
    let (kafka, kafka_address) = bind_one("kafka.listen", config.kafka.listen).await?;
    let (http, http_address) = bind_one("http.listen", config.http.listen).await?;
    let mqtt_address = mqtt.as_ref().map(|(_, address)| *address);
    Ok(Bound {
        mqtt: mqtt.map(|(listener, _)| listener),
        kafka,
        http,
        kafka_address,
        ports: Ports {
            mqtt: mqtt_address.map(|address| address.port()),
            kafka: kafka_address.port(),
            http: http_address.port(),
        },
        addresses: Listeners {
            mqtt: mqtt_address.map(|address| address.to_string()),
            kafka: kafka_address.to_string(),
            http: http_address.to_string(),
        },
    })
}

/// A sentence about why an address cannot be listened on.
pub(super) fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens on that port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => error.to_string(),
    }
}

async fn bind_one(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), NodeError> {
    let bound = match TcpListener::bind(address).await {
        Ok(listener) => listener.local_addr().map(|actual| (listener, actual)),
        Err(error) => Err(error),
    };
    bound.map_err(|source| NodeError::Bind {
        key,
        address,
        source,
    })
}
