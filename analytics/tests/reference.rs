//! The engine against a naive model that keeps every row.
//!
//! Random queries over random rows with disorder, lateness, silence and several
//! partitions. The model decides row by row which windows were open when the row
//! arrived and computes each window from a list of its rows. The engine is run
//! three times: all at once, in random batches, and in random batches with a
//! restart through its encoded state at random places. All runs have to give the
//! same rows in the same order, and the same set of rows as the model.

#[path = "reference/queries.rs"]
mod queries;

use std::collections::BTreeMap;

use forebay_analytics::decode::Record;
use forebay_analytics::query::{Advance, Output, Query};
use forebay_analytics::value::Value;
use proptest::prelude::*;
use queries::{QUERIES, STREAMS};

#[derive(Debug, Clone)]
struct Row {
    path: usize,
    /// Milliseconds.
    time: i64,
    value: Option<i64>,
}

#[derive(Debug, Clone)]
enum Event {
    Row(Row),
    Advance(i64),
}

#[derive(Debug, Clone)]
enum Cut {
    Time { size: i64, slide: i64, offset: i64 },
    Session { gap: i64 },
    Count { rows: usize, step: usize },
    State,
    Between,
}

#[derive(Debug, Clone)]
struct Case {
    cut: Cut,
    by_path: bool,
    per_key: bool,
    delay: i64,
    partitions: usize,
    least: Option<i64>,
    events: Vec<Event>,
    batches: Vec<usize>,
    restarts: Vec<bool>,
}

/// Above every time of a row, in milliseconds.
const END: i64 = i64::MAX / 8;

const PATHS: [&str; 4] = ["p/a", "p/b", "p/c", "p/d"];

impl Case {
    fn text(&self) -> String {
        let source = match &self.cut {
            Cut::Time {
                size,
                slide,
                offset,
            } if size == slide => {
                format!("TUMBLE(s, '{size} ms', '{offset} ms')")
            }
            Cut::Time {
                size,
                slide,
                offset,
            } => {
                format!("HOP(s, '{slide} ms', '{size} ms', '{offset} ms')")
            }
            Cut::Session { gap } => format!("SESSION(s, '{gap} ms')"),
            Cut::Count { rows, step } => format!("COUNT_WINDOW(s, {rows}, {step})"),
            Cut::State => "STATE_WINDOW(s, value > 0)".to_owned(),
            Cut::Between => "STATE_WINDOW(s, value > 3, value < -3)".to_owned(),
        };
        let filter = self
            .least
            .map_or(String::new(), |least| format!("WHERE value >= {least}"));
        let (key, group) = if self.by_path {
            ("path", "GROUP BY path")
        } else {
            ("'all'", "")
        };
        let per_key = if self.per_key { "PER KEY" } else { "" };
        format!(
            "CREATE STREAM s FROM 'p/#' TIMESTAMP BY ts WATERMARK DELAY '{} ms' {per_key};
             SELECT {key} AS k, window_start AS ws, window_end AS we, count(*) AS n, count(value) AS c,
                    sum(value) AS t, min(value) AS lo, max(value) AS hi, first(value) AS f,
                    last(value) AS l, avg(value) AS a
             FROM {source} {filter} {group}",
            self.delay
        )
    }

    fn key(&self, row: &Row) -> &'static str {
        if self.by_path { PATHS[row.path] } else { "all" }
    }
}

/// One result row as text, so that sets compare and failures read well.
fn line(key: &str, start: i64, end: i64, rows: &[Row]) -> String {
    let mut by_time: Vec<&Row> = rows.iter().filter(|row| row.value.is_some()).collect();
    // Stable: of equal times the later arrival stays later.
    by_time.sort_by_key(|row| row.time);
    let values: Vec<i64> = by_time.iter().filter_map(|row| row.value).collect();
    let float = |value: Option<i64>| match value {
        Some(value) => format!("{:?}", Value::Float(value as f64)),
        None => "Null".to_owned(),
    };
    let sum: i64 = values.iter().sum();
    let some = !values.is_empty();
    let average = if some {
        format!("{:?}", Value::Float(sum as f64 / values.len() as f64))
    } else {
        "Null".to_owned()
    };
    format!(
        "{key} {start}..{end} n={} c={} t={} lo={} hi={} f={} l={} a={average}",
        rows.len(),
        values.len(),
        float(some.then_some(sum)),
        float(values.iter().copied().min()),
        float(values.iter().copied().max()),
        float(values.first().copied()),
        float(values.last().copied()),
    )
}

fn lines(output: &Output) -> Vec<String> {
    output
        .values()
        .into_iter()
        .map(|row| {
            let int = |index: usize| row[index].as_i64().expect("an integer");
            format!(
                "{} {}..{} n={} c={} t={:?} lo={:?} hi={:?} f={:?} l={:?} a={:?}",
                row[0].as_str().expect("a key"),
                int(1),
                int(2),
                int(3),
                int(4),
                row[5],
                row[6],
                row[7],
                row[8],
                row[9],
                row[10]
            )
        })
        .collect()
}

/// The watermark as the documentation says it.
struct Marks {
    newest: Vec<i64>,
    floor: i64,
    mark: i64,
    keys: BTreeMap<&'static str, i64>,
}

impl Marks {
    fn update(&mut self, case: &Case) {
        let slowest = self
            .newest
            .iter()
            .map(|newest| {
                let newest = if case.per_key { i64::MIN } else { *newest };
                newest.max(self.floor).saturating_sub(case.delay)
            })
            .min()
            .unwrap_or(i64::MIN);
        self.mark = self.mark.max(slowest);
    }

    fn of(&self, case: &Case, key: &'static str) -> i64 {
        let own = self
            .keys
            .get(key)
            .map_or(i64::MIN, |newest| newest.saturating_sub(case.delay));
        if case.per_key {
            self.mark.max(own)
        } else {
            self.mark
        }
    }
}

#[derive(Default)]
struct Model {
    lines: Vec<String>,
    late: u64,
    /// Rows of each window of fixed length, in the order of arrival.
    windows: BTreeMap<(&'static str, i64), Vec<Row>>,
    sessions: BTreeMap<&'static str, Vec<Vec<Row>>>,
    /// Rows of each key for windows that follow arrival.
    arrived: BTreeMap<&'static str, Vec<Row>>,
}

impl Model {
    fn run(case: &Case) -> Self {
        let mut model = Self::default();
        let mut marks = Marks {
            newest: vec![i64::MIN; case.partitions],
            floor: i64::MIN,
            mark: i64::MIN,
            keys: BTreeMap::new(),
        };
        for event in &case.events {
            match event {
                Event::Advance(time) => {
                    marks.floor = marks.floor.max(*time);
                    marks.update(case);
                    model.close_sessions(case, marks.mark);
                }
                Event::Row(row) => {
                    let key = case.key(row);
                    let passes = case
                        .least
                        .is_none_or(|least| row.value.is_some_and(|v| v >= least));
                    if passes && model.row(case, key, row, marks.of(case, key)) {
                        let newest = marks.keys.entry(key).or_insert(i64::MIN);
                        *newest = row.time.max(*newest);
                    }
                    let newest = &mut marks.newest[row.path % case.partitions];
                    *newest = row.time.max(*newest);
                    marks.update(case);
                    model.close_sessions(case, marks.mark);
                }
            }
        }
        model.finish(case);
        model
    }

    /// Takes a row; false if it is late.
    fn row(&mut self, case: &Case, key: &'static str, row: &Row, mark: i64) -> bool {
        match &case.cut {
            Cut::Time {
                size,
                slide,
                offset,
            } => {
                let last = (row.time - offset).div_euclid(*slide) * slide + offset;
                let open: Vec<i64> = (0..)
                    .map(|index| last - index * slide)
                    .take_while(|start| start + size > row.time)
                    .filter(|start| start + size > mark)
                    .collect();
                self.late += u64::from(open.is_empty());
                let taken = !open.is_empty();
                for start in open {
                    self.windows
                        .entry((key, start))
                        .or_default()
                        .push(row.clone());
                }
                taken
            }
            Cut::Session { gap } => {
                let sessions = self.sessions.entry(key).or_default();
                let near = |session: &Vec<Row>| {
                    session
                        .iter()
                        .any(|known| (known.time - row.time).abs() < *gap)
                };
                let (together, apart): (Vec<_>, Vec<_>) =
                    std::mem::take(sessions).into_iter().partition(near);
                *sessions = apart;
                if together.is_empty() && row.time + gap <= mark {
                    self.late += 1;
                    return false;
                }
                let mut one: Vec<Row> = together.into_iter().flatten().collect();
                one.push(row.clone());
                sessions.push(one);
                true
            }
            _ => {
                self.arrived.entry(key).or_default().push(row.clone());
                true
            }
        }
    }

    fn close_sessions(&mut self, case: &Case, mark: i64) {
        let Cut::Session { gap } = case.cut else {
            return;
        };
        for (key, sessions) in &mut self.sessions {
            sessions.retain(|session| {
                let end = session.iter().map(|row| row.time).max().expect("rows") + gap;
                if end <= mark {
                    let start = session.iter().map(|row| row.time).min().expect("rows");
                    self.lines.push(line(key, start, end, session));
                }
                end > mark
            });
        }
    }

    fn finish(&mut self, case: &Case) {
        self.close_sessions(case, END);
        if let Cut::Time { size, .. } = case.cut {
            for ((key, start), rows) in &self.windows {
                self.lines.push(line(key, *start, start + size, rows));
            }
        }
        for (key, rows) in &self.arrived {
            for part in arrival_windows(&case.cut, rows) {
                let start = part.iter().map(|row| row.time).min().expect("rows");
                let end = part.iter().map(|row| row.time).max().expect("rows");
                self.lines.push(line(key, start, end, &part));
            }
        }
    }
}

fn arrival_windows(cut: &Cut, rows: &[Row]) -> Vec<Vec<Row>> {
    match cut {
        Cut::Count { rows: size, step } => rows
            .windows(*size)
            .step_by(*step)
            .map(<[Row]>::to_vec)
            .collect(),
        Cut::State => {
            // A window per run of equal values of the condition; the last run
            // has not ended, and rows without a value end a run.
            let mut parts: Vec<(Option<bool>, Vec<Row>)> = Vec::new();
            for row in rows {
                let state = row.value.map(|value| value > 0);
                match parts.last_mut().filter(|(known, _)| *known == state) {
                    Some((_, part)) => part.push(row.clone()),
                    None => parts.push((state, vec![row.clone()])),
                }
            }
            parts.pop();
            parts
                .into_iter()
                .filter(|(state, _)| state.is_some())
                .map(|(_, part)| part)
                .collect()
        }
        _ => {
            let mut parts = Vec::new();
            let mut open: Option<Vec<Row>> = None;
            for row in rows {
                if open.is_none() && row.value.is_some_and(|value| value > 3) {
                    open = Some(Vec::new());
                }
                if let Some(part) = &mut open {
                    part.push(row.clone());
                }
                if row.value.is_some_and(|value| value < -3) {
                    parts.extend(open.take());
                }
            }
            parts
        }
    }
}

struct Run {
    lines: Vec<String>,
    late: u64,
}

fn start(case: &Case, text: &str) -> Query {
    let mut query = Query::new(text, 1 << 30).expect("a query");
    for partition in 0..case.partitions {
        query.assign("t", partition as i32);
    }
    query
}

/// Runs the engine; `batches` says how many rows go in at once, `restarts`
/// whether it is written down and read back before a batch.
fn engine(
    case: &Case,
    text: &str,
    lines: fn(&Output) -> Vec<String>,
    batches: &[usize],
    restarts: &[bool],
) -> Run {
    let payloads: Vec<String> = case
        .events
        .iter()
        .map(|event| match event {
            Event::Advance(_) => String::new(),
            Event::Row(row) => {
                let value = row
                    .value
                    .map_or("null".to_owned(), |value| value.to_string());
                format!("{{\"value\":{value},\"ts\":{}}}", row.time)
            }
        })
        .collect();
    let mut query = start(case, text);
    let mut run = Run {
        lines: Vec::new(),
        late: 0,
    };
    let mut sizes = batches.iter().copied().cycle();
    let mut stops = restarts.iter().copied().cycle();
    let mut at = 0;
    while at < case.events.len() {
        if stops.next() == Some(true) {
            let state = query.encode_state();
            run.late += query.counts().late;
            query = Query::new(text, 1 << 30).expect("a query");
            query.decode_state(&state).expect("its own state");
        }
        if let Event::Advance(time) = &case.events[at] {
            run.lines
                .extend(lines(&query.advance(&Advance::All(*time))));
            at += 1;
            continue;
        }
        let size = sizes.next().unwrap_or(usize::MAX);
        let records: Vec<Record<'_>> = case.events[at..]
            .iter()
            .zip(&payloads[at..])
            .take(size)
            .map_while(|(event, payload)| match event {
                Event::Advance(_) => None,
                Event::Row(row) => Some(Record {
                    topic: "t",
                    partition: (row.path % case.partitions) as i32,
                    offset: 0,
                    timestamp_ms: 1 << 40,
                    path: PATHS[row.path],
                    headers: &[],
                    payload: payload.as_bytes(),
                }),
            })
            .collect();
        run.lines.extend(lines(&query.push(&records)));
        at += records.len();
    }
    run.lines.extend(lines(&query.advance(&Advance::End)));
    run.late += query.counts().late;
    // Rows and alerts are two outputs, each with an order of its own.
    run.lines.sort_by_key(|line| line.starts_with("AlertEvent"));
    run
}

fn cuts() -> impl Strategy<Value = Cut> {
    prop_oneof![
        (1_i64..60, 0_i64..20).prop_map(|(size, offset)| Cut::Time {
            size,
            slide: size,
            offset
        }),
        (1_i64..12, 1_i64..12, 1_i64..4, 0_i64..10).prop_map(|(slide, more, unit, offset)| {
            Cut::Time {
                size: (slide + more) * unit,
                slide: slide * unit,
                offset,
            }
        }),
        (1_i64..25).prop_map(|gap| Cut::Session { gap }),
        (1_usize..8, 0_usize..8).prop_map(|(step, more)| Cut::Count {
            rows: step + more,
            step
        }),
        Just(Cut::State),
        Just(Cut::Between),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![
        8 => 0_i64..4,
        3 => -30_i64..0,
        1 => 50_i64..400,
    ];
    let value = prop_oneof![1 => Just(None), 6 => (-9_i64..10).prop_map(Some)];
    let silent = prop_oneof![12 => Just(None), 1 => (0_i64..60).prop_map(Some)];
    proptest::collection::vec((0_usize..4, step, value, silent), 0..120).prop_map(|parts| {
        let mut now = 0;
        let mut events = Vec::new();
        for (path, step, value, silent) in parts {
            // Rows that go back in time do not take the others along.
            let time = now + step;
            now = now.max(time);
            if let Some(more) = silent {
                events.push(Event::Advance(now + more));
            }
            events.push(Event::Row(Row { path, time, value }));
        }
        events
    })
}

fn cases() -> impl Strategy<Value = Case> {
    (
        (cuts(), any::<bool>(), any::<bool>(), 0_i64..25, 1_usize..3),
        proptest::option::weighted(0.3, -5_i64..5),
        events(),
        proptest::collection::vec(1_usize..20, 1..10),
        proptest::collection::vec(any::<bool>(), 1..10),
    )
        .prop_map(
            |((cut, by_path, per_key, delay, partitions), least, events, batches, restarts)| {
                // A watermark per key needs keys and windows of fixed length.
                let per_key = per_key && by_path && matches!(cut, Cut::Time { .. });
                Case {
                    cut,
                    by_path,
                    per_key,
                    delay,
                    partitions,
                    least,
                    events,
                    batches,
                    restarts,
                }
            },
        )
}

/// Four hundred, or one of so many (CONTRIBUTING.md).
fn config() -> ProptestConfig {
    let stride = std::env::var("FOREBAY_TEST_STRIDE");
    let stride: u32 = stride.map_or(1, |text| text.parse().expect("a number"));
    ProptestConfig::with_cases(400_u32.div_ceil(stride))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_engine_agrees_with_the_model_however_it_is_fed(case in cases()) {
        let model = Model::run(&case);
        let text = case.text();
        let whole = engine(&case, &text, lines, &[usize::MAX], &[false]);
        let mut expected = model.lines;
        expected.sort();
        let mut found = whole.lines.clone();
        found.sort();
        prop_assert_eq!(&found, &expected, "{}", text);
        prop_assert_eq!(whole.late, model.late, "{}", text);
        for restarts in [&[false][..], &case.restarts] {
            let run = engine(&case, &text, lines, &case.batches, restarts);
            prop_assert_eq!(&run.lines, &whole.lines, "{}", text);
            prop_assert_eq!(run.late, whole.late, "{}", text);
        }
    }

    #[test]
    fn every_kind_of_query_is_the_same_however_it_is_fed(case in cases(), index in 0..QUERIES.len()) {
        let text = format!("{STREAMS}{}", QUERIES[index]);
        let mut whole = engine(&case, &text, all_of_it, &[usize::MAX], &[false]);
        // Which branch of a UNION ALL comes first depends on the batches.
        let united = text.contains("UNION ALL");
        if united {
            whole.lines.sort();
        }
        for restarts in [&[false][..], &case.restarts] {
            let mut run = engine(&case, &text, all_of_it, &case.batches, restarts);
            if united {
                run.lines.sort();
            }
            prop_assert_eq!(&run.lines, &whole.lines, "{}", text);
            prop_assert_eq!(run.late, whole.late, "{}", text);
        }
    }
}

fn all_of_it(output: &Output) -> Vec<String> {
    let rows = output.values().into_iter().map(|row| format!("{row:?}"));
    rows.chain(output.alerts.iter().map(|alert| format!("{alert:?}")))
        .collect()
}
