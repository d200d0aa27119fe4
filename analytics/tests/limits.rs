//! What happens at the edges: memory that is used up, silence, odd values, very
//! many keys.

use std::fmt::Write;

use forebay_analytics::decode::Record;
use forebay_analytics::operators::Refusal;
use forebay_analytics::query::{Advance, Budget, Output, Query};
use forebay_analytics::value::Value;

const STREAM: &str =
    "CREATE STREAM s FROM 'p/#' TIMESTAMP BY ts WATERMARK DELAY '2 s' IDLE AFTER '10 s'; ";

/// A query with what it has said so far.
struct Run {
    query: Query,
    offset: i64,
    rows: Vec<Vec<Value>>,
    refused: Vec<Refusal>,
    budget: Vec<Budget>,
    alerts: usize,
}

impl Run {
    fn new(text: &str, budget_bytes: usize) -> Self {
        let query =
            Query::new(text, budget_bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
        Self {
            query,
            offset: 0,
            rows: Vec::new(),
            refused: Vec::new(),
            budget: Vec::new(),
            alerts: 0,
        }
    }

    /// Rows of path, time in milliseconds and the rest of the object.
    fn push(&mut self, rows: &[(String, i64, String)]) {
        let payloads: Vec<String> = rows
            .iter()
            .map(|(_, time, rest)| format!("{{\"ts\":{time}{rest}}}"))
            .collect();
        let records: Vec<Record<'_>> = rows
            .iter()
            .zip(&payloads)
            .zip(self.offset..)
            .map(|(((path, time, _), payload), offset)| Record {
                topic: "t",
                partition: 0,
                offset,
                timestamp_ms: *time,
                path,
                headers: &[],
                payload: payload.as_bytes(),
            })
            .collect();
        self.offset += records.len() as i64;
        let output = self.query.push(&records);
        self.note(output);
    }

    fn advance(&mut self, advance: &Advance) {
        let output = self.query.advance(advance);
        self.note(output);
    }

    fn note(&mut self, output: Output) {
        self.rows.extend(output.values());
        self.refused
            .extend(output.refused.iter().map(|refused| refused.reason));
        self.budget.extend(output.budget);
        self.alerts += output.alerts.len();
    }

    /// The sum of a column of counts.
    fn counted(&self, column: usize) -> i64 {
        self.rows
            .iter()
            .filter_map(|row| row[column].as_i64())
            .sum()
    }
}

/// `keys` keys, one row of each per `step` milliseconds, `rounds` times.
fn many(run: &mut Run, keys: usize, rounds: i64, step: i64, largest: &mut usize) -> i64 {
    let mut rows = 0;
    for round in 0..rounds {
        for first in (0..keys).step_by(200) {
            let batch: Vec<_> = (first..keys.min(first + 200))
                .map(|key| (format!("p/{key}"), round * step, ",\"value\":1".to_owned()))
                .collect();
            rows += batch.len() as i64;
            run.push(&batch);
            *largest = run.query.memory_bytes().max(*largest);
        }
    }
    rows
}

#[test]
fn over_the_budget_every_row_is_in_a_window_or_refused() {
    const BUDGET: usize = 200_000;
    for (source, what) in [
        ("TUMBLE(s, '10 s')", "adjacent"),
        ("TUMBLE(s, '10 min')", "one long window"),
        ("SESSION(s, '10 min')", "sessions"),
        ("COUNT_WINDOW(s, 1000)", "counted"),
        (
            "STATE_WINDOW(s, value > 0, value < 0)",
            "between conditions",
        ),
        ("STATE_WINDOW(s, value)", "runs of a value"),
        ("PER KEY TUMBLE(s, '10 min')", "per key"),
        ("DELAYED TUMBLE(s, '1 s')", "many slices"),
    ] {
        let mut stream = STREAM.to_owned();
        let mut table = source;
        if let Some(rest) = source.strip_prefix("PER KEY ") {
            stream = stream.replace("; ", " PER KEY; ");
            table = rest;
        }
        if let Some(rest) = source.strip_prefix("DELAYED ") {
            stream = stream.replace("2 s", "10 min");
            table = rest;
        }
        let text = format!(
            "{stream} SELECT path, count(*) AS n, kurtosis(value) AS k FROM {table} GROUP BY path"
        );
        let mut run = Run::new(&text, BUDGET);
        let mut largest = 0;
        let rows = many(&mut run, 3_000, 5, 1_000, &mut largest);
        assert!(largest < BUDGET * 5 / 4, "{what}: {largest} bytes");
        assert_eq!(run.budget.first(), Some(&Budget::Reached), "{what}");
        // What has not ended is given up too, so that everything can be counted.
        run.advance(&Advance::End);
        let counts = run.query.counts();
        assert_eq!(run.refused.len() as u64, counts.late + counts.no_memory);
        let open = match what {
            "counted" | "between conditions" | "runs of a value" => {
                rows - run.counted(1) - run.refused.len() as i64
            }
            _ => 0,
        };
        assert_eq!(
            run.counted(1) + run.refused.len() as i64 + open,
            rows,
            "{what}"
        );
        assert!(counts.shed + counts.no_memory > 0, "{what}");
        // What has ended made room for what came.
        let kept = match what {
            "adjacent" | "one long window" => rows / 3,
            "many slices" => rows / 4,
            _ => rows,
        };
        assert!(
            run.refused.len() as i64 <= rows - kept,
            "{what}: {:?}",
            counts
        );
        // The rows that are still open are no more than there is memory for.
        assert!(open < 3_000, "{what}: {open} rows are in no window");
    }
}

#[test]
fn windows_that_overlap_take_little_when_no_slice_shares_a_group() {
    const BUDGET: usize = 1 << 30;
    let text = format!(
        "{STREAM} SELECT path, count(*) AS n, kurtosis(value) AS k
         FROM HOP(s, '1 s', '60 s') GROUP BY path"
    );
    let mut run = Run::new(&text, BUDGET);
    let mut largest = 0;
    for second in 0..300_i64 {
        let batch: Vec<_> = (0..100)
            .map(|key| {
                let path = format!("p/{}", second * 100 + key);
                (path, second * 1_000, ",\"value\":1".to_owned())
            })
            .collect();
        run.push(&batch);
        largest = largest.max(run.query.memory_bytes());
    }
    run.advance(&Advance::End);
    // 60 slices of 100 groups are in the windows that are open: with suffixes of
    // all of them they would be 30 times as many.
    assert!(largest < 10_000_000, "{largest} bytes");
    assert_eq!((run.counted(1), run.refused.len()), (300 * 100 * 60, 0));
}

#[test]
fn relief_is_reported_once() {
    let text = format!("{STREAM} SELECT path, count(*) AS n FROM TUMBLE(s, '10 s') GROUP BY path");
    let mut run = Run::new(&text, 200_000);
    many(&mut run, 5_000, 1, 0, &mut 0);
    run.advance(&Advance::All(20_000));
    run.push(&[("p/1".to_owned(), 30_000, String::new())]);
    run.advance(&Advance::All(60_000));
    assert_eq!(run.budget, [Budget::Reached, Budget::Relieved]);
}

#[test]
fn functions_that_look_back_forget_silent_keys_and_alerts_count_what_they_miss() {
    let text = format!("{STREAM} SELECT path, value - lag(value) AS d FROM s");
    let mut run = Run::new(&text, 100_000);
    let mut largest = 0;
    let rows = many(&mut run, 3_000, 2, 1_000, &mut largest);
    assert_eq!(run.rows.len() as i64, rows);
    assert!(largest < 130_000, "{largest} bytes");
    assert!(run.query.counts().shed > 1_000);
    let text =
        format!("{STREAM} SELECT path, value FROM s; CREATE ALERT high WHEN value > 0 FOR '1 s'");
    let mut run = Run::new(&text, 100_000);
    many(&mut run, 3_000, 2, 1_000, &mut largest);
    assert!(run.alerts > 100);
    assert_eq!(
        run.query.counts().untracked as usize + 2 * run.alerts,
        6_000
    );
    assert!(largest < 130_000, "{largest} bytes");
}

#[test]
fn silence_closes_windows_at_the_time_of_the_clock() {
    let text = format!("{STREAM} SELECT count(*) AS n, window_start AS w FROM TUMBLE(s, '10 s')");
    let mut run = Run::new(&text, 1 << 20);
    run.query.assign("t", 0);
    assert!(run.query.silent(0).is_empty());
    // The clock of the device is an hour behind, its rows are 5 s apart.
    for time in [1_000, 6_000] {
        run.push(&[("p/a".to_owned(), time, String::new())]);
    }
    // Not silent for long enough, then nothing that would close yet.
    assert!(run.query.silent(15_000).is_empty());
    assert!(run.query.silent(8_000).is_empty());
    let advances = run.query.silent(16_500);
    let expected = Advance::Source {
        stream: 0,
        topic: "t".to_owned(),
        partition: 0,
        time_ms: 16_500,
    };
    assert_eq!(advances, [expected]);
    run.advance(&Advance::from_bytes(&advances[0].to_bytes()).expect("its own bytes"));
    assert_eq!(run.rows, [[Value::Int(2), Value::Timestamp(0)]]);
    // Nothing is open, so nothing is worth writing to the log.
    assert!(run.query.silent(1 << 40).is_empty());
    run.push(&[("p/a".to_owned(), 3_000, String::new())]);
    assert_eq!(run.refused, [Refusal::Late]);
}

#[test]
fn a_partition_that_never_spoke_is_passed_over() {
    let text = format!("{STREAM} SELECT count(*) AS n FROM TUMBLE(s, '10 s')");
    let mut run = Run::new(&text, 1 << 20);
    run.query.assign("t", 0);
    run.query.assign("t", 1);
    assert!(run.query.silent(0).is_empty());
    for time in [1_000, 9_000, 13_000] {
        run.push(&[("p/a".to_owned(), time, String::new())]);
    }
    assert!(run.rows.is_empty());
    for advance in run.query.silent(14_000) {
        run.advance(&advance);
    }
    assert_eq!(run.rows, [[Value::Int(2)]]);
}

#[test]
fn odd_values_are_null_and_counted_and_never_in_an_aggregate() {
    let text = format!(
        "{STREAM} SELECT count(*) AS n, count(value) AS c, avg(value) AS a, max(value) AS m,
           stddev(value) AS s, sum(1 / value) AS r FROM TUMBLE(s, '10 s')"
    );
    let mut run = Run::new(&text, 1 << 20);
    let values = [
        "2", "null", "\"NaN\"", "\"hot\"", "1e999", "-1e999", "[1]", "{}", "0", "4",
    ];
    for value in values {
        run.push(&[("p/a".to_owned(), 1, format!(",\"value\":{value}"))]);
    }
    // Bare NaN is no JSON: the record is left out.
    run.push(&[("p/a".to_owned(), 1, ",\"value\":NaN".to_owned())]);
    run.push(&[("p/a".to_owned(), 1, String::new())]);
    run.advance(&Advance::End);
    assert_eq!(
        run.rows,
        [[
            Value::Int(11),
            Value::Int(3),
            Value::Float(2.0),
            Value::Float(4.0),
            Value::Float(2.0),
            Value::Float(0.75)
        ]]
    );
    let decode = run.query.counts().decode;
    assert_eq!((decode.malformed, decode.mismatched), (1, 6));
}

#[test]
fn a_million_keys_fit_or_are_refused() {
    const KEYS: usize = 1_000_000;
    let stream = "CREATE STREAM s FROM 'p/#'; ";
    for (budget, whole) in [(512 << 20, true), (64 << 20, false)] {
        let text = format!(
            "{stream} SELECT path, count(*) AS n, avg(value) AS a FROM TUMBLE(s, '1 h') GROUP BY path"
        );
        let mut query = Query::new(&text, budget).expect("a query");
        let (mut refused, mut path, mut largest) = (0, String::new(), 0);
        for first in (0..KEYS).step_by(1_000) {
            let paths: Vec<String> = (first..first + 1_000)
                .map(|key| {
                    path.clear();
                    let _ = write!(path, "p/{key}");
                    path.clone()
                })
                .collect();
            let records: Vec<Record<'_>> = paths
                .iter()
                .map(|path| Record {
                    topic: "t",
                    partition: 0,
                    offset: 0,
                    timestamp_ms: 1_000,
                    path,
                    headers: &[],
                    payload: b"{\"value\":1.5}",
                })
                .collect();
            refused += query.push(&records).refused.len();
            largest = largest.max(query.memory_bytes());
        }
        let rows: usize = query
            .advance(&Advance::End)
            .rows
            .iter()
            .map(|chunk| chunk.rows())
            .sum();
        assert_eq!(rows + refused, KEYS);
        assert_eq!(refused == 0, whole, "{refused} refused");
        assert!(largest <= budget * 11 / 10, "{largest} of {budget} bytes");
    }
}
