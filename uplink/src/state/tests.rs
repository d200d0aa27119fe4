use super::*;
use proptest::prelude::*;

fn sample() -> PartitionState {
    let mut state = PartitionState::new(
        [7; 16],
        [8; 16],
        Destination {
            cluster_id: "hub-cluster".into(),
            topic_id: [9; 16],
        },
    );
    state.producer = Some(Producer {
        id: 4000,
        epoch: 2,
        sequence_base: 10,
    });
    state.acked = 20;
    state.acked_lineage = Some(0xdead_beef);
    state.delta = -3;
    state.given_up_to = 31;
    state.in_flight = vec![
        PlannedBatch {
            gap_from: 20,
            start: 25,
            end: 30,
            lineage_before: 1,
            lineage_last: 2,
        },
        PlannedBatch {
            gap_from: 30,
            start: 30,
            end: 31,
            lineage_before: 2,
            lineage_last: 3,
        },
    ];
    state.record_gap(20, 25);
    state
}

#[test]
fn a_key_tells_topic_and_partition() {
    let stored = key("press-shop.1", "line.2", 13);
    assert!(stored.starts_with(&prefix("press-shop.1")));
    assert_eq!(parse_key(&stored), Some(("line.2".to_owned(), 13)));
    assert_eq!(parse_key(b"u/site/topic/x"), None);
}

#[test]
fn state_survives_a_round_trip() {
    let state = sample();
    assert_eq!(PartitionState::decode(&state.encode()), Ok(state));
}

#[test]
fn layout_is_pinned() {
    let mut state = sample();
    state.in_flight.truncate(1);
    let hex: String = state.encode().iter().map(|b| format!("{b:02x}")).collect();
    let expected = [
        "01",
        "07070707070707070707070707070707",
        "08080808080808080808080808080808",
        "000b6875622d636c7573746572",
        "09090909090909090909090909090909",
        "010000000000000fa00002000000000000000a",
        "0000000000000014",
        "01deadbeef",
        "fffffffffffffffd",
        "000000000000001f",
        "01000000000000001400000000000000190000000000",
        "00001e0000000100000002",
        "0100000000000000140000000000000019",
    ]
    .concat();
    assert_eq!(hex, expected);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample().encode();
    for length in 0..bytes.len() {
        assert!(
            PartitionState::decode(&bytes[..length]).is_err(),
            "accepted {length} of {} bytes",
            bytes.len()
        );
    }
}

#[test]
fn a_plan_with_a_hole_is_refused() {
    let mut state = sample();
    state.in_flight[1].gap_from = 29;
    assert!(matches!(
        PartitionState::decode(&state.encode()),
        Err(StateError::Invalid {
            field: "batch start",
            ..
        })
    ));
}

#[test]
fn sequence_wraps_at_two_to_the_31() {
    let producer = Producer {
        id: 1,
        epoch: 0,
        sequence_base: 100,
    };
    assert_eq!(producer.sequence(100), 0);
    assert_eq!(producer.sequence(100 + 0x7fff_ffff), i32::MAX);
    assert_eq!(producer.sequence(100 + 0x8000_0000), 0);
}

#[test]
fn the_oldest_gap_is_forgotten_first() {
    let mut state = sample();
    for n in 0..200 {
        state.record_gap(n, n + 1);
    }
    assert_eq!(state.gaps.len(), MAX_RECORDED_GAPS);
    assert_eq!(state.gaps.last(), Some(&(199, 200)));
    assert_eq!(PartitionState::decode(&state.encode()), Ok(state));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut with_format = bytes.clone();
        with_format.insert(0, FORMAT);
        let _ = PartitionState::decode(&bytes);
        let _ = PartitionState::decode(&with_format);
    }
}
