//! Any bytes are packets, an error or too few; what is accepted can be written
//! and reads back the same.
#![no_main]

use bytes::BytesMut;
use forebay_mqtt::packet::{Packet, Version, decode};
use libfuzzer_sys::fuzz_target;

/// Far above any input that the fuzzer makes.
const PACKET_SIZE_MAX: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    for version in [Version::V311, Version::V5] {
        let mut input = BytesMut::from(data);
        while let Ok(Some(packet)) = decode(&mut input, version, PACKET_SIZE_MAX) {
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let mut out = BytesMut::new();
            packet
                .encode(version, &mut out)
                .expect("what was read can be written");
            assert_eq!(packet.encoded_len(version), out.len());
            let again = decode(&mut out, version, PACKET_SIZE_MAX);
            assert_eq!(again, Ok(Some(packet)));
        }
    }
});
