use super::*;
use crate::alerts::Transition;
use crate::operators::Refused;

/// A message: path, time in seconds, value.
type Message = (&'static str, i64, f64);

struct Bench {
    query: Query,
    offset: i64,
}

impl Bench {
    fn new(text: &str) -> Self {
        let query =
            Query::new(text, MEMORY_BYTES).unwrap_or_else(|error| panic!("{text}: {error}"));
        Self { query, offset: 0 }
    }

    fn push(&mut self, messages: &[Message]) -> Output {
        let payloads: Vec<String> = messages
            .iter()
            .map(|(_, time, value)| format!("{{\"ts\":{},\"value\":{value}}}", time * 1_000))
            .collect();
        let records: Vec<Record<'_>> = messages
            .iter()
            .zip(&payloads)
            .enumerate()
            .map(|(index, ((path, time, _), payload))| Record {
                topic: "t",
                partition: 0,
                offset: self.offset + index as i64,
                timestamp_ms: time.min(&2_000_000) * 1_000,
                path,
                headers: &[],
                payload: payload.as_bytes(),
            })
            .collect();
        let output = self.query.push(&records);
        self.offset += messages.len() as i64;
        output
    }

    fn rows(&mut self, messages: &[Message]) -> Vec<String> {
        let output = self.push(messages);
        self.print(&output)
    }

    fn advance(&mut self, seconds: i64) -> Vec<String> {
        let output = self.query.advance(&Advance::All(seconds * 1_000));
        self.print(&output)
    }

    fn end(&mut self) -> Vec<String> {
        let output = self.query.advance(&Advance::End);
        self.print(&output)
    }

    fn print(&self, output: &Output) -> Vec<String> {
        let plan = self.query.plan();
        let shown = plan.output.len() - plan.hidden;
        let mut lines = Vec::new();
        for chunk in &output.rows {
            for row in 0..chunk.rows() {
                let mut line = String::new();
                write_row(&plan.output[..shown], &chunk.batch, row, &mut line);
                lines.push(line);
            }
        }
        lines
    }
}

const STREAM: &str = "CREATE STREAM s FROM 'p/#' TIMESTAMP BY ts WATERMARK DELAY '2 s'; ";

#[test]
fn a_tumbling_window_closes_when_the_watermark_passes_its_end() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, count(*) AS n, avg(value) AS a, window_start AS w
         FROM TUMBLE(s, '10 s') GROUP BY path"
    ));
    assert!(
        bench
            .rows(&[
                ("p/a", 1, 1.0),
                ("p/b", 3, 5.0),
                ("p/a", 9, 3.0),
                ("p/a", 11, 9.0)
            ])
            .is_empty()
    );
    assert_eq!(
        bench.rows(&[("p/a", 12, 1.0)]),
        [
            r#"{"path":"p/a","n":2,"a":2,"w":0}"#,
            r#"{"path":"p/b","n":1,"a":5,"w":0}"#
        ]
    );
    // Nothing more comes, and the shell says that time goes on.
    assert!(bench.advance(21).is_empty());
    assert_eq!(
        bench.advance(22),
        [r#"{"path":"p/a","n":2,"a":5,"w":10000}"#]
    );
    assert_eq!(bench.query.watermark_ms(), 20_000);
}

#[test]
fn late_rows_and_rows_from_the_future_are_handed_out() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT count(*) AS n FROM TUMBLE(s, '10 s')"
    ));
    let output = bench.push(&[
        ("p/a", 1, 0.0),
        ("p/a", 13, 0.0),
        ("p/a", 2, 0.0),
        ("p/a", 12, 0.0),
    ]);
    assert_eq!(bench.print(&output), [r#"{"n":1}"#]);
    assert_eq!(
        output.refused,
        [Refused {
            record: Some(2),
            reason: Refusal::Late
        }]
    );
    // A year ahead of the record time: closes nothing.
    let output = bench.push(&[("p/b", 33_000_000, 0.0), ("p/a", 14, 0.0)]);
    assert!(bench.print(&output).is_empty());
    assert_eq!(
        output.refused,
        [Refused {
            record: Some(0),
            reason: Refusal::Ahead
        }]
    );
    assert_eq!(bench.end(), [r#"{"n":3}"#]);
    assert_eq!(
        (bench.query.counts().late, bench.query.counts().ahead),
        (1, 1)
    );
}

#[test]
fn hopping_windows_overlap_and_take_rows_behind_into_open_ones() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT window_start AS w, sum(value) AS v FROM HOP(s, '5 s', '15 s')"
    ));
    assert!(bench.rows(&[("p/a", 16, 1.0), ("p/a", 21, 2.0)]).is_empty());
    // The watermark is at 22: the slice of 17 is closed, two of its windows are not.
    assert_eq!(bench.rows(&[("p/a", 24, 4.0)]), [r#"{"w":5000,"v":1}"#]);
    assert_eq!(bench.rows(&[("p/a", 17, 8.0), ("p/a", 3, 99.0)]), [""; 0]);
    assert_eq!(bench.query.counts().late, 1);
    assert_eq!(
        bench.end(),
        [
            r#"{"w":10000,"v":15}"#,
            r#"{"w":15000,"v":15}"#,
            r#"{"w":20000,"v":6}"#
        ]
    );
}

#[test]
fn sessions_grow_merge_and_end_per_key() {
    let mut bench = Bench::new(&format!(
        "{} SELECT path, count(*) AS n, window_start AS f, window_end AS l
         FROM SESSION(s, '5 s') GROUP BY path",
        STREAM.replace("2 s", "10 s")
    ));
    assert!(
        bench
            .rows(&[
                ("p/a", 1, 0.0),
                ("p/a", 9, 0.0),
                ("p/b", 2, 0.0),
                ("p/a", 8, 0.0)
            ])
            .is_empty()
    );
    // 5 connects 1 with 8 and 9.
    assert_eq!(bench.rows(&[("p/a", 5, 0.0), ("p/b", 16, 0.0)]), [""; 0]);
    assert_eq!(
        bench.rows(&[("p/b", 30, 0.0)]),
        [
            r#"{"path":"p/b","n":1,"f":2000,"l":7000}"#,
            r#"{"path":"p/a","n":4,"f":1000,"l":14000}"#
        ]
    );
    assert_eq!(bench.rows(&[("p/a", 3, 0.0)]), [""; 0]);
    assert_eq!(bench.query.counts().late, 1);
    assert_eq!(bench.end().len(), 2);
}

#[test]
fn counted_and_state_windows_follow_arrival() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, sum(value) AS v FROM COUNT_WINDOW(s, 4, 2) GROUP BY path"
    ));
    let values: Vec<Message> = (1..=8).map(|n| ("p/a", n, n as f64)).collect();
    assert_eq!(
        bench.rows(&values),
        [
            r#"{"path":"p/a","v":10}"#,
            r#"{"path":"p/a","v":18}"#,
            r#"{"path":"p/a","v":26}"#
        ]
    );
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, count(*) AS n, max(value) AS m FROM STATE_WINDOW(s, value > 5, value < 2) GROUP BY path"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 1.0),
            ("p/a", 2, 7.0),
            ("p/a", 3, 9.0),
            ("p/a", 4, 3.0),
            ("p/a", 5, 1.0),
            ("p/a", 6, 1.0)
        ]),
        [r#"{"path":"p/a","n":4,"m":9}"#]
    );
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT count(*) AS n, first(value) AS x FROM STATE_WINDOW(s, value > 5)"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 1.0),
            ("p/a", 2, 2.0),
            ("p/a", 3, 9.0),
            ("p/a", 4, 1.0)
        ]),
        [r#"{"n":2,"x":1}"#, r#"{"n":1,"x":9}"#]
    );
}

#[test]
fn emit_changes_and_on_change() {
    let select = "SELECT path, sum(value) AS v FROM TUMBLE(s, '10 s') GROUP BY path";
    let mut bench = Bench::new(&format!("{STREAM} {select} EMIT CHANGES"));
    assert_eq!(bench.rows(&[("p/a", 1, 1.0)]), [r#"{"path":"p/a","v":1}"#]);
    assert_eq!(bench.rows(&[("p/b", 1, 2.0)]), [r#"{"path":"p/b","v":2}"#]);
    assert_eq!(bench.rows(&[("p/a", 2, 2.0)]), [r#"{"path":"p/a","v":3}"#]);
    assert_eq!(bench.end(), [""; 0]);
    let mut bench = Bench::new(&format!("{STREAM} {select} EMIT ON CHANGE"));
    assert_eq!(
        bench.rows(&[("p/a", 1, 1.0), ("p/a", 13, 1.0)]),
        [r#"{"path":"p/a","v":1}"#]
    );
    assert_eq!(bench.rows(&[("p/a", 23, 2.0)]), [""; 0]);
    assert_eq!(bench.rows(&[("p/a", 33, 2.0)]), [r#"{"path":"p/a","v":2}"#]);
}

#[test]
fn analytic_functions_look_back_per_path() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, value - lag(value) AS d, changed(value) OVER () AS c FROM s WHERE value >= 0"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 1.0),
            ("p/b", 2, 5.0),
            ("p/a", 3, -4.0),
            ("p/a", 4, 3.0),
            ("p/b", 5, 3.0)
        ]),
        [
            r#"{"path":"p/a","d":null,"c":true}"#,
            r#"{"path":"p/b","d":null,"c":true}"#,
            r#"{"path":"p/a","d":2,"c":true}"#,
            r#"{"path":"p/b","d":-2,"c":false}"#
        ]
    );
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, avg(value) AS a, lag(avg(value)) AS b FROM TUMBLE(s, '10 s')
         GROUP BY path HAVING count(*) > 1"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 1.0),
            ("p/a", 2, 3.0),
            ("p/a", 11, 5.0),
            ("p/a", 12, 5.0),
            ("p/a", 23, 1.0)
        ]),
        [
            r#"{"path":"p/a","a":2,"b":null}"#,
            r#"{"path":"p/a","a":5,"b":2}"#
        ]
    );
}

#[test]
fn queries_nest_and_unite() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT max(a) AS m, window_start AS w FROM TUMBLE((
            SELECT path, avg(value) AS a FROM TUMBLE(s, '5 s') GROUP BY path), '10 s')"
    ));
    bench.push(&[("p/a", 1, 1.0), ("p/a", 2, 3.0), ("p/b", 6, 7.0)]);
    assert_eq!(bench.end(), [r#"{"m":7,"w":0}"#]);
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, value FROM s WHERE value > 5 UNION ALL SELECT path, -value FROM s WHERE value < 1"
    ));
    assert_eq!(
        bench.rows(&[("p/a", 1, 0.5), ("p/a", 2, 3.0), ("p/b", 6, 7.0)]),
        [
            r#"{"path":"p/b","value":7}"#,
            r#"{"path":"p/a","value":-0.5}"#
        ]
    );
}

const TWO: &str = "CREATE STREAM a FROM 'p/a' TIMESTAMP BY ts WATERMARK DELAY '2 s';
    CREATE STREAM b FROM 'p/b' TIMESTAMP BY ts WATERMARK DELAY '2 s';
    CREATE TABLE t KEY (k) FROM 'p/t'; ";

#[test]
fn joins_find_latest_near_and_earlier_rows() {
    let mut bench = Bench::new(&format!(
        "{TWO} SELECT a.value AS x, t.value AS y FROM a LEFT JOIN t ON path_level(1) = t.path"
    ));
    assert_eq!(bench.rows(&[("p/a", 1, 1.0)]), [r#"{"x":1,"y":null}"#]);
    let mut bench = Bench::new(&format!(
        "{TWO} SELECT a.value AS x, t.value AS y FROM a JOIN t ON a.value - a.value = t.value - t.value"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 1.0),
            ("p/t", 2, 5.0),
            ("p/a", 3, 2.0),
            ("p/t", 3, 6.0),
            ("p/a", 3, 3.0)
        ]),
        [r#"{"x":2,"y":5}"#, r#"{"x":3,"y":6}"#]
    );
    let mut bench = Bench::new(&format!(
        "{TWO} SELECT a.value AS x, b.value AS y FROM a LEFT JOIN b
           ON a.value - a.value = b.value - b.value AND b.ts BETWEEN a.ts - INTERVAL '2 s' AND a.ts + INTERVAL '1 s'"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/b", 1, 10.0),
            ("p/a", 3, 1.0),
            ("p/b", 4, 11.0),
            ("p/b", 5, 12.0),
            ("p/a", 9, 2.0)
        ]),
        [r#"{"x":1,"y":10}"#, r#"{"x":1,"y":11}"#]
    );
    assert_eq!(bench.end(), [r#"{"x":2,"y":null}"#]);
    let mut bench = Bench::new(&format!(
        "{TWO} SELECT a.value AS x, b.value AS y FROM a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts)
           ON a.value - a.value = b.value - b.value"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 3, 1.0),
            ("p/a", 1, 2.0),
            ("p/b", 4, 11.0),
            ("p/b", 2, 12.0),
            ("p/a", 4, 3.0)
        ]),
        [r#"{"x":2,"y":null}"#]
    );
    assert_eq!(bench.end(), [r#"{"x":1,"y":12}"#, r#"{"x":3,"y":11}"#]);
}

#[test]
fn alerts_wait_clear_and_keep_quiet() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT path, avg(value) AS level, window_start, window_end FROM TUMBLE(s, '10 s') GROUP BY path;
         CREATE ALERT high WHEN level > 7 FOR '20 s' CLEAR WHEN level < 5 FOR '10 s'
           SEVERITY critical SUPPRESS '1 min' MESSAGE 'bearing'"
    ));
    let mut seen = Vec::new();
    let levels = [
        8.0, 8.0, 6.0, 8.0, 9.0, 8.0, 6.0, 4.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0,
    ];
    for (window, level) in levels.iter().enumerate() {
        let output = bench.push(&[("p/a", window as i64 * 10 + 5, *level)]);
        seen.extend(output.alerts);
    }
    seen.extend(bench.query.advance(&Advance::End).alerts);
    let steps: Vec<(Transition, i64, i64)> = seen
        .iter()
        .map(|event| {
            (
                event.transition,
                event.time_ms / 1_000,
                event.since_ms / 1_000,
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            (Transition::Raised, 59, 39),
            (Transition::Cleared, 89, 39),
            (Transition::Raised, 149, 99),
        ]
    );
    let mut json = String::new();
    write_alert("q", &seen[0], &mut json);
    assert_eq!(
        json,
        r#"{"id":"q/high/p/a/39999","query":"q","alert":"high","state":"raised","severity":"critical","key":{"path":"p/a"},"time":59999,"since":39999,"window_start":50000,"window_end":60000,"value":8,"threshold":7,"message":"bearing","evidence":{"partition":0,"first_offset":5,"last_offset":5}}"#
    );
    assert_eq!(bench.query.active_alerts(), 1);
}

#[test]
fn a_key_with_its_own_watermark_does_not_close_windows_of_others() {
    let stream = STREAM.replace("; ", " PER KEY; ");
    let mut bench = Bench::new(&format!(
        "{stream} SELECT path, count(*) AS n, window_start AS w FROM TUMBLE(s, '10 s') GROUP BY path"
    ));
    assert_eq!(
        bench.rows(&[
            ("p/a", 1, 0.0),
            ("p/b", 2, 0.0),
            ("p/a", 100, 0.0),
            ("p/b", 3, 0.0),
            ("p/a", 2, 0.0)
        ]),
        [r#"{"path":"p/a","n":1,"w":0}"#]
    );
    assert_eq!(bench.query.counts().late, 1);
    assert_eq!(bench.advance(12), [r#"{"path":"p/b","n":2,"w":0}"#]);
}

#[test]
fn over_the_budget_new_keys_are_refused_and_sessions_end_early() {
    let text = format!("{STREAM} SELECT ts AS k, count(*) AS n FROM TUMBLE(s, '1 d') GROUP BY ts");
    let mut query = Query::new(&text, 100_000).expect("a query");
    let mut bench = Bench { query, offset: 0 };
    let many: Vec<Message> = (0..4_000).map(|time| ("p/a", time, 0.0)).collect();
    for part in many.chunks(100) {
        bench.push(part);
    }
    assert!(
        bench.query.memory_bytes() < 150_000,
        "{}",
        bench.query.memory_bytes()
    );
    assert!(bench.query.counts().no_memory > 1_000);
    let text = format!("{STREAM} SELECT ts AS k, count(*) AS n FROM SESSION(s, '1 d') GROUP BY ts");
    query = Query::new(&text, 100_000).expect("a query");
    bench = Bench { query, offset: 0 };
    let mut rows = 0;
    for part in many.chunks(100) {
        rows += bench.rows(part).len();
    }
    assert!(
        bench.query.memory_bytes() < 150_000,
        "{}",
        bench.query.memory_bytes()
    );
    assert_eq!(bench.query.counts().shed, rows as u64);
    assert!(rows > 1_000);
}

#[test]
fn the_lowest_offset_is_the_first_that_feeds_an_open_window() {
    let mut bench = Bench::new(&format!(
        "{STREAM} SELECT count(*) AS n FROM TUMBLE(s, '10 s')"
    ));
    for time in [1, 5, 11, 14, 18] {
        bench.push(&[("p/a", time, 0.0)]);
    }
    assert_eq!(
        bench.query.lowest_offsets(),
        Some(vec![("t".to_owned(), 0, 2)])
    );
    let mut bench = Bench::new(&format!("{STREAM} SELECT value FROM s"));
    bench.push(&[("p/a", 1, 0.0)]);
    assert_eq!(
        bench.query.lowest_offsets(),
        Some(vec![("t".to_owned(), 0, 1)])
    );
    let mut bench = Bench::new(&format!("{STREAM} SELECT lag(value) AS l FROM s"));
    assert_eq!(bench.query.lowest_offsets(), None);
}

#[test]
fn state_of_another_query_and_damaged_state_are_refused() {
    let text =
        format!("{STREAM} SELECT path, count(*) AS n FROM HOP(s, '5 s', '15 s') GROUP BY path");
    let mut bench = Bench::new(&text);
    bench.push(&[("p/a", 1, 0.0), ("p/b", 8, 0.0), ("p/a", 22, 0.0)]);
    let state = bench.query.encode_state();
    let mut other = Query::new(&text.replace("15 s", "10 s"), MEMORY_BYTES).expect("a query");
    assert!(matches!(
        other.decode_state(&state),
        Err(StateError::Identity { .. })
    ));
    for end in 0..state.len() {
        let mut fresh = Query::new(&text, MEMORY_BYTES).expect("a query");
        assert!(
            fresh.decode_state(&state[..end]).is_err(),
            "{end} bytes were enough"
        );
    }
    let mut fresh = Query::new(&text, MEMORY_BYTES).expect("a query");
    fresh.decode_state(&state).expect("its own state");
    assert_eq!(fresh.encode_state(), state);
}
