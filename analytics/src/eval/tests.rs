use super::*;
use crate::bind::plan;
use crate::plan::Node;

/// Evaluates result columns over rows of `a double, b double, n bigint, s text,
/// f boolean, t timestamp`.
fn evaluate(select: &str, rows: &[[Value; 6]]) -> Vec<Vec<Value>> {
    let text = format!(
        "CREATE STREAM i (a double, b double, n bigint, s text, f boolean, t timestamp) FROM 'x';
         SELECT {select} FROM i"
    );
    let plan = plan(&text).unwrap_or_else(|error| panic!("{select}: {error}"));
    let names = ["a", "b", "n", "s", "f", "t"];
    let columns: Vec<Column> = plan.scans[0]
        .columns
        .iter()
        .map(|column| {
            let place = names
                .iter()
                .position(|name| *name == column.name)
                .expect("a column");
            let values: Vec<Value> = rows.iter().map(|row| row[place].clone()).collect();
            Column::from_values(column.data_type, values.iter())
        })
        .collect();
    let batch = Batch::new(columns, rows.len());
    let Node::Project { exprs, .. } = &plan.root else {
        panic!("{select}: {:?}", plan.root);
    };
    let results: Vec<Column> = exprs
        .iter()
        .map(|expr| Evaluator::new(expr).column(&batch))
        .collect();
    (0..rows.len())
        .map(|row| results.iter().map(|column| column.value(row)).collect())
        .collect()
}

fn row() -> [Value; 6] {
    [
        Value::Float(2.5),
        Value::Float(0.0),
        Value::Int(7),
        Value::text("Pump-1"),
        Value::Bool(true),
        Value::Timestamp(1_763_856_000_123),
    ]
}

fn nulls() -> [Value; 6] {
    [const { Value::Null }; 6]
}

fn check(cases: &[(&str, Value)]) {
    for (select, expected) in cases {
        // The null row next to it makes columns with validity.
        let found = evaluate(select, &[row(), nulls(), row()]);
        assert_eq!(found[0][0], *expected, "{select}");
        assert_eq!(found[2][0], *expected, "{select}");
    }
}

#[test]
fn arithmetic_is_sql_with_nulls_for_nonsense() {
    check(&[
        ("a + 1", Value::Float(3.5)),
        ("n / 2", Value::Float(3.5)),
        ("n % 4", Value::Int(3)),
        ("a / b", Value::Null),
        ("b / b", Value::Null),
        ("-n * 2", Value::Int(-14)),
        ("n * 9223372036854775807", Value::Null),
        ("1 - a", Value::Float(-1.5)),
        ("a + NULL", Value::Null),
        ("t - INTERVAL '1 s'", Value::Timestamp(1_763_855_999_123)),
        ("t - t", Value::Interval(0)),
        ("INTERVAL '1 h' / INTERVAL '1 min'", Value::Float(60.0)),
        ("INTERVAL '1 min' * 1.5", Value::Interval(90_000)),
        ("s || '/' || n", Value::text("Pump-1/7")),
    ]);
}

#[test]
fn conditions_have_three_values() {
    check(&[
        ("a > 2", Value::Bool(true)),
        ("a > n", Value::Bool(false)),
        ("NULL = 1", Value::Null),
        ("f AND NULL", Value::Null),
        ("NOT f AND NULL", Value::Bool(false)),
        ("f OR NULL", Value::Bool(true)),
        ("a BETWEEN 2 AND 3", Value::Bool(true)),
        ("n NOT IN (1, 2)", Value::Bool(true)),
        ("n IN (1, NULL)", Value::Null),
        ("a IS NOT NULL", Value::Bool(true)),
        ("a IS DISTINCT FROM NULL", Value::Bool(true)),
        ("s LIKE 'Pu%-_'", Value::Bool(true)),
        ("s LIKE 'pump%'", Value::Bool(false)),
        ("s ILIKE 'pump%'", Value::Bool(true)),
        ("s LIKE '%p%1'", Value::Bool(true)),
        ("s NOT LIKE '%2'", Value::Bool(true)),
        ("t > '2025-11-01'", Value::Bool(true)),
        ("s = 'Pump-1'", Value::Bool(true)),
        ("f IS TRUE", Value::Bool(true)),
    ]);
    let found = evaluate("a > 2, f IS TRUE, coalesce(a, -1), a IS NULL", &[nulls()]);
    assert_eq!(
        found[0],
        [
            Value::Null,
            Value::Bool(false),
            Value::Float(-1.0),
            Value::Bool(true)
        ]
    );
}

#[test]
fn casts_and_choices() {
    check(&[
        ("CAST(s AS DOUBLE)", Value::Null),
        ("CAST('12.5' AS DOUBLE)", Value::Float(12.5)),
        ("CAST('nan' AS DOUBLE)", Value::Null),
        ("CAST(a AS BIGINT)", Value::Int(3)),
        ("a::text", Value::text("2.5")),
        ("t::text", Value::text("2025-11-23T00:00:00.123Z")),
        (
            "CAST('2025-11-23T01:00:00.123+01:00' AS TIMESTAMP)",
            Value::Timestamp(1_763_856_000_123),
        ),
        (
            "CASE WHEN a > 10 THEN 'high' WHEN a > 1 THEN 'mid' END",
            Value::text("mid"),
        ),
        ("CASE n WHEN 1 THEN 2 ELSE 3.5 END", Value::Float(3.5)),
        ("coalesce(NULL, a, 1)", Value::Float(2.5)),
        ("nullif(n, 7)", Value::Null),
        ("greatest(a, b, 9)", Value::Float(9.0)),
        ("least(NULL, a)", Value::Float(2.5)),
    ]);
}

#[test]
fn functions_of_numbers_text_and_time() {
    check(&[
        ("abs(-a)", Value::Float(2.5)),
        ("sqrt(-1)", Value::Null),
        ("round(2.345, 2)", Value::Float(2.35)),
        ("power(a, 2)", Value::Float(6.25)),
        ("bit(n, 1)", Value::Int(1)),
        ("upper(s)", Value::text("PUMP-1")),
        ("substr(s, 2, 3)", Value::text("ump")),
        ("split_part(s, '-', 2)", Value::text("1")),
        ("strpos(s, '-')", Value::Int(5)),
        ("length(s)", Value::Int(6)),
        ("EXTRACT(HOUR FROM t)", Value::Float(0.0)),
        ("date_part('hour', t, 'Europe/Berlin')", Value::Float(1.0)),
        ("date_part('isodow', t)", Value::Float(7.0)),
        ("date_trunc('hour', t)", Value::Timestamp(1_763_856_000_000)),
        (
            "date_trunc('day', t, 'Europe/Berlin')",
            Value::Timestamp(1_763_852_400_000),
        ),
        (
            "date_trunc('15 minutes', t)",
            Value::Timestamp(1_763_856_000_000),
        ),
    ]);
}
