//! The detectors as a query calls them, and their restart.

use super::super::super::{ArgumentError, Body, Call, Detector, Rows, find};
use crate::column::Column;
use crate::state::{Decoder, Encoder};
use crate::value::{DataType, Value};

fn make(name: &str, constants: &[Value]) -> Result<Box<dyn Detector>, ArgumentError> {
    let constants: Vec<Option<Value>> = std::iter::once(None)
        .chain(constants.iter().cloned().map(Some))
        .collect();
    let types = vec![DataType::Float; constants.len()];
    let call = Call {
        types: &types,
        constants: &constants,
    };
    match find(name).unwrap().body {
        Body::Analytic(make) => make(&call),
        _ => panic!("{name} is not analytic"),
    }
}

/// Two keys, the second with the values of the first times ten.
fn run(detector: &mut dyn Detector, from: usize, values: &[Option<f64>]) -> Vec<Option<f64>> {
    detector.resize(2);
    let groups: Vec<u32> = (0..2 * values.len() as u32).map(|row| row % 2).collect();
    let times: Vec<i64> = (0..2 * values.len())
        .map(|row| 1000 * (from + row / 2) as i64)
        .collect();
    let both = values.iter().flat_map(|x| [*x, x.map(|x| 10.0 * x)]);
    let answers = detector.update(Rows {
        groups: &groups,
        times: &times,
        arguments: &[Column::from_optional_floats(both)],
    });
    (0..groups.len()).map(|row| answers.float(row)).collect()
}

fn calls() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("ewma", vec![Value::Float(0.25)]),
        ("ewma_by_time", vec![Value::Interval(3000)]),
        ("cusum", vec![Value::Float(3.0), Value::Float(0.5)]),
        ("page_hinkley", vec![Value::Float(0.1)]),
        ("hampel", vec![Value::Int(5)]),
        ("hampel", vec![Value::Int(5), Value::Float(1.0)]),
        ("hampel_score", vec![Value::Int(7)]),
        ("anomaly_score", vec![]),
    ]
}

fn values() -> Vec<Option<f64>> {
    (0..160)
        .map(|row| {
            (row % 9 != 4).then(|| f64::from(row * 37 % 11) + if row == 140 { 90.0 } else { 0.0 })
        })
        .collect()
}

#[test]
fn a_restart_and_other_batches_change_no_answer() {
    let values = values();
    for (name, constants) in calls() {
        let mut whole = make(name, &constants).unwrap();
        let expected = run(whole.as_mut(), 0, &values);
        let mut first = make(name, &constants).unwrap();
        let mut answers = run(first.as_mut(), 0, &values[..33]);
        let mut second = make(name, &constants).unwrap();
        second.resize(2);
        for key in 0..2 {
            let mut out = Encoder::new();
            first.encode(key, &mut out);
            let bytes = out.into_bytes();
            for end in 0..bytes.len() {
                assert!(
                    second
                        .decode(key, &mut Decoder::new(&bytes[..end]))
                        .is_err()
                );
            }
            let mut input = Decoder::new(&bytes);
            second.decode(key, &mut input).unwrap();
            assert_eq!(input.remaining(), 0, "{name}");
        }
        answers.extend(run(second.as_mut(), 33, &values[33..]));
        assert_eq!(answers, expected, "{name}");
        assert!(expected.iter().flatten().any(|x| *x != 0.0), "{name}");
    }
}

#[test]
fn a_null_row_is_null_and_changes_nothing() {
    for (name, constants) in calls() {
        let mut with = make(name, &constants).unwrap();
        let mut without = make(name, &constants).unwrap();
        let answers = run(
            with.as_mut(),
            0,
            &[Some(1.0), None, Some(2.0), Some(5.0), Some(4.0)],
        );
        assert_eq!(&answers[2..4], [None, None], "{name}");
        if name != "ewma_by_time" {
            let expected = run(
                without.as_mut(),
                0,
                &[Some(1.0), Some(2.0), Some(5.0), Some(4.0)],
            );
            assert_eq!(answers[4..], expected[2..], "{name}");
        }
    }
}

#[test]
fn a_cleared_key_begins_anew_and_the_other_goes_on() {
    for (name, constants) in calls() {
        let mut detector = make(name, &constants).unwrap();
        let first = run(detector.as_mut(), 0, &values());
        let held = detector.memory_bytes();
        assert!(held > 0, "{name}");
        detector.clear(&[0]);
        let again = run(detector.as_mut(), 0, &values());
        let key = |answers: &[Option<f64>], key: usize| -> Vec<Option<f64>> {
            answers.iter().skip(key).step_by(2).copied().collect()
        };
        assert_eq!(key(&again, 0), key(&first, 0), "{name}");
        // Without outliers `hampel` answers with its argument.
        if name != "hampel" {
            assert_ne!(key(&again, 1), key(&first, 1), "{name}");
        }
    }
}

#[test]
fn hampel_replaces_what_is_beyond_its_limit() {
    let series = [1.0, 2.0, 3.0, 2.0, 50.0, 2.0].map(Some);
    let cleaned = run(
        make("hampel", &[Value::Int(5)]).unwrap().as_mut(),
        0,
        &series,
    );
    let first: Vec<f64> = cleaned.iter().step_by(2).flatten().copied().collect();
    assert_eq!(first, [1.0, 2.0, 3.0, 2.0, 2.0, 2.0]);
}

#[test]
fn constants_out_of_range_are_refused_by_name() {
    for (name, constants, message) in [
        (
            "ewma",
            vec![Value::Float(0.0)],
            "weight is 0, expected a number above 0 and up to 1",
        ),
        (
            "ewma",
            vec![Value::Float(1.5)],
            "weight is 1.5, expected a number above 0 and up to 1",
        ),
        (
            "hampel",
            vec![Value::Int(2)],
            "window is 2, expected a number of rows from 3 to 1024",
        ),
        (
            "cusum",
            vec![Value::Float(1.0), Value::Float(-1.0)],
            "slack is -1, expected a number from 0 on in the unit of x",
        ),
        (
            "ewma_by_time",
            vec![Value::Interval(0)],
            "time_constant is not a positive interval, expected an interval, as INTERVAL '5 minutes'",
        ),
    ] {
        assert_eq!(make(name, &constants).err().unwrap().to_string(), message);
    }
}
