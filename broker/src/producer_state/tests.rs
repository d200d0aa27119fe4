use super::*;

const NOW: i64 = 1_000_000;

fn batch(first_sequence: i32, records: i32) -> SequencedBatch {
    SequencedBatch {
        producer_id: 9,
        epoch: 0,
        first_sequence,
        last_offset_delta: records - 1,
        crc: 0xabc,
    }
}

fn with_batches(batches: &[(i32, i32, i64)]) -> Producers<u32> {
    let mut producers = Producers::default();
    for &(first, records, offset) in batches {
        let batch = batch(first, records);
        assert_eq!(producers.check(&batch, NOW), Ok(Verdict::Append));
        producers.record(&batch, offset, -1, NOW, Some(1));
    }
    producers
}

fn duplicate_offset(producers: &Producers<u32>, batch: &SequencedBatch) -> Option<i64> {
    match producers.check(batch, NOW) {
        Ok(Verdict::Duplicate(known)) => Some(known.base_offset),
        _ => None,
    }
}

#[test]
fn each_of_the_last_five_batches_is_answered_with_its_offset() {
    let producers = with_batches(&[
        (0, 2, 10),
        (2, 1, 12),
        (3, 4, 13),
        (7, 1, 17),
        (8, 1, 18),
        (9, 1, 19),
    ]);
    for (first, records, offset) in [(2, 1, 12), (3, 4, 13), (7, 1, 17), (8, 1, 18), (9, 1, 19)] {
        assert_eq!(
            duplicate_offset(&producers, &batch(first, records)),
            Some(offset)
        );
    }
    assert_eq!(
        producers.check(&batch(0, 2), NOW),
        Err(SequenceError::OutOfOrder {
            producer_id: 9,
            found: 0,
            expected: 10
        })
    );
}

#[test]
fn a_retry_with_other_boundaries_is_not_a_duplicate() {
    let producers = with_batches(&[(0, 3, 0)]);
    assert_eq!(
        producers.check(&batch(0, 2), NOW),
        Err(SequenceError::OutOfOrder {
            producer_id: 9,
            found: 0,
            expected: 3
        })
    );
}

#[test]
fn a_hole_in_the_sequence_is_refused() {
    let producers = with_batches(&[(0, 3, 0)]);
    assert_eq!(
        producers.check(&batch(4, 1), NOW),
        Err(SequenceError::OutOfOrder {
            producer_id: 9,
            found: 4,
            expected: 3
        })
    );
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    assert_eq!(
        Producers::<u32>::default().check(&batch(77, 1), NOW),
        Ok(Verdict::Append)
    );
}

#[test]
fn sequences_wrap_to_zero() {
    let mut producers = with_batches(&[(i32::MAX - 1, 2, 0)]);
    assert_eq!(producers.check(&batch(0, 1), NOW), Ok(Verdict::Append));
    let across = SequencedBatch {
        producer_id: 10,
        ..batch(i32::MAX, 3)
    };
    producers.record(&across, 2, -1, NOW, None);
    let next = SequencedBatch {
        producer_id: 10,
        ..batch(2, 1)
    };
    assert_eq!(producers.check(&next, NOW), Ok(Verdict::Append));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
    let mut producers = with_batches(&[(0, 3, 0)]);
    let bumped = |first| SequencedBatch {
        epoch: 1,
        ..batch(first, 1)
    };
    assert_eq!(
        producers.check(&bumped(3), NOW),
        Err(SequenceError::OutOfOrder {
            producer_id: 9,
            found: 3,
            expected: 0
        })
    );
    assert_eq!(producers.check(&bumped(0), NOW), Ok(Verdict::Append));
    producers.record(&bumped(0), 3, -1, NOW, None);
    assert_eq!(
        producers.check(&batch(3, 1), NOW),
        Err(SequenceError::StaleEpoch {
            producer_id: 9,
            epoch: 0,
            current: 1
        })
    );
}

#[test]
fn a_silent_producer_expires_after_a_day() {
    let producers = with_batches(&[(0, 3, 0)]);
    assert_eq!(
        producers.check(&batch(50, 1), NOW + PRODUCER_EXPIRY_MS + 1),
        Ok(Verdict::Append)
    );
    assert!(
        producers
            .check(&batch(50, 1), NOW + PRODUCER_EXPIRY_MS)
            .is_err()
    );
}

#[test]
fn the_longest_silent_producer_gives_way() {
    let mut producers = Producers::<u32>::default();
    for id in 0..=MAX_PRODUCERS as i64 {
        let batch = SequencedBatch {
            producer_id: id,
            ..batch(0, 1)
        };
        producers.record(&batch, id, -1, NOW + id, None);
    }
    assert_eq!(producers.len(), MAX_PRODUCERS);
    let first = SequencedBatch {
        producer_id: 0,
        ..batch(5, 1)
    };
    assert_eq!(
        producers.check(&first, NOW),
        Ok(Verdict::Append),
        "producer 0 is forgotten"
    );
    let second = SequencedBatch {
        producer_id: 1,
        ..batch(5, 1)
    };
    assert!(
        producers.check(&second, NOW).is_err(),
        "producer 1 is still known"
    );
}

#[test]
fn a_snapshot_restores_everything_but_tickets() {
    let mut producers = with_batches(&[(0, 2, 10), (2, 1, 12)]);
    let bytes = producers.snapshot(13);
    for producer in producers.by_id.values_mut() {
        producer.window.iter_mut().for_each(|b| b.ticket = None);
    }
    assert_eq!(Producers::restore(&bytes), Ok((producers, 13)));
    for len in 0..bytes.len() {
        assert!(Producers::<u32>::restore(&bytes[..len]).is_err(), "{len}");
    }
}
