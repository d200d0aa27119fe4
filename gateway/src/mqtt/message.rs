//! One message of the MQTT namespace and its form as a log record.
//!
//! The record's value is the payload. Its key is the path, unless a route sets
//! another key; the path then travels in the header `mqtt.topic`. What MQTT
//! knows beyond that travels in `mqtt.*` headers, each only when it differs
//! from its default, so that a plain reading has no headers at all.

use bytes::Bytes;
use forebay_mqtt::{Text, TopicName};
use forebay_records::{Record, RecordRef};

use crate::clock;

/// The quality of service of a record without `mqtt.qos`: a record is durable
/// when it is readable, which is what at-least-once asks for. It is also what
/// telemetry uses, so the usual reading needs no header.
pub const DEFAULT_QOS: u8 = 1;

const HEADER_TOPIC: &[u8] = b"mqtt.topic";
const HEADER_QOS: &[u8] = b"mqtt.qos";
const HEADER_RETAIN: &[u8] = b"mqtt.retain";
const HEADER_FORMAT: &[u8] = b"mqtt.payload-format";
const HEADER_CONTENT_TYPE: &[u8] = b"mqtt.content-type";
const HEADER_RESPONSE_TOPIC: &[u8] = b"mqtt.response-topic";
const HEADER_CORRELATION: &[u8] = b"mqtt.correlation-data";
const HEADER_EXPIRY: &[u8] = b"mqtt.expiry-seconds";
const HEADER_CLIENT: &[u8] = b"mqtt.client-id";
const HEADER_BRIDGE: &[u8] = b"mqtt.bridge";
const HEADER_USER: &[u8] = b"mqtt.user.";

/// A message on a path, independent of the wire it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic name.
    pub path: TopicName,
    /// The application's bytes.
    pub payload: Bytes,
    /// Quality of service it was published with: 0, 1 or 2.
    pub qos: u8,
    /// Whether it replaces the retained message of its path.
    pub retain: bool,
    /// Milliseconds since the Unix epoch at which it was published.
    pub timestamp_ms: i64,
    /// What only MQTT 5 publishers send. Boxed because few do.
    pub properties: Option<Box<MessageProperties>>,
}

/// The properties of MQTT 5 (section 3.3.2.3) that belong to the message and
/// not to the hop, and its publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// The payload is declared to be UTF-8.
    pub payload_is_utf8: bool,
    /// Seconds after which it is not delivered any more.
    pub expiry_seconds: Option<u32>,
    /// Content type.
    pub content_type: Option<Text>,
    /// Response topic.
    pub response_topic: Option<TopicName>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties in their order.
    pub user: Vec<(Text, Text)>,
    /// Who published it. Written down only when somebody may ask: for retained
    /// messages, and while the publisher has a no-local subscription
    /// (section 3.8.3.1). It is not sent to subscribers.
    pub client_id: Option<Text>,
    /// The bridge that it came in by, which does not carry it back. It is not
    /// sent to subscribers.
    pub bridge: Option<Text>,
}

impl Message {
    /// The header that holds the path when the record's key is another.
    pub const TOPIC_HEADER: &'static [u8] = HEADER_TOPIC;

    /// Whether it has outlived its expiry at `now_ms`.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.remaining_seconds(now_ms) == Some(0)
    }

    /// Seconds left of the expiry at `now_ms`; `None` without an expiry.
    pub fn remaining_seconds(&self, now_ms: i64) -> Option<u32> {
        let expiry = self.properties.as_ref()?.expiry_seconds?;
        let age_seconds = now_ms.saturating_sub(self.timestamp_ms).max(0) / 1000;
        let left = i64::from(expiry) - age_seconds;
        Some(u32::try_from(left.max(0)).unwrap_or(expiry))
    }

    /// Whether the client of that name published it, as far as it is known.
    pub fn is_from(&self, client: &str) -> bool {
        let publisher = self.properties.as_ref().and_then(|p| p.client_id.as_ref());
        publisher.is_some_and(|publisher| publisher.as_str() == client)
    }

    /// Calls `append` with the record form. `key` is the route's key; `None`
    /// makes the path the key.
    pub fn with_record<T>(&self, key: Option<&str>, append: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        self.with_marked_record(key, None, append)
    }

    /// As [`Message::with_record`], with a mark of the node's clock.
    pub fn with_marked_record<T>(
        &self,
        key: Option<&str>,
        mark: Option<&str>,
        append: impl FnOnce(&RecordRef<'_>) -> T,
    ) -> T {
        let key_bytes = key.map_or(self.path_bytes().as_ref(), str::as_bytes);
        let is_default = self.qos == DEFAULT_QOS && !self.retain && self.properties.is_none();
        if is_default && key.is_none() && mark.is_none() {
            return append(&self.record(key_bytes, &[]));
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        let expiry = self
            .properties
            .as_ref()
            .and_then(|p| p.expiry_seconds)
            .map(|seconds| seconds.to_string());
        if let Some(properties) = &self.properties {
            let name = |(name, _): &(Text, Text)| [HEADER_USER, name.as_bytes()].concat();
            names.extend(properties.user.iter().map(name));
        }
        let mut headers = self.headers(key.is_some(), expiry.as_deref(), &names);
        headers.extend(mark.map(|mark| (clock::HEADER, Some(mark.as_bytes()))));
        append(&self.record(key_bytes, &headers))
    }

    /// Reads a record of a routed topic. `None` when it carries no valid path,
    /// so it is not part of the MQTT namespace (a Kafka producer's record with
    /// no key, a key that is not a topic name, or a tombstone).
    pub fn from_record(record: &Record) -> Option<Self> {
        let payload = record.value.clone()?;
        let mut message = Message {
            path: TopicName::default(),
            payload,
            qos: DEFAULT_QOS,
            retain: false,
            timestamp_ms: record.timestamp,
            properties: None,
        };
        let mut path = record.key.as_ref();
        for header in &record.headers {
            let Some(value) = &header.value else { continue };
            if header.key == HEADER_TOPIC {
                path = Some(value);
            } else if header.key.starts_with(b"mqtt.") {
                message.set_header(&header.key, value);
            }
        }
        message.path = topic_name(path?)?;
        Some(message)
    }

    /// Replaces each buffer by what `copy` makes of it, byte for byte the same.
    pub fn map_bytes(mut self, copy: impl Fn(&Bytes) -> Bytes) -> Self {
        let text = |text: &Text| {
            let bytes = copy(text.as_bytes());
            Text::from_bytes(bytes).expect("a copy of a text is a text")
        };
        let topic = |name: &TopicName| {
            TopicName::new(text(name.text())).expect("a copy of a topic name is a topic name")
        };
        self.payload = copy(&self.payload);
        self.path = topic(&self.path);
        if let Some(properties) = &mut self.properties {
            properties.content_type = properties.content_type.as_ref().map(text);
            properties.response_topic = properties.response_topic.as_ref().map(topic);
            properties.correlation_data = properties.correlation_data.as_ref().map(&copy);
            properties.client_id = properties.client_id.as_ref().map(text);
            properties.bridge = properties.bridge.as_ref().map(text);
            for (user_name, value) in &mut properties.user {
                *user_name = text(user_name);
                *value = text(value);
            }
        }
        self
    }

    fn path_bytes(&self) -> &Bytes {
        self.path.text().as_bytes()
    }

    fn record<'a>(
        &'a self,
        key: &'a [u8],
        headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    ) -> RecordRef<'a> {
        RecordRef {
            timestamp: self.timestamp_ms,
            key: Some(key),
            value: Some(&self.payload),
            headers,
        }
    }

    fn headers<'a>(
        &'a self,
        key_is_not_path: bool,
        expiry: Option<&'a str>,
        user_names: &'a [Vec<u8>],
    ) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        if key_is_not_path {
            headers.push((HEADER_TOPIC, Some(self.path_bytes())));
        }
        match self.qos {
            DEFAULT_QOS => {}
            0 => headers.push((HEADER_QOS, Some(b"0"))),
            _ => headers.push((HEADER_QOS, Some(b"2"))),
        }
        if self.retain {
            headers.push((HEADER_RETAIN, Some(b"1")));
        }
        let Some(properties) = &self.properties else {
            return headers;
        };
        if properties.payload_is_utf8 {
            headers.push((HEADER_FORMAT, Some(b"1")));
        }
        let content_type = properties
            .content_type
            .as_ref()
            .map(|t| t.as_bytes().as_ref());
        let response_topic = properties
            .response_topic
            .as_ref()
            .map(|name| name.text().as_bytes().as_ref());
        let client_id = properties.client_id.as_ref();
        let bridge = properties.bridge.as_ref();
        let optional = [
            (HEADER_CLIENT, client_id.map(|id| id.as_bytes().as_ref())),
            (HEADER_BRIDGE, bridge.map(|name| name.as_bytes().as_ref())),
            (HEADER_CONTENT_TYPE, content_type),
            (HEADER_RESPONSE_TOPIC, response_topic),
            (HEADER_CORRELATION, properties.correlation_data.as_deref()),
            (HEADER_EXPIRY, expiry.map(str::as_bytes)),
        ];
        headers.extend(optional.into_iter().filter(|(_, value)| value.is_some()));
        for (name, (_, value)) in user_names.iter().zip(&properties.user) {
            headers.push((name, Some(value.as_bytes())));
        }
        headers
    }

    fn set_header(&mut self, name: &Bytes, value: &Bytes) {
        match name.as_ref() {
            HEADER_QOS => self.qos = if value.as_ref() == b"0" { 0 } else { 2 },
            HEADER_RETAIN => self.retain = value.as_ref() == b"1",
            other => {
                let properties = self.properties.get_or_insert_default();
                let text = Text::from_bytes(value.clone()).ok();
                match other {
                    HEADER_FORMAT => properties.payload_is_utf8 = value.as_ref() == b"1",
                    HEADER_CONTENT_TYPE => properties.content_type = text,
                    HEADER_RESPONSE_TOPIC => properties.response_topic = topic_name(value),
                    HEADER_CORRELATION => properties.correlation_data = Some(value.clone()),
                    HEADER_CLIENT => properties.client_id = text,
                    HEADER_BRIDGE => properties.bridge = text,
                    HEADER_EXPIRY => {
                        let seconds = std::str::from_utf8(value).ok();
                        properties.expiry_seconds = seconds.and_then(|s| s.parse().ok());
                    }
                    _ if name.starts_with(HEADER_USER) => {
                        let user_name = Text::from_bytes(name.slice(HEADER_USER.len()..)).ok();
                        properties.user.extend(user_name.zip(text));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The topic name that the bytes spell, if they do.
pub fn topic_name(bytes: &Bytes) -> Option<TopicName> {
    TopicName::new(Text::from_bytes(bytes.clone()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_records::{BatchBuilder, Compression, records};

    fn name(path: &str) -> TopicName {
        TopicName::try_from(path).unwrap()
    }

    fn through_the_log(message: &Message, key: Option<&str>) -> Option<Message> {
        let mut builder = BatchBuilder::new();
        message.with_record(key, |record| builder.push(record));
        let batch = builder.finish(Compression::None).unwrap();
        let record = records(&batch, 1 << 20).unwrap().next().unwrap().unwrap();
        Message::from_record(&record)
    }

    #[test]
    fn a_plain_reading_has_no_headers() {
        let message = Message {
            path: name("plant/7/rpm"),
            payload: Bytes::from_static(b"1480"),
            qos: 1,
            timestamp_ms: 5,
            ..Message::default()
        };
        message.with_record(None, |record| {
            assert!(record.headers.is_empty());
            assert_eq!(record.key, Some(b"plant/7/rpm".as_slice()));
        });
        assert_eq!(through_the_log(&message, None), Some(message));
    }

    #[test]
    fn every_mqtt_fact_survives_the_log() {
        let bytes = Bytes::from_static;
        let message = Message {
            path: name("plant/7/rpm"),
            payload: bytes(b""),
            qos: 2,
            retain: true,
            timestamp_ms: 1_700_000_000_000,
            properties: Some(Box::new(MessageProperties {
                payload_is_utf8: true,
                expiry_seconds: Some(60),
                content_type: Some(Text::from_static("text/plain")),
                response_topic: Some(name("reply/7")),
                correlation_data: Some(bytes(b"\x00\xff")),
                user: ["1", "2"]
                    .map(|value| (Text::from_static("a"), Text::from_static(value)))
                    .to_vec(),
                client_id: Some(Text::from_static("press-7")),
                bridge: Some(Text::from_static("old-broker")),
            })),
        };
        assert_eq!(through_the_log(&message, None), Some(message.clone()));
        assert_eq!(through_the_log(&message, Some("7")), Some(message.clone()));
        assert_eq!(message.remaining_seconds(1_700_000_010_500), Some(50));
        assert!(message.is_expired(1_700_000_060_000));
    }

    #[test]
    fn a_record_without_a_valid_path_is_outside_the_namespace() {
        for key in ["", "a/+", "a/#", "a\0"] {
            let message = Message::default();
            assert_eq!(through_the_log(&message, Some(key)), None, "{key:?}");
        }
    }
}
