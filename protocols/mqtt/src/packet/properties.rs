//! The property sets of MQTT 5, one per packet (section 2.2.2).
//!
//! Each set lists exactly the properties that its packet may carry, so a
//! property in the wrong packet cannot be represented.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;

use super::property::{MaximumQos, SubscriptionId, TopicAlias, property_set};
use crate::text::Text;
use crate::topic::TopicName;

property_set! {
    /// Properties of CONNECT (section 3.1.2.11).
    pub struct ConnectProperties {
        /// Seconds that the session outlives the connection; absent is 0,
        /// `u32::MAX` never expires (section 3.1.2.11.2).
        pub session_expiry_interval: Option<u32> = 0x11,
        /// QoS above 0 messages the client takes at once; absent is 65,535
        /// (section 3.1.2.11.3).
        pub receive_maximum: Option<NonZeroU16> = 0x21,
        /// Largest packet in bytes that the client accepts
        /// (section 3.1.2.11.4).
        pub maximum_packet_size: Option<NonZeroU32> = 0x27,
        /// Topic aliases the client accepts; absent is 0
        /// (section 3.1.2.11.5).
        pub topic_alias_maximum: Option<u16> = 0x22,
        /// Whether the client asks for response information
        /// (section 3.1.2.11.6).
        pub request_response_information: Option<bool> = 0x19,
        /// Whether reason strings and user properties may be sent on failures;
        /// absent is true (section 3.1.2.11.7).
        pub request_problem_information: Option<bool> = 0x17,
        /// User properties in order (section 3.1.2.11.8).
        pub user_properties: Vec<(Text, Text)> = 0x26,
        /// Method of extended authentication (section 3.1.2.11.9).
        pub authentication_method: Option<Text> = 0x15,
        /// Data of extended authentication (section 3.1.2.11.10).
        pub authentication_data: Option<Bytes> = 0x16,
    }
}

property_set! {
    /// Properties of a will message (section 3.1.3.2).
    pub struct WillProperties {
        /// Seconds between the end of the connection and the publication;
        /// absent is 0 (section 3.1.3.2.2).
        pub will_delay_interval: Option<u32> = 0x18,
        /// Whether the payload is UTF-8 (section 3.1.3.2.3).
        pub payload_is_utf8: Option<bool> = 0x01,
        /// Lifetime of the message in seconds (section 3.1.3.2.4).
        pub message_expiry_interval: Option<u32> = 0x02,
        /// Content type (section 3.1.3.2.5).
        pub content_type: Option<Text> = 0x03,
        /// Topic for a response (section 3.1.3.2.6).
        pub response_topic: Option<TopicName> = 0x08,
        /// Data that connects a response with its request
        /// (section 3.1.3.2.7).
        pub correlation_data: Option<Bytes> = 0x09,
        /// User properties in order (section 3.1.3.2.8).
        pub user_properties: Vec<(Text, Text)> = 0x26,
    }
}

property_set! {
    /// Properties of CONNACK (section 3.2.2.3).
    pub struct ConnAckProperties {
        /// Session expiry in seconds when the server changed it
        /// (section 3.2.2.3.2).
        pub session_expiry_interval: Option<u32> = 0x11,
        /// QoS above 0 messages the server takes at once
        /// (section 3.2.2.3.3).
        pub receive_maximum: Option<NonZeroU16> = 0x21,
        /// Highest QoS of a PUBLISH; absent is 2 (section 3.2.2.3.4).
        pub maximum_qos: Option<MaximumQos> = 0x24,
        /// Whether retained messages are served; absent is true
        /// (section 3.2.2.3.5).
        pub retain_available: Option<bool> = 0x25,
        /// Largest packet in bytes that the server accepts
        /// (section 3.2.2.3.6).
        pub maximum_packet_size: Option<NonZeroU32> = 0x27,
        /// Client identifier assigned by the server (section 3.2.2.3.7).
        pub assigned_client_identifier: Option<Text> = 0x12,
        /// Topic aliases the server accepts; absent is 0
        /// (section 3.2.2.3.8).
        pub topic_alias_maximum: Option<u16> = 0x22,
        /// Text for a human (section 3.2.2.3.9).
        pub reason_string: Option<Text> = 0x1F,
        /// User properties in order (section 3.2.2.3.10).
        pub user_properties: Vec<(Text, Text)> = 0x26,
        /// Whether wildcard subscriptions are served; absent is true
        /// (section 3.2.2.3.11).
        pub wildcard_subscription_available: Option<bool> = 0x28,
        /// Whether subscription identifiers are served; absent is true
        /// (section 3.2.2.3.12).
        pub subscription_identifiers_available: Option<bool> = 0x29,
        /// Whether shared subscriptions are served; absent is true
        /// (section 3.2.2.3.13).
        pub shared_subscription_available: Option<bool> = 0x2A,
        /// Keep alive in seconds that replaces the client's
        /// (section 3.2.2.3.14).
        pub server_keep_alive: Option<u16> = 0x13,
        /// Basis for a response topic (section 3.2.2.3.15).
        pub response_information: Option<Text> = 0x1A,
        /// Another server to use (section 3.2.2.3.16).
        pub server_reference: Option<Text> = 0x1C,
        /// Method of extended authentication (section 3.2.2.3.17).
        pub authentication_method: Option<Text> = 0x15,
        /// Data of extended authentication (section 3.2.2.3.18).
        pub authentication_data: Option<Bytes> = 0x16,
    }
}

property_set! {
    /// Properties of PUBLISH (section 3.3.2.3).
    pub struct PublishProperties {
        /// Whether the payload is UTF-8 (section 3.3.2.3.2).
        pub payload_is_utf8: Option<bool> = 0x01,
        /// Lifetime of the message in seconds (section 3.3.2.3.3).
        pub message_expiry_interval: Option<u32> = 0x02,
        /// Number that stands for the topic on this connection
        /// (section 3.3.2.3.4).
        pub topic_alias: Option<TopicAlias> = 0x23,
        /// Topic for a response (section 3.3.2.3.5).
        pub response_topic: Option<TopicName> = 0x08,
        /// Data that connects a response with its request
        /// (section 3.3.2.3.6).
        pub correlation_data: Option<Bytes> = 0x09,
        /// User properties in order (section 3.3.2.3.7).
        pub user_properties: Vec<(Text, Text)> = 0x26,
        /// Identifiers of the subscriptions that caused the delivery; only
        /// from server to client (section 3.3.2.3.8).
        pub subscription_identifiers: Vec<SubscriptionId> = 0x0B,
        /// Content type (section 3.3.2.3.9).
        pub content_type: Option<Text> = 0x03,
    }
}

property_set! {
    /// Properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK
    /// (sections 3.4.2.2, 3.5.2.2, 3.6.2.2, 3.7.2.2, 3.9.2.1, 3.11.2.1).
    pub struct ReasonProperties {
        /// Text for a human.
        pub reason_string: Option<Text> = 0x1F,
        /// User properties in order.
        pub user_properties: Vec<(Text, Text)> = 0x26,
    }
}

property_set! {
    /// Properties of SUBSCRIBE (section 3.8.2.1).
    pub struct SubscribeProperties {
        /// Identifier that deliveries of these subscriptions carry
        /// (section 3.8.2.1.2).
        pub subscription_identifier: Option<SubscriptionId> = 0x0B,
        /// User properties in order (section 3.8.2.1.3).
        pub user_properties: Vec<(Text, Text)> = 0x26,
    }
}

property_set! {
    /// Properties of UNSUBSCRIBE (section 3.10.2.1).
    pub struct UnsubscribeProperties {
        /// User properties in order (section 3.10.2.1.2).
        pub user_properties: Vec<(Text, Text)> = 0x26,
    }
}

property_set! {
    /// Properties of DISCONNECT (section 3.14.2.2).
    pub struct DisconnectProperties {
        /// Session expiry in seconds that replaces the one of CONNECT; only
        /// from client to server (section 3.14.2.2.2).
        pub session_expiry_interval: Option<u32> = 0x11,
        /// Text for a human (section 3.14.2.2.3).
        pub reason_string: Option<Text> = 0x1F,
        /// User properties in order (section 3.14.2.2.4).
        pub user_properties: Vec<(Text, Text)> = 0x26,
        /// Another server to use; only from server to client
        /// (section 3.14.2.2.5).
        pub server_reference: Option<Text> = 0x1C,
    }
}

property_set! {
    /// Properties of AUTH (section 3.15.2.2).
    pub struct AuthProperties {
        /// Method of extended authentication (section 3.15.2.2.2).
        pub authentication_method: Option<Text> = 0x15,
        /// Data of extended authentication (section 3.15.2.2.3).
        pub authentication_data: Option<Bytes> = 0x16,
        /// Text for a human (section 3.15.2.2.4).
        pub reason_string: Option<Text> = 0x1F,
        /// User properties in order (section 3.15.2.2.5).
        pub user_properties: Vec<(Text, Text)> = 0x26,
    }
}
