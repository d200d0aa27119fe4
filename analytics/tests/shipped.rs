//! The queries of `config/queries` on machines that are well and on machines that
//! are not.

use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

use forebay_analytics::alerts::Transition;
use forebay_analytics::decode::Record;
use forebay_analytics::query::{Advance, Output, Query};
use forebay_analytics::value::Value;

/// 2026-03-23, a Monday, 0:00 in Berlin.
const MONDAY_MS: i64 = 1_774_220_400_000;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/queries")
}

/// What a shipped query said.
#[derive(Default)]
struct Said {
    rows: Vec<Vec<Value>>,
    /// Alerts that were raised, with their keys.
    raised: BTreeSet<(String, String)>,
    cleared: usize,
}

impl Said {
    fn note(&mut self, output: &Output) {
        self.rows.extend(output.values());
        for event in &output.alerts {
            match event.transition {
                Transition::Raised => {
                    let keys: Vec<String> = event
                        .key
                        .iter()
                        .map(|(_, value)| match value {
                            Value::Text(text) => text.to_string(),
                            other => format!("{other:?}"),
                        })
                        .collect();
                    self.raised.insert((event.alert.clone(), keys.join("/")));
                }
                Transition::Cleared => self.cleared += 1,
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.raised.iter().map(|(name, _)| name.as_str()).collect();
        names.into_iter().collect()
    }
}

/// Hands records of path, time and payload to a shipped query.
fn run(file: &str, records: impl IntoIterator<Item = (String, i64, Vec<u8>)>) -> Said {
    let text = fs::read_to_string(folder().join(file)).expect("the file is shipped");
    let mut query = Query::new(&text, 64 << 20).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut said = Said::default();
    for (offset, (path, time, payload)) in (0..).zip(records) {
        let record = Record {
            topic: "readings",
            partition: 0,
            offset,
            timestamp_ms: time,
            path: &path,
            headers: &[],
            payload: &payload,
        };
        said.note(&query.push(&[record]));
    }
    said.note(&query.advance(&Advance::End));
    said
}

/// Readings of one path at equal distances.
fn readings(
    path: &str,
    every_ms: i64,
    count: i64,
    value: impl Fn(i64) -> f64,
) -> Vec<(String, i64, Vec<u8>)> {
    let reading = |index: i64| {
        let payload = format!("{{\"value\":{:.4}}}", value(index));
        (
            path.to_owned(),
            MONDAY_MS + index * every_ms,
            payload.into_bytes(),
        )
    };
    (0..count).map(reading).collect()
}

/// Noise that is the same in each run, about -1 to 1.
fn noise(index: i64) -> f64 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed >> 11) as f64 / (1_u64 << 53) as f64) * 2.0 - 1.0
}

/// Recordings of one path, each of `samples` of `signal`, by number of recording
/// and number of sample.
fn recordings(
    path: &str,
    count: i64,
    samples: i64,
    signal: impl Fn(i64, i64) -> f64,
) -> Vec<(String, i64, Vec<u8>)> {
    let recording = |index: i64| {
        let bytes = (0..samples).flat_map(|at| (signal(index, at) as f32).to_le_bytes());
        (
            path.to_owned(),
            MONDAY_MS + index * MINUTE_MS,
            bytes.collect(),
        )
    };
    (0..count).map(recording).collect()
}

#[test]
fn every_file_is_a_query_that_says_what_to_change() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let plan = forebay_analytics::bind::plan(&text);
        let plan = plan.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let stem = path
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('-', "_");
        assert_eq!(plan.name.as_deref(), Some(stem.as_str()));
        assert!(text.contains("-- Change: "), "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 7);
}

#[test]
fn vibration_level_tells_zones_c_and_d_and_no_passing_lift() {
    let level = |index: i64, at: f64| at + 0.2 * noise(index);
    let well = run(
        "vibration-level.sql",
        // Two minutes of a fork-lift.
        readings("plant/m1/vibration", SECOND_MS, 3_600, |index| {
            level(
                index,
                if (1_200..1_320).contains(&index) {
                    4.0
                } else {
                    1.2
                },
            )
        }),
    );
    assert_eq!(well.names(), [""; 0]);
    assert_eq!(well.rows.len(), 60);
    assert!(
        well.rows[0].contains(&Value::text("A")),
        "{:?}",
        well.rows[0]
    );
    let worn = run(
        "vibration-level.sql",
        readings("plant/m2/vibration", SECOND_MS, 7_200, |index| {
            level(index, 1.2 + index as f64 / 1_500.0)
        }),
    );
    assert_eq!(worn.names(), ["zone_c", "zone_d"]);
}

/// Strikes at a frequency, each of which rings at 3 kHz.
fn strikes(at: i64, rate: f64, per_second: f64) -> f64 {
    let since = (at as f64 / rate) % (1.0 / per_second);
    (-since * 900.0).exp() * (TAU * 3_000.0 * since).sin()
}

#[test]
fn bearing_health_hears_strikes_below_the_noise() {
    let rate = 12_000.0;
    let outer = 9.0 * 1_772.0 / 120.0 * (1.0 - 7.94 / 39.04);
    let well = run(
        "bearing-health.sql",
        recordings("plant/m1/acceleration", 60, 8_192, |index, at| {
            noise(index * 8_192 + at) + 0.5 * (TAU * 29.5 * at as f64 / rate).sin()
        }),
    );
    assert_eq!(well.names(), [""; 0]);
    assert_eq!(well.rows.len(), 6);
    let damaged = run(
        "bearing-health.sql",
        recordings("plant/m2/acceleration", 60, 8_192, |index, at| {
            noise(index * 8_192 + at) + 1.5 * strikes(at, rate, outer)
        }),
    );
    assert_eq!(damaged.names(), ["bearing_damaged"]);
    let last = damaged.rows.last().unwrap();
    assert!(last.contains(&Value::text("outer race")), "{last:?}");
}

#[test]
fn motor_temperature_trend_tells_a_climb_from_warm_afternoons() {
    let afternoons = |index: i64| 5.0 * (TAU * index as f64 / 144.0).sin() + noise(index);
    let path = "plant/m1/temperature";
    let well = run(
        "motor-temperature-trend.sql",
        readings(path, 10 * MINUTE_MS, 21 * 144, |index| {
            60.0 + afternoons(index)
        }),
    );
    assert_eq!(well.names(), [""; 0]);
    let failing = run(
        "motor-temperature-trend.sql",
        readings(path, 10 * MINUTE_MS, 14 * 144, |index| {
            60.0 + afternoons(index) + 3.0 * index as f64 / 144.0
        }),
    );
    // 42 degrees after two weeks: it was said before it was so.
    assert_eq!(failing.names(), ["will_overheat"]);
}

#[test]
fn pump_cavitation_tells_gravel_from_strikes() {
    let rate = 25_600.0;
    let pump = |change: fn(i64, f64) -> f64| {
        recordings("plant/p1/acceleration", 120, 4_096, move |index, at| {
            let strike = strikes(at, rate, 20.0);
            let own = 0.3 * noise(index * 4_096 + at) + (TAU * 150.0 * at as f64 / rate).sin();
            let noise_now = noise(77_777_777 + index * 4_096 + at);
            own + if index >= 90 {
                change(at, strike) * noise_now.signum() * noise_now.abs()
            } else {
                0.0
            }
        })
    };
    let well = run("pump-cavitation.sql", pump(|_, _| 0.0));
    assert_eq!(well.names(), [""; 0]);
    let cavitating = run("pump-cavitation.sql", pump(|_, _| 2.0));
    assert_eq!(cavitating.names(), ["cavitates"]);
    // A few loud strikes in each recording are as loud, and something else.
    let struck = run(
        "pump-cavitation.sql",
        pump(|at, _| if at % 512 < 8 { 14.0 } else { 0.0 }),
    );
    assert_eq!(struck.names(), [""; 0]);
}

#[test]
fn compressor_duty_cycle_counts_starts_and_rest() {
    let hours = |on: i64, period: i64| {
        readings("plant/c1/current", 10 * SECOND_MS, 6 * 360, move |index| {
            let load = if index % period < on { 22.0 } else { 0.4 };
            load + 0.3 * noise(index)
        })
    };
    // Six minutes in fifteen.
    let well = run("compressor-duty-cycle.sql", hours(36, 90));
    assert_eq!(well.names(), [""; 0]);
    assert_eq!(well.rows[1][1], Value::Float(0.4));
    assert_eq!(well.rows[1][2], Value::Int(4));
    assert_eq!(
        run("compressor-duty-cycle.sql", hours(95, 100)).names(),
        ["always_on"]
    );
    let cycling = run("compressor-duty-cycle.sql", hours(6, 15));
    assert_eq!(cycling.names(), ["short_cycling"]);
}

#[test]
fn energy_per_shift_adds_up_when_the_clocks_change() {
    // 12 kWh an hour, read each minute, over a week whose last night has seven
    // hours; the counter is replaced in the first week.
    let said = run(
        "energy-per-shift.sql",
        readings("plant/hall-1/energy", MINUTE_MS, 8 * 24 * 60, |index| {
            let replaced = 2 * 24 * 60 + 600;
            let from = if index < replaced { -50_000 } else { replaced };
            (index - from) as f64 * 0.2
        }),
    );
    let shift = |row: &Vec<Value>| match (&row[1], &row[3]) {
        (Value::Float(kwh), Value::Timestamp(start)) => ((start - MONDAY_MS) / HOUR_MS, *kwh),
        other => panic!("{other:?}"),
    };
    let mut shifts: Vec<(i64, f64)> = said.rows.iter().map(shift).collect();
    // The readings end within the last one.
    shifts.pop();
    assert!(shifts.len() > 20);
    for (start, kwh) in &shifts {
        let expected = match start {
            // The shift of the replacement lacks what was counted before it.
            54 => 48.0 - 0.2,
            // The night from Saturday to Sunday.
            142 => 84.0,
            _ => 96.0,
        };
        assert!(
            (kwh - expected).abs() < 0.5,
            "shift at hour {start}: {kwh}, expected {expected}"
        );
    }
}

#[test]
fn anomaly_watch_points_at_the_tag_that_changed() {
    let tag = |path: &str, faulty: bool| {
        readings(path, 5 * SECOND_MS, 4_000, move |index| {
            let usual = 20.0 + (TAU * index as f64 / 200.0).sin() + 0.2 * noise(index);
            if faulty && index > 3_500 {
                usual + 9.0
            } else {
                usual
            }
        })
    };
    let mut all = tag("plant/m1/temperature", false);
    all.extend(tag("plant/m2/temperature", true));
    all.extend((0..4_000).map(|index| {
        let at = MONDAY_MS + index * 5 * SECOND_MS;
        (
            "plant/m1/state".to_owned(),
            at,
            b"{\"value\":\"running\"}".to_vec(),
        )
    }));
    all.sort_by_key(|(_, at, _)| *at);
    let said = run("anomaly-watch.sql", all);
    let found: Vec<&(String, String)> = said.raised.iter().collect();
    assert_eq!(
        found,
        [&("unusual".to_owned(), "plant/m2/temperature".to_owned())]
    );
    // Hours in which nothing happens have no results.
    assert!(said.rows.len() < 40, "{}", said.rows.len());
}

#[test]
fn the_times_of_this_file_are_what_they_say() {
    assert_eq!(DAY_MS, 86_400_000);
    assert_eq!((MONDAY_MS + HOUR_MS) % DAY_MS, 0);
}
