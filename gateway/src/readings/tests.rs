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

#[tokio::test]
async fn readings_of_a_wrong_clock_are_marked_and_those_of_a_device_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = forebay_storage::Config::new(dir.path());
    config.preallocation = forebay_storage::Preallocation::None;
    config.retention.keep_free = 0;
    config.ballast_bytes = 0;
    let disk = Arc::new(forebay_storage::disk::RealDisk::new());
    let (storage, _) = forebay_storage::Storage::open(config, disk).unwrap();
    let system = crate::clock::tests::Sample::default();
    let clock = system.clock("boot-1");
    let routes = Arc::new(crate::ingest::routes::Routes::default());
    let publisher = Publisher::with_clock(storage.clone(), routes, clock.clone());
    let own = Tag::new("press/temp", None).unwrap();
    let device = Tag::with_device_time("press/rpm", None).unwrap();
    let reading = |tag: &Arc<Tag>, timestamp_ms| Reading {
        tag: Arc::clone(tag),
        value: Value::Signed(1),
        timestamp_ms,
        quality: Quality::Good,
        status: None,
    };
    let now = 1_763_856_000_000;
    let early = [reading(&own, 0), reading(&device, now)];
    publisher.publish(&early).await.unwrap();
    system.synchronise(now);
    clock.look().unwrap();
    let late = [reading(&own, 0), reading(&device, 7)];
    let ticket = publisher.publish(&late).await.unwrap();
    publisher.durable(ticket).await;

    let partition = storage.topic("readings").unwrap().partition(0).unwrap();
    let chunk = partition.read(0, 1 << 20, true).unwrap();
    let batches = chunk.batches.iter();
    let records = batches.flat_map(|batch| forebay_records::records(batch, 1 << 20).unwrap());
    let found: Vec<(i64, Option<String>)> = records
        .map(|record| {
            let record = record.unwrap();
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            assert_eq!(value["timestamp"], record.timestamp);
            let header = record.headers.first().and_then(|one| one.value.clone());
            let text = header.map(|value| String::from_utf8(value.to_vec()).unwrap());
            (record.timestamp, text)
        })
        .collect();
    let marked = Some("unsynchronised boot=boot-1 monotonic_ms=0".to_owned());
    let expected = [
        (0, marked),
        (now, None),
        (now, Some("corrected".to_owned())),
        (7, None),
    ];
    assert_eq!(found, expected);
}
