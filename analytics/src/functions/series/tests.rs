use proptest::prelude::*;

use super::control::{Cusum, Ewma, PageHinkley};
use super::hampel::{HAMPEL_WINDOW_MAX, Hampel};
use super::trend::{Trend, student_for_test};

const DAY_MS: i64 = 86_400_000;

fn near(actual: f64, expected: f64, tolerance: f64) {
    assert!(
        (actual - expected).abs() <= tolerance,
        "{actual} instead of {expected}"
    );
}

/// Deterministic noise of unit variance.
fn noise(seed: &mut u64) -> f64 {
    let mut uniform = || {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f64 / f64::from(1u32 << 24)
    };
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

#[test]
fn an_ewma_approaches_a_step_geometrically() {
    let mut ewma = Ewma::default();
    assert_eq!(ewma.update(f64::NAN, 0.5), None);
    assert_eq!(ewma.update(0.0, 0.5), Some(0.0));
    assert_eq!(ewma.update(8.0, 0.5), Some(4.0));
    assert_eq!(ewma.update(f64::INFINITY, 0.5), None);
    assert_eq!(ewma.update(8.0, 0.5), Some(6.0));
    assert_eq!(ewma.update(8.0, 0.0), None);
    assert_eq!(ewma.update(8.0, 1.5), None);
}

#[test]
fn an_ewma_by_time_does_not_depend_on_how_often_it_is_sampled() {
    let after = |step_ms: i64| {
        let mut ewma = Ewma::default();
        ewma.update_at(0.0, 1_000_000, 60_000.0);
        let mut last = None;
        for at in (0..=120_000).step_by(step_ms as usize).skip(1) {
            last = ewma.update_at(1.0, 1_000_000 + at, 60_000.0);
        }
        last.unwrap()
    };
    near(after(1000), 1.0 - (-2.0f64).exp(), 1e-9);
    near(after(40_000), after(1000), 1e-9);
    // A row behind the newest does not turn time back.
    let mut ewma = Ewma::default();
    ewma.update_at(1.0, 5000, 1000.0);
    assert_eq!(ewma.update_at(9.0, 4000, 1000.0), Some(1.0));
    near(
        ewma.update_at(2.0, 6000, 1000.0).unwrap(),
        2.0 - (-1.0f64).exp(),
        1e-12,
    );
}

#[test]
fn a_cusum_adds_what_exceeds_the_slack() {
    let mut cusum = Cusum::default();
    let sums: Vec<f64> = [10.0, 10.4, 12.0, 12.0, 10.0, 5.0]
        .into_iter()
        .map(|x| cusum.update(x, 10.0, 0.5).unwrap())
        .collect();
    assert_eq!(sums, [0.0, 0.0, 1.5, 3.0, 2.5, -4.5]);
    assert_eq!(cusum.update(f64::NAN, 10.0, 0.5), None);
    assert_eq!(cusum.update(1.0, 10.0, -0.5), None);
}

#[test]
fn page_and_hinkley_find_a_shift_of_the_mean_and_not_the_noise() {
    let mut test = PageHinkley::default();
    let mut seed = 7;
    let mut quiet: f64 = 0.0;
    for _ in 0..2000 {
        quiet = quiet.max(test.update(noise(&mut seed), 0.5).unwrap().abs());
    }
    assert!(quiet < 10.0, "{quiet}");
    let mut rows = 0;
    while test.update(noise(&mut seed) - 2.0, 0.5).unwrap() > -20.0 {
        rows += 1;
    }
    assert!((8..40).contains(&rows), "{rows}");
}

#[test]
fn a_hampel_score_is_that_of_the_sorted_window() {
    let mut hampel = Hampel::new(5).unwrap();
    assert_eq!(hampel.update(1.0), None);
    assert_eq!(hampel.update(2.0), None);
    let verdicts: Vec<_> = [3.0, 4.0, 100.0, 5.0]
        .into_iter()
        .map(|x| hampel.update(x).unwrap())
        .collect();
    assert_eq!(verdicts[1].median, 2.5);
    // 1 2 3 4 100: median 3, deviations 2 1 0 1 97, MAD 1.
    assert_eq!(verdicts[2].median, 3.0);
    near(verdicts[2].score, 97.0 / 1.482_602_2, 1e-6);
    // 2 3 4 100 5.
    assert_eq!(verdicts[3].median, 4.0);
    assert!(Hampel::new(2).is_none());
    assert!(Hampel::new(HAMPEL_WINDOW_MAX + 1).is_none());
}

#[test]
fn a_value_beside_a_constant_is_an_outlier_without_bound() {
    let mut hampel = Hampel::new(9).unwrap();
    for _ in 0..9 {
        hampel.update(5.0);
    }
    assert_eq!(hampel.update(4.0).unwrap().score, f64::MIN);
    assert_eq!(hampel.update(5.0).unwrap().score, 0.0);
    assert_eq!(hampel.update(f64::NAN), None);
}

proptest! {
    #[test]
    fn a_hampel_window_agrees_with_sorting_it(
        window in 3usize..20,
        values in prop::collection::vec(prop_oneof![-5i32..5, -1000i32..1000], 3..80),
    ) {
        let mut hampel = Hampel::new(window).unwrap();
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let median = |mut v: Vec<f64>| {
            v.sort_by(f64::total_cmp);
            let half = v.len() / 2;
            if v.len().is_multiple_of(2) { (v[half - 1] + v[half]) / 2.0 } else { v[half] }
        };
        for (i, &x) in values.iter().enumerate() {
            let verdict = hampel.update(x);
            if i < 2 {
                continue;
            }
            let last = values[(i + 1).saturating_sub(window)..=i].to_vec();
            let middle = median(last.clone());
            let deviation = median(last.iter().map(|v| (v - middle).abs()).collect());
            let verdict = verdict.unwrap();
            prop_assert_eq!(verdict.median, middle);
            if deviation > 0.0 {
                let expected = (x - middle) / (1.482_602_218_505_602 * deviation);
                prop_assert!((verdict.score - expected).abs() <= 1e-9 * expected.abs());
            }
        }
    }

    #[test]
    fn a_merged_trend_is_the_trend_of_all(
        points in prop::collection::vec((0i64..1_000_000, -1e3f64..1e3), 2..60),
        cut in 0usize..60,
    ) {
        let cut = cut.min(points.len());
        let line = |part: &[(i64, f64)]| {
            let mut trend = Trend::default();
            for &(at, x) in part {
                trend.update(1_763_856_000_000 + at, x);
            }
            trend
        };
        let mut merged = line(&points[..cut]);
        merged.merge(&line(&points[cut..]));
        let whole = line(&points);
        prop_assert_eq!(merged.count, whole.count);
        match (merged.slope(), whole.slope()) {
            (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs())),
            (a, b) => prop_assert_eq!(a, b),
        }
    }
}

#[test]
fn the_quantiles_of_student_are_the_tabulated_ones() {
    for (freedom, expected) in [
        (6.0, 2.4469),
        (10.0, 2.2281),
        (30.0, 2.0423),
        (120.0, 1.9799),
    ] {
        near(student_for_test(freedom), expected, 0.001 * expected);
    }
}

#[test]
fn a_line_without_noise_reaches_its_threshold_on_the_day() {
    let mut trend = Trend::default();
    for day in 0..20 {
        trend.update(1_763_856_000_000 + day * DAY_MS, 2.0 + 0.1 * day as f64);
    }
    let now = 1_763_856_000_000 + 19 * DAY_MS;
    let crossing = trend.crossing(7.1, now).unwrap();
    near(crossing.days, 32.0, 1e-6);
    near(crossing.low, 32.0, 1e-3);
    near(crossing.high, 32.0, 1e-3);
    near(trend.slope().unwrap() * 86_400.0, 0.1, 1e-12);
    near(trend.r_squared().unwrap(), 1.0, 1e-9);
    // Passed by already.
    near(trend.crossing(3.0, now).unwrap().days, -9.0, 1e-6);
}

#[test]
fn the_interval_covers_the_truth_nineteen_times_in_twenty() {
    let mut seed = 42;
    for (points, spread) in [(30, 0.3), (10, 0.05)] {
        let (mut covered, mut dated) = (0, 0);
        for _ in 0..2000 {
            let mut trend = Trend::default();
            for day in 0..points {
                let x = 2.0 + 0.1 * day as f64 + spread * noise(&mut seed);
                trend.update(day * DAY_MS, x);
            }
            if let Some(crossing) = trend.crossing(7.1, 0) {
                dated += 1;
                assert!(crossing.low <= crossing.days && crossing.days <= crossing.high);
                covered += i32::from(crossing.low <= 51.0 && 51.0 <= crossing.high);
            }
        }
        assert_eq!(dated, 2000);
        // A binomial of 2000 at 0.95 has a standard deviation of 10.
        assert!((1870..=1930).contains(&covered), "{points}: {covered}");
    }
}

#[test]
fn noise_without_a_slope_gets_no_date() {
    let mut seed = 3;
    let mut dated = 0;
    for _ in 0..1000 {
        let mut trend = Trend::default();
        for day in 0..30 {
            trend.update(day * DAY_MS, noise(&mut seed));
        }
        dated += i32::from(trend.crossing(7.1, 29 * DAY_MS).is_some());
    }
    // By the meaning of 95 %, one in twenty seems to have a slope.
    assert!(dated < 90, "{dated}");
    let mut short = Trend::default();
    for day in 0..7 {
        short.update(day * DAY_MS, day as f64);
    }
    assert_eq!(short.crossing(100.0, 0), None);
}
