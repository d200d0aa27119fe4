//! The examples of `docs/queries.md` do what stands beside them.
//!
//! A block of `sql` has to be a whole program. A block `input` after it has one
//! row per line: path, seconds, value; `--` says that time goes on to so many
//! seconds without a row. A block `output` has what comes out, with the end of
//! the input, `~` before what comes out at the end.

use forebay_analytics::decode::Record;
use forebay_analytics::query::{Advance, MEMORY_BYTES, Output, Query, write_alert, write_row};

const TEXT: &str = include_str!("../../docs/queries.md");

/// The blocks with their languages.
fn blocks() -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in TEXT.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn print(query: &Query, output: &Output, mark: &str, lines: &mut Vec<String>) {
    let plan = query.plan();
    let shown = &plan.output[..plan.output.len() - plan.hidden];
    for chunk in &output.rows {
        for row in 0..chunk.rows() {
            let mut line = mark.to_owned();
            write_row(shown, &chunk.batch, row, &mut line);
            lines.push(line);
        }
    }
    for alert in &output.alerts {
        let mut line = mark.to_owned();
        write_alert("example", alert, &mut line);
        lines.push(line);
    }
    for refused in &output.refused {
        lines.push(format!("{mark}refused: {:?}", refused.reason).to_lowercase());
    }
}

fn run(text: &str, input: &str) -> Vec<String> {
    let mut query =
        Query::new(text, MEMORY_BYTES).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut lines = Vec::new();
    for (line, offset) in input.lines().zip(0..) {
        let mut words = line.split_whitespace();
        let (path, seconds) = (words.next().expect("a path"), words.next().expect("a time"));
        let time = (seconds.parse::<f64>().expect("seconds") * 1_000.0) as i64;
        let output = if path == "--" {
            query.advance(&Advance::All(time))
        } else {
            let value = words.next().unwrap_or("null");
            let payload = format!("{{\"timestamp\":{time},\"value\":{value}}}");
            query.push(&[Record {
                topic: "telemetry",
                partition: 0,
                offset,
                timestamp_ms: time,
                path,
                headers: &[],
                payload: payload.as_bytes(),
            }])
        };
        print(&query, &output, "", &mut lines);
    }
    let output = query.advance(&Advance::End);
    print(&query, &output, "~ ", &mut lines);
    lines
}

#[test]
fn every_program_is_one_and_every_example_is_true() {
    let blocks = blocks();
    let (mut programs, mut examples) = (0, 0);
    for (index, (language, text)) in blocks.iter().enumerate() {
        if *language != "sql" {
            continue;
        }
        programs += 1;
        if let Err(error) = Query::new(text, MEMORY_BYTES) {
            panic!("{text}: {error}");
        }
        let next = |offset: usize| blocks.get(index + offset).map(|(name, text)| (*name, text));
        if let (Some(("input", input)), Some(("output", output))) = (next(1), next(2)) {
            examples += 1;
            let expected: Vec<&str> = output.lines().collect();
            assert_eq!(run(text, input), expected, "{text}");
        }
    }
    assert!(programs >= 13 && examples >= 11, "{programs}, {examples}");
}
