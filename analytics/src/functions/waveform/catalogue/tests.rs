//! The functions as a query calls them: names, order of arguments, nulls.

use std::f64::consts::{SQRT_2, TAU};

use super::super::super::{ArgumentError, Body, Call, Kernel, find};
use crate::column::Column;
use crate::value::{DataType, Value, Waveform};

const RATE: f64 = 12_000.0;

fn make(name: &str, arguments: &[Value]) -> Result<Box<dyn Kernel>, ArgumentError> {
    let types: Vec<DataType> = arguments.iter().map(Value::data_type).collect();
    let constants: Vec<Option<Value>> = arguments
        .iter()
        .map(|it| (it.data_type() != DataType::Waveform).then(|| it.clone()))
        .collect();
    let call = Call {
        types: &types,
        constants: &constants,
    };
    match find(name).unwrap().body {
        Body::Scalar(make) => make(&call),
        _ => panic!("{name} is no scalar function"),
    }
}

fn call(name: &str, arguments: &[Value]) -> Value {
    let mut kernel = make(name, arguments).unwrap();
    let columns: Vec<Column> = arguments.iter().map(|it| Column::repeat(it, 2)).collect();
    let answer = kernel.evaluate(&columns, 2);
    assert_eq!(answer.len(), 2);
    assert_eq!(answer.value(0), answer.value(1));
    answer.value(0)
}

fn number(name: &str, arguments: &[Value]) -> f64 {
    let value = call(name, arguments);
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{name}: {value:?}"))
}

fn near(actual: f64, expected: f64, relative: f64) {
    assert!(
        (actual - expected).abs() <= relative * expected.abs(),
        "{actual} instead of {expected}"
    );
}

fn wave(of: impl Fn(f64) -> f64) -> Value {
    let samples = (0..12_000).map(|i| of(f64::from(i) / RATE)).collect();
    Value::Waveform(Waveform::new(samples))
}

fn sine(amplitude: f64, hz: f64) -> Value {
    wave(|t| amplitude * (TAU * hz * t).sin())
}

#[test]
fn levels_are_those_of_a_sine() {
    let w = [sine(2.0, 100.0)];
    near(number("waveform_rms", &w), SQRT_2, 1e-6);
    near(number("waveform_peak", &w), 2.0, 1e-6);
    near(number("waveform_peak_to_peak", &w), 4.0, 1e-6);
    near(number("waveform_crest_factor", &w), SQRT_2, 1e-6);
    near(number("waveform_kurtosis", &w), 1.5, 1e-6);
    assert!(number("waveform_mean", &w).abs() < 1e-9);
    assert!(number("waveform_skew", &w).abs() < 1e-6);
}

#[test]
fn spectral_functions_take_rate_then_band_or_order() {
    let w = wave(|t| 3.0 * (TAU * 50.0 * t).sin() + (TAU * 400.0 * t).sin());
    let with = |more: &[f64]| -> Vec<Value> {
        let numbers = more.iter().map(|&x| Value::Float(x));
        [w.clone(), Value::Float(RATE)]
            .into_iter()
            .chain(numbers)
            .collect()
    };
    near(number("band_energy", &with(&[300.0, 500.0])), 0.5, 1e-3);
    near(
        number("band_rms", &with(&[300.0, 500.0])),
        1.0 / SQRT_2,
        1e-3,
    );
    near(number("order_amplitude", &with(&[3000.0, 1.0])), 3.0, 1e-3);
    near(number("order_amplitude", &with(&[3000.0, 8.0])), 1.0, 1e-3);
    let ranked = |name: &str, rank: i64, more: &[f64]| {
        let mut arguments = with(&[]);
        arguments.push(Value::Int(rank));
        arguments.extend(more.iter().map(|&x| Value::Float(x)));
        call(name, &arguments)
    };
    let as_number = |value: Value| value.as_f64().unwrap();
    near(as_number(ranked("peak_frequency", 1, &[])), 50.0, 1e-4);
    near(as_number(ranked("peak_frequency", 2, &[])), 400.0, 1e-4);
    near(as_number(ranked("peak_amplitude", 2, &[])), 1.0, 1e-3);
    near(
        as_number(ranked("peak_frequency", 1, &[100.0, 1000.0])),
        400.0,
        1e-4,
    );
    assert_eq!(ranked("peak_frequency", 0, &[]), Value::Null);
    assert_eq!(ranked("peak_frequency", 65, &[]), Value::Null);
    let Value::Waveform(lines) = call("spectrum", &with(&[])) else {
        panic!("a spectrum is a list");
    };
    assert_eq!(lines.samples().len(), 6001);
    near(lines.samples()[400], 1.0, 1e-3);
}

#[test]
fn velocity_is_in_millimetres_per_second_for_each_unit() {
    // 1 m/s^2 at w = 1000/s is 1 mm/s of amplitude.
    let hz = 1000.0 / TAU;
    for (unit, scale) in [("m/s2", 1.0), ("mm/s2", 1000.0), ("g", 1.0 / 9.806_65)] {
        let arguments = [sine(scale, hz), Value::Float(RATE), Value::text(unit)];
        near(number("velocity_rms", &arguments), 1.0 / SQRT_2, 1e-3);
        let Value::Waveform(velocity) = call("velocity", &arguments) else {
            panic!("a velocity is a block");
        };
        near(-velocity.samples()[6000], (hz * TAU * 0.5).cos(), 0.05);
    }
    let outside = [
        sine(1.0, hz),
        Value::Float(RATE),
        Value::text("m/s2"),
        Value::Float(300.0),
        Value::Float(2000.0),
    ];
    assert!(number("velocity_rms", &outside) < 1e-3);
    let wrong = make(
        "velocity_rms",
        &[sine(1.0, hz), Value::Float(RATE), Value::text("ips")],
    );
    assert_eq!(
        wrong.err().unwrap().to_string(),
        "unit is \"ips\", expected 'g', 'm/s2' or 'mm/s2'"
    );
}

#[test]
fn zones_follow_the_group_and_the_foundation() {
    let zone = |v: f64, group: &str, foundation: &str| {
        call(
            "iso20816_zone",
            &[Value::Float(v), Value::text(group), Value::text(foundation)],
        )
    };
    assert_eq!(zone(3.0, "group-1", "rigid"), Value::text("B"));
    assert_eq!(zone(3.0, "group-1", "flexible"), Value::text("A"));
    assert_eq!(zone(3.0, "group-2", "rigid"), Value::text("C"));
    assert_eq!(zone(-1.0, "group-2", "rigid"), Value::Null);
    for (group, foundation) in [("group-7", "rigid"), ("group-1", "soft")] {
        let arguments = [
            Value::Float(1.0),
            Value::text(group),
            Value::text(foundation),
        ];
        assert!(make("iso20816_zone", &arguments).is_err());
    }
    let own = [2.0, 1.0, 1.5, 3.0].map(Value::Float);
    assert_eq!(call("severity_zone", &own), Value::text("C"));
}

#[test]
fn bearing_functions_take_the_speed_and_then_the_measures() {
    let bearing = [9.0, 7.94, 39.04].map(Value::Float);
    let at = |name: &str| {
        let mut arguments = vec![Value::Float(1797.0)];
        arguments.extend(bearing.clone());
        number(name, &arguments)
    };
    // The publisher gives multiples of the shaft frequency of 29.95 Hz.
    near(at("bpfi"), 5.4152 * 29.95, 1e-4);
    near(at("bpfo"), 3.5848 * 29.95, 1e-4);
    near(at("bsf"), 4.7135 / 2.0 * 29.95, 1e-4);
    near(at("ftf"), 0.398_28 * 29.95, 1e-4);
    let struck = wave(|t| {
        let since = t % (1.0 / 107.36);
        let hiss = (t * 1e4 * 12.9898).sin() * 43_758.545;
        (-since * 800.0).exp() * (TAU * 3400.0 * since).sin() + hiss.fract() * 0.3
    });
    let mut arguments = vec![struck.clone(), Value::Float(RATE), Value::Float(1797.0)];
    arguments.extend(bearing.clone());
    assert!(number("bearing_score", &arguments) > 10.0);
    assert_eq!(call("bearing_fault", &arguments), Value::text("outer race"));
    let line = [struck.clone(), Value::Float(RATE), Value::Float(107.36)];
    near(
        number("fault_score", &line),
        number("bearing_score", &arguments),
        0.05,
    );
    assert!(number("envelope_energy", &line) > 1e-4);
    let Value::Waveform(lines) = call("envelope_spectrum", &[struck, Value::Float(RATE)]) else {
        panic!("a spectrum is a list");
    };
    let at = |hz: usize| lines.samples()[hz];
    assert!(at(107) > 10.0 * at(80), "{} {}", at(107), at(80));
}

#[test]
fn null_in_is_null_out() {
    let w = sine(1.0, 100.0);
    assert_eq!(call("waveform_rms", &[Value::Null]), Value::Null);
    assert_eq!(
        call(
            "band_energy",
            &[w.clone(), Value::Null, Value::Float(1.0), Value::Float(9.0)]
        ),
        Value::Null
    );
    assert_eq!(
        call(
            "order_amplitude",
            &[
                w.clone(),
                Value::Float(RATE),
                Value::Null,
                Value::Float(1.0)
            ]
        ),
        Value::Null
    );
    assert_eq!(
        call(
            "bpfo",
            &[
                Value::Null,
                Value::Float(9.0),
                Value::Float(1.0),
                Value::Float(5.0)
            ]
        ),
        Value::Null
    );
    let empty = Value::Waveform(Waveform::new(Vec::new()));
    assert_eq!(
        call("waveform_rms", std::slice::from_ref(&empty)),
        Value::Null
    );
    assert_eq!(call("spectrum", &[empty, Value::Float(RATE)]), Value::Null);
}
