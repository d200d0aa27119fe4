use super::*;
use crate::plan::explain;

fn explained(text: &str) -> String {
    explain(&plan(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

fn error(text: &str) -> String {
    plan(text).map(|_| ()).expect_err(text).to_string()
}

fn assert_has(text: &str, parts: &[&str]) {
    let found = explained(text);
    for part in parts {
        assert!(found.contains(part), "{text}: no `{part}` in\n{found}");
    }
}

#[test]
fn payload_fields_are_typed_by_their_use() {
    assert_has(
        "SELECT machine, state, extra, avg(rms) AS level FROM TUMBLE(\"plant/#\", '1 min')
         WHERE running AND mode = 'auto' GROUP BY machine, state, extra HAVING level > 2",
        &[
            "rms double",
            "machine text",
            "state text",
            "running boolean",
            "mode text",
            "windows of 1 min",
            "filter (#5 > 2.0)",
            "level double",
        ],
    );
    assert_has(
        "SELECT path, status, deep.inner, value + 1 AS v FROM \"plant/#\"",
        &[
            "inner text (json as it stands)",
            "status text",
            "value double",
            "deep.inner text, json of the payload",
        ],
    );
}

#[test]
fn streams_declare_columns_levels_and_time() {
    assert_has(
        "CREATE STREAM s (x bigint, at timestamp) FROM 'plant/{site}/+/x' TIMESTAMP BY at WATERMARK DELAY '7 s';
         SELECT site, header('unit') AS unit, path_level(3) AS l, x, \"offset\", record_time FROM s",
        &["site text, of the record", "event time at, watermark 7 s behind", "x bigint", "header text"],
    );
    assert_has(
        "CREATE STREAM s FROM 'a/#' FORMAT waveform f32le; SELECT path, count(value) AS n FROM s GROUP BY path, COUNTWINDOW(3)",
        &["value waveform, the payload", "windows of 3 rows"],
    );
}

#[test]
fn joins_find_keys_and_bounds() {
    let streams = "CREATE STREAM a FROM 'a/#'; CREATE STREAM b FROM 'b/#';
        CREATE TABLE t KEY (id) FROM 't/#'; ";
    for (join, expected) in [
        (
            "SELECT a.x, b.y FROM a JOIN b ON a.k = b.k AND b.event_time BETWEEN a.event_time - INTERVAL '5 s' AND a.event_time",
            "right time minus left time from -5 s to 0 ms",
        ),
        (
            "SELECT a.x, b.y FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) ON a.k = b.k",
            "the newest right row that is not newer",
        ),
        (
            "SELECT a.x, t.y FROM a LEFT JOIN t ON a.k = t.id",
            "the latest right row per key",
        ),
    ] {
        assert_has(&format!("{streams}{join}"), &[expected, "join [#"]);
    }
    for (join, expected) in [
        (
            "SELECT a.x FROM a JOIN b ON a.k = b.k",
            "needs a bound in time",
        ),
        (
            "SELECT a.x FROM a JOIN t ON a.k > 5",
            "at least one equality",
        ),
        (
            "SELECT x FROM a JOIN t ON a.k = t.id",
            "either side of the join",
        ),
    ] {
        let found = error(&format!("{streams}{join}"));
        assert!(found.contains(expected), "{join}: {found}");
    }
}

#[test]
fn mistakes_say_what_was_meant() {
    let stream = "CREATE STREAM s (vibration double, name text) FROM 'a/#';\n";
    for (query, expected) in [
        (
            "SELECT vibraton FROM s",
            "line 2, column 8: unknown column `vibraton`, did you mean `vibration`?",
        ),
        (
            "SELECT avrg(vibration) FROM TUMBLE(s, '1 s')",
            "line 2, column 8: unknown function `avrg`, did you mean `avg`?",
        ),
        ("SELECT x FROM t", "unknown stream `t`"),
        (
            "SELECT vibration FROM TUMBLE(s, '1 s') GROUP BY name",
            "must be in GROUP BY or inside an aggregate",
        ),
        ("SELECT avg(vibration) FROM s", "it needs a window"),
        (
            "SELECT count(*) FROM s GROUP BY name",
            "GROUP BY needs a window",
        ),
        (
            "SELECT avg(name) FROM TUMBLE(s, '1 s')",
            "`x` of avg is text, expected double",
        ),
        (
            "SELECT name + 1 FROM s",
            "`+` cannot be used with text and bigint; use CAST",
        ),
        (
            "SELECT vibration AS v FROM s WHERE v > 1",
            "`v` is a result column",
        ),
        (
            "SELECT vibration FROM s WHERE vibration",
            "expected a condition, found double",
        ),
        ("SELECT now() FROM s", "a query has no clock"),
        (
            "SELECT percentile(vibration) FROM TUMBLE(s, '1 s')",
            "expected percentile(",
        ),
        (
            "SELECT CASE WHEN true THEN 1 ELSE 'x' END FROM s",
            "expected bigint as in the results before",
        ),
        (
            "SELECT * FROM TUMBLE(s, '1 s', timezone => 'Mars')",
            "unknown time zone `Mars`",
        ),
        (
            "SELECT name FROM s UNION ALL SELECT vibration FROM s",
            "column `vibration` is double in this branch",
        ),
        (
            "SELECT avg(vibration) AS v FROM TUMBLE(s, '1 s'); CREATE ALERT a WHEN w > 1",
            "unknown column `w`",
        ),
    ] {
        let found = error(&format!("{stream}{query}"));
        assert!(found.contains(expected), "{query}: {found}");
    }
    let found = error("SELECT x + 1, upper(x) FROM \"a/#\"");
    assert!(
        found.contains("column `x` is used as text here and as double in line 1, column 8"),
        "{found}"
    );
}

#[test]
fn alerts_see_result_columns_and_find_their_value() {
    let plan = plan(
        "SELECT path, avg(value) AS level FROM TUMBLE(\"a/#\", '1 s') GROUP BY path;
         CREATE ALERT high WHEN level > 7.1 FOR '1 min' CLEAR WHEN level < 5 SEVERITY 'critical'",
    )
    .expect("a plan");
    assert_eq!(plan.hidden, 3);
    assert_eq!(plan.key, [0]);
    let alert = &plan.alerts[0];
    assert_eq!(alert.key, [0]);
    assert_eq!(alert.evidence, Some([2, 3, 4]));
    assert_eq!(alert.threshold, Some(crate::value::Value::Float(7.1)));
    assert_eq!(format!("{:?}", alert.value), "Some(#1)");
}

#[test]
fn layout_does_not_change_the_identity() {
    let one = identity("SELECT x FROM \"a\" -- comment\n");
    assert_eq!(one, identity("select x\n  from \"a\""));
    assert_ne!(one, identity("select y from \"a\""));
    // Written down: state in the field depends on it.
    assert_eq!(
        identity("select 1 from \"a\""),
        identity("SELECT 1 FROM \"a\"")
    );
}
