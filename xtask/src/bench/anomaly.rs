//! Runs the shipped anomaly score over labelled series.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_analytics::functions::anomaly::{ALARM, AnomalyScore};

use super::nab::{Series, best_threshold, total};
use crate::failure::{During, Failure, Outcome};

/// Scores every series that `windows.json` names, and prints the result.
pub fn run(folder: &Path, each: bool) -> Outcome {
    let all = read(folder)?;
    let scores: Vec<Vec<f64>> = all.iter().map(score).collect();
    let part = |keep: &dyn Fn(usize) -> bool| {
        let kept = (0..all.len()).filter(|&index| keep(index));
        let series: Vec<&Series> = kept.clone().map(|index| &all[index]).collect();
        let scores: Vec<&[f64]> = kept.map(|index| scores[index].as_slice()).collect();
        (series, scores)
    };
    let (series, every) = part(&|_| true);
    let best = best_threshold(&series, &every);
    let rows: usize = series.iter().map(|it| it.values.len()).sum();
    println!("{} series, {rows} rows, standard profile", series.len());
    let report = |what: &str, threshold: f64| {
        let tally = total(&series, &every, threshold);
        println!(
            "{:6.1}  {what}: threshold {threshold:.4}, {} of {} windows, {} false alarms",
            tally.score(),
            tally.found,
            tally.windows,
            tally.false_alarms
        );
    };
    report("best threshold of these series", best);
    report("shipped threshold", ALARM);
    // A threshold that was chosen on one half and is used on the other.
    let mut crossed = 0.0;
    for half in [0, 1] {
        let (chosen_on, chosen_scores) = part(&|index| index % 2 == half);
        let (used_on, used_scores) = part(&|index| index % 2 != half);
        let threshold = best_threshold(&chosen_on, &chosen_scores);
        crossed += total(&used_on, &used_scores, threshold).score() / 2.0;
    }
    println!("{crossed:6.1}  threshold of one half used on the other, mean of both ways");
    if each {
        println!("\nat the best threshold:");
        for (series, scores) in series.iter().zip(&every) {
            let tally = series.tally(scores, best);
            println!(
                "{:7.2}  {} of {} windows, {:3} false alarms  {}",
                tally.raw, tally.found, tally.windows, tally.false_alarms, series.name
            );
        }
    }
    Ok(())
}

/// The score of each row, in order, from the rows before it.
fn score(series: &Series) -> Vec<f64> {
    let mut state = AnomalyScore::new();
    let rows = series.times_ms.iter().zip(&series.values);
    rows.map(|(&time, &x)| state.update(time, x)).collect()
}

fn read(folder: &Path) -> Outcome<Vec<Series>> {
    let path = folder.join("windows.json");
    let text = std::fs::read_to_string(&path).during(path.display())?;
    let windows: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).during(path.display())?;
    windows
        .into_iter()
        .map(|(name, labels)| read_series(folder, name, &labels))
        .collect()
}

fn read_series(folder: &Path, name: String, labels: &[(String, String)]) -> Outcome<Series> {
    let path = folder.join(&name);
    let text = std::fs::read_to_string(&path).during(path.display())?;
    let mut times_ms = Vec::new();
    let mut values = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let row = line.split_once(',').and_then(|(time, value)| {
            Some((milliseconds(time)?, value.trim().parse::<f64>().ok()?))
        });
        let Some((time, value)) = row else {
            let place = format!("{}:{}", path.display(), index + 1);
            return Err(Failure::new(format!("{place}: expected timestamp,value")));
        };
        times_ms.push(time);
        values.push(value);
    }
    let mut windows = Vec::new();
    for (from, to) in labels {
        let rows = milliseconds(from)
            .zip(milliseconds(to))
            .and_then(|(from, to)| {
                let first = times_ms.iter().position(|&time| time >= from)?;
                let last = times_ms.iter().rposition(|&time| time <= to)?;
                (first <= last).then_some((first, last))
            });
        let rows = rows.ok_or_else(|| {
            Failure::new(format!(
                "{name}: the window from {from} to {to} holds no rows"
            ))
        })?;
        windows.push(rows);
    }
    windows.sort_unstable();
    Ok(Series {
        name,
        times_ms,
        values,
        windows,
    })
}

/// `2014-04-01 00:05:00`, with or without a fraction, as milliseconds since the
/// Unix epoch. Days by Howard Hinnant's `days_from_civil`.
fn milliseconds(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_the_epoch() {
        assert_eq!(milliseconds("1970-01-01 00:00:00"), Some(0));
        assert_eq!(
            milliseconds("2014-02-28 23:59:59.000000"),
            Some(1_393_631_999_000)
        );
        assert_eq!(milliseconds("2000-02-29 00:00:00"), Some(951_782_400_000));
        assert_eq!(milliseconds("yesterday"), None);
    }

    #[test]
    fn series_and_windows_are_read_as_rows() {
        let folder = tempfile::tempdir().unwrap();
        let csv: String = (0..10)
            .map(|minute| format!("2014-04-01 00:0{minute}:00,{minute}.5\n"))
            .collect();
        std::fs::write(
            folder.path().join("a.csv"),
            format!("timestamp,value\n{csv}"),
        )
        .unwrap();
        let windows =
            r#"{"a.csv": [["2014-04-01 00:03:00.000000", "2014-04-01 00:05:30.000000"]]}"#;
        std::fs::write(folder.path().join("windows.json"), windows).unwrap();
        let series = read(folder.path()).unwrap();
        assert_eq!(series[0].windows, [(3, 5)]);
        assert_eq!(series[0].values[9], 9.5);
        assert_eq!(series[0].times_ms[1] - series[0].times_ms[0], 60_000);
        std::fs::write(folder.path().join("a.csv"), "timestamp,value\nx,1\n").unwrap();
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("a.csv:2")
        );
    }
}
