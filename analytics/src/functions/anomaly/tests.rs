use super::super::{Body, Call, Rows, find};
use super::{ALARM, AnomalyScore, WARM_UP};
use crate::column::Column;
use crate::state::{Decoder, Encoder};
use crate::value::DataType;

const MINUTE_MS: i64 = 60_000;

/// Deterministic noise of unit variance.
fn noise(seed: &mut u64) -> f64 {
    let mut uniform = || {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f64 / f64::from(1u32 << 24)
    };
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// The rows that alarm, of a series sampled every five minutes.
fn alarms(series: impl Iterator<Item = f64>) -> Vec<usize> {
    let mut score = AnomalyScore::new();
    series
        .enumerate()
        .filter(|&(row, x)| score.update(5 * MINUTE_MS * row as i64, x) >= ALARM)
        .map(|(row, _)| row)
        .collect()
}

#[test]
fn noise_seldom_alarms() {
    let mut seed = 1;
    let found = alarms((0..20_000).map(|_| noise(&mut seed)));
    assert!(found.len() <= 8, "{found:?}");
}

#[test]
fn a_spike_alarms_at_its_row_and_once() {
    let mut seed = 2;
    let found =
        alarms((0..4000).map(|row| noise(&mut seed) + if row == 3000 { 15.0 } else { 0.0 }));
    let near: Vec<usize> = found
        .into_iter()
        .filter(|row| (2990..3100).contains(row))
        .collect();
    assert_eq!(near, [3000]);
}

#[test]
fn a_shift_smaller_than_the_noise_alarms_within_hours() {
    let mut seed = 3;
    let found = alarms((0..4000).map(|row| noise(&mut seed) + if row >= 3000 { 3.0 } else { 0.0 }));
    assert!(
        found.iter().any(|row| (3000..3040).contains(row)),
        "{found:?}"
    );
}

#[test]
fn noise_that_doubles_alarms() {
    let mut seed = 4;
    let found = alarms((0..4000).map(|row| noise(&mut seed) * if row >= 3000 { 3.0 } else { 1.0 }));
    assert!(
        found.iter().any(|row| (3000..3060).contains(row)),
        "{found:?}"
    );
}

#[test]
fn a_daily_pattern_is_usual_and_its_absence_is_not() {
    let mut seed = 5;
    let day = |row: usize| {
        if (120..216).contains(&(row % 288)) {
            40.0
        } else {
            0.0
        }
    };
    let found = alarms((0..4032).map(|row| {
        let missing = (3168..3456).contains(&row);
        noise(&mut seed) + if missing { 0.0 } else { day(row) }
    }));
    let usual = found
        .iter()
        .filter(|row| (600..3168).contains(*row))
        .count();
    assert!(usual <= 4, "{found:?}");
    assert!(
        found.iter().any(|row| (3288..3456).contains(row)),
        "{found:?}"
    );
}

#[test]
fn the_first_change_of_a_constant_alarms_and_a_constant_does_not() {
    let found = alarms((0..1000).map(|row| if row == 700 { 5.1 } else { 5.0 }));
    assert_eq!(found.first(), Some(&700));
    assert!(alarms(std::iter::repeat_n(0.0, 1000)).is_empty());
}

#[test]
fn the_first_rows_and_bad_values_score_nothing() {
    let mut score = AnomalyScore::new();
    for row in 0..WARM_UP as i64 - 1 {
        assert_eq!(score.update(row, if row == 20 { 1e6 } else { 1.0 }), 0.0);
    }
    let before = score.clone();
    assert_eq!(score.update(99, f64::NAN), 0.0);
    assert_eq!(score.update(99, f64::INFINITY), 0.0);
    assert_eq!(score, before);
}

#[test]
fn extreme_values_leave_a_state_that_still_scores() {
    let mut score = AnomalyScore::new();
    let mut seed = 7;
    for row in 0..1000 {
        let x = [1e100, f64::MAX, 0.0, -1e100][row as usize % 4];
        let now = score.update(row, x);
        assert!((0.0..=1.0).contains(&now), "{row}: {now}");
    }
    let mut found = false;
    for row in 1000..30_000 {
        let x = noise(&mut seed) + if row == 29_000 { 1e101 } else { 0.0 };
        score.update(row, x);
    }
    for row in 30_000..30_100 {
        found |= score.update(row, 1e100) >= ALARM;
    }
    assert!(found);
}

#[test]
fn a_restart_changes_no_score() {
    let Body::Analytic(make) = find("anomaly_score").unwrap().body else {
        panic!("anomaly_score is analytic");
    };
    let call = Call {
        types: &[DataType::Float],
        constants: &[None],
    };
    let mut seed = 6;
    let values: Vec<f64> = (0..600).map(|_| noise(&mut seed)).collect();
    let keys = vec![1u32; 600];
    let times: Vec<i64> = (0..600).map(|row| row * MINUTE_MS).collect();
    let part = |from: usize, to: usize| (&keys[from..to], &times[from..to], &values[from..to]);
    let run = |detector: &mut dyn super::super::Detector, from, to| {
        let (groups, times, values) = part(from, to);
        detector.resize(2);
        let arguments = [Column::from_floats(values.to_vec(), None)];
        let scores = detector.update(Rows {
            groups,
            times,
            arguments: &arguments,
        });
        (0..to - from)
            .map(|row| scores.float(row))
            .collect::<Vec<_>>()
    };
    let mut whole = make(&call).unwrap();
    let expected = run(whole.as_mut(), 0, 600);
    let mut first = make(&call).unwrap();
    run(first.as_mut(), 0, 300);
    let mut out = Encoder::new();
    first.encode(1, &mut out);
    let bytes = out.into_bytes();
    let mut second = make(&call).unwrap();
    second.resize(2);
    for end in 0..bytes.len() {
        assert!(second.decode(1, &mut Decoder::new(&bytes[..end])).is_err());
    }
    second.decode(1, &mut Decoder::new(&bytes)).unwrap();
    assert_eq!(run(second.as_mut(), 300, 600), expected[300..]);
}

#[test]
fn a_spike_of_a_known_size_is_usual_and_a_larger_one_is_not() {
    // A pump that starts every eight hours, over a quiet signal; at the end a
    // start that draws five times as much.
    let mut seed = 8;
    let found = alarms((0..4000).map(|row| {
        let start = if row == 3936 {
            500.0
        } else if row % 96 == 0 {
            100.0
        } else {
            0.0
        };
        noise(&mut seed) * 0.5 + start
    }));
    let repeated = found
        .iter()
        .filter(|row| (960..3900).contains(*row))
        .count();
    assert!(repeated <= 3, "{found:?}");
    assert!(found.contains(&3936), "{found:?}");
}

#[test]
fn a_sensor_that_freezes_at_a_usual_value_alarms_within_rows() {
    let mut seed = 9;
    let mut frozen = 0.0;
    let found = alarms((0..4000).map(|row| {
        if row < 3000 {
            frozen = 20.0 + noise(&mut seed);
        }
        frozen
    }));
    assert!(
        found.iter().any(|row| (3003..3030).contains(row)),
        "{found:?}"
    );
    // Where values repeat all the time it means nothing.
    let coarse = alarms((0..4000).map(|_| (20.0 + noise(&mut seed)).round()));
    let settled = coarse.iter().filter(|row| **row >= 600).count();
    assert!(settled <= 4, "{coarse:?}");
}
