//! Two codecs by other authors as judges. Each reads what this codec wrote and
//! writes it again; reading that must give the first packet. What an oracle is
//! known not to keep is left out, with the reason beside it.

use bytes::BytesMut;
use forebay_mqtt::packet::{Packet, Version};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::generate::any_packet;
use crate::{encode, read};

/// Any size; generated packets are small.
const SIZE_MAX: usize = 1 << 20;

fn through_rumqttc_v4(bytes: &[u8]) -> BytesMut {
    let mut input = BytesMut::from(bytes);
    let packet = v4::Packet::read(&mut input, SIZE_MAX).expect("rumqttc reads the packet");
    assert!(input.is_empty());
    let mut out = BytesMut::new();
    packet
        .write(&mut out, SIZE_MAX)
        .expect("rumqttc writes the packet");
    out
}

fn through_rumqttc_v5(bytes: &[u8]) -> BytesMut {
    let mut input = BytesMut::from(bytes);
    let packet = v5::Packet::read(&mut input, None).expect("rumqttc reads the packet");
    assert!(input.is_empty());
    let mut out = BytesMut::new();
    packet
        .write(&mut out, None)
        .expect("rumqttc writes the packet");
    out
}

/// Reads the body with the parser of the type and returns the packet written
/// again.
fn through_core(bytes: &[u8], version: Version) -> Vec<u8> {
    let header_len = 2 + bytes[1..].iter().take_while(|byte| **byte >= 0x80).count();
    let body = &bytes[header_len..];
    let flags = bytes[0] & 0x0F;
    macro_rules! again {
        ($packet:ty) => {
            <$packet>::parse(body)
                .expect("the oracle reads the packet")
                .0
                .to_continuous_buffer()
        };
    }
    macro_rules! by_type {
        ($module:ident) => {
            match bytes[0] >> 4 {
                1 => again!($module::Connect),
                2 => again!($module::Connack),
                3 => $module::Publish::parse(flags, body.into())
                    .expect("the oracle reads the packet")
                    .0
                    .to_continuous_buffer(),
                4 => again!($module::Puback),
                5 => again!($module::Pubrec),
                6 => again!($module::Pubrel),
                7 => again!($module::Pubcomp),
                8 => again!($module::Subscribe),
                9 => again!($module::Suback),
                10 => again!($module::Unsubscribe),
                11 => again!($module::Unsuback),
                12 => again!($module::Pingreq),
                13 => again!($module::Pingresp),
                _ => again!($module::Disconnect),
            }
        };
    }
    match version {
        Version::V311 => by_type!(v3_1_1),
        Version::V5 => by_type!(v5_0),
    }
}

/// Leaves out what rumqttc 0.25 does not read or keep.
fn is_known_to_rumqttc(packet: &Packet, version: Version) -> bool {
    match packet {
        // It reads passwords as UTF-8 and drops empty user names and passwords.
        Packet::Connect(connect) => {
            let password = connect.password.as_deref();
            let is_kept = |bytes| std::str::from_utf8(bytes).is_ok_and(|text| !text.is_empty());
            connect.user_name.as_deref() != Some("") && password.is_none_or(is_kept)
        }
        // It wants a reason code and a property length in MQTT 5, which may be
        // left out (sections 3.14.2.1 and 3.14.2.2.1).
        Packet::Disconnect(disconnect) => {
            version == Version::V311 || !disconnect.properties.is_empty()
        }
        _ => true,
    }
}

proptest! {
    #[test]
    fn rumqttc_agrees_on_3_1_1(packet in any_packet(Version::V311)) {
        prop_assume!(is_known_to_rumqttc(&packet, Version::V311));
        let bytes = encode(&packet, Version::V311);
        prop_assert_eq!(read(&through_rumqttc_v4(&bytes), Version::V311), packet);
    }

    #[test]
    fn rumqttc_agrees_on_5(packet in any_packet(Version::V5)) {
        prop_assume!(is_known_to_rumqttc(&packet, Version::V5));
        let bytes = encode(&packet, Version::V5);
        prop_assert_eq!(read(&through_rumqttc_v5(&bytes), Version::V5), packet);
    }

    #[test]
    fn mqtt_protocol_core_agrees_on_3_1_1(packet in any_packet(Version::V311)) {
        let bytes = encode(&packet, Version::V311);
        prop_assert_eq!(read(&through_core(&bytes, Version::V311), Version::V311), packet);
    }

    #[test]
    fn mqtt_protocol_core_agrees_on_5(packet in any_packet(Version::V5)) {
        let bytes = encode(&packet, Version::V5);
        prop_assert_eq!(read(&through_core(&bytes, Version::V5), Version::V5), packet);
    }
}
