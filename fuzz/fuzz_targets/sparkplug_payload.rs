//! Any bytes are a payload or an error; what is read can be written and reads
//! back the same, and an edge node's machine survives it whatever it says.
#![no_main]

use forebay_sparkplug::{EdgeNode, EdgeSettings, Incoming, MessageKind, Payload, with_timestamp};
use libfuzzer_sys::fuzz_target;

const SETTINGS: EdgeSettings = EdgeSettings {
    reorder_timeout_ms: 10,
    rebirth_interval_ms: 1_000,
    rebirth_interval_max_ms: 60_000,
};

const KINDS: [MessageKind; 6] = [
    MessageKind::NodeBirth,
    MessageKind::DeviceBirth,
    MessageKind::NodeData,
    MessageKind::DeviceData,
    MessageKind::DeviceDeath,
    MessageKind::NodeDeath,
];

fuzz_target!(|data: &[u8]| {
    if let Ok(payload) = Payload::decode(data) {
        let written = payload.encode();
        let again = Payload::decode(&written).expect("what was read can be written");
        // By text, because NaN is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{payload:?}"));
        let stamped = with_timestamp(data, 7).expect("it is a sequence of fields");
        let stamped = Payload::decode(&stamped).expect("only the timestamp differs");
        assert_eq!(stamped.timestamp, Some(7));
    }
    // A birth, then each kind, with payloads of one input.
    let mut machine = EdgeNode::new("G", "E", SETTINGS);
    let mut samples = Vec::new();
    for (place, kind) in KINDS.into_iter().cycle().take(12).enumerate() {
        let part = data.get(place..).unwrap_or(data);
        machine.handle(
            Incoming {
                kind,
                device: kind.is_of_device().then_some("D"),
                payload: part,
                received_ms: place as i64 * 5,
                place: place as u64,
            },
            &mut samples,
        );
        let due = machine.poll_timeout();
        machine.handle_timeout(due.unwrap_or(0), &mut samples);
    }
    for sample in &samples {
        assert!(sample.definition.path.starts_with("G/E/"));
        assert!(!sample.definition.path.contains(['+', '#', '\0']));
    }
});
