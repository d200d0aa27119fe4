//! Binding the ports, all of them before anything is served.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::NodeError;
use super::supervision::Ports;
use crate::config::Config;
use crate::mqtt;
use crate::status::Listeners;

/// The listeners of a node, bound and not yet served.
pub(super) struct Bound {
    pub(super) mqtt: Option<mqtt::Listeners>,
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
    let websocket_listen = config.mqtt.as_ref().and_then(|mqtt| mqtt.websocket_listen);
    let websocket = match websocket_listen {
        Some(address) => Some(bind_one("mqtt.websocket_listen", address).await?),
        None => None,
    };
    let (kafka, kafka_address) = bind_one("kafka.listen", config.kafka.listen).await?;
    let (http, http_address) = bind_one("http.listen", config.http.listen).await?;
    let mqtt_address = mqtt.as_ref().map(|(_, address)| *address);
    let websocket_address = websocket.as_ref().map(|(_, address)| *address);
    let websocket = websocket.map(|(listener, _)| listener);
    Ok(Bound {
        mqtt: mqtt.map(|(tcp, _)| mqtt::Listeners { tcp, websocket }),
        kafka,
        http,
        kafka_address,
        ports: Ports {
            mqtt: mqtt_address.map(|address| address.port()),
            mqtt_websocket: websocket_address.map(|address| address.port()),
            kafka: kafka_address.port(),
            http: http_address.port(),
        },
        addresses: Listeners {
            mqtt: mqtt_address.map(|address| address.to_string()),
            mqtt_websocket: websocket_address.map(|address| address.to_string()),
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
