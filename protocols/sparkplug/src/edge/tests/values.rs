//! What a metric of a payload becomes.

use super::*;
use crate::payload::{Property, PropertyValue, Template};

#[test]
fn time_comes_from_the_metric_then_the_payload_then_the_arrival() {
    let mut script = Script::new();
    script.node_birth(0);
    let timed = |timestamp| Metric {
        timestamp,
        ..by_alias(1, RawValue::Double(1.0))
    };
    let payload = data(1, vec![timed(Some(5)), timed(None), timed(Some(u64::MAX))]);
    let times: Vec<i64> = script
        .send(MessageKind::NodeData, None, payload)
        .into_iter()
        .map(|seen| seen.2)
        .collect();
    assert_eq!(times, [5, 1_001, 1_001]);
    let untimed = Payload {
        timestamp: None,
        ..data(2, vec![timed(None)])
    };
    assert_eq!(
        script.send(MessageKind::NodeData, None, untimed)[0].2,
        10_000
    );
}

#[test]
fn an_alias_of_two_metrics_attributes_nothing() {
    let mut script = Script::new();
    let metric = |name| Metric {
        alias: Some(1),
        ..named(name, DataType::Double, RawValue::Double(1.0))
    };
    let birth = Payload {
        seq: Some(0),
        metrics: vec![metric("a"), metric("b")],
        ..Payload::default()
    };
    assert_eq!(script.send(MessageKind::NodeBirth, None, birth).len(), 2);
    assert_eq!(script.temp(1, 2.0), []);
    assert_eq!(script.machine.counts().unknown_metrics, 1);
}

#[test]
fn a_metric_without_a_birth_counts_when_it_names_itself() {
    let mut script = Script::new();
    script.node_birth(0);
    let payload = data(1, vec![named("new", DataType::UInt8, RawValue::Int(3))]);
    assert_eq!(
        script.send(MessageKind::NodeData, None, payload),
        [good("G/E/new", Value::Unsigned(3), 1_001)]
    );
    assert!(script.machine.wants_rebirth());
    assert!(script.death(0).contains(&gone("G/E/new", 10_000)));
}

#[test]
fn qualities_nulls_and_types_that_do_not_fit() {
    let mut script = Script::new();
    script.node_birth(0);
    let quality = |code: u32| Metric {
        properties: vec![Property {
            key: "Quality",
            datatype: Some(DataType::Int32 as u32),
            value: Some(PropertyValue::Plain(RawValue::Int(code))),
        }],
        ..by_alias(1, RawValue::Double(1.0))
    };
    let payload = data(
        1,
        vec![
            quality(192),
            quality(0),
            quality(500),
            quality(64),
            Metric {
                is_null: true,
                ..by_alias(1, RawValue::Double(1.0))
            },
            by_alias(1, RawValue::String("warm")),
        ],
    );
    let seen = script.send(MessageKind::NodeData, None, payload);
    let seen: Vec<(Value, SampleQuality)> = seen.into_iter().map(|s| (s.1, s.3)).collect();
    assert_eq!(
        seen,
        [
            (Value::Double(1.0), SampleQuality::Good),
            (Value::Null, SampleQuality::Bad),
            (Value::Null, SampleQuality::Stale),
            (Value::Double(1.0), SampleQuality::Uncertain),
            (Value::Null, SampleQuality::Good),
            (Value::Null, SampleQuality::TypeMismatch),
        ]
    );
}

#[test]
fn members_of_a_template_are_metrics_below_it() {
    let mut script = Script::new();
    let pump = |rpm| Metric {
        alias: Some(4),
        timestamp: Some(77),
        ..named(
            "line/pump",
            DataType::Template,
            RawValue::Template(Template {
                template_ref: Some("Pump"),
                metrics: vec![named("rpm", DataType::Int16, RawValue::Int(rpm))],
                ..Template::default()
            }),
        )
    };
    let definition = named(
        "Pump",
        DataType::Template,
        RawValue::Template(Template {
            is_definition: true,
            metrics: vec![named("rpm", DataType::Int16, RawValue::Int(0))],
            ..Template::default()
        }),
    );
    let birth = Payload {
        seq: Some(0),
        metrics: vec![long("bdSeq", 0), definition, pump(900)],
        ..Payload::default()
    };
    let rpm = |value| [good("G/E/line/pump/rpm", Value::Signed(value), 77)];
    assert_eq!(script.send(MessageKind::NodeBirth, None, birth), rpm(900));
    script.restart();
    let change = Metric {
        name: None,
        ..pump(950)
    };
    assert_eq!(
        script.send(MessageKind::NodeData, None, data(1, vec![change])),
        rpm(950)
    );
    assert_eq!(script.death(0), [gone("G/E/line/pump/rpm", 10_000)]);
}

#[test]
fn paths_replace_what_a_topic_name_cannot_have() {
    let mut script = Script::new();
    let birth = Payload {
        seq: Some(0),
        metrics: vec![named("a+b/#\u{7}", DataType::UInt8, RawValue::Int(1))],
        ..Payload::default()
    };
    assert_eq!(
        script.send(MessageKind::NodeBirth, None, birth)[0].0,
        "G/E/a_b/__"
    );
}
