use super::*;
use crate::bind::plan;
use crate::value::Value;

fn record<'a>(path: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        topic: "telemetry",
        partition: 3,
        offset: 42,
        timestamp_ms: 1_000,
        path,
        headers: &[("unit", b"mm/s")],
        payload,
    }
}

fn decode(text: &str, records: &[Record<'_>]) -> (Decoded, DecodeCounts, Vec<String>) {
    let plan = plan(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut router = Router::new(&plan.scans);
    let mut decoder = ScanDecoder::new(&plan.scans[0]);
    router.begin();
    let paths: Vec<u32> = records
        .iter()
        .map(|record| router.place(record.path))
        .collect();
    let chosen: Vec<u32> = (0..records.len())
        .filter(|index| router.wants(0, paths[*index], records[*index].topic))
        .map(|index| index as u32)
        .collect();
    let decoded = decoder.decode(records, &chosen, &paths, router.words());
    let names = plan.scans[0]
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    (decoded, decoder.counts, names)
}

fn values(decoded: &Decoded, row: usize) -> Vec<Value> {
    decoded
        .batch
        .columns()
        .iter()
        .map(|column| column.value(row))
        .collect()
}

#[test]
fn wanted_places_are_found_and_the_rest_is_skipped() {
    let payload = br#" {"skip":{"a":[1,"]}",{"b":null}]},"name":"p\u00fc\"mp","deep":{"x":[10,-2.5e1,{"y":true}]},
        "raw":{"k":[1, 2]},"n":7.0,"at":"1970-01-01T00:00:09Z","wave":[1,2.5, -3],"name":"second"} "#;
    let (decoded, counts, _) = decode(
        "CREATE STREAM s (name text, deep.n double, n bigint, at timestamp, wave waveform) FROM 'a/#' TIMESTAMP BY at;
         SELECT name, n, at, wave FROM s",
        &[record("a/b", payload)],
    );
    assert_eq!(
        values(&decoded, 0),
        [
            Value::text("pü\"mp"),
            Value::Int(7),
            Value::Timestamp(9_000),
            Value::Waveform(Waveform::new(vec![1.0, 2.5, -3.0])),
        ]
    );
    assert_eq!(decoded.times, [9_000]);
    assert_eq!(
        counts,
        DecodeCounts {
            rows: 1,
            ..DecodeCounts::default()
        }
    );
    let (decoded, ..) = decode(
        "SELECT deep.x[1] + 0 AS x, deep.x[2].y AND true AS y, raw, missing FROM \"a/#\"",
        &[record("a/b", payload)],
    );
    assert_eq!(
        values(&decoded, 0),
        [
            Value::Float(-25.0),
            Value::Bool(true),
            Value::text("{\"k\":[1, 2]}"),
            Value::Null
        ]
    );
}

#[test]
fn a_value_of_another_type_is_null_and_counted() {
    let rows = [
        record("a", br#"{"x":"12","n":1.5,"b":2}"#),
        record("a", br#"{"x":1e999,"n":1e3,"b":1}"#),
        record("a", br#"{"x":null,"n":true}"#),
        record("a", br#"{"x":[1],"n":-9223372036854775808,"b":"true"}"#),
    ];
    let (decoded, counts, _) = decode(
        "CREATE STREAM s (x double, n bigint, b boolean) FROM 'a'; SELECT x, n, b FROM s",
        &rows,
    );
    assert_eq!(values(&decoded, 0), [Value::Null, Value::Null, Value::Null]);
    assert_eq!(
        values(&decoded, 1),
        [Value::Null, Value::Int(1_000), Value::Bool(true)]
    );
    assert_eq!(
        values(&decoded, 2),
        [Value::Null, Value::Int(1), Value::Null]
    );
    assert_eq!(
        values(&decoded, 3),
        [Value::Null, Value::Int(i64::MIN), Value::Null]
    );
    assert_eq!(
        (counts.rows, counts.mismatched, counts.malformed),
        (4, 6, 0)
    );
}

#[test]
fn malformed_payloads_are_left_out_and_counted() {
    let bad: [&[u8]; 9] = [
        b"",
        b"{",
        b"{\"x\"",
        b"{\"y\":1",
        b"{\"y\":1,}",
        b"{\"y\" 1}",
        b"{\"y\":1}}",
        b"nul",
        b"{\"y\":\"\\",
    ];
    let mut rows: Vec<Record<'_>> = bad.iter().map(|payload| record("a", payload)).collect();
    rows.push(record("a", b"{\"x\":5}"));
    let (decoded, counts, _) = decode("SELECT x + 0, z + 0 FROM \"a\"", &rows);
    assert_eq!(decoded.records, [9]);
    assert_eq!((counts.rows, counts.malformed), (1, 9));
    assert_eq!(values(&decoded, 0), [Value::Float(5.0), Value::Null]);
}

#[test]
fn every_prefix_of_a_payload_is_survived() {
    let payload = br#"{"a":{"b":[1,{"c":"x\ud83d\ude00y"}]},"d":-1.5e3,"e":"\n"}"#;
    for end in 0..payload.len() {
        let (decoded, counts, _) = decode(
            "SELECT a.b[1].c, d + 0, e, nothing FROM \"a\"",
            &[record("a", &payload[..end])],
        );
        assert_eq!((decoded.records.len(), counts.malformed), (0, 1), "{end}");
    }
    let nested = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    let (_, counts, _) = decode("SELECT a.b + 0 FROM \"a\"", &[record("a", &nested)]);
    assert_eq!(counts.rows, 1);
}

#[test]
fn formats_other_than_json_are_one_column() {
    let number = "CREATE STREAM s FROM 'a' FORMAT number; SELECT value FROM s";
    let (decoded, counts, _) = decode(number, &[record("a", b" 21.5 "), record("a", b"hot")]);
    assert_eq!(values(&decoded, 0), [Value::Float(21.5)]);
    assert_eq!(values(&decoded, 1), [Value::Null]);
    assert_eq!(counts.mismatched, 1);
    let wave = "CREATE STREAM s FROM 'a' FORMAT waveform f32le; SELECT value FROM s";
    let samples: Vec<u8> = [1.5_f32, -2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bad: Vec<u8> = [f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
    let (decoded, counts, _) = decode(
        wave,
        &[
            record("a", &samples),
            record("a", b"123"),
            record("a", &bad),
        ],
    );
    assert_eq!(
        values(&decoded, 0),
        [Value::Waveform(Waveform::new(vec![1.5, -2.0]))]
    );
    assert_eq!(values(&decoded, 1), [Value::Null]);
    assert_eq!((counts.malformed, counts.mismatched), (1, 1));
    let large = vec![0_u8; PAYLOAD_BYTES_MAX + 4];
    let (decoded, counts, _) = decode(wave, &[record("a", &large)]);
    assert_eq!((decoded.records.len(), counts.malformed), (0, 1));
}

#[test]
fn a_ten_megabyte_payload_is_read_and_its_waveform_is_bounded() {
    let mut payload = b"{\"wave\":[".to_vec();
    for _ in 0..2_000_000 {
        payload.extend_from_slice(b"1.25,");
    }
    payload.extend_from_slice(b"0],\"x\":3}");
    let (decoded, counts, _) = decode(
        "CREATE STREAM s (wave waveform, x double) FROM 'a'; SELECT wave, x FROM s",
        &[record("a", &payload)],
    );
    assert_eq!(values(&decoded, 0), [Value::Null, Value::Float(3.0)]);
    assert_eq!(counts.mismatched, 1);
}

#[test]
fn record_columns_and_levels() {
    let (decoded, _, names) = decode(
        "CREATE STREAM s FROM 'plant/{site}/#';
         SELECT path, site, path_level(4) AS l, topic, \"partition\", \"offset\", record_time, event_time, header('unit') AS u, payload FROM s",
        &[
            record("plant/north/x/y", b"{}"),
            record("office/a", b"{}"),
            record("plant/south", b"{ }"),
        ],
    );
    let mut row = values(&decoded, 0);
    assert_eq!(names[0], "path");
    assert_eq!(
        row.drain(..4).collect::<Vec<_>>(),
        ["plant/north/x/y", "north", "y", "telemetry"].map(Value::text)
    );
    assert_eq!(
        row,
        [
            Value::Int(3),
            Value::Int(42),
            Value::Timestamp(1_000),
            Value::Timestamp(1_000),
            Value::text("mm/s"),
            Value::text("{}"),
        ]
    );
    assert_eq!(decoded.records, [0, 2]);
    assert_eq!(values(&decoded, 1)[2], Value::Null);
}

#[test]
fn filters_follow_mqtt() {
    for (filter, path, expected) in [
        ("a/+/c", "a/b/c", true),
        ("a/{x}/c", "a/b/c", true),
        ("a/+", "a/b/c", false),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("#", "$SYS/x", false),
        ("+/b", "/b", true),
        ("a", "a/", false),
    ] {
        assert_eq!(router::matches(filter, path), expected, "{filter} {path}");
    }
}

proptest::proptest! {
    #[test]
    fn numbers_agree_with_the_standard_parser(text in "-?(0|[1-9][0-9]{0,20})([.][0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let expected: f64 = text.parse().expect("a number");
        let expected = Some(expected).filter(|x| x.is_finite());
        proptest::prop_assert_eq!(number(text.as_bytes()), expected);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(payload in "[\\[\\]{}\",:a-c0-9\\\\. ]{0,60}") {
        decode("SELECT a.b[1] + 0, a, c FROM \"p\"", &[record("p", payload.as_bytes())]);
    }
}
