use super::*;
use crate::syntax::*;

fn query(text: &str) -> NamedQuery {
    parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .query
        .expect("a query")
}

fn window(text: &str) -> Window {
    match query(text).body.selects.remove(0).from {
        Source::Window { window, .. } => window,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> String {
    parse(text).map(|_| ()).expect_err(text).to_string()
}

#[test]
fn windows_of_other_systems_mean_the_same() {
    let tumble = Window::Tumble {
        size: 10_000,
        offset: 0,
        zone: None,
    };
    for text in [
        "SELECT avg(x) FROM TUMBLE(s, INTERVAL '10 s')",
        "SELECT avg(x) FROM TUMBLE(s, INTERVAL '10' SECOND)",
        "SELECT avg(x) FROM TUMBLE(s, '10 s')",
        "SELECT avg(x) FROM TUMBLE(s, ts, INTERVAL '10 SECONDS')",
        "SELECT avg(x) FROM TUMBLE(s, size => INTERVAL '10 s')",
        "SELECT avg(x) FROM TUMBLE(\"plant/+/x\", INTERVAL '10 s') AS t",
        "SELECT avg(x) FROM s GROUP BY path, TUMBLINGWINDOW(ss, 10)",
        "SELECT avg(x) FROM s GROUP BY path, TumblingWindow(second, 10)",
        "SELECT avg(x) FROM s GROUP BY tumble(interval '10 seconds')",
    ] {
        assert_eq!(window(text), tumble, "{text}");
    }
    let hop = Window::Hop {
        slide: 5_000,
        size: 10_000,
        offset: 0,
        zone: None,
    };
    for text in [
        "SELECT 1 FROM HOP(s, INTERVAL '5 s', INTERVAL '10 s')",
        "SELECT 1 FROM s GROUP BY HOPPINGWINDOW(ss, 10, 5)",
        "SELECT 1 FROM s GROUP BY hop(interval '5 s', interval '10 s')",
    ] {
        assert_eq!(window(text), hop, "{text}");
    }
    let session = Window::Session {
        gap: 60_000,
        max: Some(120_000),
    };
    for text in [
        "SELECT 1 FROM SESSION(s, '1 min', '2 min')",
        "SELECT 1 FROM s GROUP BY SESSIONWINDOW(mi, 2, 1)",
        "SELECT 1 FROM s GROUP BY SessionWindow(minute, 1, 2)",
    ] {
        assert_eq!(window(text), session, "{text}");
    }
    assert_eq!(
        window("SELECT 1 FROM s GROUP BY COUNTWINDOW(10, 5)"),
        Window::Count { rows: 10, step: 5 }
    );
    assert!(matches!(
        window("SELECT 1 FROM s GROUP BY path, STATEWINDOW(x > 1, x < 1)"),
        Window::State { close: Some(_), .. }
    ));
}

#[test]
fn a_program_has_streams_a_query_and_alerts() {
    let program = parse(
        "-- bearing
         CREATE STREAM vib (rms double, motor.temp double)
           FROM 'plant/{site}/+/vib', 'other/#' TOPIC 'telemetry'
           FORMAT json TIMESTAMP BY ts WATERMARK DELAY INTERVAL '5 s' PER KEY
           IDLE AFTER '1 min' AHEAD MAX INTERVAL '1' HOUR;
         CREATE QUERY hot INTO TOPIC 'alerts.hot' AS
         SELECT path, max(CASE WHEN rms > 1 THEN rms ELSE 0 END) AS top
         FROM TUMBLE(vib, '1 min') GROUP BY path EMIT CHANGES;
         CREATE ALERT high ON hot KEY (path) WHEN CASE WHEN top > 7 THEN true ELSE false END FOR '10 s'
           CLEAR WHEN top < 5 FOR '20 s' SEVERITY critical SUPPRESS '1 h' MESSAGE 'hot bearing';",
    )
    .expect("a program");
    let stream = &program.streams[0];
    assert_eq!(stream.filters, ["plant/{site}/+/vib", "other/#"]);
    assert_eq!(stream.columns[1].0, "motor.temp");
    assert_eq!(
        stream.watermark,
        Watermark {
            delay_ms: 5_000,
            idle_ms: 60_000,
            ahead_ms: 3_600_000,
            per_key: true
        }
    );
    let query = program.query.expect("a query");
    assert_eq!(query.name.as_deref(), Some("hot"));
    assert_eq!(query.topic.as_deref(), Some("alerts.hot"));
    assert_eq!(query.emit, Emit::Changes);
    let alert = &program.alerts[0];
    assert_eq!(
        (alert.hold_ms, alert.clear_hold_ms, alert.suppress_ms),
        (10_000, 20_000, 3_600_000)
    );
    assert_eq!(alert.severity, "critical");
}

#[test]
fn paths_into_payloads_are_names() {
    for text in ["a.b[2].c", "a -> 'b' -> 2 ->> 'c'"] {
        let expr = parse_expression(text).expect(text);
        assert_eq!(
            expr.kind,
            ExprKind::Name(vec![
                Step::Field("a".into()),
                Step::Field("b".into()),
                Step::Index(2),
                Step::Field("c".into())
            ]),
            "{text}"
        );
    }
}

#[test]
fn mistakes_have_a_place() {
    for (text, expected) in [
        ("SELEC x FROM s", "line 1, column 1: expected SELECT"),
        (
            "SELECT x\nFROM s WHERE x >",
            "line 2, column 17: expected: an expression",
        ),
        (
            "SELECT x FROM s\nEMIT SOMETIMES",
            "line 2, column 6: expected FINAL",
        ),
        (
            "SELECT 1 FROM TUMBLE(s, '10 parsec')",
            "column 25: `10 parsec` is not a duration",
        ),
        ("SELECT 1 FROM HOP(s, '10 s', '5 s')", "the slide is longer"),
        ("SELECT 1 FROM TUMBLE(s)", "tumble needs `size`"),
        ("SELECT 1 FROM s ORDER BY x", "ORDER BY"),
        (
            "CREATE STREAM s FORMAT jso FROM 'a'",
            "line 1, column 24: unknown format `jso`",
        ),
        (
            "CREATE ALERT a WHEN x > SEVERITY high",
            "expected: an expression",
        ),
        ("SELECT 'a", "unterminated string literal"),
        (
            "SELECT 1 FROM a; SELECT 2 FROM b",
            "line 1, column 18: a program holds one query",
        ),
        ("SELECT 1 FROM a, b", "expected one source"),
    ] {
        let found = error(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let deep = format!("SELECT {}1{} FROM s", "(".repeat(500), ")".repeat(500));
    assert!(error(&deep).contains("nested deeper"), "{}", error(&deep));
}

#[test]
fn words_of_clauses_are_columns_where_an_operand_stands() {
    let program = parse(
        "SELECT value, severity FROM \"a\";
         CREATE ALERT x WHEN value > 3 AND key = 'a' FOR '5 s' CLEAR WHEN NOT severity = 1 AND value FOR '1 s'
           SEVERITY info VALUE value + 1 MESSAGE 'm'",
    )
    .expect("a program");
    let alert = &program.alerts[0];
    assert_eq!((alert.hold_ms, alert.clear_hold_ms), (5_000, 1_000));
    assert_eq!(alert.severity, "info");
    assert!(alert.value.is_some() && alert.message.is_some());
    let names: Vec<String> = alert
        .when
        .names()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["value", "key"]);
    let error =
        parse("SELECT 1 FROM \"a\"; CREATE ALERT x WHEN FOR '5 s'").expect_err("no condition");
    assert!(error.message.contains("expected an expression"), "{error}");
}

#[test]
fn windows_of_azure_and_ekuiper_keep_what_stands_behind_them() {
    let group = |window: &str| {
        query(&format!(
            "SELECT avg(t) FROM \"a\" WHERE t < 9 GROUP BY {window}"
        ))
    };
    let cut = |window: &str| match group(window).body.selects.remove(0).from {
        Source::Window { window, .. } => window,
        other => panic!("{other:?}"),
    };
    let hop = cut("HoppingWindow(Duration(hour, 1), Hop(minute, 5), Offset(millisecond, -1))");
    let expected = Window::Hop {
        slide: 300_000,
        size: 3_600_000,
        offset: -1,
        zone: None,
    };
    assert_eq!(hop, expected);
    let tumble = cut("TumblingWindow(Duration(second, 10))");
    assert!(matches!(
        tumble,
        Window::Tumble {
            size: 10_000,
            offset: 0,
            ..
        }
    ));
    let session = cut("SessionWindow(Timeout(second, 5), MaxDuration(second, 60))");
    assert!(matches!(
        session,
        Window::Session {
            gap: 5_000,
            max: Some(60_000)
        }
    ));
    let select = group("COUNTWINDOW(5, 1) FILTER (WHERE t > 2)")
        .body
        .selects
        .remove(0);
    let filter = select.filter.expect("both conditions");
    assert!(matches!(filter.kind, ExprKind::Binary(Operator::And, ..)));
    let select = group("SessionWindow(second, 5, 10) OVER (PARTITION BY id)")
        .body
        .selects
        .remove(0);
    assert_eq!(select.group_by.len(), 1);
    assert!(
        error("SELECT avg(t) FROM \"a\" GROUP BY TumblingWindow(Hop(second, 1))")
            .contains("duration")
    );
}
