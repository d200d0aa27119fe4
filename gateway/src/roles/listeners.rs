//! Binding the ports, all of them before anything is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use forebay_broker::Advertised;
use tokio::net::TcpListener;

use super::NodeError;
use super::secured::Secured;
use super::supervision::Ports;
use crate::config::{Config, defaults};
use crate::http;
use crate::mqtt;
use crate::status::Listeners;
use crate::tls::SecureListener;

/// The listeners of a node, bound and not yet served.
pub(super) struct Bound {
    pub(super) mqtt: Option<mqtt::Listeners>,
    pub(super) kafka: forebay_broker::Listeners,
    pub(super) http: http::Listeners,
    /// Where the Kafka listener really is, when it was told port 0.
    pub(super) kafka_address: SocketAddr,
    pub(super) secured: Secured,
    pub(super) ports: Ports,
    pub(super) addresses: Listeners,
}

/// Binds every listener of the configuration.
pub(super) async fn bind(config: &Config) -> Result<Bound, NodeError> {
    let mut secured = Secured::open(config)?;
    let mqtt = match &config.mqtt {
        Some(mqtt) => Some(bind_one("mqtt.listen", mqtt.listen).await?),
        None => None,
    };
    let websocket_listen = config.mqtt.as_ref().and_then(|mqtt| mqtt.websocket_listen);
    let websocket = match websocket_listen {
        Some(address) => Some(bind_one("mqtt.websocket_listen", address).await?),
        None => None,
    };
    let mqtts = config.mqtt.as_ref().and_then(|mqtt| mqtt.tls_listen);
    let mqtts = bind_tls(config, &mut secured, "mqtt.tls_listen", mqtts).await?;
    let wss = config
        .mqtt
        .as_ref()
        .and_then(|mqtt| mqtt.websocket_tls_listen);
    let wss = bind_tls(config, &mut secured, "mqtt.websocket_tls_listen", wss).await?;
    let (tls, mqtts) = mqtts.unzip();
    let (websocket_tls, wss) = wss.unzip();
    let (kafka, kafka_address) = bind_one("kafka.listen", config.kafka.listen).await?;
    let (http, http_address) = bind_one("http.listen", config.http.listen).await?;
    let kafkas = config.kafka.tls_listen;
    let kafkas = bind_tls(config, &mut secured, "kafka.tls_listen", kafkas).await?;
    let https = config.http.tls_listen;
    let https = bind_tls(config, &mut secured, "http.tls_listen", https).await?;
    let (kafka_tls, kafkas) = kafkas.unzip();
    let (http_tls, https) = https.unzip();
    let mqtt_address = mqtt.as_ref().map(|(_, address)| *address);
    let websocket_address = websocket.as_ref().map(|(_, address)| *address);
    let websocket = websocket.map(|(listener, _)| listener);
    Ok(Bound {
        mqtt: mqtt.map(|(tcp, _)| mqtt::Listeners {
            tcp,
            websocket,
            tls,
            websocket_tls,
        }),
        kafka: forebay_broker::Listeners {
            plain: kafka,
            secure: kafka_tls
                .zip(kafkas)
                .map(|(listener, bound)| (boxed(listener), advertised(config, bound))),
        },
        http: http::Listeners {
            plain: http,
            secure: http_tls,
        },
        kafka_address,
        secured,
        ports: Ports {
            mqtt: mqtt_address.map(|address| address.port()),
            mqtt_websocket: websocket_address.map(|address| address.port()),
            mqtt_tls: mqtts.map(|address| address.port()),
            mqtt_websocket_tls: wss.map(|address| address.port()),
            kafka: kafka_address.port(),
            kafka_tls: kafkas.map(|address| address.port()),
            http: http_address.port(),
            http_tls: https.map(|address| address.port()),
        },
        addresses: Listeners {
            mqtt: mqtt_address.map(|address| address.to_string()),
            mqtt_websocket: websocket_address.map(|address| address.to_string()),
            mqtt_tls: mqtts.map(|address| address.to_string()),
            mqtt_websocket_tls: wss.map(|address| address.to_string()),
            kafka: kafka_address.to_string(),
            kafka_tls: kafkas.map(|address| address.to_string()),
            http: http_address.to_string(),
            http_tls: https.map(|address| address.to_string()),
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

fn boxed(listener: SecureListener) -> Box<dyn forebay_broker::SecureListener> {
    Box::new(listener)
}

/// Where clients of the TLS listener come back to.
fn advertised(config: &Config, bound: SocketAddr) -> Arc<Advertised> {
    let (host, port) = match &config.kafka.tls_advertise {
        Some(advertise) => (advertise.host.clone(), advertise.port),
        None => (bound.ip().to_string(), bound.port()),
    };
    Arc::new(Advertised { host, port })
}

/// Binds a listener for TLS, when there is to be one.
async fn bind_tls(
    config: &Config,
    secured: &mut Secured,
    key: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<(SecureListener, SocketAddr)>, NodeError> {
    // The configuration has no such listener without a certificate.
    let (Some(address), Some(tls)) = (address, secured.tls.clone()) else {
        return Ok(None);
    };
    let (tcp, actual) = bind_one(key, address).await?;
    let mqtt = config.mqtt.as_ref();
    let (timeout, max) = match mqtt.filter(|_| key.starts_with("mqtt.")) {
        Some(mqtt) => (mqtt.connect_timeout, mqtt.max_connections),
        None => (defaults::MQTT_CONNECT_TIMEOUT, config.kafka.max_connections),
    };
    let listener = SecureListener::new(tcp, tls, key, timeout, max as usize);
    secured.doors.push(listener.door());
    Ok(Some((listener, actual)))
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
