//! `[mqtt]`, `[kafka]` and `[http]`: what listens, and the checks that look
//! at several listeners together.

use std::net::SocketAddr;
use std::time::Duration;

use super::limits;
use super::node::{duration_within, size_within};
use super::section::{Document, Section};
use super::{Config, HostPort, Http, Kafka, Mqtt, Role, defaults, names};

const LISTEN: &str = "expected an address with a port, such as \"127.0.0.1:1883\" or \"[::]:1883\" (host names cannot be listened on)";

/// Reads `[mqtt]`. A gateway has an MQTT server even without the section; a
/// broker only with it.
pub(super) fn mqtt(root: &Section<'_>, role: Role) -> Option<Mqtt> {
    let section = root.table("mqtt");
    let whole_seconds = Duration::from_secs(1);
    let mqtt = Mqtt {
        listen: listen(&section).unwrap_or(defaults::MQTT_LISTEN),
        tls_listen: section.parsed("tls_listen", LISTEN, |text| text.parse().ok()),
        websocket_listen: section.parsed("websocket_listen", LISTEN, |text| text.parse().ok()),
        websocket_tls_listen: section
            .parsed("websocket_tls_listen", LISTEN, |text| text.parse().ok()),
        websocket_origins: websocket_origins(&section),
        max_packet_size: size_within(
            &section,
            "max_packet_size",
            defaults::MQTT_MAX_PACKET_SIZE_MIN,
            defaults::MQTT_MAX_PACKET_SIZE_MAX,
        )
        .and_then(|bytes| u32::try_from(bytes).ok())
        .unwrap_or(defaults::MQTT_MAX_PACKET_SIZE),
        receive_maximum: section
            .number("receive_maximum", 1, u64::from(u16::MAX))
            .and_then(|number| u16::try_from(number).ok())
            .unwrap_or(defaults::MQTT_RECEIVE_MAXIMUM),
        session_expiry_max: duration_within(
            &section,
            "session_expiry_max",
            Duration::ZERO,
            defaults::MQTT_SESSION_EXPIRY_CEILING,
            "expected a duration of at most 4294967295s, such as \"7d\"",
        )
        .unwrap_or(defaults::MQTT_SESSION_EXPIRY_MAX),
        keep_alive_max: duration_within(
            &section,
            "keep_alive_max",
            whole_seconds,
            defaults::MQTT_KEEP_ALIVE_CEILING,
            "expected a duration from \"1s\" to \"65535s\"",
        )
        .unwrap_or(defaults::MQTT_KEEP_ALIVE_MAX),
        connect_timeout: duration_within(
            &section,
            "connect_timeout",
            whole_seconds,
            defaults::MQTT_CONNECT_TIMEOUT_MAX,
            "expected a duration from \"1s\" to \"5m\"",
        )
        .unwrap_or(defaults::MQTT_CONNECT_TIMEOUT),
        max_connections: max_connections(&section).unwrap_or(defaults::MQTT_MAX_CONNECTIONS),
        sys_interval: duration_within(
            &section,
            "sys_interval",
            Duration::ZERO,
            defaults::MQTT_SYS_INTERVAL_MAX,
            "expected a duration of at most \"1h\", such as \"10s\", or \"0s\" for no $SYS",
        )
        .unwrap_or(defaults::MQTT_SYS_INTERVAL),
        limits: limits::mqtt_limits(&section.table("limits")),
    };
    section.finish();
    (section.is_present() || role == Role::Gateway).then_some(mqtt)
}

/// Origins as browsers write them, or `*`.
fn websocket_origins(section: &Section<'_>) -> Vec<String> {
    const ORIGINS: &str =
        "expected a list of origins such as [\"https://panel.plant.example\"], or [\"*\"]";
    let origin = |text: &str| {
        let host = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        (text == "*" || is_origin).then(|| text.to_owned())
    };
    let origins = section.texts(
        "websocket_origins",
        defaults::MQTT_WEBSOCKET_ORIGINS_MAX,
        ORIGINS,
        origin,
    );
    let listens = section.has("websocket_listen") || section.has("websocket_tls_listen");
    if origins.is_some() && !listens {
        section.mistake(
            "websocket_origins",
            "expected `mqtt.websocket_listen` beside it: origins are only looked at there",
        );
    }
    origins.unwrap_or_default()
}

/// Reads `[kafka]`.
pub(super) fn kafka(root: &Section<'_>) -> Kafka {
    let section = root.table("kafka");
    let kafka = Kafka {
        listen: listen(&section).unwrap_or(defaults::KAFKA_LISTEN),
        advertise: advertise(&section, "advertise"),
        tls_listen: section.parsed("tls_listen", LISTEN, |text| text.parse().ok()),
        tls_advertise: advertise(&section, "tls_advertise"),
        auto_create_topics: section
            .flag("auto_create_topics")
            .unwrap_or(defaults::KAFKA_AUTO_CREATE_TOPICS),
        default_partitions: section
            .number("default_partitions", 1, defaults::PARTITIONS_MAX)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(defaults::PARTITIONS),
        max_message_bytes: size_within(
            &section,
            "max_message_bytes",
            defaults::KAFKA_MAX_MESSAGE_BYTES_MIN,
            defaults::KAFKA_MAX_MESSAGE_BYTES_MAX,
        )
        .and_then(|bytes| u32::try_from(bytes).ok())
        .unwrap_or(defaults::KAFKA_MAX_MESSAGE_BYTES),
        offsets_retention: duration_within(
            &section,
            "offsets_retention",
            defaults::KAFKA_OFFSETS_RETENTION_MIN,
            defaults::KAFKA_OFFSETS_RETENTION_MAX,
            "expected a duration from \"1h\" to \"3650d\"",
        )
        .unwrap_or(forebay_broker::DEFAULT_OFFSETS_RETENTION),
        max_connections: max_connections(&section).unwrap_or(defaults::KAFKA_MAX_CONNECTIONS),
    };
    section.finish();
    if kafka.listen.ip().is_unspecified() && !section.has("advertise") {
        section.mistake(
            "listen",
            "expected `kafka.advertise` beside a listener on all addresses: clients need one address to come back to, such as advertise = \"hub.plant.example:9092\"",
        );
    }
    let all = kafka.tls_listen.is_some_and(|at| at.ip().is_unspecified());
    if all && !section.has("tls_advertise") {
        section.mistake(
            "tls_listen",
            "expected `kafka.tls_advertise` beside a listener on all addresses: clients need one address to come back to, such as tls_advertise = \"hub.plant.example:9093\"",
        );
    }
    if section.has("tls_advertise") && !section.has("tls_listen") {
        section.mistake(
            "tls_advertise",
            "expected `kafka.tls_listen` beside it: only its clients are told",
        );
    }
    kafka
}

fn advertise(section: &Section<'_>, key: &'static str) -> Option<HostPort> {
    section.parsed(
        key,
        "expected a host and port that clients can reach, such as \"hub.plant.example:9092\"",
        |text| names::host_port(text).filter(|address| address.port != 0),
    )
}

/// Reads `[http]`.
pub(super) fn http(root: &Section<'_>) -> Http {
    let section = root.table("http");
    let http = Http {
        listen: listen(&section).unwrap_or(defaults::HTTP_LISTEN),
        tls_listen: section.parsed("tls_listen", LISTEN, |text| text.parse().ok()),
    };
    section.finish();
    http
}

impl Config {
    /// Checks what no single key can tell.
    pub(super) fn check_combinations(&self, document: &Document<'_>, has_routes: bool) {
        self.check_ports(document);
        self.check_tls(document);
        if has_routes && self.mqtt.is_none() {
            document.mistake(
                "route",
                "expected no [[route]] on a broker without [mqtt]: routes place MQTT publishes",
            );
        }
        if let Some(uplink) = &self.uplink {
            let own = self.kafka.listen.to_string();
            let advertised = self.kafka.advertise.as_ref().map(ToString::to_string);
            for (index, hub) in uplink.bootstrap.iter().enumerate() {
                let hub = hub.to_string();
                if hub == own || Some(&hub) == advertised.as_ref() {
                    document.mistake(
                        &format!("uplink.bootstrap[{index}]"),
                        "expected the address of the hub, got the address of this node itself",
                    );
                }
            }
        }
        if self.storage.segment_size < u64::from(self.kafka.max_message_bytes) {
            document.mistake(
                "kafka.max_message_bytes",
                "expected at most storage.segment_size: a batch lies in one segment",
            );
        }
    }

    /// Two listeners on one port fail at bind time, in whichever order they
    /// start; it is a mistake of the file.
    fn check_ports(&self, document: &Document<'_>) {
        let mut listeners: Vec<(&str, SocketAddr)> = Vec::new();
        if let Some(mqtt) = &self.mqtt {
            listeners.push(("mqtt.listen", mqtt.listen));
            if let Some(websocket) = mqtt.websocket_listen {
                listeners.push(("mqtt.websocket_listen", websocket));
            }
        }
        listeners.push(("kafka.listen", self.kafka.listen));
        listeners.push(("http.listen", self.http.listen));
        listeners.extend(self.tls_listeners());
        self.check_access(document, &listeners);
        for (index, (key, address)) in listeners.iter().enumerate() {
            for (other_key, other) in &listeners[..index] {
                if collide(*address, *other) {
                    document.mistake(
                        key,
                        format!("expected another port than {other_key}, which listens on {other}"),
                    );
                }
            }
        }
    }
}

impl Config {
    /// The listeners for TLS, by key.
    pub fn tls_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let mqtt = self.mqtt.as_ref();
        let listeners = [
            ("mqtt.tls_listen", mqtt.and_then(|mqtt| mqtt.tls_listen)),
            (
                "mqtt.websocket_tls_listen",
                mqtt.and_then(|mqtt| mqtt.websocket_tls_listen),
            ),
            ("kafka.tls_listen", self.kafka.tls_listen),
            ("http.tls_listen", self.http.tls_listen),
        ];
        let listeners = listeners.into_iter();
        listeners.filter_map(|(key, at)| Some((key, at?))).collect()
    }

    /// A listener for TLS needs a certificate, and a certificate a listener.
    fn check_tls(&self, document: &Document<'_>) {
        let listeners = self.tls_listeners();
        if self.tls.is_some() && listeners.is_empty() {
            document.warn(
                "tls",
                "no tls_listen is set, so the certificate is not used",
            );
        }
        // A section with mistakes has reported them.
        if self.tls.is_none() && !document.has("tls") {
            for (key, _) in listeners {
                document.mistake(
                    key,
                    "expected a section [tls] with certificate and key beside it",
                );
            }
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (all || a.ip() == b.ip())
}

fn listen(section: &Section<'_>) -> Option<SocketAddr> {
    section.parsed("listen", LISTEN, |text| text.parse().ok())
}

fn max_connections(section: &Section<'_>) -> Option<u32> {
    section
        .number("max_connections", 1, defaults::MAX_CONNECTIONS_MAX)
        .and_then(|number| u32::try_from(number).ok())
}
