//! Every aggregate against a naive one over whole lists, cut into batches and
//! slices, encoded and decoded on the way.

use proptest::prelude::*;

use super::super::{Accumulator, Body, Call, Rows, find};
use crate::column::Column;
use crate::state::{Decoder, Encoder};
use crate::value::{DataType, Value};

/// A row: group, time, value.
type Row = (u32, i64, Option<f64>);

const GROUPS: usize = 3;

fn make(name: &str, data_type: DataType, constant: Option<f64>) -> Box<dyn Accumulator> {
    let function = find(name).unwrap();
    let constants = [None, constant.map(Value::Float)];
    let call = Call {
        types: &[data_type, DataType::Float],
        constants: &constants,
    };
    match function.body {
        Body::Aggregate(make) => make(&call).unwrap(),
        _ => panic!("{name} is no aggregate"),
    }
}

fn feed(to: &mut dyn Accumulator, rows: &[Row], column: &dyn Fn(&[Row]) -> Column) {
    let groups: Vec<u32> = rows.iter().map(|row| row.0).collect();
    let times: Vec<i64> = rows.iter().map(|row| row.1).collect();
    to.resize(GROUPS);
    to.update(Rows {
        groups: &groups,
        times: &times,
        arguments: &[column(rows)],
    });
}

fn floats(rows: &[Row]) -> Column {
    Column::from_optional_floats(rows.iter().map(|row| row.2))
}

fn ints(rows: &[Row]) -> Column {
    Column::from_optional_ints(rows.iter().map(|row| row.2.map(|x| x as i64)))
}

fn texts(rows: &[Row]) -> Column {
    Column::from_optional_texts(rows.iter().map(|row| row.2.map(|x| x.to_string())))
}

fn results(of: &dyn Accumulator) -> Vec<Value> {
    let column = of.finish(&[0, 1, 2]);
    (0..GROUPS).map(|row| column.value(row)).collect()
}

/// The state of all groups, through bytes.
fn through_bytes(of: &dyn Accumulator) -> Box<dyn Accumulator> {
    let mut back = of.fresh();
    back.resize(GROUPS);
    for group in 0..GROUPS as u32 {
        let mut out = Encoder::new();
        of.encode(group, &mut out);
        let bytes = out.into_bytes();
        for end in 0..bytes.len() {
            let short = &mut Decoder::new(&bytes[..end]);
            assert!(of.fresh_with_room().decode(group, short).is_err());
        }
        let mut input = Decoder::new(&bytes);
        back.decode(group, &mut input).unwrap();
        assert_eq!(input.remaining(), 0);
    }
    back
}

trait FreshWithRoom {
    fn fresh_with_room(&self) -> Box<dyn Accumulator>;
}

impl FreshWithRoom for dyn Accumulator + '_ {
    fn fresh_with_room(&self) -> Box<dyn Accumulator> {
        let mut fresh = self.fresh();
        fresh.resize(GROUPS);
        fresh
    }
}

fn assert_near(name: &str, actual: &[Value], expected: &[Value], tolerance: f64) {
    for (actual, expected) in actual.iter().zip(expected) {
        match (actual, expected) {
            (Value::Float(a), Value::Float(b)) => assert!(
                (a - b).abs() <= tolerance * (1.0 + b.abs()),
                "{name}: {a} instead of {b}"
            ),
            _ => assert_eq!(actual, expected, "{name}"),
        }
    }
}

/// Names, whether they take a second number, and how exact merging is.
const ALL: [(&str, Option<f64>, f64); 23] = [
    ("count", None, 0.0),
    ("sum", None, 1e-12),
    ("avg", None, 1e-12),
    ("rms", None, 1e-12),
    ("min", None, 0.0),
    ("max", None, 0.0),
    ("peak", None, 0.0),
    ("peak_to_peak", None, 0.0),
    ("crest_factor", None, 1e-12),
    ("var", None, 1e-9),
    ("var_pop", None, 1e-9),
    ("stddev", None, 1e-6),
    ("stddev_pop", None, 1e-6),
    ("skew", None, 1e-5),
    ("kurtosis", None, 1e-5),
    ("percentile", Some(0.9), 0.0),
    ("median", None, 0.0),
    ("first", None, 0.0),
    ("last", None, 0.0),
    ("delta", None, 0.0),
    ("count_distinct", None, 0.0),
    ("slope", None, 1e-6),
    ("days_to", Some(5000.0), 1e-3),
];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        1 => Just(None),
        4 => (-50i32..50).prop_map(|x| Some(f64::from(x))),
        4 => (-1e3f64..1e3).prop_map(Some),
    ];
    prop::collection::vec((0u32..GROUPS as u32, 0i64..100_000, value), 0..120)
}

/// Sixty-four cases, or one of so many (CONTRIBUTING.md).
fn config() -> ProptestConfig {
    let stride = std::env::var("FOREBAY_TEST_STRIDE");
    let stride: u32 = stride.map_or(1, |text| text.parse().unwrap());
    ProptestConfig::with_cases(64_u32.div_ceil(stride))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn slices_and_restarts_give_the_result_of_one_pass(
        rows in rows(),
        cuts in prop::array::uniform3(0usize..120),
    ) {
        let mut cuts = cuts.map(|cut| cut.min(rows.len()));
        cuts.sort_unstable();
        for (name, constant, tolerance) in ALL {
            for (data_type, column) in [
                (DataType::Float, &floats as &dyn Fn(&[Row]) -> Column),
                (DataType::Int, &ints),
                (DataType::Text, &texts),
            ] {
                let any = ["count", "min", "max", "first", "last", "count_distinct"];
                let fits = match data_type {
                    DataType::Float => true,
                    DataType::Int => name == "sum" || any.contains(&name),
                    _ => any.contains(&name),
                };
                if !fits {
                    continue;
                }
                let mut whole = make(name, data_type, constant);
                feed(whole.as_mut(), &rows, column);
                let expected = results(whole.as_ref());

                // Batches and a restart change nothing at all.
                let mut batched = make(name, data_type, constant);
                feed(batched.as_mut(), &rows[..cuts[0]], column);
                let mut batched = through_bytes(batched.as_ref());
                feed(batched.as_mut(), &rows[cuts[0]..], column);
                prop_assert_eq!(&results(batched.as_ref()), &expected, "{}", name);

                // Slices agree to within rounding.
                let mut merged = whole.fresh_with_room();
                let mut from = 0;
                for to in [cuts[1], cuts[2], rows.len()] {
                    let mut slice = whole.fresh_with_room();
                    feed(slice.as_mut(), &rows[from..to], column);
                    merged.merge(slice.as_ref(), &[(0, 0), (1, 1), (2, 2)]);
                    from = to;
                }
                assert_near(name, &results(merged.as_ref()), &expected, tolerance);

                merged.clear(&[1]);
                let empty = results(whole.fresh_with_room().as_ref());
                prop_assert_eq!(&results(merged.as_ref())[1], &empty[1]);
            }
        }
    }

    #[test]
    fn results_are_those_of_the_definition(rows in rows()) {
        let list: Vec<f64> = rows.iter().filter(|row| row.0 == 1).filter_map(|row| row.2).collect();
        let n = list.len() as f64;
        let mean = list.iter().sum::<f64>() / n;
        let moment = |k: i32| list.iter().map(|x| (x - mean).powi(k)).sum::<f64>() / n;
        let squares = list.iter().map(|x| x * x).sum::<f64>();
        let peak = list.iter().fold(0.0f64, |peak, x| peak.max(x.abs()));
        let of = |name: &str| {
            let mut accumulator = make(name, DataType::Float, Some(0.9));
            feed(accumulator.as_mut(), &rows, &floats);
            results(accumulator.as_ref())[1].as_f64()
        };
        prop_assert_eq!(of("count"), Some(n));
        if list.is_empty() {
            for name in ["sum", "avg", "rms", "min", "max", "peak", "peak_to_peak", "var", "percentile", "first", "slope"] {
                prop_assert_eq!(of(name), None, "{}", name);
            }
            return Ok(());
        }
        let near = |name: &str, expected: f64| {
            let actual = of(name).unwrap_or(f64::NAN);
            assert!((actual - expected).abs() <= 1e-7 * (1.0 + expected.abs()), "{name}: {actual} instead of {expected}");
        };
        near("sum", list.iter().sum());
        near("avg", mean);
        near("rms", (squares / n).sqrt());
        near("peak", peak);
        near("var_pop", moment(2));
        if list.len() > 1 {
            near("var", moment(2) * n / (n - 1.0));
            near("stddev", (moment(2) * n / (n - 1.0)).sqrt());
        }
        // With a spread of rounding only, shape is rounding too.
        if moment(2) > 1e-3 {
            near("skew", moment(3) / moment(2).powf(1.5));
            near("kurtosis", moment(4) / moment(2).powi(2));
        }
        if peak > 0.0 {
            near("crest_factor", peak / (squares / n).sqrt());
        }
        let mut sorted = list.clone();
        sorted.sort_by(f64::total_cmp);
        let exact = sorted[(0.9 * (n - 1.0)).floor() as usize];
        let sketched = of("percentile").unwrap();
        prop_assert!((sketched - exact).abs() <= 0.0101 * exact.abs(), "{sketched} instead of {exact}");
        let mut different = sorted.clone();
        different.dedup();
        prop_assert_eq!(of("count_distinct"), Some(different.len() as f64));
    }

    #[test]
    fn a_counter_in_order_rises_by_its_steps(values in prop::collection::vec(0u32..100, 2..40), cut in 0usize..40) {
        let rows: Vec<Row> = values
            .iter()
            .enumerate()
            .map(|(i, &x)| (0, 1000 * i as i64, Some(f64::from(x))))
            .collect();
        let expected: f64 = values
            .windows(2)
            .map(|pair| f64::from(if pair[1] >= pair[0] { pair[1] - pair[0] } else { pair[1] }))
            .sum();
        let cut = cut.min(rows.len());
        for name in ["increase", "rate"] {
            // The later slice first: merging goes by time.
            let mut merged = make(name, DataType::Float, None);
            feed(merged.as_mut(), &rows[cut..], &floats);
            let mut early = merged.fresh_with_room();
            feed(early.as_mut(), &rows[..cut], &floats);
            merged.merge(early.as_ref(), &[(0, 0)]);
            let merged = through_bytes(merged.as_ref());
            let per = if name == "rate" { (values.len() - 1) as f64 } else { 1.0 };
            assert_near(name, &results(merged.as_ref())[..1], &[Value::Float(expected / per)], 1e-12);
        }
    }
}

#[test]
fn a_sum_keeps_the_digits_that_a_double_loses() {
    let rows: Vec<Row> = [1e16, 1.0, -1e16, 1.0]
        .into_iter()
        .map(|x| (0, 0, Some(x)))
        .collect();
    let mut sum = make("sum", DataType::Float, None);
    feed(sum.as_mut(), &rows, &floats);
    assert_eq!(results(sum.as_ref())[0], Value::Float(2.0));
}

#[test]
fn sums_that_do_not_fit_are_null() {
    let mut sum = make("sum", DataType::Int, None);
    sum.resize(1);
    sum.update(Rows {
        groups: &[0, 0],
        times: &[0, 0],
        arguments: &[Column::from_optional_ints(
            [Some(i64::MAX), Some(1)].into_iter(),
        )],
    });
    assert_eq!(sum.finish(&[0]).value(0), Value::Null);
    let mut sum = make("sum", DataType::Float, None);
    sum.resize(1);
    sum.update(Rows {
        groups: &[0, 0],
        times: &[0, 0],
        arguments: &[Column::from_floats(vec![f64::MAX, f64::MAX], None)],
    });
    assert_eq!(sum.finish(&[0]).value(0), Value::Null);
}

#[test]
fn count_without_an_argument_counts_rows() {
    let mut count = make("count", DataType::Null, None);
    count.resize(2);
    count.update(Rows {
        groups: &[0, 1, 1],
        times: &[0, 0, 0],
        arguments: &[],
    });
    assert_eq!(count.finish(&[1]).value(0), Value::Int(2));
}

#[test]
fn percentiles_of_many_decades_stay_within_one_percent() {
    // Both signs and 16 decades; the sketch keeps 17.
    let exact: Vec<f64> = (0..10_000)
        .map(|i| {
            let magnitude = 10f64.powf(f64::from(i % 5000) / 312.5 - 8.0);
            if i < 5000 { -magnitude } else { magnitude }
        })
        .collect();
    let rows: Vec<Row> = exact.iter().map(|&x| (0, 0, Some(x))).collect();
    let mut sorted = exact;
    sorted.sort_by(f64::total_cmp);
    for fraction in [0.0, 0.001, 0.25, 0.5, 0.75, 0.99, 1.0] {
        let mut sketch = make("percentile", DataType::Float, Some(fraction));
        feed(sketch.as_mut(), &rows, &floats);
        let actual = results(sketch.as_ref())[0].as_f64().unwrap();
        let expected = sorted[(fraction * 9999.0).floor() as usize];
        assert!(
            (actual - expected).abs() <= 0.0101 * expected.abs(),
            "{fraction}: {actual} instead of {expected}"
        );
    }
}

#[test]
fn the_memory_of_a_percentile_is_bounded() {
    let mut sketch = make("percentile", DataType::Float, Some(0.99));
    let rows: Vec<Row> = (-300..300).map(|e| (0, 0, Some(10f64.powi(e)))).collect();
    feed(sketch.as_mut(), &rows, &floats);
    assert!(sketch.memory_bytes() < 2 * 8 * super::BINS_MAX + 4096);
    // The upper end keeps its accuracy.
    let actual = results(sketch.as_ref())[0].as_f64().unwrap();
    assert!((actual / 1e293 - 1.0).abs() < 0.0101, "{actual}");
}

#[test]
fn a_fraction_outside_of_zero_to_one_is_refused() {
    let function = find("percentile").unwrap();
    let Body::Aggregate(make) = function.body else {
        panic!("percentile is an aggregate");
    };
    let constants = [None, Some(Value::Int(95))];
    let call = Call {
        types: &[DataType::Float, DataType::Float],
        constants: &constants,
    };
    let error = make(&call).err().unwrap();
    assert_eq!(
        error.to_string(),
        "fraction is 95, expected a number from 0 to 1, as 0.95"
    );
}

#[test]
fn many_distinct_values_are_estimated_within_the_stated_error() {
    for count in [513u32, 2000, 20_000, 200_000] {
        let rows: Vec<Row> = (0..count).map(|i| (0, 0, Some(f64::from(i)))).collect();
        let mut distinct = make("count_distinct", DataType::Float, None);
        feed(distinct.as_mut(), &rows, &floats);
        feed(distinct.as_mut(), &rows[..100], &floats);
        let Value::Int(estimate) = results(distinct.as_ref())[0] else {
            panic!("a count is an integer");
        };
        let off = estimate as f64 / f64::from(count) - 1.0;
        assert!(off.abs() < 0.05, "{count}: {estimate}");
    }
}

#[test]
fn catalogue_names_are_unique_and_documented() {
    let mut names: Vec<&str> = super::super::all()
        .flat_map(|function| std::iter::once(function.name).chain(function.aliases.iter().copied()))
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for function in super::super::all() {
        assert!(!function.summary.is_empty(), "{}", function.name);
        assert_eq!(function.name, function.name.to_ascii_lowercase());
    }
}

#[test]
fn of_equal_times_the_first_arrival_is_first_and_the_last_is_last() {
    let rows: Vec<Row> = [(7, 1.0), (5, 2.0), (5, 3.0), (7, 4.0), (6, 5.0)]
        .into_iter()
        .map(|(time, x)| (0, time, Some(x)))
        .collect();
    for (name, expected) in [("first", 2.0), ("last", 4.0), ("delta", 2.0)] {
        let mut whole = make(name, DataType::Float, None);
        feed(whole.as_mut(), &rows, &floats);
        assert_eq!(results(whole.as_ref())[0], Value::Float(expected), "{name}");
        let mut merged = make(name, DataType::Float, None);
        feed(merged.as_mut(), &rows[..2], &floats);
        let mut later = merged.fresh_with_room();
        feed(later.as_mut(), &rows[2..], &floats);
        merged.merge(later.as_ref(), &[(0, 0)]);
        assert_eq!(
            results(merged.as_ref())[0],
            Value::Float(expected),
            "{name}"
        );
    }
}

#[test]
fn distinct_counts_are_exact_as_far_as_stated() {
    for count in [100, super::SMALL_MAX as u32] {
        let rows: Vec<Row> = (0..2 * count)
            .map(|i| (0, 0, Some(f64::from(i % count))))
            .collect();
        let mut distinct = make("count_distinct", DataType::Float, None);
        feed(distinct.as_mut(), &rows, &floats);
        assert_eq!(results(distinct.as_ref())[0], Value::Int(i64::from(count)));
    }
}

#[test]
fn days_count_from_the_newest_row_in_any_order() {
    let day = 86_400_000;
    let mut rows: Vec<Row> = (0..20)
        .map(|i| (0, i * day, Some(2.0 + 0.1 * i as f64)))
        .collect();
    rows.swap(3, 19);
    for (name, expected) in [
        ("days_to", 32.0),
        ("days_to_low", 32.0),
        ("days_to_high", 32.0),
    ] {
        let mut line = make(name, DataType::Float, Some(7.1));
        feed(line.as_mut(), &rows, &floats);
        let days = results(line.as_ref())[0].as_f64().unwrap();
        assert!((days - expected).abs() < 1e-3, "{name}: {days}");
    }
}

#[test]
fn slots_are_merged_from_the_other_into_this_one() {
    let mut this = make("sum", DataType::Float, None);
    feed(
        this.as_mut(),
        &[(0, 0, Some(1.0)), (1, 0, Some(10.0))],
        &floats,
    );
    let mut other = this.fresh_with_room();
    feed(
        other.as_mut(),
        &[(0, 0, Some(100.0)), (2, 0, Some(1000.0))],
        &floats,
    );
    this.merge(other.as_ref(), &[(2, 0), (0, 1)]);
    let expected = [1001.0, 110.0].map(Value::Float);
    assert_eq!(results(this.as_ref())[..2], expected);
}
