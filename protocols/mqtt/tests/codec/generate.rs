//! Valid packets, from small parts.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use forebay_mqtt::packet::{
    Ack, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect, DisconnectProperties,
    Packet, PacketId, Publish, PublishProperties, Qos, ReasonProperties, RetainHandling, SubAck,
    Subscribe, SubscribeProperties, Subscription, SubscriptionId, SubscriptionOptions, TopicAlias,
    UnsubAck, Unsubscribe, UnsubscribeProperties, Version, Will, WillProperties,
};
use forebay_mqtt::{ReasonCode, Text, TopicFilter, TopicName};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

pub fn any_version() -> impl Strategy<Value = Version> {
    select(vec![Version::V311, Version::V5])
}

pub fn any_packet(version: Version) -> BoxedStrategy<Packet> {
    prop_oneof![
        1 => any_connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        1 => any_conn_ack(version).prop_map(|conn_ack| Packet::ConnAck(Box::new(conn_ack))),
        4 => any_publish(version).prop_map(Packet::Publish),
        1 => any_ack(version, &[0x00, 0x10, 0x80, 0x97]).prop_map(Packet::PubAck),
        1 => any_ack(version, &[0x00, 0x10, 0x80, 0x99]).prop_map(Packet::PubRec),
        1 => any_ack(version, &[0x00, 0x92]).prop_map(Packet::PubRel),
        1 => any_ack(version, &[0x00, 0x92]).prop_map(Packet::PubComp),
        1 => any_subscribe(version).prop_map(Packet::Subscribe),
        1 => any_sub_ack(version).prop_map(Packet::SubAck),
        1 => any_unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => any_unsub_ack(version).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => any_disconnect(version).prop_map(Packet::Disconnect),
    ]
    .boxed()
}

/// `Some` only in MQTT 5.
fn in_5<T: Default + std::fmt::Debug + Clone + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    match version {
        Version::V311 => Just(T::default()).boxed(),
        Version::V5 => strategy.boxed(),
    }
}

fn any_text() -> impl Strategy<Value = Text> {
    "[a-zé0-9/ ]{0,12}".prop_map(|text| Text::try_from(text).expect("valid text"))
}

fn any_bytes(len_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..len_max).prop_map(Bytes::from)
}

fn any_name() -> impl Strategy<Value = TopicName> {
    "[$a-zé/ ]{1,20}".prop_map(|text| TopicName::try_from(text.as_str()).expect("valid name"))
}

fn any_filter() -> impl Strategy<Value = TopicFilter> {
    "([a-zé$]{0,4}/|\\+/){0,4}(#|\\+|[a-z]{1,4})"
        .prop_map(|text| TopicFilter::try_from(text.as_str()).expect("valid filter"))
}

fn any_users() -> impl Strategy<Value = Vec<(Text, Text)>> {
    vec((any_text(), any_text()), 0..3)
}

fn any_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("identifier above 0", PacketId::new)
}

fn any_qos() -> impl Strategy<Value = Qos> {
    select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

fn any_reason(bytes: &[u8]) -> impl Strategy<Value = ReasonCode> + use<> {
    let reasons = bytes
        .iter()
        .map(|byte| ReasonCode::from_byte(*byte).expect("known code"));
    select(reasons.collect::<Vec<ReasonCode>>())
}

fn any_reason_properties() -> impl Strategy<Value = ReasonProperties> {
    (of(any_text()), any_users()).prop_map(|(reason_string, user_properties)| ReasonProperties {
        reason_string,
        user_properties,
    })
}

prop_compose! {
    fn any_connect_properties()(
        session_expiry_interval in of(any::<u32>()),
        receive_maximum in of((1..=u16::MAX).prop_map(|max| NonZeroU16::new(max).expect("not 0"))),
        maximum_packet_size in of((1..=u32::MAX).prop_map(|max| NonZeroU32::new(max).expect("not 0"))),
        topic_alias_maximum in of(any::<u16>()),
        request_response_information in of(any::<bool>()),
        request_problem_information in of(any::<bool>()),
        user_properties in any_users(),
        authentication_method in of(any_text()),
    ) -> ConnectProperties {
        ConnectProperties {
            session_expiry_interval,
            receive_maximum,
            maximum_packet_size,
            topic_alias_maximum,
            request_response_information,
            request_problem_information,
            user_properties,
            authentication_data: authentication_method.as_ref().map(|_| Bytes::from_static(b"\x00\xff")),
            authentication_method,
        }
    }
}

prop_compose! {
    fn any_will(version: Version)(
        topic in any_name(),
        payload in any_bytes(20),
        qos in any_qos(),
        retain in any::<bool>(),
        properties in in_5(version, any_will_properties()),
    ) -> Will {
        Will { topic, payload, qos, retain, properties }
    }
}

prop_compose! {
    fn any_will_properties()(
        will_delay_interval in of(any::<u32>()),
        message_expiry_interval in of(any::<u32>()),
        content_type in of(any_text()),
        response_topic in of(any_name()),
        correlation_data in of(any_bytes(8)),
        user_properties in any_users(),
    ) -> WillProperties {
        WillProperties {
            will_delay_interval,
            payload_is_utf8: None,
            message_expiry_interval,
            content_type,
            response_topic,
            correlation_data,
            user_properties,
        }
    }
}

prop_compose! {
    fn any_connect(version: Version)(
        clean_start in any::<bool>(),
        keep_alive in any::<u16>(),
        client_id in any_text(),
        will in of(any_will(version)),
        login in of((any_text(), of(any_bytes(8)))),
        properties in in_5(version, any_connect_properties()),
    ) -> Connect {
        let (user_name, password) = match login {
            Some((name, password)) => (Some(name), password),
            None => (None, None),
        };
        Connect { version, clean_start, keep_alive, client_id, will, user_name, password, properties }
    }
}

prop_compose! {
    fn any_conn_ack(version: Version)(
        session_present in any::<bool>(),
        reason in any_reason(&[0x00, 0x84, 0x85, 0x86, 0x87, 0x88]),
        properties in in_5(version, any_conn_ack_properties()),
    ) -> ConnAck {
        let session_present = session_present && reason == ReasonCode::Success;
        ConnAck { session_present, reason, properties }
    }
}

prop_compose! {
    fn any_conn_ack_properties()(
        session_expiry_interval in of(any::<u32>()),
        assigned_client_identifier in of(any_text()),
        server_keep_alive in of(any::<u16>()),
        retain_available in of(any::<bool>()),
        shared_subscription_available in of(any::<bool>()),
        reason_string in of(any_text()),
        user_properties in any_users(),
    ) -> ConnAckProperties {
        ConnAckProperties {
            session_expiry_interval,
            assigned_client_identifier,
            server_keep_alive,
            retain_available,
            shared_subscription_available,
            reason_string,
            user_properties,
            ..ConnAckProperties::default()
        }
    }
}

prop_compose! {
    fn any_publish_properties()(
        payload_is_utf8 in of(Just(false)),
        message_expiry_interval in of(any::<u32>()),
        topic_alias in of((1..=u16::MAX).prop_filter_map("above 0", TopicAlias::new)),
        response_topic in of(any_name()),
        correlation_data in of(any_bytes(8)),
        user_properties in any_users(),
        subscription_identifiers in vec((1..=268_435_455u32).prop_filter_map("in range", SubscriptionId::new), 0..3),
        content_type in of(any_text()),
    ) -> PublishProperties {
        PublishProperties {
            payload_is_utf8,
            message_expiry_interval,
            topic_alias,
            response_topic,
            correlation_data,
            user_properties,
            subscription_identifiers,
            content_type,
        }
    }
}

prop_compose! {
    fn any_publish(version: Version)(
        dup in any::<bool>(),
        qos in any_qos(),
        retain in any::<bool>(),
        topic in any_name(),
        packet_id in any_id(),
        properties in in_5(version, any_publish_properties()),
        payload in any_bytes(300),
    ) -> Publish {
        let is_acknowledged = qos > Qos::AtMostOnce;
        let packet_id = is_acknowledged.then_some(packet_id);
        Publish { dup: dup && is_acknowledged, qos, retain, topic, packet_id, properties, payload }
    }
}

fn any_ack(version: Version, reasons: &[u8]) -> impl Strategy<Value = Ack> + use<> {
    let reason = in_5(version, any_reason(reasons));
    let properties = in_5(version, any_reason_properties());
    (any_id(), reason, properties).prop_map(|(packet_id, reason, properties)| Ack {
        packet_id,
        reason,
        properties,
    })
}

fn any_options(version: Version) -> BoxedStrategy<SubscriptionOptions> {
    let handling = select(vec![
        RetainHandling::SendAtSubscribe,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    let extras = in_5(version, (any::<bool>(), any::<bool>(), handling));
    let options = (any_qos(), extras).prop_map(|(qos, extras)| SubscriptionOptions {
        qos,
        no_local: extras.0,
        retain_as_published: extras.1,
        retain_handling: extras.2,
    });
    options.boxed()
}

prop_compose! {
    fn any_subscribe(version: Version)(
        packet_id in any_id(),
        subscriptions in vec((any_filter(), any_options(version)), 1..4),
        identifier in in_5(version, of((1..=268_435_455u32).prop_filter_map("in range", SubscriptionId::new))),
        user_properties in in_5(version, any_users()),
    ) -> Subscribe {
        let subscription = |(filter, options)| Subscription { filter, options };
        Subscribe {
            packet_id,
            properties: SubscribeProperties { subscription_identifier: identifier, user_properties },
            subscriptions: subscriptions.into_iter().map(subscription).collect(),
        }
    }
}

prop_compose! {
    fn any_sub_ack(version: Version)(
        packet_id in any_id(),
        properties in in_5(version, any_reason_properties()),
        reasons in vec(any_reason(&[0x00, 0x01, 0x02, 0x80]), 1..4),
    ) -> SubAck {
        SubAck { packet_id, properties, reasons }
    }
}

prop_compose! {
    fn any_unsubscribe(version: Version)(
        packet_id in any_id(),
        user_properties in in_5(version, any_users()),
        filters in vec(any_filter(), 1..4),
    ) -> Unsubscribe {
        Unsubscribe { packet_id, properties: UnsubscribeProperties { user_properties }, filters }
    }
}

prop_compose! {
    fn any_unsub_ack(version: Version)(
        packet_id in any_id(),
        properties in in_5(version, any_reason_properties()),
        reasons in in_5(version, vec(any_reason(&[0x00, 0x11, 0x87]), 1..4)),
    ) -> UnsubAck {
        UnsubAck { packet_id, properties, reasons }
    }
}

prop_compose! {
    fn any_disconnect(version: Version)(
        reason in in_5(version, any_reason(&[0x00, 0x04, 0x81, 0x82, 0x8D, 0x8E, 0x93])),
        session_expiry_interval in in_5(version, of(any::<u32>())),
        reason_string in in_5(version, of(any_text())),
        user_properties in in_5(version, any_users()),
    ) -> Disconnect {
        let properties = DisconnectProperties {
            session_expiry_interval,
            reason_string,
            user_properties,
            server_reference: None,
        };
        Disconnect { reason, properties }
    }
}
