use super::*;

fn json(
    value: Value,
    quality: Quality,
    status: Option<&'static str>,
    unit: Option<&str>,
) -> String {
    let reading = Reading {
        tag: Tag::new("press/temp", unit).unwrap(),
        value,
        timestamp_ms: 1_763_856_000_123,
        quality,
        status: status.map(Cow::Borrowed),
    };
    let mut out = Vec::new();
    reading.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_json_form_has_one_order_and_no_spaces() {
    assert_eq!(
        json(Value::from(21.1_f32), Quality::Good, None, Some("°C")),
        r#"{"value":21.1,"timestamp":1763856000123,"quality":"good","unit":"°C"}"#
    );
    assert_eq!(
        json(Value::Null, Quality::Bad, Some("timeout"), None),
        r#"{"value":null,"timestamp":1763856000123,"quality":"bad","status":"timeout"}"#
    );
}

#[test]
fn every_kind_of_value_has_a_form() {
    let value = |value: Value| {
        let text = json(value, Quality::Good, None, None);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        parsed["value"].clone()
    };
    assert_eq!(value(Value::Bool(true)), serde_json::json!(true));
    assert_eq!(
        value(Value::Unsigned(u64::MAX)),
        serde_json::json!(u64::MAX)
    );
    assert_eq!(value(Value::Signed(i64::MIN)), serde_json::json!(i64::MIN));
    assert_eq!(value(Value::Float(1e300)), serde_json::json!(1e300));
    assert_eq!(
        value(Value::Text("a\"\n".into())),
        serde_json::json!("a\"\n")
    );
    let list = Value::List(vec![Value::Signed(1), Value::List(vec![Value::Null])]);
    assert_eq!(value(list), serde_json::json!([1, [null]]));
}

#[test]
fn what_is_no_number_is_bad() {
    for (float, status) in [(f64::NAN, "not-a-number"), (f64::INFINITY, "infinite")] {
        let text = json(Value::Float(float), Quality::Good, None, None);
        let expected = format!(
            r#"{{"value":null,"timestamp":1763856000123,"quality":"bad","status":"{status}"}}"#
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn a_deep_list_ends_in_null() {
    let deep = (0..20).fold(Value::Signed(1), |inner, _| Value::List(vec![inner]));
    let text = json(deep, Quality::Good, None, None);
    assert!(text.contains(r#"[[[[[[[[null]]]]]]]]"#), "{text}");
}

#[test]
fn a_path_is_a_topic_name() {
    for path in ["", "a/+", "a/#", "a\0"] {
        assert!(Tag::new(path, None).is_err(), "{path:?}");
    }
}
