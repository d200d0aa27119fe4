//! Properties of the codec over generated packets: what is written is read
//! again, by this codec and by two others.

mod generate;
mod oracles;

use bytes::BytesMut;
use forebay_mqtt::packet::{PACKET_SIZE_MAX, Packet, Version, decode};
use proptest::prelude::*;

use generate::{any_packet, any_version};

/// Writes one packet.
pub fn encode(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet
        .encode(version, &mut out)
        .expect("a generated packet can be written");
    out
}

/// Reads exactly one packet.
pub fn read(bytes: &[u8], version: Version) -> Packet {
    let mut input = BytesMut::from(bytes);
    let packet = decode(&mut input, version, PACKET_SIZE_MAX)
        .expect("valid packet")
        .expect("complete packet");
    assert!(input.is_empty());
    packet
}

proptest! {
    #[test]
    fn written_packets_are_read_again(
        (version, packet) in any_version().prop_flat_map(|version| (Just(version), any_packet(version)))
    ) {
        let bytes = encode(&packet, version);
        prop_assert_eq!(packet.encoded_len(version), bytes.len());
        prop_assert_eq!(read(&bytes, version), packet);
    }

    #[test]
    fn cut_packets_are_incomplete(
        (version, packet) in any_version().prop_flat_map(|version| (Just(version), any_packet(version)))
    ) {
        let bytes = encode(&packet, version);
        for len in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..len]);
            prop_assert_eq!(decode(&mut input, version, PACKET_SIZE_MAX), Ok(None));
        }
    }

    /// Any bytes are a packet, an error or too few, and what is accepted can
    /// be written and means the same.
    #[test]
    fn flipped_bytes_do_not_panic_and_what_is_accepted_survives(
        (version, packet) in any_version().prop_flat_map(|version| (Just(version), any_packet(version))),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut input = encode(&packet, version);
        for (index, byte) in flips {
            let index = index.index(input.len());
            input[index] = byte;
        }
        if let Ok(Some(packet)) = decode(&mut input, version, PACKET_SIZE_MAX) {
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let bytes = encode(&packet, version);
            prop_assert_eq!(read(&bytes, version), packet);
        }
    }
}
